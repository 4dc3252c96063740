"""The settings of a Kaggle entry, and how its run splits the time: ends of stages on one monotonic clock."""

import itertools
import time
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, Field

from arcpipe.errors import ArcpipeError
from arcpipe.recipe import STRICT

# What a process takes before it does anything; on a short clock a quarter of it.
_LEAST_S = 20.0
_SHARE = 0.25
# Of a longer clock, the most that its start and its end take each.
_LONG_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class KaggleSettings:
    """The competition, the machine that runs the notebook, and how its time is split: [kaggle] of a recipe.

    Defaults: ARC Prize 2026. Names, limits and machines of a competition end with its year.
    """

    __pydantic_config__ = STRICT

    competition: Annotated[str, Field(description="The competition's name on Kaggle.")] = (
        "arc-prize-2026-arc-agi-2"
    )
    closes: Annotated[
        str,
        # TOML has dates of its own.
        BeforeValidator(str),
        Field(
            pattern=r"^([0-9]{4}-[0-9]{2}-[0-9]{2})?$",
            description="Its last day, as 2026-11-02; of a later submission it is said. Empty: none.",
        ),
    ] = "2026-11-02"
    hidden_tasks: Annotated[
        int, Field(ge=1, description="Tasks of the scored rerun, for which a rehearsal estimates the time.")
    ] = 240
    machine_shape: Annotated[
        str, Field(description="Kaggle's name of the machine; empty for one without a GPU.")
    ] = "NvidiaL4"
    gpus: Annotated[int, Field(ge=0, description="GPUs of that machine.")] = 4
    gpu_tflops: Annotated[
        float, Field(ge=0, description="1e12 operations a second of each of them, for estimates.")
    ] = 121.0
    limit_minutes: Annotated[
        float, Field(gt=0, description="The time limit; the competition ends a notebook after 12 hours.")
    ] = 720.0
    # About an hour of the 12 in arXiv 2511.02886.
    infer_minutes: Annotated[
        float, Field(ge=0, description="Time of inference; adaptation has what this, vote and reserve leave.")
    ] = 75.0
    vote_minutes: Annotated[float, Field(ge=0, description="Time of the vote.")] = 5.0
    # NVARC kept 10 minutes of the 12 hours; Kaggle says that its times are off by up to 10 minutes.
    reserve_minutes: Annotated[float, Field(ge=0, description="Time left unused at the end.")] = 20.0
    smoke_tasks: Annotated[
        int, Field(ge=1, description="Evaluation tasks that the commit run tries before the scored rerun.")
    ] = 4
    smoke_minutes: Annotated[float, Field(gt=0, description="The clock of the commit run.")] = 10.0
    start_s: Annotated[
        float,
        Field(ge=0, description="Time in which the process of a stage starts; its clock runs from then on."),
    ] = 180.0
    grace_s: Annotated[
        float, Field(ge=0, description="Time between asking a process to save what it has and killing it.")
    ] = 60.0
    cpu_processes: Annotated[
        int, Field(ge=1, description="Processes of a stage where there is no GPU; on GPUs each has one.")
    ] = 1


@dataclass(frozen=True)
class Budget:
    """When each stage has ended, and all has, in seconds after the start."""

    adapt_s: float
    infer_s: float
    vote_s: float
    total_s: float

    @property
    def text(self) -> str:
        """Return the budget in a line."""
        parts = {
            "adapt": self.adapt_s,
            "infer": self.infer_s - self.adapt_s,
            "vote": self.vote_s - self.infer_s,
            "reserve": self.total_s - self.vote_s,
        }
        return ", ".join(f"{name} {seconds / 60:.1f}" for name, seconds in parts.items()) + " minutes"


def make_budget(settings: KaggleSettings, minutes: float | None = None) -> Budget:
    """Return the budget for the time limit, or for another one, to which all parts shrink or grow alike."""
    total = 60 * (settings.limit_minutes if minutes is None else minutes)
    scale = total / settings.limit_minutes
    least = min(_LEAST_S, total / 4)
    infer, vote = (max(least, scale * part) for part in (settings.infer_minutes, settings.vote_minutes))
    vote_ends = max(2 * least, total - scale * settings.reserve_minutes)
    # Where these leave nothing for adaptation, it takes a quarter.
    adapt = max(least, vote_ends - infer - vote)
    return Budget(adapt, max(adapt, vote_ends - vote), vote_ends, total)


@dataclass(frozen=True)
class Window:
    """The time of a stage, on the monotonic clock.

    end: when its processes are killed.
    term: when they are asked to save what they have.
    work_s: what they are given to work in, their start left out; none is left at 0 or less.
    """

    end: float
    term: float
    work_s: float


def make_window(settings: KaggleSettings, end: float) -> Window:
    """Return the window from now to `end`."""
    left = end - time.monotonic()
    most = max(_LONG_SHARE * left, min(_SHARE * left, _LEAST_S / 2))
    grace, start = min(settings.grace_s, most), min(settings.start_s, most)
    return Window(end, end - grace, left - grace - start)


def refuse_short_clock(settings: KaggleSettings, minutes: float) -> None:
    """Raise ArcpipeError, with the minutes needed, if adaptation could do no more than start."""

    def is_long(minutes: float) -> bool:
        return make_budget(settings, minutes).adapt_s >= 2 * _LEAST_S

    if not is_long(minutes):
        enough = next(number for number in itertools.count(1) if is_long(number))
        raise ArcpipeError(
            f"--minutes {minutes:g}: leaves {make_budget(settings, minutes).adapt_s:.0f} s for adaptation, "
            f"which takes about {_LEAST_S:.0f} s to start: give it {enough} or more"
        )
