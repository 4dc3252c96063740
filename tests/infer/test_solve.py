"""One puzzle: read in every form or refused, answered by a model that repeats its input, and drawn."""

import os
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.dom import minidom

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcpipe.augment.sudoku import SudokuSettings, build_sudoku
from arcpipe.augmentation import PuzzleTable
from arcpipe.checkpoint import save_checkpoint
from arcpipe.codec import family_of
from arcpipe.errors import DataError
from arcpipe.infer.solve import Solved, Step, animation, read_puzzle, solve_puzzle, trace_text
from arcpipe.puzzleset import PuzzleSet, read_puzzle_set, read_test_outputs
from arcpipe.runs import write_json
from arcpipe.task import Pair, Task, challenges_json
from commands import assert_refused, succeed_here
from inference import parrot, random_model
from puzzles import EASY, board, build, grid, made_up_tasks, plain_task, write_source


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
    # Intermediate steps have no vote.
    assert [solved.candidates for solved in traced] == [8, 8]


STEPS = [Step(1, None, 0.25), Step(2, grid("12", "30"), 0.5), Step(3, grid("12", "34"), 0.75)]
ARC_STEPS = [*STEPS, Step(4, grid("123", "345", "000"), 1.0)]


def test_the_trace_marks_what_changed() -> None:
    assert trace_text(ARC_STEPS, family_of("arc", 5)) == (
        "step 1: halt probability 0.250\n(no grid)\n\n"
        "step 2: halt probability 0.500, 4 cells changed\n1*2*\n3*0*\n\n"
        "step 3: halt probability 0.750, 1 cells changed\n1 2\n3 4*\n\n"
        "step 4: halt probability 1.000, 5 cells changed\n1 2 3*\n3 4 5*\n0*0*0*"
    )


BOARD_STEPS = [Step(2, grid(*["1212", "3030"] * 2), 0.5), Step(3, grid(*["1212", "3434"] * 2), 0.75)]


@pytest.mark.parametrize(
    ("family", "steps"), [("sudoku", BOARD_STEPS), ("maze", STEPS[1:]), ("arc", ARC_STEPS)]
)
def test_the_animation_shows_each_step_for_its_time(family: str, steps: list[Step]) -> None:
    question = grid("10", "00") if family != "sudoku" else np.tile(grid("10", "00"), (2, 2))
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


QUESTION, ANSWER = EASY
LINES = [QUESTION[start : start + 9] for start in range(0, 81, 9)]
BARS = ["|".join(line[start : start + 3] for start in (0, 3, 6)) for line in LINES]
FORMS = {
    "a line": QUESTION,
    "zeros": QUESTION.replace(".", "0") + "\n",
    "lines": "\n".join(LINES),
    "spaces": "\n".join(" ".join(line) for line in LINES) + "\n\n",
    "a frame": "\n---+---+---\n".join("\n".join(BARS[start : start + 3]) for start in (0, 3, 6)),
    "line ends of Windows": "\r\n".join(LINES) + "\r\n",
    "CSV": f"source,question,answer,rating\nx,{QUESTION},{ANSWER},3\n",
    "a bare row": f"x,{QUESTION},7\n",
}
MAZE = ["#####", "#S  #", "# # #", "#  G", "#####"]
MAZE_TEXT = "\n".join(MAZE)


def read(folder: Path, text: str, family: str, canvas: int) -> Task:
    (folder / "puzzle.txt").write_bytes(text.encode())
    return read_puzzle(folder / "puzzle.txt", family, canvas)


@pytest.mark.parametrize("form", FORMS)
def test_a_sudoku_in_every_form(tmp_path: Path, form: str) -> None:
    puzzle = read(tmp_path, FORMS[form], "sudoku", 9)
    ((question, output),) = ((pair.input, pair.output) for pair in puzzle.tests)
    assert (puzzle.id, output) == ("sudoku", None)
    np.testing.assert_array_equal(question, board(QUESTION))


@pytest.mark.parametrize("form", ["a line", "lines"])
def test_a_sudoku_in_place_of_its_file(form: str) -> None:
    typed = read_puzzle(Path(FORMS[form]), "sudoku", 9)
    np.testing.assert_array_equal(typed.tests[0].input, board(QUESTION))


@pytest.mark.usefixtures("own_folder")
def test_a_file_comes_before_the_sudoku_that_its_name_spells() -> None:
    Path("." * 16).write_text("1" + "." * 15)
    assert read_puzzle(Path("." * 16), "sudoku", 4).tests[0].input[0, 0] == 1


