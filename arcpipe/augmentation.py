"""Augmentation: an element of the group D8 x permutations of the nine colors (black stays black).

Dihedral ids are the reference's (`dataset/common.py`): 0 identity, 1..3 rot90 by k
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


def apply_dihedral(grid: Grid, dihedral: int) -> Grid:
    """The grid (H, W) turned or flipped; (W, H) for the ids that transpose."""
    transpose, flip_rows, flip_columns = DIHEDRALS[dihedral]
    turned = grid[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
    return np.ascontiguousarray(turned.T if transpose else turned)


def _compose_dihedrals() -> tuple[tuple[int, ...], ...]:
    """Entry [second][first] is the id that acts like `first`, then `second`."""
    probe = np.arange(6, dtype=np.uint8).reshape(2, 3)
    names = {apply_dihedral(probe, d).tobytes() + bytes(apply_dihedral(probe, d).shape): d for d in range(8)}
    table = []
    for second in range(8):
        turned = [apply_dihedral(apply_dihedral(probe, first), second) for first in range(8)]
        table.append(tuple(names[grid.tobytes() + bytes(grid.shape)] for grid in turned))
    return tuple(table)


DIHEDRAL_COMPOSE = _compose_dihedrals()


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Recolor, then turn: cell value v becomes `colors[v]`, and the grid is turned by `dihedral`."""

    dihedral: int = 0
    colors: tuple[int, ...] = IDENTITY_COLORS

    def __post_init__(self) -> None:
        assert 0 <= self.dihedral < 8, f"dihedral {self.dihedral} is not 0..7"
        assert sorted(self.colors) == list(IDENTITY_COLORS), f"{self.colors} is no permutation of 0..9"

    def apply(self, grid: Grid) -> Grid:
        """The augmented grid."""
        return apply_dihedral(np.array(self.colors, dtype=np.uint8)[grid], self.dihedral)

    def inverse(self) -> "Augmentation":
        """The augmentation that undoes this one."""
        colors = [0] * NUM_COLORS
        for source, target in enumerate(self.colors):
            colors[target] = source
        return Augmentation(DIHEDRAL_INVERSE[self.dihedral], tuple(colors))

    def then(self, other: "Augmentation") -> "Augmentation":
        """The composition: this one first, `other` second."""
        colors = tuple(other.colors[self.colors[value]] for value in range(NUM_COLORS))
        return Augmentation(DIHEDRAL_COMPOSE[other.dihedral][self.dihedral], colors)


IDENTITY = Augmentation()
