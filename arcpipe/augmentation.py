"""Augmentations, which turn or flip grids and permute their colors; random bits; the table of puzzles.

Random bits are a function of a seed and counters, such as the number of an epoch or a variant. So any draw is
computed without the earlier ones, and is the same for any number of processes.

Dihedral ids are the official ones (`dataset/common.py`): 0 identity, 1..3 rot90 by k
(counterclockwise), 4 left-right flip, 5 up-down flip, 6 transpose, 7 left-right flip of rot90.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from arcpipe.grid import NUM_COLORS

BLANK_TASK = "<blank>"
"""The name of row 0 of official puzzle tables, which belongs to no puzzle."""

Cell = TypeVar("Cell", bound=np.generic)

# Each dihedral as (transpose, flip rows, flip columns), with the flips before the transposition.
DIHEDRALS = (
    (False, False, False),
    (True, False, True),
    (False, True, True),
    (True, True, False),
    (False, False, True),
    (False, True, False),
    (True, False, False),
    (True, True, True),
)
TRANSPOSES = tuple(transpose for transpose, _, _ in DIHEDRALS)
DIHEDRAL_INVERSE = (0, 3, 2, 1, 4, 5, 6, 7)
IDENTITY_COLORS = tuple(range(NUM_COLORS))
SPLIT_MIX = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
"""The increment of SplitMix64's state and the factors of its two mixing steps."""
_STEP, _FIRST, _SECOND = map(np.uint64, SPLIT_MIX)


