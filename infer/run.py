"""Inference from files to files: checkpoint and dataset folder -> a folder of predictions."""

import hashlib
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from numpy.typing import NDArray
from pyarrow import parquet

from arcpipe.checkpoint import WEIGHTS, Checkpoint, load_checkpoint
from arcpipe.devices import refuse_lone_processes
from arcpipe.errors import ArcpipeError, DataError, OutputError, UnreadableError
from arcpipe.infer.coverage import Coverage
from arcpipe.infer.evaluate import evaluate, known_outputs
from arcpipe.infer.predict import InferSettings, Job, queue_of, solve
from arcpipe.locks import hold_folder
from arcpipe.log import logger
from arcpipe.predictions import SHARDS, read_candidates, read_shard, shard_files, write_shard
from arcpipe.puzzleset import PuzzleSet, read_puzzle_set
from arcpipe.recipe import recipe_changes
from arcpipe.runs import (
    file_hash,
    json_bytes,
    make_manifest,
    new_folder,
    read_manifest,
    refuse_existing,
    writing,
)
from arcpipe.signals import stop_on_signals
from arcpipe.tensorfiles import FILES


@dataclass(frozen=True)
class InferResult:
    """What a folder of predictions holds after an inference.

    candidates: rows in it. done, total: items of the queue, here and by all processes so far. interrupted: a
    signal ended it. scores, coverage: as `evaluate` gives them, None where the outputs are not known or
    other processes are not done yet.
    """

    candidates: int
    done: int
    total: int
    interrupted: bool
    scores: dict[str, float] | None
    coverage: Coverage | None

    @property
    def text(self) -> str:
        """The result in a line."""
        scores = "".join(f", {name} {score:.4f}" for name, score in (self.scores or {}).items())
        text = f"{self.candidates} candidates{scores}"
        if self.done < self.total:
            text += f"; {self.coverage.text}" if self.coverage else ""
            why = "stopped by a signal" if self.interrupted else "not all done"
            text += f"; {self.done} of {self.total} grids answered, {why}: go on with --resume"
        return text


@dataclass(frozen=True)
class _Request:
    """What to infer, and where to."""

    checkpoint: Checkpoint
    label: str
    data: Path
    puzzles: PuzzleSet
    out: Path
    settings: InferSettings

    def manifest(self) -> dict[str, Any]:
        """The manifest of the folder of predictions."""
        return make_manifest(
            "predictions",
            checkpoint=self.label,
            checkpoint_manifest=_identity(self.checkpoint),
            weights=file_hash(self.checkpoint.path / WEIGHTS),
            step=self.checkpoint.manifest.get("step"),
            family=self.puzzles.family.name,
            canvas=self.puzzles.canvas,
            data=str(self.data),
            dataset=read_manifest(self.data, "dataset")["fingerprint"],
            items=len(queue_of(self.puzzles, self.settings)),
            recipe={"infer": asdict(self.settings)},
        )


def infer_to_folder(
    checkpoint_path: Path, data: Path, out: Path, settings: InferSettings,
    *, resume: bool = False, max_minutes: float | None = None,
) -> InferResult:  # fmt: skip
    """Write the predictions for a dataset's test inputs, or go on with it.

    Each process of several does its own share and writes its own shards.

    Args:    max_minutes: end after this time; what is finished by then is kept.
    Raises:  OutputError if `out` exists or cannot be written, before anything is computed;
             CheckpointError or DataError if a part does not fit, or `out` is of something else.
    """
    began = time.monotonic()
    if not resume:
        refuse_existing(out, "go on with --resume, choose another --out or remove it")
    accelerator = _accelerator()
    request = _request(checkpoint_path, data, out, settings)
    with _opened(request, resume, accelerator) as manifest:
        done = _done(out, settings, request)
        rank, num_ranks = accelerator.process_index, accelerator.num_processes
        job = Job(
            request.checkpoint, request.puzzles, settings, manifest["checkpoint"], done, rank, num_ranks
        )
        _part(accelerator)
        with stop_on_signals() as is_asked_to_stop, _keeping(out, resume or num_ranks > 1):

            def stop() -> bool:
                late = max_minutes is not None and time.monotonic() - began >= 60 * max_minutes
                return late or is_asked_to_stop()

            for table in solve(job, accelerator.device, stop):
                write_shard(out, table, rank)
            interrupted = is_asked_to_stop()
        return _result(request, int(manifest["items"]), interrupted, num_ranks)


def _accelerator() -> Accelerator:
    # Not Apple's GPU, which Accelerate would take: it has no float64, and nothing here is tested on it.
    # Without being told that there is no GPU, Accelerate leaves processes on CPUs alone with themselves.
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    refuse_lone_processes(accelerator.num_processes, accelerator.device)
    return accelerator


