"""`arcpipe recipe ...`: list, show, check and compare recipes."""

from dataclasses import fields
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from arcpipe.errors import RecipeError
from arcpipe.log import fact_line, say_next
from arcpipe.recipe import (
    TABLES,
    Json,
    Overrides,
    Recipe,
    as_tables,
    command_group,
    description,
    json_text,
    load_recipe,
    plain_type,
    recipe_changes,
    recipe_names,
    recipe_summary,
    to_toml,
    to_toml_value,
)

app = command_group("The settings of a training: list, show, check or compare recipes.")

_Recipe = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A recipe's name, a .toml file, or a run folder.")
]


@app.command("list")
def list_recipes(as_json: Json = False) -> None:
    """List the recipes that come with arcpipe, and what each is for.

    Example: arcpipe recipe list
    """
    summaries = {name: recipe_summary(name) for name in recipe_names()}
    if as_json:
        typer.echo(json_text(summaries))
        return
    width = max(map(len, summaries)) + 2
    for name, summary in summaries.items():
        typer.echo(fact_line(name, summary, width))


@app.command()
def show(source: _Recipe, overrides: Overrides = None, as_json: Json = False) -> None:
    """Print a recipe with all its settings.

    Defaults and what it extends included; the output is a recipe again.

    Example: arcpipe recipe show arc-agi-1 --set train.batch_size=96 > mine.toml
    """
    recipe = load_recipe(source, overrides or [])
    tables = as_tables(recipe.resolve(_types(recipe)))
    if as_json:
        typer.echo(json_text({"recipe": source, "extends": recipe.bases, **tables}))
        return
    extends = f", which extends {', '.join(recipe.bases)}" if recipe.bases else ""
    typer.echo(f"# {source}{extends}: all settings.\n\n{to_toml(tables)}", nl=False)


@app.command()
def check(source: _Recipe, as_json: Json = False) -> None:
    """Check a recipe: all problems, and exit code 2.

    A problem is an unknown table or key, or a wrong value; each has a line.

    Example: arcpipe recipe check mine.toml
    """
    try:
        recipe = load_recipe(source)
    except RecipeError as error:
        problems = [str(error)]
    else:
        types = _types(recipe)
        _, problems = recipe.examine(types)
        unread = [name for name in TABLES if name in recipe.tables and name not in types]
        problems += [f"[{name}]: no command reads this table" for name in unread]
    if as_json:
        typer.echo(json_text({"recipe": source, "valid": not problems, "problems": problems}))
    elif not problems:
        nothing_set = "" if any(recipe.tables.values()) else "; nothing is set, so all are defaults"
        typer.echo(f"{source}: valid{nothing_set}")
        say_next("recipe", "show", source)
    for problem in problems:
        typer.echo(problem, err=True)
    if problems:
        raise typer.Exit(2)


@app.command()
def diff(first: _Recipe, second: _Recipe, as_json: Json = False) -> None:
    """Print what differs between two recipes.

    A setting a line, defaults and what they extend included.

    Example: arcpipe recipe diff arc-agi-1 arc-agi-2
    """
    recipes = [load_recipe(source) for source in (first, second)]
    before, after = (as_tables(recipe.resolve(_types(recipe))) for recipe in recipes)
    shared = {name: table for name, table in after.items() if name in before}
    alone = sorted(before.keys() ^ after.keys())
    if as_json:
        changes = {
            f"{name}.{key}": [before[name][key], value]
            for name, table in shared.items()
            for key, value in table.items()
            if before[name][key] != value
        }
        typer.echo(json_text({"first": first, "second": second, "changes": changes, "tables_of_one": alone}))
        return
    for change in recipe_changes(before, shared):
        typer.echo(change)
    for name in alone:
        typer.echo(f"[{name}]: only in {first if name in before else second}")
    if before == after:
        typer.echo(f"{first} and {second} have the same settings")


@app.command()
def settings(
    table: Annotated[str | None, typer.Argument(help="A table, such as train. Default: all.")] = None,
) -> None:
    """Print every setting of a recipe as Markdown: its default, its values, its meaning.

    Example: arcpipe recipe settings train
    """
    types = settings_types()
    if table is not None and table not in types:
        raise RecipeError(f"[{table}]: no table of settings; there are {', '.join(types)}")
    texts = []
    for name in [table] if table else types:
        kind = types[name]
        # A field that only overrides a default has its description in the base class.
        described = [get_type_hints(base, include_extras=True) for base in kind.__mro__[:-1]]
        defaults = as_tables({name: kind()})[name]
        lines = [f"### [{name}]", "", "| Setting | Default | Values | |", "|---|---|---|---|"]
        for one in fields(kind):
            hints = [known[one.name] for known in described if one.name in known]
            meaning = next(filter(None, map(description, hints)), "")
            default = to_toml_value(defaults[one.name])
            lines.append(f"| `{one.name}` | `{default}` | {_values(hints[0])} | {meaning} |")
        texts.append("\n".join(lines))
    typer.echo("\n\n".join(texts))


def settings_types() -> dict[str, type]:
    """Return the dataclass of each table of a recipe; for [data], the one of ARC."""
    # Not at the top: some load numpy and pyarrow, which `recipe list` and `recipe --help` do without.
    from arcpipe.augment.forms import DataSettings
    from arcpipe.infer.config import InferSettings
    from arcpipe.kaggle_kernels.clock import KaggleSettings
    from arcpipe.model_config import TRMConfig
    from arcpipe.train.config import AdaptSettings, EvalSettings, TrainSettings

    return {
        "data": DataSettings, "model": TRMConfig, "train": TrainSettings, "eval": EvalSettings,
        "adapt": AdaptSettings, "infer": InferSettings, "kaggle": KaggleSettings,
    }  # fmt: skip


def _values(hint: Any) -> str:
    """Return a text for the values of a setting."""
    kind = plain_type(hint)
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    if get_origin(kind) is list:
        return "list"
    if type(None) in get_args(kind):
        return "integer or `inf`"
    names = {int: "integer", float: "number", str: "text", bool: "`true`, `false`"}
    return names.get(kind, "integer or `auto`")


def _types(recipe: Recipe) -> dict[str, type]:
    """Return the dataclass of each table that a command reads.

    For a recipe of training these are its own tables and any others in it; for an entry to Kaggle, three.
    """
    settings = settings_types()
    if "kaggle" in recipe.tables and not {"model", "train"} & recipe.tables.keys():
        return {name: settings[name] for name in ("adapt", "infer", "kaggle")}
    training = ("model", "train", "infer")
    types = {name: kind for name, kind in settings.items() if name in recipe.tables or name in training}
    if "data" in types:
        from arcpipe.augment.maze import MazeSettings
        from arcpipe.augment.puzzles import BoardSettings
        from arcpipe.augment.sudoku import SudokuSettings

        # The table does not name its kind of puzzle: take the one with the fewest unknown keys and problems.
        keys = recipe.tables["data"].keys()
        misfits = {
            kind: (len(keys - {one.name for one in fields(kind)}), len(recipe.examine({"data": kind})[1]))
            for kind in (settings["data"], BoardSettings, SudokuSettings, MazeSettings)
        }
        types["data"] = min(misfits, key=misfits.__getitem__)
    return types
