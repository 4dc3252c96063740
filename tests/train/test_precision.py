"""The compute dtype, and float16: its loss scale, the steps it skips, and what stops it."""

import json
import logging
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor

from arcpipe.checkpoint import find_checkpoint
from arcpipe.devices import compute_dtype
from arcpipe.errors import ArcpipeError
from arcpipe.train.config import TrainSettings
from arcpipe.train.state import TrainState
from arcpipe.train.step import MIN_LOSS_SCALE, NotFiniteError, train_step
from commands import run_here
from steps import advance, fresh_state, learned, overflow_gradients, random_batch, same, snapshot
from training import refused, settings, train, train_arguments

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
    # Nothing of the gradients is left over, and once the scale fits the training goes on.
    assert all(weight.grad is None for weight in state.model.parameters())
    advance_by(state, 30)
    assert not same(before, learned(state))
    assert all(tensor.isfinite().all() for tensor in learned(state))


class OneOfMany(Accelerator):  # type: ignore[misc]
    """As if the gradients of another process overflowed, in the sums over all processes."""

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
    with pytest.raises(NotFiniteError, match="step 2: the loss or its gradient is not finite"):
        advance_by(state)
    assert same(before, snapshot(state))
    assert state.scaler.get_scale() == scale


def test_a_run_that_moves_to_a_device_for_float16_gets_a_loss_scale(work: Path, run: Path) -> None:
    """As when train.precision is auto, which the manifest then says of both."""
    train(work, run, "--steps", 3)
    manifest = json.loads((run / "manifest.json").read_bytes())
    manifest["recipe"]["train"]["precision"] = "float16"
    (run / "manifest.json").write_text(json.dumps(manifest))
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
