"""The work list: every test input under every puzzle or variant, in rounds, so that each has its fair share.

An item is a test input and one way to present it. Round k holds the k-th way of each test input that has as
many; the first is the one without augmentation, variant or noise. Items are computed from their position in
the schedule: all together may not fit into memory.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arcpipe.errors import DataError
from arcpipe.puzzleset import PuzzleSet

FRESH_VOTES = 64
"""How often a test input is asked under fresh colorings where no number of votes is given."""
_MAZE_TURNS = 7


@dataclass(frozen=True, eq=False)
class Items:
    """N items of a schedule.

    positions: (N,) places in the schedule.
    tests: (N,) numbers of the test inputs.
    puzzle_ids: (N,) rows of the puzzle table.
    variants: (N,) turns or shuffles of Sudokus and mazes, 0 for none.
    rollouts: (N,) 0 for the one without noise.
    """

    positions: NDArray[np.int64]
    tests: NDArray[np.intp]
    puzzle_ids: NDArray[np.intp]
    variants: NDArray[np.uint64]
    rollouts: NDArray[np.intp]

    def __getitem__(self, index: NDArray[Any] | slice) -> "Items":
        return Items(*(getattr(self, field.name)[index] for field in fields(self)))

    def __setitem__(self, index: NDArray[np.intp], items: "Items") -> None:
        for field in fields(self):
            getattr(self, field.name)[index] = getattr(items, field.name)


class Schedule:
    """The items of a puzzle set in their order.

    Args:    variants: how many turns or shuffles of each Sudoku or maze, beside itself.
             rollouts: how often each way is repeated; all but the first time with noise.
             votes: the most ways of each test input; 0 for all, of fresh colorings FRESH_VOTES.
    Raises:  DataError if there is no test input, or the puzzles have no such variants.
    """

    def __init__(self, puzzles: PuzzleSet, *, variants: int = 0, rollouts: int = 1, votes: int = 0) -> None:
        if not len(puzzles.test_tasks):
            raise DataError("the dataset has no test inputs: build it with some, or choose another")
        if variants and puzzles.family.with_eos:
            raise DataError("--variants is for Sudokus and mazes: an ARC task is asked under all its puzzles")
        if variants and puzzles.variants is None:
            raise DataError("--variants: the dataset does not say how to shuffle; build it again")
        if variants > _MAZE_TURNS and puzzles.family.name == "maze":
            raise DataError(f"--variants {variants}: a maze has {_MAZE_TURNS} turns and flips beside itself")
        by_task = np.argsort(puzzles.table.tasks, kind="stable")
        num_puzzles = np.bincount(puzzles.table.tasks, minlength=len(puzzles.table.task_ids))
        self._by_task, self._variants = by_task, variants
        self._first = (np.cumsum(num_puzzles) - num_puzzles)[puzzles.test_tasks]
        self._fresh, self._puzzles = puzzles.fresh_colors, num_puzzles[puzzles.test_tasks]
        # The ways of each test input without noise: its task's puzzles, or its variants.
        self._ways = self._puzzles * (1 + variants)
        if self._fresh:
            self._ways = np.full(len(puzzles.test_tasks), votes or FRESH_VOTES)
        elif votes:
            self._ways = self._ways.clip(max=votes)
        lengths = self._ways * rollouts
        # Test inputs of as many items drop out together: between two drops each round is alike.
        self._drops = np.unique(lengths)
        self._active = [np.flatnonzero(lengths >= length) for length in self._drops]
        sizes = np.array([len(tests) for tests in self._active])
        self._starts = np.concatenate([[0], np.cumsum(sizes * np.diff(self._drops, prepend=0))])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def items(self, positions: NDArray[np.int64]) -> Items:
        """Return the items at positions (N,)."""
        tests, numbers = np.empty(len(positions), np.intp), np.empty(len(positions), np.intp)
        parts = np.searchsorted(self._starts, positions, side="right") - 1
        for part in np.unique(parts):
            here, active = parts == part, self._active[part]
            rounds, places = np.divmod(positions[here] - self._starts[part], len(active))
            tests[here] = active[places]
            numbers[here] = rounds + (self._drops[part - 1] if part else 0)
        rollouts, ways = np.divmod(numbers, self._ways[tests])
        first = np.zeros(len(positions), np.intp)
        puzzles, variants = (first, ways) if self._variants else (ways, first)
        if self._fresh:
            # Another coloring each time, and the dihedrals in turn.
            puzzles, variants = ways % self._puzzles[tests], ways
        puzzle_ids = self._by_task[self._first[tests] + puzzles]
        return Items(positions, tests, puzzle_ids, variants.astype(np.uint64), rollouts)


class WorkQueue:
    """The positions of a schedule that one rank has still to answer.

    left: how many there are.

    Args:  length: of the schedule.
           done: (M,) positions that are answered.
    """

    def __init__(self, length: int, done: NDArray[np.int64], rank: int = 0, num_ranks: int = 1) -> None:
        self._positions = np.delete(np.arange(length), done)[rank::num_ranks]
        self.left = len(self._positions)

    def take(self, count: int) -> NDArray[np.int64]:
        """Remove and return the next positions, up to `count` of them."""
        first = len(self._positions) - self.left
        positions = self._positions[first : first + count]
        self.left -= len(positions)
        return positions
