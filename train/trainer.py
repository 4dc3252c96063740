"""The trainer: one global batch over any number of processes, stopped and resumed at any step."""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import torch
from accelerate import Accelerator

from arcpipe import runs
from arcpipe.devices import compute_dtype, is_compiled
from arcpipe.errors import ArcpipeError, CheckpointError, DataError, OutputError
from arcpipe.log import command_line, logger, program, start_logging
from arcpipe.model_config import TRMConfig
from arcpipe.processes import stop_on_signals
from arcpipe.recipe import changes_since
from arcpipe.train.checkpointing import Checkpointer, resumed_state
from arcpipe.train.config import RUN_EXISTS, EvalSettings, TrainResult
from arcpipe.train.distributed import explain_failures, make_accelerator, reduce_max, run_on_main
from arcpipe.train.metrics import MetricsLogger
from arcpipe.train.run import TrainRun
from arcpipe.train.state import TrainState, fresh_state, make_ready
from arcpipe.train.step import NotFiniteError, cycles_at, rate_scale, train_step

LOG_FILE = "train.log"
# Settings that change no weight, so a run may be resumed with other values.
_FREE = (
    "trackers", "log_every", "checkpoint_every", "checkpoint_minutes", "keep_last", "workers", "recompute",
)  # fmt: skip
# FLOP/s of a CPU core; a longer training without a GPU logs a warning.
_CPU_FLOPS, _MOST_DAYS = 5e10, 2
# How many tasks an error names.
_NAMED_TASKS = 5


def train(run: TrainRun) -> TrainResult:
    """Train until the last step, the time limit or a signal.

    The run folder gets a manifest, metrics.jsonl, train.log, checkpoints/step-N and, if the recipe asks for
    evaluation, evaluations/step-N and best.json.

    Raises:  ArcpipeError for what the user can mend.
    """
    start_logging()
    evaluation_minutes = run.evaluation.max_minutes if run.evaluator else 0.0
    accelerator = make_accelerator(run.settings, run.out, evaluation_minutes=evaluation_minutes)
    # One process looks at the folder: on a shared disk another may not see yet what is there.
    changes = run_on_main(lambda: _check_folder(run), accelerator)
    signals: list[int] = []
    with explain_failures(run.settings):
        # Before the folder is made, so that a contradictory recipe leaves none.
        state = fresh_state(run, accelerator)
        with (
            _open_folder(run, accelerator), stop_on_signals(signals) as is_asked_to_stop,
            _suggest_remedies(run),
        ):  # fmt: skip
            resumed = run_on_main(lambda: bool(runs.whole_checkpoints(run.out)), accelerator)
            if resumed:
                state = resumed_state(run, state, accelerator)
            if changes:
                logger.warning("going on with another recipe: %s", "; ".join(changes))
                run_on_main(lambda: _freeze_recipe(run, changes), accelerator)
            _log_start(run, state, accelerator)
            for note in make_ready(state, run.settings, accelerator.device):
                logger.info(note)

            with closing(MetricsLogger(run, state, accelerator)) as metrics:
                checkpointer = Checkpointer(run, state, accelerator, is_asked_to_stop, resumed=resumed)
                interrupted = _take_steps(run, state, metrics, checkpointer, accelerator)
                metrics.report(state)
                saved = checkpointer.save(state)
                if not interrupted:
                    metrics.write(state, checkpointer.evaluate(state))
                    interrupted = checkpointer.interrupted

            step = state.step
            if interrupted:
                logger.info("stopped at step %d on a signal", step)
            elif step < run.last_step:
                logger.info("stopped at step %d of %d: the time is up", step, run.last_step)
            # Before end_training(): NCCL may hang if DDP is collected after its process group.
            del state
            accelerator.free_memory()
            accelerator.end_training()
    unfinished = interrupted or step < run.last_step
    return TrainResult(saved, step, interrupted, unfinished, signal.SIGINT in signals)


