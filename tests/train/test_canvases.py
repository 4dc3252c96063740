"""Trainings with buckets: exact resume, any number of processes, and what cannot be."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from arcpipe.checkpoint import load_checkpoint, newest_checkpoint
from arcpipe.flops import train_step_flops
from arcpipe.predictions import read_predictions
from commands import run_here
from processes import together
from sized import BUCKETS, CANVAS, sized_data, sized_tasks
from training import assert_close, assert_same_run, refused, settings, train, train_arguments

BUCKETED = settings("model", buckets=BUCKETS)
STEPS = ("--steps", 6)


MIXED = "sized/data"
"""The dataset of tasks of many sizes in the folder of the fixture `work`."""


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


def test_a_checkpoint_has_its_rows_in_the_order_of_the_batch(
    work: Path, bucketed: Path, tmp_path: Path
) -> None:
    """Whatever number of processes wrote it."""
    run = tmp_path / "run"
    for done in together(train_arguments(work, run, *BUCKETED, *STEPS, data=MIXED), work):
        assert done.returncode == 0, done.stderr
    two, one = (load_file(newest_checkpoint(path) / "trainer.safetensors") for path in (run, bucketed))
    for name in ("inputs", "labels", "puzzle_ids", "steps", "halted"):
        assert torch.equal(two[f"carry.{name}"], one[f"carry.{name}"]), name
    assert_close(run, bucketed)


def test_a_batch_in_parts_is_the_batch(work: Path, bucketed: Path, tmp_path: Path) -> None:
    """Also in more parts than a canvas has rows."""
    flags = settings("train", accumulation=8, recompute="true")
    train(work, tmp_path / "run", *BUCKETED, *STEPS, *flags, data=MIXED)
    assert_close(tmp_path / "run", bucketed)


def test_adaptation_keeps_the_canvases(work: Path, bucketed: Path, tmp_path: Path) -> None:
    """Of its tasks none is on canvas 6."""
    sized_data(tmp_path / "small", sized_tasks([2, 3, 8], seed=3))
    run, out = tmp_path / "run", tmp_path / "out"
    challenges = tmp_path / "small" / "sized_challenges.json"
    flags = settings("adapt", steps=4, batch_size=8, num_aug=3, warmup_steps=0, precision="float32")
    done = run_here("adapt", "--checkpoint", bucketed, "--challenges", challenges, "--out", run, *flags)
    assert done.returncode == 0, done.stderr
    assert "canvases: side 4: 2 tasks, 5 of 8 rows; side 8: 1 tasks, 3 of 8 rows; " in done.stderr
    assert load_checkpoint(run).config.buckets == [4]
    done = run_here("infer", "--checkpoint", run, "--data", run / "data", "--out", out)
    assert done.returncode == 0, done.stderr
    assert {one.task for one in read_predictions(out)} == {"of2-0", "of3-1", "of8-2"}


def test_a_training_begins_from_weights_of_other_canvases(work: Path, bucketed: Path, tmp_path: Path) -> None:
    """The weights are those of the whole canvas."""
    train(work, tmp_path / "run", "--steps", 1, "--init", bucketed, data=MIXED)
    train(work, tmp_path / "back", *BUCKETED, "--steps", 1, "--init", tmp_path / "run", data=MIXED)
    assert load_checkpoint(tmp_path / "run").config.buckets == []
    assert load_checkpoint(tmp_path / "back").config.buckets == BUCKETS


def test_a_dry_run_says_what_the_smaller_canvases_save(work: Path, bucketed: Path, tmp_path: Path) -> None:
    done = train(work, tmp_path / "run", "--dry-run", *BUCKETED, data=MIXED)
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert list(lines)[1:3] == ["tokens", "canvases"]
    assert lines["canvases"].startswith("side 4: 4 tasks, 8 of 16 rows; ")
    assert lines["canvases"].endswith("; 33 tokens a sample on average, 52% of the tokens")
    config = load_checkpoint(bucketed).config
    of_side = {side: train_step_flops(config, side**2) for side in (4, 6, CANVAS)}
    mean = (8 * of_side[4] + 4 * of_side[6] + 4 * of_side[CANVAS]) / 16
    assert lines["arithmetic"].startswith(f"{mean:.3g} FLOP a sample, {16 * mean:.3g} a step")
    assert list(tmp_path.iterdir()) == []


def test_rows_of_a_canvas_that_do_not_divide_are_refused(work: Path, tmp_path: Path) -> None:
    arguments = train_arguments(
        work, tmp_path / "run", *BUCKETED, *settings("train", batch_size=12), data=MIXED
    )
    for done in together(arguments, work):
        assert done.returncode == 2, done.stderr
        assert done.stderr == (
            "arcpipe: model.buckets: the samples of a batch, 3 of side 6, 3 of side 8, do not divide by 2 "
            "processes: choose another train.batch_size (for 2, 4, 8... processes a multiple of 64 does) or "
            "other buckets\n"
        )
    assert not (tmp_path / "run").exists()


def test_samples_in_flight_do_not_change_their_canvases(work: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
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
    done = run_here("checkpoint", "export", bucketed, "--out", tmp_path / "official")
    assert done.returncode == 2
    assert "has buckets, the official program knows one canvas" in done.stderr
    assert not (tmp_path / "official").exists()
    done = run_here("checkpoint", "export", bucketed, "--format", "arcpipe", "--out", tmp_path / "own")
    assert done.returncode == 0, done.stderr
    assert load_checkpoint(tmp_path / "own").config.buckets == BUCKETS
    shown = run_here("checkpoint", "show", tmp_path / "own").stdout
    assert "buckets                     4 6\n" in shown
