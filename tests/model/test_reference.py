"""The model computes what the reference recorded: fixtures/README.md says how, and how exactly."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from arcpipe.train.losses import StepLoss, step_loss
from arcpipe.trm import Carry
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


@dataclass(frozen=True)
class Step:
    """One supervision step: prefix of its keys, the carry it saw and the one it left, what it computed."""

    key: str
    seen: Carry
    left: Carry
    rows: Tensor
    logits: Tensor
    halt_logit: Tensor
    loss: StepLoss


def supervise(recording: Recording, mode: str) -> Iterator[Step]:
    """The recorded supervision steps, without an optimizer step in between."""
    model = recording.model
    carry = model.empty_carry(len(recording.batch(0).inputs))
    for number in range(NUM_STEPS):
        batch = recording.batch(number if mode == "train" else 0)
        carry = model.admit(carry, batch.inputs, batch.labels, batch.puzzle_ids)
        rows = recording.table[carry.puzzle_ids].requires_grad_()
        answer, latent, logits, halt_logit = model(carry.inputs, rows, carry.answer, carry.latent)
        halted = carry.steps + 1 >= model.config.max_steps
        if mode == "train":
            halted |= halt_logit > 0
        left = carry.advance(answer, latent, halted)
        loss = step_loss(logits, halt_logit, carry.labels)
        yield Step(f"{mode}{number}", carry, left, rows, logits, halt_logit, loss)
        carry = left


@pytest.fixture(scope="module", params=RECORDINGS)
def recording(request: pytest.FixtureRequest, fixtures_dir: Path) -> Recording:
    return read_recording(fixtures_dir, request.param)


@pytest.fixture(scope="module", params=("train", "eval"))
def steps(request: pytest.FixtureRequest, recording: Recording) -> list[Step]:
    return list(supervise(recording, request.param))


def test_states_and_logits(recording: Recording, steps: list[Step]) -> None:
    for step, tolerance in zip(steps, STATE_TOLERANCE, strict=True):
        for name, actual in (
            ("z_H", step.left.answer),
            ("z_L", step.left.latent),
            ("logits", step.logits),
            ("q_halt_logits", step.halt_logit),
            # Not used here, but its weights are kept.
            ("q_continue_logits", recording.model.halt_head(step.left.answer[:, 0])[:, 1]),
        ):
            key = f"{step.key}/{name}"
            assert_close(actual, recording.arrays[key], tolerance, key)


def test_answers_where_the_best_logit_is_clear(recording: Recording, steps: list[Step]) -> None:
    for step, tolerance in zip(steps, STATE_TOLERANCE, strict=True):
        best_two = np.sort(recording.arrays[f"{step.key}/logits"], axis=-1)[..., -2:]
        clear = best_two[..., 1] - best_two[..., 0] > 2 * tolerance
        same = step.logits.argmax(-1).numpy() == recording.arrays[f"{step.key}/preds"]
        assert clear.mean() > 0.9, step.key
        assert same[clear].all(), step.key


def test_rows_in_flight_and_who_halts(recording: Recording, steps: list[Step]) -> None:
    for step in steps:
        for name, actual in (
            ("steps", step.left.steps),
            ("halted", step.left.halted),
            ("current_inputs", step.seen.inputs),
            ("current_labels", step.seen.labels),
            ("current_puzzle_identifiers", step.seen.puzzle_ids),
        ):
            key = f"{step.key}/{name}"
            assert np.array_equal(actual.numpy(), recording.arrays[key]), key


def test_who_is_looked_up_and_when_all_are_done(recording: Recording, steps: list[Step]) -> None:
    for step in steps:
        looked_up = f"{step.key}/puzzle_emb_local_ids"
        if looked_up in recording.arrays:
            assert np.array_equal(step.seen.puzzle_ids.numpy(), recording.arrays[looked_up])
        done = f"{step.key}/all_finished"
        if done in recording.arrays:
            assert bool(step.left.halted.all()) == bool(recording.arrays[done])


def test_all_that_was_recorded_of_the_steps_is_compared(recording: Recording) -> None:
    """A recording with a number that no test here knows would be read in vain."""
    known = {
        "z_H", "z_L", "logits", "preds", "q_halt_logits", "q_continue_logits", "steps", "halted",
        "current_inputs", "current_labels", "current_puzzle_identifiers", "lm_loss", "q_halt_loss",
        "total_loss", "metric_count", "metric_accuracy", "metric_exact_accuracy", "metric_q_halt_accuracy",
        "metric_steps", "puzzle_emb_local_ids", "all_finished",
    }  # fmt: skip
    found = {key.partition("/")[2] for key in recording.arrays if key.startswith(("train", "eval"))}
    assert found - {"puzzle_emb_local_ids"} == known - {"puzzle_emb_local_ids"}


def test_losses(recording: Recording, steps: list[Step]) -> None:
    for step in steps:
        for name, actual in (
            ("lm_loss", step.loss.answer),
            ("q_halt_loss", step.loss.halt),
            ("total_loss", step.loss.total),
        ):
            key = f"{step.key}/{name}"
            assert_close(actual, recording.arrays[key], LOSS_TOLERANCE, key)


def test_metrics_of_the_rows_that_end(recording: Recording, steps: list[Step]) -> None:
    for step in steps:
        loss, counted = step.loss, step.left.halted & step.loss.labelled
        for name, of_row in (
            ("count", torch.ones_like(counted)),
            ("accuracy", loss.cell_accuracy),
            ("exact_accuracy", loss.correct),
            ("q_halt_accuracy", (step.halt_logit >= 0) == loss.correct),
            ("steps", step.left.steps),
        ):
            key = f"{step.key}/metric_{name}"
            assert_close(of_row[counted].sum(), recording.arrays[key], 1e-5, key)


def test_gradients(recording: Recording) -> None:
    step = next(supervise(recording, "train"))
    tensors: dict[str, Tensor] = dict(recording.model.named_parameters())
    if recording.model.config.prefix:
        tensors["rows"] = step.rows
    actual = dict(zip(tensors, torch.autograd.grad(step.loss.total, list(tensors.values())), strict=True))
    recorded = recording.gradients()
    assert actual.keys() == recorded.keys()
    for name, gradient in actual.items():
        assert_close(gradient, recorded[name], GRADIENT_TOLERANCE * np.abs(recorded[name]).max(), name)
