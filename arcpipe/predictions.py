"""Predictions: a folder of candidate grids in Parquet shards, turned back to the original puzzle.

    manifest.json                   kind "predictions": checkpoint, dataset, settings, number of candidates
    shards/part-<order>-rank<r>.parquet    candidates; <order> is that of the first

The manifest is written first, so that a growing folder can be read and resumed. Columns: order, the place in
the queue, which breaks ties; task, test_index; the query: dihedral, colors (ten digits), variant (the turn or
shuffle of a board), rollout (0: without noise); height, width, cells (bytes, row by row; 0, 0, empty if
nothing could be cropped or the answer was not finite); halt_probability; log_probability, the mean over cells
of the log of the predicted color's probability; steps; checkpoint, its path and step.

A single Parquet file with these columns can be read too, with or without `order`.
"""

import io
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from arcpipe.augmentation import DIHEDRALS
from arcpipe.boards import MAX_BOARD_SIDE
from arcpipe.errors import DataError, one_line
from arcpipe.grid import NUM_COLORS
from arcpipe.runs import read_manifest, reading, write_bytes
from arcpipe.tables import read_table, refuse_rows

SHARDS = "shards"
_REMEDY = "run infer again"
_read_columns = partial(read_table, most_rows=2**22, most_bytes=2**29, as_dictionaries=True, remedy=_REMEDY)
_NAMES = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema([
    ("order", pa.int64()), ("task", _NAMES), ("test_index", pa.int32()),
    ("dihedral", pa.uint8()), ("colors", pa.string()), ("variant", pa.uint64()), ("rollout", pa.int32()),
    ("height", pa.uint8()), ("width", pa.uint8()), ("cells", pa.binary()),
    ("halt_probability", pa.float32()), ("log_probability", pa.float32()),
    ("steps", pa.int32()), ("checkpoint", _NAMES),
])  # fmt: skip
# The types in memory: dictionaries store a repeated value once.
_READ = SCHEMA.set(4, pa.field("colors", _NAMES)).set(
    9, pa.field("cells", pa.dictionary(pa.int32(), pa.binary()))
)


def write_shard(folder: Path, table: pa.Table, rank: int) -> None:
    """Write candidates, in order, as a shard of a folder of predictions."""
    write_table(folder / SHARDS / f"part-{table['order'][0].as_py():010d}-rank{rank}.parquet", table)


def write_table(file: Path, table: pa.Table) -> None:
    """Write a Parquet file atomically; OutputError if that fails."""
    content = io.BytesIO()
    pq.write_table(table, content, compression="zstd")
    write_bytes(file, content.getvalue())


def shard_files(path: Path) -> list[Path]:
    """Return the Parquet files of a folder of predictions, in order; of a single file, the file itself.

    Raises:  DataError if `path` is missing or another kind of folder.
    """
    if path.is_file():
        return [path]
    read_manifest(path, "predictions")
    with reading(path / SHARDS), suppress(FileNotFoundError):
        # Without permission to read the folder, glob would silently find nothing.
        os.scandir(path / SHARDS).close()
    return sorted((path / SHARDS).glob(f"part-{'[0-9]' * 10}-*.parquet"))


def num_candidates(path: Path) -> int:
    """Return the number of candidates in predictions, as their files say; 0 if `path` does not exist."""
    if not path.exists():
        return 0
    return sum(pq.ParquetFile(file).metadata.num_rows for file in shard_files(path))


def answered_tests(path: Path) -> set[tuple[str, int]]:
    """Return the test inputs (task, index) that have a candidate in predictions, even one without a grid."""
    names, tests = ["task", "test_index"], set()
    for file in shard_files(path):
        table = _read_columns(file, names)
        columns = [table["task"].cast(pa.string()), table["test_index"]]
        distinct = pa.table(columns, names=names).group_by(names).aggregate([])
        tests |= set(zip(*(distinct[name].to_pylist() for name in names), strict=True))
    return tests


def read_candidates(path: Path) -> Iterator[pa.Table]:
    """Yield the candidates of a folder or file, by `order`, as tables of SCHEMA with dictionary columns.

    A file without that column is in the order of its rows. Few shards are in memory at a time: candidates
    are yielded as soon as the next shard begins after them.

    Raises:  DataError if something is missing, damaged or not predictions, or for an invalid row (from 1).
    """
    files = shard_files(path)
    label = read_manifest(path, "predictions").get("checkpoint") if path.is_dir() else None
    pending = _READ.empty_table()
    last, rows, size = -1, 0, 0
    for number, file in enumerate(files):
        table = read_shard(file)
        # Many small files, each within the limit, must not exceed it together.
        rows, size = rows + len(table), size + file.stat().st_size
        refuse_rows(rows, path, size)
        others = set() if label is None else {*pc.unique(table["checkpoint"]).to_pylist()} - {label}
        if others:
            reason = f"its candidates are of {min(others)}, those of the folder of {label}"
            raise DataError(f"{file}: is of another run, {reason}: move it away")
        pending = pa.concat_tables([pending, table] if len(pending) else [table]).unify_dictionaries()
        if np.any(np.diff(pending["order"].to_numpy()) < 0):
            pending = pending.sort_by("order")
        count = len(pending)
        if number + 1 < len(files):
            next_order = int(files[number + 1].name.split("-")[1])
            count = int(np.searchsorted(pending["order"].to_numpy(), next_order))
        ready, pending = pending.slice(0, count), pending.slice(count)
        orders = ready["order"].to_numpy()
        if np.any(np.diff(orders, prepend=last) <= 0):
            reason = f"holds a candidate twice, or {file.name} is not named after its first"
            raise DataError(f"{path}: {reason}: infer --resume puts such files aside")
        if len(ready):
            last = orders[-1]
            yield ready.combine_chunks()


