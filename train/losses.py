"""What is minimized: losses and metrics of the reference's `models/losses.py`, and what a flow denoises."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from arcpipe.batches import IGNORE
from arcpipe.codec import PAD
from arcpipe.flow import PSEUDOTARGETS, interpolant, noise, seeds_of, times, uniform, with_given
from arcpipe.train.config import LossPrecision, TrainSettings
from arcpipe.train.state import TrainState
from arcpipe.trm import Carry


def stablemax_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of each cell (...,) float64, 0 where the label is IGNORE.

    Stablemax replaces the exponential of softmax by s(x) = x + 1 for x >= 0, 1 / (1 - x) below.

    Args:    logits: (..., V) of any float dtype; computed in float64, as the reference does.
             labels: (...,) int64.
    """
    x = logits.to(torch.float64)
    scores = torch.where(x < 0, 1 / (1 - x + 1e-30), x + 1)
    valid = labels != IGNORE
    of_label = scores.gather(-1, torch.where(valid, labels, 0)[..., None]).squeeze(-1)
    return torch.where(valid, scores.sum(-1).log() - of_label.log(), 0)


def stablemax_cross_entropy_float32(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the same loss (...,) in float32, for devices that are slow at float64.

    It is log1p(the other tokens' scores / the label's score): no two near numbers are subtracted, so
    that small losses keep their digits. Relative to the float64 form, each loss and each number of its
    gradient differs by at most 1e-6 for logits up to a million; beyond 1e12 the gradient overflows.

    Args:    logits: (..., V) of any float dtype. labels: (...,) int64.
    """
    x = logits.float()
    below = x < 0
    # The inner `where` keeps 1 / 0, and then 0 * inf in the gradient, out of the branch not taken.
    scores = torch.where(below, 1 / (1 - torch.where(below, x, 0)), x + 1)
    valid = labels != IGNORE
    label = torch.where(valid, labels, 0)[..., None]
    of_label = scores.gather(-1, label).squeeze(-1)
    of_others = scores.scatter(-1, label, 0).sum(-1)
    return torch.where(valid, torch.log1p(of_others / of_label), 0)


@dataclass(frozen=True)
class StepLoss:
    """Sums over the batch of one supervision step.

    answer: cross-entropy, averaged over the labelled cells of each sample.
    halt: binary cross-entropy of the halt logit against whether the sample is right.
    correct: (B,) bool.
    cell_accuracy: (B,) the share of labelled cells that are right; 0 for a sample without labels.
    labelled: (B,) bool, the sample has a label.
    """

    answer: Tensor
    halt: Tensor
    correct: Tensor
    cell_accuracy: Tensor
    labelled: Tensor

    @property
    def total(self) -> Tensor:
        """What is minimized, not yet divided by the global batch size."""
        return self.answer + 0.5 * self.halt

    def detach(self) -> "StepLoss":
        """Return the same without a graph."""
        return replace(self, answer=self.answer.detach(), halt=self.halt.detach())


def join_losses(parts: Sequence[StepLoss]) -> StepLoss:
    """Return the losses of a batch from those of its parts."""
    return StepLoss(
        answer=torch.stack([part.answer for part in parts]).sum(),
        halt=torch.stack([part.halt for part in parts]).sum(),
        correct=torch.cat([part.correct for part in parts]),
        cell_accuracy=torch.cat([part.cell_accuracy for part in parts]),
        labelled=torch.cat([part.labelled for part in parts]),
    )


def softmax_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the usual loss of each cell (...,) float32, 0 where the label is IGNORE.

    Args:    logits: (..., V) of any float dtype. labels: (...,) int64.
    """
    of_cells = F.cross_entropy(
        logits.float().flatten(0, -2), labels.flatten(), ignore_index=IGNORE, reduction="none"
    )
    return of_cells.view(labels.shape)


def step_loss(
    logits: Tensor, halt_logit: Tensor, labels: Tensor, precision: LossPrecision = "float64",
    kind: str = "stablemax",
) -> StepLoss:  # fmt: skip
    """Return the losses of logits (B, L, V) and halt_logit (B,) against labels (B, L)."""
    valid = labels != IGNORE
    num_cells = valid.sum(-1)
    right_cells = (valid & (logits.argmax(-1) == labels)).sum(-1)
    correct = right_cells == num_cells
    of_cell = stablemax_cross_entropy if precision == "float64" else stablemax_cross_entropy_float32
    if kind == "softmax":
        of_cell = softmax_cross_entropy
    per_sample = of_cell(logits, labels).sum(-1) / num_cells.clamp_min(1)
    return StepLoss(
        answer=per_sample.sum(),
        halt=F.binary_cross_entropy_with_logits(halt_logit, correct.to(halt_logit.dtype), reduction="sum"),
        correct=correct,
        cell_accuracy=right_cells / num_cells.clamp_min(1),
        labelled=num_cells > 0,
    )


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
    ends = F.one_hot(labels, vocabulary).to(carry.predicted.dtype)
    if settings.flow_pseudotargets:
        share = (state.step + 1) / settings.flow_pseudotargets
        draws = uniform(carry.seeds, PSEUDOTARGETS, state.model.config.max_steps)
        own = (draws.gather(1, carry.steps[:, None])[:, 0] < share) & (carry.steps > 0)
        ends = torch.where(own[:, None, None], carry.predicted, ends)
    at = times(carry.seeds, state.model.config.max_steps, settings.flow_times)
    now = at.gather(1, carry.steps[:, None])[:, 0]
    noisy = interpolant(noise(carry.seeds, 0, count, vocabulary), ends, now)
    return with_given(noisy, carry.inputs, state.blank_token), now
