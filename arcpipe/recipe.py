"""Recipes: TOML files of settings, `--set table.key=value` overrides, validation, and command flags.

A recipe has the tables `[data] [model] [train] [eval] [adapt] [infer] [kaggle]`. The keys of a table are the
fields of a dataclass that is defined in the room of its consumer; a command resolves only the tables it
reads. A recipe with `extends = "NAME"` above its tables changes another recipe, key by key. Flags of commands
are derived from the fields.
"""

import dataclasses
import difflib
import inspect
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from datetime import date
from functools import cache, wraps
from importlib import resources
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import orjson
import typer
from annotated_types import Ge, Gt, Le
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from arcpipe.documents import parse_toml, read_within
from arcpipe.errors import RecipeError
from arcpipe.runs import MANIFEST, known_json, reading

TABLES = ("data", "model", "train", "eval", "adapt", "infer", "kaggle")
Settings = TypeVar("Settings")

STRICT = ConfigDict(extra="forbid", strict=True)
"""What every settings dataclass carries as `__pydantic_config__`."""

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(gt=0)]

_RECIPE = Annotated[
    str | None,
    typer.Option("--recipe", help="A recipe's name, a .toml file, or a run folder that has it: its table."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Override a setting of the recipe."),
]
"""The flag `--set` of a command that reads a recipe."""
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]

