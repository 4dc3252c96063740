"""The rules of Sudoku, on batches of boards: side 4, 6 or 9, cells 0 (empty) or a digit 1..side."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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
