"""The rules of mazes and Sudoku: shortest paths, valid solutions, shuffles that preserve them.

Everything is vectorized over a batch of boards (N, S, S), uint8. Cells of a maze: 0 wall, 1 free, 2 start,
3 goal, 4 path; S is at most 64, and a move goes up, down, left or right. Cells of a Sudoku: 0 (empty) or a
digit 1..S; S is 4, 6 or 9.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arcpipe.augmentation import random_bits

CHARACTERS = "# SGo"
WALL, FREE, START, GOAL, PATH = range(len(CHARACTERS))
MAX_BOARD_SIDE = 64
BOXES = {4: (2, 2), 6: (2, 3), 9: (3, 3)}
"""Height and width of a box, by the board's side."""

Cells = NDArray[np.uint16]
"""Sudoku cells (S, S, N): rows, columns, boards; bit d - 1 is set if digit d is possible."""


def is_valid(family: str, questions: NDArray[np.uint8], answers: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return whether each answer (N, S, S), of any values, solves its question of Sudoku or maze; (N,).

    An answer to a Sudoku must keep the givens and have each digit once in every row, column and box.
    """
    if family == "maze":
        return is_shortest_path(questions, answers)
    are_digits: NDArray[np.bool_] = ((answers >= 1) & (answers <= questions.shape[1])).all(axis=(1, 2))
    broken = repeats(np.where(are_digits[:, None, None], answers, 0)) | differs(questions, answers)
    return are_digits & ~broken


class Search(NamedTuple):
    """The result of a breadth-first search.

    distances: (N, S, S) moves to each cell, -1 if it cannot be reached.
    counts: (N, S, S) number of shortest paths to it: 0, 1, or 2 for two or more.
    """

    distances: NDArray[np.int16]
    counts: NDArray[np.uint8]


def search(passable: NDArray[np.bool_], sources: NDArray[np.integer]) -> Search:
    """Search breadth-first from one cell of each board.

    Args:  passable: (N, S, S) cells that can be entered.
           sources: (N,) the cell to start from, row * S + column.
    """
    side = passable.shape[1]
    # A border of walls makes checks for moves off the board needless.
    free = np.pad(passable, ((0, 0), (1, 1), (1, 1))).ravel()
    distances, counts = np.full(free.size, -1, np.int16), np.zeros(free.size, np.uint8)
    frontier = _padded_cells(sources, side)
    distances[frontier], counts[frontier] = 0, 1
    moves = np.array(_moves(side + 2))
    step = 0
    while frontier.size:
        step += 1
        targets = frontier[:, None] + moves
        new = free[targets] & (distances[targets] < 0)
        ways = np.broadcast_to(counts[frontier][:, None], new.shape)[new]
        targets = targets[new]
        np.add.at(counts, targets, ways)
        frontier = np.unique(targets)
        counts[frontier] = np.minimum(counts[frontier], 2)
        distances[frontier] = step
    padded = (len(passable), side + 2, side + 2)
    return Search(*(array.reshape(padded)[:, 1:-1, 1:-1] for array in (distances, counts)))


def distances(questions: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Return the moves (N, S, S) from the start to each cell; -1 for walls and unreachable cells."""
    return search(questions != WALL, cells_of(questions, START)).distances


def cells_of(questions: NDArray[np.uint8], value: int) -> NDArray[np.intp]:
    """Return the first cell (N,), row * S + column, with this value."""
    cells: NDArray[np.intp] = (_flat(questions) == value).argmax(axis=1)
    return cells


def at(values: NDArray[np.integer], cells: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return the value (N,) of each board (N, S, S) at a cell, row * S + column, of that board."""
    found: NDArray[np.integer] = _flat(values)[np.arange(len(values)), cells]
    return found


def mark_shortest_paths(questions: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return copies of the questions with a shortest path between start and goal marked.

    From the goal, each move goes up if that is shortest, else left, else right, else down. A maze without a
    path is not changed.
    """
    side = questions.shape[1]
    to_start = np.pad(distances(questions), ((0, 0), (1, 1), (1, 1)), constant_values=-1).ravel()
    answers = np.pad(questions, ((0, 0), (1, 1), (1, 1)))
    cells, moves = answers.ravel(), np.array(_moves(side + 2))
    here = _padded_cells(cells_of(questions, GOAL), side)
    while (here := here[to_start[here] > 1]).size:
        near = here[:, None] + moves
        closer = to_start[near] == to_start[here][:, None] - 1
        here = near[np.arange(len(near)), closer.argmax(axis=1)]
        cells[here] = PATH
    return np.ascontiguousarray(answers[:, 1:-1, 1:-1])


def is_shortest_path(questions: NDArray[np.uint8], answers: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return whether each answer is its question with any one of its shortest paths marked; (N,).

    Args:  questions: mazes with one start and one goal.
           answers: (N, S, S) any values, such as a model's predictions.
    """
    is_path = answers == PATH
    same_maze = (np.where(is_path, FREE, answers) == questions).all(axis=(1, 2))
    shortest = at(distances(questions), cells_of(questions, GOAL))
    is_connected = path_moves(questions, answers) == shortest
    # As many marked cells as the path has, so that none is marked elsewhere.
    valid: NDArray[np.bool_] = (
        same_maze & (shortest > 0) & is_connected & (is_path.sum(axis=(1, 2)) == shortest - 1)
    )
    return valid


def path_moves(questions: NDArray[np.uint8], answers: NDArray[np.uint8]) -> NDArray[np.integer]:
    """Return the moves (N,) from start to goal over the cells marked in answers; -1 if there is no path."""
    passable = (answers == PATH) | (questions == START) | (questions == GOAL)
    return at(search(passable, cells_of(questions, START)).distances, cells_of(questions, GOAL))


def _flat(boards: NDArray[Any]) -> NDArray[Any]:
    """Return boards (N, S, S) flattened to (N, S * S)."""
    return boards.reshape(len(boards), boards.shape[1] * boards.shape[2])


def _moves(width: int) -> tuple[int, int, int, int]:
    """Return the index offsets of moves up, left, right and down in a flat board of this width."""
    return -width, -1, 1, width


def _padded_cells(cells: NDArray[np.integer], side: int) -> NDArray[np.intp]:
    """Return the index (N,) of a cell of each board in the flat batch of boards with a border."""
    row, column = np.divmod(cells, side)
    padded: NDArray[np.intp] = np.arange(len(cells)) * (side + 2) ** 2 + (row + 1) * (side + 2) + column + 1
    return padded


def repeats(boards: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return whether a digit occurs twice in a row, column or box of each board (N, S, S); (N,)."""
    side = boards.shape[1]
    bits = np.array([0, *(1 << digit for digit in range(side))], np.uint16)
    return gather(np.ascontiguousarray(bits[boards].transpose(1, 2, 0))).repeats


def differs(questions: NDArray[np.uint8], answers: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return whether each answer differs from a given of its question; (N,)."""
    differs: NDArray[np.bool_] = ((questions != 0) & (questions != answers)).any(axis=(1, 2))
    return differs


class Units(NamedTuple):
    """The digits in each unit (row, column, box) of N boards, as bits.

    row, column: (S, N).
    box: (bands, stacks, N).
    repeats: (N,) whether a digit occurs twice in a unit of the board; then its bits are invalid.
    """

    row: Cells
    column: Cells
    box: Cells
    repeats: NDArray[np.bool_]


def gather(cells: Cells) -> Units:
    """Return the digits in each row, column and box of cells with at most one bit each."""
    side, _, total = cells.shape
    height, width = BOXES[side]
    boxes = cells.reshape(side // height, height, side // width, width, total)
    row, column = (np.add.reduce(cells, axis=axis, dtype=np.uint16) for axis in (1, 0))
    box = np.add.reduce(boxes, axis=(1, 3), dtype=np.uint16)
    # A sum of single bits has as many bits as terms if they differ, else fewer.
    terms = 3 * np.add.reduce(cells != 0, axis=(0, 1), dtype=np.uint16)
    bits = [np.bitwise_count(unit).reshape(side, total) for unit in (row, column, box)]
    distinct = np.add.reduce(np.concatenate(bits), axis=0, dtype=np.uint16)
    return Units(row, column, box, distinct != terms)


class Shuffle(NamedTuple):
    """N rearrangements of boards of side S: `out[r, c] = digits[board[rows[r], columns[c]]]`.

    With `transpose` the source is the transposed board: `digits[board[columns[c], rows[r]]]`.

    digits: (N, S + 1) uint8, the new digit of each old one; 0, an empty cell, stays 0.
    rows, columns: (N, S) intp, the source of each row and column.
    transpose: (N,) bool.
    """

    digits: NDArray[np.uint8]
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    transpose: NDArray[np.bool_]


def shuffles(side: int, seed: int, boards: NDArray[np.integer], variants: NDArray[np.integer]) -> Shuffle:
    """Return the shuffle of each variant (N,) of each board number (N,); variant 0 is the identity.

    A shuffle permutes the digits, the bands, the rows in each band, the stacks and the columns in each stack,
    and transposes the board or not; all are equally likely. Side 6 is not transposed, because its boxes are
    not square.

    Args:  seed, boards, variants: not negative; a shuffle is a function of these three.
    """
    height, width = BOXES[side]
    board, variant = (numbers.astype(np.uint64)[:, None] for numbers in (boards, variants))
    draws = np.arange(side + 2 * (side + side) + 1, dtype=np.uint64)
    bits = random_bits(seed, board, variant, draws)
    digits, rows, columns, turn = np.split(bits, [side, 3 * side, 5 * side], axis=1)
    is_identity = variants == 0
    new_digits = np.zeros((len(boards), side + 1), np.uint8)
    new_digits[:, 1:] = 1 + _or_identity(np.argsort(digits, axis=1), is_identity)
    return Shuffle(
        new_digits,
        _or_identity(_order_lines(rows, height), is_identity),
        _or_identity(_order_lines(columns, width), is_identity),
        (turn[:, 0] >> np.uint64(63) == 1) & ~is_identity & (height == width),
    )


def _order_lines(bits: NDArray[np.uint64], thickness: int) -> NDArray[np.intp]:
    """Return an order (N, S) of the lines that keeps those of a box together, from bits (N, 2 * S)."""
    count, side = len(bits), bits.shape[1] // 2
    groups = side // thickness
    order = np.argsort(bits[:, :groups], axis=1)
    within = np.argsort(bits[:, side:].reshape(count, groups, thickness), axis=2)
    return (order[:, :, None] * thickness + within).reshape(count, side)


def _or_identity(orders: NDArray[np.intp], is_identity: NDArray[np.bool_]) -> NDArray[np.intp]:
    return np.where(is_identity[:, None], np.arange(orders.shape[1]), orders)
