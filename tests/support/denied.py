"""What commands say of files that may not be read, as a process that root's right to read all is taken from.

On stdin: [[file, [argument, ...]], ...]; on stdout: the exit code and the output of each command.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from commands import environment, run_here

_ALL = "-dac_override,-dac_read_search"


def reason_to_skip() -> str:
    """Why rights cannot be tested here; empty where they can."""
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        return "root may read all, and there is no setpriv to take that right away"
    return ""


def said_without(cases: list[tuple[Path, list[object]]], cwd: Path) -> list[tuple[int, str]]:
    """The exit code and output of each command while nobody may read its file."""
    without = ["setpriv", f"--bounding-set={_ALL}", f"--inh-caps={_ALL}"] if os.geteuid() == 0 else []
    asked = json.dumps([(str(file), [str(word) for word in words]) for file, words in cases])
    env = environment()
    # Where a safe path is asked for, Python does not look beside the script.
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(Path(__file__).parent), env.get("PYTHONPATH"))))
    done = subprocess.run(
        [*without, sys.executable, __file__], input=asked, cwd=cwd, env=env, check=True,
        stdout=subprocess.PIPE, text=True, timeout=300,
    )  # fmt: skip
    return [(code, said) for code, said in json.loads(done.stdout)]


def _answer() -> None:
    found = []
    for name, words in json.load(sys.stdin):
        file = Path(name)
        mode = file.stat().st_mode
        file.chmod(0)
        try:
            done = run_here(*words)
        finally:
            file.chmod(mode)
        found.append((done.returncode, done.stderr + done.stdout))
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    _answer()