def read_shard(file: Path) -> pa.Table:
    """Return the checked candidates of a file, in the types of `read_candidates`.

    Raises:  DataError if it is not a complete Parquet file, too large, or not predictions.
    """
    table = _read_columns(file, SCHEMA.names)
    if missing := {*SCHEMA.names} - {"order", *table.column_names}:
        raise DataError(f"{file}: no file of predictions, it lacks the column {min(missing)}")
    if "order" not in table.column_names:
        table = table.append_column("order", pa.array(np.arange(len(table))))
    table = pa.table([_column(table[field.name], field, file) for field in _READ], schema=_READ)
    _check_rows(table, file)
    return table


def _column(column: pa.ChunkedArray, field: pa.Field, file: Path) -> pa.ChunkedArray:
    """Return a column in the type of the schema, without nulls."""
    try:
        if pa.types.is_dictionary(field.type) and not pa.types.is_dictionary(column.type):
            column = column.cast(field.type.value_type).dictionary_encode()
        column = column.cast(field.type)
        column.validate(full=True)
    except pa.ArrowException as error:
        kind = getattr(field.type, "value_type", field.type)
        what = "text" if kind == pa.string() else f"of type {kind}"
        reason = f"column {field.name} is not {what} ({one_line(error)})"
        raise DataError(f"{file}: {reason}; {_REMEDY}") from None
    if column.null_count:
        row = pc.index(column.is_null(), True).as_py() + 1
        raise DataError(f"{file}: row {row}: {field.name} is null; {_REMEDY}")
    return column


def _check_rows(table: pa.Table, file: Path) -> None:
    """Raise DataError for the first row with an invalid value."""
    order, test_index, dihedral, rollout, steps = (
        table[name].to_numpy() for name in ("order", "test_index", "dihedral", "rollout", "steps")
    )
    halt, log = (table[name].to_numpy() for name in ("halt_probability", "log_probability"))
    height, width = (table[name].to_numpy().astype(np.int64) for name in ("height", "width"))
    sides_fit = (height >= 1) & (height <= MAX_BOARD_SIDE) & (width >= 1) & (width <= MAX_BOARD_SIDE)
    num_cells = _map_values(table["cells"], pc.binary_length)
    problems = {
        "order {order} is negative": order < 0,
        "the task is empty": _map_values(table["task"], lambda tasks: pc.equal(tasks, "")),
        "test_index {test_index} is negative": test_index < 0,
        "dihedral {dihedral} is not 0..7": dihedral >= len(DIHEDRALS),
        "colors {colors!r:.40} are no permutation of 0123456789": ~_map_values(
            table["colors"], _are_permutations
        ),
        "rollout {rollout} is negative": rollout < 0,
        f"{{height}} x {{width}} cells, sides may be 1..{MAX_BOARD_SIDE}": ((height > 0) | (width > 0))
        & ~sides_fit,
        "{num_cells} cells, expected {height} x {width}": num_cells != height * width,
        "a cell is above 9": _map_values(
            table["cells"], lambda cells: pc.match_substring_regex(cells, r"[^\x00-\x09]")
        ),
        # Negated, so that NaN is wrong too.
        "halt_probability {halt_probability} is not 0..1": ~((halt >= 0) & (halt <= 1)),
        "log_probability {log_probability} is not a number up to 0": ~((log <= 0) & np.isfinite(log)),
        "steps {steps} is negative": steps < 0,
    }
    for problem, wrong in problems.items():
        if wrong.any():
            index = int(wrong.argmax())
            row = table.slice(index, 1).to_pylist()[0]
            reason = problem.format(**row, num_cells=num_cells[index])
            raise DataError(f"{file}: row {index + 1}: {reason}; {_REMEDY}")


def _map_values(column: pa.ChunkedArray, check: Callable[[pa.Array], Any]) -> NDArray[Any]:
    """Return a function of each row's value, computed once per distinct value."""
    parts = (np.asarray(check(chunk.dictionary))[chunk.indices] for chunk in column.chunks)
    return np.concatenate([np.zeros(0, bool), *parts])


def _are_permutations(colors: pa.Array) -> NDArray[np.bool_]:
    """Return which texts are permutations of the ten digits: ten bytes that contain each digit."""
    permutations: NDArray[np.bool_] = np.asarray(pc.equal(pc.binary_length(colors), NUM_COLORS))
    for digit in range(NUM_COLORS):
        permutations &= np.asarray(pc.match_substring(colors, str(digit)))
    return permutations
