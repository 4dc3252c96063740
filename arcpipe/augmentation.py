"""Augmentation, a turn or flip of grids and a permutation of their colors; and the table of puzzles.

Dihedral ids are the official ones (`dataset/common.py`): 0 identity, 1..3 rot90 by k
(counterclockwise), 4 left-right flip, 5 up-down flip, 6 transpose, 7 left-right flip of rot90.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from arcpipe.grid import NUM_COLORS
from arcpipe.rng import random_bits

BLANK_TASK = "<blank>"
"""The name of row 0 of official puzzle tables, which stands for no puzzle."""

Cell = TypeVar("Cell", bound=np.generic)

# Each dihedral as (transpose, flip rows, flip columns); the flips come first.
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


def apply_dihedral(grids: NDArray[Cell], dihedral: int) -> NDArray[Cell]:
    """Return grids (..., H, W) turned or flipped; (..., W, H) for the ids that transpose."""
    transpose, flip_rows, flip_columns = DIHEDRALS[dihedral]
    turned = grids[..., :: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
    return np.ascontiguousarray(turned.swapaxes(-1, -2) if transpose else turned)


def recolorings(seed: int, numbers: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Return permutations of colors (N, 10) by their numbers (N,): black stays black, and 0 changes none."""
    keys = random_bits(seed, numbers[:, None], np.arange(1, NUM_COLORS, dtype=np.uint64))
    drawn = (np.argsort(keys, axis=1) + 1).astype(np.uint8)
    others = np.where(numbers[:, None] == 0, np.arange(1, NUM_COLORS, dtype=np.uint8), drawn)
    return np.concatenate([np.zeros((len(numbers), 1), np.uint8), others], axis=1)


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Recolor, then turn: cell value v becomes `colors[v]`, and the grid is turned by `dihedral`.

    Grids are augmented many at once, by `codec.py`, and turned back by `infer/items.py`.
    """

    dihedral: int = 0
    colors: tuple[int, ...] = IDENTITY_COLORS

    def __post_init__(self) -> None:
        assert 0 <= self.dihedral < 8, f"dihedral {self.dihedral} is not 0..7"
        assert sorted(self.colors) == list(IDENTITY_COLORS), f"{self.colors} is no permutation of 0..9"


IDENTITY = Augmentation()


@dataclass(frozen=True, eq=False)
class PuzzleTable:
    """P puzzles, which are tasks under augmentations: what each row of a puzzle-embedding table stands for.

    The number of its row is a puzzle's id, within one dataset or checkpoint only. Between them it is known by
    its fingerprint, which depends on the task's id and the augmentation alone.

    task_ids: the ids of the tasks.
    tasks: (P,) the task of each puzzle, as a number into `task_ids`.
    dihedrals: (P,) ids 0..7.
    colors: (P, 10) color permutations.
    """

    task_ids: list[str]
    tasks: NDArray[np.int32]
    dihedrals: NDArray[np.uint8]
    colors: NDArray[np.uint8]

    @classmethod
    def of_groups(cls, task_ids: Sequence[str], groups: Sequence[Sequence[Augmentation]]) -> "PuzzleTable":
        """Return the puzzles of each task in turn, given the augmentations of each."""
        flat = [augmentation for group in groups for augmentation in group]
        return cls(
            list(task_ids),
            np.repeat(np.arange(len(task_ids), dtype=np.int32), [len(group) for group in groups]),
            np.array([augmentation.dihedral for augmentation in flat], np.uint8),
            np.array([augmentation.colors for augmentation in flat], np.uint8).reshape(-1, NUM_COLORS),
        )

    def __len__(self) -> int:
        return len(self.tasks)

    def augmentation(self, puzzle_id: int) -> Augmentation:
        """Return the augmentation of a puzzle."""
        colors = tuple(int(color) for color in self.colors[puzzle_id])
        return Augmentation(int(self.dihedrals[puzzle_id]), colors)

    def of_task(self, task: int) -> NDArray[np.intp]:
        """Return the puzzle ids of a task, in order."""
        return np.flatnonzero(self.tasks == task)

    def fingerprints(self) -> NDArray[np.uint64]:
        """Return the fingerprint (P,) of each puzzle: 64 bits that two puzzles share by accident only."""
        digests = [hashlib.sha256(task_id.encode()).digest() for task_id in self.task_ids]
        of_task = np.array([int.from_bytes(digest[:8], "big") for digest in digests], np.uint64)
        # The ten colors in four bits each, then the dihedral.
        code = self.dihedrals.astype(np.uint64)
        for place in range(NUM_COLORS):
            code = code << np.uint64(4) | self.colors[:, place].astype(np.uint64)
        return random_bits(0, of_task[self.tasks], code)

    def find(self, table: "PuzzleTable") -> NDArray[np.intp]:
        """Return the puzzle ids here of the puzzles of another table, in its order; -1 for one not here."""
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
        """Return the table of `to_arrow`'s columns.

        Raises:  KeyError for a missing column; ValueError, which names the row from 1, for a value that
                 cannot be.
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
