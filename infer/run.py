"""Inference from files to a file: checkpoint and dataset folder -> a folder of predictions."""

import os
from dataclasses import asdict
from pathlib import Path

from accelerate import Accelerator

from arcpipe.checkpoint import load_checkpoint
from arcpipe.errors import ArcpipeError
from arcpipe.infer.solve import InferSettings, solve
from arcpipe.predictions import PREDICTIONS_FILE, write_predictions
from arcpipe.puzzleset import read_puzzle_set
from arcpipe.runs import make_manifest, new_folder, refuse_existing


def infer_to_folder(checkpoint_path: Path, data: Path, out: Path, settings: InferSettings) -> int:
    """Write the predictions for a dataset's test inputs; how many there are.

    Raises:  OutputError if `out` exists; CheckpointError or DataError if a part does not fit.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ArcpipeError("infer runs in one process: start it without a launcher")
    refuse_existing(out)
    checkpoint = load_checkpoint(checkpoint_path)
    puzzles = read_puzzle_set(data)
    predictions = list(solve(checkpoint, puzzles, settings, Accelerator().device))
    manifest = make_manifest(
        "predictions",
        checkpoint=str(checkpoint.path),
        step=checkpoint.manifest["step"],
        data=str(data),
        recipe={"infer": asdict(settings)},
    )
    with new_folder(out, manifest) as folder:
        write_predictions(folder / PREDICTIONS_FILE, predictions)
    return len(predictions)
