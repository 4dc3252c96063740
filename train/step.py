"""One optimizer step: admit new samples, recurse once, learn, decide who halts."""

import math
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.amp import GradScaler

from arcpipe.batches import PuzzleBatch
from arcpipe.buckets import crop, pad_back
from arcpipe.errors import ArcpipeError
from arcpipe.flow import probabilities
from arcpipe.log import logger
from arcpipe.model_config import TRMConfig
from arcpipe.task_embedding import puzzle_vectors
from arcpipe.train.config import TrainSettings
from arcpipe.train.losses import StepLoss, join_losses, noisy_answers, sample_seeds, step_loss
from arcpipe.train.optim import set_rates, sign_sgd_rows
from arcpipe.train.state import TrainState
from arcpipe.trm import Carry

METRICS = (
    "samples", "loss_answer", "loss_halt", "finished", "exact", "cell", "halt_calls", "halt_hits", "steps",
)  # fmt: skip
"""The order of the sums that `train_step` returns.

halt_calls: the halting head says that the answer is right. halt_hits: and it is.
"""

MIN_LOSS_SCALE = 1.0
"""Where float16 gradients overflow even at this loss scale, the training diverges."""


class NotFiniteError(ArcpipeError):
    """The loss or its gradient is not finite; puzzle_ids: this process's rows that it may be due to."""

    def __init__(self, step: int, puzzle_ids: list[int], table: str) -> None:
        super().__init__(
            f"step {step}: the loss or its gradient is not finite; no weight was changed by this "
            f"step. Train again with a lower {table}.lr or {table}.puzzle_lr"
        )
        self.puzzle_ids = puzzle_ids


def rate_scale(settings: TrainSettings, step: int, progress: float) -> float:
    """The share of the full rates at a step (from 0): linear warm-up, then a cosine over `progress`, 0..1
    of the run."""
    warmup = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return warmup * (settings.min_lr_ratio + (1 - settings.min_lr_ratio) * cosine)


def cycles_at(settings: TrainSettings, config: TRMConfig, progress: float) -> tuple[int, int]:
    """Outer and inner cycles of a step at `progress`, 0..1 of the run.

    Source:  a curriculum of recursion, arXiv 2511.08653.
    """
    cycles = (config.outer_cycles, config.inner_cycles)
    for share, *later in settings.curriculum:
        if progress >= share:
            cycles = (later[0], later[1])
    return cycles


@dataclass(frozen=True)
class _Outputs:
    """Of a supervision step: `Carry.state` after it, halt_logit (B,), the loss, which rows (B,) have finite
    logits, and of a flow the probabilities (B, L, V)."""

    state: tuple[Tensor, ...]
    halt_logit: Tensor
    loss: StepLoss
    finite: Tensor
    predicted: Tensor | None


def train_step(
    state: TrainState, batch: PuzzleBatch, settings: TrainSettings, scale: float, accelerator: Accelerator,
    *, rows_only: bool = False,
) -> Tensor:  # fmt: skip
    """Advance `state` by one step on this process's share of a global batch.

    Where float16 gradients overflow on any process, the step changes no weight, average or row and
    lowers the loss scale; all else goes on.

    Args:    scale: the share of the full learning rates.
             rows_only: leave the network's weights as they are.
    Returns: the sums over the share named in METRICS, float64; from `finished` on they run over the
             samples that halted after this step.
    Raises:  NotFiniteError before any weight is touched if the loss or its gradient is not finite on any
             process; if float16 gradients alone are not, only once the loss scale cannot be lowered.
    Source:  the reference's `pretrain.py` `train_batch`: the loss is divided by the global batch.
    """
    seeds = sample_seeds(state, settings)
    carry = state.model.admit(state.carry, batch.inputs, batch.labels, batch.puzzle_ids, batch.colors, seeds)
    vectors = _look_up(state, carry, settings)
    # A leaf of its own: its gradient is gathered from all parts of the batch, then goes on to the tables.
    puzzles = vectors.detach().requires_grad_()
    state.model.requires_grad_(not rows_only)
    out = _recurse_and_differentiate(state, carry, puzzles, settings, accelerator, rows_only)
    loss_is_finite, all_is_finite = _finite(out.loss.total, [*state.model.parameters(), puzzles], accelerator)
    if all_is_finite:
        if state.tables:
            vectors.backward(puzzles.grad)
            for table in state.tables.values():
                # As DDP averages those of the weights.
                table.grad = accelerator.reduce(table.grad, "mean")
        _update_weights(state, settings, scale, rows_only=rows_only)
        if state.rows.shape[1] and not state.tables:
            _update_rows(state, carry.puzzle_ids, puzzles, settings, scale, accelerator)
    elif loss_is_finite and _halve_loss_scale(state.scaler):
        logger.info("step %d: float16 gradients overflow, nothing learned; loss scale halved", state.step + 1)
    else:
        suspects = carry.puzzle_ids if out.finite.all() else carry.puzzle_ids[~out.finite]
        raise NotFiniteError(state.step + 1, suspects.tolist(), settings.table)
    state.model.zero_grad(set_to_none=True)

    halted = _halted(carry.steps + 1, out.halt_logit, state, settings)
    answer, latent, *log_sums = out.state
    state.carry = replace(carry.advance(answer, latent, halted, *log_sums), predicted=out.predicted)
    state.step += 1
    return _metrics(out.loss, out.halt_logit, state)


