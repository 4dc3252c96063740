"""Waiting for Kaggle, with a bar that shows what it says and how much of the time has gone."""

import time
from collections.abc import Callable
from typing import TypeVar

from arcpipe.errors import ArcpipeError
from arcpipe.kaggle_kernels.asking import Pace
from arcpipe.log import progress

T = TypeVar("T")


def wait_for(look: Callable[[], tuple[str, T | None]], what: str, pace: Pace, max_minutes: float) -> T:
    """What `look` finds in the end.

    Args:    look: how things stand in words, and what was waited for, None as long as it is not there.
    Raises:  ArcpipeError when the time is over.
    """
    began = time.monotonic()
    with progress(total=round(max_minutes * 60), initial=0, unit="s", desc=what) as bar:
        while True:
            state, found = look()
            if found is not None:
                return found
            waited_s = time.monotonic() - began
            if waited_s >= max_minutes * 60:
                raise ArcpipeError(
                    f"{what}: {state} after {max_minutes:g} minutes: run the same command to go on waiting"
                )
            bar.set_postfix_str(state, refresh=False)
            bar.update(int(waited_s) - bar.n)
            time.sleep(pace.poll_s)
