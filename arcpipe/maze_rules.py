"""Shortest paths in batches of mazes, all mazes of a batch at once.

A batch is an array (N, S, S) of uint8: 0 wall, 1 free, 2 start, 3 goal, 4 path; S is at most 64. A
move goes up, down, left or right.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arcpipe.augmentation import DIHEDRALS

CHARACTERS = "# SGo"
WALL, FREE, START, GOAL, PATH = range(len(CHARACTERS))
MAX_SIDE = 64


class Search(NamedTuple):
    """What a breadth-first search finds: moves (N, S, S) int16 to each cell, -1 where there is no way,
    and the number of shortest ways (N, S, S) uint8 there: 0, 1, or 2 for two and more."""

    distances: NDArray[np.int16]
    counts: NDArray[np.uint8]


def search(passable: NDArray[np.bool_], sources: NDArray[np.integer]) -> Search:
    """The breadth-first search from one cell of each board.

    Args:  passable: (N, S, S) cells that can be entered.
           sources: (N,) the cell to start from, row * S + column.
    """
    side = passable.shape[1]
    # A border of walls saves every check whether a move leaves the board.
    free = np.pad(passable, ((0, 0), (1, 1), (1, 1))).ravel()
    distances, counts = np.full(free.size, -1, np.int16), np.zeros(free.size, np.uint8)
    frontier = _padded_cells(sources, side)
    distances[frontier], counts[frontier] = 0, 1
    moves = np.array(_moves(side + 2))
    step = 0
    while frontier.size:
        step += 1
        reached = frontier[:, None] + moves
        new = free[reached] & (distances[reached] < 0)
        ways = np.broadcast_to(counts[frontier][:, None], new.shape)[new]
        reached = reached[new]
        np.add.at(counts, reached, ways)
        frontier = np.unique(reached)
        counts[frontier] = np.minimum(counts[frontier], 2)
        distances[frontier] = step
    padded = (len(passable), side + 2, side + 2)
    return Search(*(array.reshape(padded)[:, 1:-1, 1:-1] for array in (distances, counts)))


def distances(questions: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Moves (N, S, S) from the start to each cell; -1 for walls and where there is no way."""
    return search(questions != WALL, cells_of(questions, START)).distances


def cells_of(questions: NDArray[np.uint8], value: int) -> NDArray[np.intp]:
    """The first cell (N,), row * S + column, that holds `value`."""
    cells: NDArray[np.intp] = (_flat(questions) == value).argmax(axis=1)
    return cells


def at(values: NDArray[np.integer], cells: NDArray[np.integer]) -> NDArray[np.integer]:
    """The entries (N,) of (N, S, S) values at one cell, row * S + column, of each board."""
    picked: NDArray[np.integer] = _flat(values)[np.arange(len(values)), cells]
    return picked


def mark_shortest_paths(questions: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The questions with the cells of a shortest path between start and goal marked.

    Of several paths, the one that seen from the goal goes up, else left, else right, else down first.
    A maze without a way stays as it is.
    """
    side = questions.shape[1]
    to_start = np.pad(distances(questions), ((0, 0), (1, 1), (1, 1)), constant_values=-1).ravel()
    answers = np.pad(questions, ((0, 0), (1, 1), (1, 1)))
    marked, moves = answers.ravel(), np.array(_moves(side + 2))
    here = _padded_cells(cells_of(questions, GOAL), side)
    while (here := here[to_start[here] > 1]).size:
        near = here[:, None] + moves
        closer = to_start[near] == to_start[here][:, None] - 1
        here = near[np.arange(len(near)), closer.argmax(axis=1)]
        marked[here] = PATH
    return np.ascontiguousarray(answers[:, 1:-1, 1:-1])


def is_shortest_path(questions: NDArray[np.uint8], answers: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether each answer is its question with any one of the shortest paths marked (N,).

    Args:  questions: mazes with one start and one goal.
           answers: (N, S, S) any values, such as a model's predictions.
    """
    marked = answers == PATH
    same_maze = (np.where(marked, FREE, answers) == questions).all(axis=(1, 2))
    shortest = at(distances(questions), cells_of(questions, GOAL))
    walked = path_moves(questions, answers) == shortest
    # As many cells as the walk has between its ends: none is marked beside it.
    valid: NDArray[np.bool_] = same_maze & (shortest > 0) & walked & (marked.sum(axis=(1, 2)) == shortest - 1)
    return valid


def path_moves(questions: NDArray[np.uint8], answers: NDArray[np.uint8]) -> NDArray[np.integer]:
    """Moves (N,) from start to goal over the cells that the answers mark; -1 where they do not connect."""
    passable = (answers == PATH) | (questions == START) | (questions == GOAL)
    return at(search(passable, cells_of(questions, START)).distances, cells_of(questions, GOAL))


def canonical(questions: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """Keys (N,) that are equal where mazes differ by a turn or flip at most, and only there."""
    smallest = _turned(questions, 0)
    rows = np.arange(len(questions))
    for dihedral in range(1, len(DIHEDRALS)):
        turned = _turned(questions, dihedral)
        first = (turned != smallest).argmax(axis=1)
        smaller = turned[rows, first] < smallest[rows, first]
        smallest[smaller] = turned[smaller]
    return smallest.view(f"S{smallest.shape[1]}")[:, 0]


def overlap(questions: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which of the questions (N,) are, turned or flipped, among the others, which may differ in size."""
    return np.isin(canonical(questions), canonical(others))


def _turned(questions: NDArray[np.uint8], dihedral: int) -> NDArray[np.uint8]:
    """The cells (N, S * S) of the turned mazes, as values from 1: a key of bytes drops zeros at its end."""
    transpose, flip_rows, flip_columns = DIHEDRALS[dihedral]
    turned = questions[:, :: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
    return _flat(turned.swapaxes(1, 2) if transpose else turned) + np.uint8(1)


def _flat(boards: NDArray[Any]) -> NDArray[Any]:
    """Boards (N, S, S) as rows (N, S * S)."""
    return boards.reshape(len(boards), boards.shape[1] * boards.shape[2])


def _moves(width: int) -> tuple[int, int, int, int]:
    """Up, left, right and down, as steps in a flat board of that width."""
    return -width, -1, 1, width


def _padded_cells(cells: NDArray[np.integer], side: int) -> NDArray[np.intp]:
    """Where the cell (N,) of each board lies in a flat batch of boards with a border."""
    row, column = np.divmod(cells, side)
    padded: NDArray[np.intp] = np.arange(len(cells)) * (side + 2) ** 2 + (row + 1) * (side + 2) + column + 1
    return padded
