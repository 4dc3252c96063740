"""One puzzle, answered: the same engine and vote as for a whole dataset, with every step on record."""

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
from arcpipe.infer.predict import InferSettings, Job, solve
from arcpipe.infer.puzzle_file import Puzzle
from arcpipe.infer.vote import by_count, rank, read_votes
from arcpipe.puzzleset import PuzzleSet
from arcpipe.puzzletable import PuzzleTable
from arcpipe.rules import is_valid

_LABEL = "this"
_MOST_ROWS = 64


@dataclass(frozen=True, eq=False)
class Step:
    """The answer after a supervision step, None where it held no grid, and its halt probability."""

    number: int
    grid: Grid | None
    halt_probability: float


@dataclass(frozen=True, eq=False)
class Attempt:
    """One of the best grids: how many candidates gave it, and their mean halt probability."""

    grid: Grid
    votes: int
    halt_probability: float


@dataclass(frozen=True, eq=False)
class Solved:
    """What became of one test input.

    attempts: the best first, of a board one and of ARC up to two, none where no candidate held a grid.
    candidates: how many there were. steps: how the answer to the input as it is came about; the last one
    only, unless all were asked for. right: whether an attempt solves it, None where that is not known.
    """

    question: Grid
    attempts: list[Attempt]
    candidates: int
    steps: list[Step]
    right: bool | None


def solve_puzzle(
    checkpoint: Checkpoint, puzzle: Puzzle, *, max_steps: int = 0, max_votes: int = 0, trace: bool = False
) -> list[Solved]:
    """Each test input of a puzzle, answered under the augmentations that the checkpoint knows of its task.

    Args:    max_steps: supervision steps, 0 for as many as in training. max_votes: candidates of each test
             input at most, 0 for all. trace: keep every step.
    Raises:  CheckpointError if the checkpoint was not trained on the task.
    """
    steps = max_steps or checkpoint.config.max_steps
    puzzles = _puzzle_set(checkpoint, puzzle, max_votes)
    items = len(puzzle.inputs) * puzzles.num_puzzles
    settings = InferSettings(
        max_steps=steps, batch_size=min(items, _MOST_ROWS), candidates_at=[*range(1, steps)] if trace else []
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    job = Job(checkpoint, puzzles, settings, _LABEL, np.zeros(0, np.int64))
    table = pa.concat_tables(list(solve(job, device))).sort_by("order")
    return [_solved(puzzles, puzzle, index, table) for index in range(len(puzzle.inputs))]


def _puzzle_set(checkpoint: Checkpoint, puzzle: Puzzle, max_votes: int) -> PuzzleSet:
    """The puzzle as a dataset, under the augmentations of the checkpoint."""
    family, canvas = family_of(checkpoint.family, checkpoint.canvas), checkpoint.canvas
    if family.framed:
        table = _known(checkpoint, puzzle.task, max_votes)
    else:
        table = PuzzleTable.of_groups([puzzle.task], [[IDENTITY]])
    pairs = [(pair.input, pair.output) for pair in puzzle.demonstrations if pair.output is not None]
    examples = np.zeros(len(pairs), np.int32)
    return PuzzleSet(
        family=family,
        canvas=canvas,
        table=table,
        inputs=GridTable.pack([grid for grid, _ in pairs], MAX_SIDE),
        outputs=GridTable.pack([grid for _, grid in pairs], MAX_SIDE),
        example_tasks=examples,
        example_groups=examples,
        test_inputs=GridTable.pack(puzzle.inputs, canvas),
        test_tasks=np.zeros(len(puzzle.inputs), np.int32),
    )


def _known(checkpoint: Checkpoint, task: str, most: int) -> PuzzleTable:
    """The checkpoint's augmentations of an ARC task, the identity first, up to `most` of them; 0 for all.

    Raises:  CheckpointError if it knows none: without rows of the task it can only guess.
    """
    known = checkpoint.puzzles
    if task not in known.task_ids:
        raise CheckpointError(
            f"{checkpoint.path}: was not trained on task {task} and would answer noise: adapt it to the task "
            "with `arcpipe adapt --checkpoint C --challenges FILE`, or train on a dataset that holds it"
        )
    rows = known.of_task(known.task_ids.index(task))
    dihedrals, colors = known.dihedrals[rows], known.colors[rows]
    changed = (dihedrals != 0) | (colors != np.arange(NUM_COLORS)).any(axis=1)
    order = np.argsort(changed, kind="stable")[: most or None]
    return PuzzleTable([task], np.zeros(len(order), np.int32), dihedrals[order], colors[order])


def _solved(puzzles: PuzzleSet, puzzle: Puzzle, index: int, table: pa.Table) -> Solved:
    """From all candidates what became of one test input."""
    mine = table.filter(pc.equal(table["test_index"], index))
    final = mine.filter(pc.equal(mine["steps"], pc.max(mine["steps"])))
    votes = read_votes([final], {puzzle.task: len(puzzle.inputs)})
    ranking, count = rank(votes, by_count), votes.count()
    halt = votes.total(votes.halt) / count.clip(min=1)
    best = ranking.entries[ranking.places < (2 if puzzles.family.framed else 1)]
    attempts = [Attempt(votes.grid(entry), int(count[entry]), float(halt[entry])) for entry in best]
    # The first item of a test input is the input as it is.
    first = mine.slice(0, len(pc.unique(mine["steps"]))).to_pylist()
    return Solved(
        question=puzzle.inputs[index],
        attempts=attempts,
        candidates=len(final),
        steps=[Step(row["steps"], _grid(row), row["halt_probability"]) for row in first],
        right=_is_right(puzzles.family.name, puzzle, index, attempts),
    )


def _grid(row: dict[str, Any]) -> Grid | None:
    if not row["height"]:
        return None
    return np.frombuffer(row["cells"], np.uint8).reshape(row["height"], row["width"])


def _is_right(family: str, puzzle: Puzzle, index: int, attempts: list[Attempt]) -> bool | None:
    """Whether an attempt follows the rules, or of ARC is the output that the file tells."""
    output = puzzle.outputs[index]
    if family != "arc":
        return bool(is_valid(family, puzzle.inputs[index][None], attempts[0].grid[None])[0])
    return None if output is None else any(np.array_equal(attempt.grid, output) for attempt in attempts)
