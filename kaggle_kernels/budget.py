"""How a Kaggle run splits its time: ends of stages on one monotonic clock."""

import time
from dataclasses import dataclass

from arcpipe.kaggle_kernels.settings import KaggleSettings

# What a process takes before it does anything; on a short clock a quarter of it.
_LEAST_S = 20.0
_SHARE_OF_START = 0.25


@dataclass(frozen=True)
class Plan:
    """When each stage has ended, and all has, in seconds after the start."""

    adapt_s: float
    infer_s: float
    vote_s: float
    total_s: float

    @property
    def text(self) -> str:
        """The plan in a line."""
        parts = {
            "adapt": self.adapt_s,
            "infer": self.infer_s - self.adapt_s,
            "vote": self.vote_s - self.infer_s,
            "reserve": self.total_s - self.vote_s,
        }
        return ", ".join(f"{name} {seconds / 60:.1f}" for name, seconds in parts.items()) + " minutes"


def make_plan(settings: KaggleSettings, minutes: float | None = None) -> Plan:
    """The plan for the time limit, or for another one, to which all parts shrink or grow alike."""
    total = 60 * (settings.limit_minutes if minutes is None else minutes)
    scale = total / settings.limit_minutes
    least = min(_LEAST_S, total / 4)
    infer, vote = (max(least, scale * part) for part in (settings.infer_minutes, settings.vote_minutes))
    vote_ends = max(2 * least, total - scale * settings.reserve_minutes)
    # Where these leave nothing for adaptation, it takes a quarter.
    adapt = max(least, vote_ends - infer - vote)
    return Plan(adapt, max(adapt, vote_ends - vote), vote_ends, total)


@dataclass(frozen=True)
class Window:
    """The time of a stage: from now on to `end`, both on the monotonic clock.

    term: when to ask it to save what it has, before it is killed at the end. work_s: what it is given to
    work in, which leaves out its start.
    """

    end: float
    term: float
    work_s: float

    @property
    def is_open(self) -> bool:
        """Whether there is time left to work in."""
        return self.work_s > 0


def make_window(settings: KaggleSettings, end: float) -> Window:
    """The window from now to `end`."""
    left = end - time.monotonic()
    grace = min(settings.grace_s, left * _SHARE_OF_START)
    start = min(settings.start_s, left * _SHARE_OF_START)
    return Window(end, end - grace, left - grace - start)
