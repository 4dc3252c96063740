"""A training that was interrupted goes on as if nothing had happened."""

import json
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from arcpipe.checkpoint import find_checkpoint
from commands import run_here
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

# Many more steps than are waited for: the schedule of the runs that are killed.
LONG = ("--set", "train.steps=2000")


@pytest.mark.parametrize("first", [1, 5, 8])
def test_two_parts_are_one_training(work: Path, whole: Path, tmp_path: Path, first: int) -> None:
    run = tmp_path / "run"
    assert f"step-{first:08d}: step {first}" in train(work, run, "--steps", first).stdout
    assert [record["step"] for record in metrics(run)] == list(range(1, first + 1))
    train(work, run, "--resume")
    assert_same_run(run, whole)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
def test_two_optimizers_are_gone_on_with(work: Path, tmp_path: Path) -> None:
    """Muon has the matrices of the blocks, AdamW the other weights."""
    whole, run, muon = tmp_path / "whole", tmp_path / "run", ("--set", "train.optimizer=muon")
    train(work, whole, *muon)
    train(work, run, *muon, "--steps", 5)
    train(work, run, *muon, "--resume")
    assert_same_run(run, whole)
    names = load_file(find_checkpoint(run) / "trainer.safetensors").keys()
    assert "optimizer.blocks.0.mlp.down.weight.momentum_buffer" in names
    assert "optimizer.embed_tokens.exp_avg" in names


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_training_that_is_told_to_stop_saves_and_goes_on(work: Path, tmp_path: Path, number: int) -> None:
    run, uninterrupted = tmp_path / "run", tmp_path / "uninterrupted"
    with running(train_arguments(work, run, *LONG), work) as process:
        process.wait_until(lambda: recorded(run) > 0)
        process.send(number)
        done = process.finish()
    assert done.returncode == 0, done.stderr
    (*_, stopped) = steps_of(run)
    assert f"stopped at step {stopped} on a signal\ngo on with --resume" in done.stderr
    assert f"step {stopped}" in done.stdout
    assert len(metrics(run)) == stopped
    later = ("--steps", stopped + 3, *LONG)
    train(work, run, "--resume", *later)
    train(work, uninterrupted, *later)
    assert_same_run(run, uninterrupted)


@pytest.mark.parametrize("count", [1, 2])
def test_forty_steps_are_seventeen_a_kill_and_the_rest(work: Path, tmp_path: Path, count: int) -> None:
    run, uninterrupted = tmp_path / "run", tmp_path / "uninterrupted"
    flags = settings("train", steps=40, checkpoint_every=17)
    for done in together(train_arguments(work, uninterrupted, *flags), work, count):
        assert done.returncode == 0, done.stderr
    with running_together(train_arguments(work, run, *flags), work, count) as processes:
        processes[0].wait_until((run / "checkpoints" / "step-00000017").exists)
        for process in processes:
            process.send(signal.SIGKILL)
    assert steps_of(run) == [17]
    # Steps after the checkpoint may be recorded; they are done again, and recorded once.
    for done in together(train_arguments(work, run, *flags, "--resume"), work, count):
        assert done.returncode == 0, done.stderr
    assert_same_run(run, uninterrupted)


