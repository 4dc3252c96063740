"""What a training needs before its first step: the accelerator, the run folder, the state."""

import os
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.amp import GradScaler

from arcpipe.checkpoint import CHECKPOINTS, load_checkpoint, newest_checkpoint
from arcpipe.devices import compile_blocks, compute_dtype, use_cpu_products, use_cpu_threads
from arcpipe.errors import ArcpipeError, CheckpointError, DataError
from arcpipe.log import logger, start_logging
from arcpipe.recipe import recipe_changes
from arcpipe.runs import make_manifest, new_folder, read_manifest, refuse_existing
from arcpipe.train.ema import EMA
from arcpipe.train.job import LOG_FILE, TrainJob
from arcpipe.train.optim import make_optimizers
from arcpipe.train.settings import TrainSettings
from arcpipe.train.state import TrainState, load_state
from arcpipe.trm import TRM


def make_accelerator(settings: TrainSettings, logging_dir: Path | None = None) -> Accelerator:
    """The Accelerator; it decides where to run, the recipe decides the numerics.

    Args:    logging_dir: where trackers that write files do so.
    Raises:  ArcpipeError if the launcher's configuration and the recipe contradict each other.
    """
    # Without being told that there is no GPU, Accelerate leaves processes on CPUs alone with themselves.
    # CUDA or CPU: the loss is computed in float64, which MPS does not have.
    accelerator = Accelerator(
        mixed_precision="no", cpu=not torch.cuda.is_available(), log_with=_trackers(settings),
        project_dir=logging_dir,
    )  # fmt: skip
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    dtype, reason = compute_dtype(settings.precision, accelerator.device)
    if asked != "no" and {"bf16": torch.bfloat16, "fp16": torch.float16}.get(asked) != dtype:
        raise ArcpipeError(
            f"Accelerate's configuration asks for mixed precision {asked}, but train.precision="
            f"{settings.precision} is {_name(dtype)} here ({reason}): "
            "make them agree (accelerate launch --mixed_precision no)"
        )
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != started:
        raise ArcpipeError(
            f"{started} processes were started that Accelerate does not join on {accelerator.device}: "
            "set ACCELERATE_USE_CPU=true, or start one"
        )
    parts = accelerator.num_processes * settings.accumulation
    if settings.batch_size % parts:
        raise ArcpipeError(
            f"train.batch_size {settings.batch_size} does not divide by {accelerator.num_processes} processes"
            + (f" x train.accumulation {settings.accumulation}" if settings.accumulation > 1 else "")
        )
    return accelerator


