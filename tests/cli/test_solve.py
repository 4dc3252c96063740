"""`arcpipe solve` as a user meets it, with a model that repeats its input."""

from dataclasses import replace
from pathlib import Path
from xml.dom import minidom

import pytest

from arcpipe.augment.puzzles import SudokuSettings, build_sudoku
from arcpipe.checkpoint import save_checkpoint
from arcpipe.puzzleset import read_puzzle_set
from arcpipe.runs import write_json
from arcpipe.task import challenges_json
from commands import fail_here, succeed_here
from inference import parrot
from puzzles import build, made_up_tasks, write_source

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
    (folder / "nine.txt").write_text("." * 81)
    write_json(folder / "other.json", challenges_json(made_up_tasks(1, seed=5)))
    return folder


@pytest.fixture
def work(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    return made


def solve(*arguments: object) -> str:
    return succeed_here("solve", *arguments)


@pytest.mark.usefixtures("work")
def test_a_sudoku_is_drawn_beside_its_answer_and_step_by_step() -> None:
    rows = [" ".join(row) for row in FULL.split()]
    head = "full.txt: sudoku\n\n"
    drawing = "input      answer\n" + "".join(f"{row}    {row}\n" for row in rows)
    valid = "\nvalid: each row, column and box holds each digit once, and the givens stand\n"
    halt = "halt probability 0.982"
    assert solve("full.txt", "--checkpoint", "sudoku") == f"{head}{drawing}{valid}{halt} after 4 steps\n"
    traced = solve("full.txt", "--checkpoint", "sudoku", "--trace", "--max-steps", 6, "--out", "steps.svg")
    first, *later = [f"step {step}: {halt}" for step in range(1, 7)]
    lines = "\n".join(rows)
    blocks = [f"{first}\n{lines}", *(f"{step}, 0 cells changed\n{lines}" for step in later)]
    steps = "\n\n".join(blocks)
    end = "after 6 steps\nsteps.svg: 6 steps\n"
    assert traced == f"{head}{steps}\n\n{drawing}{valid}{halt} {end}"
    assert minidom.parse("steps.svg").documentElement.tagName == "svg"


def test_an_arc_task_that_the_checkpoint_knows(work: Path) -> None:
    for task in made_up_tasks(2):
        write_json(work / "task.json", challenges_json([task]))
        said = solve("task.json", "--checkpoint", "arc", "--max-votes", 2)
        for index in range(len(task.tests)):
            assert f"{task.id}, test {index}\n\ninput" in said
        assert said.count("attempt 1: 2 of 2 votes, ") == len(task.tests)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("other.json --checkpoint arc", "arc: was not trained on task 5-0 and would answer noise: adapt it"),
        ("nine.txt --checkpoint sudoku", "nine.txt: a sudoku of 9 x 9, but the checkpoint solves those of 4"),
        ("full.txt --checkpoint none", "none: no such folder"),
        ("full.txt --checkpoint sudoku --out a.gif", "--out a.gif: the name should end in .svg"),
        ("full.txt --checkpoint sudoku --out there.svg", "there.svg exists"),
    ],
)
@pytest.mark.usefixtures("work")
def test_what_cannot_be_solved_is_one_line(arguments: str, message: str) -> None:
    Path("there.svg").write_text("mine")
    assert fail_here("solve", *arguments.split()).startswith(message)
