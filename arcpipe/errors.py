"""Errors that the user can fix, and texts about errors.

The command line prints their message as one line on stderr and exits with code 2. Any other exception is a
bug: it keeps its traceback and exits with code 1.
"""

import re

# Terminal controls and bidirectional marks. Line breaks and tabs do not match; group 1 is a colored cell.
_CONTROLS = re.compile(
    "(\x1b\\[[0-9;]*m[ \u2580]+\x1b\\[0m)|"
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
)
# Messages of torch, numpy, Python and GPU libraries, in lower case.
_OUT_OF_MEMORY = (
    "out of memory",
    "outofmemory",
    "memoryerror",
    "can't allocate memory",
    "unable to allocate",
    "storage size calculation overflowed",
    "cublas_status_alloc_failed",
)
LOST = "another process of this"
"""The beginning of a process's error if the cause is in another process."""
NOT_FINITE = "the loss or its gradient is not finite"
IN_FLOAT16 = f"{NOT_FINITE} in float16"
"""What the error of a training that diverges says, by which the Kaggle notebook recognizes it."""


class ArcpipeError(Exception):
    """An error that the user can fix: the message names the problem, its place and the remedy."""


class DataError(ArcpipeError):
    """Wrong content of a file: the message names file, task and field."""


class UnreadableError(DataError):
    """A file or folder without permission to read it."""


class RecipeError(ArcpipeError):
    """A wrong key or value in a recipe or a `--set` override."""


class OutputError(ArcpipeError):
    """An output that exists already or cannot be written."""


class CheckpointError(ArcpipeError):
    """A checkpoint that cannot be read or does not fit its use."""


def one_line(error: BaseException) -> str:
    """Return the message of an error without line breaks."""
    return " ".join(str(error).split())


def printable(text: str) -> str:
    """Return text with terminal controls escaped, such as those in the content of a file."""
    return _CONTROLS.sub(lambda match: match[1] or f"\\u{ord(match[0]):04x}", text)


def why_unreadable(error: OSError) -> str:
    """Return why a file cannot be read, for use in parentheses."""
    if isinstance(error, IsADirectoryError):
        return "it is a folder: name a file in it"
    return error.strerror or one_line(error)


def says_out_of_memory(text: str) -> bool:
    """Return whether an error message, or the last output of a process, says that memory ran out."""
    return any(part in text.casefold() for part in _OUT_OF_MEMORY)
