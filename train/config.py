"""The settings of training, the table [train] of a recipe."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from arcpipe.recipe import STRICT

Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
LossPrecision = Literal["float64", "float32"]


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How to train. Defaults: the reference's ARC run (`config/cfg_pretrain.yaml` and its README)."""

    __pydantic_config__ = STRICT
    # Where these settings stand in a recipe: messages name them by it.
    table: ClassVar[str] = "train"

    # Optimizer steps; each is one supervision step for every sample in flight.
    steps: Positive = 500_000
    # Samples in flight over all processes together.
    batch_size: Positive = 768
    # The range that every generator takes.
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    # muon: Muon for the matrices of the blocks, AdamW for embeddings and heads.
    optimizer: Literal["adam_atan2", "adamw", "muon"] = "adam_atan2"
    lr: Rate = 1e-4
    weight_decay: Rate = 0.1
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95
    # Muon's own: those of a public Sudoku run (arXiv 2601.19085), whose MLP was normalized as well. With
    # the MLP here small models learned faster at a rate of 0.005.
    muon_lr: Rate = 0.02
    muon_weight_decay: Rate = 0.005
    # The rate and decay of sign-SGD on the rows of the puzzle table.
    puzzle_lr: Rate = 1e-2
    puzzle_weight_decay: Rate = 0.1
    # Share of the training, from its start, in which these rows learn alone.
    rows_only: Fraction = 0.0
    # All rates rise linearly over the warm-up, then fall along a cosine to this share of themselves.
    warmup_steps: Count = 2000
    min_lr_ratio: Fraction = 1.0
    ema: Fraction = 0.999
    # [share, T, n]: from this share of the training on, outer and inner cycles of a step, in rising order;
    # before the first, and without any, those of the model.
    curriculum: list[tuple[Fraction, Positive, Positive]] = field(default_factory=list)
    # Share of samples that may not halt before a random number of steps.
    halt_exploration: Fraction = 0.1
    # Move training examples to random places on the canvas.
    placement: bool = True
    # Compute dtype; auto takes bfloat16 where the device has it in hardware, float16 on a T4 or V100.
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    # float64 as the reference; float32 is as good to a millionth, and faster on GPUs slow at float64.
    loss_precision: LossPrecision = "float64"
    # Threads to compute with on a CPU; 0 leaves it to torch. Inference takes the same.
    cpu_threads: Count = 0
    # Processes that make batches ahead, for each process that trains; 0 makes each when it is needed. auto
    # is 1 on a GPU, which would wait for the batch, and 0 on a CPU, which has nothing else to compute with.
    workers: Count | Literal["auto"] = "auto"
    # Split each process's share of the batch into so many parts, one after the other: less memory.
    accumulation: Positive = 1
    # Compute activations again in the backward pass instead of keeping them: less memory, more time.
    recompute: bool = False
    # Compile the network; auto does on a GPU. The first step then takes a minute longer.
    compile: Literal["auto", "on", "off"] = "auto"
    # Experiment trackers of Accelerate to log to beside metrics.jsonl, such as tensorboard.
    trackers: list[str] = field(default_factory=list)
    log_every: Positive = 10
    # In steps; there is always one at the end.
    checkpoint_every: Positive = 5000
    # Also after so many minutes without one; 0 for never.
    checkpoint_minutes: Rate = 0.0
    # The best one by evaluation is kept beside these.
    keep_last: Positive = 2

    def __post_init__(self) -> None:
        shares = [share for share, *_ in self.curriculum]
        if shares != sorted(shares):
            raise ValueError(f"curriculum: its shares of the training, {shares}, should rise")


@dataclass(frozen=True, kw_only=True)
class AdaptSettings(TrainSettings):
    """How to go on training a checkpoint on the demonstrations of new tasks, the table [adapt] of a recipe.

    Defaults: one GPU's share of what public solutions of ARC Prize 2025 did (arXiv 2511.02886 and NVARC's
    report); the recipes kaggle-* say which number is whose.
    """

    table: ClassVar[str] = "adapt"

    # Augmented puzzles per task, beside the identity.
    num_aug: Count = 256
    # Supervision steps at most, and outer cycles of each; 0 for as many as the checkpoint was trained with.
    max_steps: Count = 0
    outer_cycles: Count = 0
    steps: Positive = 15_000
    batch_size: Positive = 128
    rows_only: Fraction = 0.25
    warmup_steps: Count = 200


@dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """When and how to evaluate during training, the table [eval] of a recipe. Default: never."""

    __pydantic_config__ = STRICT

    # Steps, or minutes, between evaluations; 0 for none. With either there is one at the end too.
    every: Count = 0
    every_minutes: Rate = 0.0
    # What is answered in this time counts; each test input is asked once before any is asked again. Where it
    # ends an evaluation, its scores are of another coverage than those of others, and not compared.
    max_minutes: Rate = 10.0
    # Evaluate a sample of so many test inputs, the same each time; 0 for all.
    tests: Count = 0
    # Ask each test input so often, under as many augmentations; 0 for all.
    votes: Count = 0
    # Supervision steps; 0 for as many as in training.
    max_steps: Count = 0
    batch_size: Positive = 256
    # The score that the best checkpoint has most of. Empty: pass@2 of ARC, exact_accuracy of others.
    metric: str = ""
