"""The errors that are the user's to mend.

The command line prints their message as one line on stderr and exits with code 2; any other exception is a
bug, keeps its traceback and exits with code 1.
"""


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
    """The message of an error from elsewhere, without its line breaks."""
    return " ".join(str(error).split())