def _look_up(state: TrainState, carry: Carry, settings: TrainSettings) -> Tensor:
    """What the network is told of each sample: its row, and with embedding task the vectors of its colors.

    Their noise is that of the global batch at this step, of which each process takes its share.
    """
    ids = carry.puzzle_ids
    rows = state.rows[ids.to(state.rows.device)].to(ids.device, torch.float32)
    if not state.tables:
        return rows
    colors = state.colors[state.tasks[carry.puzzle_ids]]
    if settings.color_noise:
        generator = torch.Generator(rows.device).manual_seed(settings.seed * 1_000_003 + state.step)
        shape = (settings.batch_size, *colors.shape[2:])
        noise = torch.randn(shape, generator=generator, device=rows.device)
        # Of the vectors that are added to cells, not of those that are read from answers.
        noise = settings.color_noise * noise[torch.from_numpy(state.own_rows).to(rows.device)]
        colors = colors + torch.stack((noise, torch.zeros_like(noise)), dim=1)
    return puzzle_vectors(rows, colors, carry.colors)


def _recurse_and_differentiate(
    state: TrainState, carry: Carry, puzzles: Tensor, settings: TrainSettings, accelerator: Accelerator,
    rows_only: bool,
) -> _Outputs:  # fmt: skip
    """A supervision step of the carry and the gradient of its loss; each canvas in `accumulation` parts.

    What the parts give is joined on whole canvases.
    """
    # DistributedDataParallel waits for gradients of weights; those of rows are gathered without it.
    network = state.model if rows_only else state.wrapped
    canvas, prefix = state.layout.canvas, state.model.config.prefix
    cuts = state.layout.parts(accelerator.num_processes, settings.accumulation)
    parts: list[_Outputs] = []
    flow = noisy_answers(state, carry, settings)
    for rows, side in cuts:
        is_last = len(parts) + 1 == len(cuts)
        # Gradients of processes are averaged once, with the last part.
        with nullcontext() if is_last else accelerator.no_sync(network):
            inputs, labels = (crop(of[rows], side, canvas) for of in (carry.inputs, carry.labels))
            before = (crop(of[rows], side, canvas, prefix) for of in carry.state)
            seen = {"noisy_BLV": crop(flow[0][rows], side, canvas), "times_B": flow[1][rows]} if flow else {}
            answer, latent, logits, halt_logit, *log_sums = network(inputs, puzzles[rows], *before, **seen)
            loss = step_loss(logits, halt_logit, labels, settings.loss_precision, settings.loss)
            # DDP averages over processes; times their number, the gradient is that of the global sum.
            shared = loss.total * (accelerator.num_processes / settings.batch_size)
            # Not accelerator.backward, which divides by a number that the environment can set.
            state.scaler.scale(shared).backward()
        parts.append(
            _Outputs(
                tuple(pad_back(of.detach(), side, canvas, prefix) for of in (answer, latent, *log_sums)),
                halt_logit.detach(),
                loss.detach(),
                logits.isfinite().flatten(1).all(1),
                pad_back(probabilities(logits.detach(), settings.loss), side, canvas) if flow else None,
            )
        )
    if len(parts) == 1:
        return parts[0]
    predicted = [part.predicted for part in parts if part.predicted is not None]
    return _Outputs(
        tuple(torch.cat(of) for of in zip(*(part.state for part in parts), strict=True)),
        torch.cat([part.halt_logit for part in parts]),
        join_losses([part.loss for part in parts]),
        torch.cat([part.finite for part in parts]),
        torch.cat(predicted) if predicted else None,
    )


