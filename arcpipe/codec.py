"""Grid <-> tokens on a square canvas, the encoding of the reference (`dataset/build_arc_dataset.py`).

PAD 0, EOS 1, colors 2..11. A grid lies at an offset (0, 0 unless placed elsewhere); the row below it
and the column to its right are EOS where the canvas has room, the corner where they meet is PAD.
"""

import numpy as np
from numpy.typing import NDArray

from arcpipe.augmentation import DIHEDRALS
from arcpipe.grid import NUM_COLORS, Grid

PAD = 0
EOS = 1
FIRST_COLOR = 2
VOCABULARY = FIRST_COLOR + NUM_COLORS

_TRANSPOSE, _FLIP_ROWS, _FLIP_COLUMNS = np.array(DIHEDRALS).T


def encode_grids(
    cells: NDArray[np.uint8],
    shapes: NDArray[np.integer],
    canvas: int,
    *,
    dihedrals: NDArray[np.integer] | None = None,
    colors: NDArray[np.uint8] | None = None,
    offsets: NDArray[np.integer] | None = None,
) -> NDArray[np.uint8]:
    """Tokens (N, canvas * canvas) of N augmented grids, all computed at once.

    Args:  cells: (N, M, M) grids in the top left corner, anything beyond their shape.
           shapes: (N, 2) height and width before augmentation.
           dihedrals: (N,) ids 0..7, default identity.
           colors: (N, 10) permutations, default identity.
           offsets: (N, 2) row and column of the augmented grid's first cell, default 0, 0.
    """
    count = len(cells)
    dihedrals = np.zeros(count, np.intp) if dihedrals is None else dihedrals
    offsets = np.zeros((count, 2), np.intp) if offsets is None else offsets
    transpose, flip_rows, flip_columns = (
        table[dihedrals][:, None, None] for table in (_TRANSPOSE, _FLIP_ROWS, _FLIP_COLUMNS)
    )
    height, width = (shapes[:, axis].astype(np.intp)[:, None, None] for axis in (0, 1))
    out_height, out_width = np.where(transpose, width, height), np.where(transpose, height, width)
    row = np.arange(canvas)[None, :, None] - offsets[:, 0, None, None]
    column = np.arange(canvas)[None, None, :] - offsets[:, 1, None, None]
    inside_rows, inside_columns = (row >= 0) & (row < out_height), (column >= 0) & (column < out_width)
    inside = inside_rows & inside_columns

    source_row, source_column = np.where(transpose, column, row), np.where(transpose, row, column)
    source_row = np.where(flip_rows, height - 1 - source_row, source_row)
    source_column = np.where(flip_columns, width - 1 - source_column, source_column)
    item = np.arange(count)[:, None, None]
    values = cells[item, np.where(inside, source_row, 0), np.where(inside, source_column, 0)]
    if colors is not None:
        values = colors[item, values]
    tokens = np.where(inside, values + FIRST_COLOR, PAD).astype(np.uint8)
    tokens[inside_columns & (row == out_height)] = EOS
    tokens[inside_rows & (column == out_width)] = EOS
    flat: NDArray[np.uint8] = tokens.reshape(count, canvas * canvas)
    return flat


def encode(grid: Grid, canvas: int, offset: tuple[int, int] = (0, 0)) -> NDArray[np.uint8]:
    """Tokens (canvas * canvas,) of one grid."""
    side = max(grid.shape)
    cells = np.zeros((1, side, side), np.uint8)
    cells[0, : grid.shape[0], : grid.shape[1]] = grid
    tokens: NDArray[np.uint8] = encode_grids(
        cells, np.array([grid.shape]), canvas, offsets=np.array([offset])
    )[0]
    return tokens


def crop_shapes(tokens: NDArray[np.integer]) -> NDArray[np.intp]:
    """Height and width (N, 2) of the largest all-color rectangle in the top left corner.

    Args:    tokens: (N, canvas * canvas).
    Source:  the reference's `evaluators/arc.py` `_crop`: rows are added one by one, the width can
             only shrink, the first largest area wins; 0, 0 if the first cell is no color.
    """
    canvas = round(tokens.shape[1] ** 0.5)
    square = tokens.reshape(-1, canvas, canvas)
    is_color = (square >= FIRST_COLOR) & (square < VOCABULARY)
    widths = np.minimum.accumulate(np.logical_and.accumulate(is_color, axis=2).sum(axis=2), axis=1)
    best = (widths * np.arange(1, canvas + 1)).argmax(axis=1)
    width = widths[np.arange(len(square)), best]
    return np.stack([np.where(width > 0, best + 1, 0), width], axis=1)


def decode(tokens: NDArray[np.integer]) -> list[Grid | None]:
    """The cropped grid of each row of tokens (N, canvas * canvas); None where there is no grid."""
    canvas = round(tokens.shape[1] ** 0.5)
    square = tokens.reshape(-1, canvas, canvas)
    return [
        (canvas_tokens[:height, :width] - FIRST_COLOR).astype(np.uint8) if height else None
        for canvas_tokens, (height, width) in zip(square, crop_shapes(tokens), strict=True)
    ]
