"""Running `arcpipe` as a user does: in a process of its own, or in this one where there are many runs."""

import io
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from sourcetree import ROOT


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables a command runs with: the package importable, on one thread of the CPU, no launcher's."""
    launchers = ("ACCELERATE_", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_")
    own = {name: value for name, value in os.environ.items() if not name.startswith(launchers)}
    # `make test` tests what is installed; a bare pytest the checkout.
    if not os.environ.get("ARCPIPE_TEST_INSTALLED"):
        own["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), own.get("PYTHONPATH"))))
    return own | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", **(extra or {})}


def arcpipe_command(*arguments: object) -> list[str]:
    """The command line of `arcpipe` with these arguments, for the running interpreter."""
    return [sys.executable, "-m", "arcpipe", *map(str, arguments)]


def run_arcpipe(
    *arguments: object, cwd: Path, env: Mapping[str, str] | None = None, timeout_s: float = 120
) -> subprocess.CompletedProcess[str]:
    """What `arcpipe` did with these arguments in `cwd`: exit code, stdout, stderr.

    Args:  env: variables on top of `environment()`.
    """
    return subprocess.run(
        arcpipe_command(*arguments), cwd=cwd, env=environment(env), capture_output=True, text=True,
        timeout=timeout_s, check=False,
    )  # fmt: skip


def succeed(*arguments: object, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """The stdout of an `arcpipe` command that must exit with 0; a failure shows its stderr."""
    done = run_arcpipe(*arguments, cwd=cwd, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fail(*arguments: object, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """The one line on stderr of an `arcpipe` command that must exit with 2; log lines before it allowed."""
    done = run_arcpipe(*arguments, cwd=cwd, env=env)
    assert done.returncode == 2, f"exit code {done.returncode}: {done.stderr}"
    last = done.stderr.rstrip("\n").rpartition("\n")[2]
    assert last.startswith("arcpipe: "), done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return last.removeprefix("arcpipe: ")


def run_here(
    *arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """What `arcpipe` does with these arguments in this process, which spares the seconds of its imports."""
    # Not at the top: most users of this module need nothing of arcpipe.
    from arcpipe.commands.cli import main

    out, err = io.StringIO(), io.StringIO()
    argv = ["arcpipe", *map(str, arguments)]
    wanted = environment(env)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", argv)
        patch.chdir(cwd or Path.cwd())
        for name in os.environ.keys() - wanted.keys():
            patch.delenv(name)
        for name, value in wanted.items():
            patch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main()
    code = ended.value.code
    assert isinstance(code, int)
    return subprocess.CompletedProcess(argv, code, out.getvalue(), err.getvalue())


def succeed_here(*arguments: object, cwd: Path | None = None) -> str:
    """The stdout of an `arcpipe` command in this process that must exit with 0."""
    done = run_here(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fail_here(*arguments: object, cwd: Path | None = None) -> str:
    """The one line with which an `arcpipe` command in this process refuses, with exit code 2."""
    done = run_here(*arguments, cwd=cwd)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith("arcpipe: ")
    assert done.stderr.count("\n") == 1
    return done.stderr.removeprefix("arcpipe: ").rstrip("\n")
