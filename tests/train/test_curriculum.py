"""A training that begins with fewer cycles of the recursion."""

from pathlib import Path

import pytest

from arcpipe.model_config import TRMConfig
from arcpipe.train.config import TrainSettings
from arcpipe.train.step import cycles_at
from training import metrics, settings, train

# Of the twelve steps of the runs here the first six have one cycle of each kind.
CURRICULUM = settings("train", curriculum="[[0.0, 1, 1], [0.5, 2, 2]]")
MODEL = settings("model", outer_cycles=2, inner_cycles=2)


def test_cycles_by_the_share_of_the_training() -> None:
    config = TRMConfig(outer_cycles=3, inner_cycles=6)
    later = TrainSettings(curriculum=[(0.3, 1, 2), (0.6, 2, 4)])
    assert [cycles_at(later, config, share) for share in (0.0, 0.29, 0.3, 0.59, 0.6, 1.0)] == [
        (3, 6), (3, 6), (1, 2), (1, 2), (2, 4), (2, 4),
    ]  # fmt: skip
    assert cycles_at(TrainSettings(), config, 0.5) == (3, 6)


def test_the_cycles_of_each_step_are_those_of_its_share(work: Path, tmp_path: Path) -> None:
    few, many, grown = tmp_path / "few", tmp_path / "many", tmp_path / "grown"
    train(work, few, *settings("model", outer_cycles=1, inner_cycles=1))
    train(work, many, *MODEL)
    train(work, grown, *MODEL, *CURRICULUM)
    losses = {run: [record["train/loss_answer"] for record in metrics(run)] for run in (few, many, grown)}
    assert losses[grown][:6] == losses[few][:6]
    assert losses[grown][0] != losses[many][0]
    assert losses[grown][6] != losses[few][6]


def test_a_dry_run_counts_the_cycles_of_each_step(work: Path, tmp_path: Path) -> None:
    """Half of the steps have (1 + 2)(1 + 1) = 6 forward parts, the others (2 + 2)(2 + 1) = 12."""
    lines = [
        train(work, tmp_path / "run", "--dry-run", *MODEL, *flags).stdout.splitlines()
        for flags in ([], CURRICULUM)
    ]
    found = [dict(line.split(maxsplit=1) for line in some) for some in lines]
    sample, step, whole = (figure.split()[0] for figure in found[0]["arithmetic"].split(", "))
    assert found[1]["arithmetic"].startswith(f"{sample} FLOP a sample, {step} a step, ")
    in_all = float(found[1]["arithmetic"].split(", ")[2].split()[0])
    assert in_all == pytest.approx(0.75 * float(whole), rel=0.01)
    assert found[1]["time"].endswith("those with fewer cycles by their arithmetic")
