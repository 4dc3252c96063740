"""How long a training step takes in its forms, against a plain one of the same model, in one run.

All forms see the same batches, with the same optimizer. On a CPU they take turns: what disturbs the machine
disturbs them alike. On a GPU, whose memory two seldom share, they run one after the other, the plain one
first and again last. A form is compared with the plain one by the loss and the gradients of the first step.
"""

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from arcpipe.errors import ArcpipeError
from arcpipe.flops import measure_peak, train_step_flops
from arcpipe.puzzleset import PuzzleSet
from arcpipe.train.bench_forms import (
    KINDS,
    PLAIN,
    SHAPES,
    TOGETHER,
    WITH_BUCKETS,
    Form,
    Shape,
    made_up,
    make_form,
    names_for,
)
from arcpipe.train.config import TrainSettings
from arcpipe.train.guards import is_out_of_memory
from arcpipe.train.setup import make_accelerator

OUT_OF_MEMORY, NO_TIME, NO_COMPILER = "out of memory", "no time left", "no compiler"
_REFERENCE_BATCH = 768


@dataclass(frozen=True)
class TrainBenchSettings:
    """Which shape, how many samples a step, how many timed steps of each form, threads on a CPU, and the
    minutes after which no form begins; 0 for no limit."""

    shape: str
    batch_size: int
    steps: int
    cpu_threads: int
    max_minutes: float = 0.0


@dataclass
class _Measured:
    """What is known of a form: the batch; why it could not be measured, if so; the operations of a step; the
    time of its first step and of the others; loss and gradients of the first; dtype and torch's setting for
    float32 products; whether it is compiled; the most memory of the GPU."""

    batch_size: int
    failure: str = ""
    flops: float = 0.0
    first_seconds: float = 0.0
    seconds: list[float] = field(default_factory=list)
    loss: float = 0.0
    gradients: list[Tensor] = field(default_factory=list)
    computes_in: tuple[torch.dtype, str] = (torch.float32, "highest")
    compiled: bool = False
    peak_bytes: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def rate(self) -> float:
        """Samples a second."""
        return self.batch_size / self.median


@dataclass(frozen=True)
class _Bench:
    """What the forms have in common."""

    shape: Shape
    puzzles: PuzzleSet
    base: TrainSettings
    accelerator: Accelerator
    num_steps: int
    ends_at: float

    @property
    def device(self) -> torch.device:
        device: torch.device = self.accelerator.device
        return device

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def may_begin(self, name: str, one: _Measured) -> bool:
        """Whether there is time left; the plain form is measured in any case."""
        return time.monotonic() < self.ends_at or (name == PLAIN and not one.seconds)

    def flops(self, batch_size: int) -> float:
        """Operations of a step."""
        return train_step_flops(self.shape.config, self.puzzles.num_tokens) * batch_size


def bench_train(settings: TrainBenchSettings, names: Sequence[str] = ()) -> tuple[list[dict[str, Any]], str]:
    """Rows of figures, one for each form, and a note on the device and how they were measured.

    Where memory is too small for the plain form, the batch is halved until it is not, for all forms; what
    all switches together can do with more of a batch is a row of its own.

    Args:    names: the forms, of KINDS, the plain one first; none for all that the shape has.
    Raises:  ArcpipeError for a shape that is none of SHAPES, or where one sample does not fit.
    """
    if settings.shape not in SHAPES:
        raise ArcpipeError(f"--shape {settings.shape}: expected one of {', '.join(SHAPES)}")
    shape = SHAPES[settings.shape]
    base = TrainSettings(
        batch_size=settings.batch_size, optimizer="adamw", cpu_threads=settings.cpu_threads,
        precision="float32", compile="off", warmup_steps=0,
    )  # fmt: skip
    ends_at = time.monotonic() + 60 * settings.max_minutes if settings.max_minutes else math.inf
    bench = _Bench(shape, made_up(shape), base, make_accelerator(base), settings.steps, ends_at)
    names = names or names_for(shape)
    found = _where_it_fits(bench, names, 1)
    measured, plain = list(found.items()), found[PLAIN]
    for name in (TOGETHER, WITH_BUCKETS):
        if name in names and plain.batch_size < settings.batch_size:
            measured += _where_it_fits(bench, [name], plain.batch_size + 1).items()
    peaks = _peaks(bench, [one for _, one in measured])
    return [_row(bench, name, one, plain, peaks) for name, one in measured], _note(bench, plain, peaks)


def _where_it_fits(bench: _Bench, names: Sequence[str], least: int) -> dict[str, _Measured]:
    """What is measured of the forms at the largest batch, halved to no less than `least`, that fits the
    first of them; nothing, if none does.

    Raises:  ArcpipeError if one sample does not fit.
    """
    batch_size = bench.base.batch_size
    while batch_size >= least:
        found = _measure(replace(bench, base=replace(bench.base, batch_size=batch_size)), names)
        if found[names[0]].failure != OUT_OF_MEMORY:
            return found
        batch_size //= 2
    if not batch_size:
        raise ArcpipeError(f"out of memory for a single sample on {bench.device}: choose a smaller --shape")
    return {}


def _measure(bench: _Bench, names: Sequence[str]) -> dict[str, _Measured]:
    """What is measured of each form; no more than the first one if that has too little memory."""
    found = {name: _Measured(bench.base.batch_size) for name in names}
    groups = [list(names)]
    if bench.on_gpu:
        # All switches together before each alone: there may not be time for all.
        others = sorted(names[1:], key=lambda name: name not in (TOGETHER, WITH_BUCKETS))
        groups = [[name] for name in (names[0], *others)] + [[PLAIN]] * (len(names) > 1)
    for group in groups:
        _take_turns(bench, group, found)
        if found[names[0]].failure:
            break
    return found


