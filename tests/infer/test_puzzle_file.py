"""Puzzles as people write them down, and what is said of those that are none."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcpipe.errors import DataError
from arcpipe.infer.puzzle_file import read_puzzle
from arcpipe.runs import write_json
from arcpipe.task import Task
from commands import environment
from strategies import plain_task
from sudokus import EASY, board

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


def read(folder: Path, text: str, family: str, canvas: int, name: str = "puzzle.txt") -> Task:
    (folder / name).write_bytes(text.encode())
    return read_puzzle(folder / name, family, canvas)


@pytest.mark.parametrize("form", FORMS)
def test_a_sudoku_in_every_form(tmp_path: Path, form: str) -> None:
    puzzle = read(tmp_path, FORMS[form], "sudoku", 9)
    ((question, output),) = ((pair.input, pair.output) for pair in puzzle.tests)
    assert (puzzle.id, output) == ("sudoku", None)
    np.testing.assert_array_equal(question, board(QUESTION))


def test_a_sudoku_in_place_of_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.testing.assert_array_equal(read_puzzle(Path(QUESTION), "sudoku", 9).tests[0].input, board(QUESTION))
    with pytest.raises(DataError, match="a sudoku of 9 x 9, but the checkpoint solves those of 4 x 4"):
        read_puzzle(Path(QUESTION), "sudoku", 4)
    with pytest.raises(DataError, match="no such file"):
        read_puzzle(Path(QUESTION[1:]), "sudoku", 9)
    # A file of that name goes before what its name spells.
    monkeypatch.chdir(tmp_path)
    Path("." * 16).write_text("1" + "." * 15)
    assert read_puzzle(Path("." * 16), "sudoku", 4).tests[0].input[0, 0] == 1


def test_a_sudoku_from_stdin(tmp_path: Path) -> None:
    code = "from pathlib import Path\nfrom arcpipe.infer.puzzle_file import read_puzzle\n"
    code += "print(read_puzzle(Path('-'), 'sudoku', 9).tests[0].input.ravel().tolist())"
    done = subprocess.run(
        [sys.executable, "-c", code], input="\n".join(LINES), env=environment(), cwd=tmp_path, text=True,
        capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == str(board(QUESTION).ravel().tolist())


def test_a_maze_with_and_without_the_spaces_at_the_ends_of_lines(tmp_path: Path) -> None:
    values = [["# SGo".index(cell) for cell in line.ljust(5)] for line in MAZE]
    in_a_line = "".join(line.ljust(5) for line in MAZE)
    # A path that is marked already is no part of the question.
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
    "uneven lines": ("\n".join([*LINES[:7], LINES[7] + "1", LINES[8][1:]]), "sudoku", 9, "9 lines and 81"),
    "several": (f"{QUESTION}\n{QUESTION}\n", "sudoku", 9, "2 Sudokus, solve takes a file of one"),
    "several rows": (f"question\n{QUESTION},a\n{QUESTION},b\n", "sudoku", 9, "2 rows of puzzles"),
    "no digit": (QUESTION.replace("8", "x", 1), "sudoku", 9, "'x' in row 3, column 3; a Sudoku of this size"),
    "digit too large": ("5".rjust(16, "."), "sudoku", 4, "'5' in row 4, column 4"),
    "twice": ("1.1" + "." * 13, "sudoku", 4, "a digit stands twice in a row, column or box"),
    "other size": ("." * 16, "sudoku", 9, "a sudoku of 4 x 4, but the checkpoint solves those of 9 x 9"),
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
