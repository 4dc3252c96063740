"""One grid at a time: augmented by the plain operations of numpy, and as tokens."""

import numpy as np
from numpy.typing import NDArray

from arcpipe.augmentation import Augmentation
from arcpipe.codec import ARC, GridTable, dihedral_transform, encode_grids
from arcpipe.grid import Grid


def turned(grid: Grid, dihedral: int) -> Grid:
    """The grid under a dihedral id, as `dataset/common.py` of the official code defines it."""
    if dihedral < 4:
        return np.rot90(grid, dihedral).copy()
    return (np.fliplr(grid), np.flipud(grid), grid.T, np.fliplr(np.rot90(grid)))[dihedral - 4].copy()


def augmented(grid: Grid, augmentation: Augmentation) -> Grid:
    """The grid recolored, then turned."""
    return turned(np.array(augmentation.colors, np.uint8)[grid], augmentation.dihedral)


def restored(grid: Grid, augmentation: Augmentation) -> Grid:
    """The grid of which `grid` is the augmented one."""
    inverse = (0, 3, 2, 1, 4, 5, 6, 7)[augmentation.dihedral]
    return np.argsort(augmentation.colors).astype(np.uint8)[turned(grid, inverse)]


def encode(grid: Grid, canvas: int, offset: tuple[int, int] = (0, 0)) -> NDArray[np.uint8]:
    """The tokens (canvas * canvas,) of one ARC grid."""
    table, items = GridTable.pack([grid], max(grid.shape)).with_eos(ARC), np.zeros(1, np.intp)
    transform = dihedral_transform(ARC, table, items, canvas, offsets=np.array([offset]))
    tokens: NDArray[np.uint8] = encode_grids(table, items, transform)[0]
    return tokens
