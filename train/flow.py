"""What a training of a flow shows the network: noisy answers at rising times."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from arcpipe.batches import IGNORE
from arcpipe.codec import PAD
from arcpipe.flow import PSEUDOTARGETS, interpolant, noise, seeds_of, times, uniform, with_given
from arcpipe.train.config import TrainSettings
from arcpipe.train.state import TrainState
from arcpipe.trm import Carry


def sample_seeds(state: TrainState, settings: TrainSettings) -> Tensor | None:
    """Return the seed (B,) that each row of this process's share has if it takes a sample at this step.

    It is a function of the seed, the step and the row of the global batch; None of no flow.
    """
    if not state.model.config.flow:
        return None
    seeds = seeds_of(settings.seed, np.array([state.step], np.uint64), state.own_rows.astype(np.uint64))
    return seeds.to(state.carry.steps.device)


def noisy_answers(state: TrainState, carry: Carry, settings: TrainSettings) -> tuple[Tensor, Tensor] | None:
    """Return the noisy answer (B, L, V) of each sample and its time (B,); None of no flow.

    The answer is the true one or, from the second step on, with a probability that rises to 1, what the
    model predicted last.
    """
    if carry.seeds is None or carry.predicted is None:
        return None
    count, vocabulary = carry.labels.shape[1], state.model.vocabulary
    labels = torch.where(carry.labels == IGNORE, PAD, carry.labels)
    ends = one_hot(labels, vocabulary).to(carry.predicted.dtype)
    if settings.flow_pseudotargets:
        share = (state.step + 1) / settings.flow_pseudotargets
        draws = uniform(carry.seeds, PSEUDOTARGETS, state.model.config.max_steps)
        own = (draws.gather(1, carry.steps[:, None])[:, 0] < share) & (carry.steps > 0)
        ends = torch.where(own[:, None, None], carry.predicted, ends)
    at = times(carry.seeds, state.model.config.max_steps, settings.flow_times)
    now = at.gather(1, carry.steps[:, None])[:, 0]
    noisy = interpolant(noise(carry.seeds, 0, count, vocabulary), ends, now)
    return with_given(noisy, carry.inputs, state.blank_token), now
