"""Embeddings of ARC tasks: vectors of a task's colors, and views of an input, weighted by the task's row.

A view is the input grid turned, flipped, shifted, tiled, enlarged, or its second half over the first. It
defines which cell of the grid, if any, each cell of the canvas shows. A row learns a weight for each view;
without views, attention must learn the position of every cell.

Shape letters: B batch, L grid tokens, D hidden, V vocabulary, N views.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from arcpipe.augmentation import DIHEDRALS
from arcpipe.grid import NUM_COLORS

NUM_VIEWS = len(DIHEDRALS) + 9
"""The first view is the unchanged grid."""


def puzzle_vectors(rows: Tensor, colors: Tensor, permutations: Tensor) -> Tensor:
    """Return the argument `puzzles` of a network of embedding task: (B, D + 2 * 10 * D), float32.

    It has the row, then the vectors of the permuted colors as inputs, then those as outputs.

    Args:  rows: (B, D), of task and dihedral. colors: (B, 2, 10, D), of the task's original colors.
           permutations: (B, 10), the new color of each original color.
    """
    original = permutations.argsort(dim=1)[:, None, :, None].expand(-1, 2, -1, colors.shape[-1])
    return torch.cat((rows, colors.gather(2, original).flatten(1)), dim=1)


def input_views(inputs_BL: Tensor, first_color: int) -> Tensor:
    """Return the token (B, L, NUM_VIEWS) of each view in each cell: a color, or 0 outside the grid.

    Args:  inputs_BL: tokens of square canvases. first_color: token of color 0; smaller ones are PAD and EOS.
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
    # The second half; a line of cells may separate the halves.
    sources += [(i + (height + 1) // 2, j), (i, j + (width + 1) // 2)]
    rows, columns = (torch.stack(of, dim=-1).flatten(1, 2) for of in zip(*sources, strict=True))
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    cells = torch.where(inside, (rows + top) * side + columns + left, 0)
    tokens = inputs_BL.gather(1, cells.flatten(1)).view(cells.shape)
    return torch.where(inside, tokens, 0)


def mix_views(inputs_BL: Tensor, shares_BN: Tensor, vocabulary: int) -> Tensor:
    """Return the share of each token in each cell (B, L, V): colors from views, PAD and EOS from the input.

    Args:  shares_BN: weight of each view, float.
    """
    first_color = vocabulary - NUM_COLORS
    colors_C = torch.arange(first_color, vocabulary, device=inputs_BL.device)
    views_BLNC = (input_views(inputs_BL, first_color)[..., None] == colors_C).to(shares_BN.dtype)
    mixed_BLC = (shares_BN[:, None, None] @ views_BLNC)[:, :, 0]
    others_BLV = one_hot(inputs_BL, vocabulary)[..., :first_color].to(shares_BN.dtype)
    return torch.cat((others_BLV, mixed_BLC), dim=-1)
