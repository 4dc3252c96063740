"""`arcpipe kaggle rehearse` runs a bundle's notebook as Kaggle does; `simulate` scores an entry locally."""

import json
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest

from arcpipe.kaggle_kernels.clock import KaggleSettings
from arcpipe.kaggle_kernels.rehearse import estimate, without_network
from arcpipe.recipe import load_recipe
from commands import run_here
from entries import SMALL, hidden_task, hidden_tasks, make_bundle, write_challenges
from processes import running

# Runs end by themselves long before this limit, which allows for a busy machine.
MINUTES = 10


@pytest.fixture(scope="module")
def challenges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """240 unseen tasks, some with several tests, and their solutions."""
    folder = tmp_path_factory.mktemp("tasks")
    tasks = hidden_tasks(240)
    solutions = {
        name: [[[9 - cell for cell in row] for row in test["input"]] for test in task["test"]]
        for name, task in tasks.items()
    }
    (folder / "hidden_solutions.json").write_text(json.dumps(solutions))
    return write_challenges(folder / "hidden_challenges.json", tasks)


@pytest.fixture(autouse=True)
def _handler() -> Iterator[None]:
    """Restore the signal handler after a rehearsal in this process."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def rehearse(bundle: Path, challenges: Path, *flags: object) -> "subprocess.CompletedProcess[str]":
    command = ("kaggle", "rehearse", bundle, "--challenges", challenges, "--minutes", MINUTES)
    return run_here(*command, *flags, cwd=challenges.parent)


def test_the_notebook_runs_offline_on_unseen_tasks(entry: Path, challenges: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = rehearse(entry, challenges, "--layout", "flat", "--mode", "commit", "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout)
    assert (report["layout"], report["mode"], report["problems"]) == ("flat", "commit", [])
    assert report["network"] == ("on" if without_network()[1] else "cut off")
    assert report["outputs"] == report["answered"] == 13
    assert report["peak_memory_bytes"] > 1e8
    assert report["at_240_tasks"]["infer_hours_here"] > 0
    assert list(report["scores"]) == ["pass@2 over tasks", "pass@2", "pass@1"]
    # The run on Kaggle is compared with this share.
    share = json.loads((entry / "kaggle-record.json").read_bytes())["rehearsed"]
    assert share == report["seconds"] / report["clock"] < 1
    root = out / "flat-commit"
    # The bundle's wheel ran, not the arcpipe installed here.
    log = (root / "working" / "arcpipe.log").read_text()
    assert f"from {root / 'temp' / 'site'}" in log
    executed = json.loads((root / "working" / "executed.ipynb").read_bytes())
    shown = "".join(
        "".join(output.get("text", "")) for cell in executed["cells"] for output in cell.get("outputs", [])
    )
    assert "commit run: 13 of 13 test outputs answered" in shown
    assert set(json.loads((root / "working" / "submission.json").read_bytes())) == set(hidden_tasks(240))


def test_what_would_fail_on_kaggle_fails_here(checkpoint: Path, tmp_path: Path) -> None:
    """With an invalid recipe only the fallback is left, and the rehearsal fails."""
    bundle = make_bundle(checkpoint, tmp_path / "bundle", 'adapt.trackers=["none"]')
    tasks = write_challenges(tmp_path / "few_challenges.json", hidden_tasks(3))
    done = rehearse(bundle, tasks, "--layout", "nested", "--mode", "rerun")
    assert done.returncode == 2
    assert "PROBLEM: adapt: exit code 2: arcpipe: adapt.trackers: 'none' is none of " in done.stdout
    assert "adaptation left no checkpoint" in done.stdout
    last = done.stderr.splitlines()[-1]
    assert last.startswith("arcpipe: the rehearsal failed: nested, rerun: ")
    assert "--out DIR keeps its logs" in last


def processes_of(root: Path) -> list[psutil.Process]:
    """The processes of a notebook, recognized by its /kaggle in their environment."""
    return [
        one
        for one in psutil.process_iter(["environ", "cmdline"])
        if (one.info["environ"] or {}).get("ARCPIPE_KAGGLE_ROOT") == str(root)
    ]


def test_nothing_of_the_notebook_outlives_an_interrupt(entry: Path, tmp_path: Path) -> None:
    tasks = write_challenges(tmp_path / "few_challenges.json", hidden_tasks(3))
    flags = ("--minutes", MINUTES, "--layout", "nested", "--mode", "rerun", "--out", tmp_path / "out")
    command = ("kaggle", "rehearse", entry, "--challenges", tasks, *flags)
    root = tmp_path / "out" / "nested-rerun"
    with running(command, tmp_path) as process:
        process.wait_until(lambda: any("adapt" in one.info["cmdline"] for one in processes_of(root)), 120)
        # SIGTERM acts like Ctrl-C.
        process.send(signal.SIGTERM)
        done = process.finish(code=2)
    assert done.stderr.splitlines()[-1] == "arcpipe: interrupted"
    _, left = psutil.wait_procs(processes_of(root), timeout=10)
    assert not left


def test_240_tasks_are_estimated_from_what_was_answered() -> None:
    stages = [{"name": "adapt", "seconds": 60.0}, {"name": "infer", "seconds": 36.0}]
    report: dict[str, Any] = {
        "stages": stages, "grids": 100, "grids_wanted": 200, "tried_tasks": 24,
        "trained": {"samples_per_second": 10.0},
    }  # fmt: skip
    settings = asdict(load_recipe("kaggle-l4x4").settings("kaggle", KaggleSettings))
    hours = estimate(report, settings, peak_here=4.84e12)
    assert hours["infer_hours_here"] == pytest.approx(0.2)
    assert hours["infer_hours_there"] == pytest.approx(0.002)
    assert hours["samples_per_second_there"] == pytest.approx(1000)
    assert estimate({}, settings, 1.0) == {}
    # A bundle of an older version does not name its machine.
    older = {"machine_shape": "NvidiaL4", "infer_minutes": 75}
    assert estimate(report, older, peak_here=4.84e12)["infer_hours_there"] == pytest.approx(0.2)
    more = estimate(report, settings | {"hidden_tasks": 480}, peak_here=4.84e12)
    assert more["infer_hours_here"] == pytest.approx(0.4)


@pytest.mark.usefixtures("quick_stages")
def test_an_entry_is_simulated_and_scored(checkpoint: Path, tmp_path: Path) -> None:
    tasks = {f"task{number}": hidden_task(number, num_tests) for number, num_tests in enumerate((1, 3, 2))}
    for task in tasks.values():
        for pair in task["test"]:
            pair["output"] = [[0]]
        task["test"][0]["output"] = task["test"][0]["input"]
    recipe = tmp_path / "mine.toml"
    tables: dict[str, list[str]] = {}
    for setting in (*SMALL, "adapt.steps=20"):
        table, _, rest = setting.partition(".")
        tables.setdefault(table, []).append(rest)
    text = "".join(f"[{table}]\n" + "\n".join(lines) + "\n" for table, lines in tables.items())
    recipe.write_text('extends = "kaggle-cpu-rehearsal"\n' + text)
    source = write_challenges(tmp_path / "solved.json", tasks)
    flags = (
        "--set", source, "--checkpoint", checkpoint, "--minutes", MINUTES, "--recipe", recipe, "--tasks", 2,
        "--out", "simulated",
    )  # fmt: skip
    done = run_here("kaggle", "simulate", *flags, cwd=tmp_path, code=0)
    report = json.loads((tmp_path / "simulated/arcpipe-report.json").read_bytes())
    assert report["outputs"] == report["answered"] == report["scored"] == 4
    assert report["losses"] == []
    # The model repeats its input, so it solves the first test of each task only.
    assert report["scores"] == pytest.approx({"pass@2 over tasks": 2 / 3, "pass@2": 1 / 2, "pass@1": 1 / 2})
    words = "pass@2 over tasks (Kaggle) 0.6667, pass@2 over test outputs 0.5000, pass@1 over test outputs"
    assert done.stdout == f"simulated: all 4 test inputs answered; {words} 0.5000\n"
    shown = run_here("show", "simulated", cwd=tmp_path, code=0).stdout
    assert "\nscore        pass@1 0.667, pass@2 0.667 of tasks (Kaggle); 1 of 2 solved wholly\n" in shown
    assert "exists already" in run_here("kaggle", "simulate", *flags, cwd=tmp_path).stderr
    short = run_here("kaggle", "simulate", *flags, "--minutes", 0.5, "--out", "short", cwd=tmp_path)
    assert short.returncode == 2
    assert short.stderr.endswith("which takes about 20 s to start: give it 2 or more\n")
    assert not (tmp_path / "short").exists()
