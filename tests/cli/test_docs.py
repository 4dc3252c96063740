"""Documentation: the commands in README.md and docs/, --help, and the Python notebook."""

import io
import json
import re
import shlex
from contextlib import redirect_stdout
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
import pytest
import typer
import typer.main

import arcpipe
from arcpipe.commands.cli import app
from arcpipe.errors import ArcpipeError
from arcpipe.model_config import TRMConfig
from arcpipe.recipe import load_recipe
from arcpipe.runs import read_manifest
from arcpipe.task import challenges_json
from arcpipe.train.config import TrainSettings
from commands import environment, fail_here, run_here, succeed_here
from files import lay_out
from puzzles import made_up_tasks, write_source
from sourcetree import ROOT

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
SHELLS = ("sh", "bash", "console")
WALK = ["augment", "train", "infer", "vote", "check", "score"]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:\$ )?(?:\S.* -m )?arcpipe (.*)$")


def commands_of(block: str) -> list[list[str]]:
    """Return the words of each `arcpipe` command in a block, after a prompt or a launcher too."""
    lines = block.replace("\\\n", " ").splitlines()
    found = [match[1] for line in lines if (match := COMMAND.match(line.strip()))]
    return [shlex.split(command, comments=True) for command in found]


def blocks_of(page: Path) -> list[tuple[str, list[list[str]]]]:
    """Return the language and the commands of each block of a page."""
    text = page.read_text(encoding="utf-8")
    return [(language, commands_of(body)) for language, body in FENCED.findall(text)]


BY_PAGE = {page: [command for _, block in blocks_of(page) for command in block] for page in PAGES}
COMMANDS = [command for commands in BY_PAGE.values() for command in commands]


def parse(command: list[str]) -> dict[str, Any]:
    """Parse a command without running it; return its parameters, raise for a wrong one."""
    entry: Any = typer.main.get_command(app)
    words = list(command)
    while hasattr(entry, "commands") and words and not words[0].startswith("-"):
        assert words[0] in entry.commands, words[0]
        entry = entry.get_command(None, words.pop(0))
    try:
        parameters: dict[str, Any] = entry.make_context("arcpipe", words).params
    except typer.Exit:
        # A flag such as --list prints something and exits.
        return {}
    return parameters


def test_every_command_is_spelled_right() -> None:
    assert {command[0] for command in COMMANDS} >= {*WALK, "show"}
    for command in COMMANDS:
        parameters = parse(command)
        if command[0] == "train" and not parameters["resume"]:
            recipe = load_recipe(parameters["recipe"], parameters["overrides"] or [])
            recipe.resolve({"model": TRMConfig, "train": TrainSettings})


def test_no_page_makes_anything_twice() -> None:
    """The second command would be refused, because what exists is not overwritten."""
    for page, commands in BY_PAGE.items():
        made: list[Path] = []
        for command in commands:
            parameters = parse(command)
            if not any(parameters.get(name) for name in ("resume", "overwrite", "dry_run")):
                is_page = command[0] == "report"
                out = parameters.get("out") or (parameters["run"] / "report.html" if is_page else None)
                made += [path for path in (out, parameters.get("per_task")) if path]
        assert [path for path in made if made.count(path) > 1] == [], page.name


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
    readme, inference = PAGES[0], ROOT / "docs" / "inference.md"
    (walk,) = [
        block
        for language, block in blocks_of(readme)
        if language in SHELLS and [words[0] for words in block] == WALK
    ]
    # The Sudokus to solve are of another page.
    more = [command for command in BY_PAGE[inference] if command[0] != "solve"]
    shows = [command for command in COMMANDS if command[0] == "show"]
    shorter = {"train": tiny_train, "infer": ["--votes", "3"]}
    for command in [*walk, *more, *shows]:
        assert succeed_here(*command, *shorter.get(command[0], ()), cwd=tmp_path)
        for option, made in pairwise(command):
            assert option not in ("--out", "--per-task") or (tmp_path / made).exists()


