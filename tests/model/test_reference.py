"""The model agrees with recordings of the reference; see fixtures/README.md."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from arcpipe.losses import step_loss
from reference import (
    GRADIENT_TOLERANCE,
    LOSS_TOLERANCE,
    NUM_STEPS,
    RECORDINGS,
    STATE_TOLERANCE,
    Recording,
    assert_close,
    read_recording,
)

EXACT = 0.0


@pytest.fixture(scope="module", params=RECORDINGS)
def recording(request: pytest.FixtureRequest, fixtures_dir: Path) -> Recording:
    return read_recording(fixtures_dir, request.param)


def supervise(recording: Recording, mode: str) -> Iterator[dict[str, tuple[Tensor, float]]]:
    """Return what each recorded supervision step computes, with its tolerance, by the recorded names.

    No optimizer step is in between.
    """
    model = recording.model
    carry = model.empty_carry(len(recording.batch(0).inputs))
    for number in range(NUM_STEPS):
        batch = recording.batch(number if mode == "train" else 0)
        carry = model.admit(carry, batch.inputs, batch.labels, batch.puzzle_ids)
        rows = recording.table[carry.puzzle_ids]
        answer, latent, logits, halt_logit = model(carry.inputs, rows, carry.answer, carry.latent)
        halted = carry.steps + 1 >= model.config.max_steps
        if mode == "train":
            halted |= halt_logit > 0
        left = carry.advance(answer, latent, halted)
        loss = step_loss(logits, halt_logit, carry.labels)
        counted = halted & loss.labelled
        tolerance = STATE_TOLERANCE[number]
        yield {
            "z_H": (answer, tolerance),
            "z_L": (latent, tolerance),
            "logits": (logits, tolerance),
            "q_halt_logits": (halt_logit, tolerance),
            # Unused here, but its weights are stored.
            "q_continue_logits": (model.halt_head(answer[:, 0])[:, 1], tolerance),
            "preds": (logits.argmax(-1), EXACT),
            "steps": (left.steps, EXACT),
            "halted": (halted, EXACT),
            "all_finished": (halted.all(), EXACT),
            "current_inputs": (carry.inputs, EXACT),
            "current_labels": (carry.labels, EXACT),
            "current_puzzle_identifiers": (carry.puzzle_ids, EXACT),
            "puzzle_emb_local_ids": (carry.puzzle_ids, EXACT),
            "lm_loss": (loss.answer, LOSS_TOLERANCE),
            "q_halt_loss": (loss.halt, LOSS_TOLERANCE),
            "total_loss": (loss.total, LOSS_TOLERANCE),
            "metric_count": (counted.sum(), EXACT),
            "metric_accuracy": (loss.cell_accuracy[counted].sum(), 1e-5),
            "metric_exact_accuracy": (loss.correct[counted].sum(), EXACT),
            "metric_q_halt_accuracy": (((halt_logit >= 0) == loss.correct)[counted].sum(), EXACT),
            "metric_steps": (left.steps[counted].sum(), EXACT),
        }
        carry = left


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_all_that_was_recorded_of_three_steps(recording: Recording, mode: str) -> None:
    for number, computed in enumerate(supervise(recording, mode)):
        prefix = f"{mode}{number}/"
        recorded = {
            key.removeprefix(prefix): value
            for key, value in recording.arrays.items()
            if key.startswith(prefix)
        }
        # A token may differ if the two best logits are almost equal.
        best_two = np.sort(recorded["logits"], axis=-1)[..., -2:]
        clear = best_two[..., 1] - best_two[..., 0] > 2 * STATE_TOLERANCE[number]
        assert clear.mean() > 0.9
        preds, _ = computed["preds"]
        computed["preds"] = (torch.where(torch.tensor(clear), preds, torch.tensor(recorded["preds"])), EXACT)
        assert computed.keys() - recorded.keys() <= {"all_finished", "puzzle_emb_local_ids"}
        for name, value in recorded.items():
            actual, tolerance = computed[name]
            assert_close(actual, value, tolerance, prefix + name)


def test_gradients(recording: Recording) -> None:
    model, batch = recording.model, recording.batch(0)
    rows = recording.table[batch.puzzle_ids].requires_grad_()
    _, _, logits, halt_logit = model(batch.inputs, rows)
    tensors: dict[str, Tensor] = dict(model.named_parameters())
    if model.config.prefix:
        tensors["rows"] = rows
    loss = step_loss(logits, halt_logit, batch.labels).total
    actual = dict(zip(tensors, torch.autograd.grad(loss, list(tensors.values())), strict=True))
    recorded = recording.gradients()
    assert actual.keys() == recorded.keys()
    for name, gradient in actual.items():
        assert_close(gradient, recorded[name], GRADIENT_TOLERANCE * np.abs(recorded[name]).max(), name)
