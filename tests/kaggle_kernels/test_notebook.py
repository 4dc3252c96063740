"""The notebook of a bundle writes a valid submission and names what is missing, whatever is mounted."""

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from arcpipe import kaggle_kernels
from arcpipe.kaggle_kernels.mounts import bundles
from arcpipe.submissions.submission import check_submission
from arcpipe.task import read_challenges
from commands import environment, run_here
from entries import RERUN, TASKS
from files import changing, json_of

cut = partial(os.truncate, length=100)
MODES = pytest.mark.parametrize("mode", [{}, RERUN], ids=["commit", "rerun"])


def dataset_of(root: Path) -> Path:
    return root / "input" / "datasets" / "someone" / "arcpipe-entry-data"


def challenges_of(root: Path) -> Path:
    return next(root.rglob("arc-agi_test_challenges.json"))


def run_notebook(bundle: Path, root: Path, mode: dict[str, str]) -> tuple[str, str]:
    """Run the code of the notebook in this process; return its output and its error, if any."""
    cells = json_of(bundle / "kernel" / "notebook.ipynb")["cells"]
    code = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
    env = environment({"ARCPIPE_KAGGLE_ROOT": str(root), "ARCPIPE_KAGGLE_MINUTES": "0.1", **mode})
    names: dict[str, Any] = {"__name__": "__main__"}
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as out:
        for name, value in env.items():
            patch.setenv(name, value)
        exec(code[0], names)
        try:
            for source in code[1:]:
                exec(source, names)
        except names["EntryError"] as error:
            return out.getvalue(), str(error)
    return out.getvalue(), ""


def assert_complete_fallback(root: Path) -> None:
    submission = root / "working" / "submission.json"
    assert check_submission(submission, read_challenges(challenges_of(root))).errors == []
    entries = [entry for task in json_of(submission).values() for entry in task]
    num_tests = sum(len(task["test"]) for task in TASKS.values())
    assert entries == [{"attempt_1": [[0]], "attempt_2": [[0]]}] * num_tests


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


@MODES
@pytest.mark.parametrize(("damage", "why", "shown"), [
    (shutil.rmtree, "attach the dataset someone/arcpipe-entry-data;",
     "arc-prize-2026-arc-agi-2 (arc-agi_evaluation_challenges"),
    (empty, "no bundle.json below", "datasets/someone/arcpipe-entry-data (empty)"),
    (lambda folder: (folder / "bundle.json").unlink(), "no bundle.json below", "entry-data (arcpipe-"),
    (lambda folder: cut(folder / "bundle.json"), "lacks a bundle.json that", "entry-data (arcpipe-"),
    (lambda folder: next(folder.glob("*.whl")).unlink(), "lacks arcpipe-", "entry-data (bundle.json"),
    (lambda folder: (folder / "model.safetensors").unlink(), "lacks model.safeten", "someone/arcpipe"),
    (lambda folder: cut(next(folder.glob("*.whl"))), "pip install: exit code 1: ERROR: ", ".whl"),
], ids=["none", "empty", "no bundle.json", "half a bundle.json", "no wheel", "no trunk", "half a wheel"],
)  # fmt: skip
def test_without_a_whole_dataset_the_fallback_stays(
    damage: Callable[[Path], None], why: str, shown: str, mode: dict[str, str], entry: Path, root: Path
) -> None:
    damage(dataset_of(root))
    printed, error = run_notebook(entry, root, mode)
    assert_complete_fallback(root)
    (line,) = [line for line in printed.splitlines() if line.startswith("ONLY THE FALLBACK IS SURE: ")]
    assert why in line
    assert shown in line
    # A failed rerun scores nothing; a successful commit run would hide what is missing.
    assert error == ("" if mode else line.removeprefix("ONLY THE FALLBACK IS SURE: "))


