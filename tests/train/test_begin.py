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


def test_a_run_begins_with_the_averages_and_rows_of_another(work: Path, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = train(work, run, "--init", whole, *FIRST)
    assert "rows for 16 of 16 puzzles known" in done.stderr
    before, after = loaded(whole), loaded(run)
    for name, weight in after.raw.items():
        assert torch.equal(weight, before.ema[name])
        assert torch.equal(weight, after.ema[name])
    assert torch.equal(after.rows, before.rows)
    assert after.rows.any()
    assert manifest(run)["init"] == str(whole)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_size": 64}, "model.hidden_size: 32 -> 64"),
        # The weights of these have the same shapes.
        ({"num_heads": 1}, "model.num_heads: 2 -> 1"),
    ],
)
def test_other_models_are_refused(
    work: Path, whole: Path, tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    found = refused(work, tmp_path / "run", "--init", whole, *settings("model", **changes))
    assert f"its model is another one than the recipe's ({said}): set these as they are" in found
    assert not (tmp_path / "run").exists()


def test_puzzles_of_another_family_are_refused(work: Path, whole: Path, tmp_path: Path) -> None:
    said = refused(work, tmp_path / "run", "--init", whole, data="maze")
    assert "is for arc puzzles with 12 tokens, the dataset has maze puzzles" in said


def test_a_resumed_run_does_not_begin_anew(work: Path, whole: Path, tmp_path: Path) -> None:
    """Even where the checkpoint that it began from has gone."""
    first, uninterrupted, run = (tmp_path / name for name in ("first", "uninterrupted", "run"))
    shutil.copytree(whole, first)
    train(work, uninterrupted, "--init", first)
    train(work, run, "--init", first, "--steps", 5)
    shutil.rmtree(first)
    train(work, run, "--resume")
    assert_same_run(run, uninterrupted)


def test_a_run_killed_before_its_first_checkpoint_begins_alike(
    work: Path, whole: Path, tmp_path: Path
) -> None:
    run, uninterrupted = tmp_path / "run", tmp_path / "uninterrupted"
    train(work, uninterrupted, "--init", whole)
    train(work, run, "--init", whole, *FIRST)
    shutil.rmtree(run / "checkpoints")
    train(work, run, "--resume")
    assert_same_run(run, uninterrupted)


def test_another_checkpoint_to_begin_from_is_a_change(work: Path, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(work, run, "--steps", 1)
    said = refused(work, run, "--resume", "--init", whole)
    assert f"was trained with another recipe (--init: None -> {whole})" in said


def test_a_changed_recipe_is_gone_on_with_by_force(work: Path, tmp_path: Path) -> None:
    run, slower = tmp_path / "run", settings("train", lr=1e-4)
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
    train(work, run, "--resume", *slower)
    assert len(metrics(run)) == 12


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (settings("train", optimizer="adamw"), "an optimizer cannot go on with the state of another"),
        (settings("train", batch_size=8), "does not fit this run (its batch has another size)"),
        (settings("model", hidden_size=64), "does not fit this run ("),
    ],
)
def test_what_no_force_can_change_changes_nothing(
    work: Path, tmp_path: Path, flags: list[str], said: str
) -> None:
    run = tmp_path / "run"
    train(work, run, "--steps", 2)
    before = newest(run), metrics(run), manifest(run)
    assert said in refused(work, run, "--resume", "--force", *flags)
    assert (newest(run), metrics(run), manifest(run)) == before


def test_rows_that_learn_alone_leave_the_weights_bit_for_bit(work: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    flags = settings("train", rows_only=0.5, checkpoint_every=3, keep_last=9)
    train(work, run, *flags)
    at = {step: load_checkpoint(run / "checkpoints" / f"step-{step:08d}") for step in (3, 6, 9)}
    for name in at[3].raw:
        assert torch.equal(at[3].raw[name], at[6].raw[name]), name
        assert torch.equal(at[3].ema[name], at[6].ema[name]), name
    assert not torch.equal(at[3].rows, at[6].rows)
    assert not torch.equal(at[6].raw["embed_tokens"], at[9].raw["embed_tokens"])


def test_checkpoints_every_few_minutes(work: Path, tmp_path: Path) -> None:
    often, seldom = tmp_path / "often", tmp_path / "seldom"
    for run, minutes in ((often, 1e-9), (seldom, 60)):
        train(work, run, *settings("train", checkpoint_minutes=minutes, checkpoint_every=99, keep_last=99))
    assert len(list((often / "checkpoints").iterdir())) == 12
    assert len(list((seldom / "checkpoints").iterdir())) == 1
    assert newest(often) == newest(seldom)
