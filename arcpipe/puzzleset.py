"""PuzzleSet: a dataset folder of base examples and a table of puzzles (task, augmentation).

    examples/        Arrow: task, test (bool), input and output as rows of cells; tests have no output
    puzzles/         Arrow: task, dihedral, colors; the row number is the puzzle id
    challenges.json  the tasks to predict, in Kaggle's form
    solutions.json   their test outputs where the sources have them; only scoring reads it
    manifest.json    family, canvas, task ids, provenance

Augmented grids are never stored: they are computed while batching.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray

from arcpipe.augmentation import Augmentation
from arcpipe.errors import DataError, one_line
from arcpipe.grid import Grid
from arcpipe.runs import new_folder, read_manifest, write_json
from arcpipe.task import Pair, Task, challenges_json, solutions_json

_GRID = datasets.List(datasets.List(datasets.Value("uint8")))
_EXAMPLES = datasets.Features(
    {"task": datasets.Value("int32"), "test": datasets.Value("bool"), "input": _GRID, "output": _GRID}
)
_PUZZLES = datasets.Features(
    {
        "task": datasets.Value("int32"),
        "dihedral": datasets.Value("uint8"),
        "colors": datasets.List(datasets.Value("uint8"), length=10),
    }
)


@dataclass(frozen=True)
class GridTable:
    """N grids of different shapes in one array: cells (N, M, M) uint8, top left; shapes (N, 2)."""

    cells: NDArray[np.uint8]
    shapes: NDArray[np.int16]

    @classmethod
    def pack(cls, grids: Sequence[Grid], side: int) -> "GridTable":
        """The grids as one table; none may be larger than `side`."""
        cells = np.zeros((len(grids), side, side), np.uint8)
        for index, grid in enumerate(grids):
            cells[index, : grid.shape[0], : grid.shape[1]] = grid
        return cls(cells, np.array([grid.shape for grid in grids], np.int16).reshape(-1, 2))


@dataclass(frozen=True)
class PuzzleSet:
    """A dataset folder in memory: the base examples once, and the table of puzzles.

    canvas: side of the square canvas. task_ids: the names of the tasks, which all else counts.
    inputs, outputs, example_tasks: the E training examples and the task (E,) of each.
    test_inputs, test_tasks, test_indices: the test inputs to predict: grid, task, number in its task.
    puzzle_tasks, dihedrals, colors: the P puzzles: (P,), (P,), (P, 10); those of a task are adjacent,
    its identity first.
    """

    canvas: int
    task_ids: list[str]
    inputs: GridTable
    outputs: GridTable
    example_tasks: NDArray[np.int32]
    test_inputs: GridTable
    test_tasks: NDArray[np.int32]
    test_indices: NDArray[np.int32]
    puzzle_tasks: NDArray[np.int32]
    dihedrals: NDArray[np.uint8]
    colors: NDArray[np.uint8]

    @property
    def num_puzzles(self) -> int:
        """P, the number of rows of a puzzle-embedding table."""
        return len(self.puzzle_tasks)

    @property
    def num_tokens(self) -> int:
        """L, the length of a token sequence."""
        return self.canvas * self.canvas

    def augmentation(self, puzzle_id: int) -> Augmentation:
        """The augmentation of a puzzle."""
        colors = tuple(int(color) for color in self.colors[puzzle_id])
        return Augmentation(int(self.dihedrals[puzzle_id]), colors)

    def fingerprint(self) -> str:
        """A SHA-256 of all that training and inference see, and of nothing else."""
        digest = hashlib.sha256(f"{self.canvas} {' '.join(self.task_ids)}".encode())
        for table in (self.inputs, self.outputs, self.test_inputs):
            digest.update(table.shapes.tobytes() + table.cells.tobytes())
        for column in (self.example_tasks, self.test_tasks, self.puzzle_tasks, self.dihedrals, self.colors):
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()

    def puzzles_of(self, task: int) -> NDArray[np.intp]:
        """The puzzle ids of a task, identity first."""
        return np.flatnonzero(self.puzzle_tasks == task)


def write_puzzle_set(
    path: Path,
    tasks: Sequence[Task],
    targets: Sequence[Task],
    augmentations: Sequence[Sequence[Augmentation]],
    manifest: dict[str, Any],
) -> None:
    """Write a dataset folder, whole or not at all.

    Args:    tasks: every task; demonstrations train, test pairs train where their output is given.
             targets: the tasks to predict; their outputs go to solutions.json only.
             augmentations: per task, identity first.
             manifest: from `make_manifest("dataset", canvas=..., ...)`.
    Raises:  OutputError if the folder exists or cannot be written.
    """
    numbers = {task.id: number for number, task in enumerate(tasks)}
    examples = [
        _example(number, pair, test=False)
        for number, task in enumerate(tasks)
        for pair in (*task.demonstrations, *(pair for pair in task.tests if pair.output is not None))
    ]
    examples += [_example(numbers[task.id], pair, test=True) for task in targets for pair in task.tests]
    puzzles = [
        {"task": number, "dihedral": augmentation.dihedral, "colors": list(augmentation.colors)}
        for number, group in enumerate(augmentations)
        for augmentation in group
    ]
    manifest = manifest | {"task_ids": [task.id for task in tasks]}
    with new_folder(path, manifest) as folder:
        datasets.disable_progress_bars()
        datasets.Dataset.from_list(examples, features=_EXAMPLES).save_to_disk(folder / "examples")
        datasets.Dataset.from_list(puzzles, features=_PUZZLES).save_to_disk(folder / "puzzles")
        write_json(folder / "challenges.json", challenges_json(targets), indent=False)
        if all(pair.output is not None for task in targets for pair in task.tests):
            write_json(folder / "solutions.json", solutions_json(targets), indent=False)
        manifest["fingerprint"] = _load(folder, manifest).fingerprint()


def _example(task: int, pair: Pair, *, test: bool) -> dict[str, Any]:
    output = [] if test or pair.output is None else pair.output.tolist()
    return {"task": task, "test": test, "input": pair.input.tolist(), "output": output}


def read_puzzle_set(folder: Path) -> PuzzleSet:
    """The PuzzleSet of a dataset folder.

    Raises:  DataError if there is none or a part of it is missing, damaged or not what was built.
    """
    manifest = read_manifest(folder, "dataset")
    try:
        puzzles = _load(folder, manifest)
        sound = puzzles.fingerprint() == manifest["fingerprint"]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise DataError(f"{folder}: damaged dataset folder ({one_line(error)}); build it again") from None
    if not sound:
        raise DataError(f"{folder}: its tables are not those that were built; build it again")
    return puzzles


def _load(folder: Path, manifest: dict[str, Any]) -> PuzzleSet:
    examples = datasets.load_from_disk(folder / "examples").with_format("arrow")[:]
    puzzles = datasets.load_from_disk(folder / "puzzles").with_format("numpy")[:]
    canvas = int(manifest["canvas"])
    test = examples["test"].to_numpy()
    task = examples["task"].to_numpy()
    grids = {
        name: [np.array(rows, np.uint8) for rows in examples[name].to_pylist()]
        for name in ("input", "output")
    }

    def table(name: str, chosen: NDArray[np.bool_]) -> GridTable:
        return GridTable.pack([grids[name][i] for i in np.flatnonzero(chosen)], canvas)

    test_tasks = task[test]
    return PuzzleSet(
        canvas=canvas,
        task_ids=manifest["task_ids"],
        inputs=table("input", ~test),
        outputs=table("output", ~test),
        example_tasks=task[~test],
        test_inputs=table("input", test),
        test_tasks=test_tasks,
        test_indices=np.array([np.sum(test_tasks[:i] == t) for i, t in enumerate(test_tasks)], np.int32),
        puzzle_tasks=puzzles["task"].astype(np.int32),
        dihedrals=puzzles["dihedral"].astype(np.uint8),
        colors=puzzles["colors"].astype(np.uint8),
    )
