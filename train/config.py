"""The settings of training, and how one ended; without torch, which takes `--help` seconds to load."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from arcpipe.recipe import STRICT, Count, Positive

RUN_EXISTS = "go on with --resume, choose another --out or remove it"
"""What to do about a run folder that exists."""

Rate = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How to train, the table [train] of a recipe.

    Defaults: the reference's ARC run (`config/cfg_pretrain.yaml` and its README).
    """

    __pydantic_config__ = STRICT
    # The recipe's table of these settings, for error messages.
    table: ClassVar[str] = "train"

    steps: Annotated[
        Positive, Field(description="Optimizer steps: one supervision step of every sample in flight.")
    ] = 500_000
    batch_size: Annotated[
        Positive, Field(le=2**20, description="Samples in flight over all processes together.")
    ] = 768
    seed: Annotated[
        int, Field(ge=0, le=2**32 - 1, description="Seed of the weights, the batches and the exploration.")
    ] = 0
    optimizer: Annotated[
        Literal["adam_atan2", "adamw", "muon"],
        Field(description="muon: Muon for the matrices of the blocks, AdamW for embeddings and heads."),
    ] = "adam_atan2"
    lr: Annotated[Rate, Field(description="Learning rate of the network.")] = 1e-4
    weight_decay: Annotated[Rate, Field(description="Decoupled weight decay of the network.")] = 0.1
    beta1: Annotated[float, Field(ge=0, lt=1, description="Decay of the gradient's mean.")] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1, description="Decay of the gradient's square.")] = 0.95
    # Source: a public Sudoku run (arXiv 2601.19085) with a normalized MLP. With arcpipe's MLP, small models
    # learned faster at 0.005.
    muon_lr: Annotated[Rate, Field(description="Learning rate of Muon.")] = 0.02
    muon_weight_decay: Annotated[Rate, Field(description="Weight decay of Muon.")] = 0.005
    puzzle_lr: Annotated[
        Rate, Field(description="Rate of the puzzle embedding: sign-SGD on rows, AdamW with embedding task.")
    ] = 1e-2
    puzzle_weight_decay: Annotated[Rate, Field(description="Weight decay of the puzzle embedding.")] = 0.1
    puzzle_memory: Annotated[
        Literal["device", "host"],
        Field(
            description="Where the puzzle rows are. host: in the memory of each machine, once for all of its "
            "processes; a batch takes its rows to the device. The numbers are the same."
        ),
    ] = "device"
    puzzle_precision: Annotated[
        Literal["float32", "bfloat16"],
        Field(description="Type of the puzzle rows. bfloat16: half as large, rounded up or down at random."),
    ] = "float32"
    color_noise: Annotated[
        Rate, Field(description="Embedding task: deviation of the noise on the color vectors of each sample.")
    ] = 0.7
    clip: Annotated[
        Rate, Field(description="Longest gradient of the network, the norm over its weights; 0 for any.")
    ] = 0.0
    rows_only: Annotated[
        Fraction,
        Field(description="Share of the training, from its start, in which the puzzle rows learn alone."),
    ] = 0.0
    warmup_steps: Annotated[
        Count, Field(description="Steps in which all rates rise linearly; then they fall along a cosine.")
    ] = 2000
    min_lr_ratio: Annotated[
        Fraction,
        Field(
            description="Where the cosine ends, as a share of the full rates. It runs over the whole "
            "training; the reference's begins after the warm-up."
        ),
    ] = 1.0
    ema: Annotated[Fraction, Field(description="Decay of the moving average of the weights.")] = 0.999
    curriculum: Annotated[
        list[tuple[Fraction, Positive, Positive]],
        Field(
            description="[share, T, n], ...: from this share of the training on, outer and inner cycles of a "
            "step, in rising order; before the first, those of the model."
        ),
    ] = field(default_factory=list)
    halt_exploration: Annotated[
        Fraction, Field(description="Share of samples that may not halt before a random number of steps.")
    ] = 0.1
    placement: Annotated[
        bool, Field(description="Move training examples to random places on the canvas.")
    ] = True
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        Field(description="Compute dtype; auto: bfloat16 where it is in hardware, float16 on a T4 or V100."),
    ] = "auto"
    objective: Annotated[
        Literal["recursion", "flow"],
        Field(description="flow: denoise a noisy answer beside the recursion; for a model with model.flow."),
    ] = "recursion"
    flow_times: Annotated[
        Literal["sorted", "random_start"],
        Field(
            description="Times of a sample's steps in a flow: uniform in 0..1, in order; random_start, for "
            "ARC: the first one so, the others between it and 1."
        ),
    ] = "sorted"
    flow_pseudotargets: Annotated[
        Count,
        Field(
            description="Optimizer steps in which the probability rises to 1 that a noisy answer leads to "
            "the model's last answer, not to the true one; 0 for never."
        ),
    ] = 0
    loss: Annotated[
        Literal["stablemax", "softmax"], Field(description="The cross-entropy of a cell's tokens.")
    ] = "stablemax"
    loss_precision: Annotated[
        Literal["float64", "float32"],
        Field(description="float64 as the reference; float32, within a millionth, is faster on many GPUs."),
    ] = "float64"
    cpu_threads: Annotated[
        Count, Field(description="Threads to compute with on a CPU, for inference too; 0 leaves it to torch.")
    ] = 0
    workers: Annotated[
        Count | Literal["auto"],
        Field(
            description="Processes that make batches ahead, for each that trains; 0 makes each batch when it "
            "is needed. auto: 1 on a GPU, 0 on a CPU, which has nothing else to compute with."
        ),
    ] = "auto"
    accumulation: Annotated[
        Positive, Field(description="Parts of each process's share of the batch, one by one: less memory.")
    ] = 1
    recompute: Annotated[
        bool, Field(description="Compute activations again in the backward pass: less memory, more time.")
    ] = False
    compile: Annotated[
        Literal["auto", "on", "off"],
        Field(description="Compile the network; auto does on a GPU. The first step takes a minute longer."),
    ] = "auto"
    trackers: Annotated[
        list[str], Field(description="Trackers of Accelerate beside metrics.jsonl, such as tensorboard.")
    ] = field(default_factory=list)
    log_every: Annotated[Positive, Field(description="Steps between records of metrics.jsonl.")] = 10
    checkpoint_every: Annotated[
        Positive, Field(description="Steps between checkpoints; there is always one at the end.")
    ] = 5000
    checkpoint_minutes: Annotated[
        Rate, Field(description="A checkpoint after so many minutes without one, too; 0 for never.")
    ] = 0.0
    keep_last: Annotated[
        Positive, Field(description="Newest checkpoints to keep, beside the best by evaluation.")
    ] = 2

    def __post_init__(self) -> None:
        shares = [share for share, *_ in self.curriculum]
        if shares != sorted(shares):
            raise ValueError(f"curriculum: its shares of the training, {shares}, should rise")


