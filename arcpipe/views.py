"""Views of an input grid: turned, flipped, shifted, tiled, enlarged, or one half over the other.

A view says for each cell of the canvas which cell of the grid it shows, if any. Those that the rule of a task
is about are a choice for the puzzle embedding to learn, where attention would have to learn every place.
"""

import math

import torch
from torch import Tensor

from arcpipe.augmentation import DIHEDRALS

NUM_VIEWS = len(DIHEDRALS) + 9
"""The first one is the grid as it is."""


def input_views(inputs_BL: Tensor, first_color: int) -> Tensor:
    """Return the token (B, L, NUM_VIEWS) that each view shows in each cell: a color, or 0 outside the grid.

    Args:  inputs_BL: tokens of square canvases. first_color: the token of color 0; smaller ones are no cells.
    """
    side = math.isqrt(inputs_BL.shape[1])
    is_cell = inputs_BL.unflatten(1, (side, side)) >= first_color
    row_has, column_has = is_cell.any(dim=2), is_cell.any(dim=1)
    top, left = row_has.int().argmax(1)[:, None, None], column_has.int().argmax(1)[:, None, None]
    height, width = (has.sum(dim=1).clamp_min(1)[:, None, None] for has in (row_has, column_has))
    line = torch.arange(side, device=inputs_BL.device)
    i, j = torch.broadcast_tensors(line[:, None] - top, line - left)
    sources = []
    for transpose, flip_rows, flip_columns in DIHEDRALS:
        row, column = (j, i) if transpose else (i, j)
        sources.append(
            (height - 1 - row if flip_rows else row, width - 1 - column if flip_columns else column)
        )
    sources += [(i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)]
    sources += [(i % height, j % width), (i // 2, j // 2), (i // 3, j // 3)]
    # The second half, where a line between them may separate the halves.
    sources += [(i + (height + 1) // 2, j), (i, j + (width + 1) // 2)]
    rows, columns = (torch.stack(of, dim=-1).flatten(1, 2) for of in zip(*sources, strict=True))
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    cells = torch.where(inside, (rows + top) * side + columns + left, 0)
    tokens = inputs_BL.gather(1, cells.flatten(1)).view(cells.shape)
    return torch.where(inside, tokens, 0)
