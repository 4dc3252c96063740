"""Commands in one process under a limit of memory: what they say, and what they take.

On stdin: [modules of arcpipe to import, [folder, [argument, ...]], ...]; on stdout what each command did.
"""

import json
import os
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from commands import environment, run_here

_SPARE = 2 * 2**30


class Outcome(NamedTuple):
    """The exit code and output of a command; by how many bytes it made the process grow, and its seconds."""

    code: int
    out: str
    err: str
    growth: int
    seconds: float


def measured(commands: Sequence[tuple[Path, list[str]]], modules: Sequence[str]) -> list[Outcome]:
    """What each command did in its folder, in a process that may take 2 GiB more than its modules do."""
    # Else every thread reserves memory of its own, which the limit counts.
    env = environment({"MALLOC_ARENA_MAX": "1", "PYTHONWARNINGS": "ignore"})
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(Path(__file__).parent), env.get("PYTHONPATH"))))
    asked = json.dumps([modules, *((str(folder), words) for folder, words in commands)])
    done = subprocess.run(
        [sys.executable, __file__], input=asked, env=env, check=True, stdout=subprocess.PIPE, text=True,
        timeout=300,
    )  # fmt: skip
    return [Outcome(*one) for one in json.loads(done.stdout)]


def _status(name: str) -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])


def _one(folder: str, words: list[str]) -> Outcome:
    # The peak begins anew.
    Path("/proc/self/clear_refs").write_text("5")
    before, began = _status("VmRSS"), time.monotonic()
    try:
        done: Any = run_here(*words, cwd=Path(folder))
        said = done.returncode, done.stdout, done.stderr
    except Exception:  # noqa: BLE001 - whatever it is, a user would see its traceback
        said = 1, "", traceback.format_exc()
    return Outcome(*said, max(0, _status("VmHWM") - before), time.monotonic() - began)


def _answer() -> None:
    modules, *commands = json.load(sys.stdin)
    for module in ("commands.cli", *modules):
        import_module(f"arcpipe.{module}")
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + _SPARE,) * 2)
    json.dump([_one(folder, words) for folder, words in commands], sys.stdout)


if __name__ == "__main__":
    _answer()
