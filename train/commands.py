"""`arcpipe train`."""

from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[
        str, typer.Argument(help="A recipe's name, a .toml file, or a run folder whose recipe to take.")
    ],
    data: Annotated[Path, typer.Option(help="The dataset folder to train on.")],
    out: Annotated[Path, typer.Option(help="The run folder to make, or to go on with.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint in --out.")
    ] = False,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="End after this optimizer step; the schedule stays train.steps long."),
    ] = None,
    max_minutes: Annotated[
        float | None,
        typer.Option(
            min=0, help="End after this time, resumed parts included, the schedule hastened to fit it."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The same as --set train.seed=N.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Override a setting of the recipe."),
    ] = None,
) -> None:
    """Train on a dataset folder, in one process or under `accelerate launch -m arcpipe train ...`.

    Ctrl-C saves a checkpoint; --resume goes on from it as if nothing had happened.

    Example: arcpipe train quickstart --data runs/data --out runs/first --set train.lr=1e-3
    """
    from dataclasses import asdict

    from arcpipe.recipe import load_recipe

    seeded = [] if seed is None else [f"train.seed={seed}"]
    # Before torch is imported, so that a misspelled recipe is refused at once.
    chosen = load_recipe(recipe, [*(overrides or []), *seeded], read=("model", "train"))

    from arcpipe.log import is_first_rank, logger
    from arcpipe.puzzleset import read_puzzle_set
    from arcpipe.train.loop import TrainJob
    from arcpipe.train.loop import train as run_training
    from arcpipe.train.settings import TrainSettings
    from arcpipe.trm import TRMConfig

    tables = chosen.resolve({"model": TRMConfig, "train": TrainSettings})
    job = TrainJob(
        puzzles=read_puzzle_set(data),
        data_dir=data,
        config=tables["model"],
        settings=tables["train"],
        recipe={name: asdict(table) for name, table in tables.items()},
        out=out,
        resume=resume,
        stop_at=steps,
        max_minutes=max_minutes,
    )
    result = run_training(job)
    if result.unfinished:
        more = "" if result.interrupted else " and more --max-minutes"
        logger.info("go on with --resume%s", more)
    if is_first_rank():
        typer.echo(f"{result.checkpoint}: step {result.step}")
