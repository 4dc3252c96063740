"""Impossible trainings: one line, exit code 2, and no run folder; a dry run refuses the same."""

from importlib import util
from pathlib import Path

import pytest

from arcpipe.augment.sudoku import SudokuSettings, build_sudoku
from puzzles import BUCKETS, build, made_up_tasks, write_source
from training import TASK, refused, settings, train

# The flags and the message.
CASES = {
    "a seed beyond 32 bits": (["--seed", 2**32], "train.seed"),
    "a batch too large": (settings("train", batch_size=10**12), "batch_size: input should be less than or e"),
    "a network too large": (
        settings("model", hidden_size=2**16, expansion=1000),
        "out of memory with train.batch_size=16: lower it or the sizes in [model]",
    ),
    "parts that do not divide": (
        settings("train", accumulation=3),
        "train.batch_size 16 does not divide by 1 processes x train.accumulation 3",
    ),
    "rows alone without rows": (
        [*settings("train", rows_only=0.5), *settings("model", puzzle_size=0, puzzle_tokens=0)],
        "train.rows_only: the model has no puzzle rows",
    ),
    "rows on the host without rows": (
        [*settings("train", puzzle_memory="host"), *settings("model", puzzle_size=0, puzzle_tokens=0)],
        "train.puzzle_memory = host is for rows that learn by sign-SGD",
    ),
    "rows of tasks in bfloat16": (
        [*TASK, *settings("train", puzzle_precision="bfloat16")],
        "train.puzzle_precision = bfloat16 is for rows that learn by sign-SGD",
    ),
    "a curriculum that falls": (
        settings("train", curriculum="[[0.6, 1, 2], [0.5, 2, 2]]"), "of the training, [0.6, 0.5], should rise"
    ),
    "a curriculum without a cycle": (
        settings("train", curriculum="[[0.5, 0, 2]]"), "train.curriculum.0.1: input should be greater than 0"
    ),
    "no score of ARC": (
        settings("eval", every=4, metric="exact_accuracy"),
        "'exact_accuracy' is none of these puzzles' scores: pass@1, pass@2, oracle",
    ),
    "a flow without the model of one": (
        settings("train", objective="flow"), "train.objective = flow is for a model with flow"
    ),
    "the model of a flow without one": (
        settings("model", flow="true"), "train.objective = recursion is for a model without flow"
    ),
    "tasks without colors drawn afresh": (TASK, "build it with --num-aug inf"),
    "no tracker of Accelerate": (
        settings("train", trackers='["tensorbored"]'),
        "train.trackers: 'tensorbored' is none of Accelerate's: ",
    ),
    "a tracker that is not installed": (
        settings("train", trackers='["aim"]'), "train.trackers: aim is not installed (pip install aim)"
    ),
    "buckets of an MLP": (
        settings("model", buckets=BUCKETS, mixer="mlp"), "[model]: buckets are for mixer attention"
    ),
}  # fmt: skip
OF_DATA = {
    "no dataset": ("nowhere", [], "no such folder"),
    "colors drawn afresh without tasks": ("fresh", [], "build it with --num-aug N"),
    "no score of boards": (
        "maze", settings("eval", every=2, metric="pass@2"),
        "is none of these puzzles' scores: exact_accuracy, cell_accuracy, valid",
    ),
    "buckets as large as the canvas": (
        "sized/data", settings("model", buckets=[4, 8, 10]),
        "model.buckets [4, 8, 10] must all be smaller than the dataset's canvas of 8: leave out the others "
        "by --set 'model.buckets=[4]'",
    ),
    "no smaller bucket": ("sized/data", settings("model", buckets=[10]), "by --set 'model.buckets=[]'"),
    "boards in buckets": (
        "sudoku", settings("model", buckets=[3]),
        "model.buckets are for ARC tasks: every sudoku fills its canvas: leave them out by --set 'mo",
    ),
}  # fmt: skip
ALL = {name: ("data", *case) for name, case in CASES.items()} | OF_DATA


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_no_run_is_made(work: Path, tmp_path: Path, name: str, more: tuple[str, ...]) -> None:
    data, flags, said = ALL[name]
    if "not installed" in name and util.find_spec("aim"):
        pytest.skip("aim is installed")
    assert said in refused(work, tmp_path / "run", *flags, *more, data=data)
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_without_solutions_or_tests_cannot_be_evaluated(work: Path, tmp_path: Path) -> None:
    build_sudoku(SudokuSettings(generate=2, side=4), tmp_path / "untested")
    said = refused(work, tmp_path / "run", *settings("eval", every=4), data=str(tmp_path / "untested"))
    assert "untested: it has no tests, so there is no evaluation: " in said
    assert said.endswith("or train without by --set eval.every=0")
    source = write_source(tmp_path, "tasks", made_up_tasks(2, max_side=3), solved=False)
    data = build(tmp_path / "data", source)
    said = refused(work, tmp_path / "run", *settings("eval", every=4), data=str(data))
    assert f"{data}: the outputs of its test inputs are not known" in said
    assert not (tmp_path / "run").exists()
    train(work, tmp_path / "run", "--steps", 1, data=str(data))


def test_a_name_that_is_too_long(work: Path, tmp_path: Path) -> None:
    assert "cannot be written (File name too long)" in refused(work, tmp_path / ("a" * 300))
    assert "cannot be read (File name too long)" in refused(work, tmp_path / "run", data="a" * 300)
