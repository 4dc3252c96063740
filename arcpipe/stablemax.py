"""Probabilities of tokens from logits, by softmax or the official code's stablemax.

Shape letters: B batch, L grid tokens, V vocabulary.
"""

import torch
from torch import Tensor


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
