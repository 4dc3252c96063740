"""Adaptation: go on training a checkpoint on the demonstrations of the tasks of one challenges file.

Source:  test-time training of arXiv 2511.02886 (McGovern) and of NVARC's entry to ARC Prize 2025: new rows
         begin at the mean of the trained ones and learn alone at first, then everything does.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from arcpipe.checkpoint import load_checkpoint
from arcpipe.codec import ARC
from arcpipe.errors import CheckpointError
from arcpipe.puzzleset import read_puzzle_set
from arcpipe.recipe import as_tables
from arcpipe.runs import make_manifest, new_folder, read_manifest, refuse_existing
from arcpipe.train.config import AdaptSettings
from arcpipe.train.distributed import first_does, naming_lost_processes
from arcpipe.train.job import TrainJob, TrainResult
from arcpipe.train.setup import make_accelerator
from arcpipe.train.trainer import train

DATA = "data"
"""The dataset folder inside the run folder of an adaptation."""


@dataclass(frozen=True)
class AdaptJob:
    """Which checkpoint to adapt, how, for how long, and where to; `resume` goes on in `out`, from its newest
    checkpoint or that of `from_step`."""

    checkpoint: Path
    settings: AdaptSettings
    out: Path
    resume: bool = False
    from_step: int | None = None
    force: bool = False
    stop_at: int | None = None
    max_minutes: float | None = None


def adapt(job: AdaptJob, build: Callable[[Path, int], object]) -> TrainResult:
    """Train on the dataset that `build` makes, in a run folder that holds it.

    Args:    build: makes a dataset folder at a path for a canvas, with the augmentations that the
             checkpoint knows for tasks that it knows.
    Raises:  CheckpointError if the checkpoint is not of ARC tasks; errors as of `train`.
    """
    checkpoint = load_checkpoint(job.checkpoint)
    if checkpoint.family != ARC.name:
        raise CheckpointError(f"{checkpoint.path}: is for {checkpoint.family} puzzles, not for ARC tasks")
    config = replace(
        checkpoint.config,
        max_steps=job.settings.max_steps or checkpoint.config.max_steps,
        outer_cycles=job.settings.outer_cycles or checkpoint.config.outer_cycles,
    )
    recipe = as_tables({"model": config, "adapt": job.settings})
    data = job.out / DATA
    accelerator = make_accelerator(job.settings)
    if not job.resume:
        with naming_lost_processes():
            first_does(lambda: _make_run(job, recipe, build, checkpoint.canvas), accelerator)
    return train(
        TrainJob(
            puzzles=read_puzzle_set(data),
            data_dir=data,
            config=config,
            settings=job.settings,
            recipe=recipe,
            out=job.out,
            init=job.checkpoint,
            # The run folder is there; without a checkpoint in it the training begins.
            resume=True,
            from_step=job.from_step,
            force=job.force,
            stop_at=job.stop_at,
            max_minutes=job.max_minutes,
        )
    )


def _make_run(
    job: AdaptJob, recipe: dict[str, Any], build: Callable[[Path, int], object], canvas: int
) -> None:
    """The run folder, with the dataset in it: both or none."""
    refuse_existing(job.out, "go on with --resume, choose another --out or remove it")
    manifest = make_manifest("run", recipe=recipe, seed=job.settings.seed, init=str(job.checkpoint))
    with new_folder(job.out, manifest) as folder:
        build(folder / DATA, canvas)
        fingerprint = read_manifest(folder / DATA, "dataset")["fingerprint"]
        manifest["dataset"] = {"path": str(job.out / DATA), "fingerprint": fingerprint}
