"""ARC tasks of chosen sizes, and a dataset of them, for canvases smaller than the whole."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from arcpipe.augment.split import canonical
from arcpipe.grid import Grid
from arcpipe.task import Pair, Task
from puzzles import build, write_source

CANVAS, BUCKETS = 8, [4, 6]
# In a bucket, EOS needs a row and a column: half of the tasks are on 4, a quarter each on 6 and on 8.
SIDES = (2, 5, 3, 8, 1, 3, 4, 7)


def sized_tasks(sides: Sequence[int] = SIDES, seed: int = 0) -> list[Task]:
    """A task for each side: three demonstrations and two tests, each output of its input's shape; the first
    demonstration is of that side, the other grids are no larger."""
    rng = np.random.default_rng(seed)

    def grid(height: int, width: int) -> Grid:
        return rng.integers(0, 10, (height, width), dtype=np.uint8)

    def pair(height: int, width: int) -> Pair:
        return Pair(grid(height, width), grid(height, width))

    def some(side: int) -> Pair:
        return pair(*(int(length) for length in rng.integers(min(2, side), side + 1, 2)))

    shown = [(pair(1, side), some(side), some(side)) for side in sides]
    inputs = [
        canonical([one.input]) for demonstrations in shown for one in demonstrations if one.input.size > 1
    ]

    def asked(side: int) -> Pair:
        """A test whose input is no demonstration of another task, which then would not train."""
        return next(one for one in iter(lambda: some(side), None) if canonical([one.input]) not in inputs)

    return [
        Task(f"of{side}-{number}", demonstrations, (asked(side), asked(side)))
        for number, (side, demonstrations) in enumerate(zip(sides, shown, strict=True))
    ]


def sized_data(folder: Path, tasks: Sequence[Task] | None = None) -> Path:
    """A dataset folder of such tasks, each under four puzzles, with their challenges and solutions beside."""
    source = write_source(folder, "sized", sized_tasks() if tasks is None else tasks)
    return build(folder / "data", source, canvas=CANVAS)
