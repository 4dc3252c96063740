"""TrainState: everything that exact resume needs, and how it becomes a checkpoint and comes back.

Random numbers are drawn from (seed, step), so no generator has a state to save.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from torch import Tensor, from_numpy, nn, tensor
from torch.amp import GradScaler
from torch.optim import Optimizer

from arcpipe.buckets import Layout
from arcpipe.checkpoint import Checkpoint, save_checkpoint
from arcpipe.errors import CheckpointError, one_line
from arcpipe.puzzleset import PuzzleSet
from arcpipe.train.distributed import first_does
from arcpipe.train.ema import EMA
from arcpipe.trm import TRM, Carry


@dataclass
class TrainState:
    """What changes from step to step.

    model: the network. wrapped: the same, inside DistributedDataParallel when there are several
    processes. rows: the puzzle table (P, puzzle_size), alike on every process and kept out of the
    module, whose buffers DDP would overwrite. carry: this process's share of the samples in flight.
    layout: the canvases of the rows of the carry, as of all processes together.
    scaler: the loss scale of float16; otherwise it is disabled and does nothing. step: optimizer steps
    done. seconds: the time they took, earlier parts of the run included. evaluated_at: what `seconds` was
    at the last evaluation.
    """

    model: TRM
    wrapped: nn.Module
    optimizers: list[Optimizer]
    ema: EMA
    rows: Tensor
    carry: Carry
    layout: Layout
    scaler: GradScaler
    step: int
    seconds: float
    evaluated_at: float = 0.0


def save_state(
    state: TrainState, path: Path, puzzles: PuzzleSet, manifest: dict[str, Any], accelerator: Accelerator
) -> None:
    """Write a checkpoint of all processes' state; every process must call this.

    Args:    manifest: of the checkpoint; step and times are added.
    """
    carry = {
        f"carry.{field.name}": _gathered(getattr(state.carry, field.name), state.layout, accelerator)
        for field in fields(Carry)
    }
    checkpoint = checkpoint_of(state, path, puzzles, manifest)
    trainer = carry | _optimizer_tensors(state) | _scaler_tensors(state)
    first_does(lambda: save_checkpoint(checkpoint, trainer), accelerator)


def _gathered(value: Tensor, layout: Layout, accelerator: Accelerator) -> Tensor:
    """A value of the carry of all processes, in the order of the global batch."""
    gathered: Tensor = accelerator.gather(value)
    count = accelerator.num_processes
    places = np.concatenate([layout.own_rows(rank, count) for rank in range(count)])
    # As they come, they need not be copied.
    return gathered if (np.diff(places) > 0).all() else gathered[from_numpy(np.argsort(places))]


def checkpoint_of(state: TrainState, path: Path, puzzles: PuzzleSet, manifest: dict[str, Any]) -> Checkpoint:
    """The state as a checkpoint in memory, sharing its tensors."""
    raw = state.model.state_dict()
    return Checkpoint(
        path=path, config=state.model.config, family=puzzles.family.name, canvas=puzzles.canvas,
        vocabulary=state.model.vocabulary, raw=raw, ema=raw | state.ema.state_dict(), rows=state.rows,
        puzzles=puzzles.table,
        manifest=manifest
        | {"step": state.step, "seconds": state.seconds, "evaluated_at": state.evaluated_at},
    )  # fmt: skip


def _optimizer_tensors(state: TrainState) -> dict[str, Tensor]:
    return {
        f"optimizer.{name}.{key}": value
        for optimizer in state.optimizers
        for name, weight in state.model.named_parameters()
        for key, value in optimizer.state.get(weight, {}).items()
    }


def _scaler_tensors(state: TrainState) -> dict[str, Tensor]:
    return {f"scaler.{key}": tensor(value) for key, value in state.scaler.state_dict().items()}


def load_state(
    state: TrainState, checkpoint: Checkpoint, tensors: dict[str, Tensor], accelerator: Accelerator
) -> TrainState:
    """The state as it was when a checkpoint was written, whatever number of processes wrote it.

    Args:    tensors: the checkpoint's trainer state.
    Raises:  CheckpointError if the checkpoint is of another model.
    """
    try:
        state.model.load_state_dict(checkpoint.raw)
        state.ema.load_state_dict(checkpoint.ema)
        state.rows.copy_(checkpoint.rows)
        _load_optimizers(state, tensors)
        _load_scaler(state, tensors)
        carry = _local_carry(state, tensors, accelerator)
        if checkpoint.config.buckets != state.layout.buckets:
            raise RuntimeError("its samples are on other canvases: repeat model.buckets, or use --init")
        facts = checkpoint.manifest
        step, seconds, evaluated_at = (facts[name] for name in ("step", "seconds", "evaluated_at"))
    except (RuntimeError, KeyError) as error:
        raise CheckpointError(f"{checkpoint.path}: does not fit this run ({one_line(error)})") from None
    return replace(state, carry=carry, step=step, seconds=seconds, evaluated_at=evaluated_at)


def _load_optimizers(state: TrainState, tensors: dict[str, Tensor]) -> None:
    names = {weight: name for name, weight in state.model.named_parameters()}
    for optimizer in state.optimizers:
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        entries: dict[int, dict[str, Tensor]] = {}
        for number, weight in enumerate(weights):
            prefix = f"optimizer.{names[weight]}."
            entries[number] = {
                key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
            }
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": entries, "param_groups": groups})


def _load_scaler(state: TrainState, tensors: dict[str, Tensor]) -> None:
    """Take the loss scale over, if there is one: a run may have begun where it needed none."""
    own = state.scaler.state_dict()
    found = {key: tensors[f"scaler.{key}"].item() for key in own if f"scaler.{key}" in tensors}
    if found:
        state.scaler.load_state_dict(own | found)


def _local_carry(state: TrainState, tensors: dict[str, Tensor], accelerator: Accelerator) -> Carry:
    if len(tensors["carry.steps"]) != sum(state.layout.rows):
        raise RuntimeError("its batch has another size")
    rows = from_numpy(state.layout.own_rows(accelerator.process_index, accelerator.num_processes))
    return Carry(
        **{
            field.name: tensors[f"carry.{field.name}"][rows].to(getattr(state.carry, field.name))
            for field in fields(Carry)
        }
    )