NAMES = (
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


def test_every_command_is_listed_also_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its whole summary, in eighty columns."""
    monkeypatch.setenv("COLUMNS", "80")
    inner = {"": {name.split()[0] for name in NAMES}}
    for group, name in (name.split() for name in NAMES if " " in name):
        inner.setdefault(group, set()).add(name)
    for group, names in inner.items():
        text = succeed_here(*group.split(), "--help")
        assert listed(text) == names
        assert succeed_here(*group.split()) == text
        assert "..." not in text.partition("Commands:")[2]
        assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("command", NAMES)
def test_the_help_of_a_command_fits_and_has_an_example(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = succeed_here(*command.split(), "--help")
    example = text.partition("Example: ")[2].partition("\n\n")[0]
    assert f"{example} ".startswith(f"arcpipe {command} ")
    # It can be pasted: it contains nothing that a shell would expand.
    *lines, last = example.splitlines()
    assert all(line.endswith(" \\") for line in lines)
    assert not set("\\<|&;$`") & set(last + "".join(line[:-1] for line in lines))
    assert "--help" in text.partition("Options:")[2]
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


@pytest.mark.parametrize(("settings", "says"), [
    ({"num_agu": 1}, "data.num_agu is unknown, did you mean 'num_aug'?"),
    ({"num_aug": "many"}, "data.num_aug: input should be a valid integer, found 'many'"),
])  # fmt: skip
def test_settings_in_python_are_checked_like_those_of_a_recipe(
    settings: dict[str, Any], says: str, own_folder: Path
) -> None:
    with pytest.raises(ArcpipeError, match=re.escape(says)):
        arcpipe.build_dataset("none.json", own_folder / "out", **settings)


@pytest.mark.parametrize("unlimited", ["inf", float("inf"), None])
def test_no_limit_in_python(unlimited: Any, own_folder: Path) -> None:
    source = write_source(own_folder, "few", made_up_tasks(1))
    data = arcpipe.build_dataset(source, "data", num_aug=unlimited)
    assert read_manifest(data, "dataset")["recipe"]["data"]["num_aug"] is None


def test_a_build_in_python_says_what_the_command_does(
    own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_out(
        {"a.json": {"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[3]], "ouput": [[4]]}]}}
    )
    said = succeed_here("augment", "arc", "--source", "a.json", "--num-aug", "0", "--out", "one")
    capsys.readouterr()
    arcpipe.build_dataset(Path("a.json"), "two", num_aug=0)
    assert capsys.readouterr().out == said.replace("one:", "two:")
    assert "'ouput' is not 'output'" in said


# A function and its command, whose folders exist; both get one more argument.
CALLS: dict[str, tuple[tuple[str, ...], str]] = {
    "train": (("quickstart", ".", "out"), "train quickstart --data . --out out"),
    "predict": ((".", ".", "out"), "infer --checkpoint . --data . --out out"),
    "vote": ((".", "."), "vote . --challenges ."),
    "solve": ((".", "file"), "solve file --checkpoint ."),
}


@pytest.mark.parametrize(("name", "more"), [
    ("train", {"steps": 0}),
    ("train", {"steps": -3}),
    ("train", {"steps": 3.5}),
    ("train", {"max_minutes": -1}),
    ("train", {"max_minutes": "soon"}),
    ("train", {"processes": 0}),
    ("train", {"processes": "abc"}),
    ("train", {"set": "train.steps"}),
    ("predict", {"max_minutes": -1}),
    ("vote", {"rule": "nope"}),
    ("solve", {"max_steps": -3}),
    ("solve", {"max_votes": -3}),
])  # fmt: skip
def test_arguments_in_python_are_refused_in_the_words_of_the_command_line(
    name: str, more: dict[str, Any], own_folder: Path
) -> None:
    words, command = CALLS[name]
    ((flag, value),) = more.items()
    with pytest.raises(arcpipe.ArcpipeError) as refused:
        getattr(arcpipe, name)(*words, **more)
    assert str(refused.value) == fail_here(*command.split(), f"--{flag.replace('_', '-')}", value)
    assert not list(own_folder.iterdir())


NOTEBOOK = ROOT / "examples" / "python.ipynb"


def test_every_name_is_documented_and_there() -> None:
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(\w+)", text, re.MULTILINE))
    assert documented == set(arcpipe.__all__)
    assert all(callable(getattr(arcpipe, name)) for name in arcpipe.__all__)


def test_names_are_listed_and_others_are_none() -> None:
    assert "vote" in dir(arcpipe)
    with pytest.raises(AttributeError, match="nothing"):
        arcpipe.nothing  # noqa: B018


def test_the_example_is_the_documentation_and_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    documented = [block.strip() for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert cells == documented
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    printed = io.StringIO()
    with redirect_stdout(printed):
        for cell in cells:
            exec(cell.replace("train.steps=300", "train.steps=2"), names)
    assert "test input" in printed.getvalue()
    # A checkpoint may be given for a path, and the other way round.
    predictions = arcpipe.predict(names["checkpoint"], names["data"], "more", votes=1)
    task = names["task"]
    Path(f"{task.id}.json").write_text(json.dumps(challenges_json([task])[task.id]))
    (solved,) = arcpipe.solve(names["run"], f"{task.id}.json", max_votes=1)
    assert solved.candidates == 1
    assert arcpipe.vote([predictions], names["data"], rule="halt").attempts
