"""The answers to Sudokus and mazes: choosing them among the candidates, scoring and writing them."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from arcpipe.codec import Family, GridTable
from arcpipe.errors import DataError
from arcpipe.infer.vote import Rule, Votes, rank, read_vote_files
from arcpipe.puzzleset import PuzzleSet, is_valid
from arcpipe.runs import read_manifest, write_bytes

_AT_ONCE = 100_000


@dataclass(frozen=True, eq=False)
class BoardAnswers:
    """The answers to T test inputs.

    boards: (T, S, S), 0 where there is no answer.
    answered: (T,) whether there is one.
    valid: (T,) whether it follows the rules.
    """

    boards: NDArray[np.uint8]
    answered: NDArray[np.bool_]
    valid: NDArray[np.bool_]


def read_board_votes(paths: Sequence[Path], puzzles: PuzzleSet, where: Path) -> Votes:
    """Read the votes for the Sudokus or mazes of the dataset folder `where`.

    Raises:  DataError as `read_vote_files`, for predictions of another dataset, and for a candidate of
             another size or with other cells.
    """
    fingerprint = read_manifest(where, "dataset")["fingerprint"]
    for path in paths:
        manifest = read_manifest(path, "predictions") if path.is_dir() else {}
        if manifest.get("dataset", fingerprint) != fingerprint:
            raise DataError(
                f"{path}: made for another dataset, {manifest.get('data')}; its boards are others"
            )
    votes = read_vote_files(paths, {puzzles.table.task_ids[0]: len(puzzles.test_tasks)}, where)
    names = ", ".join(map(str, paths))
    other = (votes.shapes() != puzzles.canvas).any(axis=1)
    if other.any():
        height, width = votes.shapes()[other.argmax()]
        raise DataError(
            f"{names}: a candidate is {height} x {width}, the boards of {where} are {puzzles.canvas} wide"
        )
    most = max((max(grid) for grid in votes.grids if grid), default=0)
    if most >= puzzles.family.num_values:
        raise DataError(f"{names}: a candidate has a cell of {most}, which no {puzzles.family.name} has")
    return votes


def choose_boards(puzzles: PuzzleSet, votes: Votes, rule: Rule) -> BoardAnswers:
    """Return the best candidate of each test input by a rule of the vote.

    A Sudoku that breaks no rule of Sudoku comes before one that does.
    """
    family, questions = puzzles.family.name, puzzles.test_inputs.cells
    valid = np.zeros(len(votes.tests), bool)
    for start in range(0, len(valid), _AT_ONCE):
        part = np.arange(start, min(start + _AT_ONCE, len(valid)))
        valid[part] = is_valid(family, questions[votes.tests[part]], _boards(votes, part, puzzles.canvas))
    ranking = rank(votes, rule, valid if family == "sudoku" else None)
    best = ranking.entries[ranking.places == 0]
    tests = votes.tests[best]
    answers = BoardAnswers(np.zeros_like(questions), *np.zeros((2, len(questions)), bool))
    answers.boards[tests] = _boards(votes, best, puzzles.canvas)
    answers.answered[tests] = True
    answers.valid[tests] = valid[best]
    return answers


def _boards(votes: Votes, entries: NDArray[np.intp], canvas: int) -> NDArray[np.uint8]:
    """Return the grids (M, S, S) of entries."""
    cells = b"".join([votes.grids[number] for number in votes.cells[entries]])
    return np.frombuffer(cells, np.uint8).reshape(-1, canvas, canvas)


def board_scores(answers: BoardAnswers, outputs: GridTable) -> dict[str, float]:
    """Return the share of test inputs solved exactly, of right cells, and of valid answers, of those that
    are answered; there must be one."""
    same = (answers.boards == outputs.cells)[answers.answered]
    return {
        "exact_accuracy": float(same.all(axis=(1, 2)).mean()),
        "cell_accuracy": float(same.mean()),
        "valid": float(answers.valid[answers.answered].mean()),
    }


def write_answers(path: Path, puzzles: PuzzleSet, answers: BoardAnswers) -> None:
    """Write a CSV file with the columns question and answer, the characters of a board row by row; the
    answer is empty where there is none."""
    questions = _texts(puzzles.family, puzzles.test_inputs.cells)
    texts = np.where(answers.answered, _texts(puzzles.family, answers.boards), "")
    content = io.BytesIO()
    options = csv.WriteOptions(quoting_style="needed")
    csv.write_csv(pa.table({"question": questions, "answer": texts}), content, options)
    write_bytes(path, content.getvalue())


def _texts(family: Family, boards: NDArray[np.uint8]) -> NDArray[np.str_]:
    """Return the characters (T,) of boards (T, S, S)."""
    characters = np.array(list(family.symbols))[boards].reshape(len(boards), -1)
    texts: NDArray[np.str_] = np.ascontiguousarray(characters).view(f"U{characters.shape[1]}")[:, 0]
    return texts
