"""Every kind of training goes on exactly where it was, and is the same in parts and in several processes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from arcpipe.checkpoint import load_checkpoint, newest_checkpoint
from processes import together
from sized import BUCKETS
from training import FLOW, TASK, assert_close, assert_same_run, metrics, settings, train, train_arguments

_RESIDUAL = settings("model", buckets=BUCKETS, loop_residual="true")
# The dataset and the flags of each.
KINDS: dict[str, tuple[str, list[str]]] = {
    "float16, rows alone, curriculum": (
        "data",
        settings("train", precision="float16", rows_only=0.5, curriculum="[[0.0, 1, 1], [0.5, 2, 2]]"),
    ),
    "residual": ("sized/data", _RESIDUAL),
    "tasks": ("fresh", TASK),
    "tasks by muon, with views": (
        "fresh",
        [*TASK, *settings("model", views="true"), *settings("train", optimizer="muon")],
    ),
    "flow of ARC": ("sized/data", [*FLOW, *_RESIDUAL, *settings("train", flow_times="random_start")]),
    "sudoku": ("sudoku", settings("eval", every=1)),
}
# Those in which a process has something of its own to keep apart.
SHARED = ("residual", "tasks", "flow of ARC")

Runs = Callable[[str], Path]


@pytest.fixture(scope="module")
def uninterrupted(work: Path) -> Runs:
    """The run of all twelve steps of a kind."""

    def run(kind: str) -> Path:
        data, flags = KINDS[kind]
        folder = work / f"run {kind}"
        if not folder.exists():
            train(work, folder, *flags, data=data)
        return folder

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_two_parts_are_one_training(work: Path, uninterrupted: Runs, tmp_path: Path, kind: str) -> None:
    """The first ends between two checkpoints."""
    whole, run, (data, flags) = uninterrupted(kind), tmp_path / "run", KINDS[kind]
    assert "step-00000005: step 5" in train(work, run, *flags, "--steps", 5, data=data).stdout
    assert {record["step"] for record in metrics(run)} == set(range(1, 6))
    train(work, run, *flags, "--resume", data=data)
    assert_same_run(run, whole)


@pytest.mark.parametrize("kind", SHARED)
def test_a_batch_in_parts_is_the_batch(work: Path, uninterrupted: Runs, tmp_path: Path, kind: str) -> None:
    """Also in more parts than a canvas has rows."""
    data, flags = KINDS[kind]
    flags = [*flags, *settings("train", accumulation=8, recompute="true")]
    train(work, tmp_path / "run", *flags, "--steps", 4, data=data)
    assert_close(tmp_path / "run", uninterrupted(kind), 4)


@pytest.mark.parametrize("kind", SHARED)
def test_two_processes_train_what_one_trains(
    work: Path, uninterrupted: Runs, tmp_path: Path, kind: str
) -> None:
    """Their checkpoint has its rows in the order of the batch."""
    run, (data, flags) = tmp_path / "run", KINDS[kind]
    for done in together(train_arguments(work, run, *flags, "--steps", 8, data=data), work):
        assert done.returncode == 0, done.stderr
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
