"""`arcpipe train --dry-run`: how large a training is and how long it would take, from a few steps."""

import resource
import sys
import time
from collections import Counter

import torch

from arcpipe.train.config import TrainRun
from arcpipe.train.distributed import make_accelerator, naming_lack_of_memory
from arcpipe.train.state import TrainState, fresh_state, make_ready
from arcpipe.train.step import cycles_at, rate_scale, train_step
from arcpipe.train.trainer import training_stream

_TIMED_STEPS = 3


def dry_run_text(run: TrainRun) -> str:
    """Return sizes, samples, memory and time of a training as lines of text; nothing is written.

    Raises:  ArcpipeError if it does not fit into memory or contradicts the launcher.
    """
    accelerator = make_accelerator(run.settings)
    with naming_lack_of_memory(run.settings):
        state = fresh_state(run, accelerator)
        notes = make_ready(state, run.settings, accelerator.device)
        stream = training_stream(run, accelerator)
        seconds = []
        for step in range(1 + _TIMED_STEPS):
            began = time.monotonic()
            batch = stream[step].to(accelerator.device)
            train_step(state, batch, run.settings, rate_scale(run.settings, step, 0.0), accelerator)
            _wait(accelerator.device)
            seconds.append(time.monotonic() - began)
    # The first one warms up: it allocates, and compiles if that is asked for.
    return _text(run, state, min(seconds[1:]), _peak_memory(accelerator.device), notes)


def _text(run: TrainRun, state: TrainState, seconds: float, memory: float, notes: list[str]) -> str:
    settings, puzzles = run.settings, run.puzzles
    weights = sum(weight.numel() for weight in state.model.parameters())
    samples = run.last_step * settings.batch_size
    flops, num_full_steps = _sample_flops(run)
    kept = sum(tensor.nbytes for tensor in _kept(state))
    canvases = f"\ncanvases     {run.layout.text}" if run.layout.buckets else ""
    how = "; ".join([f"the best of {_TIMED_STEPS} steps", *notes])
    colors = f" and {state.colors.numel() // run.config.hidden_size:,} color vectors" if state.tables else ""
    fewer = ", those with fewer cycles by their arithmetic" if settings.curriculum else ""
    return f"""weights      {weights:,}, and {puzzles.num_puzzles:,} puzzle rows{colors} of {
        run.config.puzzle_size
    }
tokens       {puzzles.num_tokens} and a prefix of {run.config.prefix}{canvases}
steps        {run.last_step:,} of batch {settings.batch_size}: {samples:,} samples, {
        samples / len(puzzles.example_tasks):,.0f} times each of {len(puzzles.example_tasks):,} examples
arithmetic   {flops:.3g} FLOP a sample, {flops * settings.batch_size:.3g} a step, {
        flops * num_full_steps * settings.batch_size:.3g} in all
memory       {kept / 2**30:.2f} GiB of weights, optimizer, rows and state; {
        memory / 2**30:.2f} GiB at most, measured
speed        {seconds:.3g} s a step, {settings.batch_size / seconds:,.1f} samples/s, {
        flops * settings.batch_size / seconds:.3g} FLOP/s ({how})
time         {seconds * num_full_steps / 3600:,.1f} hours for all steps, without evaluations{fewer}"""


def _sample_flops(run: TrainRun) -> tuple[float, float]:
    """Operations of a sample's step with all cycles, and how many such steps have the arithmetic of all."""
    num_steps = run.settings.steps
    counts = Counter(cycles_at(run.settings, run.config, step / num_steps) for step in range(run.last_step))
    full = run.sample_flops((run.config.outer_cycles, run.config.inner_cycles))
    return full, sum(count * run.sample_flops(cycles) for cycles, count in counts.items()) / full


def _kept(state: TrainState) -> list[torch.Tensor]:
    """The tensors that stay from step to step."""
    weights = list(state.model.parameters())
    moments = [
        value
        for optimizer in state.optimizers
        for entry in optimizer.state.values()
        for value in entry.values()
        if isinstance(value, torch.Tensor)
    ]
    carry = [*state.carry.state, state.carry.inputs, state.carry.labels]
    return [*weights, *state.ema.averages, *moments, state.rows, state.colors, *carry]


def _peak_memory(device: torch.device) -> float:
    """The most memory in use so far, in bytes: of the GPU, or of this process."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    # In KiB, but on macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
