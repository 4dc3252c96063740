"""The probe: whether the puzzle rows of a checkpoint are those of its puzzles, asked of the network itself.

A trained network knows its demonstrations by heart, but only under the right rows.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from arcpipe.augmentation import PuzzleTable
from arcpipe.buckets import needed_sides
from arcpipe.checkpoint import Checkpoint
from arcpipe.codec import GridTable
from arcpipe.errors import CheckpointError, DataError
from arcpipe.infer.predict import InferSettings, predict
from arcpipe.infer.vote import rank, read_votes, right_entries, solved_tests
from arcpipe.puzzleset import PuzzleSet, Variants

_PROBES = 64
_PARTS = 4
# What is known by heart is answered in the first steps; all of them would take an hour on a CPU.
_STEPS = 4
_LEAST = 0.25
# In deviations of what chance does to rows that are as wrong as the ones beside them.
_LEAST_LEAD = 3.0


@dataclass(frozen=True)
class Proof:
    """How many demonstrations a network answers exactly.

    asked: how many were asked, each under another part of the table.
    right: answers that are right.
    shifted: right answers with each puzzle's next row; None for a table of one row, or of none.
    gained, lost: demonstrations that are right with their row alone, and with the next one alone.
    parts: those of `right` in each quarter of the table, in order: a wrong draw puts all later rows wrong.
    """

    asked: int
    right: int
    shifted: int | None
    gained: int
    lost: int
    parts: tuple[int, ...]

    @property
    def holds(self) -> bool:
        """Return whether the rows are right beyond chance, in every part of the table.

        One row cannot be taken for another.
        """
        if self.shifted is None:
            return True
        known = min(self.parts) * len(self.parts) >= _LEAST * self.asked
        return known and self.gained - self.lost >= _LEAST_LEAD * (self.gained + self.lost) ** 0.5 > 0

    @property
    def text(self) -> str:
        """Return both figures in words."""
        parts = ", ".join(f"{part}" for part in self.parts)
        beside = "" if self.shifted is None else f", with the next rows {self.shifted / self.asked:.0%}"
        return (
            f"of {self.asked} demonstrations {self.right / self.asked:.0%} are answered exactly{beside}; "
            f"by quarters of the table {parts} of {self.asked // len(self.parts)}"
        )


def probe(checkpoint: Checkpoint, puzzles: PuzzleSet, seed: int = 0) -> Proof:
    """Ask a checkpoint for demonstrations of a dataset, with the rows of their puzzles and the next ones.

    Args:    puzzles: its tasks and their training examples count, not its table.
             seed: of which puzzles and demonstrations are asked.
    Raises:  CheckpointError if family or canvas differ, or it knows none of the tasks; DataError if the
             dataset has no examples of them.
    """
    if checkpoint.config.puzzle_size and not len(checkpoint.puzzles):
        raise CheckpointError(f"{checkpoint.path}: has no puzzle rows, so there is nothing to prove")
    rows, examples = _draw(checkpoint, puzzles, seed)
    right = _answered(checkpoint, puzzles, rows, rows, examples)
    shifted, beside = None, right
    if checkpoint.config.puzzle_size and len(checkpoint.puzzles) > 1:
        beside = _answered(checkpoint, puzzles, rows, (rows + 1) % len(checkpoint.puzzles), examples)
        shifted = int(beside.sum())
    return Proof(
        asked=len(rows),
        right=int(right.sum()),
        shifted=shifted,
        gained=int((right & ~beside).sum()),
        lost=int((beside & ~right).sum()),
        parts=tuple(int(part.sum()) for part in np.split(right, _PARTS)),
    )


def _draw(checkpoint: Checkpoint, puzzles: PuzzleSet, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Draw one row (N,) of each of N equal parts of the table, and an example (N,) of its task."""
    of_task = {name: number for number, name in enumerate(puzzles.table.task_ids)}
    numbers = np.array([of_task.get(name, -1) for name in checkpoint.puzzles.task_ids], np.intp)
    with_examples = np.isin(numbers, puzzles.example_tasks)
    if not with_examples.any():
        raise DataError(
            f"{checkpoint.path}: knows none of the tasks that the dataset has demonstrations of, so they "
            "prove nothing"
        )
    eligible = np.flatnonzero(with_examples[checkpoint.puzzles.tasks])
    rng = np.random.default_rng(seed)
    rows = eligible[((np.arange(_PROBES) + rng.random(_PROBES)) * len(eligible) / _PROBES).astype(np.intp)]
    tasks = numbers[checkpoint.puzzles.tasks[rows]]
    examples = [rng.choice(np.flatnonzero(puzzles.example_tasks == task)) for task in tasks]
    return rows, np.array(examples, np.intp)


def _answered(
    checkpoint: Checkpoint, puzzles: PuzzleSet, asked: NDArray[np.intp], told: NDArray[np.intp],
    examples: NDArray[np.intp],
) -> NDArray[np.bool_]:  # fmt: skip
    """Return which examples (N,) are answered exactly.

    Args:  asked: (N,) the puzzles under which they are asked.
           told: (N,) the rows that the network is told of.
    """
    config, table = checkpoint.config, checkpoint.puzzles
    count = len(examples)
    # Each one a task of its own, under the one augmentation.
    own = PuzzleTable(
        [f"{number}" for number in range(count)],
        np.arange(count, dtype=np.int32),
        table.dihedrals[asked],
        table.colors[asked],
    )
    colors = checkpoint.colors[table.tasks[told]] if len(checkpoint.colors) else checkpoint.colors
    questions = replace(
        puzzles,
        table=own,
        test_inputs=GridTable(puzzles.inputs.cells[examples], puzzles.inputs.shapes[examples]),
        test_tasks=own.tasks,
        variants=Variants(None, 0) if config.embedding == "task" else None,
    )
    told_of = replace(checkpoint, rows=checkpoint.rows[told], puzzles=own, colors=colors)
    steps = 0 if config.flow else min(_STEPS, config.max_steps)
    settings = InferSettings(max_steps=steps, votes=1, batch_size=count)
    needed = needed_sides(puzzles)[puzzles.example_tasks[examples]]
    candidates = predict(told_of, questions, settings, needed=needed)
    votes = read_votes(candidates, dict.fromkeys(own.task_ids, 1))
    right = right_entries(votes, [puzzles.outputs.grid(example) for example in examples])
    return solved_tests(votes, rank(votes), right, 1)
