"""Recipes: TOML files of settings, `--set table.key=value` overrides, and their validation.

A recipe has the tables `[data] [model] [train] [adapt] [infer] [submit] [kaggle]`. Each table's keys
are the fields of a dataclass that lives beside its consumer; a command resolves only its own tables.
"""

import difflib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import orjson
from pydantic import ConfigDict, TypeAdapter, ValidationError

from arcpipe.errors import RecipeError
from arcpipe.runs import MANIFEST

TABLES = ("data", "model", "train", "adapt", "infer", "submit", "kaggle")
Settings = TypeVar("Settings")

STRICT = ConfigDict(extra="forbid", strict=True)
"""What every settings dataclass carries as `__pydantic_config__`."""


@dataclass(frozen=True)
class Recipe:
    """The tables as written, and where they come from; `settings` makes them typed."""

    name: str
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)

    def settings(self, table: str, settings_type: type[Settings]) -> Settings:
        """One table as its dataclass, missing keys at their defaults.

        Raises:  RecipeError with every unknown key and wrong value of the table.
        """
        resolved: Settings = self.resolve({table: settings_type})[table]
        return resolved

    def resolve(self, types: dict[str, type]) -> dict[str, Any]:
        """Several tables as their dataclasses: table -> settings.

        Raises:  RecipeError with every unknown table, unknown key and wrong value.
        """
        problems = [
            f"[{table}] is no table of a recipe{_nearest(table, TABLES)}"
            for table in self.tables
            if table not in TABLES
        ]
        resolved: dict[str, Any] = {}
        for table, settings_type in types.items():
            try:
                # As JSON: strict validation of Python values wants the dataclass itself, not a table.
                content = orjson.dumps(self.tables.get(table, {}))
                resolved[table] = TypeAdapter(settings_type).validate_json(content)
            except orjson.JSONEncodeError as error:
                problems.append(f"[{table}]: {error}")
            except ValidationError as error:
                problems += [_problem(table, settings_type, detail) for detail in error.errors()]
        if problems:
            raise RecipeError(f"recipe {self.name}: " + "; ".join(problems))
        return resolved


def _problem(table: str, settings_type: type, detail: Any) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "unexpected_keyword_argument":
        return f"{table}.{key} is unknown{_nearest(key, [f.name for f in fields(settings_type)])}"
    message = detail["msg"].removeprefix("Value error, ")
    if not key:
        return f"[{table}]: {message}"
    return f"{table}.{key}: {message[0].lower()}{message[1:]}, found {detail['input']!r}"


def _nearest(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f", did you mean {near[0]!r}?" if near else f" (known: {', '.join(known)})"


def recipe_changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What differs between two resolved recipes: `table.key: old -> new` for each key of `after`."""
    return [
        f"{table}.{key}: {before.get(table, {}).get(key)!r} -> {value!r}"
        for table, settings in after.items()
        for key, value in settings.items()
        if before.get(table, {}).get(key) != value
    ]


def recipe_names() -> list[str]:
    """The names of the recipes that come with arcpipe."""
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in (resources.files("arcpipe") / "recipes").iterdir()
        if entry.name.endswith(".toml")
    )


def load_recipe(source: str, overrides: Sequence[str] = (), read: Sequence[str] = TABLES) -> Recipe:
    """A recipe by name, from a TOML file, or as frozen into a run folder; overrides applied.

    Args:    source: the name of a recipe of arcpipe, a `.toml` file, or a run folder.
             overrides: `table.key=value`, the value as TOML; a bare word is text.
             read: the tables that the command reads; an override of another one is refused.
    Raises:  RecipeError if there is no such recipe or it cannot be parsed.
    """
    tables = _read_tables(source)
    for override in overrides:
        _override(tables, override, read)
    return Recipe(source, tables)


def _read_tables(source: str) -> dict[str, dict[str, Any]]:
    path = Path(source)
    if source in recipe_names():
        text = (resources.files("arcpipe") / "recipes" / f"{source}.toml").read_text(encoding="utf-8")
    elif path.is_dir():
        return _frozen_tables(path)
    elif path.suffix != ".toml":
        raise RecipeError(
            f"no recipe {source!r}{_nearest(source, recipe_names())}; a recipe of your own is a .toml file"
        )
    else:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{source}: cannot be read as a recipe ({error})") from None
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{source}: not a TOML file ({error})") from None
    stray = [key for key, value in tables.items() if not isinstance(value, dict)]
    if stray:
        raise RecipeError(f"{source}: {', '.join(stray)} must stand in a table, such as [train]")
    return tables


def _frozen_tables(folder: Path) -> dict[str, dict[str, Any]]:
    try:
        manifest = orjson.loads((folder / MANIFEST).read_bytes())
        of_training = manifest["kind"] in ("run", "checkpoint")
        tables: dict[str, dict[str, Any]] = dict(manifest["recipe"])
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        of_training = False
    if not of_training:
        raise RecipeError(f"{folder}: no run folder with a recipe in its {MANIFEST}")
    return tables


def _override(tables: dict[str, dict[str, Any]], override: str, read: Sequence[str]) -> None:
    name, equals, text = override.partition("=")
    table, dot, key = name.strip().partition(".")
    if not (equals and dot and table and key):
        raise RecipeError(f"--set {override!r}: expected table.key=value, such as train.lr=3e-4")
    if table not in TABLES:
        raise RecipeError(f"--set {override!r}: no table [{table}] in a recipe{_nearest(table, TABLES)}")
    if table not in read:
        raise RecipeError(f"--set {override!r}: this command reads [{'], ['.join(read)}] only")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    tables.setdefault(table, {})[key] = value
