"""The Parquet file of candidates: what goes in comes out, and what it says of a file that is none."""

from pathlib import Path

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
