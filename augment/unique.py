"""When grids are alike, and the augmentations of a task, no two of which give the same puzzle."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from arcpipe.augment.sources import grids_of
from arcpipe.augmentation import DIHEDRALS, apply_dihedral
from arcpipe.grid import NUM_COLORS, Grid
from arcpipe.task import Task

Augmentations = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""K augmentations: dihedrals (K,) and color permutations (K, 10)."""

_TRIES_PER_AUGMENTATION = 5
_TRIES_AT_ONCE = 512
_GENERATED = 10
_BLACK = bytes(1)


def pattern(grids: Sequence[Grid], dihedral: int, fixed: bytes = b"") -> tuple[bytes, bytes]:
    """Return what turned grids show but for their colors, and their colors in order.

    Two lists of grids have one pattern if and only if a permutation of the colors that are not fixed makes
    one of the other; it sends the colors of the one, in their order, to those of the other.

    Args:    fixed: colors that stay as they are, beginning with 0.
    Returns: the shapes, and the cells as numbers of colors; the fixed colors and then the others in the
             order in which they come up.
    """
    turned = [apply_dihedral(grid, dihedral) for grid in grids]
    cells = b"".join(grid.tobytes() for grid in turned)
    colors = bytes(dict.fromkeys(fixed + cells))
    numbers = cells.translate(bytes.maketrans(colors, bytes(range(len(colors)))))
    return bytes(side for grid in turned for side in grid.shape) + numbers, colors


def canonical(grids: Sequence[Grid]) -> bytes:
    """Return what two lists of grids have in common if and only if one change makes one of the other.

    A change is one of the eight turns and flips and a permutation of the ten colors.
    """
    return min(pattern(grids, dihedral)[0] for dihedral in range(len(DIHEDRALS)))


def signature(grid: Grid) -> tuple[object, ...]:
    """Return what grids have in common whenever `canonical` is one, found twenty times as fast."""
    return *sorted(grid.shape), *sorted(
        np.bincount(grid.reshape(-1), minlength=NUM_COLORS).tolist(), reverse=True
    )


def distinct_augmentations(task: Task, num_aug: int, seed: int) -> Augmentations:
    """Return the identity and up to `num_aug` augmentations, no two of which give the same puzzle.

    They depend on the seed, the task's id and its visible grids alone, not on other tasks; a larger
    `num_aug` adds to those of a smaller one. The first generated pairs stand for a task of no others.

    Source:  the reference's `build_arc_dataset.py`: random dihedral x permutation of the nine colors,
             at most five tries for each.
    """
    grids = grids_of(*task.demonstrations, *task.tests) or grids_of(*task.generated[:_GENERATED])
    patterns, orders = zip(*(pattern(grids, dihedral, _BLACK) for dihedral in range(8)), strict=True)
    classes = np.array([patterns.index(one) for one in patterns])
    # The colors (8, K) but black in the order in which each dihedral shows them first.
    shown = np.array([list(order[1:]) for order in orders], np.intp)
    # A number for each augmentation, from its class and what it sends these colors to: the same for two
    # that give the same puzzle.
    weights = NUM_COLORS ** np.arange(shown.shape[1] + 1)

    name = int.from_bytes(hashlib.sha256(task.id.encode()).digest()[:8], "big")
    rng = np.random.default_rng([seed, name])
    dihedrals, colors = np.zeros(1, np.uint8), np.arange(NUM_COLORS, dtype=np.uint8)[None]
    most, distinct = _TRIES_PER_AUGMENTATION * num_aug + 1, np.zeros(1, np.intp)
    while len(dihedrals) < most and len(distinct) <= num_aug:
        dihedrals = np.append(dihedrals, rng.integers(8, size=_TRIES_AT_ONCE, dtype=np.uint8))
        others = np.tile(np.arange(1, NUM_COLORS, dtype=np.uint8), (_TRIES_AT_ONCE, 1))
        # Black stays black.
        drawn = np.pad(rng.permuted(others, axis=1), ((0, 0), (1, 0)))
        colors = np.append(colors, drawn, axis=0)
        sent = np.take_along_axis(colors[:most], shown[dihedrals[:most]], axis=1)
        keys = np.column_stack([sent, classes[dihedrals[:most]]]) @ weights
        distinct = np.sort(np.unique(keys, return_index=True)[1])
    distinct = distinct[: num_aug + 1]
    return dihedrals[distinct], colors[distinct]
