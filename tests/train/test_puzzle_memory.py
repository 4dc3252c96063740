"""Puzzle rows on the host: they learn as those on the device, and checkpoints of them go on."""

from pathlib import Path

import pytest
import torch

from arcpipe.checkpoint import Checkpoint, load_checkpoint
from disks import largest_file
from training import assert_same_numbers, refused, settings, steps_of, train

HOST = settings("train", puzzle_memory="host")


def test_rows_on_the_host_learn_alike(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations and another run that begins with its rows included."""
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
    """At first of rows that were 0, then since all rows of an earlier step; with --force also elsewhere."""
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
