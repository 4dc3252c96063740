"""What asks a long command to end: its time limit, signals, the end of the launcher that would send them."""

import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from arcpipe.log import is_dumb, logger

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
# One of these is in the environment of a process that a launcher started.
_LAUNCHED = ("RANK", "TORCHELASTIC_RUN_ID", "ACCELERATE_DYNAMO_BACKEND")


@dataclass(frozen=True)
class Clock:
    """The time that a command may take, all that it does: --max-minutes, which earlier parts do not count in.

    minutes: None for any time.
    began: when it started, on the monotonic clock.
    """

    minutes: float | None = None
    began: float = field(default_factory=time.monotonic)

    @property
    def left_s(self) -> float:
        """Return the seconds that are left, less than 0 when they are over."""
        return math.inf if self.minutes is None else self.began + 60 * self.minutes - time.monotonic()


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether this process is asked to end.

    It is by SIGINT, SIGTERM, SIGUSR1 or SIGHUP, and once its launcher is gone. Signals that follow change
    nothing, because launchers and schedulers both send them, so that what is being saved gets saved. Only a
    second Ctrl-C in a terminal ends the process at once; the first one says so.
    """
    received: list[int] = []
    launched = any(name in os.environ for name in _LAUNCHED)
    parent = os.getppid()
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def receive(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and not launched and sys.stderr.isatty():
            _tell_of_interrupt(again=signal.SIGINT in received)
        if number == signal.SIGHUP:
            _leave_terminal()
        received.append(number)

    def is_asked() -> bool:
        if launched and not received and os.getppid() != parent:
            logger.warning("the launcher of this process has ended: saving, then ending too")
            received.append(0)
        return bool(received)

    for number, handler in before.items():
        # nohup ignores it, so that the command goes on without its terminal.
        if number != signal.SIGHUP or handler != signal.SIG_IGN:
            signal.signal(number, receive)
    try:
        yield is_asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell_of_interrupt(*, again: bool) -> None:
    """Say what a Ctrl-C does; the second one kills this process."""
    # Not through a buffered stream, which may be in the middle of a write; in place of what is below a bar.
    os.write(2, b"\n" if is_dumb() else b"\n\x1b[J")
    if again:
        os.write(2, b"arcpipe: interrupted twice: ended at once, what was not saved is lost\n")
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    else:
        os.write(2, b"arcpipe: interrupted: saves, then ends; Ctrl-C again ends at once and loses that\n")


def _leave_terminal() -> None:
    """Send what would go to the terminal nowhere: it is gone, and writing to it would be an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        if stream.isatty():
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def ignore_signals(_worker: int = 0) -> None:
    """Leave the signals to the process that this one works for; `DataLoader` calls this in its workers."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
