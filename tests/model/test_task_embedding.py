"""Embeddings of tasks and colors, and positions by row and column."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from arcpipe.layers import rope2d_tables
from arcpipe.model_config import TRMConfig
from arcpipe.task_embedding import puzzle_vectors
from networks import VOCABULARY, network

CONFIG = TRMConfig(
    embedding="task", positions="rope2d+learned", hidden_size=32, num_heads=4, outer_cycles=2, inner_cycles=2,
    max_steps=2, puzzle_size=32, puzzle_tokens=0,
)  # fmt: skip
BATCH, SIDE, FIRST_COLOR = 4, 5, 2
GENERATOR = torch.Generator().manual_seed(0)
INPUTS = torch.randint(VOCABULARY, (BATCH, SIDE * SIDE), generator=GENERATOR)
ROWS = torch.randn(BATCH, 32, generator=GENERATOR)
COLORS = torch.randn(BATCH, 2, 10, 32, generator=GENERATOR)
PERMUTATIONS = torch.rand(BATCH, 10, generator=GENERATOR).argsort(dim=1)
IDENTITY = torch.arange(10).expand(BATCH, -1)


def test_vectors_follow_their_colors() -> None:
    found = puzzle_vectors(ROWS, COLORS, PERMUTATIONS)
    for item, permutation in enumerate(PERMUTATIONS.tolist()):
        originals = [permutation.index(now) for now in range(10)]
        expected = torch.cat(
            (ROWS[item], COLORS[item, 0, originals].ravel(), COLORS[item, 1, originals].ravel())
        )
        assert torch.equal(found[item], expected)


@pytest.mark.parametrize(("changes", "tolerance"), [
    ({}, 0.0),
    ({"puzzle_tokens": 2}, 0.0),
    ({"tied_head": True}, 0.0),
    ({"tied_head": True, "puzzle_tokens": 2}, 0.0),
    # The products of a mixture of views round in another order.
    ({"tied_head": True, "views": True}, 1e-5),
])  # fmt: skip
def test_a_permutation_of_colors_commutes_with_the_network(changes: dict[str, Any], tolerance: float) -> None:
    """If colors have only the embeddings of their task, and none of their own."""
    model = network(replace(CONFIG, **changes), SIDE * SIDE)
    with torch.no_grad():
        model.embed_tokens[FIRST_COLOR:] = model.embed_tokens[FIRST_COLOR]
        if not model.config.tied_head:
            model.output_head.weight[FIRST_COLOR:] = model.output_head.weight[FIRST_COLOR]
        of_token = torch.cat((torch.tensor([[0, 1]]).expand(BATCH, -1), PERMUTATIONS + FIRST_COLOR), dim=1)
        plain = model(INPUTS, puzzle_vectors(ROWS, COLORS, IDENTITY))
        recolored = model(of_token.gather(1, INPUTS), puzzle_vectors(ROWS, COLORS, PERMUTATIONS))
    logits = recolored[2].gather(-1, of_token[:, None].expand(-1, SIDE * SIDE, -1))
    torch.testing.assert_close(logits, plain[2], rtol=tolerance / 10, atol=tolerance)
    torch.testing.assert_close(recolored[3], plain[3], rtol=tolerance / 10, atol=tolerance)


def test_a_color_vector_reaches_the_cells_and_the_logits_of_its_color_alone() -> None:
    model = network(CONFIG, SIDE * SIDE)
    vectors = puzzle_vectors(ROWS, COLORS, IDENTITY).requires_grad_()

    def colors_behind(total: Tensor) -> list[list[int]]:
        """Return the pairs (0 for inputs or 1 for outputs, color) whose vectors the total depends on."""
        (gradient,) = torch.autograd.grad(total, vectors)
        return gradient[:, 32:].unflatten(1, (2, 10, 32)).abs().sum(dim=(0, 3)).nonzero().tolist()

    assert colors_behind(model._embed(torch.full_like(INPUTS, FIRST_COLOR + 3), vectors).sum()) == [[0, 3]]
    logits = model._head(torch.ones(BATCH, SIDE * SIDE, 32), vectors)
    assert colors_behind(logits[..., FIRST_COLOR + 7].sum()) == [[1, 7]]


def test_rope2d_depends_on_offsets_alone() -> None:
    cos, sin = (table.double() for table in rope2d_tables(6, 3, 16, 100.0))
    assert torch.equal(cos[:3], torch.ones(3, 16).double()), "the prefix is not turned"
    assert not sin[:3].any()
    query, key = torch.randn(2, 16, generator=torch.Generator().manual_seed(0)).double()

    def turned(vector: Tensor, row: int, column: int) -> Tensor:
        place = 3 + 6 * row + column
        first, second = vector.chunk(2)
        return vector * cos[place] + torch.cat((-second, first)) * sin[place]

    firsts = set()
    for row, column in ((0, 1), (1, 0), (2, 3)):
        found = [
            turned(query, row + top, column + left) @ turned(key, top, left)
            for top in range(6 - row)
            for left in range(6 - column)
        ]
        torch.testing.assert_close(torch.stack(found), found[0].expand(len(found)), rtol=1e-5, atol=1e-5)
        firsts.add(round(float(found[0]), 6))
    assert len(firsts) == 3
