"""Augmentation: a turn or flip of grids and a permutation of their colors.

Dihedral ids are the official ones (`dataset/common.py`): 0 identity, 1..3 rot90 by k
(counterclockwise), 4 left-right flip, 5 up-down flip, 6 transpose, 7 left-right flip of rot90.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from arcpipe.grid import NUM_COLORS
from arcpipe.rng import random_bits

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
