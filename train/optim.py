"""The optimizers: three kinds for the network's weights, sign-SGD for the rows of the puzzle table."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from arcpipe.train.config import TrainSettings
from arcpipe.trm import TRM

# Source: torch.optim.Muon's defaults.
_MOMENTUM, _NEWTON_SCHULZ = 0.95, (3.4445, -4.7750, 2.0315)


def make_optimizers(model: TRM, settings: TrainSettings, tables: Sequence[Tensor] = ()) -> list[Optimizer]:
    """Make one or two optimizers of the network's weights, then one of the puzzle tables.

    Each group has its full learning rate as `initial_lr`.

    Args:  tables: rows and color vectors of embedding task; empty if the rows learn by sign-SGD.
    """
    betas = (settings.beta1, settings.beta2)
    optimizers: list[Optimizer]
    if settings.optimizer == "muon":
        others = [weight for name, weight in model.named_parameters() if not name.startswith("blocks.")]
        muon = Muon(list(model.blocks.parameters()), settings.muon_lr, settings.muon_weight_decay)
        optimizers = [muon, _adamw(others, settings)]
    elif settings.optimizer == "adamw":
        optimizers = [_adamw(list(model.parameters()), settings)]
    else:
        optimizers = [AdamATan2(model.parameters(), settings.lr, betas, settings.weight_decay)]
    if tables:
        optimizers.append(
            torch.optim.AdamW([*tables], settings.puzzle_lr, betas, weight_decay=settings.puzzle_weight_decay)
        )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers


def _adamw(weights: list[nn.Parameter], settings: TrainSettings) -> Optimizer:
    on_gpu = weights[0].is_cuda
    return torch.optim.AdamW(
        weights, settings.lr, (settings.beta1, settings.beta2), weight_decay=settings.weight_decay,
        fused=on_gpu, foreach=not on_gpu,
    )  # fmt: skip


class AdamATan2(Optimizer):
    """Adam with atan2 instead of the division, so without epsilon; decoupled weight decay.

    Source:  the kernel the reference trains with (imoneoi/adam-atan2), whose first bias correction
             is outside atan2:
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
            if not params:
                continue
            for param in params:
                if not self.state[param]:
                    zeros = {name: torch.zeros_like(param) for name in ("exp_avg", "exp_avg_sq")}
                    self.state[param] = {"step": torch.zeros(()), **zeros}
                self.state[param]["step"] += 1
            grads = [param.grad for param in params]
            means = [self.state[param]["exp_avg"] for param in params]
            squares = [self.state[param]["exp_avg_sq"] for param in params]
            # One that had no gradient at first is some steps behind.
            steps = [int(self.state[param]["step"]) for param in params]
            beta1, beta2 = group["betas"]
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_lerp_(means, grads, 1 - beta1)
            torch._foreach_mul_(squares, beta2)
            torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
            scales = torch._foreach_sqrt(squares)
            torch._foreach_div_(scales, [math.sqrt(1 - beta2**step) for step in steps])
            for param, mean, scale, step in zip(params, means, scales, steps, strict=True):
                param.add_(torch.atan2(mean, scale), alpha=-group["lr"] / (1 - beta1**step))


class Muon(Optimizer):
    """Muon for matrices: each moves by its momentum with all singular values brought near 1.

    Source:  torch.optim.Muon. The results differ only by rounding: torch iterates in bfloat16, which is
             twenty times slower on a CPU that lacks it.
    """

    def __init__(self, params: Any, lr: float, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            params = [param for param in group["params"] if param.grad is not None]
            if not params:
                continue
            for param in params:
                if not self.state[param]:
                    self.state[param]["momentum_buffer"] = torch.zeros_like(param)
            grads = [param.grad for param in params]
            means = [self.state[param]["momentum_buffer"] for param in params]
            torch._foreach_lerp_(means, grads, 1 - _MOMENTUM)
            updates = orthogonal(list(torch._foreach_lerp(grads, means, _MOMENTUM)))
            torch._foreach_mul_(updates, [max(1, len(param) / param.shape[1]) ** 0.5 for param in params])
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(params, updates, alpha=-group["lr"])


def orthogonal(matrices: list[Tensor]) -> list[Tensor]:
    """Return float32 matrices with their singular values brought near 1, by five steps of Newton-Schulz.

    A step is X <- (aI + bA + cA^2) X with A = XX'. The factors are polynomials of A and commute, so only the
    small A is iterated, batched over matrices of one size, and X is multiplied once, by their product.
    """
    units = torch._foreach_div(matrices, [norm.clamp(min=1e-7) for norm in torch._foreach_norm(matrices)])
    wide = [unit.mT if len(unit) > unit.shape[1] else unit for unit in units]
    a, b, c = _NEWTON_SCHULZ
    for size in {len(matrix) for matrix in wide}:
        places = [place for place, matrix in enumerate(wide) if len(matrix) == size]
        squares = torch.stack([wide[place] @ wide[place].mT for place in places])
        factors = torch.eye(size, device=squares.device)
        for _ in range(5):
            factor = torch.baddbmm(squares, squares, squares, beta=b, alpha=c)
            factor.diagonal(dim1=1, dim2=2).add_(a)
            factors, squares = factor @ factors, factor @ squares @ factor
        for place, product in zip(places, factors, strict=True):
            wide[place] = product @ wide[place]
    return [
        result.mT if len(result) != len(matrix) else result
        for result, matrix in zip(wide, matrices, strict=True)
    ]


@torch.no_grad()
def sign_sgd_rows(
    table: Tensor, ids: Tensor, gradients: Tensor, *, lr: float, weight_decay: float, seed: int = 0
) -> None:
    """Update in place the rows of a puzzle table that a batch used.

    Gradients of equal ids are summed; each distinct row then becomes
    w * (1 - lr * wd) - lr * sign(gradient), where sign(0) = 0. A gradient's scale does not matter.
    The host does not wait for the device, unless the table is on the host.

    Args:    table: (P, puzzle_size), float32 or bfloat16. ids: (B,) int64. gradients: (B, puzzle_size), one
             per sample.
             seed: for the random rounding to bfloat16.
    Source:  the reference's `models/sparse_embedding.py`.
    """
    # Equal ids share a slot: the first place of the id in sorted order.
    slots = torch.searchsorted(ids.sort().values, ids)
    # In float64, because a GPU adds in any order: a sign decided by rounding would make the tables of the
    # processes diverge.
    summed = torch.zeros_like(gradients, dtype=torch.float64).index_add_(0, slots, gradients.double())
    signs, ids = summed[slots].sign().to(table.device, torch.float32), ids.to(table.device)
    rows = table[ids].float() * (1 - lr * weight_decay) - lr * signs
    if table.dtype == torch.bfloat16:
        # Round up or down at random with the value as expectation, so that small steps add up: the 16 bits
        # that bfloat16 lacks carry into the upper ones with a probability equal to their value.
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randint(1 << 16, rows.shape, generator=generator, dtype=torch.int32)
        # Rows of one slot are rounded alike.
        bits = rows.view(torch.int32) + noise.to(table.device)[slots.to(table.device)]
        rows = (bits & ~0xFFFF).view(torch.float32).bfloat16()
    # Samples with the same id write the same values.
    table[ids] = rows
