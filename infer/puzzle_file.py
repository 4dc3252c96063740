"""Reading one puzzle from a file: a Sudoku or maze as a person would write it down, or an ARC task."""

import csv
from math import isqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arcpipe.boards import BOXES, CHARACTERS, GOAL, PATH, START, at, cells_of, distances, repeats
from arcpipe.documents import read_json, read_text
from arcpipe.errors import DataError, one_line
from arcpipe.grid import Grid
from arcpipe.task import Pair, Task, parse_task

_MAX_BYTES = 10**6
_BOARDS = {side * side for side in BOXES}
_FRAME = str.maketrans("", "", " \t|+-")


def read_puzzle(path: Path, family: str, canvas: int) -> Task:
    """Read the puzzle of a file, a Sudoku or maze as a task of that name with one test input.

    A Sudoku is S x S characters in one line or S lines, `.` or 0 for an empty cell; frames of |, + and - are
    ignored. A maze is S lines of `#`, space, S and G, or one line. Either may be the field `question` of a
    CSV file with one row. An ARC task is a task file, or a challenges file that holds one task.

    Args:    path: a file, `-` for stdin, or a Sudoku itself in place of its file.
             family: the kind of puzzle to read.
             canvas: the side of a Sudoku or maze, the largest side of an ARC test input.
    Raises:  DataError naming the place in the file.
    """
    path = Path("/dev/stdin") if str(path) == "-" else path
    if family == "arc":
        return _read_task(path, canvas)
    is_board = len(str(path)) in _BOARDS and not {*str(path)} - {*".0123456789"}
    rows = [str(path)] if is_board and not path.exists() else _read_lines(path)
    board = _maze(rows, path) if family == "maze" else _sudoku(rows, path)
    if len(board) != canvas:
        raise DataError(
            f"{path}: a {family} of {len(board)} x {len(board)}, but the checkpoint solves those of "
            f"{canvas} x {canvas}: choose another checkpoint"
        )
    return Task(family, (), (Pair(board, None),))


def _read_task(path: Path, canvas: int) -> Task:
    try:
        name, value = path.stem, read_json(path)
    except DataError as error:
        raise DataError(f"{error}; the checkpoint answers ARC tasks, each in a JSON file") from None
    if isinstance(value, dict) and not {"train", "test"} <= value.keys():
        if len(value) != 1:
            raise DataError(f"{path}: holds {len(value)} tasks, solve takes a file of one")
        ((name, value),) = value.items()
    task = parse_task(name, value, str(path))
    for index, pair in enumerate(task.tests):
        height, width = pair.input.shape
        if max(height, width) > canvas:
            raise DataError(
                f"{path}: task {name}, test[{index}].input: {height} x {width} cells, "
                f"the checkpoint's canvas is {canvas} x {canvas}"
            )
    return task


def _read_lines(path: Path) -> list[str]:
    """Return the lines of a text file without empty ones at its ends; of a CSV file the one field that holds
    the puzzle: that of the column question, or the longest."""
    text = read_text(path, _MAX_BYTES, ": solve takes a file of one puzzle")
    if not text.strip():
        raise DataError(f"{path}: is empty, expected a puzzle")
    lines = text.strip("\r\n").splitlines()
    if "," not in text:
        return lines
    try:
        rows = [row for row in csv.reader(lines) if row]
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV file that can be read ({one_line(error)})") from None
    header = [name.strip().lower() for name in rows[0]]
    body = rows[1:] if "question" in header else rows
    if len(body) != 1:
        raise DataError(f"{path}: {len(body)} rows of puzzles, solve takes a file of one")
    if "question" not in header:
        return [max(body[0], key=len)]
    place = header.index("question")
    if place >= len(body[0]):
        raise DataError(f"{path}: its row has no field for the column question")
    return [body[0][place]]


def _sudoku(lines: list[str], path: Path) -> Grid:
    rows = [row for row in (line.translate(_FRAME) for line in lines) if row]
    if len(rows) > 1 and all(len(row) in _BOARDS for row in rows):
        raise DataError(f"{path}: {len(rows)} Sudokus, solve takes a file of one")
    cells = "".join(rows)
    side = isqrt(len(cells))
    in_lines = len(rows) == 1 or all(len(row) == side for row in rows)
    if len(cells) not in _BOARDS or not in_lines:
        raise DataError(
            f"{path}: no Sudoku: expected 81, 36 or 16 characters in one line, or 9, 6 or 4 lines of as many "
            f"characters; found {len(rows)} lines and {len(cells)} characters"
        )
    allowed = ".123456789"[: side + 1]
    board = _board(cells.replace("0", "."), allowed, path, "a Sudoku of this size is made of")
    if repeats(board[None])[0]:
        raise DataError(f"{path}: a digit stands twice in a row, column or box: it has no solution")
    return board


def _maze(lines: list[str], path: Path) -> Grid:
    cells, side = lines[0], isqrt(len(lines[0]))
    if len(lines) > 1:
        side = len(lines)
        for number, line in enumerate(lines, 1):
            if len(line) > side:
                raise DataError(f"{path}: line {number} has {len(line)} characters, a square maze of {side}")
        # Editors strip the spaces at the end of a line, which are free cells.
        cells = "".join(line.ljust(side) for line in lines)
    if len(cells) != side * side:
        raise DataError(f"{path}: {len(cells)} characters in one line are no square maze")
    # A path that is marked already is left out: finding it is the task.
    board = _board(cells.replace("o", " "), CHARACTERS[:PATH], path, "a maze is made of")
    for value, name in ((START, "start 'S'"), (GOAL, "goal 'G'")):
        if (count := int((board == value).sum())) != 1:
            raise DataError(f"{path}: {count} cells are the {name}, a maze has one")
    if at(distances(board[None]), cells_of(board[None], GOAL))[0] < 0:
        raise DataError(f"{path}: there is no way from the start to the goal")
    return board


def _board(cells: str, allowed: str, path: Path, what: str) -> NDArray[np.uint8]:
    """Return the values (S, S) of characters, each its place in `allowed`."""
    side = isqrt(len(cells))
    for place, cell in enumerate(cells):
        if cell not in allowed:
            row, column = divmod(place, side)
            raise DataError(f"{path}: {cell!a} in row {row + 1}, column {column + 1}; {what} {allowed!r}")
    return np.array([allowed.index(cell) for cell in cells], np.uint8).reshape(side, side)
