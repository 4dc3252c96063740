import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from arcpipe.errors import RecipeError
from arcpipe.recipe import STRICT, TABLES, load_recipe, to_toml


@dataclass(frozen=True)
class Learning:
    """Settings, declared as in a stage."""

    __pydantic_config__ = STRICT

    lr: Annotated[float, Field(gt=0)] = 1e-4
    steps: Annotated[int, Field(gt=0)] = 100
    schedule: Literal["constant", "cosine"] = "constant"
    ema: bool = True
    note: str = ""


def recipe_file(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


def test_defaults_yield_to_the_recipe_and_the_recipe_to_overrides(tmp_path: Path) -> None:
    source = recipe_file(tmp_path, "[train]\nlr = 1e-3\nsteps = 7\n")
    settings = load_recipe(source, ["train.steps=9", "train.steps=8"]).settings("train", Learning)
    assert settings == Learning(lr=1e-3, steps=8)


@pytest.mark.parametrize(("override", "field", "value"), [
    ("train.lr=3e-4", "lr", 3e-4),
    ("train.ema=false", "ema", False),
    ("train.schedule=cosine", "schedule", "cosine"),
    ("train.note=a = b", "note", "a = b"),
])  # fmt: skip
def test_an_override_is_toml_or_a_bare_word(tmp_path: Path, override: str, field: str, value: Any) -> None:
    recipe = load_recipe(recipe_file(tmp_path, ""), [override])
    assert getattr(recipe.settings("train", Learning), field) == value


def test_a_command_reads_only_its_own_tables(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file(tmp_path, "[train]\nsteps = 3\n[model]\nsizes = 'wrong'\n"))
    assert recipe.resolve({"train": Learning}) == {"train": Learning(steps=3)}


def test_a_recipe_changes_another_key_by_key(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text("[train]\nlr = 1e-3\nsteps = 7\n[model]\nwidth = 4\n")
    (tmp_path / "middle.toml").write_text('extends = "base.toml"\n[train]\nsteps = 8\nema = false\n')
    recipe = load_recipe(
        recipe_file(tmp_path, 'extends = "middle.toml"\n[train]\nema = true\n[infer]\nx = 1\n'),
        ["train.note=last"],
    )
    assert recipe.tables == {
        "train": {"lr": 1e-3, "steps": 8, "ema": True, "note": "last"},
        "model": {"width": 4},
        "infer": {"x": 1},
    }
    assert recipe.bases == (str(tmp_path / "middle.toml"), str(tmp_path / "base.toml"))


def test_extended_recipes_are_found_by_name_or_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "base.toml").write_text('extends = "quickstart"\n[train]\nlr = 0.5\n')
    recipe_file(tmp_path / "inner", 'extends = "../base.toml"\n')
    monkeypatch.chdir(tmp_path / "inner")
    recipe = load_recipe("mine.toml")
    assert recipe.bases == ("../base.toml", "quickstart")
    assert recipe.tables["train"] == load_recipe("quickstart").tables["train"] | {"lr": 0.5}


@pytest.mark.parametrize(("extends", "message"), [
    ('"quickstrat"', r"mine\.toml: extends: no recipe 'quickstrat', did you mean 'quickstart'\?"),
    ('"none.toml"', r"mine\.toml: extends: .*none\.toml: no such file"),
    ("1", r"mine\.toml: extends must be the name or file of a recipe, found 1"),
    ('"mine.toml"', r"mine\.toml: extends itself \(.*mine\.toml -> .*mine\.toml\)"),
    ('"other.toml"', r"mine\.toml: extends itself \(.*mine.* -> .*other.* -> .*mine\.toml\)"),
    ('"broken.toml"', r"broken\.toml: not a TOML file"),
])  # fmt: skip
def test_what_cannot_be_extended_is_one_line(tmp_path: Path, extends: str, message: str) -> None:
    (tmp_path / "other.toml").write_text(f'extends = "../{tmp_path.name}/mine.toml"\n')
    (tmp_path / "broken.toml").write_text("[train\n")
    with pytest.raises(RecipeError, match=message):
        load_recipe(recipe_file(tmp_path, f"extends = {extends}\n"))


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
