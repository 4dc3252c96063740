"""Mazes of a source, checked row by row: every answer marks a shortest path."""

from collections.abc import Callable, Sequence
from itertools import groupby
from math import isqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arcpipe.augment.sources import SolvedPuzzles, draw_rows, read_columns, read_lines, refuse_rows
from arcpipe.errors import DataError
from arcpipe.maze_rules import (
    CHARACTERS,
    FREE,
    GOAL,
    MAX_SIDE,
    PATH,
    START,
    at,
    cells_of,
    distances,
    is_shortest_path,
    mark_shortest_paths,
    path_moves,
)

_UNKNOWN = 255
_VALUES = np.full(128, _UNKNOWN, np.uint8)
_VALUES[[ord(character) for character in CHARACTERS]] = range(len(CHARACTERS))
_Name = Callable[[int], str]


def read_mazes(
    spec: str,
    *,
    split: str = "train",
    question: str = "question",
    answer: str = "answer",
    subsample: int = 0,
    seed: Sequence[int] = (0,),
) -> SolvedPuzzles:
    """Read the mazes that `spec` stands for, all of one side, in their order.

    Args:    spec: a table as `read_columns` takes it, whose rows hold the S * S characters of a maze, wall
             '#', free ' ', start 'S', goal 'G', and of its answer, path 'o'; or a `.txt` file of mazes of S
             lines, parted by empty lines. There a maze that marks no path gets one.
             split: the part of a set on the hub.
             question, answer: the table's columns of mazes and answers.
             subsample, seed: how many to draw, as `draw_rows` does; 0 for all.
    Raises:  DataError naming file and row, from 1, of what is no maze or no shortest path.
    """
    mazes = _read_text(Path(spec)) if spec.endswith(".txt") else _read_table(spec, split, question, answer)
    return mazes.take(draw_rows(len(mazes), subsample, seed))


def _read_table(spec: str, split: str, question: str, answer: str) -> SolvedPuzzles:
    table = read_columns(spec, split, (question, answer))
    characters = table.characters(question)
    length = characters.shape[1]
    if length not in (side**2 for side in range(2, MAX_SIDE + 1)):
        raise DataError(
            f"{table.row(0)}: {question} has {length} characters, not those of a square with a side of "
            f"2 to {MAX_SIDE}"
        )
    questions = _values(characters, table.row, question)
    answers = _values(table.characters(answer, length), table.row, answer)
    refuse_rows((questions == PATH).any(axis=(1, 2)), table.row, f"{question} marks a path with 'o'")
    _check_questions(questions, table.row)
    _check_answers(questions, answers, table.row)
    return SolvedPuzzles(questions, answers, None, table.files, verified=len(questions))


def _read_text(path: Path) -> SolvedPuzzles:
    def name(row: int) -> str:
        return f"{path}: maze {row + 1}"

    lines = [list(group) for filled, group in groupby(read_lines(path), key=bool) if filled]
    if not lines:
        raise DataError(f"{path}: no mazes")
    drawn = _values(_text_characters(lines, name), name, "it")
    questions = np.where(drawn == PATH, FREE, drawn).astype(np.uint8)
    _check_questions(questions, name)
    marked = (drawn == PATH).any(axis=(1, 2))
    answers = drawn.copy()
    answers[~marked] = mark_shortest_paths(questions[~marked])
    _check_answers(questions, answers, name)
    return SolvedPuzzles(questions, answers, None, (path,), verified=len(questions))


def _text_characters(mazes: list[list[str]], name: _Name) -> NDArray[np.uint8]:
    """Return the ASCII codes (N, S * S) of mazes in lines."""
    side = len(mazes[0])
    if not 2 <= side <= MAX_SIDE:
        raise DataError(f"{name(0)}: {side} lines, a maze has 2 to {MAX_SIDE}")
    for number, maze in enumerate(mazes):
        if len(maze) != side:
            raise DataError(f"{name(number)}: {len(maze)} lines where maze 1 has {side}")
        for row, line in enumerate(maze, 1):
            if len(line) != side:
                raise DataError(
                    f"{name(number)}: line {row} has {len(line)} characters, for a square it should have "
                    f"{side} (spaces at its end count)"
                )
            if not line.isascii():
                raise DataError(f"{name(number)}: line {row} is {line!a}; a maze is made of {CHARACTERS!r}")
    codes = np.frombuffer("".join(map("".join, mazes)).encode(), np.uint8)
    return codes.reshape(len(mazes), side * side)


def _values(codes: NDArray[np.uint8], name: _Name, what: str) -> NDArray[np.uint8]:
    """Return the values (N, S, S) that ASCII codes (N, S * S) stand for."""
    side = isqrt(codes.shape[1])
    values = _VALUES[codes]
    unknown = values == _UNKNOWN
    if unknown.any():
        number, cell = np.argwhere(unknown)[0]
        row, column = divmod(int(cell), side)
        raise DataError(
            f"{name(number)}: {what} holds {chr(codes[number, cell])!r} in line {row + 1}, column "
            f"{column + 1} of the maze; a maze is made of {CHARACTERS!r}"
        )
    return values.reshape(-1, side, side)


def _check_questions(questions: NDArray[np.uint8], name: _Name) -> None:
    """Raises DataError unless each maze has one start, one goal and a way between them."""
    for value, what in ((START, "start 'S'"), (GOAL, "goal 'G'")):
        number = (questions == value).sum(axis=(1, 2))
        refuse_rows(number == 0, name, f"no {what}")
        refuse_rows(number > 1, name, f"more than one {what}")
    to_goal = at(distances(questions), cells_of(questions, GOAL))
    refuse_rows(to_goal < 0, name, "no way from the start to the goal")


def _check_answers(questions: NDArray[np.uint8], answers: NDArray[np.uint8], name: _Name) -> None:
    """Raises DataError unless each answer is its question with a shortest path marked."""
    other = (np.where(answers == PATH, FREE, answers) != questions).any(axis=(1, 2))
    refuse_rows(other, name, "the answer differs from the question in more than its path")
    refuse_rows(path_moves(questions, answers) < 0, name, "the answer's path is broken")
    longer = ~is_shortest_path(questions, answers)
    refuse_rows(longer, name, "the answer marks another path than a shortest one, or cells beside it")
