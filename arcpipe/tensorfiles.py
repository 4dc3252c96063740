"""Files of tensors: written, found to be what was written, and of values that can be computed with."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
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
_PART = 1 << 16
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file; OSError if that fails."""
    try:
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, path)
    except SafetensorError as error:
        raise OSError(None, one_line(error)) from None


def _sha256(file: BufferedReader) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def part_of_checkpoint(file: Path, manifest: Mapping[str, Any], remedy: str) -> Iterator[Path]:
    """A file for the block to read, whose SHA-256 is the one in the manifest, if that has any.

    Raises:  CheckpointError, which names the file, if it is not, or for what the block finds wrong with it;
             UnreadableError if it may not be read.
    """
    try:
        # Read here in any case: safetensors calls a file missing that it may not open.
        with reading(file), file.open("rb") as content:
            hashes = manifest.get(FILES)
            if isinstance(hashes, dict) and _sha256(content) != hashes.get(file.name):
                raise ValueError("it is not what was written: its SHA-256 is another")
        yield file
    except (OSError, ValueError, TypeError, KeyError, SafetensorError, pa.ArrowException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        raise CheckpointError(f"{file}: damaged checkpoint ({reason}); {remedy}") from None


def refuse_bad_values(tensors: Mapping[str, Tensor], where: Path) -> None:
    """Raises CheckpointError for the first tensor of another type, or with a value that is not finite."""
    for name, value in tensors.items():
        if value.dtype not in _DTYPES:
            found = str(value.dtype).removeprefix("torch.")
            raise CheckpointError(f"{where}: {name} is of type {found}, expected float32 or bfloat16")
        # The extremes are NaN if any value is, and finding them takes no memory.
        if value.numel() and not all(extreme.isfinite() for extreme in torch.aminmax(value)):
            raise CheckpointError(f"{where}: {name} holds values that are not finite")


def refuse_bad_rows(file: Path, what: str) -> None:
    """`refuse_bad_values` for the tensor `rows` of a file, mapped a part at a time: mapped at once, all of it
    would stay in memory.
    """
    start, count = 0, 1
    while start < count:
        with safe_open(file, "pt") as opened:
            rows = opened.get_slice("rows")
            count = rows.get_shape()[0]
            refuse_bad_values({what: rows[start : start + _PART]}, file.parent)
        start += _PART
