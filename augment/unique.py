"""Augmentations of a task, no two of which give the same puzzle."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from arcpipe.augmentation import apply_dihedral
from arcpipe.grid import NUM_COLORS, Grid
from arcpipe.task import Task

Augmentations = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""K augmentations: dihedrals (K,) and color permutations (K, 10)."""

_TRIES_PER_AUGMENTATION = 5
_TRIES_AT_ONCE = 512


def grids_of(task: Task) -> list[Grid]:
    """Return all grids of a task that are not hidden, in order."""
    pairs = (*task.demonstrations, *task.tests)
    return [grid for pair in pairs for grid in (pair.input, pair.output) if grid is not None]


def task_augmentations(task: Task, num_aug: int | None, seed: int) -> Augmentations:
    """Return the distinct augmentations of a task, or with `num_aug` None the eight dihedrals."""
    if num_aug is not None:
        return distinct_augmentations(task, num_aug, seed)
    return np.arange(8, dtype=np.uint8), np.tile(np.arange(NUM_COLORS, dtype=np.uint8), (8, 1))


def distinct_augmentations(task: Task, num_aug: int, seed: int) -> Augmentations:
    """Return the identity and up to `num_aug` augmentations, no two of which give the same puzzle.

    They depend on the seed, the task's id and its visible grids alone, not on other tasks; a larger
    `num_aug` adds to those of a smaller one.

    Source:  the reference's `build_arc_dataset.py`: random dihedral x permutation of the nine colors,
             at most five tries for each.
    """
    classes, orders = _patterns(grids_of(task))
    name = int.from_bytes(hashlib.sha256(task.id.encode()).digest()[:8], "big")
    rng = np.random.default_rng([seed, name])
    dihedrals, colors = np.zeros(1, np.uint8), np.arange(NUM_COLORS, dtype=np.uint8)[None]
    most, chosen = _TRIES_PER_AUGMENTATION * num_aug + 1, np.zeros(1, np.intp)
    while len(dihedrals) < most and len(chosen) <= num_aug:
        more_dihedrals, more_colors = _draw(rng, _TRIES_AT_ONCE)
        dihedrals, colors = np.append(dihedrals, more_dihedrals), np.append(colors, more_colors, axis=0)
        keys = _puzzle_keys(dihedrals[:most], colors[:most], classes, orders)
        chosen = np.sort(np.unique(keys, return_index=True)[1])
    chosen = chosen[: num_aug + 1]
    return dihedrals[chosen], colors[chosen]


def _draw(rng: np.random.Generator, count: int) -> Augmentations:
    """Draw random augmentations; black stays black."""
    dihedrals = rng.integers(8, size=count, dtype=np.uint8)
    colors = np.zeros((count, NUM_COLORS), np.uint8)
    colors[:, 1:] = rng.permuted(np.tile(np.arange(1, NUM_COLORS, dtype=np.uint8), (count, 1)), axis=1)
    return dihedrals, colors


def _patterns(grids: Sequence[Grid]) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Find, for each dihedral, what decides whether two augmentations give the same puzzle.

    Returns: the class (8,) of each dihedral: two are alike if the grids they give differ by their colors
             only. The colors (8, K) but black in the order in which each dihedral shows them first: two
             augmentations of one class agree if they send the colors in this order to the same ones.
    """
    names: dict[bytes, int] = {}
    classes, orders = [], []
    for dihedral in range(8):
        turned = [apply_dihedral(grid, dihedral) for grid in grids]
        cells = np.concatenate([grid.reshape(-1) for grid in turned])
        colors, first = np.unique(cells, return_index=True)
        order = colors[np.argsort(first)]
        order = order[order != 0]
        rank = np.zeros(NUM_COLORS, np.uint8)
        rank[order] = np.arange(1, len(order) + 1)
        pattern = bytes(side for grid in turned for side in grid.shape) + rank[cells].tobytes()
        classes.append(names.setdefault(pattern, len(names)))
        orders.append(order)
    return np.array(classes, np.int64), np.array(orders, np.intp).reshape(8, -1)


def _puzzle_keys(
    dihedrals: NDArray[np.uint8],
    colors: NDArray[np.uint8],
    classes: NDArray[np.int64],
    orders: NDArray[np.intp],
) -> NDArray[np.int64]:
    """Return a number (K,) for each augmentation, the same for two that give the same puzzle."""
    sent = np.take_along_axis(colors, orders[dihedrals], axis=1).astype(np.int64)
    keys = classes[dihedrals]
    for place in range(sent.shape[1]):
        keys = keys * NUM_COLORS + sent[:, place]
    return keys
