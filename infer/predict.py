"""Inference: a checkpoint's answers to the test inputs of a dataset, as a folder of predictions.

`infer_to_folder` makes or resumes the folder; each process answers its own share of the items with `predict`
and writes its own shards.
"""

import hashlib
import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from numpy.typing import NDArray
from pyarrow import parquet

from arcpipe import runs
from arcpipe.checkpoint import Checkpoint, load_checkpoint
from arcpipe.devices import explain_out_of_memory, refuse_lone_processes
from arcpipe.errors import ArcpipeError, CheckpointError, DataError, OutputError, UnreadableError
from arcpipe.infer.config import InferResult, InferSettings, deciding
from arcpipe.infer.engine import NONE, Engine
from arcpipe.infer.items import Answers, Schedule, WorkQueue, candidate_table, concatenate
from arcpipe.log import Progress, logger
from arcpipe.predictions import SHARDS, num_candidates, read_shard, shard_files, write_shard
from arcpipe.processes import Clock, stop_on_signals
from arcpipe.puzzleset import PuzzleSet, read_puzzle_set
from arcpipe.recipe import recipe_changes

FLUSH_EVERY_S = 30.0
_FLUSH_ROWS = 16_384
# The share of steps saved by --halt learned from which the log mentions it.
_WORTH_SAYING = 0.05


def infer_to_folder(
    checkpoint_path: Path, data: Path, out: Path, settings: InferSettings,
    *, resume: bool = False, max_minutes: float | None = None,
) -> InferResult:  # fmt: skip
    """Write the predictions for a dataset's test inputs to a new folder, or resume one.

    Args:    max_minutes: time limit of this call; finished items are kept.
    Raises:  OutputError, before any computation, if `out` exists or cannot be written; CheckpointError or
             DataError if checkpoint, dataset and folder do not fit.
    """
    clock = Clock(max_minutes)
    if not resume:
        runs.refuse_existing(out, "go on with --resume, choose another --out or remove it")
    # cpu=True without a GPU: otherwise Accelerate would not connect processes on CPUs, and would choose MPS
    # on a Mac, which has no float64.
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    rank, num_ranks = accelerator.process_index, accelerator.num_processes
    refuse_lone_processes(num_ranks, accelerator.device)
    checkpoint, puzzles = load_checkpoint(checkpoint_path), read_puzzle_set(data)
    answers_each = settings.plan(checkpoint.config).answers_each
    request = _request(checkpoint_path, checkpoint, data, puzzles, settings)
    with _open_folder(out, request, resume, answers_each, accelerator) as manifest:
        done = _done(out, answers_each)
        # From here on the processes are independent, so that one that dies does not end the others.
        accelerator.wait_for_everyone()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        signals: list[int] = []
        try:
            with stop_on_signals(signals) as is_asked_to_stop:
                for table in predict(
                    checkpoint, puzzles, settings, accelerator.device, label=manifest["checkpoint"],
                    done=done, rank=rank, num_ranks=num_ranks, stop=is_asked_to_stop,
                    left_s=lambda: clock.left_s,
                ):  # fmt: skip
                    write_shard(out, table, rank)
                interrupted = is_asked_to_stop()
        except OutputError as error:
            remedy = f"what is in {out} stays: make room, then go on with --resume"
            raise OutputError(f"{error}; {remedy}") from None
        except ArcpipeError:
            if not resume and num_ranks == 1 and not shard_files(out):
                shutil.rmtree(out, ignore_errors=True)
            raise
        answered, own = _done(out, answers_each), WorkQueue(manifest["items"], done, rank, num_ranks)
        late = not interrupted and not np.isin(own.take(own.left), answered).all()
        return InferResult(
            num_candidates(out), len(answered), manifest["items"], interrupted, late, alone=num_ranks == 1,
            by_ctrl_c=signal.SIGINT in signals,
        )  # fmt: skip


