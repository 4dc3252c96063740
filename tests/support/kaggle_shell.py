"""The commands of `arcpipe kaggle` against a small Kaggle, and changes to the bundle they send."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commands import run_here
from kaggle_server import KaggleServer


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def change_json(path: Path, **fields: Any) -> None:
    """Change fields of a file; None removes one."""
    content = json.loads(path.read_text()) | fields
    write_json(path, {name: value for name, value in content.items() if value is not None})


@dataclass
class Shell:
    """The commands of `arcpipe kaggle`, run in this process against the server."""

    server: KaggleServer
    env: dict[str, str]

    def run(self, *arguments: object, **env: str) -> "subprocess.CompletedProcess[str]":
        return run_here("kaggle", *arguments, env=self.env | env)

    def succeed(self, *arguments: object) -> str:
        """The stdout of a command that must exit with 0."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fail(self, *arguments: object, **env: str) -> str:
        """The one line of a command that must exit with 2, and print nothing else but warnings."""
        done = self.run(*arguments, **env)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        last = done.stderr.rstrip("\n").rpartition("\n")[2]
        assert last.startswith("arcpipe: "), done.stderr
        return last.removeprefix("arcpipe: ")
