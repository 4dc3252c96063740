"""The settings of training, the table [train] of a recipe."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from arcpipe.recipe import STRICT

Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How to train. Defaults: the reference's ARC run (`config/cfg_pretrain.yaml` and its README)."""

    __pydantic_config__ = STRICT

    # Optimizer steps; each is one supervision step for every sample in flight.
    steps: Positive = 500_000
    # Samples in flight over all processes together.
    batch_size: Positive = 768
    # The range that every generator takes.
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    optimizer: Literal["adam_atan2", "adamw"] = "adam_atan2"
    lr: Rate = 1e-4
    weight_decay: Rate = 0.1
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95
    # The rate and decay of sign-SGD on the rows of the puzzle table.
    puzzle_lr: Rate = 1e-2
    puzzle_weight_decay: Rate = 0.1
    # All rates rise linearly over the warm-up, then fall along a cosine to this share of themselves.
    warmup_steps: Count = 2000
    min_lr_ratio: Fraction = 1.0
    ema: Fraction = 0.999
    # Share of samples that may not halt before a random number of steps.
    halt_exploration: Fraction = 0.1
    # Move training examples to random places on the canvas.
    placement: bool = True
    # Compute dtype; auto takes bfloat16 where the device has it in hardware.
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    # Threads to compute with on a CPU; 0 leaves it to torch. Inference takes the same.
    cpu_threads: Count = 0
    log_every: Positive = 10
    # In steps; there is always one at the end.
    checkpoint_every: Positive = 5000
    keep_last: Positive = 2
