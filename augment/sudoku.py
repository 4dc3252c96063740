"""Sudokus of a source, checked row by row: they follow the rules and have one solution, the one given."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from arcpipe.augment.sources import SolvedPuzzles, Table, draw_rows, read_columns, read_lines, refuse_rows
from arcpipe.augment.sudoku_solver import solve_boards
from arcpipe.errors import DataError
from arcpipe.log import progress
from arcpipe.sudoku_rules import BOXES, differs, repeats

SIDES = {side * side: side for side in BOXES}
_VERIFY = 20_000
_CHECKED_AT_ONCE = 100_000
_SOLVED_AT_ONCE = 5_000
_NO_DIGIT = 255


def read_sudokus(
    spec: str,
    *,
    split: str = "train",
    question: str = "question",
    answer: str = "answer",
    rating: str = "rating",
    subsample: int = 0,
    seed: Sequence[int] = (0,),
    verify: int = _VERIFY,
) -> SolvedPuzzles:
    """Read the Sudokus that `spec` stands for, all of one side, in their order.

    Args:    spec: a table as `read_columns` takes it, or a `.txt` file of one puzzle a line, whose answers
             are computed; `.` and `0` are empty cells.
             split: the part of a set on the hub.
             question, answer: the table's columns of puzzles and solutions, row by row of the board.
             rating: its column of whole numbers that say how hard a puzzle is; it may be missing.
             subsample, seed: how many to draw, as `draw_rows` does; 0 for all.
             verify: how many of these to solve, from the first, to see that they have one solution.
    Raises:  DataError naming source and row (the first is 1) of a puzzle that is no Sudoku, of a solution
             that is not the puzzle's, or of a puzzle with several solutions.
    """
    if spec.endswith(".txt"):
        puzzles = _read_text(Path(spec))
        return puzzles.take(draw_rows(len(puzzles), subsample, seed))
    table = read_columns(spec, split, (question, answer), (rating,))
    side = _side(len(table.columns[question][0].as_py()), f"{table.row(0)}: {question}")
    questions = _digits(table, question, side, "123456789"[:side] + "0.")
    answers = _digits(table, answer, side, "123456789"[:side])
    ratings = _ratings(table, rating)
    for column, boards in ((question, questions), (answer, answers)):
        twice = _in_parts(repeats, boards)
        refuse_rows(twice, table.row, f"{column} holds a digit twice in a row, column or box")
    changed = _in_parts(differs, questions, answers)
    refuse_rows(changed, table.row, f"{answer} changes a digit that {question} gives")
    rows = draw_rows(len(questions), subsample, seed)
    count, _ = _solve(questions[rows[:verify]])
    refuse_rows(count != 1, lambda row: table.row(rows[row]), f"{question} has more than one solution")
    verified = min(verify, len(rows))
    return SolvedPuzzles(
        questions[rows], answers[rows], None if ratings is None else ratings[rows], table.files, verified
    )


def _in_parts(check: Callable[..., NDArray[np.bool_]], *arrays: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return what a check of boards says (N,), without temporary arrays of the size of a large set."""
    starts = range(0, len(arrays[0]), _CHECKED_AT_ONCE)
    return np.concatenate([check(*(part[s : s + _CHECKED_AT_ONCE] for part in arrays)) for s in starts])


def _side(length: int, where: str) -> int:
    if length not in SIDES:
        known = ", ".join(f"{cells} for {side} x {side}" for cells, side in SIDES.items())
        raise DataError(f"{where} has {length} characters, a board has one for each cell: {known}")
    return SIDES[length]


def _digits(table: Table, column: str, side: int, allowed: str) -> NDArray[np.uint8]:
    """Return the boards (N, S, S) of a column of strings."""
    boards = _values(allowed)[table.characters(column, side * side)]
    wrong = boards.max(axis=1) == _NO_DIGIT
    if wrong.any():
        row = int(wrong.argmax())
        strange = table.columns[column][row].as_py()[int(boards[row].argmax())]
        refuse_rows(wrong, table.row, _no_digit(column, strange, allowed))
    return boards.reshape(-1, side, side)


def _values(allowed: str) -> NDArray[np.uint8]:
    """Return the digit of each of the 256 codes; _NO_DIGIT for a character that is not allowed."""
    values = np.full(256, _NO_DIGIT, np.uint8)
    for character in allowed:
        values[ord(character)] = 0 if character == "." else int(character)
    return values


def _no_digit(name: str, strange: str, allowed: str) -> str:
    empty = " and . or 0 for an empty cell" if "." in allowed else ""
    return f"{name} holds {strange!r}, allowed are 1 to {max(allowed)}{empty}"


def _ratings(table: Table, column: str) -> NDArray[np.int64] | None:
    """Return a column of whole numbers (N,), None if there is none."""
    if table.columns[column] is None:
        return None
    try:
        ratings = table.columns[column].cast(pa.int64())
    except pa.ArrowException:
        ratings = None
    if ratings is None or ratings.null_count:
        raise DataError(f"{table.name}: column {column!r} should hold a whole number in each row")
    values: NDArray[np.int64] = ratings.to_numpy()
    return values


def _read_text(path: Path) -> SolvedPuzzles:
    """Read a file of one puzzle a line; blank lines are skipped, messages count them."""
    lines = {number: line.strip() for number, line in enumerate(read_lines(path), 1) if line.strip()}
    if not lines:
        raise DataError(f"{path}: no puzzles, expected one a line")
    numbers = list(lines)

    def name(row: int) -> str:
        return f"{path}: line {numbers[row]}"

    side = _side(len(lines[numbers[0]]), name(0))
    allowed = "123456789"[:side] + "0."
    for row, line in enumerate(lines.values()):
        if len(line) != side * side:
            raise DataError(f"{name(row)} has {len(line)} characters, {side * side} in line {numbers[0]}")
        if strange := set(line) - set(allowed):
            raise DataError(_no_digit(name(row), min(strange), allowed))
    codes = np.frombuffer("".join(lines.values()).encode("ascii"), np.uint8)
    questions = _values(allowed)[codes].reshape(-1, side, side)
    refuse_rows(_in_parts(repeats, questions), name, "a digit stands twice in a row, column or box")
    count, answers = _solve(questions)
    refuse_rows(count == 0, name, "the puzzle has no solution")
    refuse_rows(count > 1, name, "the puzzle has more than one solution")
    return SolvedPuzzles(questions, answers, None, (path,), verified=len(questions))


def _solve(questions: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the number of solutions (N,), 2 for more than one, and the answers (N, S, S)."""
    counts, answers = [np.zeros(0, np.uint8)], [np.zeros((0, *questions.shape[1:]), np.uint8)]
    with progress(total=len(questions), initial=0, unit="puzzle", desc="verify") as bar:
        for start in range(0, len(questions), _SOLVED_AT_ONCE):
            solutions = solve_boards(questions[start : start + _SOLVED_AT_ONCE])
            counts.append(solutions.count)
            answers.append(solutions.answers)
            bar.update(len(solutions.count))
    return np.concatenate(counts), np.concatenate(answers)
