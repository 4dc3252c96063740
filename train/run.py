"""The description of one training run."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from arcpipe.batches import TrainingStream
from arcpipe.buckets import Layout, layout_of
from arcpipe.devices import train_step_flops
from arcpipe.errors import ArcpipeError
from arcpipe.infer.config import InferSettings
from arcpipe.infer.evaluate import Evaluator, known_outputs
from arcpipe.model_config import TRMConfig
from arcpipe.processes import Clock
from arcpipe.puzzleset import PuzzleSet
from arcpipe.runs import read_manifest, whole_checkpoints
from arcpipe.train.config import EvalSettings, TrainSettings


@dataclass(frozen=True)
class TrainRun:
    """What to train, how, and where to.

    puzzles: the dataset in `data_dir`.
    config: the architecture of the network.
    settings: the table [train], or [adapt].
    recipe: the resolved tables, which the run's manifest records.
    out: the run folder.
    evaluation: when and how to evaluate.
    init: a checkpoint to begin from.
    folder: "new": does not exist yet; "made": exists, nothing is trained; "resumed": exists, to be resumed.
    from_step: resume from the checkpoint of this step; None for the newest.
    force: resume although the recipe has changed.
    stop_at: end after this optimizer step; the schedule is still that of settings.steps.
    clock: the time limit of this command; the schedule is shortened to fit it.

    Raises:  DataError or ArcpipeError if the dataset does not allow the evaluation of the recipe.
    """

    puzzles: PuzzleSet
    data_dir: Path
    config: TRMConfig
    settings: TrainSettings
    recipe: dict[str, Any]
    out: Path
    evaluation: EvalSettings = field(default_factory=EvalSettings)
    init: Path | None = None
    folder: Literal["new", "made", "resumed"] = "new"
    from_step: int | None = None
    force: bool = False
    stop_at: int | None = None
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        if self.evaluator is not None and self.metric not in self.evaluator.metrics:
            metrics = ", ".join(self.evaluator.metrics)
            raise ArcpipeError(f"eval.metric: {self.metric!r} is none of these puzzles' scores: {metrics}")

    @cached_property
    def evaluator(self) -> Evaluator | None:
        """The evaluator of the model in training; None to never evaluate."""
        evaluation = self.evaluation
        if not evaluation.every and not evaluation.every_minutes:
            return None
        if evaluation.every == "auto" and not known_outputs(self.data_dir, self.puzzles):
            return None
        settings = InferSettings(
            max_steps=evaluation.max_steps, batch_size=evaluation.batch_size, votes=evaluation.votes
        )
        return Evaluator(self.puzzles, self.data_dir, settings, tests=evaluation.tests)

    @property
    def start(self) -> Path | None:
        """The checkpoint whose weights begin the run (`--init`). None for random weights, and for a run that
        goes on from a checkpoint of its own.
        """
        if self.folder != "resumed":
            return self.init
        if whole_checkpoints(self.out):
            return None
        recorded = read_manifest(self.out, "run")["init"]
        return self.init or (Path(recorded) if recorded else None)

    @cached_property
    def dataset(self) -> dict[str, Any]:
        """The facts about the dataset for manifests: path, fingerprint, and how many generated pairs are of
        tasks to predict."""
        manifest = read_manifest(self.data_dir, "dataset")
        facts = {"path": str(self.data_dir), "fingerprint": manifest["fingerprint"]}
        if generated := manifest.get("counts", {}).get("generated_of_test", 0):
            facts["generated_of_test"] = generated
        return facts

    @cached_property
    def layout(self) -> Layout:
        """The canvases of a batch; raises DataError if the puzzles do not fit those of the recipe."""
        return layout_of(self.puzzles, self.config.buckets, self.settings.batch_size)

    def stream(self, rank: int = 0, num_ranks: int = 1) -> TrainingStream:
        """Return the share of one of `num_ranks` processes in the global batches."""
        return TrainingStream(
            self.puzzles, batch_size=self.settings.batch_size, seed=self.settings.seed,
            placement=self.settings.placement, rank=rank, num_ranks=num_ranks, layout=self.layout,
        )  # fmt: skip

    def sample_flops(self, cycles: tuple[int, int] | None = None) -> float:
        """Return the FLOP of a supervision step of one sample, the mean over a batch.

        Args:  cycles: outer and inner cycles; None for the network's own.
        """
        outer, inner = cycles or (self.config.outer_cycles, self.config.inner_cycles)
        config = replace(self.config, outer_cycles=outer, inner_cycles=inner)
        return self.layout.mean(lambda tokens: train_step_flops(config, tokens))

    @property
    def metric(self) -> str:
        """The score by which the best checkpoint is chosen."""
        return self.evaluation.metric or ("pass@2" if self.puzzles.family.with_eos else "exact_accuracy")

    @property
    def last_step(self) -> int:
        """The step after which the training ends."""
        return self.stop_at or self.settings.steps
