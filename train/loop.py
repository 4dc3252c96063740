"""The trainer: any number of processes through Accelerate, one global batch, exact resume."""

import os
import shutil
import time
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from arcpipe.batches import TrainingStream
from arcpipe.checkpoint import CHECKPOINTS, find_checkpoint, puzzle_keys
from arcpipe.codec import VOCABULARY
from arcpipe.devices import compute_dtype, use_cpu_threads
from arcpipe.errors import ArcpipeError, DataError
from arcpipe.log import logger, start_logging
from arcpipe.puzzleset import PuzzleSet
from arcpipe.recipe import recipe_changes
from arcpipe.runs import make_manifest, new_folder, read_manifest, refuse_existing
from arcpipe.train.ema import EMA
from arcpipe.train.guards import enough_memory, naming_what_is_saved, stop_on_signals
from arcpipe.train.optim import AdamATan2
from arcpipe.train.report import Reporter
from arcpipe.train.settings import TrainSettings
from arcpipe.train.state import TrainState, load_state, save_state
from arcpipe.train.step import rates_at, train_step
from arcpipe.trm import TRM, TRMConfig

METRICS_FILE = "metrics.jsonl"
LOG_FILE = "train.log"


@dataclass(frozen=True)
class TrainJob:
    """What to train on, how, and where to.

    recipe: the resolved tables, as they are frozen into the run's manifest. stop_at: end after this
    optimizer step, with the schedule still that of settings.steps. max_minutes: end after this time,
    that of the resumed parts included, with the schedule hastened so that it is complete then.
    """

    puzzles: PuzzleSet
    data_dir: Path
    config: TRMConfig
    settings: TrainSettings
    recipe: dict[str, Any]
    out: Path
    resume: bool = False
    stop_at: int | None = None
    max_minutes: float | None = None

    @cached_property
    def dataset(self) -> dict[str, str]:
        """Where the dataset is, and its fingerprint, for manifests."""
        manifest = read_manifest(self.data_dir, "dataset")
        return {"path": str(self.data_dir), "fingerprint": manifest["fingerprint"]}


@dataclass(frozen=True)
class TrainResult:
    """The newest checkpoint and its step; whether a signal ended the training, or that or the time limit
    left steps undone."""

    checkpoint: Path
    step: int
    interrupted: bool
    unfinished: bool


def train(job: TrainJob) -> TrainResult:
    """Train until the last step, the time limit or a signal.

    The run folder gets a manifest, metrics.jsonl, train.log and checkpoints/step-N.

    Raises:  ArcpipeError and its kinds for what the user must mend.
    """
    accelerator = _accelerator(job.settings)
    _check_out(job)
    stream = TrainingStream(
        job.puzzles, batch_size=job.settings.batch_size, seed=job.settings.seed,
        placement=job.settings.placement,
    )  # fmt: skip
    with enough_memory(job.settings.batch_size):
        state = _fresh_state(job, accelerator)
    _open_run(job, accelerator)
    state = _newest_state(job, state, accelerator)
    last_step = job.stop_at or job.settings.steps
    saved = state.step if _has_checkpoint(job) else None
    began = time.monotonic() - state.seconds
    reporter = Reporter(job.out / METRICS_FILE, job.settings, state, last_step, accelerator)
    with (
        naming_what_is_saved(job.out),
        enough_memory(job.settings.batch_size),
        closing(reporter),
        stop_on_signals() as signals,
    ):
        interrupted = False
        while state.step < last_step:
            state.seconds, interrupted = _agree(time.monotonic() - began, bool(signals), accelerator)
            if interrupted or (job.max_minutes is not None and state.seconds >= 60 * job.max_minutes):
                break
            rates = rates_at(job.settings, state.step, _progress(job, state))
            batch = stream.batch(state.step, accelerator.process_index, accelerator.num_processes)
            sums = train_step(state, batch.to(accelerator.device), job.settings, rates, accelerator)
            state.seconds = time.monotonic() - began
            reporter.step(sums, state, rates.trunk)
            if state.step % job.settings.checkpoint_every == 0:
                _checkpoint(job, state, accelerator)
                saved = state.step
        reporter.report(state)
        if saved != state.step:
            _checkpoint(job, state, accelerator)
    if interrupted:
        logger.info("stopped at step %d on a signal", state.step)
    elif state.step < last_step:
        logger.info("stopped at step %d: the time is up", state.step)
    return TrainResult(find_checkpoint(job.out), state.step, interrupted, unfinished=state.step < last_step)


def _accelerator(settings: TrainSettings) -> Accelerator:
    """The Accelerator; it decides where to run, the recipe decides the numerics."""
    # Without being told that there is no GPU, Accelerate leaves processes on CPUs alone with themselves.
    # CUDA or CPU: the loss is computed in float64, which MPS does not have.
    accelerator = Accelerator(mixed_precision="no", cpu=not torch.cuda.is_available())
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    dtype, reason = compute_dtype(settings.precision, accelerator.device)
    if asked != "no" and (asked != "bf16" or dtype != torch.bfloat16):
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
    if settings.batch_size % accelerator.num_processes:
        raise ArcpipeError(
            f"train.batch_size {settings.batch_size} does not divide by {accelerator.num_processes} processes"
        )
    return accelerator


