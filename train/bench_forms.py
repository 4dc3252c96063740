"""The forms of a training step that `arcpipe bench train` compares: a plain one, and arcpipe's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim import AdamW, Optimizer

from arcpipe.batches import PuzzleBatch, TrainingStream
from arcpipe.codec import GridTable, family_of
from arcpipe.flops import train_step_flops
from arcpipe.puzzleset import PuzzleSet
from arcpipe.puzzletable import PuzzleTable
from arcpipe.train.config import TrainSettings
from arcpipe.train.job import TrainJob
from arcpipe.train.losses import step_loss
from arcpipe.train.setup import fresh_state, make_ready
from arcpipe.train.state import TrainState
from arcpipe.train.step import METRICS, train_step
from arcpipe.trm import TRM, TRMConfig

_NUM_EXAMPLES = 64
_EXAMPLES_OF_A_TASK = 2
_MANY_STEPS = 10_000
_ANSWER = METRICS.index("loss_answer")
# The larger side of a task's largest grid, a task for every 32nd part of both sets of ARC-AGI-1.
_ARC_SIDES = (
    4, 6, 6, 8, 9, 9, 10, 10, 10, 10, 11, 12, 12, 13, 13, 14,
    15, 15, 16, 16, 17, 18, 19, 19, 21, 22, 23, 25, 26, 28, 29, 30,
)  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """A model and the puzzles it trains on: family, canvas, and smaller canvases that they may lie on."""

    config: TRMConfig
    family: str
    canvas: int
    buckets: tuple[int, ...] = ()


SHAPES = {
    "sudoku-mlp": Shape(TRMConfig(mixer="mlp", positions="none", inner_cycles=6), "sudoku", 9),
    "arc-100": Shape(TRMConfig(), "arc", 10),
    "arc-900": Shape(TRMConfig(), "arc", 30, buckets=(10, 15, 20, 25)),
    "small": Shape(
        TRMConfig(hidden_size=96, num_heads=4, outer_cycles=1, inner_cycles=1, puzzle_tokens=8), "arc", 5
    ),
}
"""Models of the paper at hidden size 512, by what they train on, and the quickstart's."""


@dataclass(frozen=True)
class Kind:
    """What a form changes: is it arcpipe's step at all, or the plain one; with arcpipe's optimizer; settings
    of [train]; with the shape's buckets, which make it another function."""

    plain: bool = False
    own_optimizer: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)
    buckets: bool = False


_ALL = {"loss_precision": "float32", "compile": "on", "precision": "bfloat16"}
PLAIN, TOGETHER, WITH_BUCKETS = "plain float32", "all together", "all together, buckets"
KINDS = {
    PLAIN: Kind(plain=True, own_optimizer=False),
    "plain, arcpipe's AdamW": Kind(plain=True),
    "arcpipe float32": Kind(),
    "+ loss in float32": Kind(settings={"loss_precision": "float32"}),
    "+ bfloat16": Kind(settings={"precision": "bfloat16"}),
    "+ canvas buckets": Kind(buckets=True),
    "+ compile": Kind(settings={"compile": "on"}),
    TOGETHER: Kind(settings=_ALL),
    WITH_BUCKETS: Kind(settings=_ALL, buckets=True),
}
"""The forms by name: the plain one, each switch alone, and all of them."""


def names_for(shape: Shape) -> list[str]:
    """The forms that a shape has."""
    return [name for name, kind in KINDS.items() if shape.buckets or not kind.buckets]


@dataclass(frozen=True)
class Form:
    """A way to take a step.

    take: the step; returns the loss of the answers, a sample's mean. batch: that of a step, asked for in
    order from 0. flops: matrix products' operations of a step. dtype: what it computes in. products: torch's
    setting for float32 matrix products, as the trainer makes it. compiled: whether it is.
    """

    take: Callable[[PuzzleBatch], float]
    batch: Callable[[int], PuzzleBatch]
    optimizer: Optimizer
    flops: float
    dtype: torch.dtype
    products: str
    compiled: bool


def make_form(
    name: str, shape: Shape, puzzles: PuzzleSet, base: TrainSettings, accelerator: Accelerator
) -> Form:
    """The form of that name, with weights of its own that all forms begin with."""
    kind = KINDS[name]
    settings = replace(base, **kind.settings)
    config = replace(shape.config, buckets=list(shape.buckets)) if kind.buckets else shape.config
    # What another form set holds for the whole process.
    torch.set_float32_matmul_precision("highest")
    job = TrainJob(puzzles=puzzles, data_dir=Path(), config=config, settings=settings, recipe={}, out=Path())
    state = fresh_state(job, accelerator)
    notes: list[str] = []
    if kind.plain:
        optimizer = state.optimizers[0] if kind.own_optimizer else _plain_optimizer(state.model, settings)
        take = _plain_step(state, settings, optimizer)
    else:
        optimizer, take = state.optimizers[0], _own_step(state, settings, accelerator)
        notes = make_ready(state, settings, accelerator.device)
    stream = TrainingStream(
        puzzles, batch_size=settings.batch_size, seed=0, placement=True, layout=job.layout
    )
    return Form(
        take=take,
        batch=stream.__getitem__ if kind.plain else _batches(stream, accelerator.device),
        optimizer=optimizer,
        flops=settings.batch_size * job.layout.mean(lambda tokens: train_step_flops(config, tokens)),
        dtype=state.carry.answer.dtype,
        products=torch.get_float32_matmul_precision(),
        compiled=any(note.startswith("compiled") for note in notes),
    )


