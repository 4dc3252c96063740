"""TrainState: everything that exact resume needs, and how it becomes a checkpoint and comes back.

Random numbers are drawn from (seed, step), so no generator has a state to save.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from arcpipe.checkpoint import PuzzleKey, load_checkpoint, load_trainer_state, save_checkpoint
from arcpipe.errors import CheckpointError, one_line
from arcpipe.train.ema import EMA
from arcpipe.trm import TRM, Carry


@dataclass
class TrainState:
    """What changes from step to step.

    model: the network. wrapped: the same, inside DistributedDataParallel when there are several
    processes. rows: the puzzle table (P, puzzle_size), alike on every process and kept out of the
    module, whose buffers DDP would overwrite. carry: this process's share of the samples in flight.
    step: optimizer steps done. seconds: the time they took, earlier parts of the run included.
    """

    model: TRM
    wrapped: nn.Module
    optimizer: Optimizer
    ema: EMA
    rows: Tensor
    carry: Carry
    step: int
    seconds: float


def save_state(
    state: TrainState, path: Path, puzzles: list[PuzzleKey], canvas: int, manifest: dict[str, Any],
    accelerator: Accelerator,
) -> None:  # fmt: skip
    """Write a checkpoint of all processes' state; every process must call this.

    Args:    manifest: of the checkpoint; step and seconds are added.
    """
    carry = {
        f"carry.{field.name}": accelerator.gather(getattr(state.carry, field.name)) for field in fields(Carry)
    }
    if accelerator.is_main_process:
        save_checkpoint(
            path, model=state.model, ema=state.ema.state_dict(), rows=state.rows, puzzles=puzzles,
            canvas=canvas, trainer=carry | _optimizer_tensors(state),
            manifest=manifest | {"step": state.step, "seconds": state.seconds},
        )  # fmt: skip
    accelerator.wait_for_everyone()


def _optimizer_tensors(state: TrainState) -> dict[str, Tensor]:
    names = [name for name, _ in state.model.named_parameters()]
    return {
        f"optimizer.{names[number]}.{key}": value
        for number, entry in state.optimizer.state_dict()["state"].items()
        for key, value in entry.items()
    }


def load_state(state: TrainState, folder: Path, accelerator: Accelerator) -> TrainState:
    """The state as it was when the checkpoint at `folder` was written, whatever number of processes
    wrote it.

    Raises:  CheckpointError if the checkpoint is damaged or of another model.
    """
    checkpoint = load_checkpoint(folder)
    tensors = load_trainer_state(checkpoint.path)
    try:
        state.model.load_state_dict(checkpoint.raw)
        state.ema.load_state_dict(checkpoint.ema)
        state.rows.copy_(checkpoint.rows)
        _load_optimizer(state, tensors)
        carry = _local_carry(state.carry, tensors, accelerator)
        step, seconds = int(checkpoint.manifest["step"]), float(checkpoint.manifest["seconds"])
    except (RuntimeError, KeyError) as error:
        raise CheckpointError(f"{folder}: does not fit this run ({one_line(error)})") from None
    return replace(state, carry=carry, step=step, seconds=seconds)


def _load_optimizer(state: TrainState, tensors: dict[str, Tensor]) -> None:
    entries: dict[int, dict[str, Tensor]] = {}
    for number, (name, _) in enumerate(state.model.named_parameters()):
        prefix = f"optimizer.{name}."
        entries[number] = {
            key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
        }
    groups = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict({"state": entries, "param_groups": groups})


def _local_carry(carry: Carry, tensors: dict[str, Tensor], accelerator: Accelerator) -> Carry:
    share = len(carry.steps)
    rows = slice(accelerator.process_index * share, (accelerator.process_index + 1) * share)
    if len(tensors["carry.steps"]) != share * accelerator.num_processes:
        raise KeyError("its batch has another size")
    return Carry(
        **{
            field.name: tensors[f"carry.{field.name}"][rows].to(getattr(carry, field.name))
            for field in fields(Carry)
        }
    )
