"""What every command says of itself."""

import re

import pytest

import arcpipe
from commands import succeed_here

COMMANDS = (
    "quickstart", "augment arc", "augment sudoku", "augment maze", "train", "adapt", "infer", "vote",
    "evaluate", "solve", "check", "score", "merge", "report", "show",
    "submissions list", "submissions show", "submissions compare",
    "checkpoint import", "checkpoint identifiers", "checkpoint export", "checkpoint show",
    "checkpoint verify",
    "recipe list", "recipe show", "recipe check", "recipe diff", "recipe settings", "doctor",
    "kaggle bundle", "kaggle rehearse", "kaggle run", "kaggle simulate",
    "kaggle push", "kaggle status", "kaggle submit", "kaggle scores",
)  # fmt: skip


def listed(help_text: str) -> set[str]:
    """The commands that a help text lists."""
    return set(re.findall(r"^  (\w+)  ", help_text.partition("Commands:")[2], re.MULTILINE))


def test_every_command_is_listed_also_without_a_word() -> None:
    assert listed(succeed_here("--help")) == {name.split()[0] for name in COMMANDS}
    assert succeed_here() == succeed_here("--help")
    for group in {name.split()[0] for name in COMMANDS if " " in name}:
        inner = listed(succeed_here(group, "--help"))
        assert inner == {name.split()[1] for name in COMMANDS if name.startswith(f"{group} ")}
        assert succeed_here(group) == succeed_here(group, "--help")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_has_an_example_of_it(command: str) -> None:
    text = succeed_here(*command.split(), "--help")
    example = " ".join(text.split()).partition("Example: ")[2]
    assert example.startswith(f"arcpipe {command} ")
    assert "--help" in text.partition("Options:")[2]


def test_version() -> None:
    assert succeed_here("--version") == f"arcpipe {arcpipe.__version__}\n"
