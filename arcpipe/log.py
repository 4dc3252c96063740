"""Logging to stderr and the run's log file, on rank 0 only; progress bars; metrics.jsonl."""

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
from typing import Any

from tqdm import tqdm
from tqdm.utils import disp_trim

from arcpipe.errors import printable
from arcpipe.runs import writing

METRICS_FILE = "metrics.jsonl"
"""The records of a training, in its run folder."""

logger = logging.getLogger("arcpipe")
# Names the next command to run; disabled by commands that call other commands.
hints = logging.getLogger("arcpipe.hints")

PROGRESS = 15
"""The level of progress lines: in every log file, and on stderr unless that shows a bar."""
LINE_EVERY_S = 60.0
# The most important figures come first: a narrow terminal cuts off the last.
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
_LINE = "{desc}: {n_fmt} of {total_fmt} {unit}s, {elapsed} so far, {remaining} left{postfix}"
_TERMINAL: dict[str, Any] = {"mininterval": 0.2, "dynamic_ncols": True, "bar_format": _BAR}
_LOG: dict[str, Any] = {"mininterval": 1.0, "miniters": 1}


def is_first_rank() -> bool:
    """Return whether this process is rank 0, by the launcher's RANK; a single process is rank 0."""
    return int(os.environ.get("RANK", "0")) == 0


def is_dumb() -> bool:
    """Return whether the terminal cannot move its cursor, by TERM."""
    return os.environ.get("TERM", "") in ("", "dumb")


def color_bits(choice: bool | None = None) -> int:
    """Return the bits of color for stdout: 24, 8, 4, or 0 for none.

    Args:  choice: whether to color; None to color on a terminal that can, unless NO_COLOR is set.
    """
    plain = is_dumb() or os.environ.get("NO_COLOR") or not sys.stdout.isatty()
    if choice is False or (choice is None and plain):
        return 0
    if os.environ.get("COLORTERM") in ("truecolor", "24bit") or is_dumb():
        return 24
    return 8 if "256color" in os.environ["TERM"] else 4


def fact_line(label: str, text: str, width: int) -> str:
    """Return a text after its label, padded to this width; on a terminal, wrapped and indented."""
    limit = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    return fill(
        text, limit, initial_indent=label.ljust(width), subsequent_indent=" " * width,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, such as `1 task` or `2 tasks`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def program() -> str:
    """Return how to start this program from a shell in the current folder."""
    script = sys.argv[0]
    if Path(script).name == "__main__.py":
        return f"{_shortest(sys.executable)} -m arcpipe"
    # A Python program that calls our functions is named otherwise.
    return _shortest(script) if Path(script).name == "arcpipe" else "arcpipe"


def _shortest(path: str) -> str:
    """Return the shortest way to call an executable: its name if on the PATH, else its path."""
    own, name = os.path.abspath(path), os.path.basename(path)
    on_path = shutil.which(name)
    if not os.path.exists(own) or (on_path and os.path.abspath(on_path) == own):
        return name
    return shlex.quote(os.path.relpath(own) if own.startswith(f"{os.getcwd()}{os.sep}") else own)


def command_line(*command: object) -> str:
    """Return a command of arcpipe as the user would type it in the current folder."""
    return f"{program()} {shlex.join(map(str, command))}"


def say_next(*command: object) -> None:
    """Log the command to run next."""
    if not logger.handlers:
        start_logging()
    hints.info("next: %s", command_line(*command))


class _Formatter(logging.Formatter):
    """Formats lines without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class _TqdmHandler(logging.Handler):
    """Writes through tqdm, so that a line does not break a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


class _FileHandler(logging.FileHandler):
    """Writes to the log file; raises OutputError if that fails, where its base class prints a traceback."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Raise OutputError for the OSError that `emit` caught."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            return super().handleError(record)
        with writing(Path(self.baseFilename)):
            raise error


def start_logging(log_file: Path | None = None) -> None:
    """Send log lines to stderr and append them to `log_file`, if any; close an earlier log file.

    Raises:  OutputError if the file cannot be written, now or at a later line.
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
        # On a full disk the last line is still buffered; its error was raised when it was logged.
        with suppress(OSError):
            earlier.close()
    if log_file is not None and is_first_rank():
        with writing(log_file):
            handler = _FileHandler(log_file, encoding="utf-8")
        handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)


class Progress(tqdm):  # type: ignore[type-arg]  # tqdm itself is not generic
    """A bar on a terminal, a log line each minute elsewhere. The total accounts for a time limit.

    A drawing may stand below the bar; the line between them is for the bar of a part of the work.
    """

    def __init__(self, *, left_s: Callable[[], float] = lambda: math.inf, **arguments: Any) -> None:
        """Args:  left_s: returns the seconds left until the time limit. arguments: of tqdm."""
        self._left_s, self._on_terminal = left_s, sys.stderr.isatty()
        # The lines of the drawing, and how far below the bar the last one on the screen is; 0 for none.
        self._drawing: list[str] = []
        self._last_row = 0
        settings = _TERMINAL if self._on_terminal else _LOG
        super().__init__(
            **arguments | settings, file=sys.stderr if self._on_terminal else io.StringIO(),
            leave=self._on_terminal, disable=not is_first_rank(),
        )  # fmt: skip
        self._last_line_at = time.monotonic()

    @property
    def format_dict(self) -> dict[str, Any]:
        """Return tqdm's figures, with the total reduced to what fits in the time left."""
        facts = dict(super().format_dict)
        since = facts["n"] - facts["initial"]
        rate = facts["rate"] or (since / facts["elapsed"] if facts["elapsed"] else 0)
        if rate and facts["total"] and (left := self._left_s()) < math.inf:
            facts["total"] = min(facts["total"], facts["n"] + math.ceil(rate * max(0.0, left)))
        return facts

    def __str__(self) -> str:
        """Return the bar without the figures that do not fit."""
        facts = self.format_dict
        text = self.format_meter(**facts)
        while facts["postfix"] and not text.endswith("]"):
            facts["postfix"] = facts["postfix"].rpartition(", ")[0]
            text = self.format_meter(**facts)
        return text

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Log a line each minute; on a terminal, draw the bar, and the drawing if it is not on the screen."""
        if self.n > self.initial and time.monotonic() - self._last_line_at >= LINE_EVERY_S:
            self._last_line_at = time.monotonic()
            logger.log(PROGRESS, self.format_meter(**self.format_dict | {"bar_format": _LINE, "ncols": None}))
        if not self._on_terminal:
            return
        super().display(msg, pos)
        if not self._last_row:
            for row, line in enumerate(self._drawing[: max(0, (self.nrows or 0) - 3)], 2):
                super().display(disp_trim(line, self.ncols or 0), row)
                self._last_row = row

    def clear(self, nolock: bool = False) -> None:
        """Clear the bar and its drawing."""
        super().clear(nolock)
        if self._last_row:
            self._last_row = 0
            self.fp.write("\x1b[J")

    def draw(self, text: str) -> None:
        """Replace the lines below the bar, as far as they fit; does nothing on a dumb terminal."""
        if self._on_terminal and not is_dumb():
            with self.get_lock():
                self.clear()
                self._drawing = text.splitlines()
                self.refresh()

    def close(self) -> None:
        """Leave the bar and its drawing on the terminal and move below them."""
        if not self.disable:
            self._last_row = 0
            super().close()
            self.fp.write("\n" * self._last_row)
