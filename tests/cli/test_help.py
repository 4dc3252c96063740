"""What every command says of itself."""

import re
import time
from pathlib import Path

import pytest

import arcpipe
from commands import run_arcpipe, succeed

COMMANDS = (
    "quickstart", "augment arc", "augment sudoku", "augment maze", "train", "adapt", "infer", "vote", "solve",
    "check", "score", "merge", "report", "show",
    "submissions list", "submissions show", "submissions compare",
    "checkpoint import", "checkpoint export", "checkpoint show", "checkpoint verify",
    "recipe list", "recipe show", "recipe check", "recipe diff", "recipe settings", "doctor",
    "kaggle bundle", "kaggle rehearse", "kaggle run", "kaggle simulate",
    "kaggle push", "kaggle status", "kaggle submit", "kaggle scores",
)  # fmt: skip


def listed(help_text: str) -> set[str]:
    """The commands that a help text lists."""
    return set(re.findall(r"^  (\w+)  ", help_text.partition("Commands:")[2], re.MULTILINE))


def test_help_is_quick(tmp_path: Path) -> None:
    times = []
    for _ in range(3):
        began = time.monotonic()
        assert "Commands:" in succeed("--help", cwd=tmp_path)
        times.append(time.monotonic() - began)
    assert min(times) < 0.5


def test_every_command_is_listed(tmp_path: Path) -> None:
    found = listed(succeed("--help", cwd=tmp_path))
    groups = {name.split()[0] for name in COMMANDS if " " in name}
    assert found == {name.split()[0] for name in COMMANDS}
    for group in groups:
        inner = listed(succeed(group, "--help", cwd=tmp_path))
        assert inner == {name.split()[1] for name in COMMANDS if name.startswith(f"{group} ")}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_has_an_example_of_it(tmp_path: Path, command: str) -> None:
    text = succeed(*command.split(), "--help", cwd=tmp_path)
    example = " ".join(text.split()).partition("Example: ")[2]
    assert example.startswith(f"arcpipe {command} ")
    assert "--help" in text.partition("Options:")[2]


def test_bare_commands_print_their_help(tmp_path: Path) -> None:
    for command in ((), ("augment",)):
        assert succeed(*command, cwd=tmp_path) == succeed(*command, "--help", cwd=tmp_path)


def test_version(tmp_path: Path) -> None:
    done = run_arcpipe("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"arcpipe {arcpipe.__version__}\n", "")