def _request(
    checkpoint_path: Path, checkpoint: Checkpoint, data: Path, puzzles: PuzzleSet, settings: InferSettings
) -> dict[str, Any]:
    """Return the manifest of the folder; warn if the checkpoint was trained on another dataset.

    Raises:  CheckpointError or DataError if the checkpoint does not know the dataset's puzzles.
    """
    step = checkpoint.manifest.get("step")
    trained_on = (checkpoint.manifest.get("dataset") or {}).get("fingerprint")
    fingerprint = runs.read_manifest(data, "dataset")["fingerprint"]
    if trained_on and trained_on != fingerprint:
        # Raises for unknown puzzles. Another dataset is no error: it may be a part of the training dataset.
        checkpoint.rows_by_id(puzzles)
        logger.warning(
            "%s: trained on another dataset than %s: its test outputs may have been trained on",
            checkpoint.path, data,
        )  # fmt: skip
    return runs.make_manifest(
        "predictions",
        checkpoint=f"{checkpoint_path}" if step is None else f"{checkpoint_path}@{step}",
        **identity(checkpoint),
        step=step,
        family=puzzles.family.name,
        canvas=puzzles.canvas,
        data=str(data),
        dataset=fingerprint,
        items=len(Schedule(puzzles, settings)),
        plan={**asdict(settings.plan(checkpoint.config)), "flow": checkpoint.config.flow},
        recipe={"infer": asdict(settings)},
    )


def identity(checkpoint: Checkpoint) -> dict[str, str]:
    """Return the hashes by which a checkpoint is known again: of its manifest and of its weights."""
    # Without the hashes of its files, so that a partial copy of the checkpoint counts as the same.
    facts = {key: value for key, value in checkpoint.manifest.items() if key != runs.FILES}
    return {
        "checkpoint_manifest": hashlib.sha256(runs.json_bytes(facts)).hexdigest(),
        "weights": runs.file_hash(checkpoint.path / runs.WEIGHTS),
    }


@contextmanager
def _open_folder(
    out: Path, request: dict[str, Any], resume: bool, answers_each: int, accelerator: Accelerator
) -> Iterator[dict[str, Any]]:
    """Make the folder, or check that it was made by the same request; yield its manifest.

    Each process has a lock on the folder until the block ends.
    """
    failure = None
    # Barrier: no process checks for an existing folder after the main process has made it.
    accelerator.wait_for_everyone()
    with ExitStack() as stack:
        if accelerator.is_main_process:
            try:
                if resume:
                    _check_same(out, request)
                else:
                    with runs.new_folder(out, request) as folder:
                        (folder / SHARDS).mkdir()
                stack.enter_context(runs.hold_folder(out))
                if resume:
                    _set_damaged_aside(out, request["items"] * answers_each)
            except ArcpipeError as error:
                failure = error
        (failure,) = broadcast_object_list([failure])
        if failure is not None:
            raise failure
        if not accelerator.is_main_process:
            stack.enter_context(runs.hold_folder(out, accelerator.process_index))
        yield runs.read_manifest(out, "predictions")


def _check_same(out: Path, request: dict[str, Any]) -> None:
    """Raise ArcpipeError if the folder was made with another checkpoint, dataset or settings."""
    manifest = runs.read_manifest(out, "predictions")
    if missing := [name for name in ("checkpoint", "items", "recipe") if name not in manifest]:
        raise DataError(f"{out}: cannot be resumed: its manifest.json lacks {', '.join(missing)}")
    where = f"{out}: cannot be resumed with another"
    # Folders of older versions have no hash of the weights.
    checkpoint = {"checkpoint_manifest": None, "weights": request["weights"]} | manifest
    if any(checkpoint[name] != request[name] for name in ("checkpoint_manifest", "weights")):
        raise ArcpipeError(f"{where} checkpoint: it was made with {manifest.get('checkpoint')}")
    if manifest.get("dataset") != request["dataset"]:
        raise DataError(f"{where} dataset: it was made for {manifest.get('data')}")
    before, after = ({"infer": deciding(facts["recipe"].get("infer", {}))} for facts in (manifest, request))
    if changes := recipe_changes(before, after):
        raise ArcpipeError(f"{where} recipe ({'; '.join(changes)})")


def _set_damaged_aside(out: Path, total: int) -> None:
    """Rename damaged shards, so that their items are answered again; remove unfinished ones.

    A shard is damaged if it cannot be read, or if a candidate in it has an order outside the shard's range or
    is in another shard too, as after two processes wrote to a disk without locks.

    Args:  total: candidates of all items.
    """
    taken = np.zeros(total, bool)
    for file in shard_files(out):
        try:
            orders, first = read_shard(file)["order"].to_numpy(), int(file.name.split("-")[1])
            if orders.min(initial=first) < first or orders.max(initial=0) >= total:
                raise DataError(f"{file}: holds candidates that are not its own")
            if taken[orders].any() or len(np.unique(orders)) < len(orders):
                raise DataError(f"{file}: holds candidates twice, or those of another file")
            taken[orders] = True
        except UnreadableError:
            raise
        except DataError as error:
            logger.warning("%s; answering its part again, the file is kept as %s.damaged", error, file.name)
            with runs.writing(file):
                file.rename(file.with_name(f"{file.name}.damaged"))
    for unfinished in (out / SHARDS).glob(".part-*.tmp"):
        unfinished.unlink(missing_ok=True)