def test_ten_kills_at_any_moment_lose_no_more_than_is_not_saved(work: Path, tmp_path: Path) -> None:
    """Evaluations included; every other kill comes while a checkpoint is written."""
    run, uninterrupted = tmp_path / "run", tmp_path / "uninterrupted"
    flags = [*settings("train", steps=70, checkpoint_every=2), *settings("eval", every=6, votes=1)]
    delays = np.random.default_rng(0).uniform(0, 0.1, 10)
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
    assert kills == 10
    assert recorded(run) < 70
    train(work, run, *flags, "--resume")
    train(work, uninterrupted, *flags)
    assert_same_run(run, uninterrupted)
    assert [path.name for path in run.rglob(".*")] == [".writer-0.lock"]


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_anew(
    work: Path, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    (run / "checkpoints" / ".step-00000004.1.tmp").mkdir(parents=True)
    (run / "manifest.json").write_bytes((whole / "manifest.json").read_bytes())
    (run / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    train(work, run, "--resume")
    assert_same_run(run, whole)


def test_a_run_that_is_older_than_some_settings_had_their_defaults(
    work: Path, whole: Path, tmp_path: Path
) -> None:
    run, newer = tmp_path / "run", (("model", "loop_residual"), ("train", "clip"))
    train(work, run, "--steps", 4)
    manifest = json.loads((run / "manifest.json").read_bytes())
    for table, key in newer:
        del manifest["recipe"][table][key]
    (run / "manifest.json").write_text(json.dumps(manifest))
    assert "train.clip: 0.0 -> 1.0" in refused(work, run, "--resume", *settings("train", clip=1.0))
    train(work, run, "--resume")
    assert_same_run(run, whole)


def test_a_finished_run_has_nothing_to_go_on_with(work: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(work, run, "--steps", 2)
    before = newest(run), metrics(run)
    train(work, run, "--steps", 2, "--resume")
    assert (newest(run), metrics(run)) == before


def test_the_time_goes_on_where_it_was(work: Path, tmp_path: Path) -> None:
    """A thousand seconds are said to have passed: of twenty minutes five sixths, of ten all."""
    run, early = tmp_path / "run", tmp_path / "early"
    train(work, run, "--steps", 3)
    path = run / "checkpoints" / "step-00000003" / "manifest.json"
    manifest = json.loads(path.read_bytes())
    assert 0 < manifest["seconds"] < 60
    path.write_text(json.dumps(manifest | {"seconds": 1000}))
    shutil.copytree(run, early)

    done = train(work, early, "--resume", "--max-minutes", 10)
    assert "stopped at step 3: the time is up\ngo on with --resume and more --max-minutes" in done.stderr
    assert len(metrics(early)) == 3

    train(work, run, "--resume", "--max-minutes", 20, "--steps", 4)
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert 1000 < last["seconds"] < 1060
    # The cosine at 5/6, down to a tenth.
    assert last["train/lr"] == pytest.approx(1e-3 * (0.1 + 0.9 * 0.067), rel=0.1)


def test_a_time_limit_that_is_reached_stays_reached(work: Path, tmp_path: Path) -> None:
    settings = ("--set", "train.steps=100000", "--set", "train.checkpoint_every=100000")
    flags = ("--max-minutes", 0.01, *settings)
    train(work, tmp_path / "run", *flags)
    before = newest(tmp_path / "run"), metrics(tmp_path / "run")
    train(work, tmp_path / "run", "--resume", *flags)
    assert (newest(tmp_path / "run"), metrics(tmp_path / "run")) == before


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    work: Path, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train(work, run, "--steps", 4)
    with largest_file(100_000):
        said = refused(work, run, "--resume")
    assert "step-00000008: cannot be written (" in said
    assert "File too large" in said
    assert said.endswith("step-00000004 is whole: make room, then go on with --resume")
    assert steps_of(run) == [4]
    train(work, run, "--resume")
    assert_same_run(run, whole)


def test_a_first_checkpoint_that_cannot_be_written_leaves_a_run_to_go_on_with(
    work: Path, whole: Path, tmp_path: Path
) -> None:
    with largest_file(100_000):
        said = refused(work, tmp_path / "run")
    assert "there is no checkpoint yet: make room, then go on with --resume" in said
    train(work, tmp_path / "run", "--resume")
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.parametrize("line", ["{broken\n", "[]\n", '{"loss": 1}\n'])
def test_metrics_that_are_none_are_not_dropped(work: Path, tmp_path: Path, line: str) -> None:
    run = tmp_path / "run"
    train(work, run, "--steps", 2)
    with (run / "metrics.jsonl").open("a") as file:
        file.write(line)
    before = (run / "metrics.jsonl").read_bytes()
    assert "metrics.jsonl: a line is no record of a training" in refused(work, run, "--resume")
    assert (run / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("name", ["metrics.jsonl", "train.log"])
def test_a_file_of_the_run_that_cannot_be_opened_is_named(work: Path, tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    train(work, run, "--steps", 2)
    (run / name).unlink()
    (run / name).mkdir()
    assert f"{name}: cannot be " in refused(work, run, "--resume")


def test_another_recipe_is_not_gone_on_with(work: Path, whole: Path) -> None:
    before = newest(whole)
    said = refused(work, whole, "--resume", "--set", "train.lr=3e-3", "--set", "model.inner_cycles=3")
    assert "train.lr: 0.001 -> 0.003" in said
    assert "model.inner_cycles: 2 -> 3" in said
    assert "train.steps" not in said
    assert newest(whole) == before


def test_another_dataset_is_not_gone_on_with(work: Path, whole: Path) -> None:
    said = refused(work, whole, "--resume", data="other")
    assert "another dataset" in said
    assert str(work / "other") in said


def test_an_existing_run_is_not_written_over(work: Path, whole: Path) -> None:
    before = newest(whole), metrics(whole)
    said = refused(work, whole)
    assert str(whole) in said
    assert "--resume" in said
    assert (newest(whole), metrics(whole)) == before


def test_a_run_that_is_not_there_cannot_be_gone_on_with(work: Path, tmp_path: Path) -> None:
    assert "no such folder" in refused(work, tmp_path / "run", "--resume")
    assert not (tmp_path / "run").exists()


def test_a_run_stands_for_its_recipe(work: Path, whole: Path, tmp_path: Path) -> None:
    done = run_here("train", whole, "--data", work / "data", "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "again", whole)
