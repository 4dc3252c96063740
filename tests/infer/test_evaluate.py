"""Scores of candidates where the outputs are known."""

from pathlib import Path
from typing import Any

import pytest

from arcpipe.errors import DataError
from arcpipe.infer.evaluate import evaluate, known_outputs
from arcpipe.puzzleset import PuzzleSet, read_puzzle_set
from arcpipe.runs import write_json
from arcpipe.task import Task, solutions_json
from candidates import candidate, table
from puzzles import build, write_source

WRONG = [[7]]


def scores(puzzles: PuzzleSet, data: Path, rows: list[dict[str, Any]]) -> dict[str, float]:
    outputs = known_outputs(data, puzzles)
    assert outputs is not None
    return evaluate(puzzles, outputs, [table(rows)] if rows else [])


def test_arc_is_scored_by_task_with_two_attempts(arc: PuzzleSet, arc_dir: Path, tasks: list[Task]) -> None:
    """task1 is solved by the best grid, a half of task2 by the second, a third of task3 by the third."""
    right = {(task.id, index): pair.output for task in tasks for index, pair in enumerate(task.tests)}
    rows = [candidate(right["task1", 0], task="task1")]
    rows += [candidate(WRONG, task="task2"), candidate(right["task2", 0], 0.4, task="task2")]
    rows += [
        candidate(cells, halt, task="task3", test_index=2) for cells, halt in ((WRONG, 0.9), ([[8]], 0.8))
    ]
    rows += [candidate(right["task3", 2], 0.1, task="task3", test_index=2)]
    found = scores(arc, arc_dir, rows)
    assert found == pytest.approx({"pass@1": 1 / 3, "pass@2": 1 / 2, "oracle": 1 / 2 + 1 / 9})


def test_without_a_candidate_nothing_is_solved(arc: PuzzleSet, arc_dir: Path, sudoku_dir: Path) -> None:
    assert scores(arc, arc_dir, []) == {"pass@1": 0, "pass@2": 0, "oracle": 0}
    sudokus = read_puzzle_set(sudoku_dir)
    assert scores(sudokus, sudoku_dir, []) == {"exact_accuracy": 0, "cell_accuracy": 0, "valid": 0}


def test_a_sudoku_that_breaks_a_rule_never_wins_over_one_that_does_not(sudoku_dir: Path) -> None:
    puzzles = read_puzzle_set(sudoku_dir)
    outputs = known_outputs(sudoku_dir, puzzles)
    assert outputs is not None
    broken = outputs.cells.copy()
    broken[:, 0, 0] = broken[:, 0, 1]
    rows = [
        candidate(cells, halt, task="sudoku", test_index=test)
        for boards, halt in ((broken, 0.9), (broken, 0.9), (outputs.cells, 0.1))
        for test, cells in enumerate(boards)
    ]
    assert scores(puzzles, sudoku_dir, rows) == {"exact_accuracy": 1, "cell_accuracy": 1, "valid": 1}
    alone = scores(puzzles, sudoku_dir, rows[:5])
    assert alone == pytest.approx({"exact_accuracy": 0, "cell_accuracy": 15 / 16, "valid": 0})


def test_a_maze_goes_by_count_then_by_halt_probability(maze_dir: Path) -> None:
    puzzles = read_puzzle_set(maze_dir)
    outputs = known_outputs(maze_dir, puzzles)
    assert outputs is not None
    questions = puzzles.test_inputs.cells
    rows = [
        candidate(cells, halt, task="maze", test_index=test)
        for boards, halt in ((questions, 0.2), (outputs.cells, 0.8))
        for test, cells in enumerate(boards)
    ]
    assert scores(puzzles, maze_dir, rows)["exact_accuracy"] == 1
    more = [*rows, *rows[: len(questions)]]
    assert scores(puzzles, maze_dir, more)["valid"] == 0


def test_a_set_without_solutions_has_no_known_outputs(tasks: list[Task], tmp_path: Path) -> None:
    data = build(tmp_path / "data", write_source(tmp_path, "hidden", tasks, solved=False), canvas=6)
    assert known_outputs(data, read_puzzle_set(data)) is None


def test_solutions_of_other_tasks_are_refused(arc: PuzzleSet, tasks: list[Task], tmp_path: Path) -> None:
    write_json(tmp_path / "solutions.json", solutions_json(tasks[:2]))
    with pytest.raises(DataError, match=r"solutions\.json: does not hold the outputs of all test inputs"):
        known_outputs(tmp_path, arc)
