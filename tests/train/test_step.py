"""One optimizer step: its sums are the reference's, who halts when, and what a broken loss leaves alone."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from arcpipe.batches import IGNORE
from arcpipe.checkpoint import find_checkpoint
from arcpipe.train.config import TrainSettings
from arcpipe.train.state import TrainState
from arcpipe.train.step import NotFiniteError
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
from steps import advance, fresh_state, overflow_gradients, random_batch, same, snapshot, state_of
from training import forget_hashes, refused, train

STILL = 0.0
OFFICIAL_METRICS = {
    "finished": "count", "cell": "accuracy", "exact": "exact_accuracy", "steps": "steps",
}  # fmt: skip


@pytest.mark.parametrize("name", RECORDINGS)
def test_sums_and_carry_are_the_reference_s(fixtures_dir: Path, name: str) -> None:
    """Without any rate the weights stay, so that three steps are the three recorded ones."""
    recording: Recording = read_recording(fixtures_dir, name)
    batch_size = len(recording.batch(0).inputs)
    settings = TrainSettings(batch_size=batch_size, halt_exploration=0.0)
    state = state_of(recording.model, recording.table.clone(), batch_size)
    for number in range(NUM_STEPS):
        sums = advance(state, recording.batch(number), settings, STILL)
        prefix = f"train{number}/"
        recorded = {
            key.removeprefix(prefix): value
            for key, value in recording.arrays.items()
            if key.startswith(prefix)
        }
        assert int(sums["samples"]) == batch_size
        for own, official in (("loss_answer", "lm_loss"), ("loss_halt", "q_halt_loss")):
            assert sums[own] == pytest.approx(float(recorded[official]), rel=0, abs=LOSS_TOLERANCE), own
        for own, official in OFFICIAL_METRICS.items():
            assert sums[own] == pytest.approx(float(recorded[f"metric_{official}"]), rel=0, abs=1e-5), own
        # Right is the head where it calls a right answer right, and where it does not call a wrong one so.
        silent = sums["finished"] - sums["exact"] - (sums["halt_calls"] - sums["halt_hits"])
        assert sums["halt_hits"] + silent == float(recorded["metric_q_halt_accuracy"])
        assert_close(state.carry.answer, recorded["z_H"], STATE_TOLERANCE[number], "answer")
        assert_close(state.carry.latent, recorded["z_L"], STATE_TOLERANCE[number], "latent")
        for own, official in (("steps", "steps"), ("halted", "halted"), ("inputs", "current_inputs")):
            assert np.array_equal(getattr(state.carry, own), recorded[official]), own
        assert state.step == number + 1
    assert torch.equal(state.rows, recording.table)


def lifetimes(state: TrainState, settings: TrainSettings, num_steps: int) -> list[int]:
    """The supervision steps that each sample got which ended within `num_steps` optimizer steps."""
    ended: list[int] = []
    for step in range(num_steps):
        advance(state, random_batch(settings.batch_size, step), settings, STILL)
        ended += state.carry.steps[state.carry.halted].tolist()
    return ended


def test_a_sample_that_never_wants_to_halt_gets_all_steps() -> None:
    settings = TrainSettings(batch_size=6, halt_exploration=0.0)
    assert lifetimes(fresh_state(6), settings, 16) == [8] * 12


def test_an_explorer_that_wants_to_halt_gets_at_least_two_steps_and_not_always_all() -> None:
    settings = TrainSettings(batch_size=64, halt_exploration=1.0)
    ended = lifetimes(fresh_state(64, halt_bias=5.0), settings, 24)
    assert min(ended) == 2
    assert max(ended) <= 8
    # At each step a new least number, 2..8, is drawn: one of seven may halt after two.
    assert 0.09 < ended.count(2) / len(ended) < 0.2
    assert {3, 4, 5} <= set(ended)


def test_a_sample_without_labels_is_not_counted_among_those_that_end() -> None:
    settings = TrainSettings(batch_size=6, halt_exploration=0.0)
    state, batch = fresh_state(6, halt_bias=5.0), random_batch(6)
    batch.labels[2] = IGNORE
    sums = advance(state, batch, settings, STILL)
    assert state.carry.halted.all()
    assert (sums["samples"], sums["finished"], sums["steps"]) == (6, 5, 5)


def test_exploration_keeps_a_share_of_the_samples_going_by_seed_and_step() -> None:
    def halted(seed: int, step: int) -> list[bool]:
        state = replace(fresh_state(256, halt_bias=5.0), step=step)
        settings = TrainSettings(batch_size=256, halt_exploration=0.25, seed=seed)
        advance(state, random_batch(256), settings, STILL)
        assert 0.15 < float((~state.carry.halted).float().mean()) < 0.35
        assert (state.carry.steps == 1).all()
        ended: list[bool] = state.carry.halted.tolist()
        return ended

    assert halted(0, 0) == halted(0, 0)
    assert halted(0, 0) != halted(1, 0)
    assert halted(0, 0) != halted(0, 1)


@pytest.mark.parametrize("part", ["rows", "weights"])
@pytest.mark.parametrize("of", ["loss", "gradient"])
def test_a_loss_or_gradient_that_is_not_finite_changes_nothing(part: str, of: str) -> None:
    """The gradient: the loss is finite, and so are all gradients but one."""
    settings, state = TrainSettings(batch_size=6), fresh_state(6)
    for step in range(2):
        advance(state, random_batch(6, step), settings)
    if of == "gradient":
        overflow_gradients(state, part)
    else:
        with torch.no_grad():
            (state.rows if part == "rows" else state.model.output_head.weight).fill_(float("nan"))
    before = snapshot(state)
    message = r"step 3: the loss or its gradient is not finite; no weight was .*train\.lr"
    with pytest.raises(NotFiniteError, match=message):
        advance(state, random_batch(6), settings)
    assert state.step == 2
    assert same(before, snapshot(state))


def test_only_the_rows_of_the_puzzles_in_flight_move_and_are_named() -> None:
    """Not those of the batch that waits."""
    settings, state = TrainSettings(batch_size=4, puzzle_lr=0.5, puzzle_weight_decay=0.0), fresh_state(4)
    batch = replace(random_batch(4), puzzle_ids=torch.tensor([1, 3, 3, 1]))
    waiting = replace(batch, puzzle_ids=torch.tensor([0, 2, 4, 0]))
    before = state.rows.clone()
    advance(state, batch, settings)
    moved = (state.rows - before).abs()
    assert moved[[0, 2, 4]].sum() == 0
    torch.testing.assert_close(moved[[1, 3]], torch.full((2, 4), 0.5))
    advance(state, waiting, settings)
    assert (state.rows - before).abs()[[0, 2, 4]].sum() == 0
    state.rows[[0, 3]] = float("nan")
    with pytest.raises(NotFiniteError) as caught:
        advance(state, waiting, settings)
    assert set(caught.value.puzzle_ids) == {3}


def test_the_schedule_scales_the_rate_of_rows_and_weights() -> None:
    moved = []
    for scale in (1.0, 0.5):
        state = fresh_state(4)
        before = [state.model.output_head.weight.detach().clone(), state.rows.clone()]
        settings = TrainSettings(batch_size=4, puzzle_lr=0.1, puzzle_weight_decay=0.0)
        advance(state, random_batch(4), settings, scale)
        after = [state.model.output_head.weight.detach(), state.rows]
        moved.append([float((new - old).norm()) for new, old in zip(after, before, strict=True)])
    assert moved[1] == pytest.approx([length / 2 for length in moved[0]], rel=0.01)


def test_the_tasks_of_a_broken_step_are_named(work: Path, tmp_path: Path) -> None:
    tasks, data = made_up_tasks(8, max_side=3), str(tmp_path / "data")
    build(tmp_path / "data", write_source(tmp_path, "tasks", tasks), num_aug=0)
    flags = ("--set", "train.batch_size=64")
    train(work, tmp_path / "run", *flags, "--max-minutes", 0, data=data)
    path = find_checkpoint(tmp_path / "run") / "puzzles.safetensors"
    save_file({"rows": torch.full_like(load_file(path)["rows"], 3e38)}, path)
    forget_hashes(path.parent)
    said = refused(work, tmp_path / "run", *flags, "--resume", data=data)
    named = re.search(r"step 1: the loss .*\(its tasks: ([^ ]+(?:, [^ ]+){4}) and 3 more\)$", said)
    assert named is not None, said
    names = set(named[1].split(", "))
    assert len(names) == 5
    assert names <= {task.id for task in tasks}
