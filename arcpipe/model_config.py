"""TRMConfig: the settings of the network, the table [model] of a recipe."""

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from arcpipe.recipe import STRICT, Count, Positive

BUCKET_UNITS = 32
"""A batch has rows for each canvas of `buckets` in multiples of 1/32 of it, or of less: then 2, 4, 8 or more
processes get equal shares.
"""


@dataclass(frozen=True, kw_only=True)
class TRMConfig:
    """Architecture choices, the table [model] of a recipe. Defaults: the official ARC model."""

    __pydantic_config__ = STRICT

    mixer: Annotated[
        Literal["attention", "mlp"], Field(description="What mixes tokens; mlp for a small fixed canvas.")
    ] = "attention"
    positions: Annotated[
        Literal["rope", "learned", "rope2d", "rope2d+learned", "none"],
        Field(
            description="How a token's place is told. rope2d: by row and column, on any canvas; "
            "rope2d+learned: and by an embedding of each row and each column."
        ),
    ] = "rope"
    embedding: Annotated[
        Literal["augmentation", "task"],
        Field(
            description="augmentation: a row for each augmentation of a task. task: one for each task and "
            "dihedral, and two vectors for each color of a task; needs a dataset of data.num_aug = inf."
        ),
    ] = "augmentation"
    views: Annotated[
        bool,
        Field(
            description="A puzzle of embedding task reads a mixture of 17 views of its input, which its row "
            "weighs: turned, flipped, shifted by a cell, tiled, enlarged, the second half over the first."
        ),
    ] = False
    hidden_size: Annotated[Positive, Field(le=2**16, description="D, numbers in a token's state.")] = 512
    num_layers: Annotated[Positive, Field(le=1000, description="Blocks of the network.")] = 2
    num_heads: Annotated[Positive, Field(le=2**10, description="Heads of attention.")] = 8
    expansion: Annotated[float, Field(gt=0, le=1000, description="Width of the MLP over hidden_size.")] = 4.0
    outer_cycles: Annotated[Positive, Field(le=1000, description="T, updates of the answer in a step.")] = 3
    inner_cycles: Annotated[Positive, Field(le=1000, description="n, updates of the latent before each.")] = 4
    max_steps: Annotated[Positive, Field(le=10000, description="N_sup, supervision steps at most.")] = 16
    puzzle_size: Annotated[
        Count,
        Field(
            le=2**20,
            description="Numbers in a puzzle embedding; 0 for a model without them. Of embedding task: "
            "hidden_size.",
        ),
    ] = 512
    puzzle_tokens: Annotated[
        Count,
        Field(
            le=4096,
            description="Prefix tokens that hold it, zero-padded; 0 for as many as it fills, with embedding "
            "task for none.",
        ),
    ] = 16
    tied_head: Annotated[
        bool, Field(description="The token embeddings are the weights of the output head too.")
    ] = False
    rope_theta: Annotated[float, Field(gt=0, description="Base of the rotary positions.")] = 10000.0
    one_step_gradient: Annotated[
        bool,
        Field(description="Gradient through the last updates of latent and answer only (paper, table 1)."),
    ] = False
    separate_networks: Annotated[
        bool, Field(description="A stack of blocks for latent and answer each (paper, table 1).")
    ] = False
    loop_residual: Annotated[
        bool,
        Field(
            description="Latent and answer are weighted means of all their updates so far, the newest "
            "included, and not the newest alone (InfiLoop)."
        ),
    ] = False
    flow: Annotated[
        bool,
        Field(
            description="The network sees a noisy answer and its time too, for training with train.objective "
            "= flow (looped flows)."
        ),
    ] = False
    buckets: Annotated[
        list[Annotated[int, Field(gt=1, lt=64)]],
        Field(
            max_length=62,
            description="Sides of smaller canvases for ARC tasks that fit them, ascending, such as "
            "[10, 15, 20, 25]: faster, and another function than on the whole canvas.",
        ),
    ] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.buckets != sorted(set(self.buckets)):
            raise ValueError(f"buckets {self.buckets} must ascend")
        if self.buckets and self.mixer == "mlp":
            raise ValueError("buckets are for mixer attention: an mlp over tokens knows one canvas only")
        # Rotary positions pair the two halves of a head; rope2d has pairs for rows and for columns.
        parts = 4 if self.positions.startswith("rope2d") else 2 if self.mixer == "attention" else 0
        if parts and self.hidden_size % (multiple := parts * self.num_heads):
            reason = f"must be a multiple of {parts} * num_heads ({multiple}) with positions {self.positions}"
            raise ValueError(f"hidden_size {self.hidden_size} {reason}")
        if self.embedding == "task" and self.puzzle_size != self.hidden_size:
            raise ValueError(
                f"embedding task adds a row to every cell: puzzle_size {self.puzzle_size} must be "
                f"hidden_size {self.hidden_size}"
            )
        if self.views and self.embedding != "task":
            raise ValueError("views are for embedding task, whose rows weigh them")
        if self.puzzle_tokens and self.puzzle_size > self.puzzle_tokens * self.hidden_size:
            raise ValueError(f"puzzle_size {self.puzzle_size} does not fit puzzle_tokens * hidden_size")

    @property
    def prefix(self) -> int:
        """Return P, the number of prefix tokens."""
        if self.puzzle_size == 0 or (self.embedding == "task" and not self.puzzle_tokens):
            return 0
        return self.puzzle_tokens or math.ceil(self.puzzle_size / self.hidden_size)
