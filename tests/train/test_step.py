"""One optimizer step: the reference's sums, halting, non-finite losses and gradients, and float16."""

import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor

from arcpipe.batches import IGNORE
from arcpipe.devices import compute_dtype
from arcpipe.errors import ArcpipeError
from arcpipe.runs import find_checkpoint
from arcpipe.train.config import TrainSettings
from arcpipe.train.state import TrainState
from arcpipe.train.step import MIN_LOSS_SCALE, NotFiniteError, train_step
from commands import run_here
from files import changing, forget_hashes
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
from steps import advance, fresh_state, learned, overflow_gradients, random_batch, same, snapshot, state_of
from training import refused, settings, train, train_arguments

STILL = 0.0
OFFICIAL_METRICS = {
    "finished": "count", "cell": "accuracy", "exact": "exact_accuracy", "steps": "steps",
}  # fmt: skip


@pytest.mark.parametrize("name", RECORDINGS)
def test_sums_and_carry_are_the_reference_s(fixtures_dir: Path, name: str) -> None:
    """With a rate of 0 the weights do not change, as in the three recorded steps."""
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
        # The head is right if it calls a right answer right or does not call a wrong one right.
        silent = sums["finished"] - sums["exact"] - (sums["halt_calls"] - sums["halt_hits"])
        assert sums["halt_hits"] + silent == float(recorded["metric_q_halt_accuracy"])
        assert_close(state.carry.answer, recorded["z_H"], STATE_TOLERANCE[number], "answer")
        assert_close(state.carry.latent, recorded["z_L"], STATE_TOLERANCE[number], "latent")
        for own, official in (("steps", "steps"), ("halted", "halted"), ("inputs", "current_inputs")):
            assert np.array_equal(getattr(state.carry, own), recorded[official]), own
        assert state.step == number + 1
    assert torch.equal(state.rows, recording.table)


def lifetimes(state: TrainState, settings: TrainSettings, num_steps: int) -> list[int]:
    """The supervision steps of each sample that ended within `num_steps` optimizer steps."""
    ended: list[int] = []
    for step in range(num_steps):
        advance(state, random_batch(settings.batch_size, step), settings, STILL)
        ended += state.carry.steps[state.carry.halted].tolist()
    return ended


def test_an_explorer_that_wants_to_halt_gets_at_least_two_steps_and_not_always_all() -> None:
    settings = TrainSettings(batch_size=64, halt_exploration=1.0)
    ended = lifetimes(fresh_state(64, halt_bias=5.0), settings, 24)
    assert min(ended) == 2
    assert max(ended) <= 8
    # Each step draws a new minimum, 2..8: one in seven samples may halt after two.
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
    """In case of the gradient, the loss and all gradients but one are finite."""
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
    """The puzzles of the waiting batch are not."""
    settings, state = TrainSettings(batch_size=4, puzzle_lr=0.5, puzzle_weight_decay=0.0), fresh_state(4)
    batch = random_batch(4)._replace(puzzle_ids=torch.tensor([1, 3, 3, 1]))
    waiting = batch._replace(puzzle_ids=torch.tensor([0, 2, 4, 0]))
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


