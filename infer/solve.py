"""Inference: a checkpoint's answers to the test inputs of a puzzle set, as tables of candidates."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pydantic import Field

from arcpipe.canvases import canvas_sides
from arcpipe.checkpoint import Checkpoint
from arcpipe.devices import compute_dtype, ready_blocks
from arcpipe.errors import ArcpipeError, CheckpointError
from arcpipe.infer.decode import Answers, candidate_table, joined
from arcpipe.infer.engine import Engine, Plan
from arcpipe.infer.queue import Feed, Queue
from arcpipe.log import logger, progress
from arcpipe.puzzleset import PuzzleSet
from arcpipe.recipe import STRICT

FLUSH_EVERY_S = 30.0
_FLUSH_ROWS = 16_384
Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, kw_only=True)
class InferSettings:
    """How to infer, the table [infer] of a recipe. Defaults: the reference's, all steps for every item."""

    __pydantic_config__ = STRICT

    # Supervision steps; 0 for as many as in training.
    max_steps: Annotated[int, Field(ge=0, le=10000)] = 0
    batch_size: Annotated[int, Field(gt=0)] = 256
    # End before: when the answer stays the same (stable), or the model says that it is right (learned).
    halt: Literal["never", "stable", "learned"] = "never"
    # Steps whose answers are candidates too.
    candidates_at: list[Annotated[int, Field(gt=0)]] = field(default_factory=list)
    # How often to ask each item, all but the first time with noise of this deviation on the latent.
    rollouts: Annotated[int, Field(gt=0)] = 1
    noise: Annotated[float, Field(ge=0)] = 0.0
    # Turns or shuffles of each Sudoku or maze to ask too.
    variants: Count = 0
    # Ask each test input at most so often, rollouts apart: under as many augmentations. 0 for all.
    votes: Count = 0
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    # Compute dtype; trained takes that of the training.
    precision: Literal["trained", "auto", "float32", "bfloat16", "float16"] = "trained"
    # Compile the network; auto does on a GPU. The first steps then take a minute longer.
    compile: Literal["auto", "on", "off"] = "auto"

    def plan(self, trained_steps: int) -> Plan:
        """How each item is computed.

        Raises:  ArcpipeError for settings that contradict each other.
        """
        steps = self.max_steps or trained_steps
        marks = tuple(sorted({*self.candidates_at} - {steps}))
        if marks and marks[-1] > steps:
            raise ArcpipeError(f"a candidate is wanted at step {marks[-1]}, but there are only {steps} steps")
        if (self.rollouts > 1) != (self.noise > 0):
            raise ArcpipeError(
                f"{self.rollouts} rollouts with noise {self.noise:g}: the first rollout is without noise, "
                "so ask for more than one and for noise, or for neither"
            )
        return Plan(steps, self.halt, marks, self.noise, self.seed)


@dataclass(frozen=True, eq=False)
class Job:
    """What to infer: the settings, and with what the parts of a queue are told apart.

    label: the value of the column `checkpoint`. done: (M,) positions to leave out, sorted. rank, num_ranks:
    which share of the rest to do. needed: of `needed_sides`, where not all tests of a task are asked.
    """

    checkpoint: Checkpoint
    puzzles: PuzzleSet
    settings: InferSettings
    label: str
    done: NDArray[np.int64]
    rank: int = 0
    num_ranks: int = 1
    needed: NDArray[np.intp] | None = None

    @property
    def trained(self) -> dict[str, Any]:
        """The settings that the checkpoint was trained with: the table [train] of its recipe, or [adapt]."""
        recipe = self.checkpoint.manifest.get("recipe", {})
        found: dict[str, Any] = recipe.get("train") or recipe.get("adapt", {})
        return found

    def dtype(self, device: torch.device) -> tuple[torch.dtype, str]:
        """Return the dtype to compute in on a device, and the reason."""
        precision = self.settings.precision
        own = self.trained.get("precision", "auto")
        return compute_dtype(own if precision == "trained" else precision, device)


def queue_of(puzzles: PuzzleSet, settings: InferSettings) -> Queue:
    """The items to infer."""
    return Queue(puzzles, variants=settings.variants, rollouts=settings.rollouts, votes=settings.votes)


def solve(job: Job, device: torch.device, stop: Callable[[], bool] = lambda: False) -> Iterator[pa.Table]:
    """The candidates of a job in tables, at least one each FLUSH_EVERY_S seconds if any row has finished.

    Args:    stop: asked between supervision steps; rows that have not finished then are dropped.
    Raises:  CheckpointError if the checkpoint does not know the dataset's puzzles, or its answers are
             not finite; what was finished before that is handed out first.
    """
    engine = _engine(job, device)
    total = engine.feed.left
    finished: list[Answers] = []
    since, failed = time.monotonic(), None
    with progress(total=total, initial=0, unit="grid", desc="infer") as bar:
        while engine.refill() and not stop():
            try:
                answers = engine.step()
            except CheckpointError as error:
                failed = CheckpointError(f"{job.checkpoint.path}: {error}")
                break
            finished += answers
            _show(bar, engine, total, job)
            late = time.monotonic() - since > FLUSH_EVERY_S
            if finished and (late or sum(map(len, finished)) >= _FLUSH_ROWS):
                yield candidate_table(job.puzzles, joined(finished), job.label)
                finished, since = [], time.monotonic()
    if finished:
        yield candidate_table(job.puzzles, joined(finished), job.label)
    if failed:
        raise failed


def _engine(job: Job, device: torch.device) -> Engine:
    checkpoint, settings, puzzles = job.checkpoint, job.settings, job.puzzles
    rows = checkpoint.rows_of(puzzles)
    sides = canvas_sides(puzzles, checkpoint.config.buckets, job.needed)
    dtype, reason = job.dtype(device)
    plan = settings.plan(checkpoint.config.max_steps)
    queue = queue_of(puzzles, settings)
    feed = Feed(len(queue), job.done, job.rank, job.num_ranks)
    logger.info(
        "%d test inputs, %d grids to answer, %d done; up to %d steps each; %s on %s (%s), %d process(es)",
        len(puzzles.test_tasks), len(queue), len(job.done), plan.steps, str(dtype).removeprefix("torch."),
        device, reason, job.num_ranks,
    )  # fmt: skip
    model = checkpoint.model().to(device)
    # Fewer rows at the end and on each of several canvases: a program for any number of them.
    for note in ready_blocks(
        model.blocks, hidden_size=model.config.hidden_size, dtype=dtype, device=device,
        threads=job.trained.get("cpu_threads", 0), compiled=settings.compile, dynamic=None,
    ):  # fmt: skip
        logger.info(note)
    return Engine(model, puzzles, rows, sides, queue, feed, plan, batch_size=settings.batch_size, dtype=dtype)


def _show(bar: Any, engine: Engine, total: int, job: Job) -> None:
    """Bring the progress bar up to date."""
    done = total - engine.feed.left - int(engine.busy.sum())
    if done > bar.n:
        everywhere = len(job.done) + done * job.num_ranks
        bar.set_postfix_str(f"{everywhere / len(job.puzzles.test_tasks):.1f} an input", refresh=False)
        bar.update(done - bar.n)
