"""What a vote on many candidates costs, against a plain loop over Python objects in the same run."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from arcpipe.errors import ArcpipeError
from arcpipe.grid import MAX_SIDE, NUM_COLORS
from arcpipe.predictions import SCHEMA, shard_files, write_shard
from arcpipe.runs import make_manifest, write_json
from arcpipe.task import Pair, Task, challenges_json

_ROUNDS = 100
_MIN_SIDE = 3
_NUM_POPULAR = 3
_DISTINCT = 0.7
"""The share of candidates that no other equals: 691 to 809 of 1000 were measured on ARC-AGI-2."""


@dataclass(frozen=True)
class VoteBenchSettings:
    """How many candidates to make up, for how many test inputs."""

    candidates: int
    tests: int
    seed: int


def bench_vote(settings: VoteBenchSettings, scratch: Path) -> tuple[list[dict[str, Any]], str]:
    """Rows of figures with their unit, and a note on how they were measured.

    Args:  scratch: an empty folder for the candidates.
    """
    folder, challenges = scratch / "predictions", scratch / "challenges.json"
    write_json(folder / "manifest.json", make_manifest("predictions"))
    count = sum(_write(folder, table) for table in made_up(settings))
    demonstration = Pair(np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint8))
    tasks = [Task(name, (demonstration,), (demonstration,)) for name in _names(settings)]
    write_json(challenges, challenges_json(tasks))
    seconds, peak = _run("vote", folder, "--challenges", challenges, "--out", scratch / "submission.json")
    sample = shard_files(folder)[0]
    rate, plain = count / seconds, _plain_rate(sample)
    rows: list[dict[str, Any]] = [
        {"figure": "arcpipe vote", "unit": "s", "value": seconds},
        {"figure": "peak memory", "unit": "MB", "value": peak / 1e6},
        {"figure": "candidates", "unit": "1/s", "value": rate},
        {"figure": "candidates, plain loop", "unit": "1/s", "value": plain},
        {"figure": "ratio", "unit": "x", "value": rate / plain},
    ]
    sample_size = min(count, _ROUNDS * settings.tests)
    note = (
        f"{count} candidates of {settings.tests} test inputs, sides of {_MIN_SIDE} to {MAX_SIDE}, "
        f"{_DISTINCT:.0%} of them unlike any other; the whole command, its start included. "
        f"The plain loop reads and votes on the first {sample_size} of them"
    )
    return rows, note


def _names(settings: VoteBenchSettings) -> list[str]:
    return [f"{number:08x}" for number in range(settings.tests)]


def made_up(settings: VoteBenchSettings) -> Iterator[pa.Table]:
    """Shards of candidates of one checkpoint, in rounds over the test inputs; each has one shape of grid."""
    shapes = np.random.default_rng([settings.seed, 0]).integers(_MIN_SIDE, MAX_SIDE + 1, (settings.tests, 2))
    for shard, first in enumerate(range(0, settings.candidates, _ROUNDS * settings.tests)):
        rng = np.random.default_rng([settings.seed, 1, shard])
        count = min(_ROUNDS * settings.tests, settings.candidates - first)
        yield _shard(rng, settings, shapes, first, count)


def _shard(
    rng: np.random.Generator,
    settings: VoteBenchSettings,
    shapes: np.ndarray[Any, Any],
    first: int,
    count: int,
) -> pa.Table:
    tests = np.arange(count) % settings.tests
    cells = rng.integers(NUM_COLORS, size=(count, MAX_SIDE * MAX_SIDE), dtype=np.uint8)
    popular = rng.random(count) >= _DISTINCT
    cells[popular] = rng.geometric(0.5, (int(popular.sum()), 1)).clip(max=_NUM_POPULAR)
    sizes = shapes[tests].prod(axis=1)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    kept = cells[np.arange(cells.shape[1]) < sizes[:, None]]
    columns: dict[str, Any] = {
        "order": first + np.arange(count),
        "task": pa.DictionaryArray.from_arrays(pa.array(tests, pa.int32()), pa.array(_names(settings))),
        "colors": pa.DictionaryArray.from_arrays(
            pa.array(np.zeros(count, np.int32)), pa.array(["0123456789"])
        ),
        "height": shapes[tests, 0],
        "width": shapes[tests, 1],
        "cells": pa.Array.from_buffers(
            pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(kept.tobytes())]
        ),
        "halt_probability": rng.random(count, np.float32),
        "log_probability": -rng.random(count, np.float32),
        "checkpoint": pa.DictionaryArray.from_arrays(
            pa.array(np.zeros(count, np.int32)), pa.array(["made up"])
        ),
    }
    zeros = np.zeros(count, np.int64)
    return pa.table([pa.array(columns.get(field.name, zeros)).cast(field.type) for field in SCHEMA], SCHEMA)


def _write(folder: Path, table: pa.Table) -> int:
    write_shard(folder, table, 0)
    return int(table.num_rows)


def _run(*arguments: object) -> tuple[float, int]:
    """Seconds and peak memory in bytes of an `arcpipe` command in a process of its own.

    A process begins with its parent's peak memory: this one must hold nothing large.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    began = time.monotonic()
    command = [sys.executable, "-m", "arcpipe", *map(str, arguments)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise ArcpipeError(f"arcpipe {arguments[0]} ended with exit code {process.returncode}")
    # Kilobytes but on macOS, where it is bytes.
    return time.monotonic() - began, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _plain_rate(shard: Path) -> float:
    """Candidates a second of a loop over rows as Python objects, from the file to the two best grids."""
    began = time.monotonic()
    rows = parquet.read_table(shard).to_pylist()
    votes: dict[tuple[str, int], dict[tuple[int, bytes], list[float]]] = {}
    for row in rows:
        grids = votes.setdefault((row["task"], row["test_index"]), {})
        grids.setdefault((row["width"], row["cells"]), []).append(row["halt_probability"])
    best = {
        where: sorted(grids, key=lambda grid: (-len(grids[grid]), -sum(grids[grid]) / len(grids[grid])))[:2]
        for where, grids in votes.items()
    }
    assert best, "the sample holds candidates"
    return len(rows) / (time.monotonic() - began)
