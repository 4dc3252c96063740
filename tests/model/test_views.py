"""Views of an input, and a network that mixes them."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot

from arcpipe.augmentation import DIHEDRALS, apply_dihedral
from arcpipe.model_config import TRMConfig
from arcpipe.task_embedding import NUM_VIEWS, input_views, puzzle_vectors
from networks import VOCABULARY, network

CONFIG = TRMConfig(
    embedding="task", positions="rope2d+learned", views=True, tied_head=True, hidden_size=32, num_heads=4,
    outer_cycles=1, inner_cycles=2, max_steps=2, puzzle_size=32, puzzle_tokens=0,
)  # fmt: skip
SIDE = 7
HALF_TURN = 2


def canvas_of(tokens: NDArray[np.integer], side: int = SIDE, top: int = 0, left: int = 0) -> Tensor:
    """Return a canvas (side * side,) with the tokens at (top, left), cut off at its edges."""
    canvas = np.zeros((side, side), np.int64)
    fitting = tokens[: side - top, : side - left]
    canvas[top : top + len(fitting), left : left + fitting.shape[1]] = fitting
    return torch.from_numpy(canvas.ravel())


def views_of(tokens: NDArray[np.integer], top: int, left: int) -> Tensor:
    """Return the views (NUM_VIEWS, side * side) of a grid at a place on the canvas, with its EOS."""
    framed = np.pad(tokens, ((0, 1), (0, 1)), constant_values=1)
    return input_views(canvas_of(framed, SIDE, top, left)[None], 2)[0].mT


@pytest.mark.parametrize(("top", "left"), [(0, 0), (1, 2)])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 4), (3, 5), (5, 2)])
def test_each_view_shows_what_numpy_does(height: int, width: int, top: int, left: int) -> None:
    rng = np.random.default_rng(height)
    tokens = rng.integers(2, VOCABULARY, (height, width))
    found = views_of(tokens, top, left)
    for view in range(len(DIHEDRALS)):
        assert torch.equal(found[view], canvas_of(apply_dihedral(tokens, view), SIDE, top, left)), view
    # One cell down, up, right and left; cells outside the grid may be on the canvas.
    for view, (down, right) in enumerate([(1, 0), (-1, 0), (0, 1), (0, -1)], start=len(DIHEDRALS)):
        moved = np.roll(np.pad(tokens, 2), (down, right), axis=(0, 1))
        cut = moved[2 - min(top, 2) :, 2 - min(left, 2) :]
        assert torch.equal(found[view], canvas_of(cut, SIDE, top - min(top, 2), left - min(left, 2))), view
    for view, factor in ((13, 2), (14, 3)):
        enlarged = np.kron(tokens, np.ones((factor, factor), int))
        assert torch.equal(found[view], canvas_of(enlarged, SIDE, top, left)), view
    if not top and not left:
        assert torch.equal(found[12], canvas_of(np.tile(tokens, (SIDE, SIDE))))
        assert torch.equal(found[15], canvas_of(tokens[(height + 1) // 2 :]))
        assert torch.equal(found[16], canvas_of(tokens[:, (width + 1) // 2 :]))


def test_no_grid_has_no_views() -> None:
    assert not input_views(torch.zeros(2, 9, dtype=torch.int64), 2).any()


def test_a_row_weighs_the_views_that_its_puzzle_reads() -> None:
    """A row with a large score for one view reads only that; a zero row reads 3/4 of the unchanged grid."""
    model = network(CONFIG, SIDE * SIDE)
    grid = np.random.default_rng(0).integers(2, VOCABULARY, (4, 5))
    plain, turned = (
        canvas_of(np.pad(of, ((0, 1), (0, 1)), constant_values=1))[None] for of in (grid, grid[::-1, ::-1])
    )
    weight, bias = model.view_scores.weight.detach(), model.view_scores.bias.detach()
    goal = 100.0 * one_hot(torch.tensor(HALF_TURN), NUM_VIEWS) - bias
    choice = (torch.linalg.pinv(weight) @ goal)[None]
    colors, identity = torch.randn(1, 2, 10, 32), torch.arange(10)[None]

    def shown(row: Tensor) -> Tensor:
        return model._token_shares(plain, puzzle_vectors(row, colors, identity))

    torch.testing.assert_close(shown(choice), one_hot(turned, VOCABULARY).float())
    others = one_hot(input_views(plain, 2), VOCABULARY)[0, :, 1:].sum(1) / (4 * (NUM_VIEWS - 1))
    grid_alone = one_hot(plain[0], VOCABULARY)
    torch.testing.assert_close(shown(torch.zeros(1, 32))[0, :, 2:], (0.75 * grid_alone + others)[:, 2:])
    frame = grid_alone[:, :2].float()
    assert torch.equal(shown(choice)[0, :, :2], frame), "PAD and EOS are those of the grid as it is"
