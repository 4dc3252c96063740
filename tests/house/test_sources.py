"""What holds for every source file."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from sourcetree import ROOT, STAGES, modules

# A folder of someone's machine; what follows it is not looked at.
MACHINE_PATH = re.compile(r"(?<![\w.])(?:/(?:home|root|Users|tmp|opt|mnt|work)/|[A-Z]:\\\\?Users)")
TEXT = {".py", ".toml", ".md", ".txt", ".cfg", ".ipynb", ".json", ".sh", ".sbatch"}


def text_files() -> Iterator[Path]:
    """The files written by hand: code, tests and the papers at the top."""
    # In a worktree of git a file stands in place of its folder.
    yield from (path for path in ROOT.iterdir() if path.is_file() and path.name != ".git")
    for folder in ("arcpipe", *STAGES, "benchmarks", "launch", "tests"):
        yield from (path for path in (ROOT / folder).rglob("*") if path.suffix in TEXT)


def test_no_line_names_a_path_of_someones_machine() -> None:
    lines = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in text_files()
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert not lines
    for folder in ("home", "Users", "tmp", "root"):
        assert MACHINE_PATH.search(f'open("/{folder}/someone/file")')
    assert not MACHINE_PATH.search('open("/kaggle/working/submission.json")')


def test_sources_are_ascii() -> None:
    assert [path for path in text_files() if path.suffix == ".py" and not path.read_bytes().isascii()] == []


def test_files_stay_small() -> None:
    """A file is read in one sitting."""
    lines = {name: len(path.read_text("utf-8").splitlines()) for name, path in modules().items()}
    assert [name for name, count in lines.items() if count > 500] == []


def test_functions_stay_small() -> None:
    """A function is read at a glance."""
    long = [
        f"{name}.{node.name}"
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= 60
    ]
    assert long == []
