"""Mazes of a source, checked row by row, and mazes that are made up with exactly one shortest path."""

from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from arcpipe.augment.puzzle_tables import PuzzleSettings, SolvedPuzzles, Table, draw_rows, read_split
from arcpipe.boards import (
    CHARACTERS,
    FREE,
    GOAL,
    MAX_SIDE,
    PATH,
    START,
    WALL,
    at,
    canonical,
    cells_of,
    distances,
    is_shortest_path,
    mark_shortest_paths,
    path_moves,
    search,
)
from arcpipe.documents import read_text
from arcpipe.errors import DataError
from arcpipe.log import progress

_LEAST_GENERATED = 5
_PURPOSE = 0x6D617A65
_BATCH = 256
# At most this share of a maze's walls is opened after carving, so that there are loops.
_MAX_OPENED = 0.05
# Give up where fewer than one maze in a hundred qualifies, but not before these many.
_LEAST_TRIES = 4096
_TRIES_PER_MAZE = 100


def read_mazes(settings: PuzzleSettings, split: str = "train") -> SolvedPuzzles:
    """Read the mazes of a split, all of one side, in their order.

    They are of walls '#', free cells ' ', a start 'S' and a goal 'G', and their answers mark a path 'o'. A
    text file has mazes of S lines, parted by empty lines, and one that marks no path gets one.

    Raises:  DataError naming file and row, from 1, of what is no maze or no shortest path.
    """
    question = settings.question
    table = read_split(settings, split, lambda path: _read_text(path, question))
    side = table.side(question, range(2, MAX_SIDE + 1), f"2 to {MAX_SIDE}")
    boards = table.boards(side, dict.fromkeys(table.columns, CHARACTERS))
    questions, answers = boards[0], boards[-1]
    if not table.has_answers:
        questions = np.where(questions == PATH, FREE, questions).astype(np.uint8)
    table.refuse(((questions == PATH).any(axis=(1, 2)), f"{question} marks a path with 'o'"))
    for value, what in ((START, "start 'S'"), (GOAL, "goal 'G'")):
        number = (questions == value).sum(axis=(1, 2))
        table.refuse((number == 0, f"no {what}"))
        table.refuse((number > 1, f"more than one {what}"))
    to_goal = at(distances(questions), cells_of(questions, GOAL))
    table.refuse((to_goal < 0, "no way from the start to the goal"))

    if not table.has_answers:
        bare = ~(answers == PATH).any(axis=(1, 2))
        answers[bare] = mark_shortest_paths(questions[bare])
    other = (np.where(answers == PATH, FREE, answers) != questions).any(axis=(1, 2))
    table.refuse((other, "the answer differs from the question in more than its path"))
    table.refuse((path_moves(questions, answers) < 0, "the answer's path is broken"))
    longer = ~is_shortest_path(questions, answers)
    table.refuse((longer, "the answer marks another path than a shortest one, or cells beside it"))
    rows, total = draw_rows(settings, split, len(questions))
    return SolvedPuzzles(questions, answers, table.files, total).take(rows)


def _read_text(path: Path, column: str) -> Table:
    """Read a file of square mazes of one side; blank lines part them."""
    mazes = [list(lines) for filled, lines in groupby(read_text(path).splitlines(), key=bool) if filled]
    if not mazes:
        raise DataError(f"{path}: no mazes")
    side = len(mazes[0])
    for number, lines in enumerate(mazes, 1):
        lengths = [len(line) for line in lines]
        if lengths != [side] * side:
            raise DataError(
                f"{path}: maze {number}: {len(lines)} lines of {', '.join(map(str, lengths))} characters, it "
                f"should have {side}, as maze 1 has, of {side} characters each (spaces at the end count); "
                "one that is no square can be filled up with walls, #"
            )
    strings = pa.chunked_array([["".join(lines) for lines in mazes]])
    return Table({column: strings}, lambda row: f"{path}: maze {row + 1}", (path,), False)


