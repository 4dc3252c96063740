"""The layers of the TRM, as in the official code (`models/layers.py`): without biases and gains.

Shape letters: B batch, S tokens (puzzle prefix and grid), D hidden, H heads, K head size, F MLP width.
Weights are float32; a caller may cast them, and each layer computes in the dtype of its weights.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arcpipe.model_config import TRMConfig

Rope = tuple[Tensor, Tensor]
"""Cosines and sines (S, K) of rotary positions."""
NORM_EPSILON = 1e-5
# Standard deviation of a unit normal truncated to -2..2.
_TRUNCATED_STD = 0.8796256610342398


def truncated_normal(*shape: int, std: float) -> Tensor:
    """Return a float32 tensor of deviation `std`, truncated at two deviations of the parent normal.

    Source:  the official `models/common.py`: `std` is that of the result, as in JAX and unlike in torch.
    """
    parent = std / _TRUNCATED_STD
    return nn.init.trunc_normal_(torch.empty(*shape), std=parent, a=-2 * parent, b=2 * parent)


class Linear(nn.Module):
    """A matrix product without bias; `weight` (out, in) is initialized with deviation 1 / sqrt(in)."""

    def __init__(self, in_size: int, out_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(truncated_normal(out_size, in_size, std=in_size**-0.5))

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) -> (..., out)."""
        return F.linear(x, self.weight)


def rms_norm(x: Tensor) -> Tensor:
    """Divide x by the root mean square of its last axis."""
    return F.rms_norm(x, x.shape[-1:], eps=NORM_EPSILON)


class LoopResidual(nn.Module):
    """A loop's state as the weighted mean of all proposals so far; the weights of older ones decay.

    Source:  InfiLoop, arXiv 2610.11570: s = query . rms_norm(z), weights exp(s), multiplied by sigmoid(decay)
             each turn. The log of their sum is stored, which does not overflow.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(size))
        self.decay = nn.Parameter(torch.zeros(1))

    def forward(self, state_BSD: Tensor, proposal_BSD: Tensor, log_sum_BS: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean including a new proposal, and the log of the sum of weights, float32."""
        score_BS = rms_norm(proposal_BSD.float()) @ self.query
        log_sum_BS = torch.logaddexp(F.logsigmoid(self.decay) + log_sum_BS, score_BS)
        share_BS1 = (score_BS - log_sum_BS).exp()[..., None].to(state_BSD.dtype)
        return torch.lerp(state_BSD, proposal_BSD, share_BS1), log_sum_BS


def rope_tables(num_tokens: int, head_size: int, theta: float) -> Rope:
    """Return cosines and sines (S, K) of rotary positions 0..S-1; the two halves of K are equal.

    Source:  the official `models/layers.py`. theta ** (-k / K) would round differently.
    """
    frequencies = 1.0 / theta ** (torch.arange(0, head_size, 2, dtype=torch.float32) / head_size)
    angles = torch.outer(torch.arange(num_tokens, dtype=torch.float32), frequencies).repeat(1, 2)
    return angles.cos(), angles.sin()


def rope2d_tables(side: int, prefix: int, head_size: int, theta: float) -> Rope:
    """Return cosines and sines (P + side * side, K) that rotate half of the pairs by row, half by column.

    Prefix tokens are not rotated. The product of a query and a key depends only on the offset of their cells.
    """
    frequencies = theta ** (-torch.arange(0, head_size // 2, 2, dtype=torch.float32) / (head_size // 2))
    line = torch.outer(torch.arange(side, dtype=torch.float32), frequencies)
    rows, columns = line[:, None].expand(-1, side, -1), line[None].expand(side, -1, -1)
    cells = torch.cat((rows, columns), dim=-1).flatten(0, 1)
    angles = F.pad(cells, (0, 0, prefix, 0)).repeat(1, 2)
    return angles.cos(), angles.sin()


class Attention(nn.Module):
    """Multi-head self-attention over all tokens: no mask, scale 1 / sqrt(K), optional RoPE."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        # Compute scores and mixture in float32, whatever the dtype of the weights.
        self.in_float32 = False
        self.qkv = Linear(hidden_size, 3 * hidden_size)
        self.out = Linear(hidden_size, hidden_size)

    def forward(self, x_BSD: Tensor, rope: Rope | None) -> Tensor:
        """x (B, S, D) -> (B, S, D)."""
        # Queries and keys stay in one tensor, so that one operation rotates both.
        qk_BSD, v_BSD = self.qkv(x_BSD).split((2 * x_BSD.shape[-1], x_BSD.shape[-1]), dim=-1)
        qk_BSHK = qk_BSD.unflatten(-1, (2 * self.num_heads, -1))
        if rope is not None:
            # Rotate the pairs (k, k + K / 2) in the float32 of the tables.
            first, second = qk_BSHK.chunk(2, dim=-1)
            half, (cos_SK, sin_SK) = first.shape[-1], rope
            cos, sin = cos_SK[:, None, :half], sin_SK[:, None, :half]
            qk_BSHK = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
        dtype = torch.float32 if self.in_float32 else v_BSD.dtype
        q_BHSK, k_BHSK = qk_BSHK.to(dtype).transpose(1, 2).chunk(2, dim=1)
        v_BHSK = v_BSD.to(dtype).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        mixed_BHSK = F.scaled_dot_product_attention(q_BHSK, k_BHSK, v_BHSK).to(v_BSD.dtype)
        mixed_BSD: Tensor = self.out(mixed_BHSK.transpose(1, 2).flatten(-2))
        return mixed_BSD


def mlp_width(size: int, expansion: float) -> int:
    """Return F: 2/3 of `expansion` times the size, rounded up to a multiple of 256."""
    return max(1, math.ceil(round(expansion * size * 2 / 3) / 256)) * 256


class SwiGLU(nn.Module):
    """down(silu(gate) * up)."""

    def __init__(self, size: int, expansion: float) -> None:
        super().__init__()
        width = mlp_width(size, expansion)
        self.gate_up = Linear(size, 2 * width)
        self.down = Linear(width, size)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., size) -> (..., size)."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        mixed: Tensor = self.down(F.silu(gate) * up)
        return mixed


class Block(nn.Module):
    """A post-norm layer: attention or an MLP over the tokens, then an MLP over the channels.

    The norm after the token MLP is over the token axis, as in the official code.
    """

    def __init__(self, config: TRMConfig, num_tokens: int) -> None:
        super().__init__()
        self.mixer = config.mixer
        if self.mixer == "attention":
            self.attention = Attention(config.hidden_size, config.num_heads)
        else:
            self.token_mlp = SwiGLU(num_tokens, config.expansion)
        self.mlp = SwiGLU(config.hidden_size, config.expansion)

    def forward(self, x_BSD: Tensor, rope: Rope | None) -> Tensor:
        """x (B, S, D) -> (B, S, D)."""
        if self.mixer == "attention":
            x_BSD = rms_norm(x_BSD + self.attention(x_BSD, rope))
        else:
            x_BDS = x_BSD.transpose(1, 2)
            x_BSD = rms_norm(x_BDS + self.token_mlp(x_BDS)).transpose(1, 2)
        return rms_norm(x_BSD + self.mlp(x_BSD))
