"""`arcpipe train` and `arcpipe adapt`."""

from pathlib import Path
from typing import Annotated

import typer

from arcpipe.errors import ArcpipeError
from arcpipe.log import command_line, hints, is_first_rank, say_next
from arcpipe.model_config import TRMConfig
from arcpipe.processes import Clock, with_processes
from arcpipe.puzzleset import has_tests, read_puzzle_set
from arcpipe.recipe import Overrides, as_tables, load_recipe, with_settings
from arcpipe.runs import read_manifest, refuse_existing
from arcpipe.train.config import RUN_EXISTS, AdaptSettings, EvalSettings, TrainResult, TrainSettings

_Resume = Annotated[bool, typer.Option("--resume", help="Go on from the newest whole checkpoint in --out.")]
_FromStep = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="With --resume: go on from the checkpoint of this step; later ones are kept beside it, as "
        "step-N.aside.",
    ),
]
_Force = Annotated[
    bool, typer.Option("--force", help="With --resume: go on although the recipe has changed.")
]
_Steps = Annotated[
    int | None, typer.Option(min=1, help="End after this optimizer step; the schedule stays as it is.")
]
_MaxMinutes = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="End this command after this time, with all that it does: compiling, the last evaluation and "
        "saving too. The schedule is hastened to fit it.",
    ),
]

_DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Write nothing; say how large and how long it would be, from a small batch."
    ),
]


@with_processes(together=True)
def train(
    recipe: Annotated[
        str, typer.Argument(help="A recipe's name, a .toml file, or a run folder whose recipe to take.")
    ],
    data: Annotated[Path, typer.Option(help="The dataset folder to train on.")],
    out: Annotated[
        Path | None, typer.Option(help="The run folder to make, or to go on with; a dry run needs none.")
    ] = None,
    resume: _Resume = False,
    steps: _Steps = None,
    max_minutes: _MaxMinutes = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The same as --set train.seed=N.")] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            help="Begin from this checkpoint: its averaged weights, its rows for puzzles that it knows and "
            "their mean for others."
        ),
    ] = None,
    from_step: _FromStep = None,
    force: _Force = False,
    dry_run: _DryRun = False,
    overrides: Overrides = None,
) -> TrainResult | float:
    """Train on a dataset folder, in one process or with --processes N.

    Ctrl-C saves a checkpoint; --resume goes on from it as if nothing had happened. With --set eval.every=N
    the model is evaluated every N steps, and the best checkpoint is kept.

    Example: arcpipe train quickstart --data runs/data --out runs/first --set train.lr=1e-3
    """
    _refuse_lone_step(from_step, resume)
    out = _checked_out(out, resume, dry_run)
    read_manifest(data, "dataset")
    types = {"model": TRMConfig, "train": TrainSettings, "eval": EvalSettings}
    overrides = [*(overrides or []), *([] if seed is None else [f"train.seed={seed}"])]
    tables = load_recipe(recipe, overrides, read=tuple(types), needed="train").resolve(types)
    clock, puzzles = Clock(max_minutes), read_puzzle_set(data)
    # Here and below not at the top: they load torch, which takes seconds.
    from arcpipe.train.dry_run import dry_run as run_dry
    from arcpipe.train.run import TrainRun
    from arcpipe.train.trainer import train as train_run

    run = TrainRun(
        puzzles=puzzles, data_dir=data, config=tables["model"], settings=tables["train"],
        recipe=as_tables(tables), out=out, evaluation=tables["eval"], init=init,
        folder="resumed" if resume else "new", from_step=from_step, force=force, stop_at=steps,
        clock=clock,
    )  # fmt: skip
    if dry_run:
        # The samples/s, for --processes auto.
        return run_dry(run, recipe, typer.echo if is_first_rank() else lambda _: None)
    result = train_run(run)
    resuming = ("train", out, "--data", data, "--out", out)
    _tell_result(result, out, data, resuming, steps)
    # For the quickstart, which stops if the training was interrupted.
    return result


@with_processes(together=True)
@with_settings("adapt", AdaptSettings, names=("seed",))
def adapt(
    settings: AdaptSettings,
    checkpoint: Annotated[
        Path, typer.Option(help="The checkpoint to go on from; its trunk is enough (no rows, no trainer).")
    ],
    challenges: Annotated[
        str, typer.Option(metavar="FILE", help="The challenges file whose tasks to learn; or another source.")
    ],
    out: Annotated[
        Path, typer.Option(help="The run folder to make, with the dataset in it, or to go on with.")
    ],
    max_minutes: _MaxMinutes = None,
    steps: _Steps = None,
    resume: _Resume = False,
    from_step: _FromStep = None,
    force: _Force = False,
) -> None:
    """Train a checkpoint on the demonstrations of new ARC tasks, so that it has puzzle rows for them.

    New rows begin at the mean of the trained ones and learn alone for the first quarter; tasks that the
    checkpoint knows keep their rows. All demonstrations train; the log names those whose input is a test
    input of another of the tasks, turned, flipped or recolored too.

    Example: arcpipe adapt --checkpoint runs/trm --challenges arc-agi_test_challenges.json --out runs/adapted
    --max-minutes 60
    """
    _refuse_lone_step(from_step, resume)
    clock = Clock(max_minutes)
    from arcpipe.train.adapt import DATA
    from arcpipe.train.adapt import adapt as adapt_checkpoint

    result = adapt_checkpoint(
        checkpoint, challenges, settings, out, resume=resume, from_step=from_step, force=force, stop_at=steps,
        clock=clock,
    )  # fmt: skip
    resuming = (
        "adapt", "--recipe", out, "--checkpoint", checkpoint, "--challenges", challenges, "--out", out,
    )  # fmt: skip
    _tell_result(result, out, out / DATA, resuming, steps, f"; the dataset: {out / DATA}")


def _refuse_lone_step(from_step: int | None, resume: bool) -> None:
    if from_step is not None and not resume:
        raise ArcpipeError("--from-step goes with --resume")


def _checked_out(out: Path | None, resume: bool, dry_run: bool) -> Path:
    """Return the run folder, any path for a dry run; ArcpipeError if it is missing or may not exist yet."""
    if out is None and (resume or not dry_run):
        raise ArcpipeError("--out is missing: name the run folder to make, or to go on with")
    if out is not None and not (resume or dry_run):
        refuse_existing(out, RUN_EXISTS)
    # A dry run does not use it.
    return out or Path()


def _tell_result(
    result: TrainResult, out: Path, data: Path, resuming: tuple[object, ...], steps: int | None,
    more: str = "",
) -> None:  # fmt: skip
    """Print the checkpoint; suggest the next command, which resumes if a signal ended the training.

    Args:    resuming: the command that resumes, without --resume and --steps.
    """
    resuming += ("--resume", *(() if steps is None else ("--steps", steps)))
    if result.unfinished and not result.interrupted:
        hints.info("go on with --resume: %s", command_line(*resuming))
    if is_first_rank():
        typer.echo(f"{result.checkpoint}: step {result.step}{more}")
    if result.interrupted:
        say_next(*resuming)
    elif has_tests(data):
        say_next("infer", "--checkpoint", out, "--data", data, "--out", f"{out}-predictions")
