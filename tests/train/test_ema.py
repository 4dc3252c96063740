"""The averaged weights."""

import pytest
import torch
from torch import nn

from arcpipe.train.state import EMA


def test_an_average_follows_its_formula() -> None:
    layer = nn.Linear(3, 2)
    ema = EMA(layer, decay=0.9)
    expected = {name: weight.detach().double() for name, weight in layer.named_parameters()}
    for step in range(5):
        with torch.no_grad():
            for weight in layer.parameters():
                weight.add_(step + 1.0)
        ema.update()
        for name, weight in layer.named_parameters():
            expected[name] = 0.9 * expected[name] + 0.1 * weight.detach().double()
    for name, average in ema.state_dict().items():
        torch.testing.assert_close(average.double(), expected[name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_averages_are_float32_and_move_by_little_steps(dtype: torch.dtype) -> None:
    layer = nn.Linear(4, 4, bias=False).to(dtype)
    nn.init.ones_(layer.weight)
    ema = EMA(layer, decay=0.999)
    nn.init.zeros_(layer.weight)
    for _ in range(10):
        ema.update()
    average = ema.state_dict()["weight"]
    assert average.dtype == torch.float32
    torch.testing.assert_close(average, torch.full((4, 4), 0.999**10))
