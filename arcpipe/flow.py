"""Looped flows (arXiv 2609.11801), in which the recursion also denoises a noisy answer, and their sampler.

The noisy answer x_t = (1 - t) x_0 + t x_1 has V numbers per cell: noise x_0 at time 0, the one-hot answer x_1
at time 1. Noise and times are functions of the seed of a sample.

Shape letters: B batch, L grid tokens, V vocabulary.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot

from arcpipe.augmentation import SPLIT_MIX, random_bits
from arcpipe.losses import probabilities

# Turns of draws other than noise. Noise has turn 0 for x_0 and i + 1 for step i of inference.
TIMES, PSEUDOTARGETS = -1, -2
# As signed numbers.
_STEP, _FIRST, _SECOND = (value - 2**64 for value in SPLIT_MIX)


def seeds_of(seed: int, *counters: NDArray[np.uint64]) -> Tensor:
    """Return a seed (B,) int64 for each sample, from a common seed and the counters of each sample."""
    return torch.from_numpy(random_bits(seed, *counters).view(np.int64))


def random_words(seeds_B: Tensor, turn: int | Tensor, count: int) -> Tensor:
    """Return `count` words (B, count) of 64 random bits for each seed, as `random_bits(seed, turn, number)`.

    Args:  turn: the purpose of the draw, one for all or (B,).
    """
    numbers = torch.arange(count, device=seeds_B.device)
    return _mix(_mix(_mix(seeds_B) ^ turn)[:, None] ^ numbers)


def uniform(seeds_B: Tensor, turn: int | Tensor, count: int) -> Tensor:
    """Return random numbers (B, count) float32 between 0 and 1, exclusive."""
    return _fraction(random_words(seeds_B, turn, count))


def noise(seeds_B: Tensor, turn: int | Tensor, num_tokens: int, vocabulary: int) -> Tensor:
    """Return normal numbers (B, L, V) float32 of deviation 1 / sqrt(V)."""
    words = random_words(seeds_B, turn, num_tokens * vocabulary)
    radius = (-2 / vocabulary * _fraction(words).log()).sqrt()
    normal: Tensor = radius * (2 * math.pi * _fraction(words << 32)).cos()
    return normal.view(-1, num_tokens, vocabulary)


def times(seeds_B: Tensor, steps: int, kind: str) -> Tensor:
    """Return the ascending times (B, steps) of the supervision steps in training.

    Args:  kind: "sorted": steps + 1 uniform draws without the last; "random_start": the first uniform, the
           others uniform between it and 1.
    """
    draws = uniform(seeds_B, TIMES, steps + 1)
    if kind == "random_start":
        draws[:, 1:] = draws[:, :1] + (1 - draws[:, :1]) * draws[:, 1:]
    return draws.sort(dim=1).values[:, :steps]


def with_given(x_BLV: Tensor, inputs_BL: Tensor, blank: int | None) -> Tensor:
    """Return a noisy answer with the given cells replaced by those of the input.

    Args:  blank: token of a cell that is not given; None if no cell is given.
    """
    if blank is None:
        return x_BLV
    given_BLV = one_hot(inputs_BL, x_BLV.shape[-1]).to(x_BLV.dtype)
    return torch.where((inputs_BL == blank)[..., None], x_BLV, given_BLV)


def stir(
    x_BLV: Tensor, fresh_BLV: Tensor, now_B: Tensor, later_B: Tensor, gamma: float
) -> tuple[Tensor, Tensor]:
    """Make a noisy answer one of an earlier time by adding noise; return both. Gamma 0 changes nothing."""
    share_B = (1 - gamma * (later_B - now_B)).clamp(0, 1)
    time_B = share_B * now_B
    amount_B = ((1 - time_B) ** 2 - (share_B - time_B) ** 2).clamp(min=0).sqrt()
    return share_B[:, None, None] * x_BLV + amount_B[:, None, None] * fresh_BLV, time_B


def move(x_BLV: Tensor, predicted_BLV: Tensor, now_B: Tensor, later_B: Tensor) -> Tensor:
    """Return a noisy answer moved to a later time, on a straight line toward the prediction."""
    return torch.lerp(x_BLV, predicted_BLV, ((later_B - now_B) / (1 - now_B))[:, None, None])


class FlowSampler:
    """The noisy answers of the rows of a batch, from noise at time 0 to the answer at time 1.

    All noise is a function of (seed, position in the schedule, step).

    Args:  steps: number of equal steps. gamma: amount of noise added per step; 0 for Euler's method.
           loss: the loss of the training, for `probabilities`. blank: see `with_given`.
    """

    def __init__(
        self, batch_size: int, num_tokens: int, vocabulary: int, device: torch.device,
        *, steps: int, gamma: float, seed: int, loss: str, blank: int | None,
    ) -> None:  # fmt: skip
        self.num_steps, self.gamma, self.seed, self.loss, self.blank = steps, gamma, seed, loss, blank
        self.noisy = torch.zeros(batch_size, num_tokens, vocabulary, device=device)
        self.seeds = torch.zeros(batch_size, dtype=torch.int64, device=device)
        # Times at the start and end of the current step.
        self.now = self.later = torch.zeros(batch_size, device=device)

    def admit(self, where: Tensor, positions: NDArray[np.int64], inputs: Tensor) -> None:
        """Start rows (M,) with the items at positions (M,) of the schedule."""
        self.seeds[where] = seeds_of(self.seed, positions.astype(np.uint64)).to(self.seeds.device)
        start = noise(self.seeds[where], 0, *self.noisy.shape[1:])
        self.noisy[where] = with_given(start, inputs[where], self.blank)

    def keep(self, where: Tensor) -> None:
        """Keep only these rows."""
        self.noisy, self.seeds = self.noisy[where], self.seeds[where]

    def stir(self, steps: NDArray[np.int64], inputs: Tensor) -> Tensor:
        """Add the noise of the next step to each row, after `steps` (B,) steps; return the times (B,)."""
        done = torch.from_numpy(steps).to(self.noisy.device)
        # A row without an item may have done all its steps.
        current = done.clamp(max=self.num_steps - 1)
        now, self.later = current / self.num_steps, (current + 1) / self.num_steps
        fresh = noise(self.seeds, done + 1, *self.noisy.shape[1:]) if self.gamma else self.noisy
        noisy, self.now = stir(self.noisy, fresh, now, self.later, self.gamma)
        self.noisy = with_given(noisy, inputs, self.blank)
        return self.now

    def move(self, logits: Tensor, inputs: Tensor) -> None:
        """Move from the times of `stir` to the end of the step, toward the prediction."""
        predicted = probabilities(logits, self.loss)
        self.noisy = with_given(move(self.noisy, predicted, self.now, self.later), inputs, self.blank)


def _fraction(words: Tensor) -> Tensor:
    """Return the top 23 of 64 bits as a number between 0 and 1, exact in float32."""
    return (_shift(words, 41).float() + 0.5) * 2.0**-23


def _mix(state: Tensor) -> Tensor:
    state = state + _STEP
    state = (state ^ _shift(state, 30)) * _FIRST
    state = (state ^ _shift(state, 27)) * _SECOND
    return state ^ _shift(state, 31)


def _shift(words: Tensor, count: int) -> Tensor:
    """Shift to the right, as unsigned integers."""
    return (words >> count) & ((1 << (64 - count)) - 1)
