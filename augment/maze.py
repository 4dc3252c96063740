"""Mazes: read from a source and checked, or generated with exactly one shortest path; and their dataset."""

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from arcpipe import boards
from arcpipe.augment.puzzles import (
    BoardSettings,
    BoardSummary,
    SolvedBoards,
    Table,
    build_boards,
    byte_keys,
    draw_rows,
    read_split,
)
from arcpipe.augmentation import DIHEDRALS, apply_dihedral
from arcpipe.documents import read_text
from arcpipe.errors import DataError
from arcpipe.log import Progress

_LEAST_GENERATED = 5
_PURPOSE = 0x6D617A65
_BATCH = 256
# Largest share of a maze's walls that is opened after carving, which makes loops.
_MAX_OPENED = 0.05
# Give up if fewer than one maze in a hundred qualifies after this many tries.
_LEAST_TRIES = 4096
_TRIES_PER_MAZE = 100


@dataclass(frozen=True, kw_only=True)
class MazeSettings(BoardSettings):
    """The table [data] of a recipe for mazes."""

    num_aug: Annotated[int, Field(ge=0, le=7, description="Turns and flips of each maze beside itself.")] = 7
    size: Annotated[int, Field(description="With --generate: side of the mazes, 5 to 64.")] = 30
    min_path: Annotated[
        int, Field(ge=0, description="With --generate: the shortest path has more moves than this.")
    ] = 110


def build_maze(settings: MazeSettings, out: Path) -> BoardSummary:
    """Build a dataset folder of mazes; errors as of `build_boards`."""
    total = settings.generate + settings.test
    return build_boards(
        "maze", settings, out,
        lambda: generate_mazes(total, settings.size, settings.min_path, settings.seed).split(settings.test),
        read_mazes, canonical,
    )  # fmt: skip


def canonical(questions: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """Return keys (N,) that are equal if and only if two mazes are equal up to a turn or flip."""
    # Without zeros, mazes of different sizes differ too.
    cells = questions + np.uint8(1)
    smallest = byte_keys(cells)
    for dihedral in range(1, len(DIHEDRALS)):
        keys = byte_keys(apply_dihedral(cells, dihedral))
        smallest = np.where(keys < smallest, keys, smallest)
    return smallest


def read_mazes(settings: BoardSettings, split: str = "train") -> SolvedBoards:
    """Read the mazes of a split, all of one side, in order.

    A maze consists of walls '#', free cells ' ', a start 'S' and a goal 'G'; its answer marks a path with
    'o'. Text files hold mazes of S lines, separated by empty lines; a shortest path is added where none is
    marked.

    Raises:  DataError naming the file and the row, counted from 1, of an invalid maze or path.
    """
    question = settings.question
    table = read_split(settings, split, _read_text)
    side = table.side(question, range(2, boards.MAX_BOARD_SIDE + 1), f"2 to {boards.MAX_BOARD_SIDE}")
    columns = table.boards(side, dict.fromkeys(table.columns, boards.CHARACTERS))
    questions, answers = columns[question], columns[settings.answer if table.has_answers else question]
    if not table.has_answers:
        questions = np.where(questions == boards.PATH, boards.FREE, questions).astype(np.uint8)
    table.refuse(((questions == boards.PATH).any(axis=(1, 2)), f"{question} marks a path with 'o'"))
    for value, what in ((boards.START, "start 'S'"), (boards.GOAL, "goal 'G'")):
        number = (questions == value).sum(axis=(1, 2))
        table.refuse((number == 0, f"no {what}"))
        table.refuse((number > 1, f"more than one {what}"))
    to_goal = boards.at(boards.distances(questions), boards.cells_of(questions, boards.GOAL))
    table.refuse((to_goal < 0, "no way from the start to the goal"))

    if not table.has_answers:
        bare = ~(answers == boards.PATH).any(axis=(1, 2))
        answers[bare] = boards.mark_shortest_paths(questions[bare])
    other = (np.where(answers == boards.PATH, boards.FREE, answers) != questions).any(axis=(1, 2))
    table.refuse((other, "the answer differs from the question in more than its path"))
    table.refuse((boards.path_moves(questions, answers) < 0, "the answer's path is broken"))
    longer = ~boards.is_shortest_path(questions, answers)
    table.refuse((longer, "the answer marks another path than a shortest one, or cells beside it"))
    rows, total = draw_rows(settings, split, len(questions))
    return SolvedBoards(questions, answers, table.files, total).take(rows)


def _read_text(path: Path, column: str) -> Table:
    """Read a file of square mazes of one side, separated by blank lines."""
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


def generate_mazes(count: int, size: int, min_path: int, seed: int) -> SolvedBoards:
    """Generate random mazes of size x size with one shortest path of more than `min_path` moves.

    No two mazes are equal under any turn or flip, so a training and a test set generated together are
    disjoint. A larger count starts with the mazes of a smaller one.

    Raises:  DataError if `size` is not 5 to 64, or if fewer than one random maze in a hundred is new and
             has such a path.
    """
    if not _LEAST_GENERATED <= size <= boards.MAX_BOARD_SIDE:
        raise DataError(
            f"mazes of {size} x {size}: the side should be {_LEAST_GENERATED} to {boards.MAX_BOARD_SIDE}"
        )
    mazes: dict[bytes, NDArray[np.uint8]] = {}
    longest = tries = 0
    with Progress(total=count, unit="maze", desc="mazes") as bar:
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
    return SolvedBoards(questions, boards.mark_shortest_paths(questions))


def _draw_mazes(size: int, min_path: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], int]:
    """Draw a batch: the questions (N, S, S) with a long enough path, and the length of the longest path."""
    passable = _carve(_BATCH, size, rng)
    passable |= rng.random(passable.shape) < _MAX_OPENED * rng.random((_BATCH, 1, 1))
    cells = passable.reshape(_BATCH, -1)
    starts = _pick(cells, rng)
    moves, unique = _unique_paths(passable, starts)
    # A start with no goal far enough away moves to the cell farthest from it, which in a maze without loops
    # is an end of the longest path.
    short = (moves * unique).max(axis=1) <= min_path
    starts[short] = moves[short].argmax(axis=1)
    moves[short], unique[short] = _unique_paths(passable[short], starts[short])
    goals_allowed = unique & (moves > min_path) & (moves > 0)
    goals = _pick(goals_allowed, rng)
    mazes, number = np.where(cells, boards.FREE, boards.WALL).astype(np.uint8), np.arange(_BATCH)
    mazes[number, starts], mazes[number, goals] = boards.START, boards.GOAL
    return mazes.reshape(passable.shape)[goals_allowed.any(axis=1)], int((moves * unique).max())


