"""The optimizers: AdamATan2 for the network's weights, sign-SGD for the rows of the puzzle table."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class AdamATan2(Optimizer):
    """Adam with atan2 in place of the division, hence without epsilon; decoupled weight decay.

    Source:  the kernel the reference trains with (imoneoi/adam-atan2), whose first bias correction
             stands outside atan2:
             p -= lr * wd * p;  p -= lr / (1 - b1^t) * atan2(m, sqrt(v / (1 - b2^t))).
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            params = [param for param in group["params"] if param.grad is not None]
            if params:
                self._update(group, params)

    def _update(self, group: dict[str, Any], params: list[Tensor]) -> None:
        for param in params:
            if not self.state[param]:
                self.state[param] = {
                    "step": torch.zeros(()),
                    "exp_avg": torch.zeros_like(param),
                    "exp_avg_sq": torch.zeros_like(param),
                }
        states = [self.state[param] for param in params]
        grads = [param.grad for param in params if param.grad is not None]
        means = [state["exp_avg"] for state in states]
        squares = [state["exp_avg_sq"] for state in states]
        beta1, beta2 = group["betas"]
        torch._foreach_add_([state["step"] for state in states], 1)
        step = int(states[0]["step"])

        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_lerp_(means, grads, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
        scales = torch._foreach_sqrt(squares)
        torch._foreach_div_(scales, math.sqrt(1 - beta2**step))
        updates = [torch.atan2(mean, scale) for mean, scale in zip(means, scales, strict=True)]
        torch._foreach_add_(params, updates, alpha=-group["lr"] / (1 - beta1**step))


@torch.no_grad()
def sign_sgd_rows(table: Tensor, ids: Tensor, gradients: Tensor, *, lr: float, weight_decay: float) -> None:
    """Update in place the rows of a puzzle table that a batch touched.

    Gradients of equal ids are summed; each distinct row then does
    w = w * (1 - lr * wd) - lr * sign(gradient), where sign(0) = 0.

    Args:    table: (P, puzzle_size). ids: (B,) int64. gradients: (B, puzzle_size), one per sample.
    Source:  the reference's `models/sparse_embedding.py`.
    """
    touched, slots = ids.unique(return_inverse=True)
    summed = torch.zeros(len(touched), table.shape[1], dtype=gradients.dtype, device=table.device)
    summed.index_add_(0, slots, gradients)
    rows = table[touched] * (1 - lr * weight_decay) - lr * summed.sign()
    table[touched] = rows
