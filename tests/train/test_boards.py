"""Sudokus and mazes train as ARC tasks do."""

from pathlib import Path

import pytest

from arcpipe.checkpoint import read_best
from commands import run_here
from training import assert_same_run, metrics, refused, settings, train

MADE = {
    "sudoku": ("--generate", 8, "--side", 4, "--test", 4, "--num-aug", "inf"),
    "maze": ("--generate", 8, "--size", 5, "--min-path", 3, "--test", 4, "--num-aug", 7),
}


@pytest.fixture(scope="module", params=MADE)
def boards(request: pytest.FixtureRequest, work: Path) -> str:
    """A dataset folder of boards with four to answer, by its name in `work`."""
    name = f"{request.param}-boards"
    done = run_here("augment", request.param, *MADE[request.param], "--out", work / name)
    assert done.returncode == 0, done.stderr
    return name


def test_two_parts_are_one_training(work: Path, boards: str, tmp_path: Path) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    flags = settings("eval", every=4)
    train(work, whole, *flags, data=boards)
    train(work, run, *flags, "--steps", 8, data=boards)
    train(work, run, *flags, "--resume", data=boards)
    assert_same_run(run, whole)
    found = [record for record in metrics(run) if "eval/exact_accuracy" in record]
    assert [record["step"] for record in found] == [4, 8, 12]
    for record in found:
        assert 0 <= record["eval/exact_accuracy"] <= record["eval/cell_accuracy"] <= 1
        assert record["eval/exact_accuracy"] <= record["eval/valid"] <= 1
    best = read_best(run)
    assert best is not None
    assert best["metric"] == "exact_accuracy"


def test_the_best_is_by_the_score_that_is_asked_for(work: Path, boards: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(work, run, *settings("eval", every=2, metric="cell_accuracy"), data=boards)
    values = [record["eval/cell_accuracy"] for record in metrics(run) if "eval/cell_accuracy" in record]
    best = read_best(run)
    assert best is not None
    assert best["value"] == max(values)
    assert best["step"] == 2 * max(number for number, value in enumerate(values, 1) if value == max(values))


def test_scores_of_arc_are_none_of_boards(work: Path, boards: str, tmp_path: Path) -> None:
    said = refused(work, tmp_path / "run", *settings("eval", every=2, metric="pass@2"), data=boards)
    assert said.endswith("is none of these puzzles' scores: exact_accuracy, cell_accuracy, valid")
