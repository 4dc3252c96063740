from typing import Any

import numpy as np
import pytest
from hypothesis import given

from arcpipe.errors import DataError
from arcpipe.grid import PALETTE, Grid, as_grid, draw
from strategies import grids


@given(grids())
def test_a_grid_survives_the_way_through_json(grid: Grid) -> None:
    again = as_grid(grid.tolist(), "a grid")
    assert again.dtype == np.uint8
    assert np.array_equal(again, grid)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_integer_arrays_become_uint8(dtype: type) -> None:
    grid = as_grid(np.array([[0, 9], [3, 4]], dtype), "an array")
    assert grid.dtype == np.uint8
    assert grid.tolist() == [[0, 9], [3, 4]]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([[1, 2], [3]], "ragged grid, row 2 has 1 cells and row 1 has 2"),
        ([[1], [2, 3]], "ragged grid, row 2 has 2 cells and row 1 has 1"),
        ([[0, 10]], "row 1, column 2 holds 10"),
        ([[0], [-1]], "row 2, column 1 holds -1"),
        ([[256]], "row 1, column 1 holds 256"),
        ([[True]], "row 1, column 1 holds true"),
        ([[0, False]], "row 1, column 2 holds false"),
        ([[1.0]], "row 1, column 1 holds 1.0"),
        ([["1"]], "row 1, column 1 holds '1'"),
        ([[None]], "row 1, column 1 holds null"),
        ([[[1]]], "row 1, column 1 holds a list"),
        ([], "expected a list of rows, found an empty list"),
        ([[]], "row 1 should be a list of cells, found an empty list"),
        ([[1], []], "row 2 should be a list of cells, found an empty list"),
        ([1, 2], "row 1 should be a list of cells, found 1"),
        (["12"], "row 1 should be a list of cells, found '12'"),
        (None, "expected a list of rows, found null"),
        ("12", "expected a list of rows, found '12'"),
        ({"0": [1]}, "expected a list of rows, found an object"),
        ({}, "expected a list of rows, found an empty object"),
        ([[0] * 31], "1 x 31 cells, sides may be 1..30"),
        ([[0]] * 31, "31 x 1 cells, sides may be 1..30"),
        (np.array([[0.0]]), "row 1, column 1 holds 0.0"),
        (np.array([[True]]), "row 1, column 1 holds true"),
        (np.array([1, 2]), "row 1 should be a list of cells, found 1"),
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


def test_the_largest_grid_is_a_grid() -> None:
    assert as_grid([[9] * 30] * 30, "here").shape == (30, 30)


def test_grids_are_drawn_side_by_side_under_their_titles() -> None:
    first, second = np.array([[1, 2], [3, 4]], np.uint8), np.array([[5]], np.uint8)
    assert draw([first, second], ["input", "out"], color=False).splitlines() == [
        "input   out",
        "1 2     5",
        "3 4",
    ]


def test_colored_cells_carry_the_color_of_their_value() -> None:
    line = draw([np.array([[2, 0]], np.uint8)], [""]).splitlines()[1]
    backgrounds = [f"\x1b[48;2;{';'.join(str(part) for part in PALETTE[value])}m" for value in (2, 0)]
    assert line == "".join(f"{background}  \x1b[0m" for background in backgrounds)
