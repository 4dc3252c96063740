"""The optimizers against recorded numbers, and AdamATan2 across a restart."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from arcpipe.train.optim import AdamATan2, sign_sgd_rows


@pytest.mark.parametrize(
    ("dtype", "recorded", "tolerance"),
    [(torch.float32, "official_f32", 2e-7), (torch.float64, "official_f64", 1e-14)],
)
def test_adam_atan2_is_the_reference_s(
    fixtures_dir: Path, dtype: torch.dtype, recorded: str, tolerance: float
) -> None:
    with np.load(fixtures_dir / "adam_atan2.npz") as arrays:
        weight = nn.Parameter(torch.tensor(arrays["p0"], dtype=dtype))
        beta1, beta2 = arrays["betas"].tolist()
        optimizer = AdamATan2([weight], betas=(beta1, beta2), weight_decay=float(arrays["weight_decay"]))
        for step, gradient in enumerate(arrays["grads"]):
            optimizer.param_groups[0]["lr"] = float(arrays["lr"][step])
            weight.grad = torch.tensor(gradient, dtype=dtype)
            optimizer.step()
            error = np.abs(weight.detach().numpy() - arrays[recorded][step]).max()
            assert error <= tolerance * max(1, np.abs(arrays[recorded][step]).max()), f"step {step}"


def two_weights() -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.randn(5))]


def gradients(step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(3, 4, generator=generator), torch.randn(5, generator=generator)]


def advance(weights: list[nn.Parameter], optimizer: AdamATan2, steps: range) -> None:
    for step in steps:
        for weight, gradient in zip(weights, gradients(step), strict=True):
            weight.grad = gradient
        optimizer.step()


def test_adam_atan2_goes_on_from_its_state_dict() -> None:
    weights, resumed = two_weights(), two_weights()
    whole = AdamATan2(weights, lr=1e-2, weight_decay=0.1)
    advance(weights, whole, range(3))
    for weight, copied in zip(weights, resumed, strict=True):
        copied.data.copy_(weight.data)
    later = AdamATan2(resumed, lr=1.0)
    later.load_state_dict(copy.deepcopy(whole.state_dict()))
    advance(weights, whole, range(3, 6))
    advance(resumed, later, range(3, 6))
    assert all(torch.equal(weight, copied) for weight, copied in zip(weights, resumed, strict=True))


def test_adam_atan2_leaves_a_weight_without_gradient_alone() -> None:
    weights = two_weights()
    before = weights[1].detach().clone()
    weights[0].grad = torch.ones(3, 4)
    AdamATan2(weights, lr=1e-2, weight_decay=0.1).step()
    assert torch.equal(weights[1], before)


def test_the_size_of_a_gradient_decides_nothing() -> None:
    small, large = two_weights(), two_weights()
    for weights, scale in ((small, 1.0), (large, 1024.0)):
        optimizer = AdamATan2(weights, lr=1e-2)
        for step in range(4):
            for weight, gradient in zip(weights, gradients(step), strict=True):
                weight.grad = scale * gradient
            optimizer.step()
    assert all(torch.allclose(one, other) for one, other in zip(small, large, strict=True))


def test_sign_sgd_is_the_reference_s(fixtures_dir: Path) -> None:
    with np.load(fixtures_dir / "sparse_signsgd.npz") as recorded:
        table = torch.tensor(recorded["weights_before"]).float()
        for step, (ids, grads) in enumerate(zip(recorded["ids"], recorded["grads"], strict=True)):
            sign_sgd_rows(
                table, torch.tensor(ids).long(), torch.tensor(grads),
                lr=float(recorded["lr"][step]), weight_decay=float(recorded["weight_decay"]),
            )  # fmt: skip
            np.testing.assert_allclose(table.numpy(), recorded["weights_after"][step], rtol=0, atol=2e-7)


def test_sign_sgd_sums_the_gradients_of_a_row_before_it_takes_their_sign() -> None:
    table = torch.ones(4, 3)
    grads = torch.tensor([[3.0, 1.0, 1.0], [-1.0, -1.0, 1.0], [5.0, 0.0, -5.0]])
    sign_sgd_rows(table, torch.tensor([2, 2, 0]), grads, lr=0.5, weight_decay=0.2)
    assert torch.allclose(table[2], torch.tensor([0.4, 0.9, 0.4]))
    assert torch.allclose(table[0], torch.tensor([0.4, 0.9, 1.4]))
    assert torch.equal(table[[1, 3]], torch.ones(2, 3))
