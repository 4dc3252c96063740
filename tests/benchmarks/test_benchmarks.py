"""The scripts of benchmarks/: what they measure, print and write; not how fast this machine is."""

import json
import runpy
import signal
import sys
import time
from argparse import Namespace
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from arcpipe.puzzleset import read_puzzle_set
from commands import succeed_here
from inference import save
from processes import Running, running
from puzzles import build, made_up_tasks, write_source
from sourcetree import ROOT

ROWS = {
    "train_step": {"plain", "arcpipe", "together", "train.accumulation=2", "model.buckets=[4]"},
    "data": {"build, s", "memory, MB", "disk, MB", "batches a second, 0 workers"},
    "vote": {"plain loop", "arcpipe vote"},
}


def start(script: str, *flags: object, cwd: Path) -> AbstractContextManager[Running]:
    """A script in a process of its own."""
    return running(flags, cwd, script=ROOT / "benchmarks" / f"{script}.py")


def run(script: str, *flags: object, cwd: Path) -> str:
    """What a script prints, which must exit with 0."""
    with start(script, *flags, cwd=cwd) as process:
        done = process.finish(300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def written_by(script: str, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "runs" / "benchmarks" / f"{script}.json").read_bytes())
    return found


@pytest.mark.parametrize("script", ROWS)
def test_a_quick_run_prints_and_writes_ratios_to_a_baseline(script: str, tmp_path: Path) -> None:
    printed = run(script, "--quick", cwd=tmp_path)
    written = written_by(script, tmp_path)
    assert written.keys() >= {"name", "settings", "device", "threads", "versions", "complete", "rows"}
    assert written["complete"]
    rows = {row["name"]: row for row in written["rows"]}
    assert rows.keys() >= ROWS[script]
    assert all(row["ratio"] > 0 for row in rows.values())
    assert all(name in printed for name in rows)
    if script != "data":
        assert written["rows"][0]["ratio"] == 1


