"""Sudokus with one solution: read from a source and checked, or generated; their dataset, and a batch solver.

The solver works on N boards at once, as `Cells` (S, S, N) of candidate bits. The boards are the last axis, so
that numpy works on long contiguous runs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

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
from arcpipe.boards import BOXES, Cells, differs, gather, repeats
from arcpipe.documents import read_text
from arcpipe.errors import DataError
from arcpipe.log import Progress
from arcpipe.recipe import Count

_ONE = np.uint16(1)
# Boards per step of the solver: few enough for the processor's cache.
_BLOCK = 1024
_VERIFY = 20_000
_CHECKED_AT_ONCE = 100_000
_SOLVED_AT_ONCE = 5_000
_FULL_AT_ONCE = 1024
_FRUITLESS_DRAWS = 20
_KEYS_AT_ONCE = 4096
# Purposes of random generators, which follow the seed.
_GENERATE, _SPLIT = 1, 2
# At this side there are so few puzzles that training and test sets must not even share shuffles of one.
_SMALL = 4


@dataclass(frozen=True, kw_only=True)
class SudokuSettings(BoardSettings):
    """The table [data] of a recipe for Sudokus."""

    num_aug: Annotated[
        Count | None, Field(description="Shuffles of each puzzle; inf for a fresh one at every draw.")
    ] = 1000
    side: Annotated[Literal[4, 6, 9], Field(description="With --generate: 4, 6 or 9.")] = 9
    min_rating: Annotated[
        int, Field(ge=0, description="With --generate: guesses that arcpipe's solver needs, at least.")
    ] = 0


def build_sudoku(settings: SudokuSettings, out: Path) -> BoardSummary:
    """Build a dataset folder of Sudokus; errors as of `build_boards`."""
    return build_boards("sudoku", settings, out, lambda: generate_split(settings), read_sudokus, byte_keys)


def read_sudokus(settings: BoardSettings, split: str = "train", *, verify: int = _VERIFY) -> SolvedBoards:
    """Read the Sudokus of a split, all of one side, in order; `.` and `0` are empty cells.

    A text file holds one puzzle a line; their answers are computed.

    Args:    verify: number of puzzles of a table, from the first, to check for a single solution.
    Raises:  DataError naming source and row, counted from 1, of an invalid Sudoku, of an answer to another
             puzzle, or of a puzzle without a solution or with several.
    """
    question, answer = settings.question, settings.answer
    table = read_split(settings, split, _read_text)
    for column, strings in table.columns.items():
        # Some tables have spaces between the digits.
        table.columns[column] = pc.replace_substring(strings, " ", "")
    side = table.side(question, BOXES, "4, 6 or 9")
    digits = "123456789"[:side]
    symbols = {question: ("0.", *digits)} | ({answer: ("", *digits)} if table.has_answers else {})
    boards = table.boards(side, symbols)
    questions = boards[question]
    for column, cells in boards.items():
        table.refuse((_in_parts(repeats, cells), f"{column} holds a digit twice in a row, column or box"))
    if table.has_answers:
        changed = _in_parts(differs, questions, boards[answer])
        table.refuse((changed, f"{answer} changes a digit that {question} gives"))

    rows, total = draw_rows(settings, split, len(questions))
    checked = rows[:verify] if table.has_answers else rows
    counts, solutions = np.ones(len(questions), np.uint8), np.zeros_like(questions)
    with Progress(total=len(checked), unit="puzzle", desc="verify") as bar:
        for start in range(0, len(checked), _SOLVED_AT_ONCE):
            part = checked[start : start + _SOLVED_AT_ONCE]
            solved = solve_boards(questions[part])
            counts[part], solutions[part] = solved.count, solved.answers
            bar.update(len(part))
    table.refuse(
        (counts == 0, f"{question} has no solution"), (counts > 1, f"{question} has more than one solution")
    )
    answers = boards[answer] if table.has_answers else solutions
    return SolvedBoards(questions[rows], answers[rows], table.files, total, len(rows) - len(checked))


def _read_text(path: Path, column: str) -> Table:
    """Read a file of one puzzle a line; messages count the blank lines, too."""
    lines = [line.strip() for line in read_text(path).splitlines()]
    numbers = [number for number, line in enumerate(lines, 1) if line]
    if not numbers:
        raise DataError(f"{path}: no puzzles, expected one a line")
    strings = pa.chunked_array([list(filter(None, lines))])
    return Table({column: strings}, lambda row: f"{path}: line {numbers[row]}", (path,), False)


def _in_parts(check: Callable[..., NDArray[np.bool_]], *arrays: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the result (N,) of a check of boards, computed in parts to keep temporary arrays small."""
    starts = range(0, len(arrays[0]), _CHECKED_AT_ONCE)
    return np.concatenate([check(*(part[s : s + _CHECKED_AT_ONCE] for part in arrays)) for s in starts])