def _trackers(settings: TrainSettings) -> list[str] | None:
    """The trackers asked for, all of them known to Accelerate and installed."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    available = [str(name) for name in get_available_trackers()]
    for name in settings.trackers:
        if name not in LOGGER_TYPE_TO_CLASS:
            known = ", ".join(map(str, LOGGER_TYPE_TO_CLASS))
            raise ArcpipeError(f"train.trackers: {name!r} is none of Accelerate's: {known}")
        if name not in available:
            raise ArcpipeError(f"train.trackers: {name} is not installed (pip install {name})")
    return settings.trackers or None


def check_out(job: TrainJob) -> None:
    """Refuse a run folder that exists, or to resume one of another recipe or dataset."""
    dataset = job.dataset
    if not job.resume:
        refuse_existing(job.out, "go on with --resume, choose another --out or remove it")
        return
    manifest = read_manifest(job.out, "run")
    if manifest["dataset"]["fingerprint"] != dataset["fingerprint"]:
        raise DataError(f"{job.out}: was trained on another dataset than {job.data_dir}")
    changes = recipe_changes(manifest["recipe"], job.recipe)
    if changes and not job.force:
        raise ArcpipeError(
            f"{job.out}: was trained with another recipe ({'; '.join(changes)}); repeat its settings, "
            "or go on with these by --force"
        )
    if changes:
        logger.warning("%s: going on with another recipe: %s", job.out, "; ".join(changes))


def open_run(job: TrainJob, accelerator: Accelerator) -> None:
    """Make the run folder, unless it is resumed, and log to it."""
    accelerator.wait_for_everyone()
    if accelerator.is_main_process and not job.resume:
        manifest = make_manifest(
            "run", recipe=job.recipe, seed=job.settings.seed, dataset=job.dataset,
            init=None if job.init is None else str(job.init),
        )  # fmt: skip
        with new_folder(job.out, manifest):
            pass
    accelerator.wait_for_everyone()
    start_logging(job.out / LOG_FILE)
    if job.settings.trackers:
        flat = {
            f"{name}.{key}": str(value) for name, table in job.recipe.items() for key, value in table.items()
        }
        accelerator.init_trackers("arcpipe", config=flat)


def fresh_state(job: TrainJob, accelerator: Accelerator) -> TrainState:
    """The state before the first step: random weights and rows of zeros, or those of `job.init`."""
    settings, device = job.settings, accelerator.device
    if settings.rows_only and not job.config.puzzle_size:
        raise ArcpipeError("train.rows_only: the model has no puzzle rows (model.puzzle_size is 0)")
    use_cpu_threads(settings.cpu_threads)
    dtype, _ = compute_dtype(settings.precision, device)
    if device.type == "cpu" and dtype == torch.float32:
        logger.info(use_cpu_products(job.config.hidden_size))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = TRM(job.config, job.puzzles.num_tokens, job.puzzles.family.vocabulary)
    rows = torch.zeros(job.puzzles.num_puzzles, job.config.puzzle_size)
    if job.init is not None:
        rows = _begin_from(job.init, model, job)
    model = model.to(device)
    model.recompute = settings.recompute
    return TrainState(
        model=model,
        wrapped=accelerator.prepare(model),
        optimizers=make_optimizers(model, settings),
        ema=EMA(model, settings.ema),
        rows=rows.to(device),
        carry=model.empty_carry(settings.batch_size // accelerator.num_processes, dtype),
        scaler=GradScaler(device.type, enabled=dtype == torch.float16),
        step=0,
        seconds=0.0,
    )


def _begin_from(path: Path, model: TRM, job: TrainJob) -> torch.Tensor:
    """Give the model the averaged weights of a checkpoint; the rows (P, puzzle_size) to begin with: its own
    for puzzles that it knows, their mean for others.

    Source:  the mean, and not random rows: arXiv 2511.02886, section on ablations.
    """
    checkpoint = load_checkpoint(path)
    try:
        model.load_state_dict(checkpoint.ema)
    except RuntimeError:
        raise CheckpointError(
            f"{checkpoint.path}: its weights are not those of the recipe's [model] on canvas "
            f"{job.puzzles.canvas}: its own is {checkpoint.config} on canvas {checkpoint.canvas}"
        ) from None
    found = torch.from_numpy(checkpoint.puzzles.find(job.puzzles.table))
    known = found >= 0
    rows = torch.zeros(len(found), job.config.puzzle_size)
    if len(checkpoint.puzzles):
        rows += checkpoint.rows.float().mean(dim=0)
        rows[known] = checkpoint.rows[found[known]].float()
    logger.info("%s: rows for %d of %d puzzles known", checkpoint.path, int(known.sum()), len(found))
    return rows


def newest_state(job: TrainJob, fresh: TrainState, accelerator: Accelerator) -> TrainState:
    """The state of the newest checkpoint if there is one, otherwise the fresh one; logs what it is, and
    compiles the network if that is asked for."""
    state = fresh
    if has_checkpoint(job.out):
        state = load_state(fresh, newest_checkpoint(job.out), accelerator)
    weights = sum(weight.numel() for weight in state.model.parameters())
    dtype, reason = compute_dtype(job.settings.precision, accelerator.device)
    logger.info(
        "%s weights, %d puzzles x %d, %d tokens; %s on %s (%s), %d process(es), step %d",
        f"{weights:,}", job.puzzles.num_puzzles, job.config.puzzle_size, job.puzzles.num_tokens,
        _name(dtype), accelerator.device, reason, accelerator.num_processes, state.step,
    )  # fmt: skip
    logger.info(compile_blocks(state.model.blocks, job.settings.compile, accelerator.device))
    return state


def has_checkpoint(run: Path) -> bool:
    """Whether there is something to go on from: a run can end before its first checkpoint."""
    return any((run / CHECKPOINTS).glob("step-*"))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
