"""What can end a training before its last step: a full disk, too little memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from arcpipe.checkpoint import newest_checkpoint
from arcpipe.errors import ArcpipeError, CheckpointError, OutputError, one_line
from arcpipe.train.config import TrainSettings

# For the CPU's memory torch has no type of its own, nor for what a GPU's libraries take by themselves.
_OUT_OF_MEMORY = (
    "DefaultCPUAllocator", "Storage size calculation overflowed", "CUDA error: out of memory",
    "[CUDA]: out of memory", "CUBLAS_STATUS_ALLOC_FAILED",
)  # fmt: skip


@contextmanager
def naming_what_is_saved(run: Path) -> Iterator[None]:
    """Adds to an OutputError of the block, such as a full disk, what the run can be resumed from."""
    try:
        yield
    except OutputError as error:
        try:
            saved = f"{newest_checkpoint(run).name} is whole"
        except CheckpointError:
            saved = "there is no checkpoint yet"
        raise OutputError(f"{error}; {saved}: make room, then go on with --resume") from None


@contextmanager
def enough_memory(settings: TrainSettings) -> Iterator[None]:
    """Turns an allocator's error, torch's or numpy's, into an ArcpipeError that says what to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ArcpipeError(
            f"out of memory with {settings.table}.batch_size={settings.batch_size}: lower it or the sizes in "
            f"[model], or raise {settings.table}.accumulation ({one_line(error)})"
        ) from None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator, torch's or numpy's, raised this."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(part in str(error) for part in _OUT_OF_MEMORY)
