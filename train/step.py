"""One optimizer step: admit new samples, recurse and differentiate, update, decide which samples halt."""

import math
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor

from arcpipe.batches import IGNORE, PuzzleBatch
from arcpipe.buckets import crop, pad_back
from arcpipe.codec import PAD
from arcpipe.errors import IN_FLOAT16, NOT_FINITE, ArcpipeError
from arcpipe.flow import PSEUDOTARGETS, noise, seeds_of, times, uniform, with_given
from arcpipe.log import logger
from arcpipe.losses import StepLoss, join_losses, probabilities, step_loss
from arcpipe.model_config import TRMConfig
from arcpipe.task_embedding import puzzle_vectors
from arcpipe.train.config import TrainSettings
from arcpipe.train.optim import sign_sgd_rows
from arcpipe.train.state import TrainState
from arcpipe.trm import Carry

METRICS = (
    "samples", "loss_answer", "loss_halt", "finished", "exact", "cell", "halt_calls", "halt_hits", "steps",
)  # fmt: skip
"""The order of the sums that `train_step` returns.

halt_calls: samples that the halting head calls right. halt_hits: those of them that are right.
"""

MIN_LOSS_SCALE = 1.0
"""If float16 gradients overflow even at this loss scale, the training diverges."""


class NotFiniteError(ArcpipeError):
    """The loss or its gradient is not finite.

    puzzle_ids: the puzzles of this process that may be the cause.
    """

    def __init__(self, step: int, puzzle_ids: list[int], table: str, *, in_float16: bool) -> None:
        super().__init__(
            f"step {step}: {IN_FLOAT16 if in_float16 else NOT_FINITE}; no weight was changed by this step. "
            f"Train again with a lower {table}.lr or {table}.puzzle_lr"
            + (f", or with {table}.precision=float32" if in_float16 else "")
        )
        self.puzzle_ids = puzzle_ids


def rate_scale(settings: TrainSettings, step: int, progress: float) -> float:
    """Return the factor on all learning rates: linear warm-up over steps, then a cosine over `progress`.

    Args:  step: from 0. progress: how far the run is, 0..1.
    """
    warmup = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return warmup * (settings.min_lr_ratio + (1 - settings.min_lr_ratio) * cosine)


def cycles_at(settings: TrainSettings, config: TRMConfig, progress: float) -> tuple[int, int]:
    """Return outer and inner cycles at `progress`, 0..1, of the run.

    Source:  a curriculum of recursion, arXiv 2511.08653.
    """
    cycles = (config.outer_cycles, config.inner_cycles)
    for share, outer, inner in settings.curriculum:
        if progress >= share:
            cycles = (outer, inner)
    return cycles


