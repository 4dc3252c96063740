#!/usr/bin/env python3
"""Time a training step: a plain one, and the trainer's, with each setting alone and all fast ones together.

    benchmarks/train_step.py --recipe arc-agi-1

The plain step is what one would write first: float32, weight by weight, row by row. Every ratio compares
samples a second with it. On a GPU the batch is 768, halved until the plain step fits. If it was halved, the
fast settings together are also measured at the largest batch that fits them. The first step is not timed with
the others; it shows whether the losses agree.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim import AdamW

from arcpipe.batches import PuzzleBatch, TrainingStream
from arcpipe.devices import is_out_of_memory, measure_peak, train_step_flops
from arcpipe.errors import ArcpipeError
from arcpipe.losses import step_loss
from arcpipe.model_config import TRMConfig
from arcpipe.puzzleset import PuzzleSet, read_puzzle_set
from arcpipe.recipe import load_recipe
from arcpipe.train.config import TrainSettings
from arcpipe.train.distributed import make_accelerator
from arcpipe.train.run import TrainRun
from arcpipe.train.state import TrainState, fresh_state, make_ready
from arcpipe.train.step import METRICS, train_step
from common import ROWS, Report, build_puzzles, options, run, small_precision

OFF: dict[str, Any] = {
    "precision": "float32", "compile": "off", "recompute": False, "accumulation": 1, "workers": 0,
    "loss_precision": "float64", "optimizer": "adamw", "warmup_steps": 0,
}  # fmt: skip
ALONE: list[tuple[str, Any]] = [
    ("workers", 1), ("accumulation", 2), ("recompute", True), ("optimizer", "adam_atan2"),
    ("optimizer", "muon"),
]  # fmt: skip
PLAIN, TOGETHER, WITH_BUCKETS = "plain", "together", "together, buckets"
SIDES = (4, 10, 15, 20, 25)
TURNS = 3


@dataclass(frozen=True)
class Form:
    """A form of the step, ready to be timed.

    step: takes a step, data included.
    amounts: what a step does, in samples and operations.
    figures: its figures that need no timing.
    products: torch's setting of float32 products, which holds for the whole process.
    """

    step: Callable[[], Tensor]
    amounts: dict[str, float]
    figures: dict[str, Any]
    products: str


def make_form(
    puzzles: PuzzleSet, config: TRMConfig, settings: TrainSettings, accelerator: Accelerator, *, plain: bool
) -> Form:
    """Make a form of the step and take its first step."""
    device, batch_size = accelerator.device, settings.batch_size
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    torch.set_float32_matmul_precision("highest")
    training = TrainRun(
        puzzles=puzzles, data_dir=Path(), config=config, settings=settings, recipe={}, out=Path()
    )
    state = fresh_state(training, accelerator)
    notes = [] if plain else make_ready(state, settings, device)
    take = plain_step(state, settings) if plain else trainer_step(state, settings, accelerator)
    stream = TrainingStream(
        puzzles, batch_size=batch_size, seed=0, placement=settings.placement, layout=training.layout
    )
    batches = stream.batches(0, 2**31, int(settings.workers), pin=on_gpu)

    def step() -> Tensor:
        return take(next(batches).to(device))

    began = time.perf_counter()
    loss = float(step())
    figures: dict[str, Any] = {
        "batch": batch_size,
        "first s": time.perf_counter() - began,
        "first loss": loss,
    }
    figures |= {"memory GB": torch.cuda.max_memory_allocated(device) / 1e9} if on_gpu else {}
    if settings.compile == "on" and notes[-1].startswith("not compiled"):
        figures["note"] = notes[-1]
    products = torch.get_float32_matmul_precision()
    flops = batch_size * training.layout.mean(lambda tokens: train_step_flops(config, tokens))
    peak_flops = peak(device, state.carry.answer.dtype, products)
    amounts = {"samples/s": batch_size, "TFLOP/s": flops / 1e12, "of peak": flops / peak_flops}
    return Form(step, amounts, figures, products)


@cache
def peak(device: torch.device, dtype: torch.dtype, products: str) -> float:
    """Return `measure_peak`, once for each of torch's settings of float32 products."""
    return measure_peak(device, dtype)


def trainer_step(
    state: TrainState, settings: TrainSettings, accelerator: Accelerator
) -> Callable[[PuzzleBatch], Tensor]:
    """Return the trainer's step, a function that returns the mean loss of the answers."""
    answer = METRICS.index("loss_answer")
    return lambda batch: train_step(state, batch, settings, 1.0, accelerator)[answer] / settings.batch_size


