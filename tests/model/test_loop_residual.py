"""The loop residual: latent and answer as weighted means of their updates."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from arcpipe.layers import NORM_EPSILON, LoopResidual
from arcpipe.model_config import TRMConfig
from arcpipe.trm import TRM
from networks import VOCABULARY, first_carry, gradients, network

CONFIG = TRMConfig(
    hidden_size=32, num_heads=4, outer_cycles=2, inner_cycles=3, max_steps=4, puzzle_size=48, puzzle_tokens=0,
    loop_residual=True,
)  # fmt: skip
NUM_TOKENS, BATCH = 9, 3
GENERATOR = torch.Generator().manual_seed(0)
INPUTS = torch.randint(VOCABULARY, (BATCH, NUM_TOKENS), generator=GENERATOR)
ROWS = torch.randn(BATCH, CONFIG.puzzle_size, generator=GENERATOR)


def with_residuals(config: TRMConfig = CONFIG, scale: float = 1.0) -> TRM:
    """Return a network whose residuals have different random weights."""
    generator, model = torch.Generator().manual_seed(1), network(config, NUM_TOKENS)
    for weight in model.residuals.parameters():
        weight.data = scale * torch.randn(weight.shape, generator=generator)
    return model


class Transcription:
    """The definition, in float64: weights and their sums without logarithms."""

    def __init__(self, residual: LoopResidual, state: Tensor) -> None:
        self.query, self.beta = residual.query.double(), residual.decay.double().sigmoid()
        self.state, self.sums = state.double(), torch.zeros(state.shape[:2], dtype=torch.float64)

    def update(self, proposals: Tensor) -> Tensor:
        norms = (proposals.double().square().mean(dim=-1) + NORM_EPSILON).sqrt()
        weights = (proposals.double() @ self.query / norms).exp()
        self.sums = self.beta * self.sums + weights
        self.state = self.state + (weights / self.sums)[..., None] * (proposals - self.state)
        return self.state.float()


@pytest.mark.parametrize("separate", [False, True])
def test_three_steps_are_the_definition(separate: bool) -> None:
    """With separate networks, the first two blocks update the latent and the other two the answer."""
    model = with_residuals(replace(CONFIG, separate_networks=separate))
    with torch.no_grad():
        embedded = model._embed(INPUTS, ROWS)
        rope = (model.rope_cos, model.rope_sin)
        answer, latent = model.init_answer.expand_as(embedded), model.init_latent.expand_as(embedded)
        of_latent, of_answer = (
            Transcription(residual, start)
            for residual, start in zip(model.residuals, (latent, answer), strict=True)
        )
        state: tuple[Tensor, ...] = ()
        for _ in range(3):
            for _ in range(CONFIG.outer_cycles):
                for _ in range(CONFIG.inner_cycles):
                    latent = of_latent.update(model._network(0, latent, answer + embedded, rope))
                answer = of_answer.update(model._network(2 if separate else 0, answer, latent, rope))
            found_answer, found_latent, logits, _, log_sums = model(INPUTS, ROWS, *state)
            state = (found_answer, found_latent, log_sums)
            torch.testing.assert_close(found_latent, latent, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(found_answer, answer, rtol=1e-4, atol=1e-4)
            expected = model._head(answer[:, model.config.prefix :], ROWS)
            torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-3)
            sums = torch.stack((of_latent.sums, of_answer.sums), dim=-1).float()
            torch.testing.assert_close(log_sums.exp(), sums, rtol=1e-4, atol=1e-5)


def test_it_is_learned_in_float32_whatever_the_state_is() -> None:
    model = with_residuals()
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        carry = first_carry(model, INPUTS, dtype)
        *state, logits, halt_logit, log_sums = model(INPUTS, ROWS, *carry.state)
        assert [of.dtype for of in state] == [dtype, dtype]
        assert log_sums.dtype == torch.float32
        found.append(gradients(model, logits, halt_logit, INPUTS))
        later = carry.advance(*state, carry.halted, log_sums)
        assert not any(of.requires_grad for of in later.state), "no gradient crosses a supervision step"
    exact, rounded = found
    assert exact.keys() == rounded.keys() == dict(model.named_parameters()).keys()
    for name, gradient in exact.items():
        assert gradient.any(), name
        assert torch.cosine_similarity(gradient.flatten(), rounded[name].flatten(), dim=0) > 0.97, name


def test_no_score_is_too_large() -> None:
    """With weights of exp(1000) and exp(-1000) the mean is a single proposal."""
    model = with_residuals(scale=300)
    state: list[Tensor] = []
    for _ in range(3):
        answer, latent, logits, halt_logit, log_sums = model(INPUTS, ROWS, *state)
        state = [answer.detach(), latent.detach(), log_sums.detach()]
        assert all(of.isfinite().all() for of in (*state, logits))
    assert all(
        gradient.isfinite().all() for gradient in gradients(model, logits, halt_logit, INPUTS).values()
    )


def test_a_new_sample_begins_with_no_weights() -> None:
    model = with_residuals()
    carry = first_carry(model, INPUTS)
    answer, latent, *_, log_sums = model(INPUTS, ROWS, *carry.state)
    halted = torch.tensor([True, False, True])
    later = model.admit(carry.advance(answer, latent, halted, log_sums), INPUTS, INPUTS, carry.puzzle_ids)
    found, first = (model(INPUTS, ROWS, *of.state) for of in (later, carry))
    second = model(INPUTS, ROWS, answer, latent, log_sums)
    for one, new, old in zip(found, first, second, strict=True):
        assert torch.equal(one, torch.where(halted.view(-1, *[1] * (one.ndim - 1)), new, old))
