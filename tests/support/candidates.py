"""Candidates for tests: tables of them made by hand, and those of a folder one by one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from arcpipe.augmentation import IDENTITY, Augmentation
from arcpipe.grid import Grid
from arcpipe.predictions import SCHEMA, read_candidates, write_shard
from arcpipe.runs import make_manifest, write_json

COLORS = "0123456789"


@dataclass(frozen=True, eq=False, kw_only=True)
class Prediction:
    """One candidate for a test input; the columns of a shard, in Python's types.

    augmentation, variant: under which it was predicted.
    grid: already turned back; None where the answer held no grid.
    halt_probability: 0..1, the model's own word on whether the grid is right.
    """

    task: str
    test_index: int
    augmentation: Augmentation = IDENTITY
    variant: int = 0
    rollout: int = 0
    grid: Grid | None
    halt_probability: float
    log_probability: float = 0.0
    steps: int
    checkpoint: str = ""


def read_predictions(path: Path) -> Iterator[Prediction]:
    """Yield the candidates of a folder or file one by one, in order; errors as in `read_candidates`."""
    for table in read_candidates([path]):
        for row in table.drop_columns("order").to_pylist():
            shape, cells = (row.pop("height"), row.pop("width")), np.frombuffer(row.pop("cells"), np.uint8)
            augmentation = Augmentation(row.pop("dihedral"), tuple(map(int, row.pop("colors"))))
            yield Prediction(
                augmentation=augmentation, grid=cells.reshape(shape) if shape[0] else None, **row
            )


def candidate(cells: Any, halt: float = 0.5, **columns: Any) -> dict[str, Any]:
    """A row of predictions with the grid `cells`, rows of integers; None for no grid.

    It is for test 0 of the task `t`, made by the checkpoint `c`, unless the columns say otherwise.
    """
    grid = np.zeros((0, 0), np.uint8) if cells is None else np.array(cells, np.uint8)
    return {
        "order": 0, "task": "t", "test_index": 0, "dihedral": 0, "colors": COLORS, "variant": 0, "rollout": 0,
        "height": grid.shape[0], "width": grid.shape[1], "cells": grid.tobytes(), "halt_probability": halt,
        "log_probability": -0.1, "steps": 1, "checkpoint": "c", **columns,
    }  # fmt: skip


def table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """The rows as a table of predictions, whose order is theirs."""
    return pa.Table.from_pylist([row | {"order": order} for order, row in enumerate(rows)], schema=SCHEMA)


def write_folder(folder: Path, shards: Sequence[pa.Table]) -> Path:
    """A folder of predictions with a shard for each table."""
    folder.mkdir()
    write_json(folder / "manifest.json", make_manifest("predictions"))
    for rank, shard in enumerate(shards):
        write_shard(folder, shard, rank)
    return folder