@dataclass(frozen=True, kw_only=True)
class AdaptSettings(TrainSettings):
    """How to fine-tune a checkpoint on the demonstrations of new tasks, the table [adapt] of a recipe.

    Defaults: those of public solutions of ARC Prize 2025 (arXiv 2511.02886 and NVARC's report), divided among
    their GPUs; the recipes kaggle-* name the source of each number.
    """

    table: ClassVar[str] = "adapt"

    num_aug: Annotated[
        Count, Field(description="Augmented puzzles per task, beside the identity; none with embedding task.")
    ] = 256
    max_steps: Annotated[
        Count, Field(description="Supervision steps at most; 0 for as many as the checkpoint's training.")
    ] = 0
    outer_cycles: Annotated[
        Count, Field(description="Outer cycles of each step; 0 for as many as the checkpoint's training.")
    ] = 0
    loss: Annotated[
        Literal["trained", "stablemax", "softmax"],
        Field(description="The cross-entropy of a cell's tokens; trained: as in the checkpoint's training."),
    ] = "trained"  # type: ignore[assignment]
    precision: Annotated[
        Literal["trained", "auto", "float32", "bfloat16", "float16"],
        Field(
            description="Compute dtype; trained: as in the checkpoint's training; auto: bfloat16 where it is "
            "in hardware, float16 on a T4 or V100."
        ),
    ] = "trained"  # type: ignore[assignment]
    steps: Positive = 15_000
    batch_size: Positive = 128
    rows_only: Fraction = 0.25
    warmup_steps: Count = 200


@dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """When and how to evaluate during training, the table [eval] of a recipe. Default: never."""

    __pydantic_config__ = STRICT

    every: Annotated[
        Count | Literal["auto"],
        Field(
            description="Steps between evaluations; 0 for none. auto: at every tenth of the training, in a "
            "tenth of its time at most (a minute for the last), where the outputs of the test inputs are "
            "known. With any there is one at the end."
        ),
    ] = 0
    every_minutes: Annotated[Rate, Field(description="The same in minutes; 0 for none.")] = 0.0
    max_minutes: Annotated[
        Rate,
        Field(
            description="What is answered in this time counts; each test input is asked once before any is "
            "asked again. Evaluations of different coverage are not compared."
        ),
    ] = 10.0
    tests: Annotated[
        Count, Field(description="Test inputs to sample, the same ones each time; 0 for all.")
    ] = 0
    votes: Annotated[
        Count, Field(description="Ask each test input under at most so many augmentations; 0 for all.")
    ] = 0
    max_steps: Annotated[Count, Field(description="Supervision steps; 0 for as many as in training.")] = 0
    batch_size: Annotated[Positive, Field(description="Grids computed at a time, by each process.")] = 256
    metric: Annotated[
        str,
        Field(
            description="The score of which the best checkpoint has most. Empty: pass@2 of ARC, the mean "
            "over tasks; exact_accuracy of others."
        ),
    ] = ""


@dataclass(frozen=True)
class TrainResult:
    """How a training ended: its newest checkpoint and that checkpoint's step.

    interrupted: a signal ended it. unfinished: it ended before the last step or the last evaluation.
    by_ctrl_c: Ctrl-C (SIGINT) was among the signals.
    """

    checkpoint: Path
    step: int
    interrupted: bool
    unfinished: bool
    by_ctrl_c: bool
