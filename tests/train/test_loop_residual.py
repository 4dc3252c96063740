"""Trainings with a loop residual: exact resume, any number of processes, smaller canvases."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from arcpipe.checkpoint import load_checkpoint, newest_checkpoint
from commands import run_here
from processes import together
from sized import BUCKETS, sized_data
from training import assert_close, assert_same_run, metrics, settings, train, train_arguments

RESIDUAL = settings("model", loop_residual="true", buckets=BUCKETS)


@pytest.fixture(scope="module")
def mixed(work: Path) -> str:
    """The dataset of tasks of many sizes in the folder of the fixture `work`."""
    sized_data(work / "residual-sized")
    return "residual-sized/data"


@pytest.fixture(scope="module")
def run(work: Path, mixed: str) -> Path:
    train(work, work / "residual", *RESIDUAL, data=mixed)
    return work / "residual"


def test_it_learns_and_its_sums_are_saved(run: Path) -> None:
    losses = [record["train/loss_answer"] for record in metrics(run)]
    assert losses[-1] < losses[0]
    learned = load_checkpoint(run).raw
    assert all(
        learned[f"residuals.{number}.{name}"].any() for number in (0, 1) for name in ("query", "decay")
    )
    log_sums = load_file(newest_checkpoint(run) / "trainer.safetensors")["carry.log_sums"]
    assert log_sums.shape == (16, 1 + 64, 2)
    assert log_sums.dtype == torch.float32


def test_two_parts_are_one_training(work: Path, mixed: str, run: Path, tmp_path: Path) -> None:
    train(work, tmp_path / "run", *RESIDUAL, "--steps", 5, data=mixed)
    train(work, tmp_path / "run", *RESIDUAL, "--resume", data=mixed)
    assert_same_run(tmp_path / "run", run)


def test_parts_of_a_batch_and_two_processes(work: Path, mixed: str, run: Path, tmp_path: Path) -> None:
    parts, two = tmp_path / "parts", tmp_path / "two"
    train(work, parts, *RESIDUAL, *settings("train", accumulation=2), data=mixed)
    assert_close(parts, run)
    for done in together(train_arguments(work, two, *RESIDUAL, data=mixed), work):
        assert done.returncode == 0, done.stderr
    assert_close(two, run)


def test_the_official_files_have_none(run: Path, tmp_path: Path) -> None:
    done = run_here("checkpoint", "export", run, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "buckets" in done.stderr
