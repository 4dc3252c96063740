"""Checkpoints for the tests of inference: a model that repeats its input, and one of random weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from arcpipe.buckets import bucket_sides, crop
from arcpipe.checkpoint import Checkpoint, save_checkpoint
from arcpipe.codec import decode
from arcpipe.infer.config import InferSettings
from arcpipe.infer.predict import predict
from arcpipe.model_config import TRMConfig
from arcpipe.predictions import read_candidates
from arcpipe.puzzleset import PuzzleSet
from arcpipe.runs import make_manifest
from arcpipe.trm import TRM
from puzzles import augmentation_of, restored

CONFIG = TRMConfig(
    hidden_size=16, num_heads=2, num_layers=1, outer_cycles=1, inner_cycles=1, max_steps=4,
    puzzle_size=2, puzzle_tokens=1,
)  # fmt: skip


def checkpoint_of(
    puzzles: PuzzleSet, weights: dict[str, Tensor], rows: Tensor, path: Path = Path("made-up"),
    config: TRMConfig = CONFIG, **facts: Any,
) -> Checkpoint:  # fmt: skip
    """A checkpoint in memory that knows the puzzles; facts go to its manifest."""
    recipe = {"train": {"precision": "float32", "cpu_threads": 1}}
    manifest = make_manifest("checkpoint", **{"step": 7, "recipe": recipe, **facts})
    family = puzzles.family
    return Checkpoint(
        path, config, family.name, puzzles.canvas, family.vocabulary, weights, weights, rows, puzzles.table,
        manifest,
    )  # fmt: skip


def parrot(puzzles: PuzzleSet) -> Checkpoint:
    """Return a model whose answer is its input and whose halt probability depends on the puzzle.

    Blocks that add nothing leave each token's one-hot embedding as it is, but for its scale; the halt
    head reads the angle of the puzzle's row.
    """
    model = TRM(CONFIG, puzzles.num_tokens, puzzles.family.vocabulary)
    weights = {name: torch.zeros_like(weight) for name, weight in model.state_dict().items()}
    weights["embed_tokens"] += torch.eye(puzzles.family.vocabulary, CONFIG.hidden_size)
    weights["output_head.weight"] += torch.eye(puzzles.family.vocabulary, CONFIG.hidden_size)
    weights["halt_head.weight"][0, 0] = 1.0
    angles = torch.linspace(0.0, torch.pi, puzzles.num_puzzles)
    return checkpoint_of(puzzles, weights, torch.stack([angles.cos(), angles.sin()], dim=1))


def random_model(puzzles: PuzzleSet, config: TRMConfig = CONFIG) -> Checkpoint:
    """Return a model with random weights, whose answer changes at each step and which halts at some steps."""
    generator = torch.Generator().manual_seed(0)
    model = TRM(config, puzzles.num_tokens, puzzles.family.vocabulary)
    weights = {
        name: torch.randn(weight.shape, generator=generator) / CONFIG.hidden_size**0.5
        for name, weight in model.state_dict().items()
    }
    rows = torch.randn(puzzles.num_puzzles, config.puzzle_size, generator=generator)
    return checkpoint_of(puzzles, weights, rows, config=config)


def wavering(puzzles: PuzzleSet, path: Path = Path("made-up"), **facts: Any) -> Checkpoint:
    """Return a model whose answers settle after some steps, and that tends to halt under some puzzles."""
    steady, other = parrot(puzzles), random_model(puzzles)
    weights = {name: weight + 0.5 * other.ema[name] for name, weight in steady.ema.items()}
    return checkpoint_of(puzzles, weights, steady.rows, path, **facts)


def save(path: Path, puzzles: PuzzleSet, *, weight: float | None = None, **facts: Any) -> Path:
    """The folder of `wavering`, its halt head filled with a weight if one is given."""
    checkpoint = wavering(puzzles, path, **facts)
    if weight is not None:
        checkpoint.ema["halt_head.weight"].fill_(weight)
    save_checkpoint(checkpoint)
    return path


Rows = list[dict[str, Any]]


def answers(checkpoint: Checkpoint, puzzles: PuzzleSet, **settings: Any) -> Rows:
    """The candidates of all test inputs, by order."""
    parts = predict(checkpoint, puzzles, InferSettings(**settings), torch.device("cpu"), label="label")
    rows = [row for part in parts for row in part.to_pylist()]
    return sorted(rows, key=lambda row: int(row["order"]))


def plain_loop(checkpoint: Checkpoint, puzzles: PuzzleSet, batch_size: int) -> Rows:
    """Return the answers of a plain loop over batches to every test input under every puzzle, in rounds.

    Each is computed on the canvas of its task, which is the same within a batch.
    """
    model, rows = checkpoint.model(), []
    sides = bucket_sides(puzzles, checkpoint.config.buckets)[puzzles.test_tasks]
    items = [
        (number, test, puzzle)
        for test, task in enumerate(puzzles.test_tasks)
        for number, puzzle in enumerate(puzzles.table.of_task(task))
    ]
    for start in range(0, len(items), batch_size):
        _, tests, ids = np.array(sorted(items)[start : start + batch_size]).T
        (side,) = {*sides[tests].tolist()}
        inputs = torch.from_numpy(puzzles.encode(puzzles.tables_with_eos[2], tests, ids).astype(np.int64))
        state: list[Tensor] = []
        with torch.inference_mode():
            for _ in range(CONFIG.max_steps):
                answer, latent, logits, halt, *log_sums = model(
                    crop(inputs, side, puzzles.canvas), checkpoint.rows_by_id(puzzles)(ids), *state
                )
                state = [answer, latent, *log_sums]
        grids = decode(logits.argmax(-1).numpy())
        # Of a contiguous tensor: of a single number or a column it can differ in the last bit.
        probabilities = halt.contiguous().sigmoid().tolist()
        for grid, puzzle, test, probability in zip(grids, ids, tests, probabilities, strict=True):
            turned = None if grid is None else restored(grid, augmentation_of(puzzles.table, puzzle))
            rows.append({
                "task": puzzles.table.task_ids[puzzles.test_tasks[test]],
                "test_index": puzzles.test_indices[test],
                "cells": b"" if turned is None else turned.tobytes(),
                "height": 0 if turned is None else turned.shape[0],
                "halt_probability": probability, "steps": CONFIG.max_steps,
            })  # fmt: skip
    return rows


def assert_same(rows: Rows, expected: Rows) -> None:
    """Assert equal candidates; probabilities may differ slightly, as they depend on the batch size."""
    assert len(rows) == len(expected)
    for row, other in zip(rows, expected, strict=True):
        for name in ("halt_probability", "log_probability"):
            assert row[name] == pytest.approx(other[name], abs=1e-4)
        assert row | {"halt_probability": 0, "log_probability": 0} == (
            other | {"halt_probability": 0, "log_probability": 0}
        )


def rows_of(folder: Path) -> Rows:
    """The candidates of a folder, in order."""
    tables = list(read_candidates(folder))
    return list(pa.concat_tables(tables).to_pylist()) if tables else []
