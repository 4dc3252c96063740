"""Made-up tasks, and dataset folders of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arcpipe.augment.build import build_arc
from arcpipe.augment.settings import DataSettings
from arcpipe.augment.unique import Augmentations, likeness
from arcpipe.augmentation import Augmentation
from arcpipe.codec import GridTable
from arcpipe.grid import Grid, as_grid
from arcpipe.puzzleset import PuzzleSet
from arcpipe.runs import write_json
from arcpipe.task import Pair, Task, challenges_json, solutions_json
from strategies import plain_task


def made_up_tasks(count: int, *, seed: int = 0, max_side: int = 5) -> list[Task]:
    """Tasks of random grids: 1 to 4 demonstrations and 1 or 2 tests, all outputs known.

    No augmentation makes one input of another: all demonstrations train.
    """
    rng, seen = np.random.default_rng(seed), set[int]()

    def random_grid() -> Grid:
        height, width = rng.integers(1, max_side + 1, 2)
        return rng.integers(0, 10, (height, width), dtype=np.uint8)

    def random_input() -> Grid:
        made = random_grid()
        while (form := likeness([made]).item()) in seen:
            made = random_grid()
        seen.add(form)
        return made

    def pairs(most: int) -> tuple[Pair, ...]:
        return tuple(Pair(random_input(), random_grid()) for _ in range(rng.integers(1, most + 1)))

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


def grid(*rows: str) -> Grid:
    """The grid of these rows of digits."""
    return as_grid([[int(cell) for cell in row] for row in rows], "grid")


def task(task_id: str, *pairs: tuple[Grid, Grid], tests: tuple[Pair, ...]) -> Task:
    """A task of these demonstrations."""
    return Task(task_id, tuple(Pair(*pair) for pair in pairs), tests)


# A pattern of cells found in no other grid here; longer than any random one could repeat.
SECRET = grid("714928", "365077", "991384")


def unpacked(table: GridTable) -> list[Any]:
    """The grids of a table as lists of rows."""
    return [table.grid(index).tolist() for index in range(len(table))]


def as_list(augmentations: Augmentations) -> list[Augmentation]:
    """Augmentations one by one."""
    return [
        Augmentation(int(dihedral), tuple(colors.tolist()))
        for dihedral, colors in zip(*augmentations, strict=True)
    ]


def training_pairs(puzzles: PuzzleSet) -> list[tuple[str, Any, Any]]:
    """The training examples: task id, input, output."""
    names = [puzzles.table.task_ids[number] for number in puzzles.example_tasks]
    return list(zip(names, unpacked(puzzles.inputs), unpacked(puzzles.outputs), strict=True))


def demonstrations(tasks: list[Task]) -> list[tuple[str, Any, Any]]:
    """The demonstrations as `training_pairs` gives them."""
    return [(task.id, *pair) for task in tasks for pair in plain_task(task)["train"]]


def solved_tests(tasks: list[Task]) -> list[tuple[str, Any, Any]]:
    """The tests as `training_pairs` gives them."""
    return [(task.id, *pair) for task in tasks for pair in plain_task(task)["test"]]


def files_holding(folder: Path, cells: bytes) -> set[str]:
    """The files under a dataset folder that hold these cells, as bytes or as JSON."""
    text = str(list(cells)).replace(" ", "").strip("[]").encode()
    found = set()
    for path in folder.rglob("*"):
        if path.is_file():
            held = path.read_bytes()
            if cells in held or text in held.replace(b"[", b"").replace(b"]", b""):
                found.add(path.relative_to(folder).parts[0])
    return found


# ARC tasks of chosen sizes, and a dataset of them, for canvases smaller than the whole.
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