def _finite(loss: Tensor, leaves: list[Tensor], accelerator: Accelerator) -> tuple[bool, bool]:
    """Whether the loss is finite, and whether it and the norms of its gradients are, with one answer for
    all processes."""
    gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
    norms = torch.stack(torch._foreach_norm(gradients))
    # A term that is not finite leaves no sum finite, of the norms or of the processes.
    sums = accelerator.reduce(torch.stack([loss, loss + norms.sum()]), "sum")
    of_loss, of_all = sums.isfinite().tolist()
    return of_loss, of_all


def _halve_loss_scale(scaler: GradScaler) -> bool:
    """Halve the loss scale; False if there is none or it would fall below MIN_LOSS_SCALE."""
    if not scaler.is_enabled() or scaler.get_scale() / 2 < MIN_LOSS_SCALE:
        return False
    # Not by scaler.update, which knows the gradients of the weights only, not those of all rows.
    halved = {"scale": scaler.get_scale() / 2, "_growth_tracker": 0}
    scaler.load_state_dict(scaler.state_dict() | halved)
    return True


def _update_weights(state: TrainState, settings: TrainSettings, scale: float, *, rows_only: bool) -> None:
    """Take a step of the optimizers; with `rows_only` of that of the puzzle tables alone, if there is one."""
    optimizers = state.optimizers
    if rows_only:
        optimizers = optimizers[-1:] if state.tables else []
    set_rates(optimizers, scale)
    for optimizer in optimizers:
        state.scaler.unscale_(optimizer)
    if settings.clip and not rows_only:
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), settings.clip)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    if optimizers:
        state.scaler.update()
    if not rows_only:
        state.ema.update()


def _update_rows(
    state: TrainState, ids: Tensor, puzzles: Tensor, settings: TrainSettings, scale: float,
    accelerator: Accelerator,
) -> None:  # fmt: skip
    """Take a step of sign-SGD on the rows of the samples of all processes; `puzzles` has their gradient."""
    ids, gradients = accelerator.gather(ids), accelerator.gather(puzzles.grad)
    if state.owns_rows:
        # No unscale: sign-SGD ignores the loss scale.
        sign_sgd_rows(
            state.rows, ids, gradients, lr=settings.puzzle_lr * scale,
            weight_decay=settings.puzzle_weight_decay, seed=settings.seed * 1_000_003 + state.step,
        )  # fmt: skip
    if settings.puzzle_memory == "host":
        state.changed[ids.cpu()] = True
        # Before it no other process may look rows up.
        accelerator.wait_for_everyone()


def _halted(steps: Tensor, halt_logit: Tensor, state: TrainState, settings: TrainSettings) -> Tensor:
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
    may_halt = steps >= torch.where(explores, at_least, 0)[state.own_rows].to(steps.device, non_blocking=True)
    return at_limit | ((halt_logit > 0) & may_halt)


def _metrics(loss: StepLoss, halt_logit: Tensor, state: TrainState) -> Tensor:
    finished = state.carry.halted & loss.labelled
    calls = finished & (halt_logit >= 0)
    sums = [
        torch.tensor(len(finished)),
        loss.answer,
        loss.halt,
        finished.sum(),
        (finished & loss.correct).sum(),
        torch.where(finished, loss.cell_accuracy, 0).sum(),
        calls.sum(),
        (calls & loss.correct).sum(),
        torch.where(finished, state.carry.steps, 0).sum(),
    ]
    return torch.stack([value.to(loss.answer.device, torch.float64, non_blocking=True) for value in sums])
