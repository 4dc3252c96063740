"""Run commands on a full disk, with little memory, or without permission to read a file.

As a script: read [modules to import, [folder, [argument, ...], file], ...] from stdin; write the outcomes.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from commands import environment, run_here

_SPARE = 2 * 2**30
_ALL = "-dac_override,-dac_read_search"


class Outcome(NamedTuple):
    """Exit code, output, growth of the process in bytes, and seconds of a command."""

    code: int
    out: str
    err: str
    growth: int
    seconds: float


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """Limit the size of files during the block, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def reason_to_skip() -> str:
    """Return why permissions cannot be tested here; empty if they can."""
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        return "root may read all, and there is no setpriv to take that right away"
    return ""


def with_little_memory(commands: Sequence[tuple[Path, list[str]]], modules: Sequence[str]) -> list[Outcome]:
    """Run each command in its folder, in a process limited to 2 GiB more than its modules take."""
    # Otherwise every thread reserves memory that counts toward the limit.
    env = {"MALLOC_ARENA_MAX": "1", "PYTHONWARNINGS": "ignore"}
    return _run([], [modules, *((str(folder), words, "") for folder, words in commands)], env)


def without_rights(commands: Sequence[tuple[Path, list[str]]], cwd: Path) -> list[Outcome]:
    """Run each command while its file is unreadable, even by root."""
    without = ["setpriv", f"--bounding-set={_ALL}", f"--inh-caps={_ALL}"] if os.geteuid() == 0 else []
    return _run(without, [[], *((str(cwd), words, str(file)) for file, words in commands)], {})


def _run(before: list[str], asked: list[Any], variables: dict[str, str]) -> list[Outcome]:
    env = environment(variables)
    # With PYTHONSAFEPATH, Python does not search the script's folder.
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(Path(__file__).parent), env.get("PYTHONPATH"))))
    done = subprocess.run(
        [*before, sys.executable, __file__], input=json.dumps(asked), env=env, check=True,
        stdout=subprocess.PIPE, text=True, timeout=300,
    )  # fmt: skip
    return [Outcome(*one) for one in json.loads(done.stdout)]


def _status(name: str) -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])


def _measured(folder: str, words: list[str]) -> Outcome:
    # Reset the peak of memory.
    Path("/proc/self/clear_refs").write_text("5")
    before, began = _status("VmRSS"), time.monotonic()
    try:
        done: Any = run_here(*words, cwd=Path(folder))
        said = done.returncode, done.stdout, done.stderr
    except Exception:  # noqa: BLE001 - whatever it is, a user would see its traceback
        said = 1, "", traceback.format_exc()
    return Outcome(*said, max(0, _status("VmHWM") - before), time.monotonic() - began)


def _denied(folder: str, words: list[str], file: Path) -> Outcome:
    mode = file.stat().st_mode
    file.chmod(0)
    try:
        done = run_here(*words, cwd=Path(folder))
    finally:
        file.chmod(mode)
    return Outcome(done.returncode, done.stdout, done.stderr, 0, 0.0)


def _answer() -> None:
    modules, *commands = json.load(sys.stdin)
    for module in ("commands.cli", *modules):
        import_module(f"arcpipe.{module}")
    if modules:
        resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + _SPARE,) * 2)
    answers = [
        _denied(folder, words, Path(file)) if file else _measured(folder, words)
        for folder, words, file in commands
    ]
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    _answer()
