"""What every command says of itself."""

import re

import pytest

import arcpipe
from commands import run_here, succeed_here

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
def test_the_help_of_a_command_fits_and_has_an_example(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = succeed_here(*command.split(), "--help")
    example = text.partition("Example: ")[2].partition("\n\n")[0]
    assert f"{example} ".startswith(f"arcpipe {command} ")
    # It can be pasted, and there is nothing in it that a shell would make something else of.
    *lines, last = example.splitlines()
    assert all(line.endswith(" \\") for line in lines)
    assert not set("\\<|&;$`") & set(last + "".join(line[:-1] for line in lines))
    assert "--help" in text.partition("Options:")[2]
    assert max(map(len, text.splitlines())) <= 80


def test_summaries_and_examples_fit_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for group in ("", *sorted({name.split()[0] for name in COMMANDS if " " in name})):
        text = succeed_here(*group.split(), "--help")
        assert "..." not in text.partition("Commands:")[2]
        assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "expected"), [("arcpipe qu", "quickstart"), ("arcpipe show --so", "--source")]
)
def test_names_are_completed_without_loading_any_command(words: str, expected: str) -> None:
    assert "--install-completion" in succeed_here("--help")
    completion = {
        "_ARCPIPE_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    assert run_here(env=completion).stdout.split() == [expected]


def test_version() -> None:
    assert succeed_here("--version") == f"arcpipe {arcpipe.__version__}\n"
