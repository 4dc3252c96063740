"""`arcpipe solve` as a user meets it, with a model that repeats its input."""

from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from xml.dom import minidom

import pytest

from arcpipe.augment.puzzles import SudokuSettings, build_sudoku
from arcpipe.checkpoint import save_checkpoint
from arcpipe.puzzleset import read_puzzle_set
from arcpipe.runs import write_json
from arcpipe.task import challenges_json
from commands import run_here
from inference import parrot
from puzzles import build, made_up_tasks, write_source

FULL = "1234\n3412\n2143\n4321\n"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the checkpoints `sudoku`, of side 4, and `arc`, of made-up tasks."""
    build_sudoku(SudokuSettings(generate=2, test=1, side=4, num_aug=0), tmp_path / "data")
    build(tmp_path / "arc-data", write_source(tmp_path / "source", "set", made_up_tasks(2)), canvas=5)
    for name, data in {"sudoku": "data", "arc": "arc-data"}.items():
        save_checkpoint(replace(parrot(read_puzzle_set(tmp_path / data)), path=tmp_path / name))
    (tmp_path / "full.txt").write_text(FULL)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def solve(*arguments: object) -> CompletedProcess[str]:
    return run_here("solve", *arguments)


def refused(*arguments: object) -> str:
    done = solve(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.removeprefix("arcpipe: ").rstrip("\n")


def test_a_sudoku_is_drawn_beside_its_answer(work: Path) -> None:
    done = solve("full.txt", "--checkpoint", "sudoku")
    assert done.returncode == 0, done.stderr
    rows = [" ".join(row) for row in FULL.split()]
    assert done.stdout == (
        "full.txt: sudoku\n\ninput      answer\n"
        + "".join(f"{row}    {row}\n" for row in rows)
        + "\nvalid: each row, column and box holds each digit once, and the givens stand\n"
        "halt probability 0.982 after 4 steps\n"
    )


def test_the_steps_are_printed_and_drawn(work: Path) -> None:
    done = solve("full.txt", "--checkpoint", "sudoku", "--trace", "--max-steps", 6, "--out", "steps.svg")
    assert done.returncode == 0, done.stderr
    for step in range(1, 7):
        assert f"\nstep {step}: halt probability " in done.stdout
    assert done.stdout.endswith(" after 6 steps\nsteps.svg: 6 steps\n")
    assert minidom.parse("steps.svg").documentElement.tagName == "svg"
    assert refused("full.txt", "--checkpoint", "sudoku", "--out", "steps.svg").startswith("steps.svg exists")


def test_an_arc_task_that_the_checkpoint_knows(work: Path) -> None:
    for task in made_up_tasks(2):
        write_json(work / "task.json", challenges_json([task]))
        done = solve("task.json", "--checkpoint", "arc", "--max-votes", 2)
        assert done.returncode == 0, done.stderr
        for index in range(len(task.tests)):
            assert f"{task.id}, test {index}\n\ninput" in done.stdout
        assert done.stdout.count("attempt 1: 2 of 2 votes, ") == len(task.tests)


def test_what_cannot_be_solved_is_one_line(work: Path) -> None:
    (task,) = made_up_tasks(1, seed=5)
    write_json(work / "other.json", challenges_json([task]))
    (work / "nine.txt").write_text("." * 81)
    assert refused("other.json", "--checkpoint", "arc").startswith(
        f"arc: was not trained on task {task.id} and would answer noise: adapt it to the task with "
        "`arcpipe adapt"
    )
    assert refused("nine.txt", "--checkpoint", "sudoku") == (
        "nine.txt: a sudoku of 9 x 9, but the checkpoint solves those of 4 x 4: choose another checkpoint"
    )
    assert refused("none.txt", "--checkpoint", "sudoku") == "none.txt: no such file"
    assert refused("full.txt", "--checkpoint", "arc").startswith("full.txt: not a JSON file")
    assert refused("full.txt", "--checkpoint", "none") == "none: no such folder"
    assert refused("full.txt", "--checkpoint", "sudoku", "--out", "a.gif") == (
        "--out a.gif: the name should end in .svg, the animation is drawn as one"
    )
