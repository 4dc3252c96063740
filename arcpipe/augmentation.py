"""Augmentation: a turn or flip of grids and a permutation of their colors.

Dihedral ids are the official ones (`dataset/common.py`): 0 identity, 1..3 rot90 by k
(counterclockwise), 4 left-right flip, 5 up-down flip, 6 transpose, 7 left-right flip of rot90.
"""

from dataclasses import dataclass

import numpy as np

from arcpipe.grid import NUM_COLORS, Grid

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


def apply_dihedral(grids: Grid, dihedral: int) -> Grid:
    """Return grids (..., H, W) turned or flipped; (..., W, H) for the ids that transpose."""
    transpose, flip_rows, flip_columns = DIHEDRALS[dihedral]
    turned = grids[..., :: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
    return np.ascontiguousarray(turned.swapaxes(-1, -2) if transpose else turned)


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Recolor, then turn: cell value v becomes `colors[v]`, and the grid is turned by `dihedral`.

    Grids are augmented many at once, by `codec.py`, and turned back by `infer/decode.py`.
    """

    dihedral: int = 0
    colors: tuple[int, ...] = IDENTITY_COLORS

    def __post_init__(self) -> None:
        assert 0 <= self.dihedral < 8, f"dihedral {self.dihedral} is not 0..7"
        assert sorted(self.colors) == list(IDENTITY_COLORS), f"{self.colors} is no permutation of 0..9"


IDENTITY = Augmentation()
