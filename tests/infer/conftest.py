"""Small datasets of each family and one checkpoint, for tests that do not change them."""

from pathlib import Path

import numpy as np
import pytest

from arcpipe.augment.maze import MazeSettings, build_maze
from arcpipe.augment.sudoku import SudokuSettings, build_sudoku
from arcpipe.grid import Grid
from arcpipe.puzzleset import PuzzleSet, read_puzzle_set
from arcpipe.runs import read_manifest
from arcpipe.task import Pair, Task
from inference import save
from puzzles import build, write_source


@pytest.fixture(scope="session")
def tasks() -> list[Task]:
    """Tasks with one, two and three test inputs of different shapes, their outputs the same grids."""
    rng = np.random.default_rng(0)

    def grid(height: int, width: int) -> Grid:
        return rng.integers(0, 10, (height, width), dtype=np.uint8)

    return [
        Task(
            f"task{len(shapes)}",
            demonstrations=(Pair(grid(2, 3), grid(3, 2)), Pair(grid(1, 4), grid(2, 2))),
            tests=tuple(Pair(cells, cells) for cells in (grid(*shape) for shape in shapes)),
        )
        for shapes in ([(3, 2)], [(1, 5), (4, 4)], [(6, 1), (2, 3), (1, 1)])
    ]


@pytest.fixture(scope="session")
def arc_dir(tasks: list[Task], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder of the tasks, each under eight puzzles."""
    folder = tmp_path_factory.mktemp("arc")
    return build(folder / "data", write_source(folder, "small", tasks), canvas=6, num_aug=7)


@pytest.fixture(scope="session")
def arc(arc_dir: Path) -> PuzzleSet:
    return read_puzzle_set(arc_dir)


@pytest.fixture(scope="session")
def sudoku_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder with five Sudokus of side 4 to solve."""
    folder = tmp_path_factory.mktemp("sudoku") / "data"
    build_sudoku(SudokuSettings(generate=3, test=5, side=4, num_aug=2, seed=1), folder)
    return folder


@pytest.fixture(scope="session")
def maze_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder with four mazes of side 7 to solve."""
    folder = tmp_path_factory.mktemp("maze") / "data"
    build_maze(MazeSettings(generate=3, test=4, size=7, min_path=6, num_aug=7, seed=1), folder)
    return folder


@pytest.fixture(scope="session")
def trained(arc_dir: Path, arc: PuzzleSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose manifest names the dataset of `arc_dir`."""
    fingerprint = read_manifest(arc_dir, "dataset")["fingerprint"]
    dataset = {"path": str(arc_dir), "fingerprint": fingerprint}
    return save(tmp_path_factory.mktemp("trained") / "checkpoint", arc, dataset=dataset)
