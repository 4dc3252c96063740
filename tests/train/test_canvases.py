"""Trainings with buckets: their canvases from one command to the next, and what cannot be."""

from pathlib import Path

import pytest

from arcpipe.checkpoint import load_checkpoint
from candidates import read_predictions
from commands import fail_here, run_here, succeed_here
from puzzles import BUCKETS, sized_data, sized_tasks
from training import assert_same_run, refused, settings, train

BUCKETED = settings("model", buckets=BUCKETS)
STEPS = ("--steps", 2)
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


def test_adaptation_keeps_the_canvases(work: Path, bucketed: Path, tmp_path: Path) -> None:
    """Of its tasks none is on canvas 6."""
    sized_data(tmp_path / "small", sized_tasks([2, 3, 8], seed=3))
    run, out = tmp_path / "run", tmp_path / "out"
    challenges = tmp_path / "small" / "sized_challenges.json"
    flags = settings("adapt", steps=4, batch_size=8, num_aug=3, warmup_steps=0, precision="float32")
    words = ("adapt", "--checkpoint", bucketed, "--challenges", challenges, "--out", run, *flags)
    done = run_here(*words, code=0)
    assert "canvases: side 4: 2 tasks, 5 of 8 rows; side 8: 1 tasks, 3 of 8 rows; " in done.stderr
    assert load_checkpoint(run).config.buckets == [4]
    succeed_here("infer", "--checkpoint", run, "--data", run / "data", "--out", out)
    assert {one.task for one in read_predictions(out)} == {"of2-0", "of3-1", "of8-2"}


def test_a_training_begins_from_weights_of_other_canvases(work: Path, bucketed: Path, tmp_path: Path) -> None:
    """The weights are those of the whole canvas."""
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
    assert "has buckets, the official program knows one canvas" in said
    assert not (tmp_path / "official").exists()
    succeed_here("checkpoint", "export", bucketed, "--format", "arcpipe", "--out", tmp_path / "own")
    assert load_checkpoint(tmp_path / "own").config.buckets == BUCKETS
    assert "buckets                     4 6\n" in succeed_here("checkpoint", "show", tmp_path / "own")
