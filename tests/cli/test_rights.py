"""Who may read what arcpipe writes, and what a user is told who may not."""

import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from commands import succeed_here
from limited import reason_to_skip, without_rights

STEP, SHARD, TRAIN = "run/checkpoints/step-*", "predictions/shards/*.parquet", "train quickstart"
DATA, CHALLENGES = "--data MINI/data", "--challenges MINI/data/challenges.json"
INFER, VOTE = f"infer --checkpoint MINI/run {DATA}", f"vote MINI/predictions {CHALLENGES}"
# The file that may not be read, which is named, and the command; MINI is a finished quickstart.
CASES = {
    "manifest": (f"{STEP}/manifest.json", "checkpoint show MINI/run"),
    "facts": (f"{STEP}/model.json", "checkpoint show MINI/run"),
    "weights": (f"{STEP}/model.safetensors", f"{INFER} --out o"),
    "rows": (f"{STEP}/puzzles.safetensors", f"{INFER} --out o"),
    "puzzles": (f"{STEP}/puzzles.parquet", "checkpoint export MINI/run --out o"),
    "trainer": (f"{STEP}/trainer.safetensors", f"train MINI/run {DATA} --out MINI/run --resume"),
    "metrics": ("run/metrics.jsonl", f"train MINI/run {DATA} --out MINI/run --resume"),
    "verified": (f"{STEP}/trainer.safetensors", "checkpoint verify MINI/run"),
    "checkpoints": ("run/checkpoints", "checkpoint show MINI/run"),
    "run": ("run", "checkpoint show MINI/run"),
    "dataset": ("data/manifest.json", f"{TRAIN} {DATA} --out o"),
    "arrow": ("data/puzzles/data-00000-of-00001.arrow", f"{TRAIN} {DATA} --out o"),
    "examples": ("data/examples", f"{TRAIN} {DATA} --out o"),
    "recipe": ("run/manifest.json", f"train MINI/run {DATA} --out o"),
    "toml": ("my.toml", "recipe show MINI/my.toml"),
    "challenges": ("data/challenges.json", f"{VOTE} --out o"),
    "shard": (SHARD, f"{VOTE} --out o"),
    "shards": ("predictions/shards", f"{VOTE} --out o"),
    "resumed": (SHARD, f"{INFER} --votes 3 --out MINI/predictions --resume"),
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
    files = [next(folder.glob(file)) for file, _ in CASES.values()]
    commands = [words.replace("MINI", str(folder)).split() for _, words in CASES.values()]
    answers = without_rights(list(zip(files, commands, strict=True)), cwd)
    # Neither renamed as damaged nor half written.
    assert all(file.exists() for file in files)
    assert not (cwd / "o").exists()
    return {
        name: (file, of.code, of.err + of.out) for name, file, of in zip(CASES, files, answers, strict=True)
    }


@pytest.mark.parametrize("case", CASES)
def test_a_file_that_may_not_be_read_is_named(said: dict[str, tuple[Path, int, str]], case: str) -> None:
    file, code, text = said[case]
    assert code == 2, text
    last = text.splitlines()[-1]
    assert str(file) in last
    # The second is typer's, of what is given by name.
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
