"""Solving one puzzle, with the engine and the vote of whole datasets, and each step on record."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from arcpipe.augmentation import IDENTITY
from arcpipe.checkpoint import Checkpoint
from arcpipe.codec import GridTable, family_of
from arcpipe.errors import CheckpointError
from arcpipe.grid import MAX_SIDE, NUM_COLORS, Grid
from arcpipe.infer.predict import InferSettings, predict
from arcpipe.infer.vote import by_count, rank, read_votes
from arcpipe.puzzleset import PuzzleSet, is_valid
from arcpipe.puzzletable import PuzzleTable
from arcpipe.task import Pair, Task

_MOST_ROWS = 64


@dataclass(frozen=True, eq=False)
class Step:
    """The answer after a supervision step.

    number: of the step, from 1.
    grid: None where the answer held none.
    halt_probability: of the step.
    """

    number: int
    grid: Grid | None
    halt_probability: float


@dataclass(frozen=True, eq=False)
class Attempt:
    """One of the best grids.

    grid: the grid.
    votes: how many candidates are this grid.
    halt_probability: their mean.
    """

    grid: Grid
    votes: int
    halt_probability: float


@dataclass(frozen=True, eq=False)
class Solved:
    """The result for one test input.

    question: the test input.
    attempts: the best first; up to two of ARC, one of a Sudoku or maze; none if no candidate held a grid.
    candidates: how many there were.
    steps: the steps of the candidate without augmentation; only the last one without a trace.
    right: whether an attempt solves it, None where that is not known.
    """

    question: Grid
    attempts: list[Attempt]
    candidates: int
    steps: list[Step]
    right: bool | None


def solve_puzzle(
    checkpoint: Checkpoint, task: Task, *, max_steps: int = 0, max_votes: int = 0, trace: bool = False
) -> list[Solved]:
    """Solve each test input of a task under the augmentations of it that the checkpoint knows.

    Args:    task: as `read_puzzle` gives it.
             max_steps: supervision steps, 0 for as many as in training.
             max_votes: the most candidates of each test input, 0 for all.
             trace: keep every step.
    Raises:  CheckpointError if the checkpoint was not trained on the task.
    """
    steps = max_steps or checkpoint.config.max_steps
    puzzles = _puzzle_set(checkpoint, task, max_votes)
    items = len(task.tests) * puzzles.num_puzzles
    settings = InferSettings(
        max_steps=steps, batch_size=min(items, _MOST_ROWS), candidates_at=[*range(1, steps)] if trace else []
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    table = pa.concat_tables(list(predict(checkpoint, puzzles, settings, device))).sort_by("order")
    return [
        _solved(puzzles, pair, table.filter(pc.equal(table["test_index"], index)))
        for index, pair in enumerate(task.tests)
    ]


def _puzzle_set(checkpoint: Checkpoint, task: Task, max_votes: int) -> PuzzleSet:
    """Return the task as a dataset, under the augmentations of the checkpoint."""
    family, canvas = family_of(checkpoint.family, checkpoint.canvas), checkpoint.canvas
    if family.with_eos:
        table = _augmentations(checkpoint, task.id, max_votes)
    else:
        table = PuzzleTable.of_groups([task.id], [[IDENTITY]])
    pairs = [(pair.input, pair.output) for pair in task.demonstrations if pair.output is not None]
    examples = np.zeros(len(pairs), np.int32)
    return PuzzleSet(
        family=family,
        canvas=canvas,
        table=table,
        inputs=GridTable.pack([grid for grid, _ in pairs], MAX_SIDE),
        outputs=GridTable.pack([grid for _, grid in pairs], MAX_SIDE),
        example_tasks=examples,
        example_groups=examples,
        test_inputs=GridTable.pack([pair.input for pair in task.tests], canvas),
        test_tasks=np.zeros(len(task.tests), np.int32),
    )


def _augmentations(checkpoint: Checkpoint, task: str, most: int) -> PuzzleTable:
    """Return the checkpoint's augmentations of an ARC task, the identity first; `most` of them, 0 for all.

    Raises:  CheckpointError if it knows none: without embeddings of the task it can only guess.
    """
    puzzles = checkpoint.puzzles
    if task not in puzzles.task_ids:
        raise CheckpointError(
            f"{checkpoint.path}: was not trained on task {task} and would answer noise: adapt it to the task "
            "with `arcpipe adapt --checkpoint C --challenges FILE`, or train on a dataset that holds it"
        )
    rows = puzzles.of_task(puzzles.task_ids.index(task))
    dihedrals, colors = puzzles.dihedrals[rows], puzzles.colors[rows]
    changed = (dihedrals != 0) | (colors != np.arange(NUM_COLORS)).any(axis=1)
    order = np.argsort(changed, kind="stable")[: most or None]
    return PuzzleTable([task], np.zeros(len(order), np.int32), dihedrals[order], colors[order])


def _solved(puzzles: PuzzleSet, pair: Pair, candidates: pa.Table) -> Solved:
    """Return the result for one test input, from its candidates."""
    family, steps = puzzles.family, candidates["steps"]
    final = candidates.filter(pc.equal(steps, pc.max(steps)))
    votes = read_votes([final], {puzzles.table.task_ids[0]: len(puzzles.test_tasks)})
    ranking, (count, halt) = rank(votes), by_count(votes)
    best = ranking.entries[ranking.places < (2 if family.with_eos else 1)]
    attempts = [Attempt(votes.grid(entry), int(count[entry]), float(halt[entry])) for entry in best]
    right = None
    if not family.with_eos:
        right = bool(is_valid(family.name, pair.input[None], attempts[0].grid[None])[0])
    elif pair.output is not None:
        right = any(np.array_equal(attempt.grid, pair.output) for attempt in attempts)
    # The first item of a test input is the input as it is.
    first = candidates.slice(0, len(pc.unique(steps))).to_pylist()
    return Solved(
        question=pair.input,
        attempts=attempts,
        candidates=len(final),
        steps=[Step(row["steps"], _grid(row), row["halt_probability"]) for row in first],
        right=right,
    )


def _grid(row: dict[str, Any]) -> Grid | None:
    if not row["height"]:
        return None
    return np.frombuffer(row["cells"], np.uint8).reshape(row["height"], row["width"])
