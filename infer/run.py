"""Inference from files to a file: checkpoint and dataset folder -> a folder of predictions."""

import os
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator

from arcpipe.checkpoint import Checkpoint, load_checkpoint
from arcpipe.errors import ArcpipeError
from arcpipe.infer.solve import InferSettings, solve
from arcpipe.log import logger
from arcpipe.predictions import PREDICTIONS_FILE, write_predictions
from arcpipe.puzzleset import read_puzzle_set
from arcpipe.runs import make_manifest, new_folder, read_manifest, refuse_existing


def infer_to_folder(checkpoint_path: Path, data: Path, out: Path, settings: InferSettings) -> int:
    """Write the predictions for a dataset's test inputs; how many there are.

    Raises:  OutputError if `out` exists or cannot be written, before anything is computed;
             CheckpointError or DataError if a part does not fit.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ArcpipeError("infer runs in one process: start it without a launcher")
    refuse_existing(out)
    checkpoint = load_checkpoint(checkpoint_path)
    puzzles = read_puzzle_set(data)
    _warn_of_other_dataset(checkpoint, data)
    manifest = make_manifest(
        "predictions",
        checkpoint=str(checkpoint.path),
        step=checkpoint.manifest.get("step"),
        data=str(data),
        recipe={"infer": asdict(settings)},
    )
    with new_folder(out, manifest) as folder:
        predictions = list(solve(checkpoint, puzzles, settings, _device()))
        write_predictions(folder / PREDICTIONS_FILE, predictions)
    return len(predictions)


def _device() -> torch.device:
    # Not Apple's GPU, which Accelerate would take: it has no float64, and nothing here is tested on it.
    device: torch.device = Accelerator(cpu=not torch.cuda.is_available()).device
    return device


def _warn_of_other_dataset(checkpoint: Checkpoint, data: Path) -> None:
    """Log a warning if the fingerprints say so; a part of the training dataset may be meant, so no error."""
    trained_on = checkpoint.manifest.get("dataset", {}).get("fingerprint")
    asked = read_manifest(data, "dataset").get("fingerprint")
    if trained_on and asked and trained_on != asked:
        logger.warning(
            "%s: trained on another dataset than %s: its test outputs may have been trained on",
            checkpoint.path, data,
        )  # fmt: skip
