"""Answers to Sudokus and mazes, scores with known outputs, and the proof of puzzle rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcpipe.codec import GridTable
from arcpipe.errors import DataError
from arcpipe.infer.evaluate import Proof, evaluate, known_outputs
from arcpipe.infer.vote import RULES, choose_boards, read_votes
from arcpipe.puzzleset import PuzzleSet, read_puzzle_set
from arcpipe.runs import write_json
from arcpipe.task import Task, solutions_json
from candidates import candidate, table
from puzzles import build, write_source

WRONG = [[7]]


def outputs_of(data: Path) -> tuple[PuzzleSet, GridTable]:
    """A dataset and the outputs of its test inputs."""
    puzzles = read_puzzle_set(data)
    outputs = known_outputs(data, puzzles)
    assert outputs is not None
    return puzzles, outputs


def scores(data: Path, rows: list[dict[str, Any]]) -> dict[str, float]:
    return evaluate(*outputs_of(data), [table(rows)] if rows else [])[0]


def rows_for(family: str, *answers: tuple[Any, float], tests: int = 9) -> list[dict[str, Any]]:
    """Candidates for the first tests: for each of `answers` the grids of all tests and their halt."""
    return [
        candidate(cells, halt, task=family, test_index=test)
        for grids, halt in answers
        for test, cells in enumerate(grids[:tests])
    ]


def test_arc_is_scored_by_task_with_two_attempts(arc_dir: Path, tasks: list[Task]) -> None:
    """task1 is solved by the best grid, a half of task2 by the second, a third of task3 by the third; the
    others are answered wrongly."""
    one, two, three = ([pair.output for pair in task.tests] for task in tasks)
    rows = [
        candidate(cells, halt, task=f"task{task}", test_index=test)
        for task, test, cells, halt in (
            (1, 0, one[0], 0.5),
            (2, 0, WRONG, 0.5), (2, 0, two[0], 0.4), (2, 1, WRONG, 0.5),
            (3, 0, WRONG, 0.5), (3, 1, WRONG, 0.5),
            (3, 2, WRONG, 0.9), (3, 2, [[8]], 0.8), (3, 2, three[2], 0.1),
        )
    ]  # fmt: skip
    expected = {"pass@1": 1 / 3, "pass@2": 1 / 2, "oracle": 1 / 2 + 1 / 9}
    assert scores(arc_dir, rows) == pytest.approx(expected)


@given(votes=st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.booleans()), max_size=20))
def test_what_is_not_answered(votes: list[tuple[int, bool, bool]], arc_dir: Path, tasks: list[Task]) -> None:
    """Each vote is for one of the six test inputs, with a right or wrong grid or none."""
    tests = [(task.id, index, pair.output) for task in tasks for index, pair in enumerate(task.tests)]
    rows = [
        candidate((output if right else WRONG) if held else None, task=task, test_index=index)
        for test, held, right in votes
        for task, index, output in [tests[test]]
    ]
    found, counts = evaluate(*outputs_of(arc_dir), [table(rows)] if rows else [])
    assert counts.tolist() == [sum(test == vote[0] for vote in votes) for test in range(6)]
    solved = [any(vote == (test, True, True) for vote in votes) for test in range(6)]
    by_task = [solved[:1], solved[1:3], solved[3:]]
    of_answered = [
        np.mean([one for one, count in zip(of_task, counts_of_task, strict=True) if count])
        for of_task, counts_of_task in zip(by_task, np.split(counts, [1, 3]), strict=True)
        if counts_of_task.any()
    ]
    assert found == (pytest.approx({**found, "pass@2": np.mean(of_answered)}) if votes else {})


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_sudoku_that_breaks_a_rule_never_wins_over_one_that_does_not(sudoku_dir: Path, rule: str) -> None:
    puzzles, outputs = outputs_of(sudoku_dir)
    right, wrong = outputs.cells, np.where(outputs.cells == 1, 2, outputs.cells)
    rows = rows_for("sudoku", (wrong, 0.9), (wrong, 0.9), tests=2) + rows_for("sudoku", (right, 0.1), tests=1)
    answers = choose_boards(puzzles, read_votes([table(rows)], {"sudoku": 5}), RULES[rule])
    np.testing.assert_array_equal(answers.boards, [right[0], wrong[1], *np.zeros((3, 4, 4))])
    assert answers.answered.tolist() == [True, True, False, False, False]
    assert answers.valid.tolist() == [True, False, False, False, False]
    expected = {"exact_accuracy": 1 / 2, "cell_accuracy": (16 + 12) / 32, "valid": 1 / 2}
    assert answers.scores(outputs) == pytest.approx(expected)
    assert scores(sudoku_dir, rows) == pytest.approx(expected)


def test_a_maze_goes_by_count_then_by_halt_probability(maze_dir: Path) -> None:
    puzzles, outputs = outputs_of(maze_dir)
    question = puzzles.test_inputs.cells
    rows = rows_for("maze", (question, 0.2), (outputs.cells, 0.8))
    assert scores(maze_dir, rows)["exact_accuracy"] == 1
    assert scores(maze_dir, rows + rows_for("maze", (question, 0.2)))["valid"] == 0


def test_outputs_are_of_all_test_inputs_or_unknown(arc: PuzzleSet, tasks: list[Task], tmp_path: Path) -> None:
    data = build(tmp_path / "data", write_source(tmp_path, "hidden", tasks, solved=False), canvas=6)
    assert known_outputs(data, read_puzzle_set(data)) is None
    write_json(tmp_path / "solutions.json", solutions_json(tasks[:2]))
    with pytest.raises(DataError, match=r"solutions\.json: does not hold the outputs of all test inputs"):
        known_outputs(tmp_path, arc)


@pytest.mark.parametrize(("right", "shifted", "gained", "lost", "parts", "holds"), [
    (64, 0, 64, 0, (16, 16, 16, 16), True),
    # Less memorized, and puzzles that the next row answers too.
    (40, 20, 24, 4, (10, 10, 10, 10), True),
    # Wrong rows: no better than the next ones.
    (0, 0, 0, 0, (0, 0, 0, 0), False),
    (30, 28, 12, 10, (8, 8, 7, 7), False),
    # The next rows are right: one off.
    (10, 60, 0, 50, (4, 3, 2, 1), False),
    # A wrong draw before the last quarter.
    (46, 3, 44, 1, (16, 15, 14, 1), False),
    # One row for all.
    (3, None, 0, 0, (1, 1, 1, 0), True),
])  # fmt: skip
def test_rows_are_proven_beyond_chance_in_every_quarter(
    right: int, shifted: int | None, gained: int, lost: int, parts: tuple[int, ...], holds: bool
) -> None:
    assert Proof(64, right, shifted, gained, lost, parts).holds == holds