def _take_steps(
    run: TrainRun, state: TrainState, metrics: MetricsLogger, checkpointer: Checkpointer,
    accelerator: Accelerator,
) -> bool:  # fmt: skip
    """Take steps until the last one, the time limit or a signal; return whether it was a signal."""
    settings = run.settings
    on_gpu, workers = accelerator.device.type == "cuda", settings.workers
    if workers == "auto":
        workers = 1 if on_gpu else 0
    stream = run.stream(accelerator.process_index, accelerator.num_processes)
    batches = stream.batches(state.step, run.last_step, workers, pin=on_gpu)
    start_time, step_s = time.monotonic() - state.seconds, 0.0
    compiled, before = any(map(is_compiled, state.model.blocks)), None
    while state.step < run.last_step:
        left_s = run.clock.left_s - checkpointer.end_s - step_s
        # The processes agree on the time and on when to stop.
        state.seconds, late_s, stopping = reduce_max(
            [time.monotonic() - start_time, -left_s, checkpointer.stopping()], accelerator
        )
        if stopping:
            return True
        if late_s >= 0:
            return False
        # How far the run is, 0..1, by its steps or by its time limit, whichever is further.
        by_time = state.seconds / (state.seconds - late_s)
        progress = min(1.0, max(state.step / settings.steps, by_time))
        if scores := checkpointer.due(state, progress):
            metrics.write(state, scores)
            if checkpointer.interrupted:
                return True
            # The evaluation may have used up the time.
            continue
        step_start = time.monotonic()
        scale = rate_scale(settings, state.step, progress)
        state.model.cycles = cycles_at(settings, run.config, progress)
        rows_only = progress < settings.rows_only
        batch = next(batches).to(accelerator.device)
        sums = train_step(state, batch, settings, scale, accelerator, rows_only=rows_only)
        step_s = time.monotonic() - step_start
        if compiled and rows_only != before:
            # The first step, or the first in which the weights learn too: compilation counts neither
            # toward the schedule nor toward the speed.
            logger.info("compiled: this step took %.0f s", step_s)
            start_time, step_s = start_time + step_s, 0.0
        before = rows_only
        state.seconds = time.monotonic() - start_time
        metrics.step(sums, state, settings.lr * scale, step_s)
    return False


def _log_start(run: TrainRun, state: TrainState, accelerator: Accelerator) -> None:
    """Log what is trained and on which hardware."""
    weights = sum(weight.numel() for weight in state.model.parameters())
    dtype, reason = compute_dtype(run.settings.precision, accelerator.device)
    logger.info(
        "%s weights, %d puzzles x %d, %d tokens; %s on %s (%s), %d process(es), step %d",
        f"{weights:,}", run.puzzles.num_puzzles, run.config.puzzle_size, run.puzzles.num_tokens,
        str(dtype).removeprefix("torch."), accelerator.device, reason, accelerator.num_processes, state.step,
    )  # fmt: skip
    if state.step >= run.last_step:
        logger.warning(
            "already at step %d, so there is nothing to train: --steps and %s.steps count from the start",
            state.step, run.settings.table,
        )  # fmt: skip
    if accelerator.num_processes == 1 and torch.cuda.device_count() > 1:
        logger.info("one of %d GPUs is used: --processes auto takes all", torch.cuda.device_count())
    sample_flops = run.sample_flops(cycles_at(run.settings, run.config, 1.0))
    days = run.settings.steps * run.settings.batch_size * sample_flops / _CPU_FLOPS / 86400
    if accelerator.device.type == "cpu" and days > _MOST_DAYS * accelerator.num_processes:
        logger.warning(
            "NO GPU FOUND, for which this recipe is made: all its steps take a core of a CPU about %s days; "
            "`%s doctor` says why there is none", f"{days:,.0f}", program(),
        )  # fmt: skip
    if run.layout.buckets:
        logger.info("canvases: %s", run.layout.text)


