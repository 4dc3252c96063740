"""How fast inference is: the engine in its modes against a plain loop, and how far their answers agree.

The plain loop does what the engine does by default, one batch after the other: all steps for every row, and
each candidate an object of its own.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from arcpipe.checkpoint import Checkpoint, load_checkpoint
from arcpipe.codec import decode
from arcpipe.devices import compute_dtype
from arcpipe.infer.evaluate import evaluate, known_outputs
from arcpipe.infer.predict import InferSettings, Job, queue_of, solve
from arcpipe.infer.schedule import Items
from arcpipe.predictions import SCHEMA
from arcpipe.puzzleset import PuzzleSet, read_puzzle_set

_LABEL = "measured"


@dataclass(frozen=True)
class InferBenchSettings:
    """What to measure on: the first `max_grids` of the queue, 0 for all; `max_steps` as for inference."""

    checkpoint: Path
    data: Path
    max_grids: int
    max_steps: int
    batch_size: int
    tries: int


@dataclass(frozen=True, eq=False)
class _Bench:
    """What all ways of inference have in common."""

    checkpoint: Checkpoint
    puzzles: PuzzleSet
    settings: InferBenchSettings
    device: torch.device

    def job(self, **changes: Any) -> Job:
        """The part of the queue that is measured; not compiled, unless that is among the changes."""
        settings = {"batch_size": self.settings.batch_size, "max_steps": self.settings.max_steps}
        asked = InferSettings(**settings | {"compile": "off"} | changes)
        length = len(queue_of(self.puzzles, asked))
        most = min(self.settings.max_grids or length, length)
        return Job(self.checkpoint, self.puzzles, asked, _LABEL, np.arange(most, length))

    def engine(self, **changes: Any) -> Callable[[], pa.Table]:
        """What makes the candidates with the engine."""
        return lambda: pa.concat_tables(list(solve(self.job(**changes), self.device))).sort_by("order")


def bench_infer(settings: InferBenchSettings) -> tuple[list[dict[str, Any]], str]:
    """Rows by way of inference: grids a second, and their ratio to the plain loop's; mean steps; the share
    of candidates with the grid of the engine that never halts; the score, where the outputs are known. And
    a note on what they were measured on.

    Raises:  ArcpipeError for a checkpoint and a dataset that do not fit.
    """
    checkpoint, puzzles = load_checkpoint(settings.checkpoint), read_puzzle_set(settings.data)
    bench = _Bench(
        checkpoint, puzzles, settings, torch.device("cuda" if torch.cuda.is_available() else "cpu")
    )
    trained = checkpoint.manifest.get("recipe", {}).get("train", {}).get("precision", "auto")
    dtype, _ = compute_dtype(trained, bench.device)
    other = "bfloat16" if dtype == torch.float32 else "float32"
    ways = {
        "plain loop": lambda: plain_loop(bench.job(), bench.device),
        "engine, never": bench.engine(),
        "engine, never, compiled": bench.engine(compile="on"),
        "engine, stable": bench.engine(halt="stable"),
        "engine, learned": bench.engine(halt="learned"),
        f"engine, never, {other}": bench.engine(precision=other),
        f"engine, learned, {other}": bench.engine(precision=other, halt="learned"),
        f"engine, learned, {other}, compiled": bench.engine(precision=other, halt="learned", compile="on"),
    }
    seconds, tables = _measured(ways, settings.tries)
    outputs = known_outputs(settings.data, puzzles)
    rows = []
    for way, table in tables.items():
        row = {
            "way": way,
            "grids/s": len(table) / seconds[way],
            "ratio": seconds["plain loop"] / seconds[way],
            "steps": float(np.mean(table["steps"].to_numpy())),
            "agreement": _agreement(table, tables["engine, never"]),
        }
        rows.append(row | ({} if outputs is None else evaluate(puzzles, outputs, [table])[0]))
    name, grids = str(dtype).removeprefix("torch."), len(tables["plain loop"])
    return (
        rows,
        f"{grids} grids of side {puzzles.canvas} in {name} on {bench.device}, best of {settings.tries}; "
        "agreement: share of grids that are those of the engine, never",
    )


def _measured(
    ways: dict[str, Callable[[], pa.Table]], tries: int
) -> tuple[dict[str, float], dict[str, pa.Table]]:
    """The shortest time in seconds and the candidates of each way, tried in turns."""
    seconds = dict.fromkeys(ways, float("inf"))
    tables = {}
    for _ in range(tries):
        for way, run in ways.items():
            began = time.perf_counter()
            tables[way] = run()
            seconds[way] = min(seconds[way], time.perf_counter() - began)
    return seconds, tables


def _agreement(table: pa.Table, reference: pa.Table) -> float:
    """The share of candidates with the same grid."""
    same = np.ones(len(table), bool)
    for name in ("height", "width", "cells"):
        same &= table[name].to_numpy(zero_copy_only=False) == reference[name].to_numpy(zero_copy_only=False)
    return float(same.mean())


def plain_loop(job: Job, device: torch.device) -> pa.Table:
    """The candidates of a job by a loop over batches."""
    # What the engine set holds for the whole process.
    torch.set_float32_matmul_precision("highest")
    checkpoint, puzzles, settings = job.checkpoint, job.puzzles, job.settings
    model, vectors = checkpoint.model().to(device), checkpoint.rows_of(puzzles).to(device)
    trained = checkpoint.manifest.get("recipe", {}).get("train", {}).get("precision", "auto")
    dtype, _ = compute_dtype(trained, device)
    queue = queue_of(puzzles, settings)
    positions = np.setdiff1d(np.arange(len(queue)), job.done)
    found: list[dict[str, Any]] = []
    for start in range(0, len(positions), settings.batch_size):
        items = queue.items(positions[start : start + settings.batch_size])
        tokens = puzzles.encode_tests(items.tests, items.puzzle_ids)
        inputs = torch.from_numpy(tokens.astype(np.int64)).to(device)
        steps = settings.max_steps or checkpoint.config.max_steps
        carry = model.empty_carry(len(inputs), dtype)
        carry = model.admit(carry, inputs, inputs, carry.puzzle_ids)
        answer, latent = carry.answer, carry.latent
        with torch.inference_mode():
            for _ in range(steps):
                answer, latent, logits, halt = model(
                    inputs, vectors[torch.from_numpy(items.puzzle_ids).to(device)], answer, latent
                )
        found += _objects(puzzles, items, logits, halt, steps)
    return pa.Table.from_pylist(found, schema=SCHEMA)


def _objects(
    puzzles: PuzzleSet, items: Items, logits: Tensor, halt: Tensor, steps: int
) -> list[dict[str, Any]]:
    """A row of predictions for each answer of a batch."""
    rows = []
    tokens, halts = logits.argmax(-1).cpu().numpy(), halt.sigmoid().tolist()
    for index, grid in enumerate(decode(tokens, puzzles.family)):
        augmentation = puzzles.table.augmentation(int(items.puzzle_ids[index]))
        own = np.zeros((0, 0), np.uint8) if grid is None else augmentation.inverse().apply(grid)
        test = int(items.tests[index])
        rows.append({
            "order": int(items.positions[index]), "task": puzzles.table.task_ids[puzzles.test_tasks[test]],
            "test_index": int(puzzles.test_indices[test]), "dihedral": augmentation.dihedral,
            "colors": "".join(map(str, augmentation.colors)), "variant": 0, "rollout": 0,
            "height": own.shape[0], "width": own.shape[1], "cells": own.tobytes(),
            "halt_probability": halts[index], "log_probability": 0.0, "steps": steps, "checkpoint": _LABEL,
        })  # fmt: skip
    return rows
