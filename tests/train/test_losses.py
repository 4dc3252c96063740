"""Losses: stablemax as the reference recorded it, and what counts as right."""

from pathlib import Path

import numpy as np
import torch

from arcpipe.batches import IGNORE
from arcpipe.train.losses import stablemax_cross_entropy, step_loss


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


def test_far_logits_give_finite_losses_and_gradients() -> None:
    logits = torch.tensor([[-1e30, 1e30, 0.0]], requires_grad=True)
    stablemax_cross_entropy(logits, torch.tensor([0])).sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


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
