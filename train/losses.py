"""The losses and metrics of the reference's `models/losses.py`."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from arcpipe.batches import IGNORE


def stablemax_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of each cell (...,) float64, 0 where the label is IGNORE.

    Stablemax replaces the exponential of softmax by s(x) = x + 1 for x >= 0, 1 / (1 - x) below.

    Args:    logits: (..., V) of any float dtype; computed in float64, as the reference does.
             labels: (...,) int64.
    """
    x = logits.to(torch.float64)
    scores = torch.where(x < 0, 1 / (1 - x + 1e-30), x + 1)
    valid = labels != IGNORE
    chosen = scores.gather(-1, torch.where(valid, labels, 0)[..., None]).squeeze(-1)
    return torch.where(valid, scores.sum(-1).log() - chosen.log(), 0)


@dataclass(frozen=True)
class StepLoss:
    """Sums over the batch of one supervision step.

    answer: stablemax cross-entropy, averaged over the labelled cells of each sample. halt: binary
    cross-entropy of the halt logit against whether the sample is right. correct: (B,) bool.
    cell_accuracy: (B,) the fraction of labelled cells that are right; 0 for a sample without labels.
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


def step_loss(logits: Tensor, halt_logit: Tensor, labels: Tensor) -> StepLoss:
    """The losses of logits (B, L, V) and halt_logit (B,) against labels (B, L)."""
    valid = labels != IGNORE
    num_cells = valid.sum(-1)
    right_cells = (valid & (logits.argmax(-1) == labels)).sum(-1)
    correct = right_cells == num_cells
    per_sample = stablemax_cross_entropy(logits, labels).sum(-1) / num_cells.clamp_min(1)
    return StepLoss(
        answer=per_sample.sum(),
        halt=F.binary_cross_entropy_with_logits(halt_logit, correct.to(halt_logit.dtype), reduction="sum"),
        correct=correct,
        cell_accuracy=right_cells / num_cells.clamp_min(1),
        labelled=num_cells > 0,
    )
