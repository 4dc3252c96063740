"""Adaptation: go on training a checkpoint on the demonstrations of the tasks of one challenges file.

Source:  test-time training of arXiv 2511.02886 (McGovern) and of NVARC's entry to ARC Prize 2025: new rows
         begin at the mean of the trained ones and learn alone at first, then everything does.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from arcpipe.augment.build import DataSettings, build_arc
from arcpipe.augment.sources import read_source
from arcpipe.augment.split import report_overlaps
from arcpipe.checkpoint import Checkpoint, load_checkpoint
from arcpipe.codec import ARC
from arcpipe.errors import CheckpointError
from arcpipe.log import logger, start_logging
from arcpipe.puzzleset import read_puzzle_set
from arcpipe.recipe import as_tables
from arcpipe.runs import make_manifest, new_folder, read_manifest, refuse_existing
from arcpipe.train.config import AdaptSettings, TrainResult, TrainRun
from arcpipe.train.distributed import first_does, make_accelerator, naming_lost_processes
from arcpipe.train.trainer import RUN_EXISTS, train

DATA = "data"
"""The dataset folder inside the run folder of an adaptation."""


@dataclass(frozen=True)
class Adaptation:
    """Which checkpoint to adapt, how, for how long, and where to.

    checkpoint: the checkpoint to begin from.
    challenges: the source of the tasks to learn.
    settings: the table [adapt].
    out: the run folder.
    resume, from_step, force, stop_at, max_minutes: as of `TrainRun`.
    """

    checkpoint: Path
    challenges: str
    settings: AdaptSettings
    out: Path
    resume: bool = False
    from_step: int | None = None
    force: bool = False
    stop_at: int | None = None
    max_minutes: float | None = None


def adapt(adaptation: Adaptation) -> TrainResult:
    """Train on the tasks of a source, in a run folder that holds their dataset.

    Raises:  CheckpointError if the checkpoint is not of ARC tasks; errors as of `build_arc` and `train`.
    """
    start_logging()
    checkpoint, settings = load_checkpoint(adaptation.checkpoint), adaptation.settings
    if checkpoint.family != ARC.name:
        raise CheckpointError(f"{checkpoint.path}: is for {checkpoint.family} puzzles, not for ARC tasks")
    if settings.loss == "trained":
        settings = replace(settings, loss=checkpoint.loss)  # type: ignore[arg-type]
    if checkpoint.config.flow:
        settings = replace(settings, objective="flow")
    adaptation = replace(adaptation, settings=settings)
    config = replace(
        checkpoint.config,
        max_steps=settings.max_steps or checkpoint.config.max_steps,
        outer_cycles=settings.outer_cycles or checkpoint.config.outer_cycles,
    )
    recipe = as_tables({"model": config, "adapt": settings})
    accelerator = make_accelerator(settings)
    if not adaptation.resume:
        with naming_lost_processes():
            first_does(lambda: _make_folder(adaptation, recipe, checkpoint), accelerator)
    return train(
        TrainRun(
            puzzles=read_puzzle_set(adaptation.out / DATA),
            data_dir=adaptation.out / DATA,
            config=config,
            settings=settings,
            recipe=recipe,
            out=adaptation.out,
            init=adaptation.checkpoint,
            folder="resumed" if adaptation.resume else "made",
            from_step=adaptation.from_step,
            force=adaptation.force,
            stop_at=adaptation.stop_at,
            max_minutes=adaptation.max_minutes,
        )
    )


def _make_folder(adaptation: Adaptation, recipe: dict[str, Any], checkpoint: Checkpoint) -> None:
    """Make the run folder with the dataset in it: both or none."""
    canvas = checkpoint.canvas
    num_aug = None if checkpoint.config.embedding == "task" else adaptation.settings.num_aug
    out, settings = adaptation.out, adaptation.settings
    refuse_existing(out, RUN_EXISTS)
    data = DataSettings(
        sources=[adaptation.challenges], num_aug=num_aug, canvas=canvas, max_side=canvas,
        extend=str(adaptation.checkpoint), seed=settings.seed,
    )  # fmt: skip
    manifest = make_manifest("run", recipe=recipe, seed=settings.seed, init=str(adaptation.checkpoint))
    with new_folder(out, manifest) as folder:
        built = build_arc(data, folder / DATA)
        fingerprint = read_manifest(folder / DATA, "dataset")["fingerprint"]
        manifest["dataset"] = {"path": str(out / DATA), "fingerprint": fingerprint}
    logger.info(
        "%d of %d tasks fit the checkpoint's canvas of %d, %d of them known to it: %d puzzles",
        built.tasks, len(read_source(adaptation.challenges).tasks), canvas, built.known, built.puzzles,
    )  # fmt: skip
    for line in report_overlaps(built.overlaps, built.untrained, test_set="", exclude_overlap=False):
        logger.info("%s", line)
