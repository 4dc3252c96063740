"""Predictions: candidate grids, one Parquet row each, in the frame of the original task.

Columns: task, test_index, dihedral, colors (ten digits), height, width, cells (bytes, row by row; all
three empty where nothing could be cropped), halt_probability, steps.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from arcpipe.augmentation import Augmentation
from arcpipe.errors import DataError
from arcpipe.grid import Grid

PREDICTIONS_FILE = "predictions.parquet"
_SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("test_index", pa.int32()),
        ("dihedral", pa.uint8()),
        ("colors", pa.string()),
        ("height", pa.uint8()),
        ("width", pa.uint8()),
        ("cells", pa.binary()),
        ("halt_probability", pa.float32()),
        ("steps", pa.int32()),
    ]
)


@dataclass(frozen=True, eq=False)
class Prediction:
    """One candidate for a test input.

    augmentation: under which it was predicted. grid: already turned back; None where the answer held
    no grid. halt_probability: 0..1, the model's own word on whether it is right. steps: supervision
    steps done.
    """

    task: str
    test_index: int
    augmentation: Augmentation
    grid: Grid | None
    halt_probability: float
    steps: int


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write candidates in their order, which is what breaks ties in a vote."""
    rows = [_row(prediction) for prediction in predictions]
    pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), path)


def _row(prediction: Prediction) -> dict[str, object]:
    grid = np.zeros((0, 0), np.uint8) if prediction.grid is None else prediction.grid
    return {
        "task": prediction.task,
        "test_index": prediction.test_index,
        "dihedral": prediction.augmentation.dihedral,
        "colors": "".join(map(str, prediction.augmentation.colors)),
        "height": grid.shape[0],
        "width": grid.shape[1],
        "cells": grid.tobytes(),
        "halt_probability": prediction.halt_probability,
        "steps": prediction.steps,
    }


def read_predictions(path: Path) -> Iterator[Prediction]:
    """The candidates of a Parquet file, or of the `predictions.parquet` in a folder, in order.

    Raises:  DataError if it is missing, damaged or no file of predictions.
    """
    file = path / PREDICTIONS_FILE if path.is_dir() else path
    try:
        table = pq.read_table(file)
    except FileNotFoundError:
        raise DataError(f"{file}: no such file") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{file}: not a Parquet file ({' '.join(str(error).split())})") from None
    missing = set(_SCHEMA.names) - set(table.column_names)
    if missing:
        raise DataError(f"{file}: no file of predictions, it lacks the column {sorted(missing)[0]}")
    return (_prediction(row) for row in table.to_pylist())


def _prediction(row: dict[str, object]) -> Prediction:
    height, width = int(str(row["height"])), int(str(row["width"]))
    cells = row["cells"]
    assert isinstance(cells, bytes)
    grid = np.frombuffer(cells, np.uint8).reshape(height, width) if height else None
    return Prediction(
        task=str(row["task"]),
        test_index=int(str(row["test_index"])),
        augmentation=Augmentation(int(str(row["dihedral"])), tuple(map(int, str(row["colors"])))),
        grid=grid,
        halt_probability=float(str(row["halt_probability"])),
        steps=int(str(row["steps"])),
    )
