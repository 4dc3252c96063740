"""The network on smaller canvases, whose tokens keep their positions on the whole canvas."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from arcpipe.buckets import crop
from arcpipe.model_config import TRMConfig
from arcpipe.trm import TRM

CANVAS, SIDE, VOCABULARY, BATCH = 6, 4, 12, 3
CONFIG = TRMConfig(
    hidden_size=32, num_heads=4, outer_cycles=2, inner_cycles=2, puzzle_size=48, puzzle_tokens=2,
    buckets=[3, SIDE],
)  # fmt: skip


def models(**changes: Any) -> tuple[TRM, TRM]:
    """A model of the whole canvas, and one that knows the smaller canvas alone, with positions put in by
    hand."""
    torch.manual_seed(0)
    config = replace(CONFIG, **changes)
    whole = TRM(config, CANVAS**2, VOCABULARY)
    small = TRM(replace(config, buckets=[]), SIDE**2, VOCABULARY)
    cells = [config.prefix + CANVAS * row + column for row in range(SIDE) for column in range(SIDE)]
    own, sides, weights = [*range(config.prefix), *cells], list(range(SIDE)), whole.state_dict()
    for name, cells in (("embed_positions", own), ("embed_rows", sides), ("embed_columns", sides)):
        if name in weights:
            weights[name] = weights[name][cells]
    small.load_state_dict(weights)
    # Rows and columns of the corner are the same on any canvas, so its own tables are right.
    if not config.positions.startswith("rope2d"):
        small.rope_cos, small.rope_sin = whole.rope_cos[own], whole.rope_sin[own]
    return whole, small


Step = tuple[Tensor, Tensor, Tensor, Tensor]


def example(model: TRM) -> Step:
    """Return what a model of the whole canvas takes in a step: tokens, rows, answer and latent."""
    total = model.config.prefix + model.num_tokens
    answer, latent = torch.randn(2, BATCH, total, model.config.hidden_size)
    rows = torch.randn(BATCH, model.config.puzzle_size)
    return torch.randint(VOCABULARY, (BATCH, model.num_tokens)), rows, answer, latent


def cropped(model: TRM, step: Step) -> Step:
    """Return the same on the smaller canvas."""
    inputs, rows, *state = step
    answer, latent = (crop(of, SIDE, CANVAS, model.config.prefix) for of in state)
    return crop(inputs, SIDE, CANVAS), rows, answer, latent


@pytest.mark.parametrize("positions", ["rope", "learned", "rope2d", "rope2d+learned", "none"])
@pytest.mark.parametrize("puzzle_size", [48, 0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_bucket_has_its_positions(positions: str, puzzle_size: int, dtype: torch.dtype) -> None:
    whole, small = models(positions=positions, puzzle_size=puzzle_size)
    inputs, rows, answer, latent = cropped(whole, example(whole))
    found, expected = (model(inputs, rows, answer.to(dtype), latent.to(dtype)) for model in (whole, small))
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    assert found[2].shape == (BATCH, SIDE**2, VOCABULARY)


@pytest.mark.parametrize("positions", ["rope", "learned"])
def test_recomputed_activations_on_a_bucket_are_the_same(positions: str) -> None:
    whole, _ = models(positions=positions)
    step, gradients = cropped(whole, example(whole)), []
    for recompute in (False, True):
        whole.recompute = recompute
        whole.zero_grad()
        _, _, logits, _ = whole(*step)
        logits.square().sum().backward()
        gradients.append([weight.grad for weight in whole.parameters() if weight.grad is not None])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_what_is_beyond_a_bucket_counts_on_the_whole_canvas() -> None:
    """The network attends to PAD: a smaller canvas is another function."""
    whole, _ = models()
    _, rows, answer, latent = example(whole)
    inputs = torch.zeros(BATCH, CANVAS**2, dtype=torch.int64)
    inputs[:, 0] = 5
    step = (inputs, rows, answer, latent)
    on_whole, on_bucket = whole(*step)[2], whole(*cropped(whole, step))[2]
    assert not torch.allclose(crop(on_whole, SIDE, CANVAS), on_bucket, atol=1e-2)
