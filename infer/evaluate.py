"""How good candidates are, where the outputs are known."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from arcpipe.codec import GridTable
from arcpipe.errors import DataError
from arcpipe.grid import MAX_SIDE
from arcpipe.infer.puzzles import board_scores, choose_boards
from arcpipe.infer.vote import Votes, by_count, rank, read_votes, right_entries, solved_tests
from arcpipe.puzzleset import PuzzleSet, read_test_outputs
from arcpipe.task import read_solutions

ARC_SCORES = ("pass@1", "pass@2", "oracle")
BOARD_SCORES = ("exact_accuracy", "cell_accuracy", "valid")


def known_outputs(data: Path, puzzles: PuzzleSet) -> GridTable | None:
    """The outputs of a dataset's test inputs, in their order; None where they are not known.

    Raises:  DataError if they do not fit the test inputs.
    """
    outputs, file = read_test_outputs(data), data / "solutions.json"
    if outputs is None and file.exists():
        solutions = read_solutions(file)
        names = [puzzles.table.task_ids[task] for task in puzzles.test_tasks]
        try:
            grids = [solutions[name][index] for name, index in zip(names, puzzles.test_indices, strict=True)]
        except (KeyError, IndexError):
            raise DataError(f"{file}: does not hold the outputs of all test inputs; build it again") from None
        outputs = GridTable.pack(grids, MAX_SIDE)
    if outputs is not None and len(outputs) != len(puzzles.test_tasks):
        raise DataError(
            f"{data}: {len(outputs)} outputs for {len(puzzles.test_tasks)} test inputs; build it again"
        )
    return outputs


def evaluate(
    puzzles: PuzzleSet, outputs: GridTable, candidates: Iterable[pa.Table]
) -> tuple[dict[str, float], NDArray[np.intp]]:
    """The scores by name, and how many candidates (T,) each test input has; one without any is not solved,
    and where all are without there are no scores.

    Of the grids of one test input the most frequent is chosen, then the one with the higher mean halt
    probability, then the first seen; of a Sudoku only such as break no rule, if there are any.

    Args:    candidates: as `read_candidates` gives them.
    Returns: scores of ARC: "pass@1", "pass@2" (a right grid among the two best) and "oracle" (among all),
             the mean over tasks of the share of their test inputs; of boards: "exact_accuracy",
             "cell_accuracy" and "valid", the share of answers that follow the rules, whatever the output.
    """
    # Votes number test inputs task by task, as datasets hold them.
    votes = read_votes(candidates, Counter(puzzles.table.task_ids[task] for task in puzzles.test_tasks))
    if not votes.candidates.any():
        return {}, votes.candidates
    if not puzzles.family.framed:
        return board_scores(choose_boards(puzzles, votes, by_count), outputs), votes.candidates
    return _arc_scores(puzzles, outputs, votes), votes.candidates


def _arc_scores(puzzles: PuzzleSet, outputs: GridTable, votes: Votes) -> dict[str, float]:
    right = right_entries(votes, [outputs.grid(number) for number in range(len(outputs))])
    ranking = rank(votes, by_count)
    counts = np.bincount(puzzles.test_tasks)
    scores = {}
    for name, most in zip(ARC_SCORES, (1, 2, len(right)), strict=True):
        solved = solved_tests(votes, ranking, right, most)
        shares = np.bincount(puzzles.test_tasks, weights=solved)[counts > 0] / counts[counts > 0]
        scores[name] = float(shares.mean())
    return scores
