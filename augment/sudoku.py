"""Sudokus of a source, checked row by row, and Sudokus that are made up; all have one solution.

The solver works on many boards at once, as `Cells` (S, S, N) of candidate bits. The boards lie last, so that
numpy works on long contiguous runs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from arcpipe.augment.puzzle_tables import PuzzleSettings, SolvedPuzzles, Table, draw_rows, read_split
from arcpipe.boards import BOXES, Cells, differs, gather, repeats
from arcpipe.documents import read_text
from arcpipe.errors import DataError
from arcpipe.log import progress

_ONE = np.uint16(1)
# Boards that one step of the solver works on: few enough for a processor's cache.
_BLOCK = 1024
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


def read_sudokus(settings: PuzzleSettings, split: str = "train", *, verify: int = _VERIFY) -> SolvedPuzzles:
    """Read the Sudokus of a split, all of one side, in their order; `.` and `0` are empty cells.

    A text file has one puzzle a line, and its answers are computed.

    Args:    verify: how many of a table to solve, from the first, to see that they have one solution.
    Raises:  DataError naming source and row (the first is 1) of a puzzle that is no Sudoku, of a solution
             that is not the puzzle's, or of a puzzle without a solution or with several.
    """
    question, answer = settings.question, settings.answer
    table = read_split(settings, split, lambda path: _read_text(path, question))
    for column, strings in table.columns.items():
        # Some write a space between the digits.
        table.columns[column] = pc.replace_substring(strings, " ", "")
    side = table.side(question, BOXES, "4, 6 or 9")
    digits = "123456789"[:side]
    symbols = {question: ("0.", *digits)} | ({answer: ("", *digits)} if table.has_answers else {})
    boards = dict(zip(symbols, table.boards(side, symbols), strict=True))
    questions = boards[question]
    for column, cells in boards.items():
        twice = _in_parts(repeats, cells)
        table.refuse((twice, f"{column} holds a digit twice in a row, column or box"))
    if table.has_answers:
        changed = _in_parts(differs, questions, boards[answer])
        table.refuse((changed, f"{answer} changes a digit that {question} gives"))

    rows, total = draw_rows(settings, split, len(questions))
    checked = rows[:verify] if table.has_answers else rows
    counts = np.ones(len(questions), np.uint8)
    counts[checked], solutions = _solve(questions[checked])
    table.refuse(
        (counts == 0, f"{question} has no solution"), (counts > 1, f"{question} has more than one solution")
    )
    answers = boards[answer][rows] if table.has_answers else solutions
    return SolvedPuzzles(questions[rows], answers, table.files, total, len(rows) - len(checked))


def _read_text(path: Path, column: str) -> Table:
    """Read a file of one puzzle a line; blank lines are skipped, messages count them."""
    lines = [line.strip() for line in read_text(path).splitlines()]
    numbers = [number for number, line in enumerate(lines, 1) if line]
    if not numbers:
        raise DataError(f"{path}: no puzzles, expected one a line")
    strings = pa.chunked_array([list(filter(None, lines))])
    return Table({column: strings}, lambda row: f"{path}: line {numbers[row]}", (path,), False)


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
        return generate_sudokus(total, side, seed, min_rating).part(test_count)
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
        others = search(cells, limit=1).count
        questions[board, place] = np.where(others == 0, 0, clue)
    return questions.reshape(-1, side, side)


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
    solutions = search(candidates(questions), limit=2)
    solutions.answers[solutions.count != 1] = 0
    solutions.rating[solutions.count == 2] = -1
    return solutions


def candidates(boards: NDArray[np.uint8]) -> Cells:
    """Return the cells (S, S, N) of boards (N, S, S): a given cell's digit, all digits in an empty one."""
    side = boards.shape[1]
    bits = np.array([(1 << side) - 1, *(1 << digit for digit in range(side))], np.uint16)
    return np.ascontiguousarray(bits[boards].transpose(1, 2, 0))


def search(cells: Cells, limit: int) -> Solutions:
    """Return the number of solutions up to `limit`, one of them, and the boards split, of N puzzles."""
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
    return Solutions(np.minimum(count, limit).astype(np.uint8), answers, rating)


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
