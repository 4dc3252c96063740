"""`arcpipe train --dry-run`: estimates of a training's size, memory and time."""

import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.amp import GradScaler
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from arcpipe.devices import compute_dtype, measure_peak, speed_text
from arcpipe.log import fact_line
from arcpipe.model_config import BUCKET_UNITS
from arcpipe.processes import memory_bytes
from arcpipe.recipe import recipe_names
from arcpipe.train.distributed import explain_failures, make_accelerator, reduce_max
from arcpipe.train.optim import make_optimizers
from arcpipe.train.run import TrainRun
from arcpipe.train.state import EMA, TrainState, fresh_state, make_ready
from arcpipe.train.step import cycles_at, rate_scale, train_step
from arcpipe.trm import TRM

# Steps to time after a warm-up step, and the seconds after which no other one begins.
_TIMED_STEPS = 3
_TIMED_S = 2.0
_GIB = 2**30
# GiB of GPU memory, without the one that the CUDA context takes.
_GPUS = {"T4": 14.0, "L4": 21.5, "H200": 138.0}
# By how much a suggestion to save memory divides the batch.
_PARTS = 4


def dry_run(run: TrainRun, recipe: str, say: Callable[[str], None]) -> float:
    """Report a training's sizes, memory, arithmetic, speed and time; return samples per second.

    It writes nothing and times steps of a small batch.

    Args:    recipe: its name or file. say: prints a line of the report.
    Raises:  ArcpipeError if the recipe contradicts itself or the launcher.
    """

    def line(name: str, text: str) -> None:
        say(fact_line(name, text, 13))

    accelerator = make_accelerator(run.settings)
    with explain_failures(run.settings):
        # Steps are timed with a smaller batch, of about a second, that divides among processes and canvases.
        num_processes: int = accelerator.num_processes
        size, unit = run.settings.batch_size, num_processes * run.settings.accumulation
        if num_processes > 1 and run.layout.buckets:
            unit *= BUCKET_UNITS
        # The slowest device decides, because all processes take equal shares of one batch.
        peak = -reduce_max([-measure_peak(accelerator.device, torch.float32)], accelerator)[0]
        rows = int(num_processes * peak / run.sample_flops())
        small_size = min(size, max(unit, rows // unit * unit))
        small = replace(run, settings=replace(run.settings, batch_size=small_size))
        state = fresh_state(small, accelerator)
        for name, text in (*_sizes(run, state), *_memory(run, state, recipe, accelerator)):
            line(name, text)
        notes = make_ready(state, run.settings, accelerator.device)
        seconds = _time_step(small, state, accelerator)
    # As at the end of a training: a process that exits with its process group may abort.
    del state
    accelerator.free_memory()
    accelerator.end_training()
    flops = size * run.sample_flops()
    if small_size < size:
        notes.insert(0, f"from a batch of {small_size} by its arithmetic")
    seconds *= flops / (small_size * small.sample_flops())
    line(
        "speed",
        f"{seconds:.3g} s a step, {size / seconds:,.1f} samples/s, {speed_text(flops / seconds)}"
        + (f" ({'; '.join(notes)})" if notes else ""),
    )
    fewer = ", those with fewer cycles by their arithmetic" if run.settings.curriculum else ""
    text = f"{seconds * _full_steps(run) / 3600:,.1f} hours for all steps, without evaluations{fewer}"
    if run.clock.minutes is not None and 60 * run.clock.minutes < seconds * run.last_step:
        text += f"; {60 * run.clock.minutes / seconds:,.0f} steps with all cycles in --max-minutes"
    line("time", text)
    return size / seconds


def _sizes(run: TrainRun, state: TrainState) -> Iterator[tuple[str, str]]:
    """Yield name and text of the figures that follow from the recipe and the dataset alone."""
    settings, config, puzzles = run.settings, run.config, run.puzzles
    batch_size, num_examples = settings.batch_size, len(puzzles.example_tasks)
    weights = sum(weight.numel() for weight in state.model.parameters())
    colors = f" and {state.colors.numel() // config.hidden_size:,} color vectors" if state.tables else ""
    samples, flops = run.last_step * batch_size, run.sample_flops()
    yield "weights", f"{weights:,}, and {puzzles.num_puzzles:,} puzzle rows{colors} of {config.puzzle_size}"
    yield "tokens", f"{puzzles.num_tokens} and a prefix of {config.prefix}"
    if run.layout.buckets:
        yield "canvases", run.layout.text
    times = f"{samples / num_examples:,.0f} times each of {num_examples:,} examples"
    yield "steps", f"{run.last_step:,} of batch {batch_size}: {samples:,} samples, {times}"
    step_flops, total_flops = flops * batch_size, flops * _full_steps(run) * batch_size
    yield "arithmetic", f"{flops:.3g} FLOP a sample, {step_flops:.3g} a step, {total_flops:.3g} in all"


def _full_steps(run: TrainRun) -> float:
    """Return the arithmetic of the run as a number of steps with all cycles; a curriculum may use fewer."""
    if not run.settings.curriculum:
        return run.last_step
    counts = Counter(
        cycles_at(run.settings, run.config, step / run.settings.steps) for step in range(run.last_step)
    )
    return sum(count * run.sample_flops(cycles) for cycles, count in counts.items()) / run.sample_flops()


def _time_step(run: TrainRun, state: TrainState, accelerator: Accelerator) -> float:
    """Return the shortest time of a few steps, in seconds, after a warm-up step that may compile."""
    stream = run.stream(accelerator.process_index, accelerator.num_processes)
    start, seconds = time.monotonic(), []
    for step in range(1 + _TIMED_STEPS):
        step_start = time.monotonic()
        batch = stream[step].to(accelerator.device)
        train_step(state, batch, run.settings, rate_scale(run.settings, step, 0.0), accelerator)
        if accelerator.device.type == "cuda":
            torch.cuda.synchronize(accelerator.device)
        seconds.append(time.monotonic() - step_start)
        # All processes stop at the same step, because steps are collective.
        if step and reduce_max([time.monotonic() - start], accelerator)[0] > _TIMED_S:
            break
    return min(seconds[1:])


def _memory(
    run: TrainRun, state: TrainState, recipe: str, accelerator: Accelerator
) -> Iterator[tuple[str, str]]:
    """Yield name and text of three lines: the memory of a process; on a CPU, the GPUs that have as much; if
    some device has not, the settings that need less.
    """
    device, count = accelerator.device, int(accelerator.num_processes)
    dtype, _ = compute_dtype(run.settings.precision, device)
    lasting, peak = peak_bytes(run, state, dtype, count)
    on_gpu = device.type == "cuda"
    here = torch.cuda.get_device_properties(device).total_memory if on_gpu else memory_bytes()
    text = f"{lasting / _GIB:.2f} GiB of weights, optimizer, rows and state; {peak / _GIB:.2f} GiB at most"
    each = f" for each of {count} processes" if count > 1 else ""
    yield "memory", f"{text}{each}, of {here / _GIB:.1f} here{': too much' if peak > here else ''}"
    limits = {"this GPU": here / _GIB}
    if not on_gpu:
        limits = _GPUS
        if run.settings.precision == "auto" and dtype == torch.float32:
            dtype = torch.bfloat16
            _, peak = peak_bytes(run, state, dtype, count)
        words = []
        if fits := [name for name, limit in limits.items() if peak <= limit * _GIB]:
            words.append(f"fits {', '.join(fits)}")
        if others := [name for name in limits if name not in fits]:
            words.append(f"too much for {', '.join(others)}")
        yield "GPUs", f"{peak / _GIB:.2f} GiB at most: {', '.join(words)}"
    if peak > _GIB * min(limits.values()):
        ways = []
        for name, smaller, processes in _smaller(run, count):
            _, peak = peak_bytes(smaller, state, dtype, processes)
            gpus = ", ".join(gpu for gpu, limit in limits.items() if peak <= limit * _GIB)
            ways.append(f"{peak / _GIB:.2f} GiB {name} (fits {gpus or 'none'})")
        if (small := f"{recipe}-small-gpu") in recipe_names():
            ways.append(f"the recipe {small} has a smaller batch")
        yield "less", "; ".join(ways) or "a smaller network or train.batch_size"


def _smaller(run: TrainRun, num_processes: int) -> Iterator[tuple[str, TrainRun, int]]:
    """Yield ways to train the same with less memory: their name, the run, its number of processes."""
    settings = run.settings
    parts, many = settings.accumulation * _PARTS, num_processes * _PARTS
    ways: dict[str, dict[str, Any]] = {}
    if divides := settings.batch_size % (num_processes * parts) == 0:
        ways[f"with train.accumulation={parts}"] = {"accumulation": parts}
    if not settings.recompute:
        ways["with train.recompute=true"] = {"recompute": True}
    if len(ways) == 2:
        ways["with both"] = {"accumulation": parts, "recompute": True}
    for name, changes in ways.items():
        yield name, replace(run, settings=replace(settings, **changes)), num_processes
    if divides and not any(rows % many for rows in run.layout.rows):
        yield f"in each of {many} processes", run, many


def peak_bytes(
    run: TrainRun, state: TrainState, dtype: torch.dtype, num_processes: int = 1
) -> tuple[int, int]:
    """Return the bytes that a process keeps between steps, and the peak within a step.

    A step is run on fake tensors, which have no memory, with one outer cycle: the cycles before the last one
    keep no activations. Its operations are those of a CPU, but for attention, which is in `dtype` as on a
    GPU; the fused ones of a GPU keep less.

    Args:  state: of the run; its carry may have any size.
    """
    batch = run.stream(num_ranks=num_processes)[0]
    own = replace(run, settings=replace(run.settings, batch_size=len(batch.inputs)))
    # In place of an Accelerator of one process, which does not handle fake tensors.
    alone: Any = SimpleNamespace(
        num_processes=1, reduce=lambda value, _: value, gather=lambda value: value,
        no_sync=lambda _: nullcontext(), wait_for_everyone=lambda: None,
    )  # fmt: skip
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    # Made on the meta device, because initial weights are drawn until none is too large.
    with torch.device("meta"):
        model = TRM(run.config, state.model.num_tokens, state.model.vocabulary)
    with fake:
        model.to_empty(device="cpu")
    model.cycles, model.recompute = (1, run.config.inner_cycles), run.settings.recompute
    with fake, _Tally() as tally:
        rows, colors = torch.zeros(state.rows.shape), torch.zeros(state.colors.shape)
        tables = [rows.requires_grad_(), colors.requires_grad_()] if state.tables else []
        tally.hold([*model.parameters(), *model.buffers()])
        shadow = replace(
            state, model=model, wrapped=model, optimizers=make_optimizers(model, own.settings, tables),
            ema=EMA(model, run.settings.ema), rows=rows, colors=colors,
            carry=model.empty_carry(len(batch.inputs), dtype), layout=own.layout,
            own_rows=own.layout.own_rows(0, 1), tasks=torch.zeros(state.tasks.shape, dtype=torch.int64),
            scaler=GradScaler("cpu", enabled=dtype == torch.float16),
            changed=torch.zeros(state.changed.shape, dtype=torch.bool),
        )  # fmt: skip
        train_step(shadow, batch, own.settings, 1.0, alone)
        moments = [
            value
            for optimizer in shadow.optimizers
            for entry in optimizer.state.values()
            for value in entry.values()
        ]
        weights = [*model.parameters(), *shadow.ema.averages.values(), rows, colors]
        carry = [*shadow.carry.state, shadow.carry.inputs, shadow.carry.labels]
        # The first step has no moments yet at its peak; DDP adds a copy of the gradients.
        extra = sum(value.nbytes for value in moments)
        if num_processes > 1:
            extra += sum(weight.nbytes for weight in model.parameters())
        return sum(value.nbytes for value in (*weights, *moments, *carry)), tally.peak + extra


class _Tally(TorchDispatchMode):
    """Counts the bytes of live tensors; `peak` is the maximum."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.peak = 0, 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def hold(self, values: Any) -> None:
        """Count the storages of tensors until they are freed."""
        for value in tree_leaves(values):
            if isinstance(value, Tensor) and (storage := value.untyped_storage()) not in self._known:
                self._known.add(storage)
                weakref.finalize(storage, self._release, storage.nbytes())
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)

    def _release(self, count: int) -> None:
        self.now -= count

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.prim.device.default:
            # Asked more often than all else; a fake tensor takes long to answer.
            return torch.device("cpu")
        if func is torch.ops.aten._local_scalar_dense.default:
            # The step reads whether the loss is finite, which a fake tensor cannot tell.
            return True
        result = func(*args, **(kwargs or {}))
        self.hold(result)
        return result