@pytest.mark.parametrize(("damage", "why", "shown"), [
    (lambda root: shutil.rmtree(root / "input"), "attach the competition arc-prize-2026", "nothing"),
    (lambda root: empty(root / "input"), "attach the competition arc-prize-2026", "nothing"),
    (lambda root: challenges_of(root).unlink(), "no arc-agi_test", "entry-data (arcpipe-"),
    (lambda root: cut(challenges_of(root)), "damaged, so that nothing can be answered", "test_challenges"),
    (lambda root: challenges_of(root).write_text("{}"), "holds no tasks", "test_challenges"),
    (lambda root: challenges_of(root).write_text("[1]"), "holds no tasks", "test_challenges"),
], ids=["no input", "nothing", "dataset alone", "half a test file", "no tasks", "no object"])  # fmt: skip
def test_without_test_tasks_the_error_says_what_is_mounted(
    damage: Callable[[Path], None], why: str, shown: str, entry: Path, root: Path
) -> None:
    damage(root)
    _, line = run_notebook(entry, root, RERUN)
    assert why in line
    assert shown in line
    assert not (root / "working" / "submission.json").exists()


def test_of_two_bundles_the_notebooks_own_is_run(entry: Path, root: Path) -> None:
    own = dataset_of(root)
    other, partial = (own.with_name(name) for name in ("a-version-before", "a-version-without-a-trunk"))
    for folder in (other, partial):
        shutil.copytree(own, folder)
    with changing(other / "bundle.json") as changed:
        changed["recipe"] = "another"
    (partial / "model.safetensors").unlink()
    # The error names the bundle that was run.
    (own / "recipe.toml").write_text("[kaggle]\ncolour = 1\n")
    printed, error = run_notebook(entry, root, RERUN)
    assert not error
    assert f"bundle: {own}\nnot used: {other}\nnot used: {partial}\n" in printed
    report = json_of(root / "working" / "arcpipe-report.json")
    assert f"{own / 'recipe.toml'}: kaggle.colour is unknown" in report["losses"][0]
    assert_complete_fallback(root)
    shutil.rmtree(own)
    assert bundles(root / "input") == [other, partial]


@MODES
def test_jupyter_ends_as_plain_python_does(mode: dict[str, str], entry: Path, root: Path) -> None:
    shutil.rmtree(dataset_of(root))
    script = Path(kaggle_kernels.__path__[0]) / "execute.py"
    notebook, executed = entry / "kernel" / "notebook.ipynb", root / "working" / "executed.ipynb"
    done = subprocess.run(
        [sys.executable, "-P", str(script), str(notebook), str(executed)], cwd=root, timeout=60,
        env=environment({"ARCPIPE_KAGGLE_ROOT": str(root), "JUPYTER_PLATFORM_DIRS": "1", **mode}),
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == (0 if mode else 1), done.stderr
    assert_complete_fallback(root)
    assert "ONLY THE FALLBACK IS SURE: no bundle.json below" in executed.read_text()


@MODES
@pytest.mark.parametrize(("damage", "why"), [
    (shutil.rmtree, "attach the bundle's dataset; mounted below"),
    (lambda folder: (folder / "model.safetensors").unlink(), "lacks model.safetensors: push the bundle"),
], ids=["none", "no trunk"])  # fmt: skip
def test_the_command_too(damage: Callable[[Path], None], why: str, mode: dict[str, str], root: Path) -> None:
    damage(dataset_of(root))
    done = run_here("kaggle", "run", "--root", root, env=mode)
    assert done.returncode == (0 if mode else 2), done.stderr
    assert_complete_fallback(root)
    assert why in done.stdout
    assert (why in done.stderr) == (not mode)
    report = json_of(root / "working" / "arcpipe-report.json")
    assert why in report["losses"][0]
    challenges_of(root).unlink()
    done = run_here("kaggle", "run", "--root", root, env=mode)
    assert done.returncode == 2
    assert "arcpipe: no arc-agi_test_challenges.json below" in done.stderr
