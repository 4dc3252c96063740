"""The Parquet file of candidates: what goes in comes out, and what it says of a file that is none."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcpipe.augmentation import IDENTITY, Augmentation
from arcpipe.errors import DataError
from arcpipe.grid import Grid
from arcpipe.predictions import PREDICTIONS_FILE, Prediction, read_predictions, write_predictions
from strategies import augmentations, grids

COLUMNS = (
    "task", "test_index", "dihedral", "colors", "height", "width", "cells", "halt_probability", "steps",
)  # fmt: skip


def predictions() -> st.SearchStrategy[Prediction]:
    return st.builds(
        Prediction,
        task=st.text(min_size=1, max_size=8),
        test_index=st.integers(0, 9),
        augmentation=augmentations(),
        grid=st.none() | grids(6),
        halt_probability=st.floats(0, 1, width=32),
        steps=st.integers(0, 1000),
    )


def plain(prediction: Prediction) -> dict[str, object]:
    """A prediction as a value that compares with ==."""
    grid = prediction.grid
    return vars(prediction) | {"grid": None if grid is None else (str(grid.dtype), grid.tolist())}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("predictions")


@given(st.lists(predictions(), max_size=6))
def test_what_is_written_is_read_in_its_order(folder: Path, written: list[Prediction]) -> None:
    write_predictions(folder / PREDICTIONS_FILE, written)
    for path in (folder, folder / PREDICTIONS_FILE):
        read = list(read_predictions(path))
        assert [plain(prediction) for prediction in read] == [plain(prediction) for prediction in written]


@given(grids(), augmentations())
def test_grids_of_all_sizes_keep_their_cells(folder: Path, grid: Grid, augmentation: Augmentation) -> None:
    write_predictions(folder / "one.parquet", [Prediction("t", 0, augmentation, grid, 0.5, 16)])
    (read,) = read_predictions(folder / "one.parquet")
    np.testing.assert_array_equal(read.grid, grid)


def test_the_file_is_a_table_that_others_can_read(tmp_path: Path) -> None:
    grid = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    file = tmp_path / "some.parquet"
    write_predictions(
        file, [Prediction("t", 1, IDENTITY, grid, 0.25, 16), Prediction("t", 1, IDENTITY, None, 0.5, 16)]
    )
    full, empty = pq.read_table(file).to_pylist()
    assert tuple(full) == COLUMNS
    assert (full["height"], full["width"], full["cells"]) == (2, 3, bytes([1, 2, 3, 4, 5, 6]))
    assert (full["dihedral"], full["colors"], full["halt_probability"]) == (0, "0123456789", 0.25)
    assert (empty["height"], empty["width"], empty["cells"]) == (0, 0, b"")


@pytest.mark.parametrize("column", COLUMNS)
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    file = tmp_path / "some.parquet"
    write_predictions(file, [Prediction("t", 0, IDENTITY, None, 0.5, 16)])
    pq.write_table(pq.read_table(file).drop_columns([column]), file)
    with pytest.raises(DataError) as caught:
        read_predictions(file)
    assert str(caught.value) == f"{file}: no file of predictions, it lacks the column {column}"


def test_further_columns_and_another_order_of_them_do_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "some.parquet"
    write_predictions(file, [Prediction("t", 3, IDENTITY, None, 0.5, 16)])
    table = pq.read_table(file).append_column("note", pa.array(["mine"]))
    pq.write_table(table.select(table.column_names[::-1]), file)
    (read,) = read_predictions(file)
    assert plain(read) == plain(Prediction("t", 3, IDENTITY, None, 0.5, 16))


def with_second_row(file: Path, **changes: Any) -> str:
    """What reading says of a file of three predictions, the second one changed, after its name."""
    grid = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    write_predictions(file, [Prediction("t", 0, IDENTITY, grid, 0.5, 16)] * 3)
    table = pq.read_table(file)
    rows = table.to_pylist()
    rows[1] |= changes
    # Wider integers than arcpipe's own, which could not hold some of what is to be found.
    types = [pa.int64() if pa.types.is_integer(kind) else kind for kind in table.schema.types]
    wide = pa.schema(zip(table.column_names, types, strict=True))
    pq.write_table(pa.Table.from_pylist(rows, schema=wide), file)
    with pytest.raises(DataError) as caught:
        read_predictions(file)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{file}: ")
    assert message.endswith("; run infer again")
    return message.removeprefix(f"{file}: ").removesuffix("; run infer again")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"task": ""}, "the task is empty"),
        ({"test_index": -1}, "test_index -1 is negative"),
        ({"dihedral": 8}, "dihedral 8 is not 0..7"),
        ({"colors": "0000000000"}, "colors '0000000000' are no permutation of 0123456789"),
        ({"colors": "012345678"}, "colors '012345678' are no permutation of 0123456789"),
        ({"colors": "01234567899"}, "colors '01234567899' are no permutation of 0123456789"),
        ({"colors": "a\nb"}, r"colors 'a\nb' are no permutation of 0123456789"),
        ({"height": 31, "width": 1, "cells": bytes(31)}, "31 x 1 cells, sides may be 1..30"),
        ({"height": 1, "width": 31, "cells": bytes(31)}, "1 x 31 cells, sides may be 1..30"),
        ({"height": 3, "width": 0, "cells": b""}, "3 x 0 cells, sides may be 1..30"),
        ({"height": 3}, "6 cells, expected 3 x 3"),
        ({"height": 20, "width": 20, "cells": bytes(144)}, "144 cells, expected 20 x 20"),
        ({"height": 0}, "6 cells, expected 0 x 3"),
        ({"cells": bytes([1, 2, 3, 4, 5, 10])}, "a cell is above 9"),
        ({"cells": bytes([255, 2, 3, 4, 5, 6])}, "a cell is above 9"),
        ({"halt_probability": float("nan")}, "halt_probability nan is not 0..1"),
        ({"halt_probability": -0.5}, "halt_probability -0.5 is not 0..1"),
        ({"halt_probability": 1.5}, "halt_probability 1.5 is not 0..1"),
        *(({column: None}, f"{column} is null") for column in COLUMNS),
    ],
)
def test_a_row_that_cannot_be_is_named(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    assert with_second_row(tmp_path / "some.parquet", **changes) == f"row 2: {says}"


@pytest.mark.parametrize("column", ["test_index", "dihedral", "height", "width", "steps"])
def test_a_number_too_large_for_its_column_is_refused(tmp_path: Path, column: str) -> None:
    says = with_second_row(tmp_path / "some.parquet", **{column: 2**40})
    assert says.startswith(f"column {column} is not of type ")


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("values", [[b"\xff"], [[1]], [{"a": b""}]])
def test_a_column_of_another_type_is_refused(tmp_path: Path, column: str, values: list[Any]) -> None:
    file = tmp_path / "some.parquet"
    write_predictions(file, [Prediction("t", 0, IDENTITY, None, 0.5, 16)])
    table = pq.read_table(file)
    pq.write_table(table.set_column(table.column_names.index(column), column, pa.array(values)), file)
    with pytest.raises(DataError) as caught:
        read_predictions(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert str(caught.value).endswith("; run infer again")
    assert "\n" not in str(caught.value)


def test_a_text_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "some.parquet"
    write_predictions(file, [Prediction("task", 0, IDENTITY, None, 0.5, 16)])
    table = pq.read_table(file)
    broken = pa.array([b"\xff\xfe"]).view(pa.string())
    pq.write_table(table.set_column(0, "task", broken), file)
    with pytest.raises(DataError, match="column task is not of type string"):
        read_predictions(file)


@given(st.lists(predictions(), min_size=2, max_size=6), st.data())
def test_the_row_of_a_cell_is_found_among_grids_of_all_sizes(
    folder: Path, written: list[Prediction], data: st.DataObject
) -> None:
    numbers = [number for number, one in enumerate(written, 1) if one.grid is not None]
    if not numbers:
        return
    number = data.draw(st.sampled_from(numbers))
    grid = written[number - 1].grid
    assert grid is not None
    large = grid.copy()
    large.flat[data.draw(st.integers(0, grid.size - 1))] = 10
    written[number - 1] = replace(written[number - 1], grid=large)
    write_predictions(folder / "large.parquet", written)
    with pytest.raises(DataError, match=f"large.parquet: row {number}: a cell is above 9"):
        read_predictions(folder / "large.parquet")


@pytest.mark.parametrize("content", [b"", b"no table", b"PAR1" + bytes(100)])
def test_a_file_that_is_no_parquet_file(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "some.parquet"
    file.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_predictions(file)
    assert str(caught.value).startswith(f"{file}: not a Parquet file (")
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_without_one(tmp_path: Path) -> None:
    missing = tmp_path / "missing.parquet"
    for path, named in ((missing, missing), (tmp_path, tmp_path / PREDICTIONS_FILE)):
        with pytest.raises(DataError) as caught:
            read_predictions(path)
        assert str(caught.value) == f"{named}: no such file"
