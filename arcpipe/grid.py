"""Grids: check outside data and convert it to a uint8 array; draw grids in a terminal."""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from arcpipe.errors import DataError

Grid = NDArray[np.uint8]
"""Cells (H, W), uint8, values 0..9, sides 1..30."""

MAX_SIDE = 30
NUM_COLORS = 10

_DIGITS = b"0123456789"
_BLACK, _VALUES = (bytes.maketrans(_DIGITS, to) for to in (b"0" * NUM_COLORS, bytes(range(NUM_COLORS))))

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
             where: file, task and field of the grid, for the error message.
    Raises:  DataError naming `where` if it is empty, ragged, larger than 30 x 30 or holds
             anything but the integers 0..9.
    """
    rows = cells.tolist() if isinstance(cells, np.ndarray) else cells
    try:
        text = orjson.dumps(rows)
    except TypeError:
        text = b""
    # With all digits replaced by 0, the JSON of a grid must equal that of a black grid. Faster than a loop.
    width = max(0, text.find(b"]") // 2)
    height = len(text) // (2 * width + 2)
    if max(height, width) <= MAX_SIDE:
        row = b"[0" + b",0" * (width - 1) + b"]"
        if text.translate(_BLACK) == b"[" + b",".join([row] * height) + b"]":
            return np.ndarray((height, width), np.uint8, text.translate(_VALUES, b"[],")).copy()
    raise DataError(f"{where}: {_fault(rows)}")


def _fault(rows: Any) -> str:
    """Return why a value is not the rows of a grid."""
    if not isinstance(rows, list) or not rows:
        return f"expected a list of rows, found {_describe(rows)}"
    width = 0
    for number, row in enumerate(rows, 1):
        if not isinstance(row, list) or not row:
            return f"row {number} should be a list of cells, found {_describe(row)}"
        width = width or len(row)
        if len(row) != width:
            return f"ragged grid, row {number} has {len(row)} cells and row 1 has {width}"
        for column, cell in enumerate(row, 1):
            if type(cell) is not int or not 0 <= cell < NUM_COLORS:
                return f"row {number}, column {column} holds {_describe(cell)}, expected an integer 0..9"
    return f"{len(rows)} x {width} cells, sides may be 1..{MAX_SIDE}"


def _describe(value: Any) -> str:
    """Return a short description of a JSON value."""
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
    color: int = 24,
    symbols: str = "0123456789",
    palette: Palette | None = PALETTE,
    columns: int | None = None,
) -> str:
    """Return a drawing of grids side by side, top aligned, with a title above each.

    If it is wider than `columns`, a colored drawing has two rows of cells per line; if that is still too
    wide, the grids are drawn below each other.

    Args:    color: bits of color, 24, 8 or 4 (True for 24), to draw cells as blocks in the colors of
             `palette`, if any; 0 or False to draw each cell as its character in `symbols`.
             columns: 0 for no limit; None for the width of the terminal, if stdout is one.
    """
    if columns is None:
        # COLUMNS overrides the terminal.
        is_known = os.environ.get("COLUMNS", "").isdecimal() or sys.stdout.isatty()
        columns = shutil.get_terminal_size().columns if is_known else 0
    shades = _shades(palette, color) if palette and color else None
    for halved in (False, True) if shades else (False,):
        blocks = [
            _block(grid, title, halved, symbols, shades) for grid, title in zip(grids, titles, strict=True)
        ]
        widths = [width for width, _ in blocks]
        if not columns or sum(widths) + 3 * (len(blocks) - 1) <= columns:
            break
    else:
        if len(grids) > 1:
            parts = zip(grids, titles, strict=True)
            return "\n".join(draw([grid], [title], color, symbols, palette, columns) for grid, title in parts)
    height = max(len(lines) for _, lines in blocks)
    padded = [lines + [" " * width] * (height - len(lines)) for width, lines in blocks]
    return "\n".join("   ".join(lines).rstrip() for lines in zip(*padded, strict=True))


def _block(
    grid: Grid, title: str, halved: bool, symbols: str, shades: Sequence[tuple[str, str]] | None
) -> tuple[int, list[str]]:
    """Return the width of a grid as text, and its lines, beginning with the title.

    Args:    halved: draw two rows per line. shades: of each cell value; None to draw symbols.
    """
    side = grid.shape[1] * (1 if halved else 2)
    width, rows = max(side, len(title)), []
    if shades is None:
        rows = ["".join(f"{symbols[value]} " for value in row) for row in grid]
    elif halved:
        # The upper cell is the foreground, the lower one the background.
        below = [*grid[1::2], *[None] * (len(grid) % 2)]
        for upper, lower in zip(grid[::2], below, strict=True):
            grounds = [""] * len(upper) if lower is None else [f";{shades[value][1]}" for value in lower]
            cells = zip(upper, grounds, strict=True)
            rows.append("".join(f"\x1b[{shades[value][0]}{ground}m\u2580\x1b[0m" for value, ground in cells))
    else:
        rows = ["".join(f"\x1b[{shades[value][1]}m  \x1b[0m" for value in row) for row in grid]
    return width, [title.ljust(width), *(row + " " * (width - side) for row in rows)]


# The usual sixteen colors of terminals: bits for red, green, blue and brightness.
_SIXTEEN = [[170 * (number >> bit & 1) + 85 * (number >> 3) for bit in range(3)] for number in range(16)]


@cache
def _shades(palette: Palette, bits: int) -> list[tuple[str, str]]:
    """Return the ANSI codes of each color of a palette, as foreground and background."""
    if bits == 8:
        # The 256 colors contain a cube of six levels per channel: 0, 95, then in steps of 40.
        cubes = [[max(0, round((part - 55) / 40)) for part in color] for color in palette]
        names = [f"8;5;{16 + 36 * red + 6 * green + blue}" for red, green, blue in cubes]
    else:
        names = ["8;2;{};{};{}".format(*color) for color in palette]
    if bits != 4:
        return [(f"3{name}", f"4{name}") for name in names]
    shades, free = [], dict(enumerate(_SIXTEEN))
    for color in palette:
        # The nearest color that is still free, so that all colors differ.
        distances = {n: sum((a - b) ** 2 for a, b in zip(one, color, strict=True)) for n, one in free.items()}
        nearest = min(distances, key=distances.__getitem__)
        del free[nearest]
        first = nearest + (30 if nearest < 8 else 82)
        shades.append((str(first), str(first + 10)))
    return shades
