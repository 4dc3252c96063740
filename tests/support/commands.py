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


def run_here(
    *arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None, code: int | None = None
) -> subprocess.CompletedProcess[str]:
    """What `arcpipe` does with these arguments in this process, which spares the seconds of its imports.

    Args:  env: variables on top of `environment()`; code: the exit code that it must have.
    """
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
    assert code in (None, ended.value.code), err.getvalue()
    assert isinstance(ended.value.code, int)
    return subprocess.CompletedProcess(argv, ended.value.code, out.getvalue(), err.getvalue())


def succeed_here(*arguments: object, cwd: Path | None = None) -> str:
    """The stdout of an `arcpipe` command in this process that must exit with 0."""
    return run_here(*arguments, cwd=cwd, code=0).stdout


def fail_here(
    *arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None, logs: bool = False
) -> str:
    """The one line with which a command refuses, with exit code 2; where it logs, the last one."""
    done = run_here(*arguments, cwd=cwd, env=env, code=2)
    before, _, last = done.stderr.rstrip("\n").rpartition("\n")
    assert last.startswith("arcpipe: "), done.stderr
    assert "Traceback" not in before
    assert (done.stdout, logs or not before) == ("", True), done
    return last.removeprefix("arcpipe: ")
