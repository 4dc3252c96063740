"""Limits of Parquet files; folders and files of candidates, and errors for invalid ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcpipe.documents import LIMITS, load_json, parse_toml
from arcpipe.errors import ArcpipeError, DataError
from arcpipe.grid import Grid
from arcpipe.predictions import SCHEMA, read_candidates, write_shard, write_table
from arcpipe.tables import read_table
from candidates import candidate, table, write_folder
from puzzles import grids

COLUMNS = tuple(SCHEMA.names)
CELLS = [[1, 2, 3], [4, 5, 6]]
NUMBERS = ("test_index", "dihedral", "rollout", "height", "width", "steps")


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [row for part in read_candidates(path) for row in part.to_pylist()]


@given(st.lists(st.none() | grids(6), max_size=6), st.randoms())
def test_what_is_written_is_read_in_its_order(
    tmp_path_factory: pytest.TempPathFactory, found: list[Grid | None], random: Any
) -> None:
    file = tmp_path_factory.mktemp("predictions") / "some.parquet"
    written = table([candidate(grid, random.random(), task=f"t{random.random()}") for grid in found])
    write_table(file, written)
    assert rows_of(file) == written.to_pylist()


def test_shards_that_hold_a_candidate_twice_or_have_another_name_are_refused(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "twice", [table([candidate(None)]), table([candidate(None)])])
    with pytest.raises(DataError, match="twice: holds a candidate twice"):
        rows_of(path)
    path = write_folder(tmp_path / "folder", [table([candidate(None)] * 3)])
    shards = path / "shards"
    (shards / "part-0000000000-rank0.parquet").rename(shards / "part-0000000002-rank0.parquet")
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


@pytest.mark.parametrize("column", ["checkpoint", "note"])
def test_a_huge_column_that_nobody_reads_is_no_obstacle(tmp_path: Path, column: str) -> None:
    file, before = tmp_path / "some.parquet", pa.default_memory_pool().max_memory()
    values = table([candidate(CELLS)]).to_pylist()[0] | {column: "c" * 2**20}
    # A repeated row takes hardly any space in a file.
    zeros = pa.array(np.zeros(2000, np.int32))
    huge = pa.table({name: pa.DictionaryArray.from_arrays(zeros, [of]) for name, of in values.items()})
    write_table(file, huge.set_column(0, "order", pa.array(range(2000))))
    assert sum(len(part) for part in read_candidates(file)) == 2000
    assert pa.default_memory_pool().max_memory() - before < 2**30


def said_of(file: Path) -> str:
    """Return the error for a file, without its name and the remedy."""
    with pytest.raises(DataError) as caught:
        rows_of(file)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{file}: ")
    assert message.endswith("; run infer again")
    return message.removeprefix(f"{file}: ").removesuffix("; run infer again")


def with_second_row(file: Path, **changes: Any) -> str:
    """Return the error for a file of three predictions with the second one changed."""
    rows = table([candidate(CELLS)] * 3)
    listed = rows.to_pylist()
    listed[1] |= changes
    # Wider integers than arcpipe's own, to hold the invalid values.
    types = [pa.int64() if pa.types.is_integer(kind) else kind for kind in rows.schema.types]
    wide = pa.schema(zip(rows.column_names, types, strict=True))
    write_table(file, pa.Table.from_pylist(listed, schema=wide))
    return said_of(file)


@pytest.mark.parametrize(("changes", "says"), [
    ({"order": -1}, "order -1 is negative"),
    ({"task": ""}, "the task is empty"),
    ({"dihedral": 8}, "dihedral 8 is not 0..7"),
    ({"colors": "0000000000"}, "colors '0000000000' are no permutation of 0123456789"),
    ({"colors": "a\nb"}, r"colors 'a\nb' are no permutation of 0123456789"),
    ({"height": 65, "width": 1, "cells": bytes(65)}, "65 x 1 cells, sides may be 1..64"),
    ({"height": 3, "width": 0, "cells": b""}, "3 x 0 cells, sides may be 1..64"),
    ({"height": 3}, "6 cells, expected 3 x 3"),
    ({"height": 20, "width": 20, "cells": bytes(144)}, "144 cells, expected 20 x 20"),
    ({"height": 0, "width": 5, "cells": b""}, "0 x 5 cells, sides may be 1..64"),
    ({"cells": bytes([1, 2, 3, 4, 5, 10])}, "a cell is above 9"),
    ({"cells": bytes([255, 2, 3, 4, 5, 6])}, "a cell is above 9"),
    ({"halt_probability": float("nan")}, "halt_probability nan is not 0..1"),
    ({"halt_probability": 1.5}, "halt_probability 1.5 is not 0..1"),
    ({"log_probability": 0.5}, "log_probability 0.5 is not a number up to 0"),
    ({"log_probability": float("nan")}, "log_probability nan is not a number up to 0"),
    ({"log_probability": float("-inf")}, "log_probability -inf is not a number up to 0"),
    *(({column: None}, f"{column} is null") for column in ("task", "cells", "steps")),
])  # fmt: skip
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
    """A column of another type, with too large numbers, repeated, or missing."""
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


BOUNDS: dict[str, Any] = {"most_rows": 2**30, "most_bytes": 2**40}
NAMES = ["text", "number", "share", "none", "flag", "word"]


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd"])
@pytest.mark.parametrize(
    "extra", [{}, {"use_dictionary": False, "write_page_checksum": True, "row_group_size": 700}]
)
def test_all_that_is_written(tmp_path: Path, version: str, compression: str, extra: dict[str, Any]) -> None:
    generator, count = np.random.default_rng(0), 2000
    boards = ["".join(map(str, row)) for row in generator.integers(0, 10, (count, 81))]
    written = pa.table({
        "text": boards, "number": generator.integers(0, 9, count), "share": generator.random(count),
        "none": pa.nulls(count, pa.string()), "flag": generator.random(count) < 0.5,
        "word": pa.array(["x", "y"] * (count // 2)).dictionary_encode(), "list": [[1, 2]] * count,
    })  # fmt: skip
    file = tmp_path / "t.parquet"
    pq.write_table(written, file, data_page_version=version, compression=compression, **extra)
    read = read_table(file, NAMES, **BOUNDS)
    for name in NAMES:
        assert read[name].to_pylist() == written[name].to_pylist()
    pq.write_table(written.slice(0, 0), file)
    assert len(read_table(file, NAMES, **BOUNDS)) == 0


def test_the_bounds_are_the_users_to_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, recipe = tmp_path / "t.parquet", "# \n" * 60_000
    pq.write_table(pa.table({"number": np.zeros(600_000, np.int8)}), file)
    with pytest.raises(DataError, match=r"holds 600,000 rows, .* may hold up to 26\d,\d{3}: split"):
        read_table(file, ["number"], **BOUNDS)
    with pytest.raises(ValueError, match="larger than 131 kB"):
        parse_toml(recipe)
    monkeypatch.setenv(LIMITS, "2.5")
    assert len(read_table(file, ["number"], **BOUNDS)) == 600_000
    assert parse_toml(recipe) == {}
    monkeypatch.setenv(LIMITS, "many")
    with pytest.raises(ArcpipeError, match="ARCPIPE_LIMITS='many': expected a factor, such as 4"):
        load_json(file)
