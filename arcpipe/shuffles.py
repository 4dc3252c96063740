"""Shuffle: a rearrangement of a Sudoku board that keeps its rules."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arcpipe.rng import random_bits
from arcpipe.sudoku_rules import BOXES


@dataclass(frozen=True)
class Shuffle:
    """N rearrangements of boards with sides S: `out[r, c] = digits[board[rows[r], columns[c]]]`.

    Where `transpose`, it is the transposed board that is read: `digits[board[columns[c], rows[r]]]`.

    Args:  digits: (N, S + 1) uint8, the new digit of each old one; 0, an empty cell, stays 0.
           rows, columns: (N, S) intp, the source of each row and column.
           transpose: (N,) bool.
    """

    digits: NDArray[np.uint8]
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    transpose: NDArray[np.bool_]

    def apply(self, boards: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the boards (N, S, S) rearranged, each by its own shuffle."""
        item = np.arange(len(boards))[:, None, None]
        rows, columns, turned = self.rows[:, :, None], self.columns[:, None, :], self.transpose[:, None, None]
        read = boards[item, np.where(turned, columns, rows), np.where(turned, rows, columns)]
        return self.digits[item, read]

    def inverse(self) -> "Shuffle":
        """Return the shuffles that undo these."""
        rows, columns = np.argsort(self.rows, axis=1), np.argsort(self.columns, axis=1)
        turned = self.transpose[:, None]
        return Shuffle(
            np.argsort(self.digits, axis=1).astype(np.uint8),
            np.where(turned, columns, rows),
            np.where(turned, rows, columns),
            self.transpose,
        )


def shuffles(side: int, seed: int, boards: NDArray[np.integer], variants: NDArray[np.integer]) -> Shuffle:
    """Return the shuffle of each variant (N,) of each board number (N,); variant 0 is the identity.

    Any permutation of the digits, of the bands and of the rows in each, of the stacks and of the
    columns in each, and a transposition or none, all equally likely. No transposition where boxes are
    not square (side 6), because that would turn them.

    Args:  seed, boards, variants: not negative, together what a shuffle depends on.
    """
    height, width = BOXES[side]
    board, variant = (numbers.astype(np.uint64)[:, None] for numbers in (boards, variants))
    draws = np.arange(side + 2 * (side + side) + 1, dtype=np.uint64)
    bits = random_bits(seed, board, variant, draws)
    digits, rows, columns, turn = np.split(bits, [side, 3 * side, 5 * side], axis=1)
    same = variants == 0
    new_digits = np.zeros((len(boards), side + 1), np.uint8)
    new_digits[:, 1:] = 1 + _or_identity(np.argsort(digits, axis=1), same)
    square = height == width
    return Shuffle(
        new_digits,
        _or_identity(_order_lines(rows, height), same),
        _or_identity(_order_lines(columns, width), same),
        (turn[:, 0] >> np.uint64(63) == 1) & ~same & square,
    )


def _order_lines(bits: NDArray[np.uint64], thickness: int) -> NDArray[np.intp]:
    """Return an order of the S lines (N, S), those of one box together, from bits (N, 2 * S)."""
    count, side = len(bits), bits.shape[1] // 2
    groups = side // thickness
    order = np.argsort(bits[:, :groups], axis=1)
    within = np.argsort(bits[:, side:].reshape(count, groups, thickness), axis=2)
    return (order[:, :, None] * thickness + within).reshape(count, side)


def _or_identity(orders: NDArray[np.intp], same: NDArray[np.bool_]) -> NDArray[np.intp]:
    return np.where(same[:, None], np.arange(orders.shape[1]), orders)