EXTENDS = "extends"
_OURS = resources.files("arcpipe") / "recipes"
_MOST_PROBLEMS = 20
_adapter = cache(TypeAdapter)
# Names in the official code, and elsewhere, of settings that are spelled too differently here to be found.
_ALIASES = {
    "learning_rate": "lr", "ema_rate": "ema",
    "H_cycles": "outer_cycles", "L_cycles": "inner_cycles",
    "puzzle_emb_ndim": "puzzle_size", "puzzle_emb_len": "puzzle_tokens", "pos_encodings": "positions",
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """The tables of a recipe as written; `settings` returns them typed.

    bases: the recipes that it extends, the nearest first; `tables` includes their keys.
    """

    name: str
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    bases: tuple[str, ...] = ()

    def settings(self, table: str, settings_type: type[Settings]) -> Settings:
        """Return one table as its dataclass, missing keys at their defaults; RecipeError as in `resolve`."""
        resolved: Settings = self.resolve({table: settings_type})[table]
        return resolved

    def resolve(self, types: dict[str, type]) -> dict[str, Any]:
        """Return several tables as their dataclasses, by table name.

        Raises:  RecipeError with all unknown tables, unknown keys and wrong values.
        """
        resolved, problems = self.examine(types)
        if problems:
            raise RecipeError(f"recipe {self.name}: " + "; ".join(problems))
        return resolved

    def examine(self, types: dict[str, type]) -> tuple[dict[str, Any], list[str]]:
        """Return the valid tables as their dataclasses, and all problems of the others."""
        unknown = [table for table in self.tables if table not in TABLES]
        problems = [
            f"[{table}] is no table of a recipe{_nearest(table, TABLES)}"
            for table in unknown[:_MOST_PROBLEMS]
        ]
        resolved: dict[str, Any] = {}
        for table, settings_type in types.items():
            try:
                # Strict validation of Python values refuses dicts for dataclasses; of JSON it takes objects.
                content = orjson.dumps(self.tables.get(table, {}))
                resolved[table] = _adapter(settings_type).validate_json(content)
            except orjson.JSONEncodeError as error:
                problems.append(f"[{table}]: {error}")
            except ValidationError as error:
                details = error.errors()
                problems += [_problem(table, settings_type, detail) for detail in details[:_MOST_PROBLEMS]]
                if len(details) > _MOST_PROBLEMS:
                    problems.append(f"[{table}]: {len(details) - _MOST_PROBLEMS} problems more")
        return resolved, problems


def _problem(table: str, settings_type: type, detail: Any) -> str:
    # The location has the field, indices into its lists, and alternatives of its type, which are left out.
    field, *places = detail["loc"] or ("",)
    key = ".".join([field, *(str(place) for place in places if isinstance(place, int))])
    if detail["type"] == "unexpected_keyword_argument":
        return f"{table}.{key} is unknown{_nearest(key, [f.name for f in fields(settings_type)])}"
    message = detail["msg"].removeprefix("Value error, ")
    if not key:
        return f"[{table}]: {message}"
    return f"{table}.{key}: {message[0].lower()}{message[1:]}, found {detail['input']!r:.100}"


def _nearest(word: str, words: Sequence[str]) -> str:
    own = _ALIASES.get(word)
    near = [own] if own in words else difflib.get_close_matches(word, words, n=1)
    return f", did you mean {near[0]!r}?" if near else f" (known: {', '.join(words)})"


def as_tables(settings: dict[str, Any]) -> dict[str, Any]:
    """Return dataclasses of settings as tables of plain values, as in JSON and TOML."""
    tables: dict[str, Any] = orjson.loads(orjson.dumps(settings))
    return tables


def recipe_changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return the changed keys of `after` as lines `table.key: old -> new`, the values as in TOML."""
    changes = []
    for table, settings in after.items():
        old = before.get(table, {})
        for key, value in settings.items():
            if old.get(key) != value:
                earlier = to_toml_value(old[key]) if key in old else "unset"
                changes.append(f"{table}.{key}: {earlier} -> {to_toml_value(value)}")
    return changes


def changes_since(recorded: dict[str, Any], tables: dict[str, Any], defaults: dict[str, Any]) -> list[str]:
    """Return the changes of resolved tables since a manifest recorded them, as `recipe_changes`.

    Args:  defaults: a dataclass for each table; settings that were unknown then had their defaults.
    """
    before = {name: table | recorded.get(name, {}) for name, table in as_tables(defaults).items()}
    return recipe_changes(before, tables)


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with arcpipe."""
    return sorted(file.name.removesuffix(".toml") for file in _OURS.iterdir() if file.name.endswith(".toml"))


def load_recipe(
    source: str | None, overrides: Sequence[str] = (), read: Sequence[str] = TABLES, needed: str = ""
) -> Recipe:
    """Return a recipe by name, from a TOML file, or as frozen into a run folder; overrides applied.

    Args:    source: the name of a recipe of arcpipe, a `.toml` file, or a run folder; None for an empty one.
             overrides: `table.key=value`, the value as TOML; a bare word is text.
             read: the tables that the command reads; overrides of others are refused.
             needed: the one that a run folder must have; empty for any of them.
    Raises:  RecipeError if there is no such recipe, it cannot be parsed, or a run folder has no such table.
    """
    tables, bases = ({}, ()) if source is None else _read(source)
    wanted = [needed] if needed else read
    if source is not None and _is_folder(source) and not any(table in tables for table in wanted):
        raise RecipeError(
            f"{source}: this run has no table [{'], ['.join(wanted)}], only [{'], ['.join(tables)}]: "
            "give the name of a recipe or a .toml file instead"
        )
    changes: dict[str, dict[str, Any]] = {}
    for override in overrides:
        name, equals, text = override.partition("=")
        table, dot, key = name.strip().partition(".")
        if not (equals and dot and table and key):
            raise RecipeError(f"--set {override!r}: expected table.key=value, such as train.lr=3e-4")
        if table not in TABLES:
            raise RecipeError(f"--set {override!r}: no table [{table}] in a recipe{_nearest(table, TABLES)}")
        if table not in read:
            raise RecipeError(f"--set {override!r}: this command reads [{'], ['.join(read)}] only")
        try:
            value = parse_toml(f"value = {text}")["value"]
        except ValueError:
            value = text.strip()
        changes.setdefault(table, {})[key] = value
    return Recipe(source or "of the command line", _changed(tables, changes), bases)


def _is_folder(source: str) -> bool:
    """Return whether the source of a recipe is a folder, not a name or file."""
    return source not in recipe_names() and Path(source).is_dir()


def _changed(
    tables: dict[str, dict[str, Any]], changes: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return tables updated by changes, key by key."""
    return tables | {name: tables.get(name, {}) | table for name, table in changes.items()}


def _read(source: str, heirs: tuple[str, ...] = ()) -> tuple[dict[str, dict[str, Any]], tuple[str, ...]]:
    """Return the tables of a recipe and the recipes that it extends.

    Args:  heirs: the recipes that extend this one, the nearest last.
    """
    if source in heirs:
        raise RecipeError(f"{heirs[0]}: extends itself ({' -> '.join((*heirs, source))})")
    if _is_folder(source):
        manifest = known_json(Path(source, MANIFEST))
        if manifest.get("kind") in ("run", "checkpoint") and isinstance(manifest.get("recipe"), dict):
            return manifest["recipe"], ()
        raise RecipeError(f"{source}: no run folder with a recipe in its {MANIFEST}")
    try:
        document = parse_toml(_read_text(source, heirs))
    except ValueError as error:
        raise RecipeError(f"{source}: not a TOML file ({error})") from None
    base = document.pop(EXTENDS, None)
    stray = [key for key, value in document.items() if not isinstance(value, dict)]
    if stray:
        raise RecipeError(f"{source}: {', '.join(stray)} must stand in a table, such as [train]")
    if base is None:
        return document, ()
    if not isinstance(base, str):
        raise RecipeError(f"{source}: {EXTENDS} must be the name or file of a recipe, found {base!r}")
    if base.endswith(".toml"):
        # Normalized, because a cycle through `../` would otherwise never repeat a path.
        base = os.path.normpath(Path(source).parent / base)
    tables, bases = _read(base, (*heirs, source))
    return _changed(tables, document), (base, *bases)


def _read_text(source: str, heirs: tuple[str, ...] = ()) -> str:
    """Return the TOML of a recipe, given its name or file."""
    if source in recipe_names():
        return (_OURS / f"{source}.toml").read_text(encoding="utf-8")
    where = f"{heirs[-1]}: {EXTENDS}: " if heirs else ""
    if not source.endswith(".toml"):
        near = _nearest(source, recipe_names())
        raise RecipeError(f"{where}no recipe {source!r}{near}; a recipe of your own is a .toml file")
    try:
        with reading(Path(source)):
            return read_within(Path(source)).decode("utf-8-sig")
    except FileNotFoundError:
        name = Path(source).stem
        ours = f"; the recipe of arcpipe is named {name}" if name in recipe_names() else ""
        raise RecipeError(f"{where}{source}: no such file{ours}") from None
    except (OSError, ValueError) as error:
        raise RecipeError(f"{where}{source}: cannot be read as a recipe ({error})") from None


def recipe_summary(name: str) -> str:
    """Return the purpose of a recipe of arcpipe: the first sentence of the comment at the top of its file."""
    comment = takewhile(lambda line: line.startswith("#"), _read_text(name).splitlines())
    return " ".join(line.removeprefix("#").strip() for line in comment).partition(". ")[0].rstrip(".")


def to_toml(tables: dict[str, dict[str, Any]]) -> str:
    """Return tables of numbers, texts, booleans and lists of them as TOML; None (no limit) becomes inf."""
    lines: list[str] = []
    for table, settings in tables.items():
        lines += ["", f"[{table}]"] if lines else [f"[{table}]"]
        lines += [f"{key} = {to_toml_value(value)}" for key, value in settings.items()]
    return "\n".join(lines) + "\n"


def to_toml_value(value: Any) -> str:
    """Return a number, text, boolean, date or list as TOML."""
    if value is None:
        return "inf"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(to_toml_value, value))}]"
    # TOML has the escapes of JSON, and also requires one for DEL.
    return json.dumps(value, ensure_ascii=False, default=str).replace("\x7f", "\\u007f")


def with_settings(
    table: str, settings_type: type, names: Sequence[str] = (), **spelled: str
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the flags `--recipe`, `--set` and one for each field of a table to a command.

    The command takes a parameter `settings`, the dataclass: its defaults, overridden by the recipe, then
    `--set`, then the flags. The help of a flag is the description of its field. If the command has a
    parameter `recipe`, it gets the recipe itself.

    Args:    names: the fields with a flag; all by default.
             spelled: flags that are not named like their field, such as sources="--source".
    Raises:  RecipeError, from the command, for a wrong recipe or value.
    """
    own = {one.name: one for one in fields(settings_type) if not names or one.name in names}
    hints = get_type_hints(settings_type, include_extras=True)

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def run(recipe: str | None, overrides: list[str] | None, **arguments: Any) -> Any:
            loaded = load_recipe(recipe, overrides or [], (table,))
            values = loaded.tables.setdefault(table, {})
            for name in own:
                value = arguments.pop(name)
                if value is not None and _is_list_of_numbers(plain_type(hints[name])):
                    parts = value.split(",") if value else []
                    value = [int(part) if part.strip().isdecimal() else part for part in parts]
                if value is not None:
                    values[name] = value
            if "recipe" in signature.parameters:
                arguments["recipe"] = loaded
            return command(settings=loaded.settings(table, settings_type), **arguments)

        signature = inspect.signature(command, eval_str=True)
        parameters = [one for one in signature.parameters.values() if one.name not in ("settings", "recipe")]
        parameters += [_parameter(own[name], hints[name], spelled.get(name)) for name in own]
        parameters += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=None)
            for name, annotation in (("recipe", _RECIPE), ("overrides", Overrides))
        ]
        keyword = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
        return with_parameters(run, keyword)

    return decorate


