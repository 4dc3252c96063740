"""Accelerate: the processes of a training, what they agree on, and how they end.

No process goes on alone, and none waits for one that has ended.
"""

import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import gather_object
from torch import Tensor

from arcpipe.devices import compute_dtype, refuse_lone_processes
from arcpipe.errors import LOST, ArcpipeError, one_line, says_out_of_memory
from arcpipe.train.config import TrainSettings

Result = TypeVar("Result")
_TIMEOUT_MINUTES = 30.0
# What gloo, which has no errors of its own, says where the other end is gone.
_OF_GLOO = ("gloo", "Connection closed by peer", "Connection reset by peer")


def make_accelerator(
    settings: TrainSettings, logging_dir: Path | None = None, *, uneven_minutes: float = 0.0
) -> Accelerator:
    """Make the Accelerator; it decides where to run, the recipe decides the numerics.

    Args:    logging_dir: where trackers that write files do so.
             uneven_minutes: added to the timeout of collectives, for evaluation.
    Raises:  ArcpipeError if the launcher's configuration and the recipe contradict each other.
    """
    # cpu=True where there is no GPU: otherwise Accelerate would not join processes that run on CPUs.
    # CUDA or CPU only: the loss is computed in float64, which MPS does not have.
    timeout = timedelta(minutes=_TIMEOUT_MINUTES + uneven_minutes)
    for name in settings.trackers:
        if name not in LOGGER_TYPE_TO_CLASS:
            names = ", ".join(map(str, LOGGER_TYPE_TO_CLASS))
            raise ArcpipeError(f"{settings.table}.trackers: {name!r} is none of Accelerate's: {names}")
        if name not in map(str, get_available_trackers()):
            raise ArcpipeError(f"{settings.table}.trackers: {name} is not installed (pip install {name})")
    accelerator = Accelerator(
        mixed_precision="no", cpu=not torch.cuda.is_available(), log_with=settings.trackers or None,
        project_dir=logging_dir, kwargs_handlers=[InitProcessGroupKwargs(timeout=timeout)],
    )  # fmt: skip
    # Barrier: a rank that raises below would leave the others waiting for it.
    accelerator.wait_for_everyone()
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    dtype, reason = compute_dtype(settings.precision, accelerator.device)
    if launched != "no" and {"bf16": torch.bfloat16, "fp16": torch.float16}.get(launched) != dtype:
        raise ArcpipeError(
            f"Accelerate's configuration asks for mixed precision {launched}, but {settings.table}."
            f"precision={settings.precision} is {str(dtype).removeprefix('torch.')} here ({reason}): "
            "make them agree (accelerate launch --mixed_precision no)"
        )
    refuse_lone_processes(accelerator.num_processes, accelerator.device)
    if settings.batch_size % (accelerator.num_processes * settings.accumulation):
        of_each = f" x {settings.table}.accumulation {settings.accumulation}"
        raise ArcpipeError(
            f"{settings.table}.batch_size {settings.batch_size} does not divide by "
            f"{accelerator.num_processes} processes" + (of_each if settings.accumulation > 1 else "")
        )
    return accelerator


def largest(values: Sequence[float], accelerator: Accelerator) -> list[float]:
    """Return the largest of each value over all processes."""
    if accelerator.num_processes == 1:
        return list(values)
    own = torch.tensor([values], dtype=torch.float64, device=accelerator.device)
    maxima: list[float] = accelerator.gather(own).amax(dim=0).tolist()
    return maxima


def all_do(action: Callable[[], Result], accelerator: Accelerator) -> list[Result | None]:
    """Run an action on each process and return its results by rank; every process must call this.

    Raises:  on every process, the error of the first one on which it fails with an ArcpipeError.
    """
    result, failed = None, None
    try:
        result = action()
    except ArcpipeError as raised:
        failed = raised
    outcomes = [(result, failed)]
    if accelerator.num_processes > 1:
        outcomes = gather_object(outcomes)
    for _, error in outcomes:
        if error is not None:
            raise error
    return [returned for returned, _ in outcomes]


def all_work(
    work: Callable[[Callable[[], bool]], object], is_asked_to_stop: Callable[[], bool],
    accelerator: Accelerator,
) -> bool:  # fmt: skip
    """Run `work(stop)` on each process and return whether any was asked to stop, which ends them all.

    `stop` is collective: its n-th call meets the n-th call of the other processes. A process whose work is
    done calls it until all are done, so that they may differ in their numbers of calls.

    Raises:  on every process, the error of the first one whose work fails with an ArcpipeError.
    """
    stopped = False

    def stop() -> bool:
        nonlocal stopped
        stopped = stopped or bool(largest([is_asked_to_stop(), True], accelerator)[0])
        return stopped

    def take_part() -> None:
        nonlocal stopped
        try:
            work(stop)
        except ArcpipeError:
            if not stopped:
                largest([True, False], accelerator)
            raise
        working = True
        while working and not stopped:
            stopped, working = map(bool, largest([is_asked_to_stop(), False], accelerator))

    all_do(take_part, accelerator)
    return stopped


def first_does(action: Callable[[], Result], accelerator: Accelerator) -> Result:
    """Run an action on the first process alone and return its result there; errors as in `all_do`."""
    (result, *_) = all_do(lambda: action() if accelerator.is_main_process else None, accelerator)
    return result  # type: ignore[return-value]  # None is of the other processes


def shared_zeros(shape: tuple[int, int], dtype: torch.dtype, accelerator: Accelerator) -> Tensor:
    """Return zeros on the CPU that the processes of a machine share; every process must call this.

    They are a file in TMPDIR that all of them map. It has no name once they do, so that nothing stays of it
    however they end.

    Raises:  ArcpipeError, on every process, if there is no room for it.
    """
    folder, size = tempfile.gettempdir(), math.prod(shape) * dtype.itemsize
    path: str | None = None

    def make() -> str | None:
        nonlocal path
        if not accelerator.is_local_main_process:
            return None
        try:
            descriptor, path = tempfile.mkstemp(prefix="arcpipe-rows-")
            with os.fdopen(descriptor, "wb") as file:
                if sys.platform == "linux":
                    # Without room for its content, who writes to its map is killed.
                    os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            raise ArcpipeError(
                f"{folder}: no room for puzzle rows of {size / 1e9:.2f} GB ({error.strerror}): set TMPDIR to "
                "a folder that has it"
            ) from None
        return path

    try:
        paths = all_do(make, accelerator)
        # The processes of a machine have successive numbers.
        own = paths[accelerator.process_index - accelerator.local_process_index]
        assert own is not None
        zeros = torch.from_file(own, shared=True, size=math.prod(shape), dtype=dtype).view(shape)
        accelerator.wait_for_everyone()
    finally:
        if path is not None:
            os.unlink(path)
    return zeros


@contextmanager
def naming_failures(settings: TrainSettings | None = None) -> Iterator[None]:
    """Turn into an ArcpipeError what the block raises where another process has ended, or memory has.

    Args:  settings: those to lower where memory ends; None if another thing takes it.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, torch.distributed.DistError) or any(part in str(error) for part in _OF_GLOO):
            raise ArcpipeError(
                f"{LOST} training has ended; what it said tells why: mend that, then go on with --resume"
            ) from None
        if settings is None or not is_out_of_memory(error):
            raise
        raise ArcpipeError(
            f"out of memory with {settings.table}.batch_size={settings.batch_size}: lower it or the sizes in "
            f"[model], or raise {settings.table}.accumulation ({one_line(error)})"
        ) from None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an allocator, torch's or numpy's, raised this."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or says_out_of_memory(str(error))
