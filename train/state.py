"""TrainState: everything that exact resume needs; how it is made, saved in a checkpoint and loaded.

All random numbers are functions of (seed, step), so no generator has a state to save.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from arcpipe.buckets import Layout
from arcpipe.checkpoint import (
    Checkpoint,
    RowChanges,
    changes_since,
    load_checkpoint,
    no_colors,
    save_checkpoint,
)
from arcpipe.devices import compute_dtype, ready_blocks
from arcpipe.errors import ArcpipeError, CheckpointError, one_line
from arcpipe.grid import NUM_COLORS
from arcpipe.log import logger
from arcpipe.model_config import BUCKET_UNITS
from arcpipe.recipe import as_tables, recipe_changes
from arcpipe.runs import make_manifest
from arcpipe.train.config import TrainSettings
from arcpipe.train.distributed import run_on_main, shared_zeros
from arcpipe.train.optim import make_optimizers
from arcpipe.train.run import TrainRun
from arcpipe.trm import TRM, Carry

# Fields of TRMConfig that change no weight, so a training may differ in them from its --init.
_FREE = ("max_steps", "outer_cycles", "inner_cycles", "one_step_gradient", "buckets")
_ROWS_AT_ONCE = 1 << 16


class EMA:
    """Float32 moving averages of a module's parameters: average += (1 - decay) * (weight - average).

    In bfloat16, a step of 1 - 0.999 would be rounded away.

    averages: by parameter name.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self._weights = decay, list(module.parameters())
        self.averages = {name: weight.detach().float().clone() for name, weight in module.named_parameters()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the averages toward the module's weights."""
        weights = [weight.float() for weight in self._weights]
        torch._foreach_lerp_(list(self.averages.values()), weights, 1 - self.decay)


@dataclass
class TrainState:
    """The state of a training, which a step changes.

    model: the network.
    wrapped: the network in DistributedDataParallel if there are several processes, else the network.
    optimizers: of the network's weights; the last one of `tables`, if there are any.
    ema: the moving average of the network's weights.
    rows: the puzzle table (P, puzzle_size), equal on all processes, or shared by those of a machine. Not part
        of the module, whose buffers DDP would overwrite.
    carry: this process's share of the samples in flight.
    layout: the canvases of the global batch.
    own_rows: this process's rows of the global batch.
    scaler: the loss scale of float16; disabled for other dtypes.
    step: optimizer steps done.
    seconds: their duration, earlier parts of the run included.
    evaluated_at: `seconds` at the last evaluation.
    colors: (T, 2, 10, D) color vectors of embedding task, equal on all processes; else T is 0.
    tasks: (P,) the task of each row.
    blank_token: the token of an empty cell; None if the puzzles have no given cells.
    owns_rows: this process writes `rows`; if they are shared, one process of each machine does.
    changed: (P,) whether a row was written since the checkpoint `since`, or since the start without one. Its
        length is 0 if each checkpoint stores all rows.
    """

    model: TRM
    wrapped: nn.Module
    optimizers: list[Optimizer]
    ema: EMA
    rows: Tensor
    carry: Carry
    layout: Layout
    own_rows: NDArray[np.intp]
    scaler: GradScaler
    step: int = 0
    seconds: float = 0.0
    evaluated_at: float = 0.0
    colors: Tensor = field(default_factory=no_colors)
    tasks: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    blank_token: int | None = None
    owns_rows: bool = True
    changed: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))
    since: Path | None = None

    @property
    def tables(self) -> dict[str, Tensor]:
        """The tables of embedding task, which an optimizer trains, by name; empty for other embeddings."""
        return {"puzzles.rows": self.rows, "puzzles.colors": self.colors} if len(self.colors) else {}

    @property
    def weights(self) -> dict[str, Tensor]:
        """All tensors that the optimizers train, by name."""
        return dict(self.model.named_parameters()) | self.tables


