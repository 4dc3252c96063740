"""Losses: stablemax as the reference recorded it, and what counts as right."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from arcpipe.batches import IGNORE
from arcpipe.train.losses import stablemax_cross_entropy, stablemax_cross_entropy_float32, step_loss


def test_stablemax_and_its_gradient_are_the_reference_s(fixtures_dir: Path) -> None:
    with np.load(fixtures_dir / "stablemax_ce.npz") as recorded:
        logits = torch.tensor(recorded["logits"], requires_grad=True)
        labels = torch.tensor(recorded["labels"]).long()
        losses = stablemax_cross_entropy(logits, labels)
        losses.sum().backward()
        assert logits.grad is not None
        assert losses.dtype == torch.float64
        np.testing.assert_allclose(losses.detach().numpy(), recorded["loss_per_token"], rtol=1e-12)
        np.testing.assert_allclose(logits.grad.numpy(), recorded["grad_logits_of_sum"], rtol=1e-5, atol=1e-7)
        # Averaged over the labelled cells of each row, summed over rows; a row without labels gives 0.
        loss = step_loss(logits.detach(), torch.zeros(5), labels)
        np.testing.assert_allclose(loss.answer.item(), recorded["lm_loss_head"], rtol=1e-12)


def losses_and_gradients(logits: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Those of the float64 form, then those of the float32 form, as float64."""
    found = []
    for form in (stablemax_cross_entropy, stablemax_cross_entropy_float32):
        leaf = logits.clone().requires_grad_()
        losses = form(leaf, labels)
        losses.sum().backward()
        assert leaf.grad is not None
        found.append((losses.detach().double(), leaf.grad.double()))
    return found


def assert_within(actual: Tensor, exact: Tensor, relative: float) -> None:
    # The difference of two logarithms in float64 is itself rounded.
    assert float(((actual - exact).abs() - relative * exact.abs()).max()) <= 1e-14


def test_float32_stablemax_is_the_reference_s_within_its_bound(fixtures_dir: Path) -> None:
    with np.load(fixtures_dir / "stablemax_ce.npz") as recorded:
        logits, labels = torch.tensor(recorded["logits"]), torch.tensor(recorded["labels"]).long()
        losses = stablemax_cross_entropy_float32(logits, labels)
        assert losses.dtype == torch.float32
        assert_within(losses.double(), torch.tensor(recorded["loss_per_token"]), 1e-6)
        loss = step_loss(logits, torch.zeros(5), labels, "float32")
        np.testing.assert_allclose(loss.answer.item(), recorded["lm_loss_head"], rtol=1e-6)
    (exact, exact_gradient), (rough, rough_gradient) = losses_and_gradients(logits, labels)
    assert_within(rough, exact, 1e-6)
    assert_within(rough_gradient, exact_gradient, 1e-6)


@pytest.mark.parametrize("range_", [1e-3, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("vocabulary", [2, 12, 40])
def test_float32_stablemax_holds_its_bound_over_a_large_range(range_: float, vocabulary: int) -> None:
    generator = torch.Generator().manual_seed(0)
    exponents = 2 * torch.rand(20_000, vocabulary, generator=generator) - 1
    signs = torch.randn(20_000, vocabulary, generator=generator).sign()
    logits = torch.cat([signs * range_**exponents, signs * range_ * exponents])
    logits[:100] = torch.tensor([0.0, 1.0, -1.0, range_])[
        torch.randint(4, logits[:100].shape, generator=generator)
    ]
    labels = torch.randint(vocabulary, logits.shape[:1], generator=generator)
    (exact, exact_gradient), (rough, rough_gradient) = losses_and_gradients(logits, labels)
    assert_within(rough, exact, 1e-6)
    assert_within(rough_gradient, exact_gradient, 1e-6)


def test_right_is_every_labelled_cell() -> None:
    labels = torch.tensor([[1, 2, IGNORE], [1, 2, 0], [IGNORE] * 3])
    logits = torch.nn.functional.one_hot(torch.tensor([[1, 2, 0]] * 3), 4).float()
    logits[1, 2] = torch.tensor([0.0, 0, 0, 1])
    loss = step_loss(logits, torch.tensor([0.0, 0, 0]), labels)
    # A sample without labels counts as right, as in the reference, but does not count as labelled.
    assert loss.correct.tolist() == [True, False, True]
    assert loss.labelled.tolist() == [True, True, False]
    assert loss.cell_accuracy.tolist() == [1, torch.tensor(2 / 3).item(), 0]


def test_the_halt_loss_teaches_whether_the_answer_is_right() -> None:
    labels = torch.tensor([[1], [1]])
    logits = torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]])
    sure_and_right, wrong_way_round = (
        step_loss(logits, torch.tensor(halt), labels) for halt in ([9.0, -9.0], [-9.0, 9.0])
    )
    assert sure_and_right.halt < 1e-3
    assert wrong_way_round.halt > 17
    assert wrong_way_round.total == wrong_way_round.answer + 0.5 * wrong_way_round.halt