def test_a_sudoku_from_stdin(tmp_path: Path) -> None:
    (tmp_path / "given").write_text(FORMS["lines"])
    before = os.dup(0)
    with (tmp_path / "given").open() as given:
        os.dup2(given.fileno(), 0)
    try:
        np.testing.assert_array_equal(read_puzzle(Path("-"), "sudoku", 9).tests[0].input, board(QUESTION))
    finally:
        os.dup2(before, 0)
        os.close(before)


def test_a_maze_with_and_without_the_spaces_at_the_ends_of_lines(tmp_path: Path) -> None:
    values = [["# SGo".index(cell) for cell in line.ljust(5)] for line in MAZE]
    in_a_line = "".join(line.ljust(5) for line in MAZE)
    # The path of a solution is no part of the question.
    marked = MAZE_TEXT.replace("S  ", "Soo")
    for text in (MAZE_TEXT, in_a_line, "\n\n" + MAZE_TEXT + "\n", marked):
        np.testing.assert_array_equal(read(tmp_path, text, "maze", 5).tests[0].input, values)


def test_an_arc_task_takes_its_name_from_its_file_or_its_key(tmp_path: Path) -> None:
    pair = {"input": [[1, 2]], "output": [[2]]}
    task = {"train": [pair], "test": [pair, {"input": [[3]]}]}
    write_json(tmp_path / "abc.json", task)
    write_json(tmp_path / "one.json", {"def": task})
    for name, expected in {"abc.json": "abc", "one.json": "def"}.items():
        puzzle = read_puzzle(tmp_path / name, "arc", 3)
        assert puzzle.id == expected
        assert plain_task(puzzle)["test"] == [([[1, 2]], [[2]]), ([[3]], None)]


