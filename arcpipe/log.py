"""The logger, on stderr and in the run's log file, silent on all ranks but the first; metrics.jsonl."""

import logging
import os
import shlex
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import orjson
from tqdm import tqdm

from arcpipe.runs import writing

logger = logging.getLogger("arcpipe")
# Which command comes next; a command that calls others silences it.
hints = logging.getLogger("arcpipe.hints")


def is_first_rank() -> bool:
    """Return whether this process is rank 0; launchers say so in RANK, a lone process is rank 0."""
    return int(os.environ.get("RANK", "0")) == 0


def color_bits(choice: bool | None = None) -> int:
    """Return how many bits of color to write to stdout: 24, 8, 4, or 0 for none.

    Args:  choice: None for color on a terminal that has it, where NO_COLOR is not set.
    """
    term, colorterm = os.environ.get("TERM", ""), os.environ.get("COLORTERM", "")
    plain = term in ("", "dumb") or os.environ.get("NO_COLOR") or not sys.stdout.isatty()
    if choice is False or (choice is None and plain):
        return 0
    if colorterm in ("truecolor", "24bit") or term in ("", "dumb"):
        return 24
    return 8 if "256color" in term else 4


def program() -> str:
    """Return what starts this program where the user stands, as it is to be typed."""
    script = sys.argv[0]
    if Path(script).name == "__main__.py":
        return f"{_shortest(sys.executable)} -m arcpipe"
    # Called from Python, it is none of our commands.
    return _shortest(script) if Path(script).name == "arcpipe" else "arcpipe"


def _shortest(path: str) -> str:
    """Return the shortest that a shell takes for an executable: its name, or its path from here."""
    own, name = os.path.abspath(path), os.path.basename(path)
    on_path = shutil.which(name)
    if not os.path.exists(own) or (on_path and os.path.abspath(on_path) == own):
        return name
    return shlex.quote(os.path.relpath(own) if own.startswith(f"{os.getcwd()}{os.sep}") else own)


def command_line(*command: object) -> str:
    """Return a command of arcpipe as it is to be typed where the user stands."""
    return f"{program()} {shlex.join(map(str, command))}"


def say_next(*command: object) -> None:
    """Log the command that comes after this one."""
    hints.info("next: %s", command_line(*command))


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
        logger.addHandler(_TqdmHandler())
    for earlier in [one for one in logger.handlers if isinstance(one, logging.FileHandler)]:
        logger.removeHandler(earlier)
        # On a full disk its last line is still unwritten, which was said when it was logged.
        with suppress(OSError):
            earlier.close()
    if log_file is not None and is_first_rank():
        with writing(log_file):
            handler = _FileHandler(log_file, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
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