def generate_mazes(count: int, size: int, min_path: int, seed: int) -> SolvedPuzzles:
    """Generate random mazes of size x size with one shortest path, of more than `min_path` moves.

    No two are equal, not even turned or flipped: a training and a test set that are drawn together and
    then parted are disjoint. The first mazes of a larger count are those of a smaller one.

    Raises:  DataError if `size` is not 5 to 64, or if fewer than one random maze in a hundred is new and
             has such a path.
    """
    if not _LEAST_GENERATED <= size <= MAX_SIDE:
        raise DataError(f"mazes of {size} x {size}: the side should be {_LEAST_GENERATED} to {MAX_SIDE}")
    mazes: dict[bytes, NDArray[np.uint8]] = {}
    longest = tries = 0
    with progress(total=count, initial=0, unit="maze", desc="mazes") as bar:
        while len(mazes) < count:
            if tries >= _LEAST_TRIES + _TRIES_PER_MAZE * len(mazes):
                raise DataError(
                    f"{len(mazes)} of {count} mazes of {size} x {size} with a shortest path of more than "
                    f"{min_path} moves in {tries} tries, the longest seen has {longest}: choose a "
                    "shorter path (--min-path), a larger side or fewer mazes"
                )
            rng = np.random.default_rng([seed, _PURPOSE, tries // _BATCH])
            questions, batch_longest = _draw_mazes(size, min_path, rng)
            tries, longest = tries + _BATCH, max(longest, batch_longest)
            before = len(mazes)
            for key, question in zip(canonical(questions).tolist(), questions, strict=True):
                mazes.setdefault(key, question)
            bar.update(min(len(mazes), count) - before)
    questions = np.array(list(mazes.values())[:count], np.uint8).reshape(count, size, size)
    return SolvedPuzzles(questions, mark_shortest_paths(questions))


def _draw_mazes(size: int, min_path: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], int]:
    """Draw questions (N, S, S) of the mazes of a batch that have such a path, and the longest path of all."""
    passable = _carve(_BATCH, size, rng)
    passable |= rng.random(passable.shape) < _MAX_OPENED * rng.random((_BATCH, 1, 1))
    cells = passable.reshape(_BATCH, -1)
    starts = _pick(cells, rng)
    moves, unique = _unique_paths(passable, starts)
    # A start without a goal far enough makes way for the cell farthest from it: in a maze without loops
    # one of the two ends of the longest path.
    near = (moves * unique).max(axis=1) <= min_path
    starts[near] = moves[near].argmax(axis=1)
    moves[near], unique[near] = _unique_paths(passable[near], starts[near])
    goals_allowed = unique & (moves > min_path) & (moves > 0)
    goals = _pick(goals_allowed, rng)
    boards, number = np.where(cells, FREE, WALL).astype(np.uint8), np.arange(_BATCH)
    boards[number, starts], boards[number, goals] = START, GOAL
    return boards.reshape(passable.shape)[goals_allowed.any(axis=1)], int((moves * unique).max())


def _unique_paths(
    passable: NDArray[np.bool_], starts: NDArray[np.intp]
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Return the moves (N, S * S) from the starts, and whether one shortest way leads to a cell."""
    paths = search(passable, starts)
    shape = (len(passable), passable.shape[1] ** 2)
    return paths.distances.reshape(shape), paths.counts.reshape(shape) == 1


def _pick(allowed: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.intp]:
    """Pick a random allowed cell (N,) of each row, any one where none is."""
    cells: NDArray[np.intp] = np.where(allowed, rng.random(allowed.shape), -1.0).argmax(axis=1)
    return cells


def _carve(count: int, size: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Carve the passable cells (N, S, S) of perfect mazes, depth first from a random cell.

    A cell is carved if just one of its neighbors is passable. That asks for no lattice of rooms, so an
    even board is filled like an odd one.
    """
    width = size + 2
    moves = np.array([-width, -1, 1, width])
    walls = np.zeros((count, width, width), bool)
    walls[:, 1:-1, 1:-1] = True
    flat_walls, neighbors = walls.ravel(), np.zeros(walls.size, np.uint8)
    start = rng.integers(1, size + 1, (count, 2))
    stacks = np.zeros((count, size * size), np.int32)
    stacks[:, 0] = np.arange(count) * width**2 + start[:, 0] * width + start[:, 1]
    flat_walls[stacks[:, 0]] = False
    neighbors[stacks[:, :1] + moves] += 1
    depths, active = np.zeros(count, np.intp), np.arange(count)
    while active.size:
        near = stacks[active, depths[active]][:, None] + moves
        fits = flat_walls[near] & (neighbors[near] == 1)
        goes_on = fits.any(axis=1)
        carved, going = near[goes_on, _pick(fits, rng)[goes_on]], active[goes_on]
        flat_walls[carved] = False
        neighbors[carved[:, None] + moves] += 1
        depths[active] += np.where(goes_on, 1, -1)
        stacks[going, depths[going]] = carved
        active = active[depths[active] >= 0]
    return ~walls[:, 1:-1, 1:-1]
