"""What a training needs before its first step: the accelerator, the run folder, the state."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from torch.amp import GradScaler

from arcpipe.checkpoint import Checkpoint, load_checkpoint, whole_checkpoints
from arcpipe.devices import compute_dtype, ready_blocks, refuse_lone_processes
from arcpipe.errors import ArcpipeError, CheckpointError, DataError
from arcpipe.locks import hold_folder
from arcpipe.log import logger, start_logging
from arcpipe.recipe import as_tables, recipe_changes
from arcpipe.runs import MANIFEST, make_manifest, new_folder, read_manifest, refuse_existing, write_json
from arcpipe.train.config import TrainSettings
from arcpipe.train.distributed import first_does
from arcpipe.train.ema import EMA
from arcpipe.train.job import LOG_FILE, TrainJob
from arcpipe.train.optim import make_optimizers
from arcpipe.train.resuming import check_start, resumed_state
from arcpipe.train.state import TrainState
from arcpipe.trm import TRM

_PATIENCE_MINUTES = 30.0
# They change no weight, so that a checkpoint can be gone on from with others.
_FREE = ("max_steps", "outer_cycles", "inner_cycles", "one_step_gradient", "buckets")


def make_accelerator(
    settings: TrainSettings, logging_dir: Path | None = None, *, uneven_minutes: float = 0.0
) -> Accelerator:
    """The Accelerator; it decides where to run, the recipe decides the numerics.

    Args:    logging_dir: where trackers that write files do so. uneven_minutes: how long a process may
             have something to do of its own, such as evaluating, while others wait for it.
    Raises:  ArcpipeError if the launcher's configuration and the recipe contradict each other.
    """
    # Without being told that there is no GPU, Accelerate leaves processes on CPUs alone with themselves.
    # CUDA or CPU: the loss is computed in float64, which MPS does not have.
    patience = timedelta(minutes=_PATIENCE_MINUTES + uneven_minutes)
    accelerator = Accelerator(
        mixed_precision="no", cpu=not torch.cuda.is_available(), log_with=_trackers(settings),
        project_dir=logging_dir, kwargs_handlers=[InitProcessGroupKwargs(timeout=patience)],
    )  # fmt: skip
    # One that refuses what follows must not be gone before the others have found it.
    accelerator.wait_for_everyone()
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    dtype, reason = compute_dtype(settings.precision, accelerator.device)
    if asked != "no" and {"bf16": torch.bfloat16, "fp16": torch.float16}.get(asked) != dtype:
        raise ArcpipeError(
            f"Accelerate's configuration asks for mixed precision {asked}, but {settings.table}."
            f"precision={settings.precision} is {_name(dtype)} here ({reason}): "
            "make them agree (accelerate launch --mixed_precision no)"
        )
    refuse_lone_processes(accelerator.num_processes, accelerator.device)
    _refuse_uneven_parts(settings, accelerator.num_processes)
    return accelerator


def _refuse_uneven_parts(settings: TrainSettings, num_processes: int) -> None:
    if settings.batch_size % (num_processes * settings.accumulation):
        of_each = f" x {settings.table}.accumulation {settings.accumulation}"
        raise ArcpipeError(
            f"{settings.table}.batch_size {settings.batch_size} does not divide by {num_processes} processes"
            + (of_each if settings.accumulation > 1 else "")
        )


def _trackers(settings: TrainSettings) -> list[str] | None:
    """The trackers asked for, all of them known to Accelerate and installed."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    available = [str(name) for name in get_available_trackers()]
    for name in settings.trackers:
        if name not in LOGGER_TYPE_TO_CLASS:
            known = ", ".join(map(str, LOGGER_TYPE_TO_CLASS))
            raise ArcpipeError(f"{settings.table}.trackers: {name!r} is none of Accelerate's: {known}")
        if name not in available:
            raise ArcpipeError(f"{settings.table}.trackers: {name} is not installed (pip install {name})")
    return settings.trackers or None


