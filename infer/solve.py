"""Inference: every test input under every augmentation of its task, recursed for a number of steps."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from arcpipe.checkpoint import Checkpoint
from arcpipe.codec import decode, encode_grids
from arcpipe.devices import compute_dtype, use_cpu_threads
from arcpipe.errors import CheckpointError
from arcpipe.log import logger, progress
from arcpipe.predictions import Prediction
from arcpipe.puzzleset import PuzzleSet
from arcpipe.recipe import STRICT
from arcpipe.trm import TRM


@dataclass(frozen=True, kw_only=True)
class InferSettings:
    """How to infer, the table [infer] of a recipe."""

    __pydantic_config__ = STRICT

    # Supervision steps; 0 for as many as in training, which is what the reference does.
    max_steps: Annotated[int, Field(ge=0, le=10000)] = 0
    batch_size: Annotated[int, Field(gt=0)] = 256


def solve(
    checkpoint: Checkpoint, puzzles: PuzzleSet, settings: InferSettings, device: torch.device
) -> Iterator[Prediction]:
    """Candidates for each test input under each puzzle of its task, identity first.

    Raises:  CheckpointError if the checkpoint does not know the dataset's puzzles, or its answers are
             not finite.
    """
    model = checkpoint.model().to(device)
    rows = checkpoint.rows_of(puzzles).to(device)
    trained = checkpoint.manifest.get("recipe", {}).get("train", {})
    use_cpu_threads(trained.get("cpu_threads", 0))
    dtype, reason = compute_dtype(trained.get("precision", "auto"), device)
    steps = settings.max_steps or checkpoint.config.max_steps
    tests, puzzle_ids = _queue(puzzles)
    logger.info(
        "%d test inputs, %d candidates, %d steps each; %s on %s (%s)",
        len(puzzles.test_tasks), len(tests), steps, str(dtype).removeprefix("torch."), device, reason,
    )  # fmt: skip
    with progress(total=len(tests), initial=0, unit="grid", desc="infer") as bar:
        for start in range(0, len(tests), settings.batch_size):
            part = slice(start, start + settings.batch_size)
            inputs = _encode(puzzles, tests[part], puzzle_ids[part]).to(device)
            vectors = rows[torch.from_numpy(puzzle_ids[part]).to(device)]
            logits, halt_logit = _recurse(model, inputs, vectors, steps, dtype)
            if not (logits.isfinite().all() and halt_logit.isfinite().all()):
                raise CheckpointError(
                    f"{checkpoint.path}: its answers are not finite; choose an earlier one or train again"
                )
            tokens, halt = logits.argmax(-1).cpu().numpy(), halt_logit.sigmoid().tolist()
            yield from _predictions(puzzles, tests[part], puzzle_ids[part], tokens, halt, steps)
            bar.update(len(tokens))


def _queue(puzzles: PuzzleSet) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The pairs (test input, puzzle) to run: two arrays of one length."""
    of_test = [puzzles.puzzles_of(task) for task in puzzles.test_tasks]
    tests = np.repeat(np.arange(len(of_test)), [len(ids) for ids in of_test])
    return tests, np.concatenate(of_test)


def _encode(puzzles: PuzzleSet, tests: NDArray[np.intp], puzzle_ids: NDArray[np.intp]) -> Tensor:
    table = puzzles.test_inputs
    tokens = encode_grids(
        table.cells[tests], table.shapes[tests], puzzles.canvas,
        dihedrals=puzzles.dihedrals[puzzle_ids], colors=puzzles.colors[puzzle_ids],
    )  # fmt: skip
    return torch.from_numpy(tokens.astype(np.int64))


@torch.inference_mode()
def _recurse(
    model: TRM, inputs: Tensor, vectors: Tensor, steps: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The logits (B, L, V) and halt logits (B,) after `steps` supervision steps."""
    carry = model.empty_carry(len(inputs), dtype)
    carry = model.admit(carry, inputs, inputs, carry.puzzle_ids)
    answer, latent = carry.answer, carry.latent
    for _ in range(steps):
        answer, latent, logits, halt_logit = model(inputs, vectors, answer, latent)
    return logits, halt_logit


def _predictions(
    puzzles: PuzzleSet, tests: NDArray[np.intp], puzzle_ids: NDArray[np.intp],
    tokens: NDArray[np.int64], halt: list[float], steps: int,
) -> Iterator[Prediction]:  # fmt: skip
    for test, puzzle_id, grid, probability in zip(tests, puzzle_ids, decode(tokens), halt, strict=True):
        augmentation = puzzles.augmentation(int(puzzle_id))
        yield Prediction(
            task=puzzles.task_ids[puzzles.test_tasks[test]],
            test_index=int(puzzles.test_indices[test]),
            augmentation=augmentation,
            grid=None if grid is None else augmentation.inverse().apply(grid),
            halt_probability=probability,
            steps=steps,
        )
