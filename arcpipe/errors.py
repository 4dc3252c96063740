"""The errors that are the user's to mend.

The command line prints their message as one line on stderr and exits with code 2; any other exception is a
bug, keeps its traceback and exits with code 1.
"""

import re

# Controls of a terminal, and what turns text around in it; but line breaks, tabs and colored cells.
_ACTING = re.compile(
    "(\x1b\\[[0-9;]*m[ \u2580]+\x1b\\[0m)|"
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
)
# What torch, numpy, Python and the libraries of a GPU say, in lower case.
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
"""How the error of a process begins where another one has the reason."""


class ArcpipeError(Exception):
    """Something the user can mend: the message says what was wrong, where, and what to do."""


class DataError(ArcpipeError):
    """A file's content is not what it should be: the message names file, task and field."""


class UnreadableError(DataError):
    """A file or folder is there, but this user may not read it."""


class RecipeError(ArcpipeError):
    """A recipe or a `--set` override holds a wrong key or value."""


class OutputError(ArcpipeError):
    """An output exists already or cannot be written."""


class CheckpointError(ArcpipeError):
    """A checkpoint cannot be read or does not fit what it is used with."""


def one_line(error: BaseException) -> str:
    """Return the message of an error from elsewhere, without its line breaks."""
    return " ".join(str(error).split())


def printable(text: str) -> str:
    """Return text in which nothing acts on a terminal that shows it, whatever a file put into it."""
    return _ACTING.sub(lambda match: match[1] or f"\\u{ord(match[0]):04x}", text)


def why_unreadable(error: OSError) -> str:
    """Return why a file cannot be read, for the brackets of a message."""
    if isinstance(error, IsADirectoryError):
        return "it is a folder: name a file in it"
    return error.strerror or one_line(error)


def says_out_of_memory(text: str) -> bool:
    """Return whether the message of an error or the last lines of a process say that memory ran out."""
    return any(part in text.casefold() for part in _OUT_OF_MEMORY)
