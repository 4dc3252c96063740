"""The files of a checkpoint: tensors that are written whole, and read only if they are what was written."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from arcpipe.errors import CheckpointError, one_line
from arcpipe.runs import reading

FILES = "files"
"""Where the manifest of a checkpoint has the SHA-256 of its files, by name; older ones have none."""

_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_ROWS_AT_ONCE = 1 << 16


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to a safetensors file.

    Raises:  OSError if that fails.
    """
    try:
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, path)
    except SafetensorError as error:
        raise OSError(None, one_line(error)) from None


@contextmanager
def checkpoint_part(
    file: Path, manifest: Mapping[str, Any], remedy: str = "choose another one of its run or train again"
) -> Iterator[Path]:
    """Yield a file of a checkpoint to read, whose SHA-256 is the one in the manifest, if that has any.

    Raises:  CheckpointError, which names the file, if it is not, or for what the block finds wrong with it;
             UnreadableError if it may not be read.
    """
    try:
        # Read here in any case: safetensors calls a file missing that it may not open.
        with reading(file), file.open("rb") as content:
            hashes = manifest.get(FILES)
            if isinstance(hashes, dict):
                digest = hashlib.file_digest(content, "sha256").hexdigest()
                if digest != hashes.get(file.name):
                    raise ValueError("it is not what was written: its SHA-256 is another")
        yield file
    except (OSError, ValueError, TypeError, KeyError, SafetensorError, pa.ArrowException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        raise CheckpointError(f"{file}: damaged checkpoint ({reason}); {remedy}") from None


def refuse_bad_values(tensors: Mapping[str, Tensor], where: Path) -> None:
    """Raise CheckpointError for the first tensor of another type, or with a value that is not finite."""
    for name, value in tensors.items():
        if value.dtype not in _DTYPES:
            dtype = str(value.dtype).removeprefix("torch.")
            raise CheckpointError(f"{where}: {name} is of type {dtype}, expected float32 or bfloat16")
        # The extremes are NaN if any value is, and finding them takes no memory.
        if value.numel() and not all(extreme.isfinite() for extreme in torch.aminmax(value)):
            raise CheckpointError(f"{where}: {name} holds values that are not finite")


def refuse_bad_rows(file: Path) -> None:
    """Refuse bad values of a puzzle table, some rows at a time: mapped at once, all would stay in memory."""
    start, count = 0, 1
    while start < count:
        with safe_open(file, "pt") as opened:
            rows = opened.get_slice("rows")
            count = rows.get_shape()[0]
            refuse_bad_values({"the puzzle table": rows[start : start + _ROWS_AT_ONCE]}, file.parent)
        start += _ROWS_AT_ONCE