@dataclass(frozen=True)
class _Outputs:
    """The outputs of a supervision step, without a graph.

    state: as `Carry.state`.
    halt_logit: (B,).
    loss: the loss of the samples.
    finite: (B,) bool, all logits of the sample are finite.
    predicted: (B, L, V) the probabilities, for a flow.
    """

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

    If float16 gradients overflow on any process, the step lowers the loss scale and updates no weight,
    average or puzzle row; the carry advances as usual.

    Args:    scale: the factor on all learning rates.
             rows_only: leave the network's weights unchanged.
    Returns: the sums over this share named in METRICS, float64; those from `finished` on cover only the
             samples that halted in this step.
    Raises:  NotFiniteError, before any update, if the loss or its gradient is not finite on any process; if
             only float16 gradients overflow, not until the loss scale is at its minimum.
    Source:  the reference's `pretrain.py` `train_batch`: the loss is divided by the global batch.
    """
    # Rows of the carry that halted take new samples.
    seeds = None
    if state.model.config.flow:
        counters = (np.array([state.step], np.uint64), state.own_rows.astype(np.uint64))
        seeds = seeds_of(settings.seed, *counters).to(state.carry.steps.device)
    carry = state.model.admit(state.carry, batch.inputs, batch.labels, batch.puzzle_ids, batch.colors, seeds)

    # The vectors enter the network as a leaf, which accumulates their gradient over the parts of the batch.
    vectors = _look_up_puzzles(state, carry, settings)
    puzzles = vectors.detach().requires_grad_()
    state.model.requires_grad_(not rows_only)
    out = _forward_backward(state, carry, puzzles, settings, accelerator, rows_only)

    # One non-finite term makes its sum non-finite, over norms and over processes: all take the same branch.
    leaves = (*state.model.parameters(), puzzles)
    norms = torch._foreach_norm([leaf.grad for leaf in leaves if leaf.grad is not None])
    own_sums = torch.stack([out.loss.total, out.loss.total + torch.stack(norms).sum()])
    loss_is_finite, all_is_finite = accelerator.reduce(own_sums, "sum").isfinite().tolist()
    if all_is_finite:
        _update(state, carry.puzzle_ids, vectors, puzzles, settings, scale, accelerator, rows_only)
    elif loss_is_finite and state.scaler.is_enabled() and state.scaler.get_scale() / 2 >= MIN_LOSS_SCALE:
        # scaler.update() would see the gradients of the weights only, not those of the rows.
        halved = {"scale": state.scaler.get_scale() / 2, "_growth_tracker": 0}
        state.scaler.load_state_dict(state.scaler.state_dict() | halved)
        logger.info("step %d: float16 gradients overflow, nothing learned; loss scale halved", state.step + 1)
    else:
        suspects = carry.puzzle_ids if out.finite.all() else carry.puzzle_ids[~out.finite]
        raise NotFiniteError(
            state.step + 1, suspects.tolist(), settings.table, in_float16=state.scaler.is_enabled()
        )
    state.model.zero_grad(set_to_none=True)

    halted = _halted(carry.steps + 1, out.halt_logit, state, settings)
    answer, latent, *log_sums = out.state
    state.carry = replace(carry.advance(answer, latent, halted, *log_sums), predicted=out.predicted)
    state.step += 1
    return _metric_sums(out.loss, out.halt_logit, state)


def _seed_of(state: TrainState, settings: TrainSettings) -> int:
    """Return the seed of what a step draws for the global batch, of which each process takes its share."""
    return settings.seed * 1_000_003 + state.step


def _look_up_puzzles(state: TrainState, carry: Carry, settings: TrainSettings) -> Tensor:
    """Return the puzzle vector of each sample: its row and, with embedding task, its noisy color vectors."""
    ids = carry.puzzle_ids
    rows = state.rows[ids.to(state.rows.device)].to(ids.device, torch.float32)
    if not state.tables:
        return rows
    colors = state.colors[state.tasks[ids]]
    if settings.color_noise:
        generator = torch.Generator(rows.device).manual_seed(_seed_of(state, settings))
        shape = (settings.batch_size, *colors.shape[2:])
        noises = torch.randn(shape, generator=generator, device=rows.device)
        noises = settings.color_noise * noises[torch.from_numpy(state.own_rows).to(rows.device)]
        # Only the vectors added to input cells are noisy, not those that read answers.
        colors = colors + torch.stack((noises, torch.zeros_like(noises)), dim=1)
    return puzzle_vectors(rows, colors, carry.colors)


def noisy_answers(state: TrainState, carry: Carry, settings: TrainSettings) -> tuple[Tensor, Tensor] | None:
    """Return the noisy answer (B, L, V) of each sample and its time (B,); None without a flow.

    The noise leads to the true answer or, from the second step on and with a probability that rises to 1, to
    what the model predicted last.
    """
    if carry.seeds is None or carry.predicted is None:
        return None
    num_tokens, vocabulary = carry.labels.shape[1], state.model.vocabulary
    labels = torch.where(carry.labels == IGNORE, PAD, carry.labels)
    ends = F.one_hot(labels, vocabulary).to(carry.predicted.dtype)
    if settings.flow_pseudotargets:
        share = (state.step + 1) / settings.flow_pseudotargets
        draws = uniform(carry.seeds, PSEUDOTARGETS, state.model.config.max_steps)
        use_own = (draws.gather(1, carry.steps[:, None])[:, 0] < share) & (carry.steps > 0)
        ends = torch.where(use_own[:, None, None], carry.predicted, ends)
    step_times = times(carry.seeds, state.model.config.max_steps, settings.flow_times)
    now = step_times.gather(1, carry.steps[:, None])[:, 0]
    noisy = torch.lerp(noise(carry.seeds, 0, num_tokens, vocabulary), ends, now[:, None, None])
    return with_given(noisy, carry.inputs, state.blank_token), now


def _forward_backward(
    state: TrainState, carry: Carry, puzzles: Tensor, settings: TrainSettings, accelerator: Accelerator,
    rows_only: bool,
) -> _Outputs:  # fmt: skip
    """Take a supervision step of the carry and accumulate the gradient of its loss.

    The batch is computed in parts: each canvas on its own, divided by `accumulation`. The outputs are joined
    on the whole canvas.
    """
    # DDP would wait for gradients of frozen weights; those of rows are gathered without it.
    network = state.model if rows_only else state.wrapped
    canvas, prefix = state.layout.canvas, state.model.config.prefix
    slices = state.layout.parts(accelerator.num_processes, settings.accumulation)
    flow = noisy_answers(state, carry, settings)
    parts: list[_Outputs] = []
    for rows, side in slices:
        is_last = len(parts) + 1 == len(slices)
        # DDP averages the accumulated gradients once, with the last part.
        with nullcontext() if is_last else accelerator.no_sync(network):
            inputs, labels = crop(carry.inputs[rows], side, canvas), crop(carry.labels[rows], side, canvas)
            before = (crop(tensor[rows], side, canvas, prefix) for tensor in carry.state)
            noisy = {"noisy_BLV": crop(flow[0][rows], side, canvas), "times_B": flow[1][rows]} if flow else {}
            answer, latent, logits, halt_logit, *log_sums = network(inputs, puzzles[rows], *before, **noisy)
            loss = step_loss(logits, halt_logit, labels, settings.loss_precision, settings.loss)
            # DDP averages over processes; this factor makes the gradient that of the global sum.
            shared = loss.total * (accelerator.num_processes / settings.batch_size)
            # accelerator.backward() would divide by the accumulation steps of Accelerate's environment.
            state.scaler.scale(shared).backward()
        parts.append(
            _Outputs(
                tuple(pad_back(x.detach(), side, canvas, prefix) for x in (answer, latent, *log_sums)),
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
        tuple(torch.cat(tensors) for tensors in zip(*(part.state for part in parts), strict=True)),
        torch.cat([part.halt_logit for part in parts]),
        join_losses([part.loss for part in parts]),
        torch.cat([part.finite for part in parts]),
        torch.cat(predicted) if predicted else None,
    )


def _update(
    state: TrainState, puzzle_ids: Tensor, vectors: Tensor, puzzles: Tensor, settings: TrainSettings,
    scale: float, accelerator: Accelerator, rows_only: bool,
) -> None:  # fmt: skip
    """Update the weights, their averages and the puzzle embeddings from the gradients.

    Args:  vectors, puzzles: the puzzle vectors of the samples; their leaf, which has the gradient.
    """
    optimizers = state.optimizers
    if state.tables:
        vectors.backward(puzzles.grad)
        for table in state.tables.values():
            # As DDP averages the gradients of the weights.
            table.grad = accelerator.reduce(table.grad, "mean")
    if rows_only:
        # The optimizer of the tables is the last; rows without one learn below.
        optimizers = optimizers[-1:] if state.tables else []
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * scale
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

    if state.tables or not state.rows.shape[1]:
        return
    # Rows learn by sign-SGD from the samples of all processes; it ignores the loss scale.
    ids, gradients = accelerator.gather(puzzle_ids), accelerator.gather(puzzles.grad)
    if state.owns_rows:
        sign_sgd_rows(
            state.rows, ids, gradients, lr=settings.puzzle_lr * scale,
            weight_decay=settings.puzzle_weight_decay, seed=_seed_of(state, settings),
        )  # fmt: skip
    if settings.puzzle_memory == "host":
        state.changed[ids.cpu()] = True
        # Barrier: the other processes of this machine must not read rows before they are written.
        accelerator.wait_for_everyone()


def _halted(steps: Tensor, halt_logit: Tensor, state: TrainState, settings: TrainSettings) -> Tensor:
    """Return which samples (B,) end: at the last step, or if the halt logit and exploration allow it."""
    max_steps = state.model.config.max_steps
    at_limit = steps >= max_steps
    if max_steps == 1:
        return at_limit
    generator = torch.Generator().manual_seed(_seed_of(state, settings))
    explores = torch.rand(settings.batch_size, generator=generator) < settings.halt_exploration
    at_least = torch.randint(2, max_steps + 1, (settings.batch_size,), generator=generator)
    may_halt = steps >= torch.where(explores, at_least, 0)[state.own_rows].to(steps.device, non_blocking=True)
    return at_limit | ((halt_logit > 0) & may_halt)


def _metric_sums(loss: StepLoss, halt_logit: Tensor, state: TrainState) -> Tensor:
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