def generate_sudokus(count: int, side: int, seed: int, min_rating: int = 0) -> SolvedBoards:
    """Generate `count` minimal puzzles of side 4, 6 or 9: one solution, and no clue can go.

    All puzzles differ; for sides 6 and 9 all solutions differ, too. Puzzles are not equally likely. A larger
    count starts with the puzzles of a smaller one.

    Args:    min_rating: least `rating` of `solve_boards`.
    Raises:  DataError if too few such puzzles come up.
    """
    parts: list[NDArray[np.uint8]] = []
    seen: set[bytes] = set()
    fruitless = hardest = lot = 0
    with Progress(total=count, unit="puzzle", desc="generate") as bar:
        while len(seen) < count:
            rng = np.random.default_rng([seed, _GENERATE, side, lot])
            answers = _full_boards(side, rng)
            questions = _take_clues(answers, rng)
            ratings = solve_boards(questions).rating
            new = []
            for item in np.flatnonzero(ratings >= min_rating):
                key = (questions if side == _SMALL else answers)[item].tobytes()
                if key not in seen and len(seen) < count:
                    seen.add(key)
                    new.append(item)
            parts.append(np.stack([questions[new], answers[new]]))
            bar.update(len(new))
            lot, hardest = lot + 1, max(hardest, int(ratings.max()))
            fruitless = 0 if new else fruitless + 1
            if fruitless == _FRUITLESS_DRAWS:
                raise DataError(
                    f"{len(seen)} of {count} {side} x {side} puzzles with a rating of at least {min_rating} "
                    f"were found, then {fruitless * _FULL_AT_ONCE} tries brought no other (highest rating "
                    f"seen: {hardest}): ask for fewer puzzles, a lower rating or a larger side"
                )
    return SolvedBoards(*np.concatenate(parts, axis=1))


