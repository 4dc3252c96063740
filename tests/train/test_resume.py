"""A training that was interrupted goes on as if nothing had happened."""

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from commands import succeed_here
from disks import largest_file
from processes import running, running_together, together
from training import (
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
    """Evaluations included; every other kill comes while a checkpoint is written."""
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
        # The first may come before anything is saved.
        saved = [int(path.name[-8:]) for path in (run / "checkpoints").glob("step-*")]
        assert max(saved, default=0) >= (recorded(run) - 1) // 2 * 2
    assert kills == 6
    assert recorded(run) < 60
    train(work, run, *flags, "--resume")
    train(work, uninterrupted, *flags)
    assert_same_run(run, uninterrupted)
    assert [path.name for path in run.rglob(".*")] == [".writer-0.lock"]


def test_a_run_killed_before_any_checkpoint_starts_anew(work: Path, whole: Path, run: Path) -> None:
    (run / "checkpoints" / ".step-00000004.1.tmp").mkdir(parents=True)
    (run / "manifest.json").write_bytes((whole / "manifest.json").read_bytes())
    (run / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    train(work, run, "--resume")
    assert_same_run(run, whole)


def test_a_run_older_than_settings_had_their_defaults(work: Path, whole: Path, run: Path) -> None:
    newer = (("model", "loop_residual"), ("train", "clip"))
    train(work, run, "--steps", 4)
    manifest = json.loads((run / "manifest.json").read_bytes())
    for table, key in newer:
        del manifest["recipe"][table][key]
    (run / "manifest.json").write_text(json.dumps(manifest))
    assert "train.clip: 0.0 -> 1.0" in refused(work, run, "--resume", *settings("train", clip=1.0))
    train(work, run, "--resume")
    assert_same_run(run, whole)


def test_the_schedule_goes_on_and_the_limit_is_the_commands_own(work: Path, run: Path) -> None:
    """A thousand seconds are said to have passed, two hundred are to come."""
    train(work, run, "--steps", 3)
    path = run / "checkpoints" / "step-00000003" / "manifest.json"
    manifest = json.loads(path.read_bytes())
    assert 0 < manifest["seconds"] < 60
    path.write_text(json.dumps(manifest | {"seconds": 1000}))
    train(work, run, "--resume", "--max-minutes", 200 / 60, "--steps", 4)
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert 1000 < last["seconds"] < 1060
    # The cosine at 5/6, down to a tenth.
    assert last["train/lr"] == pytest.approx(1e-3 * (0.1 + 0.9 * 0.067), rel=0.15)


def test_a_full_disk_leaves_the_checkpoint_before(work: Path, whole: Path, run: Path) -> None:
    train(work, run, "--steps", 4)
    with largest_file(100_000):
        said = refused(work, run, "--resume")
    assert "step-00000008: cannot be written (" in said
    assert "File too large" in said
    assert said.endswith("step-00000004 is whole: make room, then go on with --resume")
    assert steps_of(run) == [4]
    train(work, run, "--resume")
    assert_same_run(run, whole)


def test_a_full_disk_at_first_leaves_a_run_to_go_on_with(work: Path, whole: Path, run: Path) -> None:
    with largest_file(100_000):
        said = refused(work, run)
    assert "there is no checkpoint yet: make room, then go on with --resume" in said
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
