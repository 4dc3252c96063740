"""Views of an input, and a network that mixes them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from arcpipe.augmentation import DIHEDRALS, apply_dihedral
from arcpipe.model_config import TRMConfig
from arcpipe.task_embedding import NUM_VIEWS, input_views, puzzle_vectors
from arcpipe.trm import TRM

CONFIG = TRMConfig(
    embedding="task", positions="rope2d+learned", views=True, tied_head=True, hidden_size=32, num_heads=4,
    outer_cycles=1, inner_cycles=2, max_steps=2, puzzle_size=32, puzzle_tokens=0,
)  # fmt: skip
SIDE, VOCABULARY = 7, 12
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
    framed = np.pad(tokens, 1)
    expected = [apply_dihedral(tokens, dihedral) for dihedral in range(len(DIHEDRALS))]
    found = views_of(tokens, top, left)
    for view, grid in enumerate(expected):
        assert torch.equal(found[view], canvas_of(grid, SIDE, top, left)), view
    # One cell down, up, right and left; cells outside the grid may be on the canvas.
    for view, (down, right) in enumerate([(1, 0), (-1, 0), (0, 1), (0, -1)], start=len(DIHEDRALS)):
        moved = np.roll(np.pad(framed, 1), (down, right), axis=(0, 1))
        cut = moved[2 - min(top, 2) :, 2 - min(left, 2) :]
        assert torch.equal(found[view], canvas_of(cut, SIDE, top - min(top, 2), left - min(left, 2))), view
    for view, factor in ((13, 2), (14, 3)):
        enlarged = np.kron(tokens, np.ones((factor, factor), int))
        assert torch.equal(found[view], canvas_of(enlarged, SIDE, top, left)), view
    lower, right_half = tokens[(height + 1) // 2 :], tokens[:, (width + 1) // 2 :]
    if not top and not left:
        assert torch.equal(found[12], canvas_of(np.tile(tokens, (SIDE, SIDE))))
        assert torch.equal(found[15], canvas_of(lower))
        assert torch.equal(found[16], canvas_of(right_half))


def test_no_grid_has_no_views() -> None:
    assert not input_views(torch.zeros(2, 9, dtype=torch.int64), 2).any()


def network() -> TRM:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TRM(CONFIG, SIDE * SIDE, VOCABULARY)


def test_a_row_weighs_the_views_that_its_puzzle_reads() -> None:
    """A row with a large score for one view reads only that; a zero row reads 3/4 of the unchanged grid."""
    model = network()
    grid = np.random.default_rng(0).integers(2, VOCABULARY, (4, 5))
    plain, turned = (
        canvas_of(np.pad(of, ((0, 1), (0, 1)), constant_values=1))[None] for of in (grid, grid[::-1, ::-1])
    )
    weight, bias = model.view_scores.weight.detach(), model.view_scores.bias.detach()
    goal = 100.0 * torch.nn.functional.one_hot(torch.tensor(HALF_TURN), NUM_VIEWS) - bias
    choice = (torch.linalg.pinv(weight) @ goal)[None]
    colors, identity = torch.randn(1, 2, 10, 32), torch.arange(10)[None]

    def shown(inputs: Tensor, row: Tensor) -> Tensor:
        return model._token_shares(inputs, puzzle_vectors(row, colors, identity))

    torch.testing.assert_close(shown(plain, choice), torch.nn.functional.one_hot(turned, VOCABULARY).float())
    views = torch.nn.functional.one_hot(input_views(plain, 2), VOCABULARY)
    others = views[0, :, 1:].sum(1) / (4 * (NUM_VIEWS - 1))
    mixture = 0.75 * torch.nn.functional.one_hot(plain[0], VOCABULARY) + others
    torch.testing.assert_close(shown(plain, torch.zeros(1, 32))[0, :, 2:], mixture[:, 2:])
    frame = torch.nn.functional.one_hot(plain[0], VOCABULARY)[:, :2].float()
    assert torch.equal(shown(plain, choice)[0, :, :2], frame), "PAD and EOS are those of the grid as it is"


def test_a_permutation_of_colors_commutes_with_the_mixture() -> None:
    model = network()
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(VOCABULARY, (3, SIDE * SIDE), generator=generator)
    rows, colors = torch.randn(3, 32, generator=generator), torch.randn(3, 2, 10, 32, generator=generator)
    permutations = torch.rand(3, 10, generator=generator).argsort(dim=1)
    with torch.no_grad():
        model.embed_tokens[2:] = model.embed_tokens[2]
        of_token = torch.cat((torch.tensor([[0, 1]]).expand(3, -1), permutations + 2), dim=1)
        plain = model(inputs, puzzle_vectors(rows, colors, torch.arange(10).expand(3, -1)))[2]
        recolored = model(of_token.gather(1, inputs), puzzle_vectors(rows, colors, permutations))[2]
    torch.testing.assert_close(recolored.gather(-1, of_token[:, None].expand(-1, SIDE * SIDE, -1)), plain)


def test_views_need_rows_that_weigh_them() -> None:
    with pytest.raises(ValueError, match="views are for embedding task"):
        replace(CONFIG, embedding="augmentation")