def check_out(job: TrainJob) -> list[str]:
    """Refuse a run folder that exists, or to resume one of another recipe or dataset.

    Returns: what is to change in the recipe of the run, as --force allows.
    """
    dataset = job.dataset
    if not job.resume:
        refuse_existing(job.out, "go on with --resume, choose another --out or remove it")
        return []
    manifest = read_manifest(job.out, "run")
    if manifest["dataset"]["fingerprint"] != dataset["fingerprint"]:
        raise DataError(f"{job.out}: was trained on another dataset than {job.data_dir}")
    changes = recipe_changes(manifest["recipe"], job.recipe)
    if job.init is not None and str(job.init) != manifest["init"]:
        changes.append(f"--init: {manifest['init']} -> {job.init}")
    of_optimizer = [change for change in changes if change.startswith(f"{job.settings.table}.optimizer:")]
    if of_optimizer:
        raise ArcpipeError(
            f"{job.out}: an optimizer cannot go on with the state of another ({of_optimizer[0]}): repeat it, "
            "or begin a new run from this one with --init"
        )
    if changes and not job.force:
        raise ArcpipeError(
            f"{job.out}: was trained with another recipe ({'; '.join(changes)}); repeat its settings, "
            "or go on with these by --force"
        )
    check_start(job)
    return changes


@contextmanager
def open_run(job: TrainJob, accelerator: Accelerator) -> Iterator[None]:
    """Make the run folder, unless it is resumed; hold it and log to it until the block ends.

    Raises:  OutputError, on every process, if another training holds the folder.
    """
    # Barrier: a rank that raises below would leave the others waiting for it.
    accelerator.wait_for_everyone()
    if not job.resume:
        first_does(lambda: _make_run(job), accelerator)
    with ExitStack() as stack:
        first_does(lambda: stack.enter_context(hold_folder(job.out)), accelerator)
        start_logging(job.out / LOG_FILE)
        if job.settings.trackers:
            flat = {
                f"{name}.{key}": str(value)
                for name, table in job.recipe.items()
                for key, value in table.items()
            }
            accelerator.init_trackers("arcpipe", config=flat)
        yield


def _make_run(job: TrainJob) -> None:
    manifest = make_manifest(
        "run", recipe=job.recipe, seed=job.settings.seed, dataset=job.dataset,
        init=None if job.init is None else str(job.init),
    )  # fmt: skip
    with new_folder(job.out, manifest):
        pass


def note_changes(job: TrainJob, changes: list[str], accelerator: Accelerator) -> None:
    """Freeze the changed recipe, which the next --resume is compared with, and what it was before."""

    def write() -> None:
        manifest = read_manifest(job.out, "run")
        noted = {"recipe": job.recipe, "changes": [*manifest.get("changes", []), *changes]}
        write_json(job.out / MANIFEST, manifest | noted)

    if changes:
        logger.warning("going on with another recipe: %s", "; ".join(changes))
        first_does(write, accelerator)


