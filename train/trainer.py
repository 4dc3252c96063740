"""The trainer: any number of processes through Accelerate, one global batch, exact resume."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from accelerate import Accelerator

from arcpipe.batches import TrainingStream
from arcpipe.checkpoint import CHECKPOINTS, checkpoint_name
from arcpipe.errors import ArcpipeError
from arcpipe.log import logger, start_logging
from arcpipe.puzzleset import PuzzleSet
from arcpipe.signals import stop_on_signals
from arcpipe.train.checkpointing import Saver
from arcpipe.train.distributed import largest, naming_lost_processes
from arcpipe.train.guards import enough_memory, naming_what_is_saved
from arcpipe.train.job import TrainJob, TrainResult
from arcpipe.train.metrics import Reporter
from arcpipe.train.setup import (
    check_out,
    fresh_state,
    has_checkpoint,
    make_accelerator,
    newest_state,
    note_changes,
    open_run,
)
from arcpipe.train.state import TrainState
from arcpipe.train.step import NotFiniteError, cycles_at, rate_scale, train_step

NAMED_TASKS = 5
"""How many tasks an error names."""


def train(job: TrainJob) -> TrainResult:
    """Train until the last step, the time limit or a signal.

    The run folder gets a manifest, metrics.jsonl, train.log, checkpoints/step-N and, if it is evaluated,
    evaluations/step-N and best.json.

    Raises:  ArcpipeError and its kinds for what the user must mend.
    """
    start_logging()
    uneven = job.evaluation.max_minutes if job.evaluator else 0.0
    accelerator = make_accelerator(job.settings, job.out, uneven_minutes=uneven)
    changes = check_out(job)
    stream = _stream(job, accelerator)
    with enough_memory(job.settings), naming_lost_processes():
        state = fresh_state(job, accelerator)
    with (
        enough_memory(job.settings),
        naming_lost_processes(),
        open_run(job, accelerator),
        stop_on_signals() as is_asked_to_stop,
        naming_what_is_saved(job.out),
        _naming_tasks(job.puzzles),
    ):
        resumed = has_checkpoint(job.out)
        state = newest_state(job, state, accelerator)
        note_changes(job, changes, accelerator)
        interrupted = _run(job, state, stream, accelerator, is_asked_to_stop, resumed=resumed)
        step = state.step
        if interrupted:
            logger.info("stopped at step %d on a signal", step)
        elif step < job.last_step:
            logger.info("stopped at step %d: the time is up", step)
        # Before end_training(): NCCL may hang if its last user is collected later.
        del state
        accelerator.free_memory()
        accelerator.end_training()
    saved = job.out / CHECKPOINTS / checkpoint_name(step)
    return TrainResult(saved, step, interrupted, interrupted or step < job.last_step)


def _run(
    job: TrainJob, state: TrainState, stream: TrainingStream, accelerator: Accelerator,
    is_asked_to_stop: Callable[[], bool], *, resumed: bool,
) -> bool:  # fmt: skip
    """Train from `state` on, save and evaluate at the end; whether a signal ended that."""
    with closing(Reporter(job, state, accelerator)) as reporter:
        saver = Saver(job, state, accelerator, is_asked_to_stop, resumed=resumed)
        interrupted = _take_steps(job, state, stream, reporter, saver, accelerator)
        reporter.report(state)
        saver.save(state)
        if not interrupted:
            reporter.scores(state, saver.evaluate(state))
    return interrupted or saver.interrupted


def _take_steps(
    job: TrainJob, state: TrainState, stream: TrainingStream, reporter: Reporter, saver: Saver,
    accelerator: Accelerator,
) -> bool:  # fmt: skip
    """Take steps until there is a reason to stop; whether that was a signal."""
    on_gpu, workers = accelerator.device.type == "cuda", job.settings.workers
    if workers == "auto":
        workers = 1 if on_gpu else 0
    batches = stream.batches(state.step, job.last_step, workers, pin=on_gpu)
    began = time.monotonic() - state.seconds
    while state.step < job.last_step:
        state.seconds, stopping = largest([time.monotonic() - began, saver.stopping()], accelerator)
        if stopping:
            return True
        if job.max_minutes is not None and state.seconds >= 60 * job.max_minutes:
            return False
        reporter.scores(state, saver.due(state))
        if saver.interrupted:
            return True
        step_began = time.monotonic()
        progress = _progress(job, state)
        scale = rate_scale(job.settings, state.step, progress)
        state.model.cycles = cycles_at(job.settings, job.config, progress)
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
        rank=accelerator.process_index, num_ranks=accelerator.num_processes, layout=job.layout,
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


def _progress(job: TrainJob, state: TrainState) -> float:
    """How far the run is, 0..1, by its steps or by its time limit, whichever is further."""
    by_time = state.seconds / (60 * job.max_minutes) if job.max_minutes else 0.0
    return min(1.0, max(state.step / job.settings.steps, by_time))
