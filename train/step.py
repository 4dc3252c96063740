"""One optimizer step: admit new samples, recurse once, learn, decide who halts."""

import math
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from arcpipe.batches import PuzzleBatch
from arcpipe.errors import ArcpipeError
from arcpipe.train.losses import StepLoss, step_loss
from arcpipe.train.optim import sign_sgd_rows
from arcpipe.train.settings import TrainSettings
from arcpipe.train.state import TrainState

METRICS = ("samples", "loss_answer", "loss_halt", "finished", "exact", "cell", "halt_right", "steps")
"""The order of the sums that `train_step` returns."""


@dataclass(frozen=True)
class Rates:
    """The learning rates of one step."""

    trunk: float
    puzzles: float


def rates_at(settings: TrainSettings, step: int, progress: float) -> Rates:
    """The rates of a step (from 0): linear warm-up, then a cosine over `progress`, 0..1 of the run."""
    warmup = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    scale = warmup * (settings.min_lr_ratio + (1 - settings.min_lr_ratio) * cosine)
    return Rates(settings.lr * scale, settings.puzzle_lr * scale)


def train_step(
    state: TrainState, batch: PuzzleBatch, settings: TrainSettings, rates: Rates, accelerator: Accelerator
) -> Tensor:
    """Advance `state` by one step on this process's share of a global batch.

    Returns: the sums over the share named in METRICS, float64; from `finished` on they run over the
             samples that halted after this step.
    Raises:  ArcpipeError before any weight is touched if the loss or its gradient is not finite on any
             process.
    Source:  the reference's `pretrain.py` `train_batch`: the loss is divided by the global batch.
    """
    carry = state.model.admit(state.carry, batch.inputs, batch.labels, batch.puzzle_ids)
    puzzles = state.rows[carry.puzzle_ids].requires_grad_()
    answer, latent, logits, halt_logit = state.wrapped(carry.inputs, puzzles, carry.answer, carry.latent)
    loss = step_loss(logits, halt_logit, carry.labels)
    # DDP averages over processes; times their number, the gradient is that of the global sum.
    scaled = loss.total * (accelerator.num_processes / settings.batch_size)
    # Not accelerator.backward, which divides by a number that the environment can set.
    scaled.backward()
    if not _is_finite(scaled, [*state.model.parameters(), puzzles], accelerator):
        raise ArcpipeError(
            f"step {state.step + 1}: the loss or its gradient is not finite; no weight was changed by this "
            "step. Train again with a lower train.lr or train.puzzle_lr"
        )
    for group in state.optimizer.param_groups:
        group["lr"] = rates.trunk
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    state.ema.update()
    _update_rows(state, carry.puzzle_ids, puzzles, settings, rates, accelerator)

    halted = _halted(carry.steps + 1, halt_logit, state, settings, accelerator)
    state.carry = carry.advance(answer, latent, halted)
    state.step += 1
    return _metrics(loss, halt_logit, state)


def _is_finite(loss: Tensor, leaves: list[Tensor], accelerator: Accelerator) -> bool:
    """Whether the loss and the norms of its gradients are finite, with one answer for all processes."""
    gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
    norms = torch.stack(torch._foreach_norm(gradients))
    # A term that is not finite leaves no sum finite, of the norms or of the processes.
    total: Tensor = accelerator.reduce(loss.detach() + norms.sum(), "sum")
    return bool(torch.isfinite(total))


def _update_rows(
    state: TrainState, ids: Tensor, puzzles: Tensor, settings: TrainSettings, rates: Rates,
    accelerator: Accelerator,
) -> None:  # fmt: skip
    """Sign-SGD with the rows and gradients of all processes, applied alike on each."""
    if state.rows.shape[1] == 0:
        return
    assert puzzles.grad is not None
    gradients = puzzles.grad / accelerator.num_processes
    sign_sgd_rows(
        state.rows, accelerator.gather(ids), accelerator.gather(gradients),
        lr=rates.puzzles, weight_decay=settings.puzzle_weight_decay,
    )  # fmt: skip


def _halted(
    steps: Tensor, halt_logit: Tensor, state: TrainState, settings: TrainSettings, accelerator: Accelerator
) -> Tensor:
    """Which samples (B,) end: at the limit, or when the halt logit says so and exploration allows it.

    The draws are those of the global batch at this step, of which each process takes its share.
    """
    max_steps = state.model.config.max_steps
    at_limit = steps >= max_steps
    if max_steps == 1:
        return at_limit
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + state.step)
    explores = torch.rand(settings.batch_size, generator=generator) < settings.halt_exploration
    at_least = torch.randint(2, max_steps + 1, (settings.batch_size,), generator=generator)
    share = len(steps)
    own = slice(accelerator.process_index * share, (accelerator.process_index + 1) * share)
    may_halt = steps >= torch.where(explores, at_least, 0)[own].to(steps.device)
    return at_limit | ((halt_logit.detach() > 0) & may_halt)


def _metrics(loss: StepLoss, halt_logit: Tensor, state: TrainState) -> Tensor:
    finished = state.carry.halted & loss.labelled
    halt_right = (halt_logit >= 0) == loss.correct
    sums = [
        torch.tensor(len(finished)),
        loss.answer,
        loss.halt,
        finished.sum(),
        (finished & loss.correct).sum(),
        torch.where(finished, loss.cell_accuracy, 0).sum(),
        (finished & halt_right).sum(),
        torch.where(finished, state.carry.steps, 0).sum(),
    ]
    return torch.stack([value.detach().to(torch.float64).to(loss.answer.device) for value in sums])
