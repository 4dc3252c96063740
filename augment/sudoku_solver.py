"""A Sudoku solver over batches: many boards at once as arrays of candidate bits.

Cells are arrays (S, S, N), uint16, bit d - 1 set where digit d is possible: rows, columns, boards. The
boards lie last, so that numpy works on long contiguous runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from arcpipe.sudoku_rules import BOXES, Cells, gather

_ONE = np.uint16(1)
_BLOCK = 1024
"""Boards that one step works on: few enough for a processor's cache."""


@dataclass(frozen=True)
class Solutions:
    """The solutions of N puzzles.

    count: (N,) uint8: 0, 1, or 2 for at least two.
    answers: (N, S, S) uint8: the solution where there is one alone, else zeros.
    rating: (N,) int64: the boards that had to be split.
    """

    count: NDArray[np.uint8]
    answers: NDArray[np.uint8]
    rating: NDArray[np.int64]


def solve_boards(questions: NDArray[np.uint8]) -> Solutions:
    """Solve puzzles (N, S, S), 0 for an empty cell; a puzzle is left at its second solution.

    The search fills in naked singles (a cell with one candidate) and hidden singles (a digit with one
    cell in a row, column or box) until nothing changes. A board that is neither solved nor contradictory
    then is split at its first cell, in reading order, with the fewest candidates into one board for each
    of them. The rating is the number of boards split until the search was exhausted: 0 for puzzles that
    singles solve, and -1 where there are several solutions, because it was not exhausted.
    """
    count, answers, rating = search(candidates(questions), limit=2)
    answers[count != 1] = 0
    rating[count == 2] = -1
    return Solutions(count, answers, rating)


def candidates(boards: NDArray[np.uint8]) -> Cells:
    """Return the cells (S, S, N) of boards (N, S, S): a given cell's digit, all digits in an empty one."""
    side = boards.shape[1]
    bits = np.array([(1 << side) - 1, *(1 << digit for digit in range(side))], np.uint16)
    return np.ascontiguousarray(bits[boards].transpose(1, 2, 0))


def search(cells: Cells, limit: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int64]]:
    """Return counts (N,) up to `limit`, a solution (N, S, S) or zeros, and boards split (N,) of N puzzles."""
    side, _, total = cells.shape
    count, rating = np.zeros(total, np.int64), np.zeros(total, np.int64)
    answers = np.zeros((total, side, side), np.uint8)
    stack = [(cells, np.arange(total))]
    while stack:
        cells, owners = _take(stack)
        searched = count[owners] < limit
        if not searched.all():
            cells, owners = cells[..., searched], owners[searched]
        done = propagate(cells)
        np.add.at(count, owners[done.solved], 1)
        answers[owners[done.solved]] = digits_of(done.cells[..., done.solved])
        np.add.at(rating, owners[done.stuck], 1)
        if done.stuck.any():
            stack.append(_split(done.cells[..., done.stuck], owners[done.stuck]))
        if done.unfinished.any():
            stack.append((done.cells[..., done.unfinished], owners[done.unfinished]))
    return np.minimum(count, limit).astype(np.uint8), answers, rating


def digits_of(cells: Cells) -> NDArray[np.uint8]:
    """Return the boards (N, S, S) of cells with one candidate each."""
    digits: NDArray[np.uint8] = np.bitwise_count(cells - _ONE) + np.uint8(1)
    return digits.transpose(2, 0, 1)


def _take(stack: list[tuple[Cells, NDArray[np.intp]]]) -> tuple[Cells, NDArray[np.intp]]:
    """Take up to _BLOCK boards off the stack, the last first: depth first, so that it stays small."""
    parts: list[tuple[Cells, NDArray[np.intp]]] = []
    left = _BLOCK
    while stack and left:
        cells, owners = stack.pop()
        if len(owners) > left:
            stack.append((cells[..., :-left], owners[:-left]))
            cells, owners = cells[..., -left:], owners[-left:]
        parts.append((cells, owners))
        left -= len(owners)
    return np.concatenate([cells for cells, _ in parts], axis=2), np.concatenate([own for _, own in parts])


def _split(cells: Cells, owners: NDArray[np.intp]) -> tuple[Cells, NDArray[np.intp]]:
    """Return one board for each candidate of each board's first cell with the fewest."""
    side, _, total = cells.shape
    cells = cells.reshape(side * side, total)
    choices = np.bitwise_count(cells).astype(np.uint16)
    choices += np.uint16(side) * (choices == 1)
    # The smallest of `choices, place` as one number.
    place = (
        np.minimum.reduce(choices * np.uint16(128) + np.arange(side * side, dtype=np.uint16)[:, None]) & 127
    )
    bits = _ONE << np.arange(side, dtype=np.uint16)[:, None]
    digit, board = np.nonzero(cells[place, np.arange(total)] & bits)
    children = cells[:, board]
    children[place[board], np.arange(len(board))] = bits[digit, 0]
    return children.reshape(side, side, -1), owners[board]


class Round(NamedTuple):
    """Cells after a round of singles, and what became of the boards.

    solved, unfinished, stuck: (N,) which boards are solved, have changed, are to be split. The others are
    contradictory. A contradiction may take a round more to show, but not in a solved board.
    """

    cells: Cells
    solved: NDArray[np.bool_]
    unfinished: NDArray[np.bool_]
    stuck: NDArray[np.bool_]


def propagate(cells: Cells) -> Round:
    """Fill in one round of naked, then hidden singles."""
    side, _, total = cells.shape
    height, width = BOXES[side]
    boxed = (side // height, height, side // width, width, total)

    alone = cells * ((cells & (cells - _ONE)) == 0)
    units = gather(alone)
    num_alone = np.add.reduce(alone != 0, axis=(0, 1), dtype=np.uint16)
    left = cells & (~_spread(units.row, units.column, units.box) | alone)

    boxes = left.reshape(boxed)
    row, all_in_row = _once([left[:, place] for place in range(side)])
    column, all_in_column = _once([left[place] for place in range(side)])
    box, all_in_box = _once([boxes[:, i, :, j] for i in range(height) for j in range(width)])
    hidden = left & _spread(row, column, box)
    present = all_in_row & all_in_column & all_in_box.reshape(side, total)
    dead = units.repeats | (np.bitwise_and.reduce(present, axis=0) != (1 << side) - 1)
    dead |= np.bitwise_or.reduce(hidden & (hidden - _ONE), axis=(0, 1)) != 0
    dead |= np.minimum.reduce(left, axis=(0, 1)) == 0
    left &= hidden | -(hidden == 0).astype(np.uint16)
    solved = (num_alone == side * side) & ~dead
    changed = np.bitwise_or.reduce(left ^ cells, axis=(0, 1)) != 0
    return Round(left, solved, changed & ~dead, ~changed & ~dead & ~solved)


def _spread(row: Cells, column: Cells, box: Cells) -> Cells:
    """Return for each cell the bits of its row (S, N), its column (S, N) and its box (bands, stacks, N)."""
    bands, stacks, total = box.shape
    cells = row[:, None] | column[None]
    side = len(row)
    boxes = cells.reshape(bands, side // bands, stacks, side // stacks, total)
    boxes |= box[:, None, :, None]
    return cells


def _once(places: Sequence[Cells]) -> tuple[Cells, Cells]:
    """Return the bits that are set in one place alone, and those set in any."""
    once, twice = places[0].copy(), np.zeros_like(places[0])
    for place in places[1:]:
        twice |= once & place
        once |= place
    return once & ~twice, once
