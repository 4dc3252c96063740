"""The rules by which an answer to a Sudoku or a maze is right, whichever answer was recorded."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from arcpipe.maze_rules import is_shortest_path
from arcpipe.shuffles import BOXES

Cells = NDArray[np.uint16]
"""Sudoku cells (S, S, N): rows, columns, boards; bit d - 1 is set where digit d is possible."""


def is_valid(family: str, questions: NDArray[np.uint8], answers: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether each answer (N, S, S), of any values, solves its question; (N,).

    A maze is solved by any shortest path, a Sudoku by a board whose rows, columns and boxes hold each digit
    once and that keeps the givens.

    Args:  family: sudoku or maze.
    """
    if family == "maze":
        return is_shortest_path(questions, answers)
    side = questions.shape[1]
    are_digits: NDArray[np.bool_] = ((answers >= 1) & (answers <= side)).all(axis=(1, 2))
    broken = repeats(np.where(are_digits[:, None, None], answers, 0)) | differs(questions, answers)
    return are_digits & ~broken


def repeats(boards: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether a digit comes twice in a row, column or box of each board (N, S, S); (N,)."""
    side = boards.shape[1]
    bits = np.array([0, *(1 << digit for digit in range(side))], np.uint16)
    return gather(np.ascontiguousarray(bits[boards].transpose(1, 2, 0))).repeats


def differs(questions: NDArray[np.uint8], answers: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether an answer has another digit where its question gives one; (N,)."""
    differs: NDArray[np.bool_] = ((questions != 0) & (questions != answers)).any(axis=(1, 2))
    return differs


class Units(NamedTuple):
    """The bits of each row (S, N), column (S, N) and box (bands, stacks, N), and in which boards (N,) a
    bit comes twice in one of them; the bits of such a board mean nothing."""

    row: Cells
    column: Cells
    box: Cells
    repeats: NDArray[np.bool_]


def gather(cells: Cells) -> Units:
    """What stands in the rows, columns and boxes of cells that have one bit or none."""
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