SETTINGS = TrainSettings(batch_size=6, puzzle_lr=1e-2, halt_exploration=0.0)


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((6, 0), torch.float32), ((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((12, 0), torch.bfloat16)],
)
def test_auto_takes_what_the_gpu_has_in_hardware(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    gpu = torch.device("cuda")
    reason = "compute capability {}.{}".format(*capability)
    assert compute_dtype("auto", gpu) == (expected, f"auto: {reason}")
    assert compute_dtype("float16", gpu)[0] == torch.float16
    if expected == torch.bfloat16:
        assert compute_dtype("bfloat16", gpu)[0] == torch.bfloat16
    else:
        with pytest.raises(ArcpipeError, match=f"{reason} only emulates; use float16, float32 or auto"):
            compute_dtype("bfloat16", gpu)


def test_auto_on_a_cpu_and_elsewhere() -> None:
    dtype, reason = compute_dtype("auto", torch.device("cpu"))
    assert dtype == (torch.float32 if "has no avx512_bf16" in reason else torch.bfloat16)
    assert compute_dtype("auto", torch.device("mps")) == (torch.float32, "auto: not known for mps")


def half_state(scale: float | None = None) -> TrainState:
    state = fresh_state(6, dtype=torch.float16)
    if scale is not None:
        state.scaler.load_state_dict(state.scaler.state_dict() | {"scale": scale, "_growth_tracker": 0})
    return state


def advance_by(state: TrainState, num_steps: int = 1) -> list[dict[str, float]]:
    return [advance(state, random_batch(6, step), SETTINGS) for step in range(num_steps)]


def test_float16_trains_as_float32_does() -> None:
    exact, rough = fresh_state(6), half_state()
    for one, other in zip(advance_by(exact, 12), advance_by(rough, 12), strict=True):
        assert other["loss_answer"] == pytest.approx(one["loss_answer"], rel=0.01)
        assert other["loss_halt"] == pytest.approx(one["loss_halt"], rel=0.01)
    assert rough.carry.answer.dtype == torch.float16
    for name, weight in rough.model.named_parameters():
        other_weight = exact.model.get_parameter(name).detach()
        assert weight.dtype == torch.float32
        torch.testing.assert_close(weight.detach(), other_weight, rtol=0, atol=5e-3)


def test_a_step_whose_gradients_overflow_learns_nothing_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    state = half_state()
    advance_by(state, 2)
    state.scaler.load_state_dict(state.scaler.state_dict() | {"scale": 2.0**40, "_growth_tracker": 3})
    before, steps = learned(state), state.carry.steps.clone()
    with caplog.at_level(logging.INFO, logger="arcpipe"):
        (sums,) = advance_by(state)
    assert same(before, learned(state))
    assert sums["loss_answer"] > 0
    assert state.step == 3
    assert torch.equal(state.carry.steps, steps + 1)
    assert state.scaler.get_scale() == 2.0**39
    assert state.scaler.state_dict()["_growth_tracker"] == 0
    assert "step 3: float16 gradients overflow" in caplog.text
    # No gradient is left over, and with a fitting scale the training goes on.
    assert all(weight.grad is None for weight in state.model.parameters())
    advance_by(state, 30)
    assert not same(before, learned(state))
    assert all(tensor.isfinite().all() for tensor in learned(state))


class OneOfMany(Accelerator):  # type: ignore[misc]
    """Adds infinite gradients of another process to the sums over all processes."""

    def reduce(self, tensor: Tensor, reduction: str = "sum", scale: float = 1.0) -> Tensor:
        return tensor + torch.tensor([0.0, float("inf")])


@pytest.mark.parametrize("where", ["rows", "another process"])
def test_gradients_that_overflow_elsewhere_count_too(where: str) -> None:
    """The gradients of the weights of this process are finite."""
    state = half_state()
    if where == "rows":
        overflow_gradients(state, "rows")
    before = learned(state)
    accelerator = Accelerator() if where == "rows" else OneOfMany()
    train_step(state, random_batch(6), SETTINGS, 1.0, accelerator)
    assert same(before, learned(state))
    assert state.scaler.get_scale() == 2.0**15


def test_gradients_that_overflow_at_every_scale_stop_the_training() -> None:
    state = half_state(4 * MIN_LOSS_SCALE)
    overflow_gradients(state, "weights")
    before = learned(state)
    advance_by(state, 2)
    assert state.scaler.get_scale() == MIN_LOSS_SCALE
    whole = snapshot(state)
    with pytest.raises(NotFiniteError, match="step 3: the loss or its gradient is not finite"):
        advance_by(state)
    assert same(before, learned(state))
    assert same(whole, snapshot(state))


def test_a_loss_that_is_not_finite_stops_float16_at_once() -> None:
    state = half_state()
    advance_by(state)
    state.rows[:] = 1e6
    before, scale = snapshot(state), state.scaler.get_scale()
    with pytest.raises(NotFiniteError, match=r"step 2: the loss .* finite in float16; .*precision=float32"):
        advance_by(state)
    assert same(before, snapshot(state))
    assert state.scaler.get_scale() == scale


def test_a_run_that_moves_to_a_device_for_float16_gets_a_loss_scale(work: Path, run: Path) -> None:
    """As with train.precision = auto, which the manifest then records for both."""
    train(work, run, "--steps", 3)
    with changing(run / "manifest.json") as manifest:
        manifest["recipe"]["train"]["precision"] = "float16"
    train(work, run, *settings("train", precision="float16"), "--resume", "--steps", 5)
    assert load_file(find_checkpoint(run) / "trainer.safetensors")["scaler._growth_tracker"].item() == 2


def test_accelerate_may_ask_for_what_the_recipe_says_and_nothing_else(work: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for mixed, precision in (("fp16", "float32"), ("bf16", "float16"), ("fp8", "float16")):
        flags, env = settings("train", precision=precision), {"ACCELERATE_MIXED_PRECISION": mixed}
        said = refused(work, run, *flags, **env)
        assert (
            f"asks for mixed precision {mixed}, but train.precision={precision} is {precision} here" in said
        )
        assert not run.exists()
    for mixed in ("fp16", "no"):
        flags, env = settings("train", precision="float16"), {"ACCELERATE_MIXED_PRECISION": mixed}
        done = run_here(*train_arguments(work, tmp_path / mixed, *flags, "--steps", 1), env=env, code=0)
        assert "; float16 on cpu (as the recipe says)" in done.stderr