def fresh_state(job: TrainJob, accelerator: Accelerator) -> TrainState:
    """The state before the first step: random weights and rows of zeros, or those of `job.init`."""
    settings, device = job.settings, accelerator.device
    if settings.rows_only and not job.config.puzzle_size:
        raise ArcpipeError(
            f"{settings.table}.rows_only: the model has no puzzle rows (model.puzzle_size is 0)"
        )
    _refuse_uneven_canvases(job, accelerator.num_processes)
    # A checkpoint names the canvases that were trained on, which inference takes too.
    config = replace(job.config, buckets=job.layout.buckets)
    dtype, _ = compute_dtype(settings.precision, device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = TRM(config, job.puzzles.num_tokens, job.puzzles.family.vocabulary)
    rows = torch.zeros(job.puzzles.num_puzzles, job.config.puzzle_size)
    init = _init_of(job)
    if init is not None:
        rows = _begin_from(init, model, job)
    model = model.to(device)
    model.recompute = settings.recompute
    return TrainState(
        model=model,
        wrapped=accelerator.prepare(model),
        optimizers=make_optimizers(model, settings),
        ema=EMA(model, settings.ema),
        rows=rows.to(device),
        carry=model.empty_carry(settings.batch_size // accelerator.num_processes, dtype),
        layout=job.layout,
        scaler=GradScaler(device.type, enabled=dtype == torch.float16),
        step=0,
        seconds=0.0,
    )


def _refuse_uneven_canvases(job: TrainJob, num_processes: int) -> None:
    uneven = [
        f"{rows} of side {side}"
        for side, rows in zip(job.layout.sides, job.layout.rows, strict=True)
        if rows % num_processes
    ]
    if uneven:
        raise ArcpipeError(
            f"model.buckets: the samples of a batch, {', '.join(uneven)}, do not divide by {num_processes} "
            f"processes: choose another {job.settings.table}.batch_size (for 2, 4, 8... processes a multiple "
            f"of {32 * num_processes} does) or other buckets"
        )


def _init_of(job: TrainJob) -> Path | None:
    """The checkpoint to begin from; None for random weights, or where the run has checkpoints of its own."""
    if not job.resume:
        return job.init
    if has_checkpoint(job.out):
        return None
    recorded = read_manifest(job.out, "run")["init"]
    return job.init or (Path(recorded) if recorded else None)


def _begin_from(path: Path, model: TRM, job: TrainJob) -> torch.Tensor:
    """Give the model the averaged weights of a checkpoint; the rows (P, puzzle_size) to begin with: its own
    for puzzles that it knows, their mean for others.

    Source:  the mean, and not random rows: arXiv 2511.02886, section on ablations.
    """
    checkpoint = load_checkpoint(path)
    _refuse_another_model(checkpoint, job)
    try:
        model.load_state_dict(checkpoint.ema)
    except RuntimeError:
        raise CheckpointError(
            f"{checkpoint.path}: its weights are for canvas {checkpoint.canvas}, the dataset has canvas "
            f"{job.puzzles.canvas}"
        ) from None
    found = torch.from_numpy(checkpoint.puzzles.find(job.puzzles.table))
    known = found >= 0
    rows = torch.zeros(len(found), job.config.puzzle_size)
    if len(checkpoint.puzzles):
        rows += checkpoint.rows.float().mean(dim=0)
        rows[known] = checkpoint.rows[found[known]].float()
    logger.info("%s: rows for %d of %d puzzles known", checkpoint.path, int(known.sum()), len(found))
    return rows


def _refuse_another_model(checkpoint: Checkpoint, job: TrainJob) -> None:
    """Raises CheckpointError if the weights of a checkpoint mean something else in the model to train."""
    family, tables = job.puzzles.family, (as_tables({"model": of}) for of in (checkpoint.config, job.config))
    if (checkpoint.family, checkpoint.vocabulary) != (family.name, family.vocabulary):
        raise CheckpointError(
            f"{checkpoint.path}: is for {checkpoint.family} puzzles with {checkpoint.vocabulary} tokens, the "
            f"dataset has {family.name} puzzles with {family.vocabulary}"
        )
    changes = recipe_changes(*tables)
    fixed = [change for change in changes if not change.startswith(tuple(f"model.{name}:" for name in _FREE))]
    if fixed:
        raise CheckpointError(
            f"{checkpoint.path}: its model is another one than the recipe's ({'; '.join(fixed)}): set these "
            "as they are in the checkpoint"
        )


def newest_state(job: TrainJob, fresh: TrainState, accelerator: Accelerator) -> TrainState:
    """The state of the checkpoint to go on from if there is one, otherwise the fresh one, ready for the next
    step; logs what it is."""
    state = resumed_state(job, fresh, accelerator) if job.resume else fresh
    weights = sum(weight.numel() for weight in state.model.parameters())
    dtype, reason = compute_dtype(job.settings.precision, accelerator.device)
    logger.info(
        "%s weights, %d puzzles x %d, %d tokens; %s on %s (%s), %d process(es), step %d",
        f"{weights:,}", job.puzzles.num_puzzles, job.config.puzzle_size, job.puzzles.num_tokens,
        _name(dtype), accelerator.device, reason, accelerator.num_processes, state.step,
    )  # fmt: skip
    if job.layout.buckets:
        logger.info("canvases: %s", job.layout.text)
    for note in make_ready(state, job.settings, accelerator.device):
        logger.info(note)
    return state


def make_ready(state: TrainState, settings: TrainSettings, device: torch.device) -> list[str]:
    """Make the network ready to compute as the settings say; what is worth telling about it."""
    return ready_blocks(
        state.model.blocks, hidden_size=state.model.config.hidden_size, dtype=state.carry.answer.dtype,
        device=device, threads=settings.cpu_threads, compiled=settings.compile, dynamic=False,
    )  # fmt: skip


def has_checkpoint(run: Path) -> bool:
    """Whether there is something to go on from: a run can end before its first checkpoint."""
    return bool(whole_checkpoints(run))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
