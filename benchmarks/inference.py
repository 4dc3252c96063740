#!/usr/bin/env python3
"""Time inference: a plain loop over batches, and the engine, by default and with faster settings.

    benchmarks/inference.py --checkpoint RUN --data DATASET

The plain loop takes all steps for every row of a batch, in the engine's default precision, and makes an
object of each candidate. Every ratio compares grids a second with the plain loop; `agreement` is the share of
grids that equal its own. Without a checkpoint a model is trained for a moment, and not scored.
"""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from arcpipe.augmentation import DIHEDRAL_INVERSE, apply_dihedral
from arcpipe.checkpoint import Checkpoint, load_checkpoint
from arcpipe.codec import decode
from arcpipe.devices import compute_dtype
from arcpipe.errors import ArcpipeError
from arcpipe.infer.config import InferSettings
from arcpipe.infer.evaluate import evaluate, known_outputs
from arcpipe.infer.items import Schedule
from arcpipe.infer.predict import predict
from arcpipe.predictions import SCHEMA
from arcpipe.puzzleset import PuzzleSet, read_puzzle_set
from common import ROWS, Report, arcpipe, build_puzzles, options, run, small_precision

LABEL, PLAIN = "measured", "plain loop"
TURNS = 3


def dtype_of(checkpoint: Checkpoint, settings: InferSettings, device: torch.device) -> torch.dtype:
    """Return the dtype that the engine computes in."""
    asked = settings.precision
    return compute_dtype(checkpoint.precision if asked == "trained" else asked, device)[0]


def plain_loop(
    checkpoint: Checkpoint, puzzles: PuzzleSet, settings: InferSettings, device: torch.device,
    done: NDArray[np.int64],
) -> pa.Table:  # fmt: skip
    """Return the candidates of what is not done, computed batch by batch on the whole canvas."""
    # The engine may have set it for the whole process.
    torch.set_float32_matmul_precision("highest")
    model = checkpoint.model().to(device)
    vectors = checkpoint.rows_by_id(puzzles)(np.arange(puzzles.num_puzzles)).to(device)
    dtype = dtype_of(checkpoint, settings, device)
    num_steps = settings.max_steps or checkpoint.config.max_steps
    schedule = Schedule(puzzles, settings)
    positions = np.setdiff1d(np.arange(len(schedule)), done)
    rows: list[dict[str, Any]] = []
    for start in range(0, len(positions), settings.batch_size):
        items = schedule.items(positions[start : start + settings.batch_size])
        tokens = puzzles.encode(puzzles.tables_with_eos[2], items.tests, items.puzzle_ids)
        inputs = torch.from_numpy(tokens.astype(np.int64)).to(device)
        of_puzzles = vectors[torch.from_numpy(items.puzzle_ids).to(device)]
        carry = model.empty_carry(len(inputs), dtype)
        carry = model.admit(carry, inputs, inputs, carry.puzzle_ids)
        answer, latent = carry.answer, carry.latent
        with torch.inference_mode():
            for _ in range(num_steps):
                answer, latent, logits, halt_logit = model(inputs, of_puzzles, answer, latent)
        halts = halt_logit.sigmoid().tolist()
        for index, grid in enumerate(decode(logits.argmax(-1).cpu().numpy(), puzzles.family)):
            puzzle = int(items.puzzle_ids[index])
            dihedral, colors = int(puzzles.table.dihedrals[puzzle]), puzzles.table.colors[puzzle]
            before, back = np.argsort(colors).astype(np.uint8), DIHEDRAL_INVERSE[dihedral]
            own = np.zeros((0, 0), np.uint8) if grid is None else apply_dihedral(before[grid], back)
            test = int(items.tests[index])
            rows.append({
                "order": int(items.positions[index]),
                "task": puzzles.table.task_ids[puzzles.test_tasks[test]],
                "test_index": int(puzzles.test_indices[test]), "dihedral": dihedral,
                "colors": "".join(map(str, colors)), "variant": 0, "rollout": 0,
                "height": own.shape[0], "width": own.shape[1], "cells": own.tobytes(), "checkpoint": LABEL,
                "halt_probability": halts[index], "log_probability": 0.0, "steps": num_steps,
            })  # fmt: skip
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def agreement(table: pa.Table, other: pa.Table) -> float:
    """Return the share of candidates with the same grid."""
    columns = ("height", "width", "cells")
    pairs = zip(*(of[name].to_pylist() for of in (table, other) for name in columns), strict=True)
    return float(np.mean([grids[:3] == grids[3:] for grids in pairs]))


