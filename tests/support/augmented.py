"""Augmentations of one grid by the plain operations of numpy, against which the package's are tested."""

import numpy as np

from arcpipe.augmentation import Augmentation
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