def _done(out: Path, answers_each: int) -> NDArray[np.int64]:
    """Return the positions (M,) of the items whose last answer is in the folder, sorted."""
    files = shard_files(out)
    columns = [parquet.ParquetFile(file).read(["order"])["order"].to_numpy() for file in files]
    orders = np.concatenate([np.zeros(0, np.int64), *columns])
    return np.unique(orders[orders % answers_each == answers_each - 1] // answers_each)


def predict(
    checkpoint: Checkpoint, puzzles: PuzzleSet, settings: InferSettings, device: torch.device | None = None,
    *, label: str = "", done: NDArray[np.int64] = NONE, rank: int = 0, num_ranks: int = 1,
    needed: NDArray[np.intp] | None = None, stop: Callable[[], bool] = lambda: False,
    left_s: Callable[[], float] = lambda: math.inf,
) -> Iterator[pa.Table]:  # fmt: skip
    """Yield the candidates of a rank in tables, one every FLUSH_EVERY_S seconds if any row has finished.

    Args:    device: None for a GPU if there is one, else the CPU.
             label: the value of the column `checkpoint`.
             done, rank, num_ranks, needed: as of `Engine`.
             stop: returns whether to stop, before each supervision step; unfinished rows are dropped.
             left_s: returns the seconds left; no step begins that would take longer.
    Raises:  CheckpointError if the checkpoint does not know the dataset's puzzles, or none of its first
             answers is finite. If some are, the others are candidates without a grid.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    remedy = f"with batch_size={settings.batch_size} in inference: lower it"
    with explain_out_of_memory(remedy):
        engine = Engine(
            checkpoint, puzzles, settings, device, done=done, rank=rank, num_ranks=num_ranks, needed=needed
        )
    work, total, num_tests = engine.work, engine.work.left, len(puzzles.test_tasks)
    how, *notes = engine.notes
    logger.info(
        "%d test inputs, %d grids to answer, %d done; up to %d steps each; %s, %d process(es)",
        num_tests, len(engine.schedule), len(done), engine.plan.steps, how, num_ranks,
    )  # fmt: skip
    for note in notes:
        logger.info(note)
    finished: list[Answers] = []
    last_flush, step_s = time.monotonic(), 0.0
    with Progress(total=total, unit="grid", desc="infer", left_s=left_s) as bar:
        while engine.refill() and not stop() and left_s() > step_s:
            start = time.monotonic()
            try:
                with explain_out_of_memory(remedy):
                    finished += engine.step()
            except CheckpointError as error:
                raise CheckpointError(f"{checkpoint.path}: {error}") from None
            # The shortest one, because the first may compile.
            step_s = min(step_s or math.inf, time.monotonic() - start)
            answered = total - work.left - int(engine.busy.sum())
            if answered > bar.n:
                everywhere = len(done) + answered * num_ranks
                bar.set_postfix_str(f"{everywhere / num_tests:.1f} an input", refresh=False)
                bar.update(answered - bar.n)
            is_due = time.monotonic() - last_flush > FLUSH_EVERY_S
            if finished and (is_due or sum(map(len, finished)) >= _FLUSH_ROWS):
                yield candidate_table(puzzles, concatenate(finished), label)
                finished, last_flush = [], time.monotonic()
    if finished:
        yield candidate_table(puzzles, concatenate(finished), label)
    _log_end(engine, steps=engine.plan.steps * (total - work.left))


def _log_end(engine: Engine, steps: int) -> None:
    """Log which answers were not finite, and what a learned halt would have saved of so many steps."""
    if engine.broken:
        logger.warning(
            "%d of %d answers are not finite and have no grid: compute in float32, or choose an earlier "
            "checkpoint", engine.broken, engine.answers,
        )  # fmt: skip
    if (spared := int(engine.spared)) > _WORTH_SAYING * steps:
        logger.info("--halt learned would have saved %.0f%% of the steps", 100 * spared / steps)
