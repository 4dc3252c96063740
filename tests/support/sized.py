"""ARC tasks of chosen sizes, and a dataset of them, for canvases smaller than the whole."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from arcpipe.grid import Grid
from arcpipe.task import Pair, Task
from puzzles import build, write_source

CANVAS, BUCKETS = 8, [4, 6]
# In a bucket, EOS needs a row and a column: half of the tasks are on 4, a quarter each on 6 and on 8.
SIDES = (2, 5, 3, 8, 1, 3, 4, 7)
# With it no test input is a demonstration of another task, turned or recolored: all demonstrations train.
SEED = 1577


def sized_tasks(sides: Sequence[int] = SIDES, seed: int = SEED) -> list[Task]:
    """A task for each side: three demonstrations and two tests, each output of its input's shape; the first
    demonstration is of that side, the other grids are no larger."""
    rng = np.random.default_rng(seed)

    def grid(height: int, width: int) -> Grid:
        return rng.integers(0, 10, (height, width), dtype=np.uint8)

    def pair(height: int, width: int) -> Pair:
        return Pair(grid(height, width), grid(height, width))

    def some(side: int) -> Pair:
        return pair(*(int(length) for length in rng.integers(1, side + 1, 2)))

    return [
        Task(f"of{side}-{number}", (pair(1, side), some(side), some(side)), (some(side), some(side)))
        for number, side in enumerate(sides)
    ]


def sized_data(folder: Path, tasks: Sequence[Task] | None = None) -> Path:
    """A dataset folder of such tasks, each under four puzzles, with their challenges and solutions beside."""
    source = write_source(folder, "sized", sized_tasks() if tasks is None else tasks)
    return build(folder / "data", source, canvas=CANVAS)
