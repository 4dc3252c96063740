"""The network on smaller canvases: their tokens keep the positions that they have on the whole one."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from arcpipe.buckets import crop
from arcpipe.errors import RecipeError
from arcpipe.model_config import TRMConfig
from arcpipe.recipe import Recipe
from arcpipe.trm import TRM

CANVAS, SIDE, VOCABULARY, BATCH = 6, 4, 12, 3
CONFIG = TRMConfig(
    hidden_size=32, num_heads=4, outer_cycles=2, inner_cycles=2, puzzle_size=48, puzzle_tokens=2,
    buckets=[3, SIDE],
)  # fmt: skip


def places(prefix: int) -> list[int]:
    """The positions on the whole canvas of the tokens of the smaller one."""
    cells = (prefix + CANVAS * row + column for row in range(SIDE) for column in range(SIDE))
    return [*range(prefix), *cells]


def models(**changes: Any) -> tuple[TRM, TRM]:
    """A model of the whole canvas, and one that knows the smaller canvas alone, with positions put in by
    hand."""
    torch.manual_seed(0)
    config = replace(CONFIG, **changes)
    whole = TRM(config, CANVAS**2, VOCABULARY)
    small = TRM(replace(config, buckets=[]), SIDE**2, VOCABULARY)
    chosen, weights = places(config.prefix), whole.state_dict()
    if "embed_positions" in weights:
        weights["embed_positions"] = weights["embed_positions"][chosen]
    small.load_state_dict(weights)
    small.rope_cos, small.rope_sin = whole.rope_cos[chosen], whole.rope_sin[chosen]
    return whole, small


def example(model: TRM) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What a model of the whole canvas takes: tokens, rows, answer and latent."""
    total = model.config.prefix + model.num_tokens
    answer, latent = torch.randn(2, BATCH, total, model.config.hidden_size)
    rows = torch.randn(BATCH, model.config.puzzle_size)
    return torch.randint(VOCABULARY, (BATCH, model.num_tokens)), rows, answer, latent


@pytest.mark.parametrize("positions", ["rope", "learned", "none"])
@pytest.mark.parametrize("puzzle_size", [48, 0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_bucket_has_the_positions_of_the_whole_canvas(
    positions: str, puzzle_size: int, dtype: torch.dtype
) -> None:
    whole, small = models(positions=positions, puzzle_size=puzzle_size)
    inputs, rows, answer, latent = example(whole)
    prefix = whole.config.prefix
    cropped = (
        crop(inputs, SIDE, CANVAS),
        rows,
        crop(answer.to(dtype), SIDE, CANVAS, prefix),
        crop(latent.to(dtype), SIDE, CANVAS, prefix),
    )
    found, expected = whole(*cropped), small(*cropped)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    assert found[2].shape == (BATCH, SIDE**2, VOCABULARY)


def test_the_gradient_of_positions_reaches_those_of_the_bucket_alone() -> None:
    whole, _ = models(positions="learned")
    inputs, rows, answer, latent = example(whole)
    chosen = places(whole.config.prefix)
    _, _, logits, _ = whole(crop(inputs, SIDE, CANVAS), rows, answer[:, chosen], latent[:, chosen])
    logits.square().sum().backward()
    assert whole.embed_positions.grad is not None
    moved = whole.embed_positions.grad.abs().sum(dim=1).nonzero().flatten().tolist()
    assert moved == sorted(chosen)


@pytest.mark.parametrize("positions", ["rope", "learned"])
def test_recomputed_activations_on_a_bucket_are_the_same(positions: str) -> None:
    whole, _ = models(positions=positions)
    inputs, rows, answer, latent = example(whole)
    chosen, gradients = places(whole.config.prefix), []
    for recompute in (False, True):
        whole.recompute = recompute
        whole.zero_grad()
        _, _, logits, _ = whole(crop(inputs, SIDE, CANVAS), rows, answer[:, chosen], latent[:, chosen])
        logits.square().sum().backward()
        gradients.append([weight.grad for weight in whole.parameters() if weight.grad is not None])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_a_model_with_buckets_has_the_weights_of_one_without() -> None:
    torch.manual_seed(0)
    plain = TRM(replace(CONFIG, buckets=[]), CANVAS**2, VOCABULARY)
    whole, _ = models()
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, whole.state_dict()[name])


def test_what_is_beyond_a_bucket_counts_on_the_whole_canvas() -> None:
    """The network attends to PAD: a smaller canvas is another function."""
    whole, _ = models()
    _, rows, answer, latent = example(whole)
    inputs = torch.zeros(BATCH, CANVAS**2, dtype=torch.int64)
    inputs[:, 0] = 5
    chosen = places(whole.config.prefix)
    _, _, on_whole, _ = whole(inputs, rows, answer, latent)
    _, _, on_bucket, _ = whole(crop(inputs, SIDE, CANVAS), rows, answer[:, chosen], latent[:, chosen])
    assert not torch.allclose(crop(on_whole, SIDE, CANVAS), on_bucket, atol=1e-2)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"buckets": [10, 10]}, "[model]: buckets [10, 10] must ascend"),
        ({"buckets": [20, 10]}, "[model]: buckets [20, 10] must ascend"),
        ({"buckets": [1, 10]}, "model.buckets.0: input should be greater than 1, found 1"),
        ({"buckets": [10.5]}, "model.buckets.0"),
        ({"buckets": 10}, "model.buckets: input should be a valid array"),
        ({"buckets": [10], "mixer": "mlp"}, "[model]: buckets are for mixer attention"),
    ],
)
def test_buckets_that_cannot_be_are_refused(table: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe("mine", {"model": table}).settings("model", TRMConfig)
    assert said in str(caught.value)
