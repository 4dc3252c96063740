"""Sudoku puzzles with their solutions: read from tables, text files and the hub, checked row by row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arcpipe.augment.sudoku_solver import solve_boards
from arcpipe.augment.tables import Table, draw_rows, read_columns, read_lines
from arcpipe.errors import DataError
from arcpipe.log import progress
from arcpipe.sudoku_rules import BOXES, differs, repeats

SIDES = {side * side: side for side in BOXES}
_VERIFY = 20_000
_CHECKED_AT_ONCE = 100_000
_SOLVED_AT_ONCE = 5_000
_NO_DIGIT = 255


@dataclass(frozen=True)
class Boards:
    """N puzzles: questions and answers (N, S, S) uint8, 0 for an empty cell; ratings (N,) or None.

    `files` are those that they were read from; of the first `verified` puzzles it is known that they
    have no second solution.
    """

    questions: NDArray[np.uint8]
    answers: NDArray[np.uint8]
    ratings: NDArray[np.int64] | None
    files: tuple[Path, ...]
    verified: int

    def __len__(self) -> int:
        return len(self.questions)

    @property
    def side(self) -> int:
        """The side of the boards: 4, 6 or 9."""
        return int(self.questions.shape[1])


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
) -> Boards:
    """The puzzles that `spec` stands for, all of one side, in their order.

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
        boards = _read_text(Path(spec))
        return select(boards, draw_rows(len(boards), subsample, seed))
    table = read_columns(spec, split, (question, answer), (rating,))
    side = _side(len(table.columns[question][0].as_py()), f"{table.name}: row 1: {question}")
    questions = _digits(table, question, side, "123456789"[:side] + "0.")
    answers = _digits(table, answer, side, "123456789"[:side])
    ratings = _ratings(table, rating)

    def where(row: int) -> str:
        return f"{table.name}: row {row + 1}"

    _refuse(_in_parts(repeats, questions), where, f"{question} holds a digit twice in a row, column or box")
    _refuse(_in_parts(repeats, answers), where, f"{answer} holds a digit twice in a row, column or box")
    _refuse(_in_parts(differs, questions, answers), where, f"{answer} changes a digit that {question} gives")
    chosen = draw_rows(len(questions), subsample, seed)
    count, _ = _solve(questions[chosen[:verify]])
    _refuse(count != 1, lambda row: where(chosen[row]), f"{question} has more than one solution")
    boards = Boards(questions, answers, ratings, table.files, verified=len(questions))
    return replace(select(boards, chosen), verified=min(verify, len(chosen)))


def select(boards: Boards, chosen: NDArray[np.intp]) -> Boards:
    """The puzzles with these numbers; `verified` counts the leading ones that were."""
    unverified = np.flatnonzero(chosen >= boards.verified)
    return replace(
        boards,
        questions=boards.questions[chosen],
        answers=boards.answers[chosen],
        ratings=None if boards.ratings is None else boards.ratings[chosen],
        verified=int(unverified[0]) if len(unverified) else len(chosen),
    )


def _in_parts(check: Callable[..., NDArray[np.bool_]], *arrays: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """What a check of boards says (N,), without temporary arrays of the size of a large set."""
    starts = range(0, len(arrays[0]), _CHECKED_AT_ONCE)
    return np.concatenate([check(*(part[s : s + _CHECKED_AT_ONCE] for part in arrays)) for s in starts])


def _refuse(wrong: NDArray[np.bool_], where: Callable[[int], str], complaint: str) -> None:
    """Raises DataError naming the first place where `wrong` (N,) holds, and how many follow."""
    if wrong.any():
        others = int(wrong.sum()) - 1
        more = f" (and {others} more with the same fault)" if others else ""
        raise DataError(f"{where(int(wrong.argmax()))}: {complaint}{more}")


def _side(length: int, where: str) -> int:
    if length not in SIDES:
        known = ", ".join(f"{cells} for {side} x {side}" for cells, side in SIDES.items())
        raise DataError(f"{where} has {length} characters, a board has one for each cell: {known}")
    return SIDES[length]


def _digits(table: Table, column: str, side: int, allowed: str) -> NDArray[np.uint8]:
    """The boards (N, S, S) of a column of strings."""
    boards = _values(allowed)[table.characters(column, side * side)]
    wrong = boards.max(axis=1) == _NO_DIGIT
    if wrong.any():
        row = int(wrong.argmax())
        strange = table.columns[column][row].as_py()[int(boards[row].argmax())]
        _refuse(wrong, lambda row: f"{table.name}: row {row + 1}", _no_digit(column, strange, allowed))
    return boards.reshape(-1, side, side)


def _values(allowed: str) -> NDArray[np.uint8]:
    """The digit of each of the 256 codes; _NO_DIGIT for a character that is not allowed."""
    values = np.full(256, _NO_DIGIT, np.uint8)
    for character in allowed:
        values[ord(character)] = 0 if character == "." else int(character)
    return values


def _no_digit(name: str, strange: str, allowed: str) -> str:
    empty = " and . or 0 for an empty cell" if "." in allowed else ""
    return f"{name} holds {strange!r}, allowed are 1 to {max(allowed)}{empty}"


def _ratings(table: Table, column: str) -> NDArray[np.int64] | None:
    import pyarrow as pa

    if table.columns[column] is None:
        return None
    try:
        ratings: Any = table.columns[column].cast(pa.int64())
    except pa.ArrowException:
        ratings = None
    if ratings is None or ratings.null_count:
        raise DataError(f"{table.name}: column {column!r} should hold a whole number in each row")
    values: NDArray[np.int64] = ratings.to_numpy()
    return values


def _read_text(path: Path) -> Boards:
    """A file of one puzzle a line; blank lines are skipped, messages count them."""
    lines = {number: line.strip() for number, line in enumerate(read_lines(path), 1) if line.strip()}
    if not lines:
        raise DataError(f"{path}: no puzzles, expected one a line")
    numbers = list(lines)
    side = _side(len(lines[numbers[0]]), f"{path}: line {numbers[0]}")
    allowed = "123456789"[:side] + "0."
    for number, line in lines.items():
        if len(line) != side * side:
            raise DataError(
                f"{path}: line {number} has {len(line)} characters, {side * side} in line {numbers[0]}"
            )
        if strange := set(line) - set(allowed):
            raise DataError(_no_digit(f"{path}: line {number}", min(strange), allowed))
    codes = np.frombuffer("".join(lines.values()).encode("ascii"), np.uint8)
    questions = _values(allowed)[codes].reshape(-1, side, side)

    def where(row: int) -> str:
        return f"{path}: line {numbers[row]}"

    _refuse(_in_parts(repeats, questions), where, "a digit stands twice in a row, column or box")
    count, answers = _solve(questions)
    _refuse(count == 0, where, "the puzzle has no solution")
    _refuse(count > 1, where, "the puzzle has more than one solution")
    return Boards(questions, answers, None, (path,), verified=len(questions))


def _solve(questions: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Number of solutions (N,), 2 for more than one, and answers (N, S, S)."""
    counts, answers = [np.zeros(0, np.uint8)], [np.zeros((0, *questions.shape[1:]), np.uint8)]
    with progress(total=len(questions), initial=0, unit="puzzle", desc="verify") as bar:
        for start in range(0, len(questions), _SOLVED_AT_ONCE):
            solutions = solve_boards(questions[start : start + _SOLVED_AT_ONCE])
            counts.append(solutions.count)
            answers.append(solutions.answers)
            bar.update(len(solutions.count))
    return np.concatenate(counts), np.concatenate(answers)
