"""Beginning from a checkpoint of another run, and going on with a changed recipe."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from arcpipe.checkpoint import Checkpoint, load_checkpoint, newest_checkpoint
from training import assert_same_run, metrics, newest, refused, settings, train

FIRST = ("--max-minutes", 0)
"""No step: what is saved is what the training begins with."""


def loaded(run: Path) -> Checkpoint:
    return load_checkpoint(newest_checkpoint(run))


def manifest(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "manifest.json").read_bytes())
    return content


@pytest.fixture(scope="module")
def begun(work: Path, whole: Path) -> Path:
    """A run that begins from another."""
    train(work, work / "begun", "--init", whole)
    return work / "begun"


def test_a_run_begins_with_averages_and_rows(work: Path, whole: Path, begun: Path, run: Path) -> None:
    """Also where it was killed before its first checkpoint."""
    done = train(work, run, "--init", whole, *FIRST)
    assert "rows for 16 of 16 puzzles known" in done.stderr
    before, after = loaded(whole), loaded(run)
    for name, weight in after.raw.items():
        assert torch.equal(weight, before.ema[name])
        assert torch.equal(weight, after.ema[name])
    assert torch.equal(after.rows, before.rows)
    assert after.rows.any()
    assert manifest(run)["init"] == str(whole)
    shutil.rmtree(run / "checkpoints")
    train(work, run, "--resume")
    assert_same_run(run, begun)


def test_a_resumed_run_does_not_begin_anew(work: Path, whole: Path, begun: Path, tmp_path: Path) -> None:
    """Even where the checkpoint that it began from has gone; another one is a change."""
    first, run = shutil.copytree(whole, tmp_path / "first"), tmp_path / "run"
    train(work, run, "--init", first, "--steps", 5)
    shutil.rmtree(first)
    said = refused(work, run, "--resume", "--init", whole)
    assert f"was trained with another recipe (--init: {first} -> {whole})" in said
    train(work, run, "--resume")
    assert_same_run(run, begun)


@pytest.mark.parametrize(
    ("flags", "data", "said"),
    [
        (settings("model", hidden_size=64), "data", "than the recipe's (model.hidden_size: 32 -> 64): set"),
        # The weights of these have the same shapes.
        (settings("model", num_heads=1), "data", "than the recipe's (model.num_heads: 2 -> 1): set these as"),
        ([], "maze", "is for arc puzzles with 12 tokens, the dataset has maze puzzles"),
    ],
)  # fmt: skip
def test_another_model(work: Path, whole: Path, run: Path, flags: list[str], data: str, said: str) -> None:
    assert said in refused(work, run, "--init", whole, *flags, data=data)
    assert not run.exists()


def test_what_changes_no_weight_may_change_on_resuming(work: Path, whole: Path, run: Path) -> None:
    train(work, run, "--steps", 5)
    free = [*settings("train", keep_last=1, checkpoint_every=100, trackers="[]"), *settings("eval", every=6)]
    done = train(work, run, "--resume", *free)
    assert "going on with another recipe: train.checkpoint_every: 4 -> 100; " in done.stderr
    assert newest(run)["model.safetensors"] == newest(whole)["model.safetensors"]
    assert any("eval/pass@2" in record for record in metrics(run))


def test_a_changed_recipe_is_gone_on_with_by_force(work: Path, run: Path) -> None:
    slower = settings("train", lr=1e-4)
    train(work, run, "--steps", 4)
    assert "train.lr: 0.001 -> 0.0001" in refused(work, run, "--resume", *slower)
    train(work, run, "--resume", "--force", "--steps", 6, *slower)
    rates = [record["train/lr"] for record in metrics(run)]
    assert rates[4] < 0.2 * rates[3]
    log = (run / "train.log").read_text()
    assert "WARNING going on with another recipe: train.lr: 0.001 -> 0.0001" in log
    # From then on it is the run's recipe, which needs no force.
    assert manifest(run)["recipe"]["train"]["lr"] == 1e-4
    assert manifest(run)["changes"] == ["train.lr: 0.001 -> 0.0001"]
    train(work, run, "--resume", "--steps", 7, *slower)
    assert len(metrics(run)) == 7


def test_what_no_force_can_change_changes_nothing(work: Path, run: Path) -> None:
    train(work, run, "--steps", 2)
    before = newest(run), metrics(run), manifest(run)
    for flags, said in (
        (settings("train", optimizer="adamw"), "an optimizer cannot go on with the state of another"),
        (settings("train", batch_size=8), "does not fit this run (its batch has another size)"),
        (settings("model", hidden_size=64), "does not fit this run ("),
    ):
        assert said in refused(work, run, "--resume", "--force", *flags)
        assert (newest(run), metrics(run), manifest(run)) == before


def test_rows_that_learn_alone_leave_the_weights_bit_for_bit(work: Path, run: Path) -> None:
    train(work, run, *settings("train", rows_only=0.5, checkpoint_every=3, keep_last=9), "--steps", 9)
    at = {step: load_checkpoint(run / "checkpoints" / f"step-{step:08d}") for step in (3, 6, 9)}
    for name in at[3].raw:
        assert torch.equal(at[3].raw[name], at[6].raw[name]), name
        assert torch.equal(at[3].ema[name], at[6].ema[name]), name
    assert not torch.equal(at[3].rows, at[6].rows)
    assert not torch.equal(at[6].raw["embed_tokens"], at[9].raw["embed_tokens"])


@pytest.mark.parametrize(("minutes", "count"), [(1e-9, 4), (60, 1)])
def test_checkpoints_every_few_minutes(work: Path, run: Path, minutes: float, count: int) -> None:
    flags = settings("train", checkpoint_minutes=minutes, checkpoint_every=99, keep_last=99)
    train(work, run, *flags, "--steps", 4)
    assert len(list((run / "checkpoints").iterdir())) == count
