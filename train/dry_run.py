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
    on_gpu = accelerator.device.type == "cuda"
    with naming_lack_of_memory(run.settings):
        state = fresh_state(run, accelerator)
        notes = make_ready(state, run.settings, accelerator.device)
        stream = training_stream(run, accelerator)
        seconds = []
        for step in range(1 + _TIMED_STEPS):
            began = time.monotonic()
            batch = stream[step].to(accelerator.device)
            train_step(state, batch, run.settings, rate_scale(run.settings, step, 0.0), accelerator)
            if on_gpu:
                torch.cuda.synchronize(accelerator.device)
            seconds.append(time.monotonic() - began)
    if on_gpu:
        peak_memory = torch.cuda.max_memory_allocated(accelerator.device)
    else:
        # In KiB, but on macOS in bytes.
        unit = 1 if sys.platform == "darwin" else 1024
        peak_memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    # The first one warms up: it allocates, and compiles if that is asked for.
    return _text(run, state, min(seconds[1:]), peak_memory, notes)


def _text(run: TrainRun, state: TrainState, seconds: float, peak_memory: int, notes: list[str]) -> str:
    settings, config, puzzles = run.settings, run.config, run.puzzles
    batch_size, num_examples = settings.batch_size, len(puzzles.example_tasks)
    weights = sum(weight.numel() for weight in state.model.parameters())
    colors = f" and {state.colors.numel() // config.hidden_size:,} color vectors" if state.tables else ""
    samples = run.last_step * batch_size
    counts = Counter(cycles_at(settings, config, step / settings.steps) for step in range(run.last_step))
    flops = run.sample_flops((config.outer_cycles, config.inner_cycles))
    # So many steps with all cycles have the arithmetic of all steps.
    full_steps = sum(count * run.sample_flops(cycles) for cycles, count in counts.items()) / flops
    fewer = ", those with fewer cycles by their arithmetic" if settings.curriculum else ""
    lines = {
        "weights": f"{weights:,}, and {puzzles.num_puzzles:,} puzzle rows{colors} of {config.puzzle_size}",
        "tokens": f"{puzzles.num_tokens} and a prefix of {config.prefix}",
        "canvases": run.layout.text if run.layout.buckets else "",
        "steps": f"{run.last_step:,} of batch {batch_size}: {samples:,} samples, "
        f"{samples / num_examples:,.0f} times each of {num_examples:,} examples",
        "arithmetic": f"{flops:.3g} FLOP a sample, {flops * batch_size:.3g} a step, "
        f"{flops * full_steps * batch_size:.3g} in all",
        "memory": f"{_lasting_bytes(state) / 2**30:.2f} GiB of weights, optimizer, rows and state; "
        f"{peak_memory / 2**30:.2f} GiB at most, measured",
        "speed": f"{seconds:.3g} s a step, {batch_size / seconds:,.1f} samples/s, "
        f"{flops * batch_size / seconds:.3g} FLOP/s "
        f"({'; '.join([f'the best of {_TIMED_STEPS} steps', *notes])})",
        "time": f"{seconds * full_steps / 3600:,.1f} hours for all steps, without evaluations{fewer}",
    }
    return "\n".join(f"{name:<13}{text}" for name, text in lines.items() if text)


def _lasting_bytes(state: TrainState) -> int:
    """The size of the tensors that stay from step to step."""
    moments = [
        value
        for optimizer in state.optimizers
        for entry in optimizer.state.values()
        for value in entry.values()
        if isinstance(value, torch.Tensor)
    ]
    carry = [*state.carry.state, state.carry.inputs, state.carry.labels]
    weights = [*state.model.parameters(), *state.ema.averages.values(), state.rows, state.colors]
    return sum(tensor.nbytes for tensor in (*weights, *moments, *carry))
