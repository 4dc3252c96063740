"""The trainer: any number of processes through Accelerate, one global batch, exact resume."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import torch
from accelerate import Accelerator

from arcpipe.batches import TrainingStream
from arcpipe.checkpoint import newest_checkpoint
from arcpipe.errors import ArcpipeError
from arcpipe.log import logger
from arcpipe.puzzleset import PuzzleSet
from arcpipe.signals import stop_on_signals
from arcpipe.train.guards import enough_memory, naming_what_is_saved
from arcpipe.train.job import TrainJob, TrainResult
from arcpipe.train.report import Reporter
from arcpipe.train.saving import Saver
from arcpipe.train.setup import (
    check_out,
    fresh_state,
    has_checkpoint,
    make_accelerator,
    newest_state,
    open_run,
)
from arcpipe.train.state import TrainState
from arcpipe.train.step import NotFiniteError, rate_scale, train_step

NAMED_TASKS = 5
"""How many tasks an error names."""


def train(job: TrainJob) -> TrainResult:
    """Train until the last step, the time limit or a signal.

    The run folder gets a manifest, metrics.jsonl, train.log, checkpoints/step-N and, if it is evaluated,
    evaluations/step-N and best.json.

    Raises:  ArcpipeError and its kinds for what the user must mend.
    """
    accelerator = make_accelerator(job.settings, job.out)
    check_out(job)
    stream = _stream(job, accelerator)
    with enough_memory(job.settings.batch_size):
        state = fresh_state(job, accelerator)
    open_run(job, accelerator)
    resumed = has_checkpoint(job.out)
    state = newest_state(job, state, accelerator)
    reporter = Reporter(job, state, accelerator)
    with (
        naming_what_is_saved(job.out),
        enough_memory(job.settings.batch_size),
        _naming_tasks(job.puzzles),
        closing(reporter),
        stop_on_signals() as signals,
    ):
        saver = Saver(job, state, accelerator, lambda: bool(signals), resumed=resumed)
        interrupted = _run(job, state, stream, reporter, saver, signals, accelerator)
        reporter.report(state)
        saver.save(state)
        if not interrupted and (job.evaluation.every or job.evaluation.every_minutes):
            reporter.scores(state, saver.evaluate(state))
    if interrupted:
        logger.info("stopped at step %d on a signal", state.step)
    elif state.step < job.last_step:
        logger.info("stopped at step %d: the time is up", state.step)
    accelerator.end_training()
    return TrainResult(
        newest_checkpoint(job.out), state.step, interrupted, unfinished=state.step < job.last_step
    )


def _run(
    job: TrainJob, state: TrainState, stream: TrainingStream, reporter: Reporter, saver: Saver,
    signals: list[int], accelerator: Accelerator,
) -> bool:  # fmt: skip
    """Take steps until there is a reason to stop; whether that was a signal."""
    pin = accelerator.device.type == "cuda"
    batches = stream.batches(state.step, job.last_step, job.settings.workers, pin=pin)
    began = time.monotonic() - state.seconds
    while state.step < job.last_step:
        state.seconds, interrupted = _agree(time.monotonic() - began, bool(signals), accelerator)
        if interrupted:
            return True
        if job.max_minutes is not None and state.seconds >= 60 * job.max_minutes:
            return False
        reporter.scores(state, saver.due(state))
        step_began = time.monotonic()
        progress = _progress(job, state)
        scale = rate_scale(job.settings, state.step, progress)
        sums = train_step(
            state, next(batches).to(accelerator.device), job.settings, scale, accelerator,
            rows_only=progress < job.settings.rows_only,
        )  # fmt: skip
        state.seconds = time.monotonic() - began
        reporter.step(sums, state, job.settings.lr * scale, time.monotonic() - step_began)
    return False


def _stream(job: TrainJob, accelerator: Accelerator) -> TrainingStream:
    settings = job.settings
    return TrainingStream(
        job.puzzles, batch_size=settings.batch_size, seed=settings.seed, placement=settings.placement,
        rank=accelerator.process_index, num_ranks=accelerator.num_processes,
    )  # fmt: skip


@contextmanager
def _naming_tasks(puzzles: PuzzleSet) -> Iterator[None]:
    """Adds to a NotFiniteError of the block the tasks that its puzzle ids stand for."""
    try:
        yield
    except NotFiniteError as error:
        numbers = dict.fromkeys(puzzles.table.tasks[error.puzzle_ids].tolist())
        tasks = [puzzles.table.task_ids[number] for number in numbers]
        more = f" and {len(tasks) - NAMED_TASKS} more" if len(tasks) > NAMED_TASKS else ""
        raise ArcpipeError(f"{error} (its tasks: {', '.join(tasks[:NAMED_TASKS])}{more})") from None


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
