"""The settings of a Kaggle entry, the table [kaggle] of a recipe."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from arcpipe.recipe import STRICT, Positive

Minutes = Annotated[float, Field(ge=0)]


@dataclass(frozen=True, kw_only=True)
class KaggleSettings:
    """Which machine runs the notebook, and how its time is split. Defaults: ARC Prize 2026."""

    __pydantic_config__ = STRICT

    competition: str = "arc-prize-2026-arc-agi-2"
    # Kaggle's name of the machine; empty for one without a GPU.
    machine_shape: str = "NvidiaL4"
    # The competition ends a notebook after 12 hours.
    limit_minutes: Annotated[float, Field(gt=0)] = 720.0
    # Adaptation has what these three leave. Inference: about an hour of the 12 in arXiv 2511.02886.
    infer_minutes: Minutes = 75.0
    vote_minutes: Minutes = 5.0
    # NVARC kept 10 minutes of the 12 hours; Kaggle says that its times are off by up to 10 minutes.
    reserve_minutes: Minutes = 20.0
    # The commit run tries so many evaluation tasks, for so long, before the real run.
    smoke_tasks: Positive = 4
    smoke_minutes: Annotated[float, Field(gt=0)] = 10.0
    # What a stage needs before its own clock begins: imports, augmentations, compilation.
    start_s: Minutes = 180.0
    # Between being asked to save what it has and being killed.
    grace_s: Minutes = 60.0
    # Processes of adaptation and inference where there is no GPU; on GPUs each has one.
    cpu_processes: Positive = 1
