"""Flags of a command from the settings that it reads: each is declared once, in its dataclass."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, fields
from functools import wraps
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer
from annotated_types import Ge, Gt, Le
from pydantic.fields import FieldInfo

from arcpipe.recipe import Recipe, load_recipe, read_overrides

_RECIPE = Annotated[
    str | None,
    typer.Option("--recipe", help="A recipe's name, a .toml file, or a run folder: its table is taken."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Override a setting of the recipe."),
]
"""The flag of a command that reads a recipe."""


def with_settings(
    table: str, settings_type: type, names: Sequence[str] = (), **spelled: str
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the flags `--recipe`, `--set` and one for each setting of a table, or for some.

    The command has a parameter `settings`: the dataclass, made from its defaults, the recipe, the overrides
    and the flags, each before the next. A flag's help is the description of the field. A parameter `recipe`
    is the recipe itself.

    Args:    names: the fields that have a flag of their own; all by default.
             spelled: the flags of fields whose flag is not their name, such as sources="--source".
    Raises:  RecipeError, from the command, for a recipe or value that is wrong.
    """
    own = {one.name: one for one in fields(settings_type) if not names or one.name in names}
    hints = get_type_hints(settings_type, include_extras=True)

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def run(recipe: str | None, overrides: list[str] | None, **arguments: Any) -> Any:
            flags = {name: arguments.pop(name) for name in own}
            of_recipe = read_recipe(recipe, overrides or [], (table,))
            values = of_recipe.tables.setdefault(table, {})
            for name, value in flags.items():
                if value is not None and _is_list_of_numbers(_kind(hints[name])):
                    parts = [part for part in value.split(",") if value]
                    values[name] = [int(part) if part.strip().isdecimal() else part for part in parts]
                elif value is not None:
                    values[name] = value
            if "recipe" in signature.parameters:
                arguments["recipe"] = of_recipe
            return command(settings=of_recipe.settings(table, settings_type), **arguments)

        signature = inspect.signature(command, eval_str=True)
        parameters = [one for one in signature.parameters.values() if one.name not in ("settings", "recipe")]
        parameters += [_parameter(own[name], hints[name], spelled.get(name)) for name in own]
        parameters += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=None)
            for name, annotation in (("recipe", _RECIPE), ("overrides", Overrides))
        ]
        keyword = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
        run.__signature__ = signature.replace(parameters=keyword)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in keyword}
        return run

    return decorate


def read_recipe(recipe: str | None, overrides: Sequence[str], read: Sequence[str]) -> Recipe:
    """Return a recipe with overrides applied; of overrides alone if no recipe is named."""
    if recipe is None:
        return Recipe("of the command line", read_overrides(overrides, read))
    return load_recipe(recipe, overrides, read)


def _parameter(field: "Field[Any]", hint: Any, flag: str | None) -> inspect.Parameter:
    """The parameter of a command for a field, which is None where the flag is not given."""
    kind = _kind(hint)
    facts = _facts(hint)
    name = flag or f"--{field.name.replace('_', '-')}"
    default = field.default if field.default is not MISSING else field.default_factory()  # type: ignore[operator]
    shown = str(default).lower() if kind is bool else default
    option = typer.Option(
        *([name, f"--no-{name[2:]}"] if kind is bool else [name]),
        help=description(hint)
        + (f" Default: {shown}." if default not in ("", [], None) else ""),
        **_bounds([bound for one in facts for bound in one.metadata]),
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


def _kind(hint: Any) -> Any:
    """A type without what annotates it."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _facts(hint: Any) -> list[FieldInfo]:
    return [one for one in get_args(hint) if isinstance(one, FieldInfo)]


def description(hint: Any) -> str:
    """Return what the annotated type of a field says of it."""
    return " ".join(one.description for one in _facts(hint) if one.description)


def _bounds(bounds: Sequence[Any]) -> dict[str, Any]:
    """Limits of a field as typer has them; it knows no open ones but for integers."""
    lowest = [bound.ge for bound in bounds if isinstance(bound, Ge)]
    lowest += [bound.gt + 1 for bound in bounds if isinstance(bound, Gt) and isinstance(bound.gt, int)]
    highest = [bound.le for bound in bounds if isinstance(bound, Le)]
    return {name: limits[0] for name, limits in (("min", lowest), ("max", highest)) if limits}


def _is_list_of_numbers(kind: Any) -> bool:
    return get_origin(kind) is list and get_args(kind)[0] is not str


def _number_or_inf(text: str) -> float:
    """The value of a setting that is None without a limit: as in TOML, inf, which JSON has as null."""
    if text != "inf" and not text.isdecimal():
        raise typer.BadParameter(f"expected a number or inf, found {text!r}")
    return float(text) if text == "inf" else int(text)
