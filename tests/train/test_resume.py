"""A training goes on as if nothing had happened: after kills, from its checkpoints, or from another."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from arcpipe.checkpoint import Checkpoint, load_checkpoint
from arcpipe.runs import newest_checkpoint
from commands import succeed_here
from files import changing, json_of
from limited import largest_file
from processes import running, running_together, together
from training import (
    FLOW,
    PARTS,
    assert_same_run,
    metrics,
    newest,
    recorded,
    refused,
    settings,
    steps_of,
    train,
    train_arguments,
)


def test_two_processes_that_are_killed_go_on_as_if_nothing_had_happened(work: Path, tmp_path: Path) -> None:
    run, uninterrupted = tmp_path / "run", tmp_path / "uninterrupted"
    flags = settings("train", steps=40, checkpoint_every=17)
    together(train_arguments(work, uninterrupted, *flags), work)
    with running_together(train_arguments(work, run, *flags), work) as processes:
        processes[0].wait_until((run / "checkpoints" / "step-00000017").exists)
        for process in processes:
            process.send(signal.SIGKILL)
    assert steps_of(run) == [17]
    # Steps after the checkpoint may be recorded; they are done again, and recorded once.
    together(train_arguments(work, run, *flags, "--resume"), work)
    assert_same_run(run, uninterrupted)


def test_six_kills_at_any_moment_lose_no_more_than_is_not_saved(work: Path, tmp_path: Path) -> None:
    """With evaluations; every other kill comes while a checkpoint is written."""
    run, uninterrupted = tmp_path / "run", tmp_path / "uninterrupted"
    flags = [*settings("train", steps=60, checkpoint_every=2), *settings("eval", every=6, votes=1)]
    delays = np.random.default_rng(0).uniform(0, 0.1, 6)
    kills = 0
    for number, delay in enumerate(delays):
        resume = ["--resume"] if number else []
        with running(train_arguments(work, run, *flags, *resume), work) as process:
            before = recorded(run)
            process.wait_until(lambda before=before: recorded(run) > before)  # type: ignore[misc]
            if number % 2:
                process.wait_until(lambda: any((run / "checkpoints").glob(".step-*")))
            else:
                time.sleep(delay)
            process.send(signal.SIGKILL)
            kills += process.finish().returncode == -signal.SIGKILL
        # The first kill may come before anything is saved.
        saved = [int(path.name[-8:]) for path in (run / "checkpoints").glob("step-*")]
        assert max(saved, default=0) >= (recorded(run) - 1) // 2 * 2
    assert kills == 6
    # Beyond the next evaluation.
    steps = recorded(run) + 7
    assert steps < 60
    train(work, run, *flags, "--resume", "--steps", steps)
    train(work, uninterrupted, *flags, "--steps", steps)
    assert_same_run(run, uninterrupted)
    assert [path.name for path in run.rglob(".*")] == [".writer-0.lock"]


def test_a_run_killed_before_any_checkpoint_starts_anew(work: Path, whole: Path, run: Path) -> None:
    (run / "checkpoints" / ".step-00000004.1.tmp").mkdir(parents=True)
    (run / "manifest.json").write_bytes((whole / "manifest.json").read_bytes())
    (run / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    train(work, run, "--resume")
    assert_same_run(run, whole)


def test_a_run_older_than_settings_had_their_defaults(work: Path, whole: Path, run: Path) -> None:
    train(work, run, "--steps", 4)
    with changing(run / "manifest.json") as manifest:
        del manifest["recipe"]["model"]["loop_residual"], manifest["recipe"]["train"]["clip"]
    assert "train.clip: 0.0 -> 1.0" in refused(work, run, "--resume", *settings("train", clip=1.0))
    train(work, run, "--resume")
    assert_same_run(run, whole)


def test_the_schedule_goes_on_and_the_limit_is_the_commands_own(work: Path, run: Path) -> None:
    """As if a thousand seconds had passed; two hundred are left."""
    train(work, run, "--steps", 3)
    with changing(run / "checkpoints" / "step-00000003" / "manifest.json") as manifest:
        assert 0 < manifest["seconds"] < 60
        manifest["seconds"] = 1000
    train(work, run, "--resume", "--max-minutes", 200 / 60, "--steps", 4)
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert 1000 < last["seconds"] < 1060
    # The cosine at 5/6, down to a tenth.
    assert last["train/lr"] == pytest.approx(1e-3 * (0.1 + 0.9 * 0.067), rel=0.15)


@pytest.mark.parametrize(
    ("steps", "saved"), [([], "there is no checkpoint yet"), ([4], "step-00000004 is whole")]
)
def test_a_full_disk_leaves_a_run_to_resume(
    work: Path, whole: Path, run: Path, steps: list[int], saved: str
) -> None:
    for step in steps:
        train(work, run, "--steps", step)
    with largest_file(100_000):
        said = refused(work, run, *(["--resume"] if steps else []))
    assert re.search(r"step-0000000[48]: cannot be written \(.*File too large", said)
    assert said.endswith(f"{saved}: make room, then go on with --resume")
    assert steps_of(run) == steps
    train(work, run, "--resume")
    assert_same_run(run, whole)


def test_files_of_the_run_that_are_damaged_are_named_and_stay(work: Path, run: Path) -> None:
    train(work, run, "--steps", 2)
    before = (run / "metrics.jsonl").read_bytes()
    for line in (b"{broken\n", b"[]\n", b'{"loss": 1}\n'):
        (run / "metrics.jsonl").write_bytes(before + line)
        assert "metrics.jsonl: a line is no record of a training" in refused(work, run, "--resume")
        assert (run / "metrics.jsonl").read_bytes() == before + line
    for name in ("metrics.jsonl", "train.log"):
        (run / name).unlink()
        (run / name).mkdir()
        assert f"{name}: cannot be " in refused(work, run, "--resume")
        (run / name).rmdir()
        (run / name).write_bytes(before if name == "metrics.jsonl" else b"")


def test_what_is_not_the_same_training_is_not_gone_on_with(work: Path, whole: Path) -> None:
    before = newest(whole), metrics(whole)
    changes = [*settings("train", lr=3e-3), *settings("model", inner_cycles=3)]
    for data, flags, parts in (
        ("data", ["--resume", *changes], ("train.lr: 0.001 -> 0.003", "model.inner_cycles: 2 -> 3")),
        ("other", ["--resume"], ("another dataset", "/other")),
        ("data", [], ("/whole exists already", "--resume")),
    ):
        said = refused(work, whole, *flags, data=data)
        assert [part for part in parts if part not in said] == []
        assert "train.steps" not in said
        assert (newest(whole), metrics(whole)) == before


def test_a_run_stands_for_its_recipe_and_ends_once(work: Path, whole: Path, tmp_path: Path) -> None:
    arguments = ("train", whole, "--data", work / "data", "--out", tmp_path / "again")
    for flags in ([], ["--resume"]):
        succeed_here(*arguments, *flags)
        assert_same_run(tmp_path / "again", whole)


FIRST = ("--max-minutes", 0)
"""No step: the checkpoint is the initial state."""


def loaded(run: Path) -> Checkpoint:
    return load_checkpoint(newest_checkpoint(run))


@pytest.fixture(scope="module")
def begun(work: Path, whole: Path) -> Path:
    """A run that begins from another."""
    train(work, work / "begun", "--init", whole)
    return work / "begun"


def test_a_run_begins_with_averages_and_rows(work: Path, whole: Path, begun: Path, run: Path) -> None:
    """Also after a kill before its first checkpoint."""
    done = train(work, run, "--init", whole, *FIRST)
    assert "rows for 16 of 16 puzzles known" in done.stderr
    before, after = loaded(whole), loaded(run)
    for name, weight in after.raw.items():
        assert torch.equal(weight, before.ema[name])
        assert torch.equal(weight, after.ema[name])
    assert torch.equal(after.rows, before.rows)
    assert after.rows.any()
    assert json_of(run / "manifest.json")["init"] == str(whole)
    shutil.rmtree(run / "checkpoints")
    train(work, run, "--resume")
    assert_same_run(run, begun)


def test_a_resumed_run_does_not_begin_anew(work: Path, whole: Path, begun: Path, tmp_path: Path) -> None:
    """Even if its initial checkpoint is gone; another one is a change."""
    first, run = shutil.copytree(whole, tmp_path / "first"), tmp_path / "run"
    train(work, run, "--init", first, "--steps", 5)
    shutil.rmtree(first)
    said = refused(work, run, "--resume", "--init", whole)
    assert f"was trained with another recipe (--init: {first} -> {whole})" in said
    train(work, run, "--resume")
    assert_same_run(run, begun)


@pytest.mark.parametrize(("flags", "data", "said"), [
    (settings("model", hidden_size=64), "data", "than the recipe's (model.hidden_size: 32 -> 64): set"),
    # The weights of these have the same shapes.
    (settings("model", num_heads=1), "data", "than the recipe's (model.num_heads: 2 -> 1): set these as"),
    ([], "maze", "is for arc puzzles with 12 tokens, the dataset has maze puzzles"),
])  # fmt: skip
def test_another_model(work: Path, whole: Path, run: Path, flags: list[str], data: str, said: str) -> None:
    assert said in refused(work, run, "--init", whole, *flags, data=data)
    assert not run.exists()


def test_what_changes_no_weight_may_change_on_resuming(work: Path, whole: Path, run: Path) -> None:
    train(work, run, "--steps", 5)
    free = [*settings("train", keep_last=1, checkpoint_every=100, trackers="[]"), *settings("eval", every=6)]
    done = train(work, run, "--resume", *free)
    assert "going on with another recipe: train.checkpoint_every: 4 -> 100; " in done.stderr
    assert newest(run)["model.safetensors"] == newest(whole)["model.safetensors"]
    assert any("eval/pass@2" in record for record in metrics(run))


def test_a_changed_recipe_is_gone_on_with_by_force(work: Path, run: Path) -> None:
    slower = settings("train", lr=1e-4)
    train(work, run, "--steps", 4)
    said = refused(work, run, "--resume", *slower)
    assert "train.lr: 0.001 -> 0.0001" in said
    assert f" train {run} --data {work / 'data'} --out {run} --resume, or go on" in said
    done = train(work, run, "--resume", "--steps", 3)
    assert "already at step 4, so there is nothing to train" in done.stderr
    train(work, run, "--resume", "--force", "--steps", 6, *slower)
    rates = [record["train/lr"] for record in metrics(run)]
    assert rates[4] < 0.2 * rates[3]
    log = (run / "train.log").read_text()
    assert "WARNING going on with another recipe: train.lr: 0.001 -> 0.0001" in log
    # From then on this is the run's recipe, which needs no --force.
    manifest = json_of(run / "manifest.json")
    assert manifest["recipe"]["train"]["lr"] == 1e-4
    assert manifest["changes"] == ["train.lr: 0.001 -> 0.0001"]
    train(work, run, "--resume", "--steps", 7, *slower)
    assert len(metrics(run)) == 7


@pytest.mark.parametrize("flags", [[], FLOW], ids=["recursion", "flow"])
def test_samples_beyond_a_lower_limit_begin_anew(work: Path, run: Path, flags: list[str]) -> None:
    """None ended at step 2, in which none may."""
    flags = [*flags, *settings("train", halt_exploration=1.0)]
    train(work, run, *flags, "--steps", 2)
    train(work, run, *flags, "--resume", "--force", "--steps", 4, *settings("model", max_steps=2))
    steps = [record.get("train/steps_to_halt") for record in metrics(run)]
    assert steps == [None, None, None, 2.0]


def test_what_no_force_can_change_changes_nothing(work: Path, run: Path) -> None:
    train(work, run, "--steps", 2)
    before = newest(run), metrics(run), json_of(run / "manifest.json")
    for flags, said in (
        (settings("train", optimizer="adamw"), "an optimizer cannot go on with the state of another"),
        (settings("train", batch_size=8), "does not fit this run (its batch has another size)"),
        (settings("model", hidden_size=64), "does not fit this run ("),
        (settings("model", puzzle_tokens=2), "does not fit this run (its samples have another prefix: "),
    ):
        assert said in refused(work, run, "--resume", "--force", *flags)
        assert (newest(run), metrics(run), json_of(run / "manifest.json")) == before


def test_rows_that_learn_alone_leave_the_weights_bit_for_bit(work: Path, run: Path) -> None:
    train(work, run, *settings("train", rows_only=0.5, checkpoint_every=3, keep_last=9), "--steps", 9)
    at = {step: load_checkpoint(run / "checkpoints" / f"step-{step:08d}") for step in (3, 6, 9)}
    for name in at[3].raw:
        assert torch.equal(at[3].raw[name], at[6].raw[name]), name
        assert torch.equal(at[3].ema[name], at[6].ema[name]), name
    assert not torch.equal(at[3].rows, at[6].rows)
    assert not torch.equal(at[6].raw["embed_tokens"], at[9].raw["embed_tokens"])


@pytest.mark.parametrize(("minutes", "count"), [(1e-9, 4), (60, 1)])
def test_checkpoints_every_few_minutes(work: Path, run: Path, minutes: float, count: int) -> None:
    flags = settings("train", checkpoint_minutes=minutes, checkpoint_every=99, keep_last=99)
    train(work, run, *flags, "--steps", 4)
    assert len(list((run / "checkpoints").iterdir())) == count


EVERY_THREE = settings("train", checkpoint_every=3)


@pytest.fixture(scope="module")
def six(work: Path) -> Path:
    """A run with checkpoints of steps 3 and 6."""
    train(work, work / "six", *EVERY_THREE, "--steps", 6)
    return work / "six"


@pytest.fixture(scope="module")
def nine(work: Path) -> Path:
    """The run `six` after nine steps without a break."""
    train(work, work / "nine", *EVERY_THREE, "--steps", 9)
    return work / "nine"


@pytest.fixture
def copy(six: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return shutil.copytree(six, tmp_path / "run")


def go_on(work: Path, run: Path, *flags: object) -> str:
    """The stderr of a training resumed up to step nine."""
    done = train(work, run, *EVERY_THREE, "--steps", 9, "--resume", *flags)
    assert done.stdout == f"{run}/checkpoints/step-00000009: step 9\n"
    return done.stderr


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def inside(path: Path) -> object:
    """The content of a path."""
    if path.is_symlink():
        return path.readlink()
    return names(path) if path.is_dir() else path.read_bytes()


def put_strange(folder: Path) -> None:
    """Put things that are no checkpoint of the run into a folder of checkpoints."""
    whole = folder / "step-00000003"
    (folder / "step-00999998").mkdir()
    for name in ("step-00000012", "step-99999999", "step-x"):
        (folder / name).write_text("mine")
    copies = ("step-00000003-keep", "step-00000006.bak", "a-copy", "step-", "step-abc", "step-3", "step-9")
    # The name of the last one contradicts its manifest.
    for name in (*copies, "step-000000009", "Step-00000009", ".step-mine", "step-00000009"):
        shutil.copytree(whole, folder / name)
    (folder / "step-00000013").symlink_to(shutil.copytree(whole, folder.parent / "elsewhere"))
    (folder / "step-00000014").symlink_to(folder / "nothing")
    # The temporary folder of another running process.
    (folder / f".step-00000003.{os.getppid()}.tmp").mkdir()


def test_what_is_no_checkpoint_stays(work: Path, copy: Path, nine: Path) -> None:
    folder = copy / "checkpoints"
    own = names(folder)
    put_strange(folder)
    strange = {path.name: inside(path) for path in folder.iterdir() if path.name not in own}
    said = go_on(work, copy)
    for name, content in strange.items():
        is_in_the_way = re.fullmatch(r"step-[0-9]{8}", name) is not None
        assert (f"checkpoints/{name}: is no whole checkpoint" in said) == is_in_the_way
        path = folder / (f"{name}.damaged" if is_in_the_way else name)
        assert inside(path) == content
        path.unlink() if path.is_symlink() or path.is_file() else shutil.rmtree(path)
    assert names(folder) == {"step-00000006", "step-00000009"}
    assert_same_run(copy, nine)


def test_what_a_killed_process_left_goes(work: Path, copy: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    for parent in ("checkpoints", "evaluations"):
        (copy / parent / f".step-00000006.{ended.pid}.tmp").mkdir(parents=True)
    (copy / "evaluations" / "step-00000003").mkdir()
    (copy / "evaluations" / "step-00000004").mkdir()
    go_on(work, copy)
    assert names(copy / "checkpoints") == {"step-00000006", "step-00000009"}
    # The evaluation of a removed checkpoint is removed; one without a checkpoint stays.
    assert names(copy / "evaluations") == {"step-00000004"}


def test_a_newest_folder_without_manifest_is_put_aside_each_time(work: Path, copy: Path, nine: Path) -> None:
    for number in ("", "-2"):
        (copy / "checkpoints" / "step-00000006" / "manifest.json").unlink()
        six = (*EVERY_THREE, "--steps", 6, "--resume")
        said = go_on(work, copy) if number else train(work, copy, *six).stderr
        assert "checkpoints/step-00000006: is no whole checkpoint: its manifest.json is missing" in said
        assert f"kept as step-00000006.damaged{number}\n" in said
        assert (copy / "checkpoints" / f"step-00000006.damaged{number}" / "model.safetensors").exists()
    assert_same_run(copy, nine)


def test_a_run_without_a_whole_checkpoint_is_not_begun_anew(work: Path, copy: Path) -> None:
    for step in (3, 6):
        (copy / "checkpoints" / f"step-{step:08d}" / "manifest.json").unlink()
    before = metrics(copy)
    said = refused(work, copy, *EVERY_THREE, "--resume")
    assert "none of its checkpoints is whole (step-00000003, step-00000006): copy the run again" in said
    assert metrics(copy) == before


def test_a_damaged_file_is_named_with_the_way_on(work: Path, copy: Path, nine: Path) -> None:
    """Later checkpoints are set aside unchanged."""
    newest = copy / "checkpoints" / "step-00000006"
    contents = {part: (newest / part).read_bytes() for part in PARTS}
    for part in PARTS:
        for name, content in contents.items():
            (newest / name).write_bytes(content[: len(content) * 2 // 3] if name == part else content)
        said = refused(work, copy, *EVERY_THREE, "--resume")
        assert said.startswith(f"{newest / part}: damaged checkpoint (")
        assert said.endswith("--resume --from-step N, with N one of 3")
        assert names(copy / "checkpoints") == {"step-00000003", "step-00000006"}
    said = go_on(work, copy, "--from-step", 3)
    assert "step-00000006: comes after the step to go on from; it is kept as step-00000006.aside" in said
    weights = newest.with_name("step-00000006.aside") / PARTS[0]
    assert weights.read_bytes() == contents[PARTS[0]]
    assert_same_run(copy, nine)


def test_a_step_that_is_not_there_is_refused(work: Path, copy: Path) -> None:
    said = refused(work, copy, *EVERY_THREE, "--resume", "--from-step", 5)
    assert said.endswith("has no whole checkpoint of step 5, but those of steps 3, 6")
    assert "--from-step goes with --resume" in refused(work, copy, *EVERY_THREE, "--from-step", 3)
    assert names(copy / "checkpoints") == {"step-00000003", "step-00000006"}


def test_a_checkpoint_from_before_hashes_is_resumed(work: Path, copy: Path, nine: Path) -> None:
    with changing(copy / "checkpoints" / "step-00000006" / "manifest.json") as manifest:
        assert manifest.pop("files").keys() == set(PARTS)
    go_on(work, copy)
    assert_same_run(copy, nine)
