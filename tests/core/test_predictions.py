"""Folders and files of candidates: what goes in comes out in order, and what they say of one that is none."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arcpipe.augmentation import Augmentation
from arcpipe.errors import DataError
from arcpipe.grid import Grid
from arcpipe.predictions import SCHEMA, read_candidates, write_shard, write_table
from candidates import candidate, read_predictions, table, write_folder
from strategies import augmentations, grids

COLUMNS = tuple(SCHEMA.names)
CELLS = [[1, 2, 3], [4, 5, 6]]
NUMBERS = ("test_index", "dihedral", "rollout", "height", "width", "steps")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("predictions")


def rows_of(*paths: Path) -> list[dict[str, Any]]:
    return [row for part in read_candidates(paths) for row in part.to_pylist()]


@given(st.lists(st.none() | grids(6), max_size=6), st.randoms())
def test_what_is_written_is_read_in_its_order(folder: Path, found: list[Grid | None], random: Any) -> None:
    written = table([candidate(grid, random.random(), task=f"t{random.random()}") for grid in found])
    write_table(folder / "some.parquet", written)
    assert rows_of(folder / "some.parquet") == written.to_pylist()


@given(grids(), augmentations())
def test_a_candidate_comes_back_as_a_prediction(folder: Path, grid: Grid, augmentation: Augmentation) -> None:
    colors = "".join(map(str, augmentation.colors))
    row = candidate(grid, dihedral=augmentation.dihedral, colors=colors, variant=2**64 - 1, steps=16)
    write_table(folder / "one.parquet", table([row, candidate(None)]))
    read, empty = read_predictions(folder / "one.parquet")
    np.testing.assert_array_equal(read.grid, grid)
    assert (read.task, read.augmentation, read.variant, read.steps) == ("t", augmentation, 2**64 - 1, 16)
    assert empty.grid is None


@settings(max_examples=30)
@given(st.lists(st.sets(st.integers(0, 40), min_size=1), min_size=1, max_size=4))
def test_the_shards_of_a_folder_are_merged_by_order(
    tmp_path_factory: pytest.TempPathFactory, parts: list[set[int]]
) -> None:
    taken: set[int] = set()
    shards = []
    for rank, part in enumerate(parts):
        orders, taken = sorted(part - taken), taken | part
        rows = [candidate(None, order=order, task=f"{rank}") for order in orders]
        shards += [pa.Table.from_pylist(rows, schema=SCHEMA)] if rows else []
    path = write_folder(tmp_path_factory.mktemp("merged") / "folder", shards)
    assert [row["order"] for row in rows_of(path)] == sorted(taken)


def test_shards_that_hold_a_candidate_twice_or_have_another_name_are_refused(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "twice", [table([candidate(None)]), table([candidate(None)])])
    with pytest.raises(DataError, match="twice: holds a candidate twice"):
        rows_of(path)
    path = write_folder(tmp_path / "folder", [table([candidate(None)] * 3)])
    (path / "shards" / "part-0000000000-rank0.parquet").rename(
        path / "shards" / "part-0000000002-rank0.parquet"
    )
    write_shard(path, pa.Table.from_pylist([candidate(None, order=1)], schema=SCHEMA), 0)
    with pytest.raises(DataError, match=r"or part-0000000002-rank0\.parquet is not named after its first"):
        rows_of(path)


def test_the_file_is_a_table_that_others_can_read(tmp_path: Path) -> None:
    file = tmp_path / "some.parquet"
    write_table(file, table([candidate(CELLS, 0.25), candidate(None)]))
    full, empty = pq.read_table(file).to_pylist()
    assert tuple(full) == COLUMNS
    assert (full["height"], full["width"], full["cells"]) == (2, 3, bytes([1, 2, 3, 4, 5, 6]))
    assert (full["dihedral"], full["colors"], full["halt_probability"]) == (0, "0123456789", 0.25)
    assert (empty["height"], empty["width"], empty["cells"]) == (0, 0, b"")


def repeated(rows: int, **changes: Any) -> pa.Table:
    """A row many times, in a column of its own or another one, which hardly needs room in a file."""
    values = table([candidate(CELLS)]).to_pylist()[0] | changes
    zeros = pa.array(np.zeros(rows, np.int32))
    return pa.table({name: pa.DictionaryArray.from_arrays(zeros, [value]) for name, value in values.items()})


@pytest.mark.parametrize(
    ("rows", "changes", "says"),
    [
        (2**22 + 1, {}, "holds 4,194,305 rows, a file of its size may hold up to "),
        (2000, {"cells": bytes(2**20)}, "row 1: 1048576 cells, expected 2 x 3; "),
        (2000, {"colors": "0" * 2**20}, "row 1: colors '000"),
    ],
)
def test_a_huge_table_is_refused(tmp_path: Path, rows: int, changes: dict[str, Any], says: str) -> None:
    file, before = tmp_path / "some.parquet", pa.default_memory_pool().max_memory()
    write_table(file, repeated(rows, **changes))
    assert file.stat().st_size < 10**6
    with pytest.raises(DataError) as caught:
        rows_of(file)
    assert str(caught.value).startswith(f"{file}: {says}")
    assert pa.default_memory_pool().max_memory() - before < 2**28


@pytest.mark.parametrize("column", ["checkpoint", "note"])
def test_a_huge_column_that_nobody_reads_is_no_obstacle(tmp_path: Path, column: str) -> None:
    file, before = tmp_path / "some.parquet", pa.default_memory_pool().max_memory()
    huge = repeated(2000, **{column: "c" * 2**20})
    write_table(file, huge.set_column(0, "order", pa.array(range(2000))))
    assert sum(len(part) for part in read_candidates([file])) == 2000
    assert pa.default_memory_pool().max_memory() - before < 2**30


def said_of(file: Path) -> str:
    """What reading says of a file, after its name and before the way out."""
    with pytest.raises(DataError) as caught:
        rows_of(file)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{file}: ")
    assert message.endswith("; run infer again")
    return message.removeprefix(f"{file}: ").removesuffix("; run infer again")


def with_second_row(file: Path, **changes: Any) -> str:
    """What reading says of a file of three predictions, the second one changed."""
    rows = table([candidate(CELLS)] * 3)
    listed = rows.to_pylist()
    listed[1] |= changes
    # Wider integers than arcpipe's own, which could not hold some of what is to be found.
    types = [pa.int64() if pa.types.is_integer(kind) else kind for kind in rows.schema.types]
    wide = pa.schema(zip(rows.column_names, types, strict=True))
    write_table(file, pa.Table.from_pylist(listed, schema=wide))
    return said_of(file)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"order": -1}, "order -1 is negative"),
        ({"task": ""}, "the task is empty"),
        ({"test_index": -1}, "test_index -1 is negative"),
        ({"dihedral": 8}, "dihedral 8 is not 0..7"),
        ({"colors": "0000000000"}, "colors '0000000000' are no permutation of 0123456789"),
        ({"colors": "012345678"}, "colors '012345678' are no permutation of 0123456789"),
        ({"colors": "01234567899"}, "colors '01234567899' are no permutation of 0123456789"),
        ({"colors": "a\nb"}, r"colors 'a\nb' are no permutation of 0123456789"),
        ({"rollout": -1}, "rollout -1 is negative"),
        ({"steps": -1}, "steps -1 is negative"),
        ({"height": 65, "width": 1, "cells": bytes(65)}, "65 x 1 cells, sides may be 1..64"),
        ({"height": 1, "width": 65, "cells": bytes(65)}, "1 x 65 cells, sides may be 1..64"),
        ({"height": 3, "width": 0, "cells": b""}, "3 x 0 cells, sides may be 1..64"),
        ({"height": 3}, "6 cells, expected 3 x 3"),
        ({"height": 20, "width": 20, "cells": bytes(144)}, "144 cells, expected 20 x 20"),
        ({"height": 0}, "0 x 3 cells, sides may be 1..64"),
        ({"height": 0, "width": 5, "cells": b""}, "0 x 5 cells, sides may be 1..64"),
        ({"cells": bytes([1, 2, 3, 4, 5, 10])}, "a cell is above 9"),
        ({"cells": bytes([255, 2, 3, 4, 5, 6])}, "a cell is above 9"),
        ({"halt_probability": float("nan")}, "halt_probability nan is not 0..1"),
        ({"halt_probability": -0.5}, "halt_probability -0.5 is not 0..1"),
        ({"halt_probability": 1.5}, "halt_probability 1.5 is not 0..1"),
        ({"log_probability": 0.5}, "log_probability 0.5 is not a number up to 0"),
        ({"log_probability": float("nan")}, "log_probability nan is not a number up to 0"),
        ({"log_probability": float("-inf")}, "log_probability -inf is not a number up to 0"),
        *(({column: None}, f"{column} is null") for column in COLUMNS),
    ],
)
def test_a_row_that_cannot_be_is_named(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    assert with_second_row(tmp_path / "some.parquet", **changes) == f"row 2: {says}"


OTHER_TYPES = (
    pa.array([b"\xff"]),
    pa.array([[1]]),
    pa.array([{"a": b""}]),
    pa.array([bytes(9)], pa.binary(9)),
    pa.array([b"\xff\xfe"]).view(pa.string()),
)


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_that_cannot_be_is_named(tmp_path: Path, column: str) -> None:
    """Of another type, with numbers too large for it, there twice, or missing."""
    file, rows = tmp_path / "some.parquet", table([candidate(CELLS)])
    for values in OTHER_TYPES:
        write_table(file, rows.set_column(rows.column_names.index(column), column, values))
        if column != "cells" or not pa.types.is_string(values.type):
            assert said_of(file).startswith((f"column {column} is not ", "row 1: "))
    if column in NUMBERS:
        says = with_second_row(file, **{column: 2**40})
        assert says.startswith(f"column {column} is not of type ")
    write_table(file, rows.append_column(column, rows[column]))
    assert said_of(file) == f"holds the column {column} twice"
    write_table(file, rows.drop_columns([column]))
    if column == "order":
        assert rows_of(file) == rows.to_pylist()
    else:
        with pytest.raises(DataError) as caught:
            rows_of(file)
        assert str(caught.value) == f"{file}: no file of predictions, it lacks the column {column}"


@given(st.lists(st.none() | grids(6), min_size=2, max_size=6), st.data())
def test_the_row_of_a_wrong_cell_is_found(
    folder: Path, found: list[Grid | None], data: st.DataObject
) -> None:
    numbers = [number for number, grid in enumerate(found, 1) if grid is not None]
    if not numbers:
        return
    number = data.draw(st.sampled_from(numbers))
    grid = found[number - 1]
    assert grid is not None
    large = grid.copy()
    large.flat[data.draw(st.integers(0, grid.size - 1))] = 10
    found[number - 1] = large
    write_table(folder / "large.parquet", table([candidate(grid) for grid in found]))
    assert said_of(folder / "large.parquet") == f"row {number}: a cell is above 9"


@pytest.mark.parametrize("content", [b"", b"no table", b"PAR1" + bytes(100)])
def test_a_file_that_is_no_parquet_file(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "some.parquet"
    file.write_bytes(content)
    with pytest.raises(DataError) as caught:
        rows_of(file)
    assert str(caught.value).startswith(f"{file}: not a whole Parquet file (")
    assert "\n" not in str(caught.value)
