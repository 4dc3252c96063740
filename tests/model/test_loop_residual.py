"""The loop residual: latent and answer as weighted means of their updates."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from arcpipe.layers import NORM_EPSILON, LoopResidual
from arcpipe.losses import step_loss
from arcpipe.model_config import TRMConfig
from arcpipe.trm import TRM

CONFIG = TRMConfig(
    hidden_size=32, num_heads=4, outer_cycles=2, inner_cycles=3, max_steps=4, puzzle_size=48, puzzle_tokens=0,
    loop_residual=True,
)  # fmt: skip
NUM_TOKENS, VOCABULARY, BATCH = 9, 12, 3


def network(config: TRMConfig = CONFIG, scale: float = 1.0) -> TRM:
    """Return a network whose residuals have different random weights."""
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = TRM(config, NUM_TOKENS, VOCABULARY)
    for name, weight in model.named_parameters():
        if name.startswith("residuals."):
            weight.data = scale * torch.randn(weight.shape, generator=generator)
    return model


def sample() -> tuple[Tensor, Tensor]:
    """Inputs (B, L) and puzzle rows (B, puzzle_size)."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(VOCABULARY, (BATCH, NUM_TOKENS), generator=generator)
    return inputs, torch.randn(BATCH, CONFIG.puzzle_size, generator=generator)


class Transcription:
    """The definition, number by number: weights and their sums without logarithms."""

    def __init__(self, residual: LoopResidual, state: Tensor) -> None:
        self.query = residual.query.tolist()
        self.beta = 1 / (1 + math.exp(-residual.decay.item()))
        self.state = state.tolist()
        self.sums = [[0.0] * len(sample) for sample in self.state]

    def update(self, proposals: Tensor) -> Tensor:
        for sample, proposed in enumerate(proposals.tolist()):
            for token, proposal in enumerate(proposed):
                self._update(self.state[sample], self.sums[sample], token, proposal)
        return torch.tensor(self.state)

    def _update(
        self, states: list[list[float]], sums: list[float], token: int, proposal: list[float]
    ) -> None:
        norm = math.sqrt(sum(value * value for value in proposal) / len(proposal) + NORM_EPSILON)
        score = sum(weight * value / norm for weight, value in zip(self.query, proposal, strict=True))
        sums[token] = self.beta * sums[token] + math.exp(score)
        share = math.exp(score) / sums[token]
        states[token] = [old + share * (new - old) for old, new in zip(states[token], proposal, strict=True)]


@pytest.mark.parametrize("separate", [False, True])
def test_three_steps_are_the_definition(separate: bool) -> None:
    model = network(replace(CONFIG, separate_networks=separate))
    inputs, rows = sample()
    with torch.no_grad():
        embedded = model._embed(inputs, rows)
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
            found_answer, found_latent, logits, _, log_sums = model(inputs, rows, *state)
            state = (found_answer, found_latent, log_sums)
            torch.testing.assert_close(found_latent, latent, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(found_answer, answer, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(
                logits, model._head(answer[:, model.config.prefix :], rows), rtol=1e-4, atol=1e-3
            )
            for found, expected in zip(log_sums.unbind(-1), (of_latent, of_answer), strict=True):
                torch.testing.assert_close(found.exp(), torch.tensor(expected.sums), rtol=1e-4, atol=1e-5)


def test_it_is_learned_in_float32_whatever_the_state_is() -> None:
    inputs, rows = sample()
    model = network()
    gradients = []
    for dtype in (torch.float32, torch.bfloat16):
        carry = model.admit(model.empty_carry(BATCH, dtype), inputs, inputs, torch.zeros(BATCH).long())
        *state, logits, halt_logit, log_sums = model(inputs, rows, *carry.state)
        assert [of.dtype for of in state] == [dtype, dtype]
        assert log_sums.dtype == torch.float32
        model.zero_grad()
        step_loss(logits, halt_logit, inputs).total.backward()
        gradients.append({name: weight.grad.clone() for name, weight in model.named_parameters()})
        assert not carry.advance(*state, carry.halted, log_sums).state[2].requires_grad
    for name, exact in gradients[0].items():
        assert exact.any(), name
        assert torch.cosine_similarity(exact.flatten(), gradients[1][name].flatten(), dim=0) > 0.97, name


def test_no_score_is_too_large() -> None:
    """With weights of exp(1000) and exp(-1000) the mean is a single proposal."""
    model = network(scale=300)
    inputs, rows = sample()
    state: list[Tensor] = []
    for _ in range(3):
        answer, latent, logits, halt_logit, log_sums = model(inputs, rows, *state)
        state = [answer.detach(), latent.detach(), log_sums.detach()]
        assert all(of.isfinite().all() for of in (*state, logits))
    step_loss(logits, halt_logit, inputs).total.backward()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in model.parameters())


def test_a_new_sample_begins_with_no_weights() -> None:
    model = network()
    inputs, rows = sample()
    carry = model.admit(model.empty_carry(BATCH), inputs, inputs, torch.zeros(BATCH).long())
    answer, latent, *_, log_sums = model(inputs, rows, *carry.state)
    halted = torch.tensor([True, False, True])
    later = model.admit(carry.advance(answer, latent, halted, log_sums), inputs, inputs, carry.puzzle_ids)
    found, first = (model(inputs, rows, *of.state) for of in (later, carry))
    second = model(inputs, rows, answer, latent, log_sums)
    for one, new, old in zip(found, first, second, strict=True):
        assert torch.equal(one, torch.where(halted.view(-1, *[1] * (one.ndim - 1)), new, old))
