"""How long a training step takes in its forms, against a plain one of the same model, in one run.

All forms see the same batches, with the same optimizer, and take turns: what disturbs the machine disturbs
them alike. A form is compared with the plain one by the loss and the gradients of the first step.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from arcpipe.batches import PuzzleBatch, TrainingStream
from arcpipe.codec import GridTable, family_of
from arcpipe.errors import ArcpipeError
from arcpipe.flops import measure_peak, train_step_flops
from arcpipe.puzzleset import PuzzleSet
from arcpipe.puzzletable import PuzzleTable
from arcpipe.train.job import TrainJob
from arcpipe.train.losses import step_loss
from arcpipe.train.settings import TrainSettings
from arcpipe.train.setup import fresh_state, make_accelerator, make_ready
from arcpipe.train.state import TrainState
from arcpipe.train.step import METRICS, train_step
from arcpipe.trm import TRM, TRMConfig

_NUM_EXAMPLES = 64
_ANSWER = METRICS.index("loss_answer")


@dataclass(frozen=True)
class Shape:
    """A model and the puzzles it trains on: family and canvas."""

    config: TRMConfig
    family: str
    canvas: int


SHAPES = {
    "sudoku-mlp": Shape(TRMConfig(mixer="mlp", positions="none", inner_cycles=6), "sudoku", 9),
    "arc-100": Shape(TRMConfig(), "arc", 10),
    "arc-900": Shape(TRMConfig(), "arc", 30),
    "small": Shape(
        TRMConfig(hidden_size=96, num_heads=4, outer_cycles=1, inner_cycles=1, puzzle_tokens=8), "arc", 5
    ),
}
"""Models of the paper at hidden size 512, by what they train on, and the quickstart's."""


@dataclass(frozen=True)
class TrainBenchSettings:
    """Which shape, how many samples a step, how many timed steps of each form, and threads on a CPU."""

    shape: str
    batch_size: int
    steps: int
    cpu_threads: int


@dataclass
class _Form:
    """A way to take a step: `take` returns the loss of the answers, a sample's mean."""

    name: str
    take: Callable[[PuzzleBatch], float]
    optimizer: torch.optim.Optimizer
    seconds: list[float] = field(default_factory=list)
    first_loss: float = 0.0
    first_gradients: list[Tensor] = field(default_factory=list)


def bench_train(settings: TrainBenchSettings) -> tuple[list[dict[str, Any]], str]:
    """Rows of figures, one for each form, and a note on the device.

    Raises:  ArcpipeError for a shape that is none of SHAPES.
    """
    if settings.shape not in SHAPES:
        raise ArcpipeError(f"--shape {settings.shape}: expected one of {', '.join(SHAPES)}")
    shape = SHAPES[settings.shape]
    puzzles = _made_up(shape)
    base = TrainSettings(
        batch_size=settings.batch_size, optimizer="adamw", cpu_threads=settings.cpu_threads,
        precision="float32", compile="off", warmup_steps=0,
    )  # fmt: skip
    accelerator = make_accelerator(base)
    forms = _forms(shape, puzzles, base, accelerator)
    stream = TrainingStream(puzzles, batch_size=settings.batch_size, seed=0, placement=True)
    for step in range(1 + settings.steps):
        for form in forms:
            _time_step(form, stream, step, accelerator.device)
    flops = train_step_flops(shape.config, puzzles.num_tokens) * settings.batch_size
    peaks = {dtype: measure_peak(accelerator.device, dtype) for dtype in (torch.float32, torch.bfloat16)}
    rows = [_row(form, forms[0], settings.batch_size, flops, peaks) for form in forms]
    return rows, (
        f"{settings.shape}, batch {settings.batch_size}, {flops:.3g} FLOP a step on {accelerator.device}, "
        f"{torch.get_num_threads()} thread(s); measured peaks of a matrix product: float32 "
        f"{peaks[torch.float32]:.3g} FLOP/s, bfloat16 {peaks[torch.bfloat16]:.3g} FLOP/s; loss and gradient: "
        "largest difference from plain at the first step, of the loss and as a share of the largest gradient"
    )


