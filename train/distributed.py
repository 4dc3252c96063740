"""The Accelerator, collective decisions of all processes, and errors when one process fails.

All processes take the same branches, and an error on one ends them all.
"""

import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import gather_object
from torch import Tensor

from arcpipe.devices import compute_dtype, explain_out_of_memory, refuse_lone_processes
from arcpipe.errors import LOST, ArcpipeError
from arcpipe.train.config import TrainSettings

Result = TypeVar("Result")
_TIMEOUT_MINUTES = 30.0
# gloo raises a plain RuntimeError when its peer is gone; these words identify it.
_GLOO_ERRORS = ("gloo", "Connection closed by peer", "Connection reset by peer")


def make_accelerator(
    settings: TrainSettings, logging_dir: Path | None = None, *, evaluation_minutes: float = 0.0
) -> Accelerator:
    """Make the Accelerator; it decides where to run, the recipe decides the numerics.

    Args:    logging_dir: the folder that file-based trackers write to.
             evaluation_minutes: added to the timeout of collectives, because processes evaluate at their
             own pace.
    Raises:  ArcpipeError if the launcher's configuration and the recipe contradict each other.
    """
    timeout = timedelta(minutes=_TIMEOUT_MINUTES + evaluation_minutes)
    for name in settings.trackers:
        if name not in LOGGER_TYPE_TO_CLASS:
            names = ", ".join(map(str, LOGGER_TYPE_TO_CLASS))
            raise ArcpipeError(f"{settings.table}.trackers: {name!r} is none of Accelerate's: {names}")
        if name not in map(str, get_available_trackers()):
            raise ArcpipeError(f"{settings.table}.trackers: {name} is not installed (pip install {name})")
    local, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if 0 < gpus <= local:
        raise ArcpipeError(
            f"process {local} of this machine sees {gpus} GPU(s): start one process per GPU, and let each "
            "see all of them (srun --gpu-bind=none)"
        )
    # cpu=True without a GPU: otherwise Accelerate would not connect processes on CPUs, and would choose MPS
    # on a Mac, which lacks the float64 of the loss.
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


def reduce_max(values: Sequence[float], accelerator: Accelerator) -> list[float]:
    """Return the maximum of each value over all processes."""
    if accelerator.num_processes == 1:
        return list(values)
    own = torch.tensor([values], dtype=torch.float64, device=accelerator.device)
    maxima: list[float] = accelerator.gather(own).amax(dim=0).tolist()
    return maxima


def run_on_all(action: Callable[[], Result], accelerator: Accelerator) -> list[Result | None]:
    """Run an action on every process and return the results by rank; every process must call this.

    Raises:  on every process, the ArcpipeError of the lowest rank whose action failed.
    """
    outcome: tuple[Result | None, ArcpipeError | None]
    try:
        outcome = action(), None
    except ArcpipeError as failure:
        outcome = None, failure
    outcomes = gather_object([outcome]) if accelerator.num_processes > 1 else [outcome]
    for _, error in outcomes:
        if error is not None:
            raise error
    return [result for result, _ in outcomes]


def run_stoppable(
    work: Callable[[Callable[[], bool]], object], is_asked_to_stop: Callable[[], bool],
    accelerator: Accelerator,
) -> bool:  # fmt: skip
    """Run `work(stop)` on every process; return whether a request to stop on any of them ended it on all.

    `work` calls `stop()` before each of its steps and ends if it is true. The n-th call on one process meets
    the n-th on the others, and a process that is done goes on calling until all are.

    Raises:  on every process, the ArcpipeError of the lowest rank whose work failed.
    """
    stopped = False

    def stop() -> bool:
        nonlocal stopped
        stopped = stopped or bool(reduce_max([is_asked_to_stop(), True], accelerator)[0])
        return stopped

    def work_until_all_finish() -> None:
        nonlocal stopped
        try:
            work(stop)
        except ArcpipeError:
            if not stopped:
                reduce_max([True, False], accelerator)
            raise
        working = True
        while working and not stopped:
            stopped, working = map(bool, reduce_max([is_asked_to_stop(), False], accelerator))

    run_on_all(work_until_all_finish, accelerator)
    return stopped


def run_on_main(action: Callable[[], Result], accelerator: Accelerator) -> Result:
    """Run an action on the main process and return its result on every process; errors as in `run_on_all`."""
    (result, *_) = run_on_all(lambda: action() if accelerator.is_main_process else None, accelerator)
    return result  # type: ignore[return-value]  # only other ranks have None


def shared_zeros(shape: tuple[int, int], dtype: torch.dtype, accelerator: Accelerator) -> Tensor:
    """Return zeros in CPU memory that the processes of a machine share; every process must call this.

    All map one file in TMPDIR, which is unlinked at once, so the kernel frees it however they end.

    Raises:  ArcpipeError, on every process, if the file does not fit the disk.
    """
    size = math.prod(shape) * dtype.itemsize
    with ExitStack() as stack:

        def make() -> str | None:
            if not accelerator.is_local_main_process:
                return None
            try:
                file = stack.enter_context(tempfile.NamedTemporaryFile(prefix="arcpipe-rows-"))
                if sys.platform == "linux":
                    # Reserve the blocks now: writing to the map of a sparse file on a full disk is SIGBUS.
                    os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                raise ArcpipeError(
                    f"{tempfile.gettempdir()}: no room for puzzle rows of {size / 1e9:.2f} GB "
                    f"({error.strerror}): set TMPDIR to a folder that has it"
                ) from None
            return file.name

        paths = run_on_all(make, accelerator)
        # Ranks on one machine are consecutive.
        own = paths[accelerator.process_index - accelerator.local_process_index]
        assert own is not None
        zeros = torch.from_file(own, shared=True, size=math.prod(shape), dtype=dtype).view(shape)
        accelerator.wait_for_everyone()
    return zeros


@contextmanager
def explain_failures(settings: TrainSettings | None = None) -> Iterator[None]:
    """Raise an ArcpipeError instead of the error of a lost process or of exhausted memory.

    Args:  settings: the settings to lower if memory runs out; None to let that error pass.
    """
    remedy: AbstractContextManager[None] = nullcontext()
    if settings is not None:
        batch, parts = f"{settings.table}.batch_size", f"{settings.table}.accumulation"
        remedy = explain_out_of_memory(
            f"with {batch}={settings.batch_size}: lower it or the sizes in [model], or raise {parts}"
        )
    try:
        with remedy:
            yield
    except RuntimeError as error:
        if isinstance(error, torch.distributed.DistError) or any(part in str(error) for part in _GLOO_ERRORS):
            raise ArcpipeError(
                f"{LOST} training has ended; what it said tells why: mend that, then go on with --resume"
            ) from None
        raise
