"""Sudokus of a source, checked row by row, and Sudokus that are made up; all have one solution."""

from collections.abc import Callable, Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from arcpipe.augment.puzzle_tables import SolvedPuzzles, Table, draw_rows, read_columns
from arcpipe.augment.sudoku_solver import candidates, digits_of, propagate, search, solve_boards
from arcpipe.documents import read_text
from arcpipe.errors import DataError
from arcpipe.log import progress
from arcpipe.sudoku_rules import BOXES, differs, repeats

_VERIFY = 20_000
_CHECKED_AT_ONCE = 100_000
_SOLVED_AT_ONCE = 5_000
_FULL_AT_ONCE = 1024
_FRUITLESS_DRAWS = 20
_KEYS_AT_ONCE = 4096
# Purposes of generators, beside the seed.
_GENERATE, _SPLIT = 1, 2
_SMALL = 4
"""The side whose puzzles are so few, up to shuffles, that train and test are kept apart by them."""


def read_sudokus(
    spec: str,
    *,
    split: str = "train",
    question: str = "question",
    answer: str = "answer",
    subsample: int = 0,
    seed: Sequence[int] = (0,),
    verify: int = _VERIFY,
) -> SolvedPuzzles:
    """Read the Sudokus that `spec` stands for, all of one side, in their order.

    Args:    spec: a table as `read_columns` takes it, or a `.txt` file of one puzzle a line, whose answers
             are computed; `.` and `0` are empty cells.
             split: the part of a set on the hub.
             question, answer: the table's columns of puzzles and solutions, row by row of the board.
             subsample, seed: how many to draw, as `draw_rows` does; 0 for all.
             verify: how many of a table to solve, from the first, to see that they have one solution.
    Raises:  DataError naming source and row (the first is 1) of a puzzle that is no Sudoku, of a solution
             that is not the puzzle's, or of a puzzle without a solution or with several.
    """
    is_text = spec.endswith(".txt")
    table = _read_text(Path(spec), question) if is_text else read_columns(spec, split, (question, answer))
    for column, strings in table.columns.items():
        # Some write a space between the digits.
        table.columns[column] = pc.replace_substring(strings, " ", "")
    side = table.side(question, BOXES, "4, 6 or 9")
    digits = "123456789"[:side]
    symbols = {question: ("0.", *digits)} | ({} if is_text else {answer: ("", *digits)})
    boards = dict(zip(symbols, table.boards(side, symbols), strict=True))
    questions = boards[question]
    for column, cells in boards.items():
        twice = _in_parts(repeats, cells)
        table.refuse((twice, f"{column} holds a digit twice in a row, column or box"))
    if not is_text:
        changed = _in_parts(differs, questions, boards[answer])
        table.refuse((changed, f"{answer} changes a digit that {question} gives"))

    rows = draw_rows(len(questions), subsample, seed)
    checked = rows if is_text else rows[:verify]
    counts = np.ones(len(questions), np.uint8)
    counts[checked], solutions = _solve(questions[checked])
    table.refuse(
        (counts == 0, f"{question} has no solution"), (counts > 1, f"{question} has more than one solution")
    )
    answers = solutions if is_text else boards[answer][rows]
    total = len(questions) if subsample else 0
    return SolvedPuzzles(questions[rows], answers, table.files, total, len(rows) - len(checked))


def _read_text(path: Path, column: str) -> Table:
    """Read a file of one puzzle a line; blank lines are skipped, messages count them."""
    lines = [line.strip() for line in read_text(path).splitlines()]
    numbers = [number for number, line in enumerate(lines, 1) if line]
    if not numbers:
        raise DataError(f"{path}: no puzzles, expected one a line")
    strings = pa.chunked_array([list(filter(None, lines))])
    return Table({column: strings}, lambda row: f"{path}: line {numbers[row]}", (path,))