def _take_turns(bench: _Bench, names: list[str], found: dict[str, _Measured]) -> None:
    """Measure forms that are in memory at the same time."""
    forms: dict[str, Form] = {}
    if bench.on_gpu:
        torch.cuda.reset_peak_memory_stats(bench.device)
    for name in names:
        with _noting_too_little_memory(found[name]):
            form = make_form(name, bench.shape, bench.puzzles, bench.base, bench.accelerator)
            if form.compiled or KINDS[name].settings.get("compile") != "on":
                forms[name] = form
            else:
                found[name].failure = NO_COMPILER
            del form
    for step in range(1 + bench.num_steps):
        for name in list(forms):
            one = found[name]
            if bench.may_begin(name, one):
                with _noting_too_little_memory(one):
                    _time_step(forms[name], one, step, bench.device)
            elif not one.seconds:
                one.failure = NO_TIME
            if one.failure:
                del forms[name]
    if bench.on_gpu:
        for name in forms:
            found[name].peak_bytes = torch.cuda.max_memory_allocated(bench.device)
    forms.clear()
    # The accelerator holds the models that it was given.
    bench.accelerator.free_memory()
    torch.set_float32_matmul_precision("highest")


@contextmanager
def _noting_too_little_memory(one: _Measured) -> Iterator[None]:
    """Ends the block where memory is too small for it, and says so in `one`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        one.failure = OUT_OF_MEMORY


def _time_step(form: Form, one: _Measured, step: int, device: torch.device) -> None:
    """Take a step, data included; the first one warms up, and tells the loss and the gradients."""
    torch.set_float32_matmul_precision(form.products)
    _wait(device)
    began = time.perf_counter()
    loss = form.take(form.batch(step).to(device))
    _wait(device)
    took = time.perf_counter() - began
    if step:
        one.seconds.append(took)
    elif not one.seconds:
        one.flops, one.first_seconds, one.loss = form.flops, took, loss
        one.computes_in, one.compiled = (form.dtype, form.products), form.compiled
        weights = [weight for group in form.optimizer.param_groups for weight in group["params"]]
        # Adam's first moment is then the gradient but for a factor; the GPU's memory is for the next form.
        one.gradients = [form.optimizer.state[weight]["exp_avg"].to("cpu", copy=True) for weight in weights]


def _peaks(bench: _Bench, measured: list[_Measured]) -> dict[tuple[torch.dtype, str], float]:
    """Operations a second of matrix products, of each kind that the forms compute."""
    peaks = {}
    for dtype, products in dict.fromkeys(one.computes_in for one in measured):
        torch.set_float32_matmul_precision(products)
        peaks[dtype, products] = measure_peak(bench.device, dtype)
    torch.set_float32_matmul_precision("highest")
    return peaks


def _row(
    bench: _Bench, name: str, one: _Measured, plain: _Measured, peaks: dict[tuple[torch.dtype, str], float]
) -> dict[str, Any]:
    """The figures of a form; None where there are none."""
    row: dict[str, Any] = {"form": name, "batch": one.batch_size}
    names = ("samples/s", "ratio", "TFLOP/s", "of peak", "memory GB", "compile s", "loss", "gradient")
    figures = dict.fromkeys(names)
    if not one.failure:
        speed = one.flops / one.median
        figures |= {
            "samples/s": one.rate,
            "ratio": one.rate / plain.rate,
            "TFLOP/s": speed / 1e12,
            "of peak": speed / peaks[one.computes_in],
            "memory GB": one.peak_bytes / 1e9,
            "compile s": one.first_seconds - one.median if one.compiled else None,
        }
    if not one.failure and one.batch_size == plain.batch_size and not KINDS[name].buckets:
        figures |= {"loss": abs(one.loss - plain.loss), "gradient": _gradient_difference(one, plain)}
    if not bench.on_gpu:
        del figures["memory GB"]
    return row | {"seconds": one.failure or one.median} | figures


def _gradient_difference(one: _Measured, plain: _Measured) -> float:
    """The largest difference of a gradient, as a share of the largest gradient of the plain form."""
    pairs = zip(one.gradients, plain.gradients, strict=True)
    largest = max(float(gradient.abs().max()) for gradient in plain.gradients)
    return max(float((mine - other).abs().max()) for mine, other in pairs) / largest


def _note(bench: _Bench, plain: _Measured, peaks: dict[tuple[torch.dtype, str], float]) -> str:
    """What the table is of, in a few sentences."""
    asked, size = bench.base.batch_size, plain.batch_size
    shape = next(name for name, shape in SHAPES.items() if shape is bench.shape)
    parts = [
        f"{shape} on {bench.device}, {torch.get_num_threads()} thread(s)",
        f"{bench.flops(size) / 1e12:.3g} TFLOP a step of {size}, "
        f"{bench.flops(_REFERENCE_BATCH) / 1e12:.3g} of {_REFERENCE_BATCH}",
        "measured peaks of a matrix product: " + ", ".join(
            f"{str(dtype).removeprefix('torch.')} ({products}) {peak / 1e12:.3g} TFLOP/s"
            for (dtype, products), peak in peaks.items()
        ),
        "ratio: samples/s against plain",
        "loss and gradient: largest difference from plain at the first step, of the loss and as a share of "
        "the largest gradient",
    ]  # fmt: skip
    if size < asked:
        parts.append(f"plain has too little memory for a batch of {asked}")
    if bench.shape.buckets:
        parts.append("with buckets it is another function, with fewer operations: no loss is compared")
    if bench.on_gpu:
        parts.append("one form after the other, plain first and again last")
    return "; ".join(parts)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