def random_bits(seed: int, *counters: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return 64 random bits for each entry of the counters, broadcast: a function of seed and counters alone.

    Args:    seed: below 2**64.
    Source:  the mixing of SplitMix64 (Steele, Lea, Flood 2014), once for the seed and each counter.
    """
    state = _mix(np.array([seed], np.uint64))
    for counter in counters:
        state = _mix(state ^ counter)
    return state


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = state + _STEP
    state = (state ^ (state >> np.uint64(30))) * _FIRST
    state = (state ^ (state >> np.uint64(27))) * _SECOND
    return state ^ (state >> np.uint64(31))


def apply_dihedral(grids: NDArray[Cell], dihedral: int) -> NDArray[Cell]:
    """Return grids (..., H, W) turned or flipped; (..., W, H) for the ids that transpose."""
    transpose, flip_rows, flip_columns = DIHEDRALS[dihedral]
    turned = grids[..., :: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
    return np.ascontiguousarray(turned.swapaxes(-1, -2) if transpose else turned)


def recolorings(seed: int, numbers: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Return permutations of colors (N, 10) by number (N,): black stays black, number 0 is the identity."""
    keys = random_bits(seed, numbers[:, None], np.arange(1, NUM_COLORS, dtype=np.uint64))
    order = (np.argsort(keys, axis=1) + 1).astype(np.uint8)
    others = np.where(numbers[:, None] == 0, np.arange(1, NUM_COLORS, dtype=np.uint8), order)
    return np.concatenate([np.zeros((len(numbers), 1), np.uint8), others], axis=1)


@dataclass(frozen=True, eq=False)
class PuzzleTable:
    """P puzzles, which are tasks under augmentations, one for each row of a puzzle-embedding table.

    A puzzle id is a row number, valid within one dataset or checkpoint. Across these a puzzle is known by its
    fingerprint, a function of the task's id and the augmentation.

    task_ids: the ids of the tasks.
    tasks: (P,) index of each puzzle's task in `task_ids`.
    dihedrals: (P,) ids 0..7.
    colors: (P, 10) color permutations.
    """

    task_ids: list[str]
    tasks: NDArray[np.int32]
    dihedrals: NDArray[np.uint8]
    colors: NDArray[np.uint8]

    @classmethod
    def uncolored(cls, task_ids: Sequence[str], dihedrals: Sequence[int] = (0,)) -> "PuzzleTable":
        """Return the puzzles of tasks under these dihedrals, with the colors unchanged."""
        tasks = np.repeat(np.arange(len(task_ids), dtype=np.int32), len(dihedrals))
        colors = np.tile(np.array(IDENTITY_COLORS, np.uint8), (len(tasks), 1))
        return cls(list(task_ids), tasks, np.tile(np.array(dihedrals, np.uint8), len(task_ids)), colors)

    def __len__(self) -> int:
        return len(self.tasks)

    def of_task(self, task: int) -> NDArray[np.intp]:
        """Return the puzzle ids of a task, in order."""
        return np.flatnonzero(self.tasks == task)

    @cached_property
    def num_of_tasks(self) -> NDArray[np.intp]:
        """Return the number (T,) of puzzles of each task."""
        return np.bincount(self.tasks, minlength=len(self.task_ids))

    @cached_property
    def _by_task(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return all puzzle ids by task, and the place in them of the first one of each task."""
        return np.argsort(self.tasks, kind="stable"), np.cumsum(self.num_of_tasks) - self.num_of_tasks

    def nth(self, tasks: NDArray[np.integer], numbers: NDArray[np.integer]) -> NDArray[np.intp]:
        """Return the puzzle (N,) of each task (N,) that has this number (N,) among those of its task."""
        order, first = self._by_task
        ids: NDArray[np.intp] = order[first[tasks] + numbers]
        return ids

    def fingerprints(self) -> NDArray[np.uint64]:
        """Return the fingerprint (P,) of each puzzle: a hash of 64 bits."""
        digests = [hashlib.sha256(task_id.encode()).digest() for task_id in self.task_ids]
        task_hashes = np.array([int.from_bytes(digest[:8], "big") for digest in digests], np.uint64)
        # The dihedral, then ten colors in four bits each.
        code = self.dihedrals.astype(np.uint64)
        for place in range(NUM_COLORS):
            code = code << np.uint64(4) | self.colors[:, place].astype(np.uint64)
        return random_bits(0, task_hashes[self.tasks], code)

    def find(self, table: "PuzzleTable") -> NDArray[np.intp]:
        """Return the ids in this table of the puzzles of another one, in its order; -1 if not found."""
        own, others = self.fingerprints(), table.fingerprints()
        if not len(own):
            return np.full(len(others), -1)
        order = np.argsort(own, kind="stable")
        places = order[np.searchsorted(own, others, sorter=order).clip(max=len(own) - 1)]
        return np.where(own[places] == others, places, -1)

    def to_arrow(self) -> pa.Table:
        """Return the columns task (text), dihedral and colors (ten digits)."""
        digits = (self.colors + ord("0")).tobytes()
        offsets = np.arange(0, len(digits) + 1, NUM_COLORS, dtype=np.int32)
        colors = pa.StringArray.from_buffers(len(self), pa.py_buffer(offsets), pa.py_buffer(digits))
        tasks = pa.DictionaryArray.from_arrays(pa.array(self.tasks), pa.array(self.task_ids, pa.string()))
        return pa.table({"task": tasks, "dihedral": pa.array(self.dihedrals), "colors": colors})

    @classmethod
    def from_arrow(cls, table: pa.Table) -> "PuzzleTable":
        """Return the table from the columns of `to_arrow`.

        Raises:  KeyError for a missing column; ValueError, naming the row (from 1), for an invalid value.
        """
        tasks = table["task"].combine_chunks().cast(pa.string()).dictionary_encode()
        if tasks.null_count:
            raise ValueError("a task is no text")
        numbers = table["dihedral"].to_numpy()
        digits = table["colors"].combine_chunks().cast(pa.string()).fill_null("")
        lengths = np.array(pc.binary_length(digits))
        _refuse_first(lengths != NUM_COLORS, "its colors are not ten digits")
        text = "".join(digits.to_pylist()).encode()
        _refuse_first(~np.isin(numbers, range(len(DIHEDRALS))), "its dihedral is not 0..7")
        colors = np.frombuffer(text, np.uint8).reshape(-1, NUM_COLORS) - np.uint8(ord("0"))
        wrong = (np.sort(colors, axis=1) != np.arange(NUM_COLORS)).any(axis=1)
        _refuse_first(wrong, "its colors are no permutation of 0123456789")
        return cls(
            tasks.dictionary.to_pylist(), np.array(tasks.indices, np.int32), numbers.astype(np.uint8), colors
        )


def _refuse_first(wrong: NDArray[np.bool_], problem: str) -> None:
    if wrong.any():
        raise ValueError(f"row {int(wrong.argmax()) + 1}: {problem}")
