"""`arcpipe train` and `arcpipe adapt`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from arcpipe.puzzleset import PuzzleSet
    from arcpipe.train.config import EvalSettings
    from arcpipe.train.job import Evaluator, TrainResult

_FROM_STEP = (
    "With --resume: go on from the checkpoint of this step; later ones are kept beside it, as step-N.aside."
)


def train(
    recipe: Annotated[
        str, typer.Argument(help="A recipe's name, a .toml file, or a run folder whose recipe to take.")
    ],
    data: Annotated[Path, typer.Option(help="The dataset folder to train on.")],
    out: Annotated[Path, typer.Option(help="The run folder to make, or to go on with.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest whole checkpoint in --out.")
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
    init: Annotated[
        Path | None,
        typer.Option(
            help="Begin from this checkpoint: its averaged weights, its rows for puzzles that it knows and "
            "their mean for others."
        ),
    ] = None,
    from_step: Annotated[int | None, typer.Option(min=1, help=_FROM_STEP)] = None,
    force: Annotated[
        bool, typer.Option("--force", help="With --resume: go on although the recipe has changed.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Write nothing; say how large and how long it would be, from a few steps."
        ),
    ] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Override a setting of the recipe."),
    ] = None,
) -> None:
    """Train on a dataset folder, in one process or under `accelerate launch -m arcpipe train ...`.

    Ctrl-C saves a checkpoint; --resume goes on from it as if nothing had happened. With --set eval.every=N
    the model is evaluated every N steps, and the best checkpoint is kept.

    Example: arcpipe train quickstart --data runs/data --out runs/first --set train.lr=1e-3
    """
    from arcpipe.recipe import as_tables, load_recipe

    _refuse_lone_step(from_step, resume)
    seeded = [] if seed is None else [f"train.seed={seed}"]
    # Before torch is imported, so that a misspelled recipe is refused at once.
    chosen = load_recipe(recipe, [*(overrides or []), *seeded], read=("model", "train", "eval"))

    from arcpipe.log import is_first_rank
    from arcpipe.puzzleset import read_puzzle_set
    from arcpipe.train.config import EvalSettings, TrainSettings
    from arcpipe.train.dry_run import dry_run_text
    from arcpipe.train.job import TrainJob
    from arcpipe.train.trainer import train as run_training
    from arcpipe.trm import TRMConfig

    tables = chosen.resolve({"model": TRMConfig, "train": TrainSettings, "eval": EvalSettings})
    puzzles = read_puzzle_set(data)
    job = TrainJob(
        puzzles=puzzles,
        data_dir=data,
        config=tables["model"],
        settings=tables["train"],
        recipe=as_tables(tables),
        out=out,
        evaluation=tables["eval"],
        evaluator=_evaluator(puzzles, data, tables["eval"]),
        init=init,
        resume=resume,
        from_step=from_step,
        force=force,
        stop_at=steps,
        max_minutes=max_minutes,
    )
    if dry_run:
        text = dry_run_text(job)
        if is_first_rank():
            typer.echo(text)
        return
    result = run_training(job)
    _tell_unfinished(result)
    if is_first_rank():
        typer.echo(f"{result.checkpoint}: step {result.step}")


def adapt(
    checkpoint: Annotated[
        Path, typer.Option(help="The checkpoint to go on from; its trunk is enough (no rows, no trainer).")
    ],
    challenges: Annotated[
        str, typer.Option(metavar="FILE", help="The challenges file whose tasks to learn; or another source.")
    ],
    out: Annotated[
        Path, typer.Option(help="The run folder to make, with the dataset in it, or to go on with.")
    ],
    recipe: Annotated[
        str | None, typer.Option(help="A recipe with a table [adapt]. Default: the defaults of that table.")
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option(min=0, help="End after this time, the schedule hastened to fit it.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="End after this optimizer step; the schedule stays as it is.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest whole checkpoint in --out.")
    ] = False,
    from_step: Annotated[int | None, typer.Option(min=1, help=_FROM_STEP)] = None,
    force: Annotated[
        bool, typer.Option("--force", help="With --resume: go on although the recipe has changed.")
    ] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="The same as --set adapt.seed=N.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Override a setting of the recipe."),
    ] = None,
) -> None:
    """Train a checkpoint on the demonstrations of new ARC tasks, so that it has puzzle rows for them.

    New rows begin at the mean of the trained ones and learn alone for the first quarter; tasks that the
    checkpoint knows keep their rows. A demonstration whose input is a test input of another of the tasks,
    turned, flipped or recolored too, does not train: the log names it.
    Then: arcpipe infer --checkpoint RUN --data RUN/data --out DIR

    Example: arcpipe adapt --checkpoint runs/trm --challenges arc-agi_test_challenges.json --out runs/adapted
    --max-minutes 60
    """
    from arcpipe.recipe import Recipe, load_recipe, read_overrides

    _refuse_lone_step(from_step, resume)
    seeded = [] if seed is None else [f"adapt.seed={seed}"]
    changes = [*(overrides or []), *seeded]
    if recipe is None:
        chosen = Recipe("of --set alone", read_overrides(changes, ("adapt",)))
    else:
        chosen = load_recipe(recipe, changes, read=("adapt",))

    from arcpipe.augment.build import DataSettings, build_arc
    from arcpipe.augment.sources import read_source
    from arcpipe.augment.split import report_overlaps
    from arcpipe.log import is_first_rank, logger, start_logging
    from arcpipe.train.adapt import AdaptJob
    from arcpipe.train.adapt import adapt as run_adaptation
    from arcpipe.train.config import AdaptSettings

    start_logging()
    settings = chosen.settings("adapt", AdaptSettings)

    def build(folder: Path, canvas: int) -> None:
        data = DataSettings(
            sources=[challenges], num_aug=settings.num_aug, canvas=canvas, max_side=canvas,
            extend=str(checkpoint), seed=settings.seed,
        )  # fmt: skip
        built = build_arc(data, folder)
        logger.info(
            "%d of %d tasks fit the checkpoint's canvas of %d, %d of them known to it: %d puzzles",
            built.tasks, len(read_source(challenges).tasks), canvas, built.known, built.puzzles,
        )  # fmt: skip
        for line in report_overlaps(built.overlaps, built.untrained, test_set="", exclude_overlap=False):
            logger.info("%s", line)

    job = AdaptJob(checkpoint, settings, out, resume, from_step, force, steps, max_minutes)
    result = run_adaptation(job, build)
    _tell_unfinished(result)
    if is_first_rank():
        typer.echo(f"{result.checkpoint}: step {result.step}; the dataset: {out / 'data'}")


def _refuse_lone_step(from_step: int | None, resume: bool) -> None:
    from arcpipe.errors import ArcpipeError

    if from_step is not None and not resume:
        raise ArcpipeError("--from-step goes with --resume")


def _tell_unfinished(result: "TrainResult") -> None:
    """Say how to go on with a training that has steps left."""
    from arcpipe.log import logger

    if result.unfinished:
        more = "" if result.interrupted else " and more --max-minutes"
        logger.info("go on with --resume%s", more)


def _evaluator(puzzles: "PuzzleSet", data: Path, settings: "EvalSettings") -> "Evaluator | None":
    """What evaluates the model in training, if the recipe says that anything does."""
    if not settings.every and not settings.every_minutes:
        return None

    from arcpipe.infer.in_training import InTraining
    from arcpipe.infer.predict import InferSettings

    wanted = InferSettings(max_steps=settings.max_steps, batch_size=settings.batch_size, votes=settings.votes)
    return InTraining(puzzles, data, wanted, tests=settings.tests, max_minutes=settings.max_minutes)
