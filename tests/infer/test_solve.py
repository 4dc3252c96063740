"""One puzzle, answered by a model that repeats its input: right where the question is its own answer."""

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.dom import minidom

import numpy as np
import pytest

from arcpipe.codec import family_of
from arcpipe.infer.solve import Solved, Step, solve_puzzle
from arcpipe.infer.trace import animation, trace_text
from arcpipe.puzzleset import PuzzleSet, read_puzzle_set, read_test_outputs
from arcpipe.puzzletable import PuzzleTable
from arcpipe.task import Pair, Task
from inference import parrot, random_model


def test_a_full_sudoku_is_valid_and_a_question_is_not(sudoku_dir: Path, maze_dir: Path) -> None:
    sudokus, mazes = read_puzzle_set(sudoku_dir), read_puzzle_set(maze_dir)
    outputs = read_test_outputs(sudoku_dir)
    assert outputs is not None
    for puzzles, question, right in (
        (sudokus, outputs.cells[0], True),
        (sudokus, sudokus.test_inputs.cells[0], False),
        (mazes, mazes.test_inputs.cells[0], False),
    ):
        task = Task(puzzles.family.name, (), (Pair(question, None),))
        (solved,) = solve_puzzle(parrot(puzzles), task)
        np.testing.assert_array_equal(solved.attempts[0].grid, question)
        assert (solved.right, solved.candidates, [step.number for step in solved.steps]) == (right, 1, [4])


def test_an_arc_task_is_voted_on_from_all_its_augmentations(arc: PuzzleSet, tasks: list[Task]) -> None:
    for task in tasks:
        for solved, pair in zip(solve_puzzle(parrot(arc), task), task.tests, strict=True):
            (attempt,) = solved.attempts
            np.testing.assert_array_equal(attempt.grid, pair.input)
            assert (attempt.votes, solved.candidates, solved.right) == (8, 8, True)


def test_fewer_votes_leave_the_task_as_it_is_among_them(arc: PuzzleSet, tasks: list[Task]) -> None:
    checkpoint, table = random_model(arc), arc.table
    last = np.arange(len(table))[::-1].copy()
    puzzles = PuzzleTable(table.task_ids, table.tasks[last], table.dihedrals[last], table.colors[last])
    turned = replace(checkpoint, puzzles=puzzles, rows=checkpoint.rows[last])
    for task in tasks:
        pair = (solve_puzzle(of, task, max_votes=1) for of in (checkpoint, turned))
        for one, other in zip(*pair, strict=True):
            assert one.candidates == 1
            assert [a.grid.tolist() for a in one.attempts] == [a.grid.tolist() for a in other.attempts]


def test_the_trace_holds_each_step_of_the_input_as_it_is(arc: PuzzleSet, tasks: list[Task]) -> None:
    checkpoint, task = random_model(arc), tasks[1]
    traced = solve_puzzle(checkpoint, task, max_steps=6, trace=True)
    for number in (1, 3, 6):
        for one, solved in zip(traced, solve_puzzle(checkpoint, task, max_steps=number), strict=True):
            (last,), step = solved.steps, one.steps[number - 1]
            assert last.number == step.number == number
            assert step.halt_probability == pytest.approx(last.halt_probability, abs=1e-6)
            np.testing.assert_array_equal(step.grid, last.grid)  # type: ignore[arg-type]  # or both None
    # Steps on the way have no vote.
    assert [solved.candidates for solved in traced] == [8, 8]


def array(text: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.array([[int(cell) for cell in row] for row in text.split()], np.uint8)


STEPS = [Step(1, None, 0.25), Step(2, array("12 30"), 0.5), Step(3, array("12 34"), 0.75)]
ARC_STEPS = [*STEPS, Step(4, array("123 345 000"), 1.0)]


def test_the_trace_marks_what_changed() -> None:
    assert trace_text(ARC_STEPS, family_of("arc", 5)) == (
        "step 1: halt probability 0.250\n(no grid)\n\n"
        "step 2: halt probability 0.500, 4 cells changed\n1*2*\n3*0*\n\n"
        "step 3: halt probability 0.750, 1 cells changed\n1 2\n3 4*\n\n"
        "step 4: halt probability 1.000, 5 cells changed\n1 2 3*\n3 4 5*\n0*0*0*"
    )


BOARD_STEPS = [Step(2, np.tile(array("12 30"), (2, 2)), 0.5), Step(3, np.tile(array("12 34"), (2, 2)), 0.75)]


@pytest.mark.parametrize(
    ("family", "steps"), [("sudoku", BOARD_STEPS), ("maze", STEPS[1:]), ("arc", ARC_STEPS)]
)
def test_the_animation_shows_each_step_for_its_time(family: str, steps: list[Step]) -> None:
    question = array("10 00") if family != "sudoku" else np.tile(array("10 00"), (2, 2))
    solved = Solved(question, [], 1, steps, None)
    document = minidom.parseString(animation([solved, solved], family_of(family, 4)))
    width = float(document.documentElement.getAttribute("width"))
    for square in document.getElementsByTagName("rect"):
        assert float(square.getAttribute("x") or 0) + float(square.getAttribute("width")) <= width
    texts = [node.firstChild.data for node in document.getElementsByTagName("text") if node.firstChild]
    assert [text for text in texts if text.startswith("step ")] == 2 * [
        f"step {step.number}, halt {step.halt_probability:.2f}" for step in steps
    ]
    boxes = [path.getAttribute("d").count("M") for path in document.getElementsByTagName("path")]
    assert boxes == ([4] * 4 if family == "sudoku" else [])
    for animate in document.getElementsByTagName("animate"):
        times = [float(time) for time in animate.getAttribute("keyTimes").split(";")]
        values = animate.getAttribute("values").split(";")
        assert times[0] == 0
        assert times == sorted(set(times))
        assert len(times) == len(values) > 1
        assert all(one != other for one, other in pairwise(values))
    still = animation([replace(solved, steps=steps[-1:])], family_of(family, 4))
    assert not re.search("animate|hidden", still)
