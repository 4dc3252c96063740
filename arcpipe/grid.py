"""Grid: the one door from outside data to a uint8 array, and its drawing in a terminal."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arcpipe.errors import DataError

Grid = NDArray[np.uint8]
"""Cells (H, W), uint8, values 0..9, sides 1..30."""

MAX_SIDE = 30
NUM_COLORS = 10

Palette = tuple[tuple[int, int, int], ...]
"""A color for each cell value, as RGB."""

# The palette of the ARC-AGI viewers.
PALETTE: Palette = (
    (0, 0, 0), (0, 116, 217), (255, 65, 54), (46, 204, 64), (255, 220, 0),
    (170, 170, 170), (240, 18, 190), (255, 133, 27), (127, 219, 255), (135, 12, 37),
)  # fmt: skip


def as_grid(cells: Any, where: str) -> Grid:
    """Return a Grid made from a list of rows or an integer array.

    Args:    cells: rows of integers 0..9; `true` and `1.0` are not integers.
             where: what the grid is and where it stands, for the message: file, task, field.
    Raises:  DataError naming `where` if it is empty, ragged, larger than 30 x 30 or holds
             anything but the integers 0..9.
    """
    rows = cells.tolist() if isinstance(cells, np.ndarray) else cells
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{where}: expected a list of rows, found {_describe(rows)}")
    width = 0
    for number, row in enumerate(rows, 1):
        if not isinstance(row, list) or not row:
            raise DataError(f"{where}: row {number} should be a list of cells, found {_describe(row)}")
        width = width or len(row)
        if len(row) != width:
            raise DataError(f"{where}: ragged grid, row {number} has {len(row)} cells and row 1 has {width}")
        for column, cell in enumerate(row, 1):
            if type(cell) is not int or not 0 <= cell < NUM_COLORS:
                raise DataError(
                    f"{where}: row {number}, column {column} holds {_describe(cell)}, "
                    "expected an integer 0..9"
                )
    if len(rows) > MAX_SIDE or width > MAX_SIDE:
        raise DataError(f"{where}: {len(rows)} x {width} cells, sides may be 1..{MAX_SIDE}")
    return np.array(rows, dtype=np.uint8)


def _describe(value: Any) -> str:
    """Return a value as it stands in JSON, short enough for one line."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, dict):
        return "an object" if value else "an empty object"
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def draw(
    grids: Sequence[Grid],
    titles: Sequence[str],
    color: bool = True,
    symbols: str = "0123456789",
    palette: Palette | None = PALETTE,
) -> str:
    """Draw grids side by side as text, top aligned, a title above each.

    Args:  color: draw cells as blocks (24-bit ANSI) of the colors of `palette`, if there is one; otherwise
           each cell value is its character in `symbols`.
    """
    cell_width = 2
    height = max(len(grid) for grid in grids)
    blocks = []
    for grid, title in zip(grids, titles, strict=True):
        width = max(grid.shape[1] * cell_width, len(title))
        padding = " " * (width - grid.shape[1] * cell_width)
        lines = [title.ljust(width)]
        for row in grid:
            cells = (_cell(int(value), symbols, palette if color else None) for value in row)
            lines.append("".join(cells) + padding)
        blocks.append(lines + [" " * width] * (height - len(grid)))
    return "\n".join("   ".join(lines).rstrip() for lines in zip(*blocks, strict=True))


def _cell(value: int, symbols: str, palette: Palette | None) -> str:
    if palette is None:
        return f"{symbols[value]} "
    red, green, blue = palette[value]
    return f"\x1b[48;2;{red};{green};{blue}m  \x1b[0m"