def _batches(stream: TrainingStream, device: torch.device) -> Callable[[int], PuzzleBatch]:
    """The batches as the trainer has them: on a GPU made ahead."""
    if device.type != "cuda":
        return stream.__getitem__
    ahead = stream.batches(0, _MANY_STEPS, 1, pin=True)
    return lambda _step: next(ahead)


def _own_step(
    state: TrainState, settings: TrainSettings, accelerator: Accelerator
) -> Callable[[PuzzleBatch], float]:
    """The trainer's step."""

    def take(batch: PuzzleBatch) -> float:
        sums = train_step(state, batch, settings, 1.0, accelerator)
        return float(sums[_ANSWER]) / settings.batch_size

    return take


def _plain_optimizer(model: TRM, settings: TrainSettings) -> Optimizer:
    return AdamW(
        model.parameters(), lr=settings.lr, betas=(settings.beta1, settings.beta2),
        weight_decay=settings.weight_decay, foreach=False,
    )  # fmt: skip


def _plain_step(
    state: TrainState, settings: TrainSettings, optimizer: Optimizer
) -> Callable[[PuzzleBatch], float]:
    """A step as one would first write it: float32 throughout but for the loss, which is in float64, weight
    by weight, row by row."""
    model = state.model
    averages = [weight.detach().clone() for weight in model.parameters()]

    def take(batch: PuzzleBatch) -> float:
        carry = model.admit(state.carry, batch.inputs, batch.labels, batch.puzzle_ids)
        rows = state.rows[carry.puzzle_ids].requires_grad_()
        answer, latent, logits, halt_logit = model(carry.inputs, rows, carry.answer, carry.latent)
        loss = step_loss(logits, halt_logit, carry.labels)
        optimizer.zero_grad()
        (loss.total / settings.batch_size).backward()
        optimizer.step()
        _plain_updates(model, averages, state.rows, rows, carry.puzzle_ids, settings)
        steps = carry.steps + 1
        halted = (steps >= model.config.max_steps) | (halt_logit.detach() > 0)
        state.carry = carry.advance(answer, latent, halted)
        return float(loss.answer.detach()) / settings.batch_size

    return take


@torch.no_grad()
def _plain_updates(
    model: TRM, averages: list[Tensor], table: Tensor, rows: Tensor, ids: Tensor, settings: TrainSettings
) -> None:
    """Averages of the weights, and sign-SGD on the rows of the table, one after the other."""
    for average, weight in zip(averages, model.parameters(), strict=True):
        average.mul_(settings.ema).add_(weight, alpha=1 - settings.ema)
    assert rows.grad is not None
    for puzzle_id in ids.unique():
        sign = rows.grad[ids == puzzle_id].sum(dim=0).sign()
        table[puzzle_id] *= 1 - settings.puzzle_lr * settings.puzzle_weight_decay
        table[puzzle_id] -= settings.puzzle_lr * sign


def made_up(shape: Shape) -> PuzzleSet:
    """Random boards: of ARC as large as its tasks' are, two of each, as far as the canvas holds them; of
    others such as fill the canvas."""
    family, canvas = family_of(shape.family, shape.canvas), shape.canvas
    tasks = np.zeros(_NUM_EXAMPLES, np.int32)
    largest = np.full(_NUM_EXAMPLES, canvas)
    if family.framed:
        tasks = np.arange(_NUM_EXAMPLES, dtype=np.int32) // _EXAMPLES_OF_A_TASK
        largest = np.minimum(np.array(_ARC_SIDES)[tasks], canvas)
    rng = np.random.default_rng(0)
    boards = [
        GridTable.pack(
            [rng.integers(1, family.num_values, (side, side), dtype=np.uint8) for side in largest], canvas
        )
        for _ in range(2)
    ]
    count = int(tasks[-1]) + 1
    return PuzzleSet(
        family=family,
        canvas=canvas,
        table=PuzzleTable(
            [f"made up {task}" for task in range(count)], np.arange(count, dtype=np.int32),
            np.zeros(count, np.uint8), np.tile(np.arange(10, dtype=np.uint8), (count, 1)),
        ),
        inputs=boards[0],
        outputs=boards[1],
        example_tasks=tasks,
        example_groups=np.arange(_NUM_EXAMPLES, dtype=np.int32),
        test_inputs=boards[0],
        test_tasks=tasks,
    )  # fmt: skip