def _request(checkpoint_path: Path, data: Path, out: Path, settings: InferSettings) -> _Request:
    """The checked parts; warns if the checkpoint was trained on another dataset."""
    checkpoint, puzzles = load_checkpoint(checkpoint_path), read_puzzle_set(data)
    step = checkpoint.manifest.get("step")
    label = f"{checkpoint_path}" if step is None else f"{checkpoint_path}@{step}"
    settings.plan(checkpoint.config.max_steps)
    queue_of(puzzles, settings)
    trained_on = checkpoint.manifest.get("dataset", {}).get("fingerprint")
    asked = read_manifest(data, "dataset").get("fingerprint")
    # A part of the training dataset may be meant, so this is no error.
    if trained_on and asked and trained_on != asked:
        logger.warning(
            "%s: trained on another dataset than %s: its test outputs may have been trained on",
            checkpoint.path, data,
        )  # fmt: skip
    return _Request(checkpoint, label, data, puzzles, out, settings)


@contextmanager
def _opened(request: _Request, resume: bool, accelerator: Accelerator) -> Iterator[dict[str, Any]]:
    """The manifest of the folder, which is made, or looked through and found to be of the same request;
    each process holds the folder until the block ends."""
    out, failed = request.out, None
    # Barrier: every process has seen that there is no such folder.
    accelerator.wait_for_everyone()
    with ExitStack() as held:
        if accelerator.is_main_process:
            try:
                if resume:
                    _check_same(request)
                else:
                    with new_folder(out, request.manifest()) as folder:
                        (folder / SHARDS).mkdir()
                held.enter_context(hold_folder(out))
                if resume:
                    _set_damaged_aside(out)
            except ArcpipeError as error:
                failed = error
        (failed,) = broadcast_object_list([failed])
        if failed is not None:
            raise failed
        if not accelerator.is_main_process:
            held.enter_context(hold_folder(out, accelerator.process_index))
        yield read_manifest(out, "predictions")


def _identity(checkpoint: Checkpoint) -> str:
    """The SHA-256 of a checkpoint's manifest without the hashes of its files, so that it stays the same
    checkpoint where it is copied elsewhere or handed on in part."""
    facts = {key: value for key, value in checkpoint.manifest.items() if key != FILES}
    return hashlib.sha256(json_bytes(facts)).hexdigest()


def _check_same(request: _Request) -> None:
    """Raises ArcpipeError if the folder was made with another checkpoint, dataset or settings."""
    before, now = read_manifest(request.out, "predictions"), request.manifest()
    where = f"{request.out}: cannot be resumed with another"
    same_weights = before.get("weights", now["weights"]) == now["weights"]
    if before.get("checkpoint_manifest") != now["checkpoint_manifest"] or not same_weights:
        raise ArcpipeError(f"{where} checkpoint: it was made with {before.get('checkpoint')}")
    if before.get("dataset") != now["dataset"]:
        raise DataError(f"{where} dataset: it was made for {before.get('data')}")
    # What decides no answer may change.
    free = {"batch_size": request.settings.batch_size, "compile": request.settings.compile}
    if changes := recipe_changes({"infer": before["recipe"]["infer"] | free}, now["recipe"]):
        raise ArcpipeError(f"{where} recipe ({'; '.join(changes)})")


def _set_damaged_aside(out: Path) -> None:
    """Rename shards that cannot be read, so that their items are answered again; drop unfinished ones."""
    for file in shard_files(out):
        try:
            read_shard(file)
        except UnreadableError:
            raise
        except DataError as error:
            logger.warning("%s; answering its part again, the file is kept as %s.damaged", error, file.name)
            with writing(file):
                file.rename(file.with_name(f"{file.name}.damaged"))
    for unfinished in (out / SHARDS).glob(".part-*.tmp"):
        unfinished.unlink(missing_ok=True)


def _done(out: Path, settings: InferSettings, request: _Request) -> NDArray[np.int64]:
    """The positions (M,) in the queue whose last answer is in the folder, sorted."""
    each = settings.plan(request.checkpoint.config.max_steps).answers_each
    columns = [parquet.ParquetFile(file).read(["order"])["order"].to_numpy() for file in shard_files(out)]
    orders = np.concatenate([np.zeros(0, np.int64), *columns])
    return np.unique(orders[orders % each == each - 1] // each)


def _part(accelerator: Accelerator) -> None:
    """Let the processes go their own ways: one that dies must not take the others with it."""
    accelerator.wait_for_everyone()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextmanager
def _keeping(out: Path, resumable: bool) -> Iterator[None]:
    """Adds the way on to an OutputError of the block; leaves no folder in which nothing was written."""
    try:
        yield
    except OutputError as error:
        raise OutputError(f"{error}; what is in {out} stays: make room, then go on with --resume") from None
    except ArcpipeError:
        if not resumable and not shard_files(out):
            shutil.rmtree(out, ignore_errors=True)
        raise


def _result(request: _Request, total: int, interrupted: bool, num_ranks: int) -> InferResult:
    """What is in the folder; scored by whichever process finds it complete, or by the only one."""
    files, out = shard_files(request.out), request.out
    candidates = sum(parquet.ParquetFile(file).metadata.num_rows for file in files)
    done = len(_done(out, request.settings, request))
    scores = coverage = None
    if done == total or num_ranks == 1:
        outputs = known_outputs(request.data, request.puzzles)
        if outputs is not None:
            scores, votes = evaluate(request.puzzles, outputs, read_candidates([out]))
            coverage = Coverage(int((votes > 0).sum()), len(votes), done, total)
    return InferResult(candidates, done, total, interrupted, scores, coverage)
