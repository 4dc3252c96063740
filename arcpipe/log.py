"""The logger, on stderr and in the run's log file, silent on all ranks but the first; metrics.jsonl."""

import io
import logging
import math
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from textwrap import fill
from typing import IO, Any

import orjson
from tqdm import tqdm
from tqdm.utils import disp_trim

from arcpipe.errors import printable
from arcpipe.runs import writing

METRICS_FILE = "metrics.jsonl"
"""The records of a training, in its run folder."""

logger = logging.getLogger("arcpipe")
# Which command comes next; a command that calls others silences it.
hints = logging.getLogger("arcpipe.hints")

PROGRESS = 15
"""The level of lines about progress: they are in every log file, and on stderr where no bar is seen."""
LINE_EVERY_S = 60.0
# The figures that come first stay where a narrow terminal cuts the bar.
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
_LINE = "{desc}: {n_fmt} of {total_fmt} {unit}s, {elapsed} so far, {remaining} left{postfix}"
_WATCHED: dict[str, Any] = {"mininterval": 0.2, "dynamic_ncols": True, "bar_format": _BAR}
_UNWATCHED: dict[str, Any] = {"mininterval": 1.0, "miniters": 1}


def is_first_rank() -> bool:
    """Return whether this process is rank 0; launchers say so in RANK, a lone process is rank 0."""
    return int(os.environ.get("RANK", "0")) == 0


def is_dumb() -> bool:
    """Return whether the terminal only appends, by its name in TERM, or has none."""
    return os.environ.get("TERM", "") in ("", "dumb")


def color_bits(choice: bool | None = None) -> int:
    """Return how many bits of color to write to stdout: 24, 8, 4, or 0 for none.

    Args:  choice: None for color on a terminal that has it, where NO_COLOR is not set.
    """
    plain = is_dumb() or os.environ.get("NO_COLOR") or not sys.stdout.isatty()
    if choice is False or (choice is None and plain):
        return 0
    if os.environ.get("COLORTERM") in ("truecolor", "24bit") or is_dumb():
        return 24
    return 8 if "256color" in os.environ["TERM"] else 4


def fact_line(label: str, text: str, width: int) -> str:
    """Return a text behind its label of this width; on a terminal broken between words, all of it below."""
    limit = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    return fill(
        text, limit, initial_indent=label.ljust(width), subsequent_indent=" " * width,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


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
    if not logger.handlers:
        start_logging()
    hints.info("next: %s", command_line(*command))


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
    logger.setLevel(PROGRESS if is_first_rank() else logging.ERROR)
    logging.addLevelName(PROGRESS, "PROGRESS")
    if not logger.handlers:
        terminal = _TqdmHandler()
        terminal.setFormatter(_Formatter())
        logger.addHandler(terminal)
    logger.handlers[0].setLevel(logging.INFO if sys.stderr.isatty() else PROGRESS)
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


class Progress(tqdm):  # type: ignore[type-arg]  # tqdm itself is not generic
    """A bar on a terminal; elsewhere a line of the log each minute. Both know of a limit of time.

    Below a bar there may be a drawing, one line apart: a part of the work has its own bar between them.
    """

    def __init__(self, left_s: Callable[[], float], **arguments: Any) -> None:
        self._left_s, self._watched = left_s, sys.stderr.isatty()
        # The lines below the bar, and the row of the last one that is on the screen, counted from the bar.
        self._drawing: list[str] = []
        self._last_row = 0
        how = _WATCHED if self._watched else _UNWATCHED
        super().__init__(
            **arguments | how, file=sys.stderr if self._watched else io.StringIO(), leave=self._watched,
            disable=not is_first_rank(),
        )  # fmt: skip
        self._noted_at = time.monotonic()

    @property
    def format_dict(self) -> dict[str, Any]:
        """Return what is shown; of the total, as much as the time that is left allows."""
        facts = dict(super().format_dict)
        since = facts["n"] - facts["initial"]
        rate = facts["rate"] or (since / facts["elapsed"] if facts["elapsed"] else 0)
        if rate and facts["total"] and (left := self._left_s()) < math.inf:
            facts["total"] = min(facts["total"], facts["n"] + math.ceil(rate * max(0.0, left)))
        return facts

    def __str__(self) -> str:
        """Return the bar with the figures that there is room for, whole ones."""
        facts = self.format_dict
        text = self.format_meter(**facts)
        while facts["postfix"] and not text.endswith("]"):
            facts["postfix"] = facts["postfix"].rpartition(", ")[0]
            text = self.format_meter(**facts)
        return text

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Draw the bar of a terminal, and what is not yet there below it; each minute, log it as a line."""
        if self.n > self.initial and time.monotonic() - self._noted_at >= LINE_EVERY_S:
            self._noted_at = time.monotonic()
            logger.log(PROGRESS, self.format_meter(**self.format_dict | {"bar_format": _LINE, "ncols": None}))
        if not self._watched:
            return
        super().display(msg, pos)
        if not self._last_row:
            for row, line in enumerate(self._drawing[: max(0, (self.nrows or 0) - 3)], 2):
                super().display(disp_trim(line, self.ncols or 0), row)
                self._last_row = row

    def clear(self, nolock: bool = False) -> None:
        """Clear the bar, and with its drawing all that is below it."""
        super().clear(nolock)
        if self._last_row:
            self._last_row = 0
            self.fp.write("\x1b[J")

    def draw(self, text: str) -> None:
        """Draw lines below the bar, as far as they fit, in place of earlier ones; none on a dumb terminal."""
        if self._watched and not is_dumb():
            with self.get_lock():
                self.clear()
                self._drawing = text.splitlines()
                self.refresh()

    def close(self) -> None:
        """Leave a bar and its drawing on the terminal, and what comes next below them."""
        if not self.disable:
            self._last_row = 0
            super().close()
            self.fp.write("\n" * self._last_row)


def progress(
    *, total: int, initial: int, unit: str, desc: str, left_s: Callable[[], float] = lambda: math.inf
) -> Progress:
    """Return the progress of a long piece of work, shown on rank 0 only.

    Args:  left_s: the seconds that are left, where there is a limit.
    """
    return Progress(left_s, total=total, initial=initial, unit=unit, desc=desc)


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