@pytest.mark.parametrize(
    "script", sorted({path.stem for path in (ROOT / "benchmarks").glob("*.py")} - {"common"})
)
def test_each_says_what_it_takes(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, which has everything imported."""
    path = ROOT / "benchmarks" / f"{script}.py"
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    monkeypatch.syspath_prepend(str(path.parent))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {script}.py [-h] ")


def test_a_ratio_that_differs_from_turn_to_turn_is_called_unclear(tmp_path: Path) -> None:
    common = runpy.run_path(str(ROOT / "benchmarks" / "common.py"))
    report = common["Report"]("made up", Namespace(out=tmp_path / "out.json"))
    for pause in (0.01, 0.1):
        report.time("plain", lambda: time.sleep(0.01), {"calls/s": 1}, 0.0)
        report.time("other", lambda pause=pause: time.sleep(pause), {"calls/s": 1}, 0.0)
    plain, other = report.rows["plain"], report.rows["other"]
    assert plain["low"] == plain["ratio"] == plain["high"] == 1
    assert other["low"] < other["ratio"] < other["high"]
    assert other["unclear"].startswith("unclear, ")
    assert "unclear" not in plain


def test_an_adapted_checkpoint_is_measured_in_its_own_precision(tmp_path: Path) -> None:
    source = write_source(tmp_path, "few", made_up_tasks(4))
    data = build(tmp_path / "data", source)
    recipe = {"adapt": {"precision": "float16", "cpu_threads": 1}}
    checkpoint = save(tmp_path / "checkpoint", read_puzzle_set(data), recipe=recipe)
    run("inference", "--quick", "--checkpoint", checkpoint, "--data", data, cwd=tmp_path)
    rows = {row["name"]: row for row in written_by("inference", tmp_path)["rows"]}
    assert rows.keys() >= {"plain loop", "engine", "infer.halt=learned", "together"}
    assert rows["plain loop"]["dtype"] == rows["engine"]["dtype"] == "float16"
    assert rows["engine"]["agreement"] == 1
    assert rows["infer.precision=float32"]["dtype"] == "float32"
    assert "pass@2" in rows["engine"]


def test_what_was_measured_before_an_interruption_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "runs" / "benchmarks" / "vote.json"
    with start("vote", "--quick", cwd=tmp_path) as process:
        process.wait_until(file.exists)
        process.send(signal.SIGTERM)
        done = process.finish()
    assert done.returncode == 2
    assert done.stderr.endswith("vote.py: interrupted\n")
    assert "plain" in done.stdout
    written = written_by("vote", tmp_path)
    assert not written["complete"]
    assert written["rows"][0]["ratio"] == 1


def test_the_measurement_on_a_gpu_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    flags = ("--out", "measured", "--miniature", "--only", "sudoku", "--total-minutes", 20)
    file = tmp_path / "measured" / "measured.json"

    def known() -> dict[str, Any]:
        steps: dict[str, Any] = json.loads(file.read_bytes())["steps"] if file.exists() else {}
        return steps

    found = []
    for last in ("sudoku-data", "sudoku-fast-training"):
        with start("gpu", *flags, cwd=tmp_path) as process:
            process.wait_until(lambda last=last: known().get(last, {}).get("done", False))  # type: ignore[misc]
            process.send(signal.SIGTERM)
            done = process.finish()
        assert (done.returncode, done.stderr) == (0, "")
        assert "sudoku-answers-rollouts" in done.stdout
        assert "not done: the same command goes on" in done.stdout
        found.append(known()["sudoku-data"])
    assert found[0] == found[1], "what is done is not done again"
    training = known()["sudoku-fast-training"]["result"]
    assert training["samples_per_second"] > 0
    assert training["evaluations"][-1]["eval/exact_accuracy"] == 0


def test_every_command_of_the_measurement_on_a_gpu_is_spelled_right(tmp_path: Path) -> None:
    gpu = runpy.run_path(str(ROOT / "benchmarks" / "gpu.py"))
    asked = Namespace(out=tmp_path, total_minutes=20.0, quick=False, sudoku=None)
    steps = [step for part in gpu["PARTS"].values() for chain in part(asked) for step in chain]
    commands = [step.words[3:] for step in steps if "arcpipe" in step.words]
    assert len(commands) == len({step.name for step in steps}) - 5
    for words in commands:
        assert succeed_here(*words, "--help")


def test_a_step_that_fails_is_named_and_ends_what_needs_it(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    flags = ("--out", "measured", "--only", "sudoku", "--sudoku", "none")
    with start("gpu", *flags, cwd=tmp_path) as process:
        done = process.finish()
    assert done.returncode == 2
    lines = done.stdout.splitlines()
    assert "exit code 2: see measured/log.txt" in lines[0]
    assert all("not done" in line for line in lines[1:-1])


def test_recipes_are_compared_by_what_they_learn(tmp_path: Path) -> None:
    rows = ROOT / "benchmarks" / "recipes" / "rows.toml"
    small = ("--override", "infer.votes=2", "--override", "data.num_aug=1", "--out", "learning")
    flags = ("--set", "quickstart", "--recipe", rows, "--steps", 2, "--inference-steps", 3, *small)
    printed = run("learning", *flags, cwd=tmp_path)
    assert "spread" in printed
    (figures,) = json.loads((tmp_path / "learning" / "learning.json").read_bytes())["runs"]
    assert (figures["seed"], figures["steps"]) == (0, 2)
    assert figures["train_s"] > 0
    assert {"pass@1", "pass@2", "oracle", "pass@2 of outputs", "exact", "pass@2 at 3"} <= figures.keys()
    # Of twelve tokens, after two steps of training.
    assert -5 < figures["log_likelihood"] < 0
    (file,) = tmp_path.rglob("figures.json")
    before = file.stat().st_mtime_ns
    assert run("learning", *flags, cwd=tmp_path) == printed
    assert file.stat().st_mtime_ns == before, "not done again"
