"""Run commands on a full disk, with little memory, or without permission to read a file.

As a script: print the outcomes of its argument, [modules to import, [folder, [argument, ...], file], ...].
"""

import ctypes
import json
import os
import resource
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from commands import run_here
from processes import by_itself

_SPARE = 2 * 2**30
_M_ARENA_MAX = -8
_CAPABILITY_VERSION = 0x20080522
# The numbers of CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH.
_READ_ALL = 1 << 1 | 1 << 2


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
    if os.geteuid() == 0 and sys.platform != "linux":
        return "root may read all, and only on Linux can it give that right up"
    return ""


def with_little_memory(commands: Sequence[tuple[Path, list[str]]], modules: Sequence[str]) -> list[Outcome]:
    """Run each command in its folder, in a process limited to 2 GiB more than its modules take."""
    return _run([modules, *((str(folder), words, "") for folder, words in commands)])


def without_rights(commands: Sequence[tuple[Path, list[str]]], cwd: Path) -> list[Outcome]:
    """Run each command while its file is unreadable, even by root."""
    return _run([[], *((str(cwd), words, str(file)) for file, words in commands)])


def _run(asked: list[Any]) -> list[Outcome]:
    done = by_itself([json.dumps(asked)], Path.cwd(), 300, script=Path(__file__))
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


def _give_up_rights() -> None:
    """Take root's right to read all away from this thread, and from those that it will start."""
    libc = ctypes.CDLL(None)
    header, rights = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, rights) == 0
    # The first number has the rights in effect.
    rights[0] &= ~_READ_ALL
    assert libc.capset(header, rights) == 0


def _answer() -> None:
    modules, *commands = json.loads(sys.argv[1])
    warnings.simplefilter("ignore")
    for module in ("commands.cli", *modules):
        import_module(f"arcpipe.{module}")
    if modules:
        # Otherwise every thread reserves memory that counts toward the limit.
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
        resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + _SPARE,) * 2)
    elif os.geteuid() == 0:
        _give_up_rights()
    answers = [
        _denied(folder, words, Path(file)) if file else _measured(folder, words)
        for folder, words, file in commands
    ]
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    _answer()
