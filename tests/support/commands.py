"""Run `arcpipe` as a user does: in a subprocess, or faster in this process."""

import io
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from sourcetree import ROOT


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a command: the package on the path, one CPU thread, no launcher."""
    launchers = ("ACCELERATE_", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_")
    own = {name: value for name, value in os.environ.items() if not name.startswith(launchers)}
    # `make test` tests the installed package, pytest alone the checkout.
    if not os.environ.get("ARCPIPE_TEST_INSTALLED"):
        own["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), own.get("PYTHONPATH"))))
    return own | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", **(extra or {})}


def arcpipe_command(*arguments: object) -> list[str]:
    """Return the command line of `arcpipe` with these arguments, for the running interpreter."""
    return [sys.executable, "-m", "arcpipe", *map(str, arguments)]


def run_arcpipe(
    *arguments: object, cwd: Path, env: Mapping[str, str] | None = None, timeout_s: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run `arcpipe` with these arguments in `cwd`; return exit code, stdout and stderr.

    Args:  env: variables added to `environment()`.
    """
    return subprocess.run(
        arcpipe_command(*arguments), cwd=cwd, env=environment(env), capture_output=True, text=True,
        timeout=timeout_s, check=False,
    )  # fmt: skip


def run_here(
    *arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None, code: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `arcpipe` with these arguments in this process, which saves seconds of imports.

    Args:  env: variables added to `environment()`. code: the exit code to assert.
    """
    # Not at the top: most users of this module do not need to import arcpipe.
    from arcpipe.commands.cli import main

    out, err = io.StringIO(), io.StringIO()
    argv = ["arcpipe", *map(str, arguments)]
    variables = environment(env)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", argv)
        patch.chdir(cwd or Path.cwd())
        for name in os.environ.keys() - variables.keys():
            patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main()
    assert code in (None, ended.value.code), err.getvalue()
    assert isinstance(ended.value.code, int)
    return subprocess.CompletedProcess(argv, ended.value.code, out.getvalue(), err.getvalue())


def succeed_here(*arguments: object, cwd: Path | None = None) -> str:
    """Run a command in this process, assert exit code 0, and return its stdout."""
    return run_here(*arguments, cwd=cwd, code=0).stdout


def fail_here(
    *arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None, logs: bool = False
) -> str:
    """Run a command in this process, assert exit code 2, and return its error, the last line with `logs`."""
    done = run_here(*arguments, cwd=cwd, env=env, code=2)
    before, _, last = done.stderr.rstrip("\n").rpartition("\n")
    assert last.startswith("arcpipe: "), done.stderr
    assert "Traceback" not in before
    assert (done.stdout, logs or not before) == ("", True), done
    return last.removeprefix("arcpipe: ")


def assert_refused(command: str, says: str, *, logs: bool = False, **folders: Path) -> str:
    """Run a command that must fail; return its line, which has all parts of `says`, between `|`.

    Neither the working folder nor those of `folders` may change; their names in the command stand for them.
    """
    words = command.split()
    for name, folder in folders.items():
        words = [word.replace(name, str(folder)) for word in words]
    places = (Path(), *folders.values())
    before = [dict(_contents(place)) for place in places]
    said = fail_here(*words, logs=logs)
    assert [part for part in says.split("|") if part not in said] == [], said
    assert [dict(_contents(place)) for place in places] == before
    return said


def _contents(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in folder.rglob("*"):
        yield path, path.read_bytes() if path.is_file() else b""
