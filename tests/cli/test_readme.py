"""The commands of README.md and docs/: the walk through the stages runs, every other one is spelled right."""

import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer
import typer.main

from arcpipe.commands.cli import app
from arcpipe.model_config import TRMConfig
from arcpipe.recipe import load_recipe
from arcpipe.train.config import TrainSettings
from commands import succeed_here
from sourcetree import ROOT

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
SHELLS = ("sh", "bash", "console")
WALK = ["augment", "train", "infer", "vote", "check", "score"]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:\$ )?(?:\S.* -m )?arcpipe (.*)$")


def commands_of(block: str) -> list[list[str]]:
    """The words of each `arcpipe` command in a block, also behind a prompt or a launcher."""
    lines = block.replace("\\\n", " ").splitlines()
    found = [match[1] for line in lines if (match := COMMAND.match(line.strip()))]
    return [shlex.split(command, comments=True) for command in found]


BLOCKS = [
    (language, commands_of(body))
    for page in PAGES
    for language, body in FENCED.findall(page.read_text(encoding="utf-8"))
]
COMMANDS = [command for _, block in BLOCKS for command in block]


def parse(command: list[str]) -> dict[str, Any]:
    """The parameters of a command, which is read but not run; a wrong one raises."""
    entry: Any = typer.main.get_command(app)
    words = list(command)
    while hasattr(entry, "commands") and words and not words[0].startswith("-"):
        assert words[0] in entry.commands, words[0]
        entry = entry.get_command(None, words.pop(0))
    try:
        parameters: dict[str, Any] = entry.make_context("arcpipe", words).params
    except typer.Exit:
        # A flag such as --list prints and ends.
        return {}
    return parameters


def test_every_command_is_spelled_right() -> None:
    assert {command[0] for command in COMMANDS} >= {*WALK, "show"}
    for command in COMMANDS:
        parameters = parse(command)
        if command[0] == "train":
            recipe = load_recipe(parameters["recipe"], parameters["overrides"] or [])
            recipe.resolve({"model": TRMConfig, "train": TrainSettings})


def test_every_link_to_a_file_leads_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^):#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_table_of_settings_is_that_of_the_dataclasses() -> None:
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert page.endswith(succeed_here("recipe", "settings")), "arcpipe recipe settings"
    assert not re.findall(r"^\| `.*\|  \|$", page, re.MULTILINE), "a setting without a description"


def test_every_make_target_exists() -> None:
    text = "\n".join(body for _, body in FENCED.findall((ROOT / "README.md").read_text(encoding="utf-8")))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^(?:\$ )?make (\w+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_walk_through_the_stages_runs(tmp_path: Path, tiny_train: list[str]) -> None:
    (walk,) = [
        block for language, block in BLOCKS if language in SHELLS and [words[0] for words in block] == WALK
    ]
    shows = [command for command in COMMANDS if command[0] == "show"]
    for command in [*walk, *shows]:
        assert succeed_here(*command, *(tiny_train if command[0] == "train" else ()), cwd=tmp_path)
        for option, made in pairwise(command):
            assert option not in ("--out", "--per-task") or (tmp_path / made).exists()
