"""What a training is asked to do, and what it says in the end."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from arcpipe.buckets import Layout, layout_of
from arcpipe.checkpoint import Checkpoint
from arcpipe.errors import ArcpipeError
from arcpipe.flops import train_step_flops
from arcpipe.infer.coverage import Coverage
from arcpipe.puzzleset import PuzzleSet
from arcpipe.runs import read_manifest
from arcpipe.train.config import EvalSettings, TrainSettings
from arcpipe.trm import TRMConfig

EVALUATIONS = "evaluations"
METRICS_FILE = "metrics.jsonl"
LOG_FILE = "train.log"


class Evaluator(Protocol):
    """Answers the test inputs of the dataset with a model in training, and scores the answers.

    The command line makes it from the stage that infers, which the trainer knows nothing of. metrics: the
    names of its scores.
    """

    metrics: tuple[str, ...]

    def answer(
        self, checkpoint: Checkpoint, folder: Path, rank: int, num_ranks: int, stop: Callable[[], bool]
    ) -> None:
        """Write this process's share of the candidates to a folder of predictions, until `stop` says so."""

    def score(self, folder: Path) -> tuple[dict[str, float], Coverage]:
        """The scores by name of the candidates in the folder, whatever process wrote them, and how much of
        what is asked they cover; no scores where there are no candidates."""


@dataclass(frozen=True)
class TrainJob:
    """What to train on, how, and where to; ArcpipeError if `evaluation.metric` is no score of `evaluator`.

    recipe: the resolved tables, as they are frozen into the run's manifest. init: a checkpoint to begin
    from. from_step: resume from the checkpoint of this step, None for the newest. stop_at: end after this
    optimizer step, with the schedule still that of settings.steps. max_minutes: end after this time, that of
    the resumed parts included, with the schedule hastened so that it is complete then. force: resume although
    the recipe has changed. evaluator: None to evaluate never.
    """

    puzzles: PuzzleSet
    data_dir: Path
    config: TRMConfig
    settings: TrainSettings
    recipe: dict[str, Any]
    out: Path
    evaluation: EvalSettings = field(default_factory=EvalSettings)
    evaluator: Evaluator | None = None
    init: Path | None = None
    resume: bool = False
    from_step: int | None = None
    force: bool = False
    stop_at: int | None = None
    max_minutes: float | None = None

    def __post_init__(self) -> None:
        if self.evaluator is not None and self.metric not in self.evaluator.metrics:
            known = ", ".join(self.evaluator.metrics)
            raise ArcpipeError(f"eval.metric: {self.metric!r} is none of these puzzles' scores: {known}")

    @cached_property
    def dataset(self) -> dict[str, str]:
        """Where the dataset is, and its fingerprint, for manifests."""
        manifest = read_manifest(self.data_dir, "dataset")
        return {"path": str(self.data_dir), "fingerprint": manifest["fingerprint"]}

    @cached_property
    def layout(self) -> Layout:
        """The canvases of the samples of a batch; DataError if the puzzles do not fit those of the recipe."""
        return layout_of(self.puzzles, self.config.buckets, self.settings.batch_size)

    def sample_flops(self, cycles: tuple[int, int]) -> float:
        """Operations of a step with so many outer and inner cycles, of a sample in the mean over a batch."""
        config = replace(self.config, outer_cycles=cycles[0], inner_cycles=cycles[1])
        return self.layout.mean(lambda tokens: train_step_flops(config, tokens))

    @property
    def metric(self) -> str:
        """The score that decides which checkpoint is the best."""
        by_family = "pass@2" if self.puzzles.family.framed else "exact_accuracy"
        return self.evaluation.metric or by_family

    @property
    def last_step(self) -> int:
        """The step to end after."""
        return self.stop_at or self.settings.steps


@dataclass(frozen=True)
class TrainResult:
    """The newest checkpoint and its step; whether a signal ended the training, or that or the time limit
    left something undone."""

    checkpoint: Path
    step: int
    interrupted: bool
    unfinished: bool
