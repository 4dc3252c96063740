"""Answers to Sudokus and mazes from candidates."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arcpipe.augment.puzzles import MazeSettings, SudokuSettings, build_maze, build_sudoku
from arcpipe.errors import DataError
from arcpipe.infer.puzzles import board_scores, choose_boards, read_board_votes, write_answers
from arcpipe.infer.vote import RULES, read_votes
from arcpipe.predictions import write_table
from arcpipe.puzzleset import PuzzleSet, read_puzzle_set, read_test_outputs
from candidates import candidate, table


@dataclass(frozen=True)
class Made:
    """A dataset folder of three test inputs, what it holds, and their outputs (3, S, S)."""

    folder: Path
    puzzles: PuzzleSet
    outputs: Any

    def row(self, test: int, cells: Any, halt: float = 0.5) -> dict[str, Any]:
        name = self.puzzles.family.name
        return candidate(cells, halt, task=name, test_index=test, checkpoint="c")


@pytest.fixture(scope="module")
def sudoku(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("boards") / "sudoku"
    build_sudoku(SudokuSettings(generate=2, test=3, side=4, num_aug=0), folder)
    return made(folder)


@pytest.fixture(scope="module")
def maze(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("boards") / "maze"
    build_maze(MazeSettings(generate=2, test=3, size=6, min_path=4, num_aug=0), folder)
    return made(folder)


def made(folder: Path) -> Made:
    outputs = read_test_outputs(folder)
    assert outputs is not None
    return Made(folder, read_puzzle_set(folder), outputs)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_sudoku_that_breaks_a_rule_never_wins_over_one_that_does_not(sudoku: Made, rule: str) -> None:
    right = sudoku.outputs.cells
    wrong = np.where(right == 1, 2, right)
    rows = [sudoku.row(0, wrong[0], 0.9)] * 3 + [sudoku.row(0, right[0], 0.1), sudoku.row(1, wrong[1])]
    votes = read_votes([table(rows)], {"sudoku": 3})
    answers = choose_boards(sudoku.puzzles, votes, RULES[rule])
    np.testing.assert_array_equal(answers.boards, [right[0], wrong[1], np.zeros((4, 4))])
    assert answers.answered.tolist() == [True, True, False]
    assert answers.valid.tolist() == [True, False, False]
    scores = board_scores(answers, sudoku.outputs)
    assert scores == pytest.approx({"exact_accuracy": 1 / 3, "cell_accuracy": (16 + 12) / 48, "valid": 1 / 3})


def test_a_maze_is_answered_by_the_rule_alone(maze: Made) -> None:
    right, question = maze.outputs.cells, maze.puzzles.test_inputs.cells
    rows = [maze.row(0, question[0])] * 2 + [maze.row(0, right[0]), maze.row(2, right[2])]
    answers = choose_boards(maze.puzzles, read_votes([table(rows)], {"maze": 3}), RULES["count"])
    np.testing.assert_array_equal(answers.boards[0], question[0])
    assert answers.valid.tolist() == [False, False, True]


def test_answers_are_written_as_they_are_read(maze: Made, tmp_path: Path) -> None:
    rows = [maze.row(1, maze.outputs.cells[1])]
    answers = choose_boards(maze.puzzles, read_votes([table(rows)], {"maze": 3}), RULES["count"])
    write_answers(tmp_path / "answers.csv", maze.puzzles, answers)
    with (tmp_path / "answers.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    questions = maze.puzzles.test_inputs.cells
    assert [row["question"] for row in written] == [
        "".join("# SGo"[cell] for cell in board.ravel()) for board in questions
    ]
    solved = "".join("# SGo"[cell] for cell in maze.outputs.cells[1].ravel())
    assert [row["answer"] for row in written] == ["", solved, ""]


def test_candidates_that_are_no_such_boards_are_refused(sudoku: Made, tmp_path: Path) -> None:
    file = tmp_path / "p.parquet"
    for cells, says in (
        ([[1, 2]], f"a candidate is 1 x 2, the boards of {sudoku.folder} are 4 wide"),
        ([[5] * 4] * 4, "a candidate has a cell of 5, which no sudoku has"),
    ):
        write_table(file, table([sudoku.row(0, cells)]))
        with pytest.raises(DataError) as caught:
            read_board_votes([file], sudoku.puzzles, sudoku.folder)
        assert str(caught.value) == f"{file}: {says}"
