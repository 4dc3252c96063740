"""Trainings of a flow: what the network is shown, and how it is asked."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arcpipe.checkpoint import load_checkpoint
from arcpipe.flow import interpolant, noise, seeds_of, times
from arcpipe.train.config import TrainSettings
from arcpipe.train.distributed import make_accelerator
from arcpipe.train.flow import noisy_answers
from arcpipe.train.step import train_step
from candidates import read_predictions
from commands import fail_here, succeed_here
from puzzles import BUCKETS
from steps import CONFIG, random_batch
from steps import fresh_state as state_with
from training import FLOW, settings, train

ARC = [
    *settings("model", buckets=BUCKETS, loop_residual="true"),
    *settings("train", flow_times="random_start"),
]


@pytest.fixture(scope="module", params=["sudoku", "arc"])
def flow(request: pytest.FixtureRequest, work: Path) -> dict[str, Any]:
    """A run of each family: its folder, its flags and its dataset."""
    flags, data = (FLOW, "sudoku") if request.param == "sudoku" else ([*FLOW, *ARC], "sized/data")
    run = work / f"flow-{request.param}"
    train(work, run, *flags, data=data)
    return {"run": run, "flags": flags, "data": data}


def asked(flow: dict[str, Any], work: Path, out: Path, *flags: object) -> tuple[object, ...]:
    """The words of an `arcpipe infer` on the tests of a flow's dataset."""
    return ("infer", "--checkpoint", flow["run"], "--data", work / flow["data"], "--out", out, *flags)


def test_trajectories_are_asked_and_voted(work: Path, flow: dict[str, Any], tmp_path: Path) -> None:
    """Each of another noise, the same whenever it is asked for."""
    assert load_checkpoint(flow["run"]).config.flow
    found = []
    for name, flags in (("one", ()), ("same", ("--batch-size", 7)), ("euler", ("--gamma", 0))):
        succeed_here(*asked(flow, work, tmp_path / name, "--rollouts", 2, "--max-steps", 3, *flags))
        candidates = {
            (one.task, one.test_index, one.augmentation, one.rollout): one
            for one in read_predictions(tmp_path / name)
        }
        found.append([candidates[key].log_probability for key in sorted(candidates, key=str)])
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    assert found[0] != pytest.approx(found[2], rel=1e-4)
    assert len(set(found[0])) == len(found[0])
    if "sudoku" in flow["data"]:
        succeed_here("vote", tmp_path / "one", "--challenges", work / "sudoku", "--out", tmp_path / "voted")


def test_a_flow_does_not_stop_early(work: Path, flow: dict[str, Any], tmp_path: Path) -> None:
    for flags in (("--halt", "learned"), ("--rollouts", 2, "--noise", 0.1)):
        said = fail_here(*asked(flow, work, tmp_path / "out", *flags), logs=True)
        assert "takes all its steps" in said


def test_the_noisy_answers_are_on_the_way_from_noise_to_answer() -> None:
    """The true one at first; later, with the probability of the ramp, what the model predicted last."""
    config = replace(CONFIG, flow=True)
    accelerator = make_accelerator(TrainSettings())
    for ramp, share in ((0, 0.0), (1, 1.0), (8, 0.5)):
        state = state_with(256, config=config)
        options = TrainSettings(batch_size=256, objective="flow", flow_pseudotargets=ramp, seed=5)
        batch = random_batch(256)
        seeds = seeds_of(5, np.uint64(0), np.arange(256, dtype=np.uint64))
        at, start = times(seeds, 8, "sorted"), noise(seeds, 0, 4, 12)
        true = torch.nn.functional.one_hot(batch.labels, 12).float()
        carry = state.model.admit(state.carry, batch.inputs, batch.labels, batch.puzzle_ids, seeds=seeds)
        found = noisy_answers(state, carry, options)
        assert found is not None
        assert torch.equal(found[1], at[:, 0])
        torch.testing.assert_close(found[0], interpolant(start, true, at[:, 0]))
        for _ in range(3):
            train_step(state, batch, options, 1.0, accelerator)
        assert state.carry.predicted is not None
        torch.testing.assert_close(state.carry.predicted.sum(-1), torch.ones(256, 4))
        found = noisy_answers(state, state.carry, options)
        assert found is not None
        assert torch.equal(found[1], at[:, 3])
        of_true, of_own = (
            (found[0] - interpolant(start, end, at[:, 3])).abs().amax(dim=(1, 2)) < 1e-6
            for end in (true, state.carry.predicted)
        )
        assert (of_true ^ of_own).all()
        assert float(of_own.float().mean()) == pytest.approx(share, abs=0.1)
