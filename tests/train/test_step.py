"""One optimizer step: its sums are the reference's, who halts when, and what a broken loss leaves alone."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor

from arcpipe.batches import IGNORE, PuzzleBatch
from arcpipe.checkpoint import find_checkpoint
from arcpipe.train.config import TrainSettings
from arcpipe.train.state import TrainState
from arcpipe.train.step import METRICS, NotFiniteError, rate_scale, train_step
from arcpipe.trm import TRM
from hashes import forget_hashes
from puzzles import build, made_up_tasks, write_source
from reference import (
    LOSS_TOLERANCE,
    NUM_STEPS,
    RECORDINGS,
    STATE_TOLERANCE,
    Recording,
    assert_close,
    read_recording,
)
from steps import fresh_state, random_batch, same, snapshot, state_of
from training import refused, train

STILL = 0.0


@pytest.mark.parametrize("name", RECORDINGS)
def test_sums_and_carry_are_the_reference_s(fixtures_dir: Path, name: str) -> None:
    """Without any rate the weights stay, so that three steps are the three recorded ones."""
    recording: Recording = read_recording(fixtures_dir, name)
    batch_size = len(recording.batch(0).inputs)
    settings = TrainSettings(batch_size=batch_size, halt_exploration=0.0)
    state = state_of(recording.model, recording.table.clone(), batch_size)
    for number in range(NUM_STEPS):
        sums = train_step(state, recording.batch(number), settings, STILL, Accelerator())
        of = dict(zip(METRICS, sums, strict=True))
        recorded = {
            key.removeprefix(f"train{number}/"): value
            for key, value in recording.arrays.items()
            if key.startswith(f"train{number}/")
        }
        assert int(of["samples"]) == batch_size
        assert_close(of["loss_answer"], recorded["lm_loss"], LOSS_TOLERANCE, "answer loss")
        assert_close(of["loss_halt"], recorded["q_halt_loss"], LOSS_TOLERANCE, "halt loss")
        for own, official in (
            ("finished", "count"),
            ("cell", "accuracy"),
            ("exact", "exact_accuracy"),
            ("halt_right", "q_halt_accuracy"),
            ("steps", "steps"),
        ):
            assert_close(of[own], recorded[f"metric_{official}"], 1e-5, own)
        assert_close(state.carry.answer, recorded["z_H"], STATE_TOLERANCE[number], "answer")
        assert_close(state.carry.latent, recorded["z_L"], STATE_TOLERANCE[number], "latent")
        assert np.array_equal(state.carry.steps, recorded["steps"])
        assert np.array_equal(state.carry.halted, recorded["halted"])
        assert np.array_equal(state.carry.inputs, recorded["current_inputs"])
        assert state.step == number + 1
    assert torch.equal(state.rows, recording.table)


def lifetimes(state: TrainState, settings: TrainSettings, num_steps: int) -> list[int]:
    """The supervision steps that each sample got which ended within `num_steps` optimizer steps."""
    found: list[int] = []
    for step in range(num_steps):
        train_step(state, random_batch(settings.batch_size, step), settings, STILL, Accelerator())
        found += state.carry.steps[state.carry.halted].tolist()
    return found


def test_a_sample_that_never_wants_to_halt_gets_all_steps() -> None:
    settings = TrainSettings(batch_size=6, halt_exploration=0.0)
    assert lifetimes(fresh_state(6), settings, 16) == [8] * 12


def test_an_explorer_that_wants_to_halt_gets_at_least_two_steps_and_not_always_all() -> None:
    settings = TrainSettings(batch_size=64, halt_exploration=1.0)
    found = lifetimes(fresh_state(64, halt_bias=5.0), settings, 24)
    assert min(found) == 2
    assert max(found) <= 8
    # At each step a new least number, 2..8, is drawn: one of seven may halt after two.
    share = found.count(2) / len(found)
    assert 0.09 < share < 0.2
    assert {3, 4, 5} <= set(found)


def test_a_sample_without_labels_is_not_counted_among_those_that_end() -> None:
    settings = TrainSettings(batch_size=6, halt_exploration=0.0)
    state, batch = fresh_state(6, halt_bias=5.0), random_batch(6)
    batch.labels[2] = IGNORE
    sums = dict(zip(METRICS, train_step(state, batch, settings, STILL, Accelerator()).tolist(), strict=True))
    assert state.carry.halted.all()
    assert (sums["samples"], sums["finished"], sums["steps"]) == (6, 5, 5)


def test_exploration_keeps_a_share_of_the_samples_going() -> None:
    settings = TrainSettings(batch_size=256, halt_exploration=0.25)
    state = fresh_state(256, halt_bias=5.0)
    train_step(state, random_batch(256), settings, STILL, Accelerator())
    assert 0.15 < float((~state.carry.halted).float().mean()) < 0.35
    assert (state.carry.steps == 1).all()


def test_exploration_is_drawn_from_seed_and_step() -> None:
    def halted(seed: int, step: int) -> list[bool]:
        state = replace(fresh_state(32, halt_bias=5.0), step=step)
        settings = TrainSettings(batch_size=32, halt_exploration=0.5, seed=seed)
        train_step(state, random_batch(32), settings, STILL, Accelerator())
        ended: list[bool] = state.carry.halted.tolist()
        return ended

    assert halted(0, 0) == halted(0, 0)
    assert halted(0, 0) != halted(1, 0)
    assert halted(0, 0) != halted(0, 1)


@pytest.mark.parametrize("part", ["rows", "weights"])
def test_a_loss_that_is_not_finite_changes_nothing(part: str) -> None:
    settings = TrainSettings(batch_size=6)
    state = fresh_state(6)
    for step in range(2):
        train_step(state, random_batch(6, step), settings, 1.0, Accelerator())
    with torch.no_grad():
        (state.rows if part == "rows" else state.model.output_head.weight).fill_(float("nan"))
    before = snapshot(state)
    with pytest.raises(NotFiniteError, match=r"step 3: the loss or its gradient is not finite; .*train\.lr"):
        train_step(state, random_batch(6), settings, 1.0, Accelerator())
    assert state.step == 2
    assert same(before, snapshot(state))


@pytest.mark.parametrize("part", ["rows", "weights"])
def test_a_gradient_that_is_not_finite_changes_nothing(part: str) -> None:
    """The loss is finite, and so are all gradients but one."""

    def overflow(gradient: Tensor) -> Tensor:
        return gradient * 1e30 * 1e30

    def spoil_rows(_module: TRM, inputs: tuple[Tensor, ...]) -> None:
        inputs[1].register_hook(overflow)

    settings = TrainSettings(batch_size=6)
    state = fresh_state(6)
    train_step(state, random_batch(6), settings, 1.0, Accelerator())
    if part == "rows":
        state.model.register_forward_pre_hook(spoil_rows)
    else:
        state.model.output_head.weight.register_hook(overflow)
    before = snapshot(state)
    with pytest.raises(NotFiniteError, match="step 2: the loss or its gradient is not finite; no weight was"):
        train_step(state, random_batch(6), settings, 1.0, Accelerator())
    assert same(before, snapshot(state))


def test_only_the_rows_of_the_puzzles_in_flight_move() -> None:
    settings = TrainSettings(batch_size=4, puzzle_lr=0.5, puzzle_weight_decay=0.0)
    state = fresh_state(4)
    batch = replace(random_batch(4), puzzle_ids=torch.tensor([1, 3, 3, 1]))
    before = state.rows.clone()
    train_step(state, batch, settings, 1.0, Accelerator())
    moved = (state.rows - before).abs()
    assert moved[[0, 2, 4]].sum() == 0
    torch.testing.assert_close(moved[[1, 3]], torch.full((2, 4), 0.5))
    # The next batch waits: its samples are not in flight while these are.
    train_step(state, replace(batch, puzzle_ids=torch.tensor([0, 2, 4, 0])), settings, 1.0, Accelerator())
    assert (state.rows - before).abs()[[0, 2, 4]].sum() == 0


def test_the_loss_is_divided_by_the_global_batch() -> None:
    """Twice the same samples give the gradient of once, and so the same step."""
    once, twice = fresh_state(3), fresh_state(6)
    small = random_batch(3)
    double = PuzzleBatch(
        *(torch.cat([part, part]) for part in (small.inputs, small.labels, small.puzzle_ids))
    )
    # Plain descent: with atan2 the size of a gradient would not be seen.
    for state, batch in ((once, small), (twice, double)):
        weights = {"params": state.model.parameters(), "initial_lr": 0.1}
        state.optimizers = [torch.optim.SGD([weights])]
        settings = TrainSettings(batch_size=len(batch.inputs), puzzle_lr=0.0)
        train_step(state, batch, settings, 1.0, Accelerator())
    for name, weight in once.model.named_parameters():
        torch.testing.assert_close(weight, twice.model.get_parameter(name), rtol=1e-5, atol=1e-6)


def test_a_broken_row_is_named() -> None:
    """Of the puzzles in flight, not of the batch that waits."""
    settings = TrainSettings(batch_size=4)
    state = fresh_state(4)
    first = replace(random_batch(4), puzzle_ids=torch.tensor([1, 3, 3, 1]))
    train_step(state, first, settings, 1.0, Accelerator())
    state.rows[[0, 3]] = float("nan")
    waiting = replace(first, puzzle_ids=torch.zeros(4).long())
    with pytest.raises(NotFiniteError) as caught:
        train_step(state, waiting, settings, 1.0, Accelerator())
    assert set(caught.value.puzzle_ids) == {3}


def test_rates_scale() -> None:
    settings = TrainSettings(warmup_steps=4, min_lr_ratio=0.25)
    assert [rate_scale(settings, step, 0.0) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert rate_scale(settings, 100, 1.0) == 0.25
    assert rate_scale(settings, 100, 0.5) == pytest.approx((1 + 0.25) / 2)
    assert rate_scale(replace(settings, warmup_steps=0), 0, 0.0) == 1.0
    # The default keeps the rate once it is warm.
    assert rate_scale(TrainSettings(), 300_000, 0.6) == 1.0


def test_the_schedule_scales_the_rate_of_rows_and_weights() -> None:
    moved = []
    for scale in (1.0, 0.5):
        state = fresh_state(4)
        before = [state.model.output_head.weight.detach().clone(), state.rows.clone()]
        settings = TrainSettings(batch_size=4, puzzle_lr=0.1, puzzle_weight_decay=0.0)
        train_step(state, random_batch(4), settings, scale, Accelerator())
        after = [state.model.output_head.weight.detach(), state.rows]
        moved.append([float((new - old).norm()) for new, old in zip(after, before, strict=True)])
    assert moved[1] == pytest.approx([length / 2 for length in moved[0]], rel=0.01)


@pytest.mark.parametrize(("num_tasks", "more"), [(3, ""), (8, " and 3 more")])
def test_the_tasks_of_a_broken_step_are_named(work: Path, tmp_path: Path, num_tasks: int, more: str) -> None:
    tasks = made_up_tasks(num_tasks, max_side=3)
    build(tmp_path / "data", write_source(tmp_path, "tasks", tasks), num_aug=0)
    flags = ("--set", "train.batch_size=64")
    train(work, tmp_path / "run", *flags, "--max-minutes", 0, data=str(tmp_path / "data"))
    path = find_checkpoint(tmp_path / "run") / "puzzles.safetensors"
    save_file({"rows": torch.full_like(load_file(path)["rows"], 3e38)}, path)
    forget_hashes(path.parent)
    said = refused(work, tmp_path / "run", *flags, "--resume", data=str(tmp_path / "data"))
    found = re.search(r"step 1: the loss .*\(its tasks: ([^ ]+(?:, [^ ]+)*)( and 3 more)?\)$", said)
    assert found is not None, said
    named = found[1].split(", ")
    assert len(named) == len(set(named)) == min(5, num_tasks)
    assert set(named) <= {task.id for task in tasks}
    assert (found[2] or "") == more
