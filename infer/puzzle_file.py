"""One puzzle in a file of its own: a Sudoku, a maze or an ARC task, as a person would write it down."""

import csv
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arcpipe.codec import Family, family_of
from arcpipe.errors import DataError, one_line
from arcpipe.grid import Grid
from arcpipe.maze_rules import GOAL, START, at, cells_of, distances
from arcpipe.rules import repeats
from arcpipe.shuffles import BOXES
from arcpipe.task import Pair, parse_task, read_json

_MAX_BYTES = 10**6
_FRAME = str.maketrans("", "", " \t|+-")


@dataclass(frozen=True, eq=False)
class Puzzle:
    """What is asked: the name of the task (of a board that of its family), the inputs to answer, and for
    each its output if the file tells it. demonstrations: of an ARC task."""

    task: str
    inputs: list[Grid]
    outputs: list[Grid | None]
    demonstrations: tuple[Pair, ...] = ()


def read_puzzle(path: Path, family: str, canvas: int) -> Puzzle:
    """The puzzle of a file.

    A Sudoku is S x S characters, `.` or 0 where it is empty, in one line or S, frames of |, + and - left
    out; a maze is S lines of `#`, space, S and G, or one line. Either may be the field `question` of a CSV
    file with one row. An ARC task is a task file, or a challenges file that holds one task.

    Args:    family, canvas: what the puzzle must be, and of which size.
    Raises:  DataError naming the place of what is no such puzzle.
    """
    if family == "arc":
        return _read_task(path, canvas)
    kind = family_of(family, canvas)
    rows = _read_lines(path)
    board = _maze(rows, kind, path) if family == "maze" else _sudoku(rows, path)
    if len(board) != canvas:
        raise DataError(
            f"{path}: a {family} of {len(board)} x {len(board)}, but the checkpoint solves those of "
            f"{canvas} x {canvas}: choose another checkpoint"
        )
    return Puzzle(family, [board], [None])


def _read_task(path: Path, canvas: int) -> Puzzle:
    content = read_json(path)
    name, value, where = path.stem, content, str(path)
    if isinstance(content, dict) and not {"train", "test"} <= content.keys():
        if len(content) != 1:
            raise DataError(f"{path}: holds {len(content)} tasks, solve takes a file of one")
        ((name, value),) = content.items()
    task = parse_task(name, value, where)
    for index, pair in enumerate(task.tests):
        if max(pair.input.shape) > canvas:
            height, width = pair.input.shape
            raise DataError(
                f"{path}: task {name}, test[{index}].input: {height} x {width} cells, "
                f"the checkpoint's canvas is {canvas} x {canvas}"
            )
    inputs, outputs = [pair.input for pair in task.tests], [pair.output for pair in task.tests]
    return Puzzle(name, inputs, outputs, task.demonstrations)


def _read_lines(path: Path) -> list[str]:
    """The lines of a text file without the empty ones around them; of a CSV file the question."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(
                f"{path}: larger than {_MAX_BYTES / 1e6:.0f} MB: solve takes a file of one puzzle"
            )
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text file in UTF-8") from None
    lines = text.strip("\r\n").splitlines()
    if "," in text:
        return [_question(lines, path)]
    if not text.strip():
        raise DataError(f"{path}: is empty, expected a puzzle")
    return lines


def _question(lines: list[str], path: Path) -> str:
    """The field of a CSV file that holds the puzzle: that of the column question, or the longest one."""
    try:
        rows = [row for row in csv.reader(lines) if row]
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV file that can be read ({one_line(error)})") from None
    header = [name.strip().lower() for name in rows[0]]
    body = rows[1:] if "question" in header else rows
    if len(body) != 1:
        raise DataError(f"{path}: {len(body)} rows of puzzles, solve takes a file of one")
    if "question" not in header:
        return max(body[0], key=len)
    place = header.index("question")
    if place >= len(body[0]):
        raise DataError(f"{path}: its row has no field for the column question")
    return body[0][place]


def _sudoku(lines: list[str], path: Path) -> Grid:
    rows = [row for row in (line.translate(_FRAME) for line in lines) if row]
    if len(rows) > 1 and all(isqrt(len(row)) in BOXES and isqrt(len(row)) ** 2 == len(row) for row in rows):
        raise DataError(f"{path}: {len(rows)} Sudokus, solve takes a file of one")
    cells = "".join(rows)
    side = isqrt(len(cells))
    in_lines = len(rows) == 1 or all(len(row) == side for row in rows)
    if side not in BOXES or len(cells) != side**2 or not in_lines:
        raise DataError(
            f"{path}: no Sudoku: expected 81, 36 or 16 characters in one line, or 9, 6 or 4 lines of as many "
            f"characters; found {len(rows)} lines and {len(cells)} characters"
        )
    allowed = "." + "123456789"[:side]
    board = _board(cells.replace("0", "."), allowed, path, "a Sudoku of this size is made of")
    if repeats(board[None])[0]:
        raise DataError(f"{path}: a digit stands twice in a row, column or box: it has no solution")
    return board


def _maze(lines: list[str], family: Family, path: Path) -> Grid:
    side = len(lines) if len(lines) > 1 else isqrt(len(lines[0]))
    # Editors strip the spaces at the end of a line, which are free cells.
    cells = "".join(line.ljust(side) for line in lines) if len(lines) > 1 else lines[0]
    wide = [number for number, line in enumerate(lines, 1) if len(line) > side]
    if len(lines) > 1 and wide:
        raise DataError(
            f"{path}: line {wide[0]} has {len(lines[wide[0] - 1])} characters, a square maze of {side}"
        )
    if len(cells) != side * side:
        raise DataError(f"{path}: {len(cells)} characters in one line are no square maze")
    # A path that is marked already is left out: finding it is the task.
    board = _board(cells.replace("o", " "), family.symbols[:4], path, "a maze is made of")
    for value, name in ((START, "start 'S'"), (GOAL, "goal 'G'")):
        if (count := int((board == value).sum())) != 1:
            raise DataError(f"{path}: {count} cells are the {name}, a maze has one")
    if at(distances(board[None]), cells_of(board[None], GOAL))[0] < 0:
        raise DataError(f"{path}: there is no way from the start to the goal")
    return board


def _board(cells: str, allowed: str, path: Path, what: str) -> NDArray[np.uint8]:
    """The values (S, S) of characters, each its place in `allowed`."""
    side = isqrt(len(cells))
    strange = next((place for place, cell in enumerate(cells) if cell not in allowed), None)
    if strange is not None:
        row, column = divmod(strange, side)
        raise DataError(
            f"{path}: {cells[strange]!a} in row {row + 1}, column {column + 1}; {what} {allowed!r}"
        )
    return np.array([allowed.index(cell) for cell in cells], np.uint8).reshape(side, side)
