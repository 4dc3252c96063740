"""Predictions: candidate grids, one Parquet row each, in the frame of the original task.

Columns: task, test_index, dihedral, colors (ten digits), height, width, cells (bytes, row by row; all
three empty where nothing could be cropped), halt_probability, steps.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from arcpipe.augmentation import DIHEDRALS, Augmentation
from arcpipe.errors import DataError, one_line
from arcpipe.grid import MAX_SIDE, NUM_COLORS, Grid

PREDICTIONS_FILE = "predictions.parquet"
_REMEDY = "run infer again"
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


def predictions_file(path: Path) -> Path:
    """The Parquet file of a folder of predictions; any other path is the file itself."""
    return path / PREDICTIONS_FILE if path.is_dir() else path


def read_predictions(path: Path) -> Iterator[Prediction]:
    """The candidates of a Parquet file, or of the `predictions.parquet` in a folder, in order.

    Raises:  DataError, before the first candidate, if the file is missing, damaged or no file of
             predictions, or if a row of it holds what cannot be; rows count from 1.
    """
    file = predictions_file(path)
    table = _read_table(file)
    _check_rows(table, file)
    return (_prediction(row) for batch in table.to_batches() for row in batch.to_pylist())


def _read_table(file: Path) -> pa.Table:
    """The file's columns in the types of the schema, none of them null."""
    try:
        table = pq.read_table(file)
    except FileNotFoundError:
        raise DataError(f"{file}: no such file") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{file}: not a Parquet file ({one_line(error)})") from None
    missing = set(_SCHEMA.names) - set(table.column_names)
    if missing:
        raise DataError(f"{file}: no file of predictions, it lacks the column {sorted(missing)[0]}")
    columns = []
    for field in _SCHEMA:
        try:
            column = table[field.name].cast(field.type)
            column.validate(full=True)
        except pa.ArrowException as error:
            reason = f"column {field.name} is not of type {field.type} ({one_line(error)})"
            raise DataError(f"{file}: {reason}; {_REMEDY}") from None
        if column.null_count:
            row = pc.index(column.is_null(), True).as_py() + 1
            raise DataError(f"{file}: row {row}: {field.name} is null; {_REMEDY}")
        columns.append(column)
    return pa.table(columns, schema=_SCHEMA)


def _check_rows(table: pa.Table, file: Path) -> None:
    """Raises DataError on the first row with a wrong value, all rows compared at once."""
    test_index, dihedral, halt = (
        table[name].to_numpy() for name in ("test_index", "dihedral", "halt_probability")
    )
    height, width = (table[name].to_numpy().astype(np.int64) for name in ("height", "width"))
    sides_fit = (height >= 1) & (height <= MAX_SIDE) & (width >= 1) & (width <= MAX_SIDE)
    num_cells = pc.binary_length(table["cells"]).to_numpy()
    problems = {
        "the task is empty": pc.equal(table["task"], "").to_numpy(),
        "test_index {test_index} is negative": test_index < 0,
        "dihedral {dihedral} is not 0..7": dihedral >= len(DIHEDRALS),
        "colors {colors!r:.40} are no permutation of 0123456789": ~_are_permutations(table["colors"]),
        "{height} x {width} cells, sides may be 1..30": (height > 0) & ~sides_fit,
        "{cells_found} cells, expected {height} x {width}": num_cells != height * width,
        "a cell is above 9": _with_large_cells(table["cells"], num_cells),
        # Put this way, NaN is wrong too.
        "halt_probability {halt_probability} is not 0..1": ~((halt >= 0) & (halt <= 1)),
    }
    for problem, wrong in problems.items():
        if wrong.any():
            index = int(wrong.argmax())
            found = table.slice(index, 1).to_pylist()[0]
            reason = problem.format(**found, cells_found=num_cells[index])
            raise DataError(f"{file}: row {index + 1}: {reason}; {_REMEDY}")


def _are_permutations(colors: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Which texts are the ten digits in some order: ten bytes that hold each of them."""
    permutations: NDArray[np.bool_] = pc.binary_length(colors).to_numpy() == NUM_COLORS
    for digit in range(NUM_COLORS):
        permutations &= pc.match_substring(colors, str(digit)).to_numpy()
    return permutations


def _with_large_cells(cells: pa.ChunkedArray, num_cells: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which rows hold a value that is no color."""
    values = np.frombuffer(b"".join(cells.to_pylist()), np.uint8)
    rows = np.searchsorted(np.cumsum(num_cells), np.flatnonzero(values >= NUM_COLORS), side="right")
    found = np.zeros(len(num_cells), bool)
    found[rows] = True
    return found


def _prediction(row: dict[str, Any]) -> Prediction:
    shape = row["height"], row["width"]
    return Prediction(
        task=row["task"],
        test_index=row["test_index"],
        augmentation=Augmentation(row["dihedral"], tuple(map(int, row["colors"]))),
        grid=np.frombuffer(row["cells"], np.uint8).reshape(shape) if row["height"] else None,
        halt_probability=row["halt_probability"],
        steps=row["steps"],
    )