def plain_step(state: TrainState, settings: TrainSettings) -> Callable[[PuzzleBatch], Tensor]:
    """Return the step as one would first write it, with the model's own forward pass and loss."""
    model, table = state.model, state.rows
    optimizer = AdamW(
        model.parameters(), lr=settings.lr, betas=(settings.beta1, settings.beta2),
        weight_decay=settings.weight_decay, foreach=False,
    )  # fmt: skip
    averages = [weight.detach().clone() for weight in model.parameters()]

    def take(batch: PuzzleBatch) -> Tensor:
        carry = model.admit(state.carry, batch.inputs, batch.labels, batch.puzzle_ids)
        rows = table[carry.puzzle_ids].requires_grad_()
        answer, latent, logits, halt_logit = model(carry.inputs, rows, carry.answer, carry.latent)
        loss = step_loss(logits, halt_logit, carry.labels)
        optimizer.zero_grad()
        (loss.total / settings.batch_size).backward()
        optimizer.step()
        with torch.no_grad():
            for average, weight in zip(averages, model.parameters(), strict=True):
                average.mul_(settings.ema).add_(weight, alpha=1 - settings.ema)
            for puzzle_id in carry.puzzle_ids.unique():
                assert rows.grad is not None
                sign = rows.grad[carry.puzzle_ids == puzzle_id].sum(dim=0).sign()
                table[puzzle_id] *= 1 - settings.puzzle_lr * settings.puzzle_weight_decay
                table[puzzle_id] -= settings.puzzle_lr * sign
        halted = (carry.steps + 1 >= model.config.max_steps) | (halt_logit.detach() > 0)
        state.carry = carry.advance(answer, latent, halted)
        return loss.answer.detach() / settings.batch_size

    return take


def forms(
    config: TRMConfig, off: TrainSettings, puzzles: PuzzleSet, device: torch.device, *, quick: bool
) -> dict[str, tuple[TRMConfig, TrainSettings]]:
    """Return the trainer's forms by name: with every setting off, the fast ones together, each alone."""
    fast: dict[str, Any] = {"precision": small_precision(device), "loss_precision": "float32"}
    fast |= {} if quick else {"compile": "on"}
    # On a CPU, a process that makes batches would compete with the step.
    together = replace(off, **fast, workers=1 if device.type == "cuda" else 0)
    found = {"arcpipe": (config, off), TOGETHER: (config, together)}
    sides = [side for side in SIDES if side < puzzles.canvas]
    if puzzles.family.with_eos and sides:
        with_buckets = replace(config, buckets=sides)
        found[WITH_BUCKETS] = (with_buckets, together)
        found[f"model.buckets={sides}"] = (with_buckets, off)
    for name, value in [*fast.items(), *ALONE]:
        found[f"train.{name}={value}"] = (config, replace(off, **{name: value}))
    return found


def measure(arguments: argparse.Namespace, report: Report, scratch: Path) -> None:
    """Time the forms; if the plain step runs out of memory, the batch is halved for all of them."""
    recipe = arguments.recipe or (ROWS if arguments.quick else "sudoku-extreme")
    tables = load_recipe(recipe).resolve({"model": TRMConfig, "train": TrainSettings})
    asked = arguments.batch_size or (4 if arguments.quick else 768 if torch.cuda.is_available() else 8)
    off = replace(tables["train"], batch_size=asked, **OFF)
    accelerator = make_accelerator(off)
    # Forms take turns on a CPU, so that a disturbance hits all alike; a GPU seldom has memory for two.
    on_gpu = accelerator.device.type == "cuda"
    turns = 1 if on_gpu or arguments.quick else TURNS
    seconds = 0.05 if arguments.quick else arguments.seconds / turns
    made: dict[str, Form] = {}

    def fits(name: str, config: TRMConfig, settings: TrainSettings) -> bool:
        """Time a form if there is enough memory for it; return whether there is."""
        try:
            form = made.pop(name, None)
            form = form or make_form(puzzles, config, settings, accelerator, plain=name == PLAIN)
            torch.set_float32_matmul_precision(form.products)
            report.time(name, form.step, form.amounts, seconds, **form.figures)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return False
        finally:
            # The accelerator holds the models that it was given.
            accelerator.free_memory()
        if not on_gpu:
            made[name] = form
        return True

    puzzles = read_puzzle_set(arguments.data or build_puzzles(recipe, scratch / "data"))
    while not fits(PLAIN, tables["model"], off):
        if off.batch_size == 1:
            raise ArcpipeError(f"--recipe {recipe}: out of memory for a single sample")
        off = replace(off, batch_size=off.batch_size // 2)
    named = forms(tables["model"], off, puzzles, accelerator.device, quick=arguments.quick)
    for _ in range(turns):
        for name, form in named.items():
            if "failure" not in report.rows.get(name, {}) and not fits(name, *form):
                report.add(name, batch=off.batch_size, failure="out of memory")
        fits(PLAIN, tables["model"], off)
    for name in named.keys() & {TOGETHER, WITH_BUCKETS}:
        config, settings = named[name]
        larger = asked
        while larger > off.batch_size:
            if fits(f"{name}, larger batch", config, replace(settings, batch_size=larger)):
                break
            larger //= 2


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--recipe", help="whose model to train (sudoku-extreme; with --quick: quickstart)")
    parser.add_argument("--data", type=Path, help="a dataset folder (default: puzzles made for it)")
    parser.add_argument("--batch-size", type=int, help="samples a step (768 on a GPU, 8 on a CPU)")
    parser.add_argument("--seconds", type=float, default=10.0, help="to time each form for (%(default)s)")
    run(parser, measure)
