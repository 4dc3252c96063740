from typing import Any

import numpy as np
import pytest
from hypothesis import given

from arcpipe.errors import DataError
from arcpipe.grid import Grid, as_grid
from strategies import grids


@given(grids())
def test_a_grid_survives_the_way_through_json(grid: Grid) -> None:
    again = as_grid(grid.tolist(), "a grid")
    assert again.dtype == np.uint8
    assert np.array_equal(again, grid)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([[1, 2], [3]], "ragged grid, row 2 has 1 cells and row 1 has 2"),
        ([[0, 10]], "row 1, column 2 holds 10"),
        ([[True]], "row 1, column 1 holds true"),
        ([[1.0]], "row 1, column 1 holds 1.0"),
        ([["1"]], "row 1, column 1 holds '1'"),
        ([[[1]]], "row 1, column 1 holds a list"),
        ([], "expected a list of rows, found an empty list"),
        ([[]], "row 1 should be a list of cells, found an empty list"),
        (["12"], "row 1 should be a list of cells, found '12'"),
        (None, "expected a list of rows, found null"),
        ("12", "expected a list of rows, found '12'"),
        ([[0] * 31], "1 x 31 cells, sides may be 1..30"),
        (np.zeros((1, 1, 1), np.uint8), "row 1, column 1 holds a list"),
    ],
)
def test_what_is_no_grid_is_refused_with_its_place(cells: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        as_grid(cells, "tasks.json: task 007, train[1].output")
    assert str(caught.value).startswith(f"tasks.json: task 007, train[1].output: {message}")


def test_a_message_is_one_short_line() -> None:
    with pytest.raises(DataError) as caught:
        as_grid([["a\nb" * 1000]], "here")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 120
