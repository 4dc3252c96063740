"""The sampler of a flow: noisy answers that inference denoises, a step at a time."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arcpipe.flow import move, noise, probabilities, seeds_of, stir, with_given


class FlowSampler:
    """The noisy answers of the rows of a batch, from noise at time 0 to the answer at time 1.

    All noise is a function of (seed, position in the schedule, step).

    Args:  steps: of equal length. gamma: how much fresh noise each step takes; 0 for none, Euler's method.
           loss: of the training, which says what logits mean. blank: see `with_given`.
    """

    def __init__(
        self, batch_size: int, num_tokens: int, vocabulary: int, device: torch.device,
        *, steps: int, gamma: float, seed: int, loss: str, blank: int | None,
    ) -> None:  # fmt: skip
        self.num_steps, self.gamma, self.seed, self.loss, self.blank = steps, gamma, seed, loss, blank
        self.noisy = torch.zeros(batch_size, num_tokens, vocabulary, device=device)
        self.seeds = torch.zeros(batch_size, dtype=torch.int64, device=device)
        # Where the step under way begins and ends.
        self.now = self.later = torch.zeros(batch_size, device=device)

    def admit(self, where: Tensor, positions: NDArray[np.int64], inputs: Tensor) -> None:
        """Begin anew in rows (M,) with the items at positions (M,) of the schedule."""
        self.seeds[where] = seeds_of(self.seed, positions.astype(np.uint64)).to(self.seeds.device)
        start = noise(self.seeds[where], 0, *self.noisy.shape[1:])
        self.noisy[where] = with_given(start, inputs[where], self.blank)

    def keep(self, where: Tensor) -> None:
        """Keep these rows alone."""
        self.noisy, self.seeds = self.noisy[where], self.seeds[where]

    def stir(self, steps: NDArray[np.int64], inputs: Tensor) -> Tensor:
        """Add the noise of a step to each row, of which `steps` (B,) are done; return the times (B,)."""
        done = torch.from_numpy(steps).to(self.noisy.device)
        now, self.later = self._times(done)
        fresh = noise(self.seeds, done + 1, *self.noisy.shape[1:]) if self.gamma else self.noisy
        noisy, self.now = stir(self.noisy, fresh, now, self.later, self.gamma)
        self.noisy = with_given(noisy, inputs, self.blank)
        return self.now

    def move(self, logits: Tensor, inputs: Tensor) -> None:
        """Go on from the times of `stir` to the end of the step, toward what is predicted."""
        predicted = probabilities(logits, self.loss)
        self.noisy = with_given(move(self.noisy, predicted, self.now, self.later), inputs, self.blank)

    def _times(self, done: Tensor) -> tuple[Tensor, Tensor]:
        # A row that has no item may have done all its steps.
        done = done.clamp(max=self.num_steps - 1)
        return done / self.num_steps, (done + 1) / self.num_steps