def _unique_paths(
    passable: NDArray[np.bool_], starts: NDArray[np.intp]
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Return the moves (N, S * S) from the starts to each cell, and whether the shortest path is unique."""
    paths = boards.search(passable, starts)
    shape = (len(passable), passable.shape[1] ** 2)
    return paths.distances.reshape(shape), paths.counts.reshape(shape) == 1


def _pick(allowed: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.intp]:
    """Pick a random allowed cell (N,) of each row; any cell of a row that allows none."""
    cells: NDArray[np.intp] = np.where(allowed, rng.random(allowed.shape), -1.0).argmax(axis=1)
    return cells


def _carve(count: int, size: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Carve the passable cells (N, S, S) of perfect mazes, depth first from a random cell.

    A cell is carved if exactly one of its neighbors is passable. Without a lattice of rooms, boards of even
    side are filled like those of odd side.
    """
    width = size + 2
    moves = np.array([-width, -1, 1, width])
    walls = np.zeros((count, width, width), bool)
    walls[:, 1:-1, 1:-1] = True
    flat_walls, num_passable = walls.ravel(), np.zeros(walls.size, np.uint8)
    start = rng.integers(1, size + 1, (count, 2))
    stacks = np.zeros((count, size * size), np.int32)
    stacks[:, 0] = np.arange(count) * width**2 + start[:, 0] * width + start[:, 1]
    flat_walls[stacks[:, 0]] = False
    num_passable[stacks[:, :1] + moves] += 1
    depths, active = np.zeros(count, np.intp), np.arange(count)
    while active.size:
        neighbors = stacks[active, depths[active]][:, None] + moves
        allowed = flat_walls[neighbors] & (num_passable[neighbors] == 1)
        advances = allowed.any(axis=1)
        cells, mazes = neighbors[advances, _pick(allowed, rng)[advances]], active[advances]
        flat_walls[cells] = False
        num_passable[cells[:, None] + moves] += 1
        depths[active] += np.where(advances, 1, -1)
        stacks[mazes, depths[mazes]] = cells
        active = active[depths[active] >= 0]
    return ~walls[:, 1:-1, 1:-1]
