"""The rules of Sudoku, and shuffles of boards that keep them.

Boards come in batches: side 4, 6 or 9, cells 0 (empty) or a digit 1..side.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from arcpipe.rng import random_bits

BOXES = {4: (2, 2), 6: (2, 3), 9: (3, 3)}
"""Rows and columns of a box, by the board's side."""

Cells = NDArray[np.uint16]
"""Sudoku cells (S, S, N): rows, columns, boards; bit d - 1 is set where digit d is possible."""


def is_solution(questions: NDArray[np.uint8], answers: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return whether each answer (N, S, S), of any values, solves its question; (N,).

    Its rows, columns and boxes hold each digit once, and it keeps the givens.
    """
    side = questions.shape[1]
    are_digits: NDArray[np.bool_] = ((answers >= 1) & (answers <= side)).all(axis=(1, 2))
    broken = repeats(np.where(are_digits[:, None, None], answers, 0)) | differs(questions, answers)
    return are_digits & ~broken


def repeats(boards: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return whether a digit comes twice in a row, column or box of each board (N, S, S); (N,)."""
    side = boards.shape[1]
    bits = np.array([0, *(1 << digit for digit in range(side))], np.uint16)
    return gather(np.ascontiguousarray(bits[boards].transpose(1, 2, 0))).repeats


def differs(questions: NDArray[np.uint8], answers: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return whether each answer has another digit where its question gives one; (N,)."""
    differs: NDArray[np.bool_] = ((questions != 0) & (questions != answers)).any(axis=(1, 2))
    return differs


class Units(NamedTuple):
    """The digits of the units (rows, columns, boxes) of N boards, as bits.

    row, column: (S, N).
    box: (bands, stacks, N).
    repeats: (N,) whether a digit comes twice in a unit of the board; its other bits mean nothing then.
    """

    row: Cells
    column: Cells
    box: Cells
    repeats: NDArray[np.bool_]


def gather(cells: Cells) -> Units:
    """Return the digits of each row, column and box of cells that have one bit or none."""
    side, _, total = cells.shape
    height, width = BOXES[side]
    boxes = cells.reshape(side // height, height, side // width, width, total)
    row, column = (np.add.reduce(cells, axis=axis, dtype=np.uint16) for axis in (1, 0))
    box = np.add.reduce(boxes, axis=(1, 3), dtype=np.uint16)
    # A sum of single bits has as many bits as terms, or fewer if two are equal.
    terms = 3 * np.add.reduce(cells != 0, axis=(0, 1), dtype=np.uint16)
    bits = [np.bitwise_count(unit).reshape(side, total) for unit in (row, column, box)]
    distinct = np.add.reduce(np.concatenate(bits), axis=0, dtype=np.uint16)
    return Units(row, column, box, distinct != terms)


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