def json_text(document: Any) -> str:
    """Return what a command with `--json` prints."""
    return orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS).decode()


def command_group(text: str) -> typer.Typer:
    """Return a group of commands, which prints its help if it is called by its name alone."""

    def print_help(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            typer.echo(context.get_help())

    return typer.Typer(rich_markup_mode=None, invoke_without_command=True, callback=print_help, help=text)


def with_parameters(
    command: Callable[..., Any], parameters: Sequence[inspect.Parameter]
) -> Callable[..., Any]:
    """Give a function other parameters, which Typer turns into flags; return it."""
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    return command


def _parameter(field: dataclasses.Field[Any], hint: Any, flag: str | None) -> inspect.Parameter:
    """Return the parameter of a command for a field; its default is None, for a flag that is not given."""
    kind = plain_type(hint)
    # Typer has closed limits only; an open limit of integers can be written as a closed one.
    limits: dict[str, Any] = {}
    for bound in (bound for one in _facts(hint) for bound in one.metadata):
        if isinstance(bound, Ge):
            limits["min"] = bound.ge
        elif isinstance(bound, Gt) and isinstance(bound.gt, int):
            limits["min"] = bound.gt + 1
        elif isinstance(bound, Le):
            limits["max"] = bound.le
    name = flag or f"--{field.name.replace('_', '-')}"
    default = field.default if field.default is not dataclasses.MISSING else field.default_factory()  # type: ignore[operator]
    shown = str(default).lower() if kind is bool else default
    option = typer.Option(
        *([name, f"--no-{name[2:]}"] if kind is bool else [name]),
        help=description(hint)
        + (f" Default: {shown}." if default not in ("", [], None) else ""),
        **limits,
    )  # fmt: skip
    if _is_list_of_numbers(kind):
        option.metavar, kind = "N,N,...", str
    elif get_origin(kind) is list:
        option.metavar = "<str>"
    elif type(None) in get_args(kind):
        option.metavar, option.parser, kind = "N|inf", _number_or_inf, int
    elif get_origin(kind) is Literal and isinstance(get_args(kind)[0], int):
        kind = int
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[kind | None, option], default=None
    )


def plain_type(hint: Any) -> Any:
    """Return a type without its annotations."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _facts(hint: Any) -> list[FieldInfo]:
    return [one for one in get_args(hint) if isinstance(one, FieldInfo)]


def description(hint: Any) -> str:
    """Return the description in the annotated type of a field."""
    return " ".join(one.description for one in _facts(hint) if one.description)


def _is_list_of_numbers(kind: Any) -> bool:
    return get_origin(kind) is list and get_args(kind)[0] is not str


def _number_or_inf(text: str) -> float:
    """Return the value of a setting that may have no limit: inf, as in TOML, becomes null in JSON."""
    if text != "inf" and not text.isdecimal():
        raise typer.BadParameter(f"expected a number or inf, found {text!r}")
    return float(text) if text == "inf" else int(text)
