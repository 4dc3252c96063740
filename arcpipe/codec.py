"""Convert grids to tokens on a square canvas and back, for each family of puzzles.

Token 0 is PAD. A Sudoku of side S has tokens 1 (empty) .. S + 1 (digit S); a maze has 1..5: wall, free,
start, goal, path; both fill their canvas. ARC has EOS 1 and colors 2..11, as in the official encoding
(`dataset/build_arc_dataset.py`): a grid is at an offset, by default 0, 0; the row below it and the column to
its right are EOS if the canvas has room, the corner where they meet is PAD.

Every augmentation is a single gather: the source row and column of each canvas row and column
(`Transform`), and a table of tokens by cell value. Grids are stored with a frame of EOS and PAD, so that the
gather reads these like other cells.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arcpipe.augmentation import DIHEDRALS
from arcpipe.grid import NUM_COLORS, PALETTE, Grid, Palette

PAD = 0
EOS = 1
_GRIDS_AT_ONCE = 10_000

_TRANSPOSE, _FLIP_ROWS, _FLIP_COLUMNS = np.array(DIHEDRALS).T


@dataclass(frozen=True)
class Family:
    """A kind of puzzle, and the tokens of its grids.

    num_values: cell values are 0..num_values-1.
    first: token of cell value 0; the others follow.
    with_eos: whether grids vary in shape and are marked by EOS; otherwise they fill the canvas.
    blank: value of a cell that the answer fills in, while other cells are given; None if no cell is given.
    symbols, palette: how `draw` shows a cell value.
    """

    name: str
    num_values: int
    first: int
    with_eos: bool
    symbols: str
    palette: Palette | None
    blank: int | None = None

    @property
    def blank_token(self) -> int | None:
        """Return the token of `blank`, if any."""
        return None if self.blank is None else self.first + self.blank

    @property
    def vocabulary(self) -> int:
        """Return V, the number of tokens."""
        return self.first + self.num_values

    @property
    def tokens(self) -> NDArray[np.uint8]:
        """Return the token of each cell value, then EOS and PAD for the frame."""
        values = np.arange(self.first, self.vocabulary, dtype=np.uint8)
        return np.append(values, np.array([EOS, PAD], np.uint8))


ARC = Family("arc", NUM_COLORS, 2, with_eos=True, symbols="0123456789", palette=PALETTE)
# Wall gray, free black, start green, goal red, path yellow.
_MAZE = Family(
    "maze", 5, 1, with_eos=False, symbols="# SGo", palette=tuple(PALETTE[i] for i in (5, 0, 3, 2, 4)), blank=1
)
FAMILIES = ("arc", "sudoku", "maze")


def family_of(name: str, canvas: int) -> Family:
    """Return the family with a name of FAMILIES, for a canvas of this side."""
    if name == "sudoku":
        return Family(name, canvas + 1, 1, with_eos=False, symbols=".123456789", palette=None, blank=0)
    return {"arc": ARC, "maze": _MAZE}[name]


@dataclass(frozen=True, eq=False)
class GridTable:
    """N grids in one array: cells (N, M, M) uint8, with grids of shapes (N, 2) int16 in the top left corner.

    A framed table has two more rows and columns, M with EOS and M + 1 with PAD; all other cells are PAD.
    """

    cells: NDArray[np.uint8]
    shapes: NDArray[np.int16]

    @classmethod
    def pack(cls, grids: Sequence[Grid], side: int) -> "GridTable":
        """Return grids as a table without a frame, 0 outside each grid; `side` is that of the largest."""
        cells = np.zeros((len(grids), side, side), np.uint8)
        for index, grid in enumerate(grids):
            cells[index, : grid.shape[0], : grid.shape[1]] = grid
        return cls(cells, np.array([grid.shape for grid in grids], np.int16).reshape(-1, 2))

    def __len__(self) -> int:
        return len(self.shapes)

    def take(self, rows: NDArray[np.integer] | slice) -> "GridTable":
        """Return a table of some of the grids."""
        return GridTable(self.cells[rows], self.shapes[rows])

    def parts(self) -> Iterator["GridTable"]:
        """Yield the grids in order in smaller tables; at least one, which may be empty."""
        for start in range(0, max(1, len(self)), _GRIDS_AT_ONCE):
            yield self.take(slice(start, start + _GRIDS_AT_ONCE))

    def grid(self, index: int) -> Grid:
        """Return one of the grids (H, W)."""
        height, width = self.shapes[index]
        return self.cells[index, :height, :width]

    def with_eos(self, family: Family) -> "GridTable":
        """Return the table with a frame of EOS and PAD around each grid; itself for a family without EOS."""
        if not family.with_eos:
            return self
        eos, pad = family.num_values, family.num_values + 1
        count, side, _ = self.cells.shape
        cells = np.full((count, side + 2, side + 2), pad, np.uint8)
        rows, columns = (np.arange(side) < self.shapes[:, axis, None] for axis in (0, 1))
        inside = rows[:, :, None] & columns[:, None, :]
        cells[:, :side, :side] = np.where(inside, self.cells, pad)
        cells[:, side, :side] = np.where(columns, eos, pad)
        cells[:, :side, side] = np.where(rows, eos, pad)
        return GridTable(cells, self.shapes)


class GridList(GridTable):
    """Grids that are packed on access, part by part, because packed grids take several times the memory."""

    grids: Sequence[Grid]
    side: int

    def __init__(self, grids: Sequence[Grid], side: int) -> None:
        shapes = np.array([grid.shape for grid in grids], np.int16).reshape(-1, 2)
        for name, value in (("grids", grids), ("side", side), ("shapes", shapes)):
            object.__setattr__(self, name, value)

    @property
    def cells(self) -> NDArray[np.uint8]:
        """Return all cells, packed now."""
        return GridTable.pack(self.grids, self.side).cells

    def take(self, rows: NDArray[np.integer] | slice) -> GridTable:
        """Return a packed table of some of the grids."""
        return GridTable.pack([self.grids[index] for index in np.arange(len(self))[rows]], self.side)

    def grid(self, index: int) -> Grid:
        """Return one of the grids (H, W)."""
        return self.grids[index]


@dataclass(frozen=True, eq=False)
class Transform:
    """Gather indices of N canvases.

    rows, columns: (N, C) canvas cell (i, j) of item n shows source cell (rows[n, i], columns[n, j]).
    transpose: (N,) bool; if true, it shows source cell (columns[n, j], rows[n, i]) instead.
    tokens: (N, W) uint8, the token of each cell value.
    """

    rows: NDArray[np.integer]
    columns: NDArray[np.integer]
    transpose: NDArray[np.bool_]
    tokens: NDArray[np.uint8]


def dihedral_transform(
    family: Family, table: GridTable, items: NDArray[np.integer], canvas: int, *,
    dihedrals: NDArray[np.integer] | None = None, colors: NDArray[np.uint8] | None = None,
    offsets: NDArray[np.integer] | None = None,
) -> Transform:  # fmt: skip
    """Return the transform that turns, recolors and places grids of a table.

    Args:  table: from `GridTable.with_eos`. items: (N,) indices of its grids.
           dihedrals: (N,) ids 0..7, default identity.
           colors: (N, 10) permutations, default identity.
           offsets: (N, 2) row and column of the augmented grid's first cell, default 0, 0.
    """
    count = len(items)
    dihedrals = np.zeros(count, np.intp) if dihedrals is None else dihedrals
    offsets = np.zeros((count, 2), np.intp) if offsets is None else offsets
    transpose = _TRANSPOSE[dihedrals]
    sides = table.shapes[items].astype(np.intp)
    sides = np.where(transpose[:, None], sides[:, ::-1], sides)
    flips = np.stack([_FLIP_ROWS[dihedrals], _FLIP_COLUMNS[dihedrals]], axis=1)
    flips = np.where(transpose[:, None], flips[:, ::-1], flips)
    # The line (N, 2, C) of the table for each row and column of the canvas; its last two are the frame.
    lines, ends = np.arange(canvas) - offsets[:, :, None], sides[:, :, None]
    frame = table.cells.shape[1] - np.where(lines == ends, 2, 1)
    sources = np.where(flips[:, :, None], ends - 1 - lines, lines)
    sources = np.where((lines >= 0) & (lines < ends), sources, frame)
    tokens = np.repeat(family.tokens[None], count, axis=0)
    if colors is not None:
        tokens[:, :NUM_COLORS] = colors + family.first
    return Transform(sources[:, 0], sources[:, 1], transpose, tokens)


def encode_grids(table: GridTable, items: NDArray[np.integer], transform: Transform) -> NDArray[np.uint8]:
    """Return the tokens (N, C * C) of N transformed grids.

    Args:  table: from `GridTable.with_eos`. items: (N,) indices of its grids.
    """
    _, height, width = table.cells.shape
    by_row = np.where(transform.transpose, (1,), (width,))
    by_column = np.where(transform.transpose, (width,), (1,))
    first = items.astype(np.intp) * (height * width)
    rows = first[:, None] + transform.rows * by_row[:, None]
    source = rows[:, :, None] + (transform.columns * by_column[:, None])[:, None, :]
    values = table.cells.reshape(-1).take(source)
    own_tokens = np.arange(len(items)) * transform.tokens.shape[1]
    tokens = transform.tokens.reshape(-1).take(values + own_tokens[:, None, None])
    flat: NDArray[np.uint8] = tokens.reshape(len(items), -1)
    return flat


def crop_shapes(tokens: NDArray[np.integer]) -> NDArray[np.intp]:
    """Return height and width (N, 2) of the largest all-color rectangle in the top left corner.

    Args:    tokens: (N, canvas * canvas), of ARC.
    Source:  `_crop` in the official `evaluators/arc.py`: rows are added one by one, the width can
             only shrink, the first largest area wins; 0, 0 if the first cell is not a color.
    """
    canvas = round(tokens.shape[1] ** 0.5)
    square = tokens.reshape(-1, canvas, canvas)
    is_color = (square >= ARC.first) & (square < ARC.vocabulary)
    widths = np.minimum.accumulate(np.logical_and.accumulate(is_color, axis=2).sum(axis=2), axis=1)
    best = (widths * np.arange(1, canvas + 1)).argmax(axis=1)
    width = widths[np.arange(len(square)), best]
    return np.stack([np.where(width > 0, best + 1, 0), width], axis=1)


def decode(tokens: NDArray[np.integer], family: Family = ARC) -> list[Grid | None]:
    """Return the grid of each row of tokens (N, canvas * canvas).

    An ARC grid is cropped, None without colors. Other grids fill the canvas, 0 where the token is not a cell
    value.
    """
    canvas = round(tokens.shape[1] ** 0.5)
    square = tokens.reshape(-1, canvas, canvas)
    if not family.with_eos:
        values = square.astype(np.int64) - family.first
        return list(np.where((values >= 0) & (values < family.num_values), values, 0).astype(np.uint8))
    return [
        (canvas_tokens[:height, :width] - family.first).astype(np.uint8) if height else None
        for canvas_tokens, (height, width) in zip(square, crop_shapes(tokens), strict=True)
    ]
