"""Candidates for tests: tables of them made by hand, and those of a folder one by one."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa

from arcpipe.predictions import SCHEMA, read_candidates, write_shard
from arcpipe.runs import make_manifest, write_json
from puzzles import Augmentation

COLORS = "0123456789"


def read_predictions(path: Path) -> Iterator[SimpleNamespace]:
    """Yield the candidates of a folder in order, by their columns, with an augmentation and a grid."""
    for table in read_candidates(path):
        for row in table.drop_columns("order").to_pylist():
            shape, cells = (row.pop("height"), row.pop("width")), np.frombuffer(row.pop("cells"), np.uint8)
            augmentation = Augmentation(row.pop("dihedral"), tuple(map(int, row.pop("colors"))))
            grid = cells.reshape(shape) if shape[0] else None
            yield SimpleNamespace(augmentation=augmentation, grid=grid, **row)


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


def write_folder(folder: Path, shards: Sequence[pa.Table], **facts: Any) -> Path:
    """A folder of predictions with a shard for each table, and facts in its manifest."""
    folder.mkdir()
    write_json(folder / "manifest.json", make_manifest("predictions", **facts))
    for rank, shard in enumerate(shards):
        write_shard(folder, shard, rank)
    return folder
