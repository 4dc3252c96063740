"""The boards of a report, Sudokus and mazes: their scores, and a sample of them, wrong ones first."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arcpipe.codec import GridTable
from arcpipe.puzzleset import PuzzleSet
from arcpipe.submissions.report_tasks import Result, entries_of
from arcpipe.submissions.report_votes import Ballot
from arcpipe.task import Pair

_MOST_WRONG, _MOST_RIGHT = 150, 50


@dataclass(frozen=True, eq=False)
class BoardVotes:
    """The ballot on T boards, and the answer to each: answers (T, S, S) uint8, whether there is one and
    whether it follows the rules (T,)."""

    ballot: Ballot
    answers: NDArray[np.uint8]
    answered: NDArray[np.bool_]
    valid: NDArray[np.bool_]


def right_boards(votes: BoardVotes, outputs: GridTable | None) -> NDArray[np.bool_]:
    """Which boards (T,) are answered exactly as recorded; by the rules where that is not known."""
    if outputs is None:
        return votes.valid
    right: NDArray[np.bool_] = (votes.answers == outputs.cells).all(axis=(1, 2)) & votes.answered
    return right


def sample_boards(right: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The numbers of up to 150 boards that are wrong, then of up to 50 that are right, evenly spread."""
    parts = [
        boards[np.linspace(0, len(boards) - 1, min(len(boards), most)).round().astype(np.intp)]
        for boards, most in ((np.flatnonzero(~right), _MOST_WRONG), (np.flatnonzero(right), _MOST_RIGHT))
    ]
    return np.concatenate(parts)


def board_scores(votes: BoardVotes, outputs: GridTable | None) -> list[tuple[str, str, str]]:
    """Name, value and detail of each score of the boards."""
    total = len(votes.valid)
    scores = []
    if outputs is not None:
        right = right_boards(votes, outputs)
        cells = (votes.answers == outputs.cells) & votes.answered[:, None, None]
        scores = [
            ("solved exactly", f"{right.mean():.1%}", f"{int(right.sum()):,} of {total:,} boards"),
            ("cells right", f"{cells.mean():.1%}", "of all boards"),
        ]
    valid = f"{int(votes.valid.sum()):,} of {total:,} boards"
    return [*scores, ("follow the rules", f"{votes.valid.mean():.1%}", valid)]


def board_tests(
    puzzles: PuzzleSet, outputs: GridTable | None, votes: BoardVotes, boards: Sequence[int]
) -> list[Result]:
    """The boards of these numbers as tests; each is a task named after its number."""
    return [
        Result(
            f"board-{board}", 0,
            Pair(puzzles.test_inputs.grid(board), None if outputs is None else outputs.grid(board)),
            [votes.answers[board]] if votes.answered[board] else [],
            entries_of(votes.ballot, board), int(votes.ballot.candidates[board]),
        )
        for board in boards
    ]  # fmt: skip
