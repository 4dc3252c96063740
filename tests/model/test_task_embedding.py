"""Embeddings of tasks and colors, and positions by row and column."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from arcpipe.layers import rope2d_tables
from arcpipe.model_config import TRMConfig
from arcpipe.task_embedding import puzzle_vectors
from arcpipe.trm import TRM

CONFIG = TRMConfig(
    embedding="task", positions="rope2d+learned", hidden_size=32, num_heads=4, outer_cycles=2, inner_cycles=2,
    max_steps=2, puzzle_size=32, puzzle_tokens=0,
)  # fmt: skip
BATCH, SIDE, FIRST_COLOR, VOCABULARY = 4, 5, 2, 12


def network(config: TRMConfig = CONFIG, side: int = SIDE) -> TRM:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TRM(config, side * side, VOCABULARY)


def sample() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs (B, L), rows (B, D), color vectors (B, 2, 10, D) and permutations of the colors (B, 10)."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(VOCABULARY, (BATCH, SIDE * SIDE), generator=generator)
    rows = torch.randn(BATCH, 32, generator=generator)
    colors = torch.randn(BATCH, 2, 10, 32, generator=generator)
    permutations = torch.rand(BATCH, 10, generator=generator).argsort(dim=1)
    return inputs, rows, colors, permutations


def test_vectors_follow_their_colors() -> None:
    _, rows, colors, permutations = sample()
    found = puzzle_vectors(rows, colors, permutations)
    for item in range(BATCH):
        expected = [rows[item]]
        for kind in range(2):
            for now in range(10):
                (original,) = [color for color in range(10) if permutations[item, color] == now]
                expected.append(colors[item, kind, original])
        assert torch.equal(found[item], torch.cat(expected))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("tokens", [0, 2])
def test_a_permutation_of_colors_commutes_with_the_network(tied: bool, tokens: int) -> None:
    """If colors have only the embeddings of their task, and none of their own."""
    model = network(replace(CONFIG, tied_head=tied, puzzle_tokens=tokens))
    inputs, rows, colors, permutations = sample()
    with torch.no_grad():
        model.embed_tokens[FIRST_COLOR:] = model.embed_tokens[FIRST_COLOR]
        if not tied:
            model.output_head.weight[FIRST_COLOR:] = model.output_head.weight[FIRST_COLOR]
        of_token = torch.cat((torch.tensor([[0, 1]]).expand(BATCH, -1), permutations + FIRST_COLOR), dim=1)
        identity = torch.arange(10).expand(BATCH, -1)
        plain = model(inputs, puzzle_vectors(rows, colors, identity))
        recolored = model(of_token.gather(1, inputs), puzzle_vectors(rows, colors, permutations))
    logits = recolored[2].gather(-1, of_token[:, None].expand(-1, SIDE * SIDE, -1))
    assert torch.equal(logits, plain[2])
    assert torch.equal(recolored[3], plain[3])


def test_a_color_vector_reaches_the_cells_and_the_logits_of_its_color_alone() -> None:
    model = network()
    inputs, rows, colors, _ = sample()
    identity = torch.arange(10).expand(BATCH, -1)
    vectors = puzzle_vectors(rows, colors, identity).requires_grad_()
    embedded = model._embed(torch.full_like(inputs, FIRST_COLOR + 3), vectors)
    (gradient,) = torch.autograd.grad(embedded.sum(), vectors)
    of_colors = gradient[:, 32:].unflatten(1, (2, 10, 32)).abs().sum(dim=(0, 3))
    assert of_colors[0].nonzero().flatten().tolist() == [3]
    assert not of_colors[1].any()
    logits = model._head(torch.ones(BATCH, SIDE * SIDE, 32), vectors)
    (gradient,) = torch.autograd.grad(logits[..., FIRST_COLOR + 7].sum(), vectors)
    of_colors = gradient[:, 32:].unflatten(1, (2, 10, 32)).abs().sum(dim=(0, 3))
    assert of_colors[1].nonzero().flatten().tolist() == [7]


def test_rope2d_depends_on_offsets_alone() -> None:
    cos, sin = (table.double() for table in rope2d_tables(6, 3, 16, 100.0))
    assert torch.equal(cos[:3], torch.ones(3, 16).double()), "the prefix is not turned"
    assert not sin[:3].any()
    query, key = torch.randn(2, 16, generator=torch.Generator().manual_seed(0)).double()

    def turned(vector: Tensor, row: int, column: int) -> Tensor:
        place = 3 + 6 * row + column
        first, second = vector.chunk(2)
        return vector * cos[place] + torch.cat((-second, first)) * sin[place]

    products = {
        (row, column): [
            turned(query, row + top, column + left) @ turned(key, top, left)
            for top in range(6 - row)
            for left in range(6 - column)
        ]
        for row, column in ((0, 1), (1, 0), (2, 3))
    }
    for found in products.values():
        torch.testing.assert_close(torch.stack(found), found[0].expand(len(found)), rtol=1e-5, atol=1e-5)
    assert len({round(float(found[0]), 6) for found in products.values()}) == 3
