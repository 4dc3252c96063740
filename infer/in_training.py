"""The evaluation of a model in training: the trainer's `Evaluator`."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from arcpipe.buckets import needed_sides
from arcpipe.checkpoint import Checkpoint
from arcpipe.codec import GridTable
from arcpipe.errors import DataError
from arcpipe.infer.coverage import Coverage
from arcpipe.infer.evaluate import ARC_SCORES, BOARD_SCORES, evaluate, known_outputs
from arcpipe.infer.predict import InferSettings, Job, queue_of, solve
from arcpipe.predictions import read_candidates, write_shard
from arcpipe.puzzleset import PuzzleSet

_SAMPLE_SEED = 0


class InTraining:
    """Answers the test inputs of a dataset, or a sample of them, and scores the answers.

    Args:    tests: how many to sample, the same ones each time; 0 for all.
             max_minutes: what is answered in this time counts.
    Raises:  DataError if the outputs of the test inputs are not known.
    """

    def __init__(
        self, puzzles: PuzzleSet, data: Path, settings: InferSettings, *, tests: int, max_minutes: float
    ) -> None:
        outputs = known_outputs(data, puzzles)
        if outputs is None or not len(outputs):
            raise DataError(
                f"{data}: the outputs of its test inputs are not known, so there is no evaluation"
            )
        # A task stays on its canvas though only some of its tests are asked.
        self.needed = needed_sides(puzzles)
        self.puzzles, self.outputs = _sample(puzzles, outputs, tests)
        self.settings, self.max_minutes = settings, max_minutes
        self.metrics: tuple[str, ...] = ARC_SCORES if puzzles.family.framed else BOARD_SCORES

    def answer(
        self, checkpoint: Checkpoint, folder: Path, rank: int, num_ranks: int, stop: Callable[[], bool]
    ) -> None:
        """Write this process's share of the candidates to a folder of predictions, until `stop` says so."""
        label, done = f"{checkpoint.path}@{checkpoint.manifest['step']}", np.zeros(0, np.int64)
        job = Job(checkpoint, self.puzzles, self.settings, label, done, rank, num_ranks, self.needed)
        end = time.monotonic() + 60 * self.max_minutes
        for table in solve(job, checkpoint.rows.device, lambda: stop() or time.monotonic() > end):
            write_shard(folder, table, rank)

    def score(self, folder: Path) -> tuple[dict[str, float], Coverage]:
        """The scores by name of the candidates in the folder, none if there are no candidates, and how much
        of what is asked they cover."""
        scores, votes = evaluate(self.puzzles, self.outputs, read_candidates([folder]))
        asked = len(queue_of(self.puzzles, self.settings))
        return scores, Coverage(int((votes > 0).sum()), len(votes), int(votes.sum()), asked)


def _sample(puzzles: PuzzleSet, outputs: GridTable, count: int) -> tuple[PuzzleSet, GridTable]:
    """`count` of the test inputs, or all, numbered anew, and their outputs."""
    total = len(puzzles.test_tasks)
    if not 0 < count < total:
        return puzzles, outputs
    chosen = np.sort(np.random.default_rng(_SAMPLE_SEED).permutation(total)[:count])

    def some(table: GridTable) -> GridTable:
        return GridTable(table.cells[chosen], table.shapes[chosen])

    sampled = replace(puzzles, test_inputs=some(puzzles.test_inputs), test_tasks=puzzles.test_tasks[chosen])
    return sampled, some(outputs)
