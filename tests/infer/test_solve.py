"""One puzzle, answered by a model that repeats its input: right where the question is its own answer."""

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.dom import minidom

import numpy as np
import pytest

from arcpipe.codec import family_of
from arcpipe.infer.solve import Attempt, Solved, Step, solve_puzzle
from arcpipe.infer.trace import animation, solved_text, trace_text
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
        (solved,) = solve_puzzle(parrot(puzzles), Task(puzzles.family.name, (), (Pair(question, None),)))
        np.testing.assert_array_equal(solved.attempts[0].grid, question)
        assert (solved.right, solved.candidates, [step.number for step in solved.steps]) == (right, 1, [4])


def test_an_arc_task_is_voted_on_from_all_its_augmentations(arc: PuzzleSet, tasks: list[Task]) -> None:
    for task in tasks:
        found = solve_puzzle(parrot(arc), task)
        assert len(found) == len(task.tests)
        for solved, pair in zip(found, task.tests, strict=True):
            (attempt,) = solved.attempts
            np.testing.assert_array_equal(attempt.grid, pair.input)
            assert (attempt.votes, solved.candidates, solved.right) == (8, 8, True)


def test_fewer_votes_leave_the_task_as_it_is_among_them(arc: PuzzleSet, tasks: list[Task]) -> None:
    checkpoint = random_model(arc)
    last_first = np.arange(len(arc.table))[::-1]
    table = PuzzleTable(
        arc.table.task_ids, arc.table.tasks[last_first], arc.table.dihedrals[last_first],
        arc.table.colors[last_first],
    )  # fmt: skip
    turned = replace(checkpoint, puzzles=table, rows=checkpoint.rows[last_first.copy()])
    for puzzle in tasks:
        for one, other in zip(
            solve_puzzle(checkpoint, puzzle, max_votes=1),
            solve_puzzle(turned, puzzle, max_votes=1),
            strict=True,
        ):
            assert one.candidates == 1
            for attempt, same in zip(one.attempts, other.attempts, strict=True):
                np.testing.assert_array_equal(attempt.grid, same.grid)


def test_the_trace_holds_each_step_of_the_input_as_it_is(arc: PuzzleSet, tasks: list[Task]) -> None:
    checkpoint, puzzle = random_model(arc), tasks[1]
    traced = solve_puzzle(checkpoint, puzzle, max_steps=6, trace=True)
    for number in (1, 3, 6):
        for index, solved in enumerate(solve_puzzle(checkpoint, puzzle, max_steps=number, max_votes=1)):
            (last,), step = solved.steps, traced[index].steps[number - 1]
            assert (last.number, step.number) == (number, number)
            assert step.halt_probability == pytest.approx(last.halt_probability, abs=1e-6)
            assert (step.grid is None) == (last.grid is None)
            if step.grid is not None and last.grid is not None:
                np.testing.assert_array_equal(step.grid, last.grid)
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


def test_the_attempts_stand_beside_their_question() -> None:
    attempts = [Attempt(array("12"), 5, 0.5), Attempt(array("0"), 2, 0.25)]
    text = solved_text(Solved(array("7"), attempts, 9, ARC_STEPS, None), family_of("arc", 5), color=False)
    assert text.startswith(
        "input   attempt 1   attempt 2\n7       1 2         0\n\nattempt 1: 5 of 9 votes, "
    )
    assert "cannot be checked" in text
    text = solved_text(Solved(array("7"), [], 9, ARC_STEPS, False), family_of("arc", 5), color=False)
    assert "no answer: none of 9 candidates held a grid\nno attempt is the output" in text


@pytest.mark.parametrize(
    ("family", "steps"), [("sudoku", STEPS[1:]), ("maze", STEPS[1:]), ("arc", ARC_STEPS)]
)
def test_the_animation_shows_each_step_for_its_time(family: str, steps: list[Step]) -> None:
    solved = Solved(array("10 00"), [], 1, steps, None)
    document = minidom.parseString(animation([solved, solved], family_of(family, 4)))
    width = float(document.documentElement.getAttribute("width"))
    for square in document.getElementsByTagName("rect"):
        assert float(square.getAttribute("x") or 0) + float(square.getAttribute("width")) <= width
    texts = [node.firstChild.data for node in document.getElementsByTagName("text") if node.firstChild]
    assert [text for text in texts if text.startswith("step ")] == 2 * [
        f"step {step.number}, halt {step.halt_probability:.2f}" for step in steps
    ]
    for animate in document.getElementsByTagName("animate"):
        times = [float(time) for time in animate.getAttribute("keyTimes").split(";")]
        values = animate.getAttribute("values").split(";")
        assert times[0] == 0
        assert times == sorted(set(times))
        assert len(times) == len(values) > 1
        assert all(one != other for one, other in pairwise(values))


def test_the_animation_of_one_step_stands_still() -> None:
    still = Solved(array("12"), [], 1, [Step(4, array("21"), 0.5)], None)
    assert not re.search("animate|hidden", animation([still], family_of("arc", 5)))
