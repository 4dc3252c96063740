"""Made-up tasks, and dataset folders of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arcpipe.augment.build import DataSettings, build_arc
from arcpipe.grid import Grid
from arcpipe.runs import write_json
from arcpipe.task import Pair, Task, challenges_json, solutions_json


def made_up_tasks(count: int, *, seed: int = 0, max_side: int = 5) -> list[Task]:
    """Tasks of random grids: 1 to 4 demonstrations and 1 or 2 tests, all outputs known."""
    rng = np.random.default_rng(seed)

    def grid() -> Grid:
        height, width = rng.integers(1, max_side + 1, 2)
        return rng.integers(0, 10, (height, width), dtype=np.uint8)

    def pairs(most: int) -> tuple[Pair, ...]:
        return tuple(Pair(grid(), grid()) for _ in range(rng.integers(1, most + 1)))

    return [Task(f"{seed}-{number}", pairs(4), pairs(2)) for number in range(count)]


def write_source(folder: Path, name: str, tasks: Sequence[Task], *, solved: bool = True) -> str:
    """A challenges file called `name` as `--source` takes it, beside it the solutions if `solved`."""
    folder.mkdir(exist_ok=True)
    if solved:
        write_json(folder / f"{name}_solutions.json", solutions_json(tasks))
    write_json(folder / f"{name}_challenges.json", challenges_json(tasks))
    return str(folder / f"{name}_challenges.json")


def build(folder: Path, *sources: str, **settings: Any) -> Path:
    """The dataset folder built from sources; small unless the settings say otherwise."""
    small = {"num_aug": 3, "canvas": 0, **settings}
    build_arc(DataSettings(sources=list(sources), **small), folder)
    return folder
