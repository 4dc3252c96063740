"""Flows: noise and times from seeds, and the formulas, one number at a time."""

import math

import numpy as np
import pytest
import torch

from arcpipe.flow import move, noise, seeds_of, stir, times, with_given
from arcpipe.losses import probabilities

SEEDS = seeds_of(3, np.arange(2000, dtype=np.uint64))


def test_noise_is_normal() -> None:
    values = noise(SEEDS, 0, 9, 4)
    assert values.shape == (2000, 9, 4)
    assert torch.equal(values[5:6], noise(SEEDS[5:6], 0, 9, 4)), "each sample alone"
    assert float(values.std()) == pytest.approx(0.5, rel=0.01)
    assert abs(float(values.mean())) < 0.005
    for deviations, share in ((1, 0.6827), (2, 0.9545), (3, 0.9973)):
        assert float((values.abs() < 0.5 * deviations).float().mean()) == pytest.approx(share, abs=0.004)
    other = noise(SEEDS, 1, 9, 4)
    together = torch.corrcoef(torch.stack((values.flatten(), other.flatten(), values.roll(1, 2).flatten())))
    assert (together - torch.eye(3)).abs().max() < 0.02


def test_times_rise() -> None:
    in_order, begun = times(SEEDS, 16, "sorted"), times(SEEDS, 16, "random_start")
    for found in (in_order, begun):
        assert found.shape == (2000, 16)
        assert (found.diff(dim=1) >= 0).all()
        assert found.min() > 0
        assert found.max() < 1
    # The smallest of 17 uniform numbers, and one of them alone.
    assert float(in_order[:, 0].mean()) == pytest.approx(1 / 18, abs=0.005)
    assert float(begun[:, 0].mean()) == pytest.approx(0.5, abs=0.02)
    assert float(begun.mean()) > float(in_order.mean()) + 0.2


@pytest.mark.parametrize("gamma", [0.0, 1.0, 5.0, 100.0])
def test_the_sampler_is_the_definition(gamma: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x, fresh, logits = torch.randn(3, 2, 4, 5, generator=generator)
    now, later = torch.tensor([0.0, 0.6]), torch.tensor([0.1, 0.75])
    p = probabilities(logits, "stablemax")
    y, time = stir(x, fresh, now, later, gamma)
    end = move(y, p, time, later)
    for sample in range(2):
        t, following = now[sample].item(), later[sample].item()
        a = min(1.0, max(0.0, 1 - gamma * (following - t)))
        s = a * t
        assert time[sample].item() == pytest.approx(s)
        for place in np.ndindex(4, 5):
            old, eps, to = (of[sample][place].item() for of in (x, fresh, p))
            expected = a * old + math.sqrt((1 - s) ** 2 - (a - s) ** 2) * eps
            assert y[sample][place].item() == pytest.approx(expected, abs=1e-5)
            expected += (following - s) * (to - expected) / (1 - s)
            assert end[sample][place].item() == pytest.approx(expected, abs=1e-5)
    if gamma == 0:
        assert torch.equal(y, x)
    assert torch.allclose(move(y, p, time, torch.ones(2)), p)


def test_probabilities_are_those_of_the_loss() -> None:
    logits = torch.tensor([[[-3.0, 0.0, 2.0]]])
    scores = [1 / 4, 1.0, 3.0]
    assert probabilities(logits, "stablemax").flatten().tolist() == pytest.approx([s / 4.25 for s in scores])
    assert torch.equal(probabilities(logits, "softmax"), logits.softmax(-1))


def test_given_cells_stay() -> None:
    x = torch.randn(1, 3, 4)
    found = with_given(x, torch.tensor([[1, 3, 1]]), 1)
    assert torch.equal(found[0, 0], x[0, 0])
    assert found[0, 1].tolist() == [0, 0, 0, 1]
    assert torch.equal(found[0, 2], x[0, 2])
    assert with_given(x, torch.tensor([[1, 3, 1]]), None) is x