def generate_split(settings: SudokuSettings) -> tuple[SolvedBoards, SolvedBoards]:
    """Generate disjoint training and test puzzles; see `generate_sudokus`.

    For side 4 no puzzle of one set is a shuffle of a puzzle of the other, though they share solutions, of
    which there are 288. For sides 6 and 9 no two puzzles share a question or an answer; shuffles of each
    other are not ruled out.

    Raises:  DataError if too few such puzzles come up.
    """
    side, seed, min_rating = settings.side, settings.seed, settings.min_rating
    train_count, test_count = settings.generate, settings.test
    total = train_count + test_count
    if side != _SMALL:
        return generate_sudokus(total, side, seed, min_rating).split(test_count)
    # The test set takes whole classes of shuffles, so more puzzles are generated than requested. The largest
    # of the 36 classes holds at most a tenth of the puzzles, which leaves enough to train.
    boards = generate_sudokus(total + total // 4 + 50, side, seed, min_rating)
    _, classes, sizes = np.unique(canonical(boards.questions), return_inverse=True, return_counts=True)
    order = np.random.default_rng([seed, _SPLIT]).permutation(len(sizes))
    num_test = int(np.searchsorted(np.cumsum(sizes[order]), test_count)) + 1 if test_count else 0
    in_test = np.isin(classes, order[:num_test])
    train, test = np.flatnonzero(~in_test)[:train_count], np.flatnonzero(in_test)[:test_count]
    return boards.take(train), boards.take(test)


def canonical(boards: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return keys (N,) of boards (N, 4, 4), equal exactly for shuffles of each other."""
    cells = np.arange(16).reshape(4, 4)
    # The orders of lines that keep the two lines of a band together.
    orders = [list(order) for order in permutations(range(4)) if set(order[:2]) in ({0, 1}, {2, 3})]
    arrangements = [
        grid[rows][:, columns] for grid in (cells, cells.T) for rows in orders for columns in orders
    ]
    # The bit (16, K) of each cell in each of the K arrangements.
    weights = np.exp2(np.argsort(np.reshape(arrangements, (-1, 16)), axis=1)).T
    keys = []
    for part in np.array_split(boards, 1 + len(boards) // _KEYS_AT_ONCE):
        is_digit = part.reshape(-1, 1, 16) == np.arange(1, 5)[:, None]
        # The cells of each digit as 16 bits, sorted to make the digits interchangeable.
        masks = np.sort((is_digit.astype(np.float64) @ weights).astype(np.uint64), axis=1)
        shifted = masks << np.arange(0, 64, 16, dtype=np.uint64)[:, None]
        keys.append(np.bitwise_or.reduce(shifted, axis=1).min(axis=1))
    return np.concatenate(keys)


def _full_boards(side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw random full boards (N, S, S), N up to _FULL_AT_ONCE.

    Empty boards get a random candidate in a random open cell, and the singles that follow from it, until
    they are full. Boards that end in a contradiction are dropped.
    """
    cells = candidates(np.zeros((_FULL_AT_ONCE, side, side), np.uint8))
    full = []
    while cells.shape[2]:
        result = propagate(cells)
        full.append(digits_of(result.cells[..., result.solved]))
        stuck = result.cells[..., result.stuck].reshape(side * side, -1)
        board = np.arange(stuck.shape[1])
        is_open = np.bitwise_count(stuck) > 1
        place = np.argmax(rng.random(stuck.shape) * is_open, axis=0)
        bits = _ONE << np.arange(side, dtype=np.uint16)[:, None]
        possible = (stuck[place, board] & bits) != 0
        stuck[place, board] = bits[np.argmax(rng.random(possible.shape) * possible, axis=0), 0]
        cells = np.concatenate([result.cells[..., result.unfinished], stuck.reshape(side, side, -1)], axis=2)
    return np.concatenate(full)


def _take_clues(answers: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Empty each cell of full boards (N, S, S), in random order, where the solution stays unique."""
    total, side, _ = answers.shape
    questions = answers.reshape(total, side * side).copy()
    board = np.arange(total)
    every = np.uint16((1 << side) - 1)
    order = rng.permuted(np.tile(np.arange(side * side), (total, 1)), axis=1)
    for place in order.T:
        clue = questions[board, place]
        questions[board, place] = 0
        cells = candidates(questions.reshape(-1, side, side))
        # There is a second solution if the cell can hold another digit.
        cells[place // side, place % side, board] = every & ~(_ONE << (clue - np.uint8(1)))
        others = search(cells, limit=1).count
        questions[board, place] = np.where(others == 0, 0, clue)
    return questions.reshape(-1, side, side)


@dataclass(frozen=True)
class Solutions:
    """The solutions of N puzzles.

    count: (N,) uint8: 0, 1, or 2 for at least two.
    answers: (N, S, S) uint8: the solution if it is the only one, else zeros.
    rating: (N,) int64: the number of boards that had to be split.
    """

    count: NDArray[np.uint8]
    answers: NDArray[np.uint8]
    rating: NDArray[np.int64]


def solve_boards(questions: NDArray[np.uint8]) -> Solutions:
    """Solve puzzles (N, S, S), 0 for an empty cell; the search of a puzzle ends at its second solution.

    The search fills in naked singles (a cell with one candidate) and hidden singles (a digit with one
    cell in a row, column or box) until nothing changes. A board that is then neither solved nor
    contradictory is split at the cell with the fewest candidates, the first in reading order, into one board
    per candidate. The rating counts the splits of an exhaustive search: 0 for puzzles that singles solve, -1
    for several solutions, where the search is not exhaustive.
    """
    solutions = search(candidates(questions), limit=2)
    solutions.answers[solutions.count != 1] = 0
    solutions.rating[solutions.count == 2] = -1
    return solutions


def candidates(boards: NDArray[np.uint8]) -> Cells:
    """Return the cells (S, S, N) of boards (N, S, S): the digit of a given cell, all for an empty one."""
    side = boards.shape[1]
    bits = np.array([(1 << side) - 1, *(1 << digit for digit in range(side))], np.uint16)
    return np.ascontiguousarray(bits[boards].transpose(1, 2, 0))


def search(cells: Cells, limit: int) -> Solutions:
    """Search each of N puzzles for up to `limit` solutions; `answers` holds one of them."""
    side, _, total = cells.shape
    count, rating = np.zeros(total, np.int64), np.zeros(total, np.int64)
    answers = np.zeros((total, side, side), np.uint8)
    stack = [(cells, np.arange(total))]
    while stack:
        # Take up to _BLOCK boards, depth first to keep the stack small.
        parts, room = list[tuple[Cells, NDArray[np.intp]]](), _BLOCK
        while stack and room:
            cells, owners = stack.pop()
            if len(owners) > room:
                stack.append((cells[..., :-room], owners[:-room]))
                cells, owners = cells[..., -room:], owners[-room:]
            parts.append((cells, owners))
            room -= len(owners)
        cells = np.concatenate([part for part, _ in parts], axis=2)
        owners = np.concatenate([part for _, part in parts])

        below_limit = count[owners] < limit
        if not below_limit.all():
            cells, owners = cells[..., below_limit], owners[below_limit]
        result = propagate(cells)
        np.add.at(count, owners[result.solved], 1)
        answers[owners[result.solved]] = digits_of(result.cells[..., result.solved])
        np.add.at(rating, owners[result.stuck], 1)
        if result.stuck.any():
            stack.append(_split(result.cells[..., result.stuck], owners[result.stuck]))
        if result.unfinished.any():
            stack.append((result.cells[..., result.unfinished], owners[result.unfinished]))
    return Solutions(np.minimum(count, limit).astype(np.uint8), answers, rating)


def digits_of(cells: Cells) -> NDArray[np.uint8]:
    """Return the boards (N, S, S) of cells with one candidate each."""
    digits: NDArray[np.uint8] = np.bitwise_count(cells - _ONE) + np.uint8(1)
    return digits.transpose(2, 0, 1)


def _split(cells: Cells, owners: NDArray[np.intp]) -> tuple[Cells, NDArray[np.intp]]:
    """Split each board at its first cell with the fewest candidates into one board per candidate."""
    side, _, total = cells.shape
    cells = cells.reshape(side * side, total)
    choices = np.bitwise_count(cells).astype(np.uint16)
    choices += np.uint16(side) * (choices == 1)
    # The smallest (choices, place), packed into one number.
    place = (
        np.minimum.reduce(choices * np.uint16(128) + np.arange(side * side, dtype=np.uint16)[:, None]) & 127
    )
    bits = _ONE << np.arange(side, dtype=np.uint16)[:, None]
    digit, board = np.nonzero(cells[place, np.arange(total)] & bits)
    children = cells[:, board]
    children[place[board], np.arange(len(board))] = bits[digit, 0]
    return children.reshape(side, side, -1), owners[board]


class Round(NamedTuple):
    """Cells after a round of singles, and the state of the boards.

    solved, unfinished, stuck: (N,) which boards are solved, have changed, or must be split; all others are
    contradictory. A contradiction may take another round to show, but never in a solved board.
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
    """Return the union of the bits of each cell's row (S, N), column (S, N) and box (bands, stacks, N)."""
    bands, stacks, total = box.shape
    cells = row[:, None] | column[None]
    side = len(row)
    boxes = cells.reshape(bands, side // bands, stacks, side // stacks, total)
    boxes |= box[:, None, :, None]
    return cells


def _once(places: Sequence[Cells]) -> tuple[Cells, Cells]:
    """Return the bits set in exactly one place, and the bits set in any place."""
    once, twice = places[0].copy(), np.zeros_like(places[0])
    for place in places[1:]:
        twice |= once & place
        once |= place
    return once & ~twice, once
