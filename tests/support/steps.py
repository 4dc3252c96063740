"""Training states of a tiny model and batches for them, for tests of single steps."""

import copy
from math import isqrt

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.amp import GradScaler

from arcpipe.batches import PuzzleBatch
from arcpipe.buckets import Layout
from arcpipe.model_config import TRMConfig
from arcpipe.train.config import TrainSettings
from arcpipe.train.optim import make_optimizers
from arcpipe.train.state import EMA, TrainState
from arcpipe.train.step import METRICS, train_step
from arcpipe.trm import TRM

CONFIG = TRMConfig(
    hidden_size=16, num_heads=2, num_layers=1, expansion=1.0, outer_cycles=1, inner_cycles=1, max_steps=8,
    puzzle_size=4, puzzle_tokens=1,
)  # fmt: skip
NUM_TOKENS, VOCABULARY = 4, 12


def state_of(
    model: TRM,
    rows: Tensor,
    batch_size: int,
    dtype: torch.dtype = torch.float32,
    optimizer: str = "adam_atan2",
) -> TrainState:
    """The state before the first step, with a rate of 1e-3."""
    canvas = isqrt(model.num_tokens)
    settings = TrainSettings(lr=1e-3, optimizer=optimizer)  # type: ignore[arg-type]
    return TrainState(
        model=model,
        wrapped=model,
        optimizers=make_optimizers(model, settings),
        ema=EMA(model, 0.9),
        rows=rows,
        carry=model.empty_carry(batch_size, dtype),
        layout=Layout(canvas, (canvas,), (batch_size,), np.zeros(0, np.intp)),
        own_rows=np.arange(batch_size),
        scaler=GradScaler("cpu", enabled=dtype == torch.float16),
    )


def fresh_state(
    batch_size: int, halt_bias: float = -5.0, config: TRMConfig = CONFIG, dtype: torch.dtype = torch.float32
) -> TrainState:
    """The state of a fresh tiny model and five random rows."""
    torch.manual_seed(0)
    model = TRM(config, NUM_TOKENS, VOCABULARY)
    torch.nn.init.constant_(model.halt_head.bias, halt_bias)
    return state_of(model, torch.randn(5, config.puzzle_size), batch_size, dtype)


def random_batch(batch_size: int, seed: int = 0) -> PuzzleBatch:
    """Random inputs, labels and puzzles for `fresh_state`."""
    generator = torch.Generator().manual_seed(seed)
    inputs, labels = torch.randint(VOCABULARY, (2, batch_size, NUM_TOKENS), generator=generator)
    return PuzzleBatch(inputs, labels, torch.randint(5, (batch_size,), generator=generator))


def advance(
    state: TrainState, batch: PuzzleBatch, settings: TrainSettings, scale: float = 1.0
) -> dict[str, float]:
    """Take a step; return its sums by name."""
    sums = train_step(state, batch, settings, scale, Accelerator())
    return dict(zip(METRICS, sums.tolist(), strict=True))


def overflow_gradients(state: TrainState, part: str) -> None:
    """Make the gradients of the puzzle rows, or of a weight, infinite from now on; the loss stays finite."""

    def overflow(gradient: Tensor) -> Tensor:
        return gradient * 1e30 * 1e30

    def spoil_rows(_module: TRM, inputs: tuple[Tensor, ...]) -> None:
        inputs[1].register_hook(overflow)

    if part == "rows":
        state.model.register_forward_pre_hook(spoil_rows)
    else:
        state.model.output_head.weight.register_hook(overflow)


def learned(state: TrainState) -> list[Tensor]:
    """All that is learned, copied: weights, averages, the optimizers' states, rows."""
    tensors = [*state.model.state_dict().values(), *state.ema.averages.values(), state.rows]
    for optimizer in state.optimizers:
        tensors += [value for entry in optimizer.state.values() for value in entry.values()]
    return copy.deepcopy([tensor.detach() for tensor in tensors])


def snapshot(state: TrainState) -> list[Tensor]:
    """All that a step may change, copied."""
    return [*learned(state), state.carry.answer.clone(), state.carry.steps.clone()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    """Whether all tensors are equal, where NaN equals NaN."""
    return len(one) == len(other) and all(
        torch.equal(left.nan_to_num(7), right.nan_to_num(7)) for left, right in zip(one, other, strict=True)
    )