def _check_out(job: TrainJob) -> None:
    """Refuse a run folder that exists, or to resume one of another recipe or dataset."""
    dataset = job.dataset
    if not job.resume:
        refuse_existing(job.out, "go on with --resume, choose another --out or remove it")
        return
    manifest = read_manifest(job.out, "run")
    if manifest["dataset"]["fingerprint"] != dataset["fingerprint"]:
        raise DataError(f"{job.out}: was trained on another dataset than {job.data_dir}")
    changes = recipe_changes(manifest["recipe"], job.recipe)
    if changes:
        raise ArcpipeError(f"{job.out}: cannot be resumed with another recipe ({'; '.join(changes)})")


def _open_run(job: TrainJob, accelerator: Accelerator) -> None:
    """Make the run folder, unless it is resumed, and log to it."""
    accelerator.wait_for_everyone()
    if accelerator.is_main_process and not job.resume:
        manifest = make_manifest("run", recipe=job.recipe, seed=job.settings.seed, dataset=job.dataset)
        with new_folder(job.out, manifest):
            pass
    accelerator.wait_for_everyone()
    start_logging(job.out / LOG_FILE)


def _fresh_state(job: TrainJob, accelerator: Accelerator) -> TrainState:
    """The state before the first step."""
    settings, device = job.settings, accelerator.device
    use_cpu_threads(settings.cpu_threads)
    dtype, _ = compute_dtype(settings.precision, device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = TRM(job.config, job.puzzles.num_tokens, VOCABULARY).to(device)
    wrapped, optimizer = accelerator.prepare(model, _optimizer(model, settings))
    return TrainState(
        model=model,
        wrapped=wrapped,
        optimizer=optimizer.optimizer,
        ema=EMA(model, settings.ema),
        # All rows start at zero, as the reference's do.
        rows=torch.zeros(job.puzzles.num_puzzles, job.config.puzzle_size, device=device),
        carry=model.empty_carry(settings.batch_size // accelerator.num_processes, dtype),
        step=0,
        seconds=0.0,
    )


def _newest_state(job: TrainJob, fresh: TrainState, accelerator: Accelerator) -> TrainState:
    """The state of the newest checkpoint if there is one, otherwise the fresh one; logs what it is."""
    state = fresh
    if _has_checkpoint(job):
        state = load_state(fresh, find_checkpoint(job.out), accelerator)
    weights = sum(weight.numel() for weight in state.model.parameters())
    dtype, reason = compute_dtype(job.settings.precision, accelerator.device)
    logger.info(
        "%s weights, %d puzzles x %d, %d tokens; %s on %s (%s), %d process(es), step %d",
        f"{weights:,}", job.puzzles.num_puzzles, job.config.puzzle_size, job.puzzles.num_tokens,
        _name(dtype), accelerator.device, reason, accelerator.num_processes, state.step,
    )  # fmt: skip
    return state


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _has_checkpoint(job: TrainJob) -> bool:
    """Whether there is something to go on from: a run can end before its first checkpoint."""
    return any((job.out / CHECKPOINTS).glob("step-*"))


def _optimizer(model: TRM, settings: TrainSettings) -> torch.optim.Optimizer:
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else AdamATan2
    betas = (settings.beta1, settings.beta2)
    return kind(model.parameters(), lr=settings.lr, betas=betas, weight_decay=settings.weight_decay)


def _agree(elapsed: float, stopping: bool, accelerator: Accelerator) -> tuple[float, bool]:
    """The same elapsed time and decision to stop on every process: the largest of each."""
    if accelerator.num_processes == 1:
        return elapsed, stopping
    own = torch.tensor([[elapsed, float(stopping)]], dtype=torch.float64, device=accelerator.device)
    largest = accelerator.gather(own).amax(dim=0).tolist()
    return largest[0], bool(largest[1])


def _progress(job: TrainJob, state: TrainState) -> float:
    """How far the run is, 0..1, by its steps or by its time limit, whichever is further."""
    by_time = state.seconds / (60 * job.max_minutes) if job.max_minutes else 0.0
    return min(1.0, max(state.step / job.settings.steps, by_time))


def _checkpoint(job: TrainJob, state: TrainState, accelerator: Accelerator) -> None:
    """Write checkpoints/step-N and remove all but the newest `keep_last`."""
    folder = job.out / CHECKPOINTS
    manifest = make_manifest("checkpoint", recipe=job.recipe, dataset=job.dataset)
    path = folder / f"step-{state.step:08d}"
    save_state(state, path, puzzle_keys(job.puzzles), job.puzzles.canvas, manifest, accelerator)
    if accelerator.is_main_process:
        kept = sorted(folder.glob("step-*"))
        # A temporary folder is what a killed write has left.
        for old in [*kept[: -job.settings.keep_last], *folder.glob(".step-*")]:
            shutil.rmtree(old, ignore_errors=True)