def _check_folder(run: TrainRun) -> list[str]:
    """Check that the run folder can be made or resumed; return the changes of the recipe since it was made.

    Raises:  OutputError if a new folder exists; DataError for another dataset; ArcpipeError for a change of
             the recipe that is not allowed; CheckpointError if there is no checkpoint to resume from.
    """
    if run.folder == "new":
        runs.refuse_existing(run.out, RUN_EXISTS)
    if run.folder != "resumed":
        return []
    manifest = runs.read_manifest(run.out, "run")
    if (manifest.get("dataset") or {}).get("fingerprint") != run.dataset["fingerprint"]:
        raise DataError(f"{run.out}: was trained on another dataset than {run.data_dir}")
    defaults = {"model": TRMConfig(), run.settings.table: type(run.settings)(), "eval": EvalSettings()}
    changes = changes_since(manifest.get("recipe", {}), run.recipe, defaults)
    if run.init is not None and str(run.init) != manifest.get("init"):
        changes.append(f"--init: {manifest.get('init')} -> {run.init}")
    for change in changes:
        if change.startswith(f"{run.settings.table}.optimizer:"):
            raise ArcpipeError(
                f"{run.out}: an optimizer cannot go on with the state of another ({change}): repeat it, "
                "or begin a new run from this one with --init"
            )
    free = ("eval.", *(f"{run.settings.table}.{name}:" for name in _FREE))
    if not run.force and any(not change.startswith(free) for change in changes):
        words = ("train", run.out, "--data", run.data_dir, "--out", run.out, "--resume")
        own = command_line(*words) if run.settings.table == "train" else f"--recipe {run.out}"
        raise ArcpipeError(
            f"{run.out}: was trained with another recipe ({'; '.join(changes)}); repeat its settings with "
            f"{own}, or go on with these by --force"
        )
    whole = runs.whole_checkpoints(run.out)
    if run.from_step is not None and run.from_step not in whole:
        others = f"those of steps {', '.join(map(str, whole))}" if whole else "none"
        raise CheckpointError(f"{run.out}: has no whole checkpoint of step {run.from_step}, but {others}")
    if not whole and (broken := runs.named_checkpoints(run.out)):
        names = ", ".join(path.name for path in broken.values())
        raise CheckpointError(
            f"{run.out}: none of its checkpoints is whole ({names}): copy the run again, or move them away "
            "to begin anew"
        )
    return changes


def _freeze_recipe(run: TrainRun, changes: list[str]) -> None:
    """Write the new recipe and its changes to the manifest of the run folder."""
    manifest = runs.read_manifest(run.out, "run")
    manifest |= {"recipe": run.recipe, "changes": [*manifest.get("changes", []), *changes]}
    runs.write_json(run.out / runs.MANIFEST, manifest)


@contextmanager
def _open_folder(run: TrainRun, accelerator: Accelerator) -> Iterator[None]:
    """Make the run folder if it is new; lock it and log to it until the block ends.

    Raises:  OutputError, on every process, if another training holds the folder.
    """

    def make() -> None:
        manifest = runs.make_manifest(
            "run", recipe=run.recipe, seed=run.settings.seed, dataset=run.dataset,
            init=None if run.init is None else str(run.init),
        )  # fmt: skip
        with runs.new_folder(run.out, manifest):
            pass

    if run.folder == "new":
        run_on_main(make, accelerator)
    with ExitStack() as stack:
        run_on_main(lambda: stack.enter_context(runs.hold_folder(run.out)), accelerator)
        # Stop logging to train.log once training ends.
        stack.callback(start_logging)
        start_logging(run.out / LOG_FILE)
        if run.settings.trackers:
            flat = {
                f"{name}.{key}": str(value)
                for name, table in run.recipe.items()
                for key, value in table.items()
            }
            accelerator.init_trackers("arcpipe", config=flat)
        yield


@contextmanager
def _suggest_remedies(run: TrainRun) -> Iterator[None]:
    """Add to an OutputError the checkpoint to resume from, and to a NotFiniteError the tasks concerned."""
    try:
        yield
    except OutputError as error:
        try:
            saved = f"{runs.newest_checkpoint(run.out).name} is whole"
        except CheckpointError:
            saved = "there is no checkpoint yet"
        raise OutputError(f"{error}; {saved}: make room, then go on with --resume") from None
    except NotFiniteError as error:
        table = run.puzzles.table
        tasks = [table.task_ids[number] for number in dict.fromkeys(table.tasks[error.puzzle_ids].tolist())]
        more = f" and {len(tasks) - _NAMED_TASKS} more" if len(tasks) > _NAMED_TASKS else ""
        raise ArcpipeError(f"{error} (its tasks: {', '.join(tasks[:_NAMED_TASKS])}{more})") from None
