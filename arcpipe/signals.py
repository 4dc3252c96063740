"""Signals that ask a long command to end."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@contextmanager
def stop_on_signals() -> Iterator[list[int]]:
    """A list that a SIGINT, SIGTERM or SIGUSR1 is added to; a second one kills as usual."""
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def receive(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, before[signal.Signals(number)])

    for number in SIGNALS:
        signal.signal(number, receive)
    try:
        yield received
    finally:
        for number in SIGNALS:
            signal.signal(number, before[number])


def ignore_signals(_worker: int = 0) -> None:
    """Leave the signals to the process that this one works for; `DataLoader` calls this in its workers."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