def _made_up(shape: Shape) -> PuzzleSet:
    """Random boards that fill the canvas, of one task."""
    family = family_of(shape.family, shape.canvas)
    rng = np.random.default_rng(0)
    cells = rng.integers(1, family.num_values, (2, _NUM_EXAMPLES, shape.canvas, shape.canvas), dtype=np.uint8)
    sides = np.full((_NUM_EXAMPLES, 2), shape.canvas, np.int16)
    tasks = np.zeros(_NUM_EXAMPLES, np.int32)
    return PuzzleSet(
        family=family,
        canvas=shape.canvas,
        table=PuzzleTable(
            ["made up"], np.zeros(1, np.int32), np.zeros(1, np.uint8), np.arange(10, dtype=np.uint8)[None]
        ),
        inputs=GridTable(cells[0], sides),
        outputs=GridTable(cells[1], sides),
        example_tasks=tasks,
        example_groups=np.arange(_NUM_EXAMPLES, dtype=np.int32),
        test_inputs=GridTable(cells[0, :1], sides[:1]),
        test_tasks=tasks[:1],
    )


def _forms(shape: Shape, puzzles: PuzzleSet, base: TrainSettings, accelerator: Accelerator) -> list[_Form]:
    """The plain form first, then arcpipe's, each with one more change."""
    changes: dict[str, dict[str, Any]] = {
        "float32": {},
        "float32, loss too": {"loss_precision": "float32"},
        "float32, compiled": {"loss_precision": "float32", "compile": "on"},
        "bfloat16": {"loss_precision": "float32", "precision": "bfloat16"},
        "bfloat16, compiled": {"loss_precision": "float32", "precision": "bfloat16", "compile": "on"},
    }
    forms = [_plain_form(_state(shape, puzzles, base, accelerator), base)]
    for name, change in changes.items():
        settings = replace(base, **change)
        state = _state(shape, puzzles, settings, accelerator)
        make_ready(state, settings, accelerator.device)
        forms.append(_form(name, state, settings, accelerator))
    return forms


def _state(shape: Shape, puzzles: PuzzleSet, settings: TrainSettings, accelerator: Accelerator) -> TrainState:
    job = TrainJob(
        puzzles=puzzles, data_dir=Path(), config=shape.config, settings=settings, recipe={}, out=Path()
    )
    return fresh_state(job, accelerator)


def _form(name: str, state: TrainState, settings: TrainSettings, accelerator: Accelerator) -> _Form:
    def take(batch: PuzzleBatch) -> float:
        sums = train_step(state, batch, settings, 1.0, accelerator)
        return float(sums[_ANSWER]) / settings.batch_size

    return _Form(name, take, state.optimizers[0])


def _plain_form(state: TrainState, settings: TrainSettings) -> _Form:
    """A step as one would first write it: float32 throughout but for the loss, which is in float64, weight
    by weight, row by row."""
    model = state.model
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.lr, betas=(settings.beta1, settings.beta2),
        weight_decay=settings.weight_decay, foreach=False,
    )  # fmt: skip
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

    return _Form("plain float32", take, optimizer)


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


def _time_step(form: _Form, stream: TrainingStream, step: int, device: torch.device) -> None:
    """Take a step, data included; the first one warms up, and tells the loss and the gradients."""
    _wait(device)
    began = time.perf_counter()
    loss = form.take(stream[step].to(device))
    _wait(device)
    if step:
        form.seconds.append(time.perf_counter() - began)
        return
    form.first_loss = loss
    weights = [weight for group in form.optimizer.param_groups for weight in group["params"]]
    # After one step Adam's first moment is the gradient but for a constant factor.
    form.first_gradients = [form.optimizer.state[weight]["exp_avg"].clone() for weight in weights]


def _row(
    form: _Form, plain: _Form, batch_size: int, flops: float, peaks: dict[torch.dtype, float]
) -> dict[str, Any]:
    seconds = statistics.median(form.seconds)
    peak = peaks[torch.bfloat16 if form.name.startswith("bfloat16") else torch.float32]
    largest = max(float(gradient.abs().max()) for gradient in plain.first_gradients)
    differences = [
        float((one - other).abs().max())
        for one, other in zip(form.first_gradients, plain.first_gradients, strict=True)
    ]
    return {
        "step": form.name,
        "seconds": seconds,
        "samples/s": batch_size / seconds,
        "ratio": statistics.median(plain.seconds) / seconds,
        "FLOP/s": f"{flops / seconds:.3g}",
        "peak": f"{flops / seconds / peak:.0%}",
        "loss": f"{abs(form.first_loss - plain.first_loss):.1e}",
        "gradient": f"{max(differences) / largest:.1e}",
    }


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
