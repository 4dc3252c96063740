"""The logger, on stderr and in the run's log file, silent on all ranks but the first; metrics.jsonl."""

import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import orjson
from tqdm import tqdm

from arcpipe.errors import printable
from arcpipe.runs import writing

logger = logging.getLogger("arcpipe")


def is_first_rank() -> bool:
    """Return whether this process is rank 0; launchers say so in RANK, a lone process is rank 0."""
    return int(os.environ.get("RANK", "0")) == 0


def use_color() -> bool:
    """Return whether to color what goes to stdout: a terminal, and NO_COLOR is not set."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


class _Formatter(logging.Formatter):
    """Leaves nothing in a line that acts on a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class _TqdmHandler(logging.Handler):
    """Writes through tqdm, so that a line never cuts a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


class _FileHandler(logging.FileHandler):
    """Writes to the log file; raises OutputError when it cannot, where its base prints a traceback."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Raise OutputError for the exception that `emit` has caught."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            return super().handleError(record)
        with writing(Path(self.baseFilename)):
            raise error


def start_logging(log_file: Path | None = None) -> None:
    """Send log lines to stderr and, when given, append them to `log_file`, in place of an earlier one.

    Raises:  OutputError if the file cannot be written, then or at a later line.
    """
    logger.setLevel(logging.INFO if is_first_rank() else logging.ERROR)
    if not logger.handlers:
        terminal = _TqdmHandler()
        terminal.setFormatter(_Formatter())
        logger.addHandler(terminal)
    for earlier in [one for one in logger.handlers if isinstance(one, logging.FileHandler)]:
        logger.removeHandler(earlier)
        # On a full disk its last line is still unwritten, which was said when it was logged.
        with suppress(OSError):
            earlier.close()
    if log_file is not None and is_first_rank():
        with writing(log_file):
            handler = _FileHandler(log_file, encoding="utf-8")
        handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)


def progress(*, total: int, initial: int, unit: str, desc: str) -> "tqdm[Any]":
    """Return a progress bar on stderr, on rank 0 only; it is sparse where no one watches."""
    watched = sys.stderr.isatty()
    return tqdm(
        total=total, initial=initial, unit=unit, desc=desc, file=sys.stderr,
        disable=not is_first_rank(), mininterval=0.2 if watched else 20.0, dynamic_ncols=watched,
    )  # fmt: skip


class MetricsFile:
    """`metrics.jsonl`: one JSON object a line, appended and flushed; OutputError if that fails."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with writing(path):
            self._file: IO[bytes] = path.open("ab")

    def write(self, record: dict[str, Any]) -> None:
        """Append one record."""
        with writing(self.path):
            self._file.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        with writing(self.path):
            self._file.close()
