"""launch/measure.py: the whole path on tiny models, in two calls."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from commands import environment
from sourcetree import ROOT
from sudokus import EASY, HARD

STEPS = [
    "bench", "sudoku data", "sudoku training", "sudoku-answers", "sudoku-answers-more-steps",
    "sudoku-answers-rollouts", "arc data", "arc-agi-1 training", "arc-agi-1-answers",
    "arc-agi-1-buckets training", "arc-agi-1-buckets-answers",
]  # fmt: skip


def measure(folder: Path, *flags: object) -> subprocess.CompletedProcess[str]:
    words = ("--out", "measured", "--miniature", "--total-minutes", 1, *flags)
    return subprocess.run(
        [sys.executable, ROOT / "launch" / "measure.py", *map(str, words)], cwd=folder, text=True,
        env=environment({"PATH": os.environ["PATH"]}), capture_output=True, check=False,
    )  # fmt: skip


@pytest.fixture
def sudokus(tmp_path: Path) -> tuple[object, ...]:
    """The options that name a folder of Sudokus and a recipe."""
    (tmp_path / "sudokus").mkdir()
    rng = np.random.default_rng(0)
    for name, puzzle in (("train", EASY), ("test", HARD)):
        lines = ["question,answer"]
        for _ in range(20):
            other_digits = str.maketrans("123456789", "".join(map(str, rng.permutation(9) + 1)))
            lines.append(",".join(puzzle).translate(other_digits))
        (tmp_path / "sudokus" / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return "--sudoku", "sudokus", "--sudoku-recipe", "sudoku-extreme"


def test_a_call_ends_in_time_and_the_next_goes_on(tmp_path: Path, sudokus: tuple[object, ...]) -> None:
    file = tmp_path / "measured" / "measured.json"
    first = measure(tmp_path, *sudokus, "--only", "sudoku", "--minutes", 0.1)
    assert first.returncode == 0, first.stdout + first.stderr
    known = json.loads(file.read_bytes())
    assert not known["complete"]
    assert "go on with the same command: " in first.stdout

    second = measure(tmp_path, *sudokus, "--minutes", 5)
    log = (tmp_path / "measured" / "log.txt").read_text()
    assert second.returncode == 0, second.stdout + second.stderr + log
    found = json.loads(file.read_bytes())
    assert found["complete"]
    assert sorted(found["steps"]) == sorted(STEPS)
    for name, step in found["steps"].items():
        assert step["done"], name
        assert all(command.startswith("arcpipe ") for command in step["commands"])
        assert step["seconds"] > 0
        before = known["steps"].get(name, {"done": False})
        assert step == before or not before["done"], "what is done is not done again"
    results = {name: step["result"] for name, step in found["steps"].items()}
    assert results["bench"]["parts"][0]["rows"][0]["form"] == "plain float32"
    assert results["arc-agi-1-buckets training"]["steps"] == 6
    assert results["arc-agi-1 training"]["samples_per_second"] > 0
    assert results["sudoku training"]["evaluations"][-1]["eval/exact_accuracy"] == 0
    assert "exact_accuracy" in results["sudoku-answers-rollouts"]
    assert "pass@2" in results["arc-agi-1-buckets-answers"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_call_ends_as_one_whose_time_is_up(tmp_path: Path, number: signal.Signals) -> None:
    words = ["--out", "measured", "--miniature", "--only", "arc"]
    with subprocess.Popen(
        [sys.executable, ROOT / "launch" / "measure.py", *words], cwd=tmp_path, text=True,
        env=environment({"PATH": os.environ["PATH"]}), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        while not (tmp_path / "measured" / "log.txt").exists():
            time.sleep(0.01)
        # Its command has begun, and is not done in so short a time.
        time.sleep(0.2)
        process.send_signal(number)
        printed, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "")
    assert "arc data: not done yet" in printed
    assert "go on with the same command: arc data, arc-agi-1 training" in printed
    step = json.loads((tmp_path / "measured" / "measured.json").read_bytes())["steps"]["arc data"]
    assert (step["done"], step["failure"], len(step["commands"])) == (False, "", 1)
    assert step["seconds"] > 0


def test_a_part_that_fails_is_named_and_what_needs_it_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    done = measure(tmp_path, "--sudoku", "none", "--only", "sudoku", "--minutes", 5)
    assert done.returncode == 2
    steps = json.loads((tmp_path / "measured" / "measured.json").read_bytes())["steps"]
    assert steps["sudoku data"]["failure"].startswith("exit code 2: ")
    assert steps["sudoku training"]["failure"] == "sudoku data is not done"
    again = measure(tmp_path, "--only", "arc", "--total-minutes", 2)
    assert again.returncode == 1
    assert "repeat that, or choose another --out" in again.stderr


@pytest.mark.parametrize(
    ("written", "failure"), [('{"parts": []}', ""), ('{"parts": [', "measured/bench: cannot be read (")]
)
def test_a_benchmark_that_a_killed_call_left_is_read_and_not_made_again(
    tmp_path: Path, written: str, failure: str
) -> None:
    bench = tmp_path / "measured" / "bench"
    bench.mkdir(parents=True)
    (bench / "manifest.json").write_text("{}")
    (bench / "bench.json").write_text(written)
    done = measure(tmp_path, "--only", "bench", "--minutes", 5)
    step = json.loads((tmp_path / "measured" / "measured.json").read_bytes())["steps"]["bench"]
    assert (done.returncode, done.stderr) == (2 if failure else 0, "")
    assert (step["done"], step["commands"]) == (True, [])
    assert step["failure"].startswith(failure)
    assert step.get("result", {"parts": []}) == {"parts": []}


def test_help_and_wrong_options() -> None:
    assert "--total-minutes" in measure(ROOT, "--help").stdout
    done = measure(ROOT, "--only", "sudoku")
    assert done.returncode == 2
    assert "--sudoku FOLDER is missing" in done.stderr
