#!/usr/bin/env python3
"""Measure `arcpipe vote`, start-up included, on made-up candidates, against a loop over Python objects.

    benchmarks/vote.py --candidates 1000000

The loop reads and votes on the first shard. Every ratio compares candidates a second.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from arcpipe.predictions import SCHEMA, shard_files, write_shard
from arcpipe.runs import make_manifest, write_json
from arcpipe.task import Pair, Task, challenges_json
from common import Report, options, run, timed_command

TASKS = 400
SHARD = 100 * TASKS
SIDE = 15
DISTINCT = 0.7
"""The share of candidates that no other equals: 691 to 809 of 1000 were measured on ARC-AGI-2."""


def made_up(first: int, count: int) -> pa.Table:
    """Return made-up candidates, task by task in turn; those that are not distinct are one of a few grids."""
    rng = np.random.default_rng([0, first])
    cells = rng.integers(10, size=(count, SIDE * SIDE), dtype=np.uint8)
    popular = rng.random(count) >= DISTINCT
    cells[popular] = rng.geometric(0.5, (int(popular.sum()), 1)).clip(max=3)
    tasks = [f"{number % TASKS:08x}" for number in range(first, first + count)]
    columns: dict[str, Any] = {
        "order": np.arange(first, first + count), "task": tasks, "colors": ["0123456789"] * count,
        "height": np.full(count, SIDE), "width": np.full(count, SIDE),
        "cells": [row.tobytes() for row in cells],
        "halt_probability": rng.random(count), "log_probability": -rng.random(count),
        "checkpoint": ["made up"] * count,
    }  # fmt: skip
    zeros = np.zeros(count, np.int64)
    return pa.table([pa.array(columns.get(field.name, zeros)).cast(field.type) for field in SCHEMA], SCHEMA)


def plain_vote(shard: Path) -> float:
    """Vote on a shard by a loop over its rows; return candidates a second."""
    began = time.perf_counter()
    rows = parquet.read_table(shard).to_pylist()
    votes: dict[tuple[str, int], dict[tuple[int, bytes], list[float]]] = {}
    for row in rows:
        grids = votes.setdefault((row["task"], row["test_index"]), {})
        grids.setdefault((row["width"], row["cells"]), []).append(row["halt_probability"])
    for grids in votes.values():
        sorted(grids, key=lambda grid: (-len(grids[grid]), -sum(grids[grid]) / len(grids[grid])))[:2]
    return len(rows) / (time.perf_counter() - began)


def measure(arguments: argparse.Namespace, report: Report, scratch: Path) -> None:
    """Make candidates up and vote on them in both ways."""
    count = 2000 if arguments.quick else arguments.candidates
    folder, challenges = scratch / "predictions", scratch / "challenges.json"
    write_json(folder / "manifest.json", make_manifest("predictions"))
    for first in range(0, count, SHARD):
        write_shard(folder, made_up(first, min(SHARD, count - first)), 0)
    grid = Pair(np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint8))
    tasks = [Task(f"{number:08x}", (grid,), (grid,)) for number in range(TASKS)]
    write_json(challenges, challenges_json(tasks))
    plain = plain_vote(shard_files(folder)[0])
    report.add("plain loop", **{"candidates/s": plain}, ratio=1.0)
    out = scratch / "submission.json"
    words = ("vote", folder, "--challenges", challenges, "--out", out)
    seconds, memory, _ = timed_command("-m", "arcpipe", *words)
    figures = {"candidates/s": count / seconds, "seconds": seconds, "memory MB": memory}
    report.add("arcpipe vote", ratio=count / seconds / plain, **figures)


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--candidates", type=int, default=1_000_000, help="to vote on (%(default)s)")
    run(parser, measure)