def fresh_state(run: TrainRun, accelerator: Accelerator) -> TrainState:
    """Return the state before the first step: random weights and rows of zeros, or those of `run.start`.

    Raises:  ArcpipeError if the recipe contradicts itself, the dataset, the number of processes or the
             checkpoint.
    """
    settings, device, table = run.settings, accelerator.device, run.puzzles.table
    rank, num_ranks = accelerator.process_index, accelerator.num_processes
    _check_recipe(run, num_ranks)
    # Checkpoints record the canvases in use; inference uses the same ones.
    config = replace(run.config, buckets=run.layout.buckets)
    dtype, _ = compute_dtype(settings.precision, device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = TRM(config, run.puzzles.num_tokens, run.puzzles.family.vocabulary)
    shape, rows_dtype = (len(table), config.puzzle_size), getattr(torch, settings.puzzle_precision)
    on_host = settings.puzzle_memory == "host"
    rows = shared_zeros(shape, rows_dtype, accelerator) if on_host else torch.zeros(shape, dtype=rows_dtype)
    owns_rows, colors = accelerator.is_local_main_process or not on_host, no_colors()
    if config.embedding == "task":
        colors = torch.zeros(len(table.task_ids), 2, NUM_COLORS, config.hidden_size)
    if (init := run.start) is not None:
        _load_init(init, run, model, rows if owns_rows else rows[:0], colors)
        accelerator.wait_for_everyone()
    model = model.to(device)
    model.recompute = settings.recompute
    rows = rows if on_host else rows.to(device)
    colors = colors.to(device)
    tables = [rows.requires_grad_(), colors.requires_grad_()] if len(colors) else []
    return TrainState(
        model=model,
        wrapped=accelerator.prepare(model),
        optimizers=make_optimizers(model, settings, tables),
        ema=EMA(model, settings.ema),
        rows=rows,
        carry=model.empty_carry(settings.batch_size // num_ranks, dtype),
        layout=run.layout,
        own_rows=run.layout.own_rows(rank, num_ranks),
        scaler=GradScaler(device.type, enabled=dtype == torch.float16),
        colors=colors,
        tasks=torch.from_numpy(table.tasks.astype(np.int64)).to(device),
        blank_token=run.puzzles.family.blank_token,
        owns_rows=owns_rows,
        changed=torch.full((len(table) if on_host else 0,), init is not None),
    )


def _check_recipe(run: TrainRun, num_processes: int) -> None:
    """Raise ArcpipeError if the recipe contradicts itself, the dataset or the number of processes."""
    settings, config = run.settings, run.config
    uses_sign_sgd = config.embedding == "augmentation" and config.puzzle_size > 0
    if settings.rows_only and not config.puzzle_size:
        raise ArcpipeError(
            f"{settings.table}.rows_only: the model has no puzzle rows (model.puzzle_size is 0)"
        )
    for name, usual in (("puzzle_memory", "device"), ("puzzle_precision", "float32")):
        if getattr(settings, name) != usual and not uses_sign_sgd:
            raise ArcpipeError(
                f"{settings.table}.{name} = {getattr(settings, name)} is for rows that learn by sign-SGD: of "
                "model.embedding = augmentation, with model.puzzle_size above 0"
            )
    run.puzzles.refuse_embedding(config.embedding, run.data_dir)
    if (settings.objective == "flow") != config.flow:
        raise ArcpipeError(
            f"{settings.table}.objective = {settings.objective} is for a model "
            f"{'without' if config.flow else 'with'} flow: set it or model.flow otherwise"
        )
    uneven = [
        f"{rows} of side {side}"
        for side, rows in zip(run.layout.sides, run.layout.rows, strict=True)
        if rows % num_processes
    ]
    if uneven:
        raise ArcpipeError(
            f"model.buckets: the samples of a batch, {', '.join(uneven)}, do not divide by {num_processes} "
            f"processes: choose another {settings.table}.batch_size (for 2, 4, 8... processes a multiple "
            f"of {BUCKET_UNITS * num_processes} does) or other buckets"
        )


def _load_init(path: Path, run: TrainRun, model: TRM, rows: Tensor, colors: Tensor) -> None:
    """Load the averaged weights of a checkpoint, and initialize rows and color vectors from it.

    Puzzles and tasks that the checkpoint knows get its rows and color vectors, others the mean: of the rows
    of their dihedral, of all color vectors. With a trunk, which has neither, they stay 0.

    Raises:  CheckpointError if its model or puzzles are incompatible with the run.
    Source:  the mean instead of random rows: arXiv 2511.02886, section on ablations.
    """
    checkpoint, table, family = load_checkpoint(path), run.puzzles.table, run.puzzles.family
    if (checkpoint.family, checkpoint.vocabulary) != (family.name, family.vocabulary):
        raise CheckpointError(
            f"{checkpoint.path}: is for {checkpoint.family} puzzles with {checkpoint.vocabulary} tokens, the "
            f"dataset has {family.name} puzzles with {family.vocabulary}"
        )
    changes = recipe_changes(*(as_tables({"model": config}) for config in (checkpoint.config, run.config)))
    fixed = [change for change in changes if not change.startswith(tuple(f"model.{name}:" for name in _FREE))]
    if fixed:
        raise CheckpointError(
            f"{checkpoint.path}: its model is another one than the recipe's ({'; '.join(fixed)}): set these "
            "as they are in the checkpoint"
        )
    try:
        model.load_state_dict(checkpoint.ema)
    except RuntimeError:
        raise CheckpointError(
            f"{checkpoint.path}: its weights are for canvas {checkpoint.canvas}, the dataset has canvas "
            f"{run.puzzles.canvas}"
        ) from None
    places = torch.from_numpy(checkpoint.puzzles.find(table))
    is_known = places >= 0
    logger.info("%s: rows for %d of %d puzzles known", checkpoint.path, int(is_known.sum()), len(places))
    if not len(checkpoint.puzzles):
        return
    mean_rows = checkpoint.mean_rows()
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        values = mean_rows[table.dihedrals[part].astype(np.int64)]
        values[is_known[part]] = checkpoint.rows[places[part][is_known[part]]].float()
        rows[part] = values
    if len(colors):
        place_of = {task_id: place for place, task_id in enumerate(checkpoint.puzzles.task_ids)}
        own = checkpoint.colors.float()
        with_mean = torch.cat((own, own.mean(dim=0, keepdim=True)))
        colors.copy_(with_mean[[place_of.get(task_id, -1) for task_id in table.task_ids]])


def make_ready(state: TrainState, settings: TrainSettings, device: torch.device) -> list[str]:
    """Apply CPU threads and compilation; return a log line for each decision that is not torch's default."""
    return ready_blocks(
        state.model.blocks, hidden_size=state.model.config.hidden_size, dtype=state.carry.answer.dtype,
        device=device, threads=settings.cpu_threads, compiled=settings.compile, dynamic=False,
    )  # fmt: skip


def checkpoint_of(
    state: TrainState, run: TrainRun, path: Path, manifest: dict[str, Any] | None = None
) -> Checkpoint:
    """Return a checkpoint in memory that shares the state's tensors.

    Args:    manifest: to which step, times and dtype are added; None for one of the recipe alone.
    """
    puzzles, manifest = run.puzzles, manifest or {"recipe": run.recipe}
    raw = state.model.state_dict()
    times = {"step": state.step, "seconds": state.seconds, "evaluated_at": state.evaluated_at}
    dtype = {"dtype": str(state.carry.answer.dtype).removeprefix("torch.")}
    return Checkpoint(
        path=path, config=state.model.config, family=puzzles.family.name, canvas=puzzles.canvas,
        vocabulary=state.model.vocabulary, raw=raw, ema=raw | state.ema.averages,
        rows=state.rows.detach(), puzzles=puzzles.table, colors=state.colors.detach(),
        manifest=manifest | times | dtype,
    )  # fmt: skip


def save_state(state: TrainState, run: TrainRun, path: Path, accelerator: Accelerator) -> None:
    """Write a checkpoint of all processes' state; every process must call this."""
    ranks = range(accelerator.num_processes)
    places = np.concatenate([state.layout.own_rows(rank, len(ranks)) for rank in ranks])
    # With one canvas or one process, gathered samples already have the order of the global batch: no copy.
    order = None if (np.diff(places) > 0).all() else torch.from_numpy(np.argsort(places))
    trainer = {}
    for name, value in _carry_tensors(state.carry).items():
        gathered = accelerator.gather(value)
        trainer[f"carry.{name}"] = gathered if order is None else gathered[order]
    for optimizer in state.optimizers:
        for name, weight in state.weights.items():
            moments = optimizer.state.get(weight, {})
            trainer |= {f"optimizer.{name}.{key}": value for key, value in moments.items()}
    trainer |= {f"scaler.{key}": torch.tensor(value) for key, value in state.scaler.state_dict().items()}
    manifest = make_manifest("checkpoint", recipe=run.recipe, dataset=run.dataset)
    checkpoint, changes = checkpoint_of(state, run, path, manifest), None
    # If less than half of the rows have changed, only these are written.
    if 0 < len(state.changed) > 2 * int(state.changed.sum()):
        changes = RowChanges(state.changed.nonzero()[:, 0], state.since)
    run_on_main(lambda: save_checkpoint(checkpoint, trainer, changes), accelerator)
    if changes is None:
        state.changed.zero_()
    if changes is None or changes.since:
        state.since = path


def _carry_tensors(carry: Carry) -> dict[str, Tensor]:
    """Return the tensors of a carry by name."""
    return {name: value for name, value in vars(carry).items() if value is not None}


def load_state(state: TrainState, checkpoint: Checkpoint, tensors: dict[str, Tensor]) -> TrainState:
    """Return the state of a checkpoint, which any number of processes may have written.

    Args:    state: a fresh state, whose tensors are overwritten. tensors: the checkpoint's trainer state.
    Raises:  CheckpointError if the checkpoint does not fit the run.
    """
    try:
        state.model.load_state_dict(checkpoint.raw)
        with torch.no_grad():
            for name, average in state.ema.averages.items():
                average.copy_(checkpoint.ema[name])
            since = _load_rows(state, checkpoint)
            state.colors.copy_(checkpoint.colors)
        name_of = {weight: name for name, weight in state.weights.items()}
        for optimizer in state.optimizers:
            groups = optimizer.state_dict()["param_groups"]
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            prefixes = [f"optimizer.{name_of[weight]}." for weight in weights]
            moments = [
                {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
                for prefix in prefixes
            ]
            optimizer.load_state_dict({"state": dict(enumerate(moments)), "param_groups": groups})
        # A run that began without float16 has no loss scale in its checkpoints.
        scale = state.scaler.state_dict()
        scale |= {key: tensors[f"scaler.{key}"].item() for key in scale if f"scaler.{key}" in tensors}
        state.scaler.load_state_dict(scale)
        if len(tensors["carry.steps"]) != sum(state.layout.rows):
            raise RuntimeError("its batch has another size")
        if checkpoint.config.buckets != state.layout.buckets:
            raise RuntimeError("its samples are on other canvases: repeat model.buckets, or use --init")
        own_rows = torch.from_numpy(state.own_rows)
        carry = {
            name: tensors[f"carry.{name}"][own_rows].to(value)
            for name, value in _carry_tensors(state.carry).items()
            # Checkpoints of older versions have no colors.
            if name != "colors" or "carry.colors" in tensors
        }
        if carry["answer"].shape != state.carry.answer.shape:
            raise RuntimeError("its samples have another prefix: repeat model.puzzle_tokens, or use --init")
        # With a lower limit than before, samples beyond it end without being counted.
        carry["halted"] |= carry["steps"] >= state.model.config.max_steps
        times = {name: checkpoint.manifest[name] for name in ("step", "seconds", "evaluated_at")}
    except (RuntimeError, KeyError) as error:
        raise CheckpointError(f"{checkpoint.path}: does not fit this run ({one_line(error)})") from None
    return replace(state, carry=replace(state.carry, **carry), since=since, **times)


def _load_rows(state: TrainState, checkpoint: Checkpoint) -> Path | None:
    """Load `rows` and `changed`; return the checkpoint that `changed` refers to."""
    if state.rows.shape != checkpoint.rows.shape:
        raise RuntimeError("its puzzle table has another size")
    state.changed.fill_(True)
    changes = None
    if len(state.changed) and checkpoint.rows.dtype == state.rows.dtype:
        changes = changes_since(checkpoint.path)
        state.changed.zero_()[changes.ids] = True
    if state.owns_rows:
        # Without an earlier table all other rows are 0, in the checkpoint and in the fresh state.
        ids = changes.ids if changes and changes.since is None else slice(None)
        state.rows[ids] = checkpoint.rows[ids]
    return changes.since if changes else None
