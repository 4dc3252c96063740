"""When grids are alike, and the augmentations of a task, no two of which give the same puzzle."""

import hashlib
from collections.abc import Sequence
from functools import cache
from math import perm

import numpy as np
from numpy.typing import NDArray

from arcpipe.augment.sources import grids_of
from arcpipe.augmentation import DIHEDRAL_INVERSE, DIHEDRALS, apply_dihedral
from arcpipe.grid import MAX_SIDE, NUM_COLORS, Grid
from arcpipe.rng import random_bits
from arcpipe.task import Task

Augmentations = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""K augmentations: dihedrals (K,) and color permutations (K, 10)."""

Pattern = tuple[bytes, bytes]
"""Shapes and cells but for the colors, and the colors."""

_TRIES_PER_AUGMENTATION = 5
_TRIES_AT_ONCE = 512
_GENERATED = 10
_ROWS_AT_ONCE = 64
_FEW = 2
_BLACK = bytes(1)


def pattern(grids: Sequence[Grid], dihedral: int, fixed: bytes = b"") -> Pattern:
    """Return what turned grids show but for their colors, and their colors in order.

    Two lists of grids have one pattern if and only if a permutation of the colors that are not fixed makes
    one of the other; it sends the colors of the one, in their order, to those of the other.

    Args:    fixed: colors that stay as they are, beginning with 0.
    Returns: the shapes, and the cells as numbers of colors; the fixed colors and then the others in the
             order in which they come up.
    """
    turned = [apply_dihedral(grid, dihedral) for grid in grids]
    cells = b"".join(grid.tobytes() for grid in turned)
    others = (color for color in range(NUM_COLORS) if color in cells and color not in fixed)
    colors = fixed + bytes(sorted(others, key=cells.index))
    numbers = cells.translate(bytes.maketrans(colors, bytes(range(len(colors)))))
    return bytes(side for grid in turned for side in grid.shape) + numbers, colors


def patterns(grids: Sequence[Grid], fixed: bytes = b"") -> list[Pattern]:
    """Return the `pattern` of grids under each dihedral."""
    return [pattern(grids, dihedral, fixed) for dihedral in range(len(DIHEDRALS))]


def change_between(owns: Sequence[Pattern], other: Pattern) -> tuple[str, int, str] | None:
    """Return the change that makes grids others, in words, its dihedral and its colors; None if none does.

    Args:    owns: the `patterns` of the grids. other: the `pattern` of the others as they are.
    """
    cells, colors = other
    changes = [
        (own_colors != colors, dihedral > 0, dihedral, own_colors)
        for dihedral, (own_cells, own_colors) in enumerate(owns)
        if own_cells == cells
    ]
    if not changes:
        return None
    recolored, turned, dihedral, own_colors = min(changes)
    words = " and ".join(["turned"] * turned + ["recolored"] * recolored) or "the same"
    pairs = sorted(zip(own_colors, colors, strict=True))
    return words, dihedral, " ".join(f"{own}>{other}" for own, other in pairs if own != other)


def likeness(*columns: Sequence[Grid | None]) -> NDArray[np.uint64]:
    """Return a number for each row of grids (N,), one for all rows that one change makes of one another.

    A change is one of the eight turns and flips and a permutation of the ten colors, the same for the grids
    of a row; None is no grid. Others share a number by a chance of 2^-60.
    """
    starts = range(0, len(columns[0]), _ROWS_AT_ONCE)
    parts = [_likeness([column[start : start + _ROWS_AT_ONCE] for column in columns]) for start in starts]
    return np.concatenate([np.zeros(0, np.uint64), *parts])


def _likeness(columns: Sequence[Sequence[Grid | None]]) -> NDArray[np.uint64]:
    """Return the numbers of a few rows: a color is the sum of its cells, a row that of its colors."""
    grids = [
        (row, place, grid)
        for place, column in enumerate(columns)
        for row, grid in enumerate(column)
        if grid is not None
    ]
    cells = np.frombuffer(b"".join(grid.tobytes() for *_, grid in grids), np.uint8)
    first = np.array([row * NUM_COLORS for row, *_ in grids], np.uint16)
    colors = np.repeat(first, [grid.size for *_, grid in grids]) + cells
    order = np.argsort(colors, kind="stable")
    numbers = np.concatenate([cell_numbers(grid.shape, place) for _, place, grid in grids])[order]
    present, starts = np.unique(colors[order], return_index=True)
    mixed = random_bits(0, np.add.reduceat(numbers, starts))
    _, starts = np.unique(present // NUM_COLORS, return_index=True)
    least: NDArray[np.uint64] = np.add.reduceat(mixed, starts).min(axis=1)
    return least


@cache
def cell_numbers(shape: tuple[int, int], place: int) -> NDArray[np.uint64]:
    """Return a random number of each cell of a grid, where each dihedral takes it (H * W, 8).

    Args:    place: of the grid in its row, from 0: those of another place are others.
    """
    side = np.arange(MAX_SIDE, dtype=np.uint64)
    numbers = random_bits(place, side[:, None], side)
    columns = []
    for inverse in DIHEDRAL_INVERSE:
        height, width = apply_dihedral(np.empty(shape, bool), inverse).shape
        columns.append(apply_dihedral(numbers[:height, :width], inverse).reshape(-1))
    return np.stack(columns, axis=1)


def distinct_augmentations(task: Task, num_aug: int, seed: int) -> Augmentations:
    """Return the identity and up to `num_aug` augmentations, no two of which give the same puzzle.

    They depend on the seed, the task's id and its visible grids alone, not on other tasks; a larger
    `num_aug` adds to those of a smaller one. The first generated pairs stand for a task of no others.

    Source:  the reference's `build_arc_dataset.py`: random dihedral x permutation of the nine colors,
             at most five tries for each.
    """
    grids = grids_of(*task.demonstrations, *task.tests) or grids_of(*task.generated[:_GENERATED])
    for several in (grids[:_FEW], grids):
        shapes, orders = zip(*patterns(several, _BLACK), strict=True)
        if len(set(shapes)) == len(DIHEDRALS):
            # No two dihedrals give the same puzzle: of the other grids only the colors matter, in any order.
            cells = b"".join(grid.tobytes() for grid in grids)
            colors_of_all = bytes(color for color in range(NUM_COLORS) if not color or color in cells)
            orders = (colors_of_all,) * len(shapes)
            break
    classes = np.array([shapes.index(one) for one in shapes])
    # The colors (8, K) but black in the order in which each dihedral shows them first.
    shown = np.array([list(order[1:]) for order in orders], np.intp)
    # There are so many puzzles, and each has a number, from its class and what these colors are sent to.
    most = min(num_aug + 1, len(set(shapes)) * perm(NUM_COLORS - 1, shown.shape[1]))
    weights = NUM_COLORS ** np.arange(shown.shape[1] + 1)

    name = int.from_bytes(hashlib.sha256(task.id.encode()).digest()[:8], "big")
    rng = np.random.default_rng([seed, name])
    dihedrals, colors = np.zeros(1, np.uint8), np.arange(NUM_COLORS, dtype=np.uint8)[None]
    # Black stays black.
    drawn = np.tile(colors, (_TRIES_AT_ONCE, 1))
    others, tries = drawn[:, 1:].copy(), _TRIES_PER_AUGMENTATION * num_aug
    while tries > 0 and len(dihedrals) < most:
        dihedrals = np.append(dihedrals, rng.integers(8, size=_TRIES_AT_ONCE, dtype=np.uint8)[:tries])
        rng.permuted(others[:tries], axis=1, out=drawn[:tries, 1:])
        colors = np.append(colors, drawn[:tries], axis=0)
        sent = np.take_along_axis(colors, shown[dihedrals], axis=1)
        numbers = sent @ weights[:-1] + classes[dihedrals] * weights[-1]
        distinct = np.sort(np.unique(numbers, return_index=True)[1])
        dihedrals, colors, tries = dihedrals[distinct], colors[distinct], tries - _TRIES_AT_ONCE
    return dihedrals[: num_aug + 1], colors[: num_aug + 1]
