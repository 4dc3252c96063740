"""Probabilities of tokens, and the losses of a supervision step: the official `models/losses.py`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from arcpipe.batches import IGNORE


def stablemax_scores(logits: Tensor) -> Tensor:
    """Return s(x) = x + 1 for x >= 0 and 1 / (1 - x) below, which replaces the exponential of softmax.

    Source:  the official `models/losses.py`.
    """
    # Clamped, because the gradient of a discarded 1 / 0 would be 0 * inf = NaN.
    return torch.where(logits < 0, 1 / (1 - logits.clamp(max=0)), logits + 1)


def probabilities(logits_BLV: Tensor, loss: str) -> Tensor:
    """Return the probability of each token, float32, from logits of a model trained with this loss."""
    values = logits_BLV.float()
    if loss == "softmax":
        return values.softmax(dim=-1)
    scores = stablemax_scores(values)
    return scores / scores.sum(dim=-1, keepdim=True)


def stablemax_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of each cell (...,) float64, 0 where the label is IGNORE.

    Like the reference, it computes in float64.

    Args:    logits: (..., V) of any float dtype. labels: (...,) int64.
    """
    scores = stablemax_scores(logits.to(torch.float64))
    valid = labels != IGNORE
    label_score = scores.gather(-1, torch.where(valid, labels, 0)[..., None]).squeeze(-1)
    return torch.where(valid, scores.sum(-1).log() - label_score.log(), 0)


def stablemax_cross_entropy_float32(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the same loss (...,) in float32, for devices that are slow at float64.

    It is log1p(sum of the other tokens' scores / the label's score), which subtracts no two near numbers, so
    small losses keep their digits. Each loss and each component of its gradient is within 1e-6, relative, of
    the float64 form for logits up to a million; beyond 1e12 the gradient overflows.

    Args:    logits: (..., V) of any float dtype. labels: (...,) int64.
    """
    scores = stablemax_scores(logits.float())
    valid = labels != IGNORE
    label = torch.where(valid, labels, 0)[..., None]
    label_score = scores.gather(-1, label).squeeze(-1)
    other_scores = scores.scatter(-1, label, 0).sum(-1)
    return torch.where(valid, torch.log1p(other_scores / label_score), 0)


@dataclass(frozen=True)
class StepLoss:
    """The losses of a supervision step, summed over the batch, and how right its samples are.

    answer: cross-entropy, the mean over the labelled cells of each sample.
    halt: binary cross-entropy of the halt logit against `correct`.
    correct: (B,) bool, all labelled cells are right.
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
        """The loss to minimize, not yet divided by the global batch size."""
        return self.answer + 0.5 * self.halt

    def detach(self) -> "StepLoss":
        """Return the losses without a graph."""
        return replace(self, answer=self.answer.detach(), halt=self.halt.detach())


def join_losses(parts: Sequence[StepLoss]) -> StepLoss:
    """Return the losses of a batch, given in parts."""
    return StepLoss(
        answer=torch.stack([part.answer for part in parts]).sum(),
        halt=torch.stack([part.halt for part in parts]).sum(),
        correct=torch.cat([part.correct for part in parts]),
        cell_accuracy=torch.cat([part.cell_accuracy for part in parts]),
        labelled=torch.cat([part.labelled for part in parts]),
    )


def step_loss(
    logits: Tensor, halt_logit: Tensor, labels: Tensor, precision: str = "float64",
    kind: str = "stablemax",
) -> StepLoss:  # fmt: skip
    """Return the losses of logits (B, L, V) and halt_logit (B,) against labels (B, L)."""
    valid = labels != IGNORE
    num_cells = valid.sum(-1)
    right_cells = (valid & (logits.argmax(-1) == labels)).sum(-1)
    correct = right_cells == num_cells
    if kind == "softmax":
        flat_logits, flat_labels = logits.float().flatten(0, -2), labels.flatten()
        cell_losses = F.cross_entropy(flat_logits, flat_labels, ignore_index=IGNORE, reduction="none")
        cell_losses = cell_losses.view(labels.shape)
    elif precision == "float64":
        cell_losses = stablemax_cross_entropy(logits, labels)
    else:
        cell_losses = stablemax_cross_entropy_float32(logits, labels)
    per_sample = cell_losses.sum(-1) / num_cells.clamp_min(1)
    return StepLoss(
        answer=per_sample.sum(),
        halt=F.binary_cross_entropy_with_logits(halt_logit, correct.to(halt_logit.dtype), reduction="sum"),
        correct=correct,
        cell_accuracy=right_cells / num_cells.clamp_min(1),
        labelled=num_cells > 0,
    )