def made_up(scratch: Path, quick: bool) -> tuple[Path, Path]:
    """Train a model for a moment; return its run and its dataset."""
    recipe = "sudoku-extreme" if torch.cuda.is_available() and not quick else ROWS
    data = build_puzzles(recipe, scratch / "data")
    words = "--steps 3 --set train.batch_size=16 --set train.compile=off --set eval.every=0"
    arcpipe("train", recipe, *words.split(), "--data", data, "--out", scratch / "run")
    return scratch / "run", data


def measure(arguments: argparse.Namespace, report: Report, scratch: Path) -> None:
    """Time the plain loop, then the engine."""
    given = arguments.checkpoint, arguments.data
    if any(given) != all(given):
        raise ArcpipeError("--checkpoint and --data go together: a model, and what it is to answer")
    run_dir, data = given if all(given) else made_up(scratch, arguments.quick)
    checkpoint, puzzles = load_checkpoint(run_dir), read_puzzle_set(data)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    outputs = known_outputs(data, puzzles) if arguments.checkpoint else None
    most = min(arguments.max_grids, 64) if arguments.quick else arguments.max_grids

    plain = InferSettings(batch_size=arguments.batch_size, max_steps=arguments.max_steps)
    fast = {"halt": "learned"}
    fast["precision"] = (
        small_precision(device) if dtype_of(checkpoint, plain, device) == torch.float32 else "float32"
    )
    fast |= {} if arguments.quick else {"compile": "on"}
    alone = {f"infer.{name}={value}": {name: value} for name, value in [("halt", "stable"), *fast.items()]}
    ways = {PLAIN: {}, "engine": {}, **alone, "together": fast}
    tables: dict[str, pa.Table] = {}
    for _ in range(1 if arguments.quick else TURNS):
        for name, changes in ways.items():
            settings = replace(plain, **changes)
            length = len(Schedule(puzzles, settings))
            left_out = np.arange(min(most or length, length), length)
            way = plain_loop if name == PLAIN else engine
            infer = partial(way, checkpoint, puzzles, settings, device, left_out)
            table = tables[name] = tables.get(name) or infer()
            report.time(
                name, infer, {"grids/s": len(table)}, 0.0,
                dtype=str(dtype_of(checkpoint, settings, device)).removeprefix("torch."),
                steps=float(np.mean(table["steps"].to_numpy())), agreement=agreement(table, tables[PLAIN]),
                **({} if outputs is None else evaluate(puzzles, outputs, [table])[0]),
            )  # fmt: skip


def engine(
    checkpoint: Checkpoint, puzzles: PuzzleSet, settings: InferSettings, device: torch.device,
    done: NDArray[np.int64],
) -> pa.Table:  # fmt: skip
    """Return the candidates of what is not done, computed by the engine."""
    tables = predict(checkpoint, puzzles, settings, device, label=LABEL, done=done)
    return pa.concat_tables(list(tables)).sort_by("order")


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--checkpoint", type=Path, help="a checkpoint or run folder, with --data")
    parser.add_argument("--data", type=Path, help="the dataset folder whose test inputs to answer")
    parser.add_argument("--max-grids", type=int, default=2048, help="answer so many; 0 for all (%(default)s)")
    parser.add_argument("--max-steps", type=int, default=0, help="as of arcpipe infer (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=256, help="as of arcpipe infer (%(default)s)")
    run(parser, measure)
