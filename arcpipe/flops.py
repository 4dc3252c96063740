"""Floating-point operations: how many a supervision step takes, and how many a device can do."""

import torch
from torch.utils.benchmark import Timer

from arcpipe.layers import mlp_width
from arcpipe.model_config import TRMConfig

_SIDES = {"cuda": 8192, "cpu": 1024}
_TRIES = 4
_PRODUCTS = 4


def train_step_flops(config: TRMConfig, num_tokens: int) -> float:
    """Return the operations of one supervision step with its gradient, of one sample.

    Of matrix products only, which are nearly all; a multiplication and an addition are two. The gradient
    takes twice its forward part, the last outer cycle.

    Args:  num_tokens: L, without the puzzle prefix.
    """
    tokens, size = config.prefix + num_tokens, config.hidden_size
    mlp = 3 * tokens * size * mlp_width(size, config.expansion)
    if config.mixer == "attention":
        mixer = 4 * tokens * size**2 + 2 * tokens**2 * size
    else:
        mixer = 3 * size * tokens * mlp_width(tokens, config.expansion)
    network = 2.0 * config.num_layers * (mixer + mlp)
    return (config.outer_cycles + 2) * (config.inner_cycles + 1) * network


def speed_text(flops_per_second: float) -> str:
    """Return a speed to two digits, in the larger of TFLOP/s and GFLOP/s that is not less than one."""
    unit, name = (1e12, "TFLOP/s") if flops_per_second >= 1e12 else (1e9, "GFLOP/s")
    return f"{float(f'{flops_per_second / unit:.2g}'):g} {name}"


def measure_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Measure the operations a second of large square matrix products on this device: the best of a few runs.

    Random numbers are multiplied: operands that are all alike draw less power, and a GPU then runs at a
    higher clock than any training sees.
    """
    side = _SIDES.get(device.type, 1024)
    generator = torch.Generator(device).manual_seed(0)
    one, other = (torch.randn(side, side, generator=generator, device=device).to(dtype) for _ in range(2))
    operands = {"one": one, "other": other, "product": torch.empty_like(one)}
    timer = Timer("torch.mm(one, other, out=product)", globals=operands, num_threads=torch.get_num_threads())
    return 2.0 * side**3 / min(timer.timeit(_PRODUCTS).median for _ in range(_TRIES))
