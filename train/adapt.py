"""Adaptation: fine-tune a checkpoint on the demonstrations of the tasks of one challenges file.

Source:  test-time training of arXiv 2511.02886 (McGovern) and of NVARC's entry to ARC Prize 2025: new rows
         begin at the mean of the trained ones; at first they learn alone, then all weights do.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from arcpipe.augment.build import build_arc, report_overlaps
from arcpipe.augment.forms import DataSettings
from arcpipe.augment.sources import fitting, read_source
from arcpipe.checkpoint import load_checkpoint
from arcpipe.codec import ARC
from arcpipe.errors import ArcpipeError, CheckpointError, DataError
from arcpipe.log import logger, start_logging
from arcpipe.processes import Clock
from arcpipe.puzzleset import read_puzzle_set
from arcpipe.recipe import as_tables
from arcpipe.runs import known_json, make_manifest, new_folder, read_manifest, refuse_existing
from arcpipe.task import challenges_json
from arcpipe.train.config import RUN_EXISTS, AdaptSettings, TrainResult
from arcpipe.train.distributed import explain_failures, make_accelerator, run_on_main
from arcpipe.train.run import TrainRun
from arcpipe.train.trainer import LOG_FILE, train

DATA = "data"
"""The dataset folder inside the run folder of an adaptation."""


def adapt(
    checkpoint_path: Path, challenges: str, settings: AdaptSettings, out: Path, *, resume: bool,
    from_step: int | None, force: bool, stop_at: int | None, clock: Clock,
) -> TrainResult:  # fmt: skip
    """Train a checkpoint on the tasks of a source, in a run folder that holds their dataset.

    Args:    challenges: the source. from_step, force, stop_at, clock: as in `TrainRun`.
    Raises:  CheckpointError if the checkpoint is not for ARC tasks; DataError if a run that is resumed is of
             other tasks; the errors of `build_arc` and `train`.
    """
    start_logging()
    checkpoint = load_checkpoint(checkpoint_path)
    if checkpoint.family != ARC.name:
        raise CheckpointError(f"{checkpoint.path}: is for {checkpoint.family} puzzles, not for ARC tasks")
    if settings.loss == "trained":
        settings = replace(settings, loss=checkpoint.loss)  # type: ignore[arg-type]
    if settings.precision == "trained":
        settings = replace(settings, precision=checkpoint.precision)  # type: ignore[arg-type]
    if checkpoint.config.flow:
        settings = replace(settings, objective="flow")
    config = replace(
        checkpoint.config,
        max_steps=settings.max_steps or checkpoint.config.max_steps,
        outer_cycles=settings.outer_cycles or checkpoint.config.outer_cycles,
    )
    recipe = as_tables({"model": config, "adapt": settings})
    data = DataSettings(
        sources=[challenges],
        num_aug=None if config.embedding == "task" else settings.num_aug,
        canvas=checkpoint.canvas,
        max_side=checkpoint.canvas,
        extend=str(checkpoint_path),
        seed=settings.seed,
    )
    accelerator = make_accelerator(settings)
    with explain_failures():
        if resume:
            run_on_main(lambda: _refuse_other_tasks(out, data), accelerator)
        else:
            run_on_main(lambda: _make_folder(out, data, recipe), accelerator)
    try:
        return train(
            TrainRun(
                puzzles=read_puzzle_set(out / DATA), data_dir=out / DATA, config=config, settings=settings,
                recipe=recipe, out=out, init=checkpoint_path, folder="resumed" if resume else "made",
                from_step=from_step, force=force, stop_at=stop_at, clock=clock,
            )
        )  # fmt: skip
    except ArcpipeError:
        # What was refused before it began leaves no folder, which would be in the way of another try.
        if not resume and accelerator.is_main_process and not (out / LOG_FILE).exists():
            shutil.rmtree(out, ignore_errors=True)
        raise


def _refuse_other_tasks(out: Path, settings: DataSettings) -> None:
    """Raise DataError if the tasks of the source are not those of the dataset in the run folder."""
    side, (source,) = read_manifest(out / DATA, "dataset")["canvas"], settings.sources
    fit = [task for task in fitting(read_source(source, settings).tasks, side) if task.tests]
    now, before = challenges_json(fit), known_json(out / DATA / "challenges.json")
    names = now.keys() | before.keys()
    if others := sorted(name for name in names if now.get(name) != before.get(name)):
        raise DataError(
            f"{source}: its tasks are not those that {out} adapts to, {len(others)} of {len(names)} differ, "
            f"such as {others[0]}: name the source that it began with, or adapt to this one in another --out"
        )


def _make_folder(out: Path, settings: DataSettings, recipe: dict[str, Any]) -> None:
    """Make the run folder with the dataset in it, both at once or neither."""
    refuse_existing(out, RUN_EXISTS)
    manifest = make_manifest("run", recipe=recipe, seed=settings.seed, init=settings.extend)
    with new_folder(out, manifest) as folder:
        # The challenges show these demonstrations to every solver, and one may be the only one of its task.
        built = build_arc(settings, folder / DATA, keep_demonstrations=True)
        fingerprint = read_manifest(folder / DATA, "dataset")["fingerprint"]
        manifest["dataset"] = {"path": str(out / DATA), "fingerprint": fingerprint}
    logger.info(
        "%d of %d tasks fit the checkpoint's canvas of %d, %d of them known to it: %d puzzles",
        built.tasks, built.sources[0].tasks, settings.canvas, built.known, built.puzzles,
    )  # fmt: skip
    for line in report_overlaps(built, settings, keep_demonstrations=True):
        logger.info("%s", line)