BAD = {
    "empty": (" \n", "sudoku", 9, "is empty, expected a puzzle"),
    "short": (QUESTION[:80], "sudoku", 9, "no Sudoku: expected 81, 36 or 16 characters in one"),
    "uneven lines": (
        "\n".join([*LINES[:7], LINES[7] + "1", LINES[8][1:]]), "sudoku", 9, "81 characters in 9 lines"
    ),
    "several": (f"{QUESTION}\n{QUESTION}\n", "sudoku", 9, "2 Sudokus, solve takes a file of one"),
    "several rows": (f"question\n{QUESTION},a\n{QUESTION},b\n", "sudoku", 9, "2 rows of puzzles"),
    "no digit": (QUESTION.replace("8", "x", 1), "sudoku", 9, "'x' in row 3, column 3; a Sudoku of this size"),
    "digit too large": ("5".rjust(16, "."), "sudoku", 4, "'5' in row 4, column 4"),
    "twice": ("1.1" + "." * 13, "sudoku", 4, "a digit stands twice in a row, column or box"),
    "no field": ("id,question\n7\n", "sudoku", 9, "its row has no field for the column question"),
    "maze, wide": ("#####\n#S G###\n#####\n#####\n#####", "maze", 5, "line 2 has 7 characters"),
    "maze, no square": ("#S G##", "maze", 5, "6 characters in one line are no square maze"),
    "maze, character": (MAZE_TEXT.replace("# #", "#x#"), "maze", 5, "'x' in row 3, column 2; a maze is"),
    "maze, no goal": (MAZE_TEXT.replace("G", " "), "maze", 5, "0 cells are the goal 'G', a maze has one"),
    "maze, two starts": (MAZE_TEXT.replace("G", "S"), "maze", 5, "2 cells are the start 'S'"),
    "maze, no way": ("S#G\n###\n   ", "maze", 3, "there is no way from the start to the goal"),
    "maze, other size": (MAZE_TEXT, "maze", 30, "a maze of 5 x 5, but the checkpoint solves"),
    "no JSON": (QUESTION, "arc", 30, "not a JSON file"),
    "two tasks": ('{"a": 1, "b": 2}', "arc", 30, "holds 2 tasks, solve takes a file of one"),
    "too wide": (
        '{"train": [{"input": [[1]], "output": [[1]]}], "test": [{"input": [[1, 2, 3]]}]}', "arc", 2,
        "task puzzle, test[0].input: 1 x 3 cells, the checkpoint's canvas is 2 x 2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, case: str) -> None:
    text, family, canvas, says = BAD[case]
    with pytest.raises(DataError) as caught:
        read(tmp_path, text, family, canvas)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'puzzle.txt'}: ")
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize(("typed", "says"), [
    ("1..4", "expected 81, 36 or 16 characters in one line, or 9, 6 or 4 lines"),
    (QUESTION[:80], "found 80 characters in 1 line"),
    (".".join(QUESTION) * 4, "found 644 characters in 1 line"),
    (QUESTION.replace(".", "_"), "no such file; instead of one, a Sudoku can be typed: 16, 36 or 81 digits"),
    ("." * 16, "a sudoku of 4 x 4, but the checkpoint solves those of 9 x 9"),
])  # fmt: skip
def test_a_sudoku_that_is_typed_wrongly_is_no_missing_file(typed: str, says: str) -> None:
    with pytest.raises(DataError, match=re.escape(says)):
        read_puzzle(Path(typed), "sudoku", 9)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe1")
    for name, says in {
        "none.txt": "no such file",
        "bytes.txt": "not a text file in UTF-8",
        ".": "cannot be read",
    }.items():
        with pytest.raises(DataError, match=says):
            read_puzzle(tmp_path / name, "sudoku", 9)


@given(
    st.text('.0123456789#SGo |,\n"x', max_size=90),
    st.sampled_from(("sudoku", "maze", "arc")),
    st.sampled_from((4, 9)),
)
def test_any_text(tmp_path_factory: pytest.TempPathFactory, text: str, family: str, canvas: int) -> None:
    folder = tmp_path_factory.getbasetemp()
    try:
        puzzle = read(folder, text, family, canvas)
    except DataError:
        return
    assert puzzle.tests[0].input.shape == (canvas, canvas)


FULL = "1234\n3412\n2143\n4321\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoints `sudoku`, of side 4, and `arc`, of made-up tasks."""
    folder = tmp_path_factory.mktemp("solve")
    build_sudoku(SudokuSettings(generate=2, test=1, side=4, num_aug=0), folder / "data")
    build(folder / "arc-data", write_source(folder / "source", "set", made_up_tasks(2)), canvas=5)
    for name, data in {"sudoku": "data", "arc": "arc-data"}.items():
        save_checkpoint(replace(parrot(read_puzzle_set(folder / data)), path=folder / name))
    (folder / "full.txt").write_text(FULL)
    write_json(folder / "other.json", challenges_json(made_up_tasks(1, seed=5)))
    return folder


@pytest.fixture
def work(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)


@pytest.mark.usefixtures("work")
def test_a_sudoku_is_drawn_beside_its_answer_and_step_by_step() -> None:
    rows = [" ".join(row) for row in FULL.split()]
    head = "full.txt: sudoku\n\n"
    drawing = "input      answer\n" + "".join(f"{row}    {row}\n" for row in rows)
    valid = "\nvalid: each row, column and box holds each digit once, and the givens stand\n"
    halt = "halt probability 0.982"
    words = ("solve", "full.txt", "--checkpoint", "sudoku")
    assert succeed_here(*words) == f"{head}{drawing}{valid}{halt} after 4 steps\n"
    traced = succeed_here(*words, "--trace", "--max-steps", 6, "--out", "steps.svg")
    first, *later = [f"step {step}: {halt}" for step in range(1, 7)]
    lines = "\n".join(rows)
    blocks = [f"{first}\n{lines}", *(f"{step}, 0 cells changed\n{lines}" for step in later)]
    steps = "\n\n".join(blocks)
    end = "after 6 steps\nsteps.svg: 6 steps\n"
    assert traced == f"{head}{steps}\n\n{drawing}{valid}{halt} {end}"
    assert minidom.parse("steps.svg").documentElement.tagName == "svg"


@pytest.mark.usefixtures("work")
def test_an_arc_task_that_the_checkpoint_knows() -> None:
    for task in made_up_tasks(2):
        write_json(Path("task.json"), challenges_json([task]))
        said = succeed_here("solve", "task.json", "--checkpoint", "arc", "--max-votes", 2)
        for index in range(len(task.tests)):
            assert f"{task.id}, test {index + 1}\n\ninput" in said
        assert said.count("attempt 1: 2 of 2 votes, ") == len(task.tests)


@pytest.mark.parametrize(("arguments", "message"), [
    ("other.json --checkpoint arc", "arc: was not trained on task 5-0 and would answer noise: adapt it"),
    ("full.txt --checkpoint none", "none: no such folder"),
    ("full.txt --checkpoint sudoku --out a.gif", "--out a.gif: the name should end in .svg"),
    ("full.txt --checkpoint sudoku --out there.svg", "there.svg exists"),
])  # fmt: skip
@pytest.mark.usefixtures("work")
def test_what_cannot_be_solved_is_one_line(arguments: str, message: str) -> None:
    Path("there.svg").write_text("mine")
    assert assert_refused(f"solve {arguments}", message).startswith(message)
