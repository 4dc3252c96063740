"""The network: initialization, gradients, bfloat16."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from arcpipe.devices import ready_blocks
from arcpipe.errors import RecipeError
from arcpipe.layers import Attention, rope_tables, truncated_normal
from arcpipe.model_config import TRMConfig
from arcpipe.recipe import Recipe
from arcpipe.trm import TRM
from networks import VOCABULARY, first_carry, gradients, network

TINY = TRMConfig(
    hidden_size=32, num_heads=4, outer_cycles=2, inner_cycles=2, max_steps=4, puzzle_size=48, puzzle_tokens=0
)
NUM_TOKENS, BATCH = 9, 5
# Two deviations of the parent normal, relative to the deviation after truncation.
CUT = 2 / 0.8796256610342398
GENERATOR = torch.Generator().manual_seed(0)
INPUTS, LABELS = torch.randint(VOCABULARY, (2, BATCH, NUM_TOKENS), generator=GENERATOR)
ROWS = torch.randn(BATCH, TINY.puzzle_size, generator=GENERATOR)


def tiny(**changes: Any) -> TRM:
    return network(replace(TINY, **changes), NUM_TOKENS)


def like(model: TRM, **changes: Any) -> TRM:
    """Return a model with the same weights and other settings."""
    other = TRM(replace(model.config, **changes), NUM_TOKENS, VOCABULARY)
    other.load_state_dict(model.state_dict())
    return other


def start(model: TRM, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    """The initial answer and latent (B, S, D)."""
    return first_carry(model, INPUTS, dtype).state


def gradients_from(model: TRM, answer: Tensor, latent: Tensor) -> dict[str, Tensor]:
    _, _, logits, halt_logit = model(INPUTS, ROWS, answer, latent)
    return gradients(model, logits, halt_logit, LABELS)


def cosine(one: Tensor, other: Tensor) -> float:
    return float(torch.cosine_similarity(one.flatten().double(), other.flatten().double(), dim=0))


@pytest.mark.parametrize("tokens", [NUM_TOKENS, 4])
@pytest.mark.parametrize("changes", [{}, {"positions": "learned"}, {"puzzle_size": 0}])
def test_without_a_state_a_step_starts_at_the_initial_one(changes: dict[str, Any], tokens: int) -> None:
    model = tiny(**changes)
    inputs, rows = INPUTS[:, :tokens], ROWS[:, : model.config.puzzle_size]
    state = (of[:, : model.config.prefix + tokens] for of in start(model))
    for one, other in zip(model(inputs, rows), model(inputs, rows, *state), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("std", [1.0, 0.02])
def test_truncated_normal_has_the_deviation_it_is_asked_for(std: float) -> None:
    torch.manual_seed(0)
    values = truncated_normal(400, 500, std=std)
    assert values.dtype == torch.float32
    assert float(values.std()) == pytest.approx(std, rel=0.01)
    assert abs(float(values.mean())) < 0.01 * std
    assert 0.99 * std * CUT < float(values.abs().max()) <= std * CUT * (1 + 1e-6)


def test_the_model_starts_as_the_reference_starts() -> None:
    """All weights have the right deviation and are truncated; no sample halts at first."""
    model = tiny(hidden_size=256, positions="learned")
    assert not model.halt_head.weight.any()
    assert model.halt_head.bias.tolist() == [-5.0, -5.0]
    trained, saved = dict(model.named_parameters()), model.state_dict()
    assert saved.keys() - trained.keys() == {"init_answer", "init_latent"}
    assert not torch.equal(model.init_answer, model.init_latent)
    for name, weight in saved.items():
        if not name.startswith("halt_head"):
            size = 256 if name.startswith("embed") else weight.shape[-1]
            std = 1.0 if name.startswith("init") else size**-0.5
            assert float(weight.std()) == pytest.approx(std, rel=0.05 if name in trained else 0.2), name
            assert float(weight.abs().max()) <= std * CUT * (1 + 1e-6), name


def test_the_one_step_gradient_is_that_of_the_last_two_updates() -> None:
    whole = tiny(inner_cycles=3)
    cut = like(whole, one_step_gradient=True)
    state = start(whole)
    with torch.no_grad():
        for plain, ablated in zip(whole(INPUTS, ROWS, *state), cut(INPUTS, ROWS, *state), strict=True):
            assert torch.equal(plain, ablated)
        # The first outer cycle, then all but the last update of the latent.
        answer, latent, _, _ = like(whole, outer_cycles=1)(INPUTS, ROWS, *state)
        _, latent, _, _ = like(whole, outer_cycles=1, inner_cycles=2)(INPUTS, ROWS, answer, latent)
    of_cut = gradients_from(cut, *state)
    of_last = gradients_from(like(whole, outer_cycles=1, inner_cycles=1), answer, latent)
    assert of_cut.keys() == of_last.keys()
    for name, gradient in of_cut.items():
        assert torch.allclose(gradient, of_last[name], rtol=1e-4, atol=1e-6), name


@pytest.mark.parametrize("ready_for_a_cpu", [False, True])
def test_bfloat16_stays_close_to_float32(ready_for_a_cpu: bool) -> None:
    """Whether attention computes in bfloat16 or, as on a CPU, in float32."""
    model = tiny()
    if ready_for_a_cpu:
        ready_blocks(
            model.blocks, hidden_size=32, dtype=torch.bfloat16, device=torch.device("cpu"), threads=0,
            compiled="off", dynamic=False,
        )  # fmt: skip
    assert all(
        module.in_float32 == ready_for_a_cpu for module in model.modules() if isinstance(module, Attention)
    )
    with torch.no_grad():
        exact = model(INPUTS, ROWS, *start(model))
        answer, latent, logits, halt_logit = model(INPUTS, ROWS, *start(model, torch.bfloat16))
    assert answer.dtype == latent.dtype == logits.dtype == torch.bfloat16
    assert halt_logit.dtype == torch.float32
    assert cosine(logits, exact[2]) > 0.999
    assert float((logits - exact[2]).norm() / exact[2].norm()) < 0.03
    of_exact = gradients_from(model, *start(model))
    of_rough = gradients_from(model, *start(model, torch.bfloat16))
    assert of_rough.keys() == dict(model.named_parameters()).keys()
    for name, gradient in of_rough.items():
        assert gradient.dtype == torch.float32
        assert cosine(gradient, of_exact[name]) > 0.98, name


def test_attention_in_float32_rounds_only_what_it_returns() -> None:
    attention, x = Attention(32, 2).bfloat16(), torch.randn(3, 7, 32).bfloat16()
    rounded = attention(x, None)
    attention.in_float32 = True
    parts = attention.qkv(x).float().view(3, 7, 3, 2, 16).permute(2, 0, 3, 1, 4)
    mixed = torch.nn.functional.scaled_dot_product_attention(*parts)
    expected = attention.out(mixed.bfloat16().transpose(1, 2).flatten(-2))
    assert torch.equal(attention(x, None), expected)
    assert not torch.equal(rounded, expected)


@pytest.mark.parametrize(("size", "tokens", "prefix"), [(0, 16, 0), (32, 0, 1), (33, 0, 2), (32, 4, 4)])
def test_prefix_tokens(size: int, tokens: int, prefix: int) -> None:
    assert replace(TINY, puzzle_size=size, puzzle_tokens=tokens).prefix == prefix


def config_of(**table: Any) -> TRMConfig:
    return Recipe("mine", {"model": table}).settings("model", TRMConfig)


@pytest.mark.parametrize(("table", "said"), [
    ({"hidden_size": 36, "num_heads": 8}, "hidden_size 36 must be a multiple of 2 * num_heads (16)"),
    ({"hidden_size": 32, "puzzle_size": 65, "puzzle_tokens": 2}, "puzzle_size 65 does not fit"),
    ({"mixer": "convolution"}, "model.mixer"),
    ({"puzzle_size": -1}, "model.puzzle_size"),
    ({"inner_cycles": 2.5}, "model.inner_cycles"),
    ({"hiden_size": 64}, "model.hiden_size is unknown, did you mean 'hidden_size'?"),
    ({"embedding": "task", "puzzle_size": 16}, "puzzle_size 16 must be hidden_size 512"),
    ({"views": True}, "views are for embedding task"),
    ({"positions": "rope2d", "hidden_size": 64, "num_heads": 32}, "a multiple of 4 * num_heads (128)"),
    ({"buckets": [10, 10]}, "[model]: buckets [10, 10] must ascend"),
    ({"buckets": [1, 10]}, "model.buckets.0: input should be greater than 1, found 1"),
    ({"buckets": [10.5]}, "model.buckets.0"),
])  # fmt: skip
def test_a_model_that_cannot_be_is_refused(table: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        config_of(**table)
    assert said in str(caught.value)


def test_the_token_mlp_asks_nothing_of_the_heads() -> None:
    assert config_of(mixer="mlp", hidden_size=36).hidden_size == 36


def test_the_gradient_of_a_token_of_thousands_of_cells_is_not_lost_in_bfloat16() -> None:
    model = network(replace(TINY, outer_cycles=1, inner_cycles=1, num_layers=1), 900)
    inputs = torch.zeros(8, 900, dtype=torch.int64)
    inputs[:, :50] = torch.arange(50) % VOCABULARY
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        _, _, *outputs = model(inputs, torch.zeros(8, 48), *first_carry(model, inputs, dtype).state)
        found.append(gradients(model, *outputs, inputs)["embed_tokens"])
    exact, rounded = found
    assert (exact - rounded).abs().max() < 0.03 * exact.abs().max()


def test_rotary_tables_have_the_bits_of_the_reference() -> None:
    inv_freq = 1.0 / (10000.0 ** (torch.arange(0, 64, 2, dtype=torch.float32) / 64))
    angles = torch.outer(torch.arange(916, dtype=torch.float32), inv_freq)
    embedding = torch.cat((angles, angles), dim=-1)
    cos, sin = rope_tables(916, 64, 10000.0)
    assert torch.equal(cos, embedding.cos())
    assert torch.equal(sin, embedding.sin())