def _in_parts(check: Callable[..., NDArray[np.bool_]], *arrays: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return what a check of boards says (N,), without temporary arrays of the size of a large set."""
    starts = range(0, len(arrays[0]), _CHECKED_AT_ONCE)
    return np.concatenate([check(*(part[s : s + _CHECKED_AT_ONCE] for part in arrays)) for s in starts])


def _solve(questions: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the number of solutions (N,), 2 for more than one, and the answers (N, S, S)."""
    counts, answers = np.zeros(len(questions), np.uint8), np.zeros_like(questions)
    with progress(total=len(questions), initial=0, unit="puzzle", desc="verify") as bar:
        for start in range(0, len(questions), _SOLVED_AT_ONCE):
            part = slice(start, start + _SOLVED_AT_ONCE)
            solutions = solve_boards(questions[part])
            counts[part], answers[part] = solutions.count, solutions.answers
            bar.update(len(solutions.count))
    return counts, answers


def generate_sudokus(count: int, side: int, seed: int, min_rating: int = 0) -> SolvedPuzzles:
    """Generate `count` puzzles of side 4, 6 or 9 with one solution, which have no clue to spare.

    All puzzles differ, and for sides 6 and 9 all solutions too. They are not equally likely. A larger
    count begins with the puzzles of a smaller one.

    Args:    min_rating: the least number of boards that `solve_boards` splits for each.
    Raises:  DataError if so many, or such hard ones, do not come up.
    """
    parts: list[NDArray[np.uint8]] = []
    seen: set[bytes] = set()
    fruitless = hardest = lot = 0
    with progress(total=count, initial=0, unit="puzzle", desc="generate") as bar:
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
    return SolvedPuzzles(*np.concatenate(parts, axis=1))


def generate_split(
    train_count: int, test_count: int, side: int, seed: int, min_rating: int = 0
) -> tuple[SolvedPuzzles, SolvedPuzzles]:
    """Generate training and test puzzles, as `generate_sudokus` does, that have nothing in common.

    For side 4 no puzzle of one set becomes one of the other by a shuffle, whatever its digits, rows,
    columns and transposition (their solutions coincide: there are 288). For sides 6 and 9 no two
    puzzles share a question or an answer; that two are shuffles of each other is not ruled out.

    Raises:  DataError if so many, or such hard ones, do not come up.
    """
    total = train_count + test_count
    if side != _SMALL:
        boards = generate_sudokus(total, side, seed, min_rating)
        test, train = np.split(np.arange(total), [test_count])
        return boards.take(train), boards.take(test)
    # Whole classes go to the test set, the last of which may be cut: more puzzles are drawn than asked for.
    # The most frequent of the 36 classes holds a tenth of them at most, which leaves enough to train.
    boards = generate_sudokus(total + total // 4 + 50, side, seed, min_rating)
    _, classes, sizes = np.unique(canonical(boards.questions), return_inverse=True, return_counts=True)
    order = np.random.default_rng([seed, _SPLIT]).permutation(len(sizes))
    num_test = int(np.searchsorted(np.cumsum(sizes[order]), test_count)) + 1 if test_count else 0
    in_test = np.isin(classes, order[:num_test])
    train, test = np.flatnonzero(~in_test)[:train_count], np.flatnonzero(in_test)[:test_count]
    return boards.take(train), boards.take(test)


def canonical(boards: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return a key (N,) of boards (N, 4, 4), the same for all that shuffles turn into each other alone."""
    cells = np.arange(16).reshape(4, 4)
    # The orders of lines that keep the two of a band together.
    orders = [list(order) for order in permutations(range(4)) if set(order[:2]) in ({0, 1}, {2, 3})]
    turned = [grid[rows][:, columns] for grid in (cells, cells.T) for rows in orders for columns in orders]
    # The bits (16, K) of the cells as turned K ways.
    weights = np.exp2(np.argsort(np.reshape(turned, (-1, 16)), axis=1)).T
    keys = []
    for part in np.array_split(boards, 1 + len(boards) // _KEYS_AT_ONCE):
        is_digit = part.reshape(-1, 1, 16) == np.arange(1, 5)[:, None]
        # A digit's cells as 16 bits; sorted, they forget which digit it is.
        masks = np.sort((is_digit.astype(np.float64) @ weights).astype(np.uint64), axis=1)
        shifted = masks << np.arange(0, 64, 16, dtype=np.uint64)[:, None]
        keys.append(np.bitwise_or.reduce(shifted, axis=1).min(axis=1))
    return np.concatenate(keys)


def _full_boards(side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw random full boards (N, S, S), N up to _FULL_AT_ONCE.

    An empty board gets a random candidate in a random open cell, again and again, with what singles
    follow from it; the boards that end in a contradiction are left out.
    """
    cells = candidates(np.zeros((_FULL_AT_ONCE, side, side), np.uint8))
    full = []
    while cells.shape[2]:
        done = propagate(cells)
        full.append(digits_of(done.cells[..., done.solved]))
        stuck = done.cells[..., done.stuck].reshape(side * side, -1)
        board = np.arange(stuck.shape[1])
        is_open = np.bitwise_count(stuck) > 1
        place = np.argmax(rng.random(stuck.shape) * is_open, axis=0)
        bits = np.uint16(1) << np.arange(side, dtype=np.uint16)[:, None]
        possible = (stuck[place, board] & bits) != 0
        stuck[place, board] = bits[np.argmax(rng.random(possible.shape) * possible, axis=0), 0]
        cells = np.concatenate([done.cells[..., done.unfinished], stuck.reshape(side, side, -1)], axis=2)
    return np.concatenate(full)


def _take_clues(answers: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Empty each cell of full boards (N, S, S), in a random order, if the solution stays the only one."""
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
        cells[place // side, place % side, board] = every & ~(np.uint16(1) << (clue - np.uint8(1)))
        others, _, _ = search(cells, limit=1)
        questions[board, place] = np.where(others == 0, 0, clue)
    return questions.reshape(-1, side, side)
