"""Trainings whose evaluator is given: one of scores that a test makes up, or another."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from arcpipe.checkpoint import Checkpoint
from arcpipe.infer.evaluate import Coverage, Evaluator
from arcpipe.model_config import TRMConfig
from arcpipe.puzzleset import read_puzzle_set
from arcpipe.recipe import load_recipe
from arcpipe.train import trainer
from arcpipe.train.config import EvalSettings, TrainResult, TrainRun, TrainSettings

ALL = Coverage(answered=7, test_inputs=7, votes=14, votes_asked=14)


class Scripted(Evaluator):
    """An evaluator whose scores are given by step, and their coverage where that is not ALL."""

    metrics = ("pass@1", "pass@2", "oracle")

    def __init__(
        self, given: dict[int, float], doing: Callable[[int], None] = lambda step: None,
        covering: dict[int, Coverage] | None = None,
    ) -> None:  # fmt: skip
        """Args:  doing: called with the step in place of answering."""
        self.given, self.doing, self.step = given, doing, 0
        self.covering = covering or {}
        self.asked: list[int] = []

    def answer(
        self, checkpoint: Checkpoint, folder: Path, rank: int, num_ranks: int, stop: Callable[[], bool],
        limit_s: float,
    ) -> None:  # fmt: skip
        self.step = checkpoint.manifest["step"]
        self.asked.append(self.step)
        self.doing(self.step)

    def score(self, folder: Path) -> tuple[dict[str, float], Coverage]:
        coverage = self.covering.get(self.step, ALL)
        names = self.metrics if coverage.answered else ()
        return {name: self.given.get(self.step, 0.0) for name in names}, coverage


def run_scripted(
    work: Path, out: Path, evaluator: Evaluator, *, keep: int = 1, resume: bool = False,
    from_step: int | None = None, steps: int = 12, **evaluation: Any,
) -> TrainResult:  # fmt: skip
    """A training that is evaluated every three steps, unless the settings say otherwise."""
    recipe = load_recipe(str(work / "tiny.toml"), [f"train.keep_last={keep}"])
    config, of_training = recipe.settings("model", TRMConfig), recipe.settings("train", TrainSettings)
    of_evaluation = EvalSettings(**({"every": 3} | evaluation))
    tables = {"model": config, "train": of_training, "eval": of_evaluation}
    run = TrainRun(
        puzzles=read_puzzle_set(work / "data"),
        data_dir=work / "data",
        config=config,
        settings=of_training,
        recipe={name: asdict(table) for name, table in tables.items()},
        out=out,
        evaluation=of_evaluation,
        folder="resumed" if resume else "new",
        from_step=from_step,
        stop_at=steps,
    )
    # In place of the one that it has made of its settings.
    vars(run)["evaluator"] = evaluator
    return trainer.train(run)
