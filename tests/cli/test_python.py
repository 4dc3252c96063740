"""`import arcpipe` in Python: its names, and the example notebook, which is the code of docs/python.md."""

import io
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import nbformat
import pytest

import arcpipe
from commands import environment
from sourcetree import ROOT

NOTEBOOK = ROOT / "examples" / "python.ipynb"


def test_every_name_is_documented_and_there() -> None:
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(\w+)", text, re.MULTILINE))
    assert documented == set(arcpipe.__all__)
    assert all(callable(getattr(arcpipe, name)) for name in arcpipe.__all__)


def test_names_are_found_when_they_are_used_and_modules_stay_what_they_are(tmp_path: Path) -> None:
    """In a process that has imported nothing else."""
    code = (
        "import arcpipe\n"
        "from arcpipe import train\n"
        "import arcpipe.train.trainer\n"
        "assert callable(arcpipe.train) and callable(train) and arcpipe.train.trainer.train\n"
        "assert callable(arcpipe.read_tasks)\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "vote" in dir(arcpipe)
    with pytest.raises(AttributeError, match="nothing"):
        arcpipe.nothing  # noqa: B018


def test_the_example_is_the_documentation_and_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    documented = [block.strip() for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert cells == documented
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    printed = io.StringIO()
    with redirect_stdout(printed):
        for cell in cells:
            exec(cell.replace("train.steps=300", "train.steps=2"), names)
    assert "test input" in printed.getvalue()
