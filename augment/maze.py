"""Maze sources: tables of questions and answers, and text files."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import isqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arcpipe.augment.tables import draw_rows, read_columns, read_lines
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

_TEXT_ENDING = ".txt"
_UNKNOWN = 255
_VALUES = np.full(128, _UNKNOWN, np.uint8)
_VALUES[[ord(character) for character in CHARACTERS]] = range(len(CHARACTERS))


@dataclass(frozen=True)
class Mazes:
    """Mazes (N, S, S) uint8, the same with a shortest path marked, and the files they are from."""

    questions: NDArray[np.uint8]
    answers: NDArray[np.uint8]
    files: tuple[Path, ...]


def read_mazes(
    spec: str,
    *,
    split: str = "train",
    question: str = "question",
    answer: str = "answer",
    subsample: int = 0,
    seed: Sequence[int] = (0,),
) -> Mazes:
    """The mazes that `spec` stands for, in its order, checked: every answer is a shortest path.

    Args:    spec: a `.csv` or `.parquet` file or a set of the Hugging Face hub (`tables.read_columns`),
             whose rows hold the S * S characters of a maze, wall '#', free ' ', start 'S', goal 'G', and
             of its answer, path 'o'; or a `.txt` file of mazes of S lines, parted by empty lines. There a
             maze that marks no path gets one.
             split: the part of a set on the hub.
             question: the name of the column of mazes.
             answer: the name of the column of answers.
             subsample, seed: how many to draw, as `draw_rows` does; 0 for all.
    Raises:  DataError naming file and row, from 1, of what is no maze or no shortest path.
    """
    if spec.endswith(_TEXT_ENDING):
        return _drawn(_read_text(Path(spec)), subsample, seed)
    table = read_columns(spec, split, (question, answer))
    characters = table.characters(question)
    length = characters.shape[1]
    if length not in (side**2 for side in range(2, MAX_SIDE + 1)):
        raise DataError(
            f"{table.name}: row 1: {question} has {length} characters, not those of a square with a side of "
            f"2 to {MAX_SIDE}"
        )
    where = f"{table.name}: row"
    questions = _boards(characters, where, question)
    answers = _boards(table.characters(answer, length), where, answer)
    _refuse((questions == PATH).any(axis=(1, 2)), where, f"{question} marks a path with 'o'")
    _check_questions(questions, where)
    _check_answers(questions, answers, where)
    return _drawn(Mazes(questions, answers, table.files), subsample, seed)


def _drawn(mazes: Mazes, count: int, seed: Sequence[int]) -> Mazes:
    chosen = draw_rows(len(mazes.questions), count, seed)
    return Mazes(mazes.questions[chosen], mazes.answers[chosen], mazes.files)


def _read_text(path: Path) -> Mazes:
    where = f"{path}: maze"
    drawn = _boards(_text_characters(read_lines(path), where), where, "it")
    questions = np.where(drawn == PATH, FREE, drawn).astype(np.uint8)
    _check_questions(questions, where)
    marked = (drawn == PATH).any(axis=(1, 2))
    answers = drawn.copy()
    answers[~marked] = mark_shortest_paths(questions[~marked])
    _check_answers(questions, answers, where)
    return Mazes(questions, answers, (path,))


def _text_characters(lines: list[str], where: str) -> NDArray[np.uint8]:
    """The ASCII codes (N, S * S) of mazes in lines."""
    mazes = [list(group) for filled, group in groupby(lines, key=bool) if filled]
    if not mazes:
        raise DataError(f"{where.removesuffix(' maze')} no mazes")
    side = len(mazes[0])
    if not 2 <= side <= MAX_SIDE:
        raise DataError(f"{where} 1: {side} lines, a maze has 2 to {MAX_SIDE}")
    for number, maze in enumerate(mazes, 1):
        if len(maze) != side:
            raise DataError(f"{where} {number}: {len(maze)} lines where maze 1 has {side}")
        for row, line in enumerate(maze, 1):
            if len(line) != side:
                raise DataError(
                    f"{where} {number}: line {row} has {len(line)} characters, for a square it should have "
                    f"{side} (spaces at its end count)"
                )
            if not line.isascii():
                raise DataError(f"{where} {number}: line {row} is {line!a}; a maze is made of {CHARACTERS!r}")
    codes = np.frombuffer("".join(map("".join, mazes)).encode(), np.uint8)
    return codes.reshape(len(mazes), side * side)


def _boards(codes: NDArray[np.uint8], where: str, what: str) -> NDArray[np.uint8]:
    """The values (N, S, S) that ASCII codes (N, S * S) stand for."""
    side = isqrt(codes.shape[1])
    values = _VALUES[codes]
    unknown = values == _UNKNOWN
    if unknown.any():
        number, cell = np.argwhere(unknown)[0]
        row, column = divmod(int(cell), side)
        raise DataError(
            f"{where} {number + 1}: {what} holds {chr(codes[number, cell])!r} in line {row + 1}, column "
            f"{column + 1} of the maze; a maze is made of {CHARACTERS!r}"
        )
    return values.reshape(-1, side, side)


def _check_questions(questions: NDArray[np.uint8], where: str) -> None:
    """Raises DataError unless each maze has one start, one goal and a way between them."""
    for value, name in ((START, "start 'S'"), (GOAL, "goal 'G'")):
        number = (questions == value).sum(axis=(1, 2))
        _refuse(number == 0, where, f"no {name}")
        _refuse(number > 1, where, f"more than one {name}")
    to_goal = at(distances(questions), cells_of(questions, GOAL))
    _refuse(to_goal < 0, where, "no way from the start to the goal")


def _check_answers(questions: NDArray[np.uint8], answers: NDArray[np.uint8], where: str) -> None:
    """Raises DataError unless each answer is its question with a shortest path marked."""
    other = (np.where(answers == PATH, FREE, answers) != questions).any(axis=(1, 2))
    _refuse(other, where, "the answer differs from the question in more than its path")
    _refuse(path_moves(questions, answers) < 0, where, "the answer's path is broken")
    longer = ~is_shortest_path(questions, answers)
    _refuse(longer, where, "the answer marks another path than a shortest one, or cells beside it")


def _refuse(wrong: NDArray[np.bool_], where: str, problem: str) -> None:
    """Raises DataError for the first row, from 1, that is wrong, and says how many are."""
    if wrong.any():
        others = int(wrong.sum()) - 1
        more = f" (and {others} more like it)" if others else ""
        raise DataError(f"{where} {wrong.argmax() + 1}: {problem}{more}")
