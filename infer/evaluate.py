"""Scores where outputs are known: of predictions, of a model in training, of a checkpoint's puzzle rows."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from arcpipe.augmentation import PuzzleTable
from arcpipe.buckets import needed_sides
from arcpipe.checkpoint import Checkpoint
from arcpipe.codec import GridTable
from arcpipe.errors import CheckpointError, DataError
from arcpipe.grid import MAX_SIDE, Grid
from arcpipe.infer.config import InferResult, InferSettings
from arcpipe.infer.engine import Engine
from arcpipe.infer.items import Schedule, candidate_table, concatenate
from arcpipe.infer.predict import predict
from arcpipe.infer.vote import choose_boards, rank, read_votes, right_choices, solved_tests
from arcpipe.predictions import read_candidates, write_shard
from arcpipe.puzzleset import PuzzleSet, Variants, read_puzzle_set, read_test_outputs
from arcpipe.task import coverage_text, read_solutions

ARC_SCORES = ("pass@1", "pass@2", "oracle")
BOARD_SCORES = ("exact_accuracy", "cell_accuracy", "valid")
COVERAGE = ("answered", "test_inputs", "votes", "votes_asked")
"""The names of `Coverage.facts`, which stand among the scores of an evaluation."""
_SAMPLE_SEED = 0
_PROBES = 64
_PARTS = 4
# A memorized demonstration is answered in the first steps; all steps would take an hour on a CPU.
_STEPS = 4
# A proof needs this share of right answers in every part, and this lead over the next rows in standard
# deviations of a sign test.
_LEAST = 0.25
_LEAST_LEAD = 3.0


@dataclass(frozen=True)
class Coverage:
    """How many of the test inputs have a candidate, and how many of the requested votes are in."""

    answered: int
    test_inputs: int
    votes: int
    votes_asked: int

    @property
    def whole(self) -> bool:
        """Whether all requested votes are in."""
        return self.votes == self.votes_asked

    @property
    def facts(self) -> dict[str, float]:
        """The share of answered test inputs, and the counts, by name."""
        return asdict(self) | {"answered": self.answered / self.test_inputs}

    @property
    def text(self) -> str:
        """How many test inputs are answered, in words."""
        return coverage_text(self.answered, self.test_inputs)


def known_outputs(data: Path, puzzles: PuzzleSet) -> GridTable | None:
    """Return the outputs of a dataset's test inputs, in their order; None if they are not known.

    Raises:  DataError if they do not fit the test inputs.
    """
    outputs, file = read_test_outputs(data), data / "solutions.json"
    if outputs is None and file.exists():
        solutions = read_solutions(file)
        names = [puzzles.table.task_ids[task] for task in puzzles.test_tasks]
        try:
            grids = [solutions[name][index] for name, index in zip(names, puzzles.test_indices, strict=True)]
        except (KeyError, IndexError):
            raise DataError(f"{file}: does not hold the outputs of all test inputs; build it again") from None
        outputs = GridTable.pack(grids, MAX_SIDE)
    if outputs is not None and len(outputs) != len(puzzles.test_tasks):
        raise DataError(
            f"{data}: {len(outputs)} outputs for {len(puzzles.test_tasks)} test inputs; build it again"
        )
    return outputs


def evaluate(
    puzzles: PuzzleSet, outputs: GridTable, candidates: Iterable[pa.Table]
) -> tuple[dict[str, float], NDArray[np.intp]]:
    """Return the scores of the answered test inputs, by name, and how many candidates (T,) each one has.

    The grids of a test input are ranked by the rule `count`; a Sudoku that breaks no rule ranks before one
    that does. Test inputs without a candidate do not count; if none has any, there are no scores.

    Args:    candidates: from `read_candidates`.
    Returns: scores of ARC: "pass@1", "pass@2" (a right grid among the two best) and "oracle" (among all),
             the mean over tasks of the share of their test inputs; of Sudokus and mazes: "exact_accuracy",
             "cell_accuracy" and "valid", the share of answers that follow the rules, whatever the output.
    """
    # Votes number the test inputs task by task, which is their order in datasets.
    votes = read_votes(candidates, Counter(puzzles.table.task_ids[task] for task in puzzles.test_tasks))
    answered = votes.candidates > 0
    if not answered.any():
        return {}, votes.candidates
    if not puzzles.family.with_eos:
        return choose_boards(puzzles, votes).scores(outputs), votes.candidates
    right = right_choices(votes, [outputs.grid(number) for number in range(len(outputs))])
    ranking, tasks = rank(votes), puzzles.test_tasks[answered]
    scores, counts = {}, np.bincount(tasks)
    for name, most in zip(ARC_SCORES, (1, 2, len(right)), strict=True):
        solved = solved_tests(votes, ranking, right, most)[answered]
        shares = np.bincount(tasks, weights=solved)[counts > 0] / counts[counts > 0]
        scores[name] = float(shares.mean())
    return scores, votes.candidates


def summary(result: InferResult, out: Path, data: Path) -> str:
    """Return a line on what a folder of predictions holds, with its scores if the outputs are known.

    With several processes, only those that find all items answered compute scores.
    """
    text, coverage = f"{result.candidates} candidates", ""
    if result.alone or result.done == result.total:
        puzzles = read_puzzle_set(data)
        outputs = known_outputs(data, puzzles)
        if outputs is not None:
            scores, votes = evaluate(puzzles, outputs, read_candidates(out))
            text += "".join(f", {name} {score:.4f}" for name, score in scores.items())
            coverage = f"; {coverage_text(int((votes > 0).sum()), len(votes))}"
    if result.done == result.total:
        return text
    text += f"{coverage}; {result.done} of {result.total} grids answered"
    if result.interrupted or result.late:
        why = "stopped by a signal" if result.interrupted else "the time is up"
        return f"{text}, {why}: go on with --resume"
    return f"{text} so far; this process has answered its share (--resume goes on where another has died)"


class Evaluator:
    """Answers the test inputs of a dataset, or a sample of them, with a model in training, and scores them.

    metrics: the names of the scores.

    Args:    tests: size of the sample, the same one each time; 0 for all test inputs.
    Raises:  DataError if the outputs of the test inputs are not known.
    """

    def __init__(self, puzzles: PuzzleSet, data: Path, settings: InferSettings, *, tests: int) -> None:
        outputs = known_outputs(data, puzzles)
        if outputs is None or not len(outputs):
            unknown = "the outputs of its test inputs are not known"
            why = unknown if len(puzzles.test_tasks) else "it has no tests"
            raise DataError(
                f"{data}: {why}, so there is no evaluation: "
                "build it with tests whose outputs are known, or train without by --set eval.every=0"
            )
        # All test inputs decide a task's canvas, also if only some are sampled.
        self.needed = needed_sides(puzzles)
        if 0 < tests < len(outputs):
            sample = np.sort(np.random.default_rng(_SAMPLE_SEED).permutation(len(outputs))[:tests])
            puzzles, outputs = _select_tests(puzzles, sample), outputs.take(sample)
        self.puzzles, self.outputs, self.settings = puzzles, outputs, settings
        self.metrics: tuple[str, ...] = ARC_SCORES if puzzles.family.with_eos else BOARD_SCORES

    def answer(
        self, checkpoint: Checkpoint, folder: Path, rank: int, num_ranks: int, stop: Callable[[], bool],
        limit_s: float,
    ) -> None:  # fmt: skip
        """Write this process's share of the candidates to a folder of predictions.

        Args:  stop: returns whether to stop; may be collective, because it is called once before each
                   supervision step.
               limit_s: seconds after which no further supervision step begins.
        """
        # The device of the weights; the rows may be on the host.
        device, end = next(iter(checkpoint.raw.values())).device, time.monotonic() + limit_s
        for table in predict(
            checkpoint, self.puzzles, self.settings, device, rank=rank, num_ranks=num_ranks, stop=stop,
            label=f"{checkpoint.path}@{checkpoint.manifest['step']}", needed=self.needed,
            left_s=lambda: end - time.monotonic(),
        ):  # fmt: skip
            write_shard(folder, table, rank)

    def score(self, folder: Path) -> tuple[dict[str, float], Coverage]:
        """Return the scores of the candidates in the folder, by name, and their coverage."""
        scores, votes = evaluate(self.puzzles, self.outputs, read_candidates(folder))
        num_items = len(Schedule(self.puzzles, self.settings))
        return scores, Coverage(int((votes > 0).sum()), len(votes), int(votes.sum()), num_items)


def answer_first_test(checkpoint: Checkpoint, puzzles: PuzzleSet, device: torch.device) -> Grid | None:
    """Return a single answer to the first test input of a dataset; None if it holds no grid."""
    one, settings = _select_tests(puzzles, slice(1)), InferSettings(votes=1, batch_size=1, compile="off")
    engine = Engine(checkpoint, one, settings, device, needed=needed_sides(puzzles))
    answers = []
    while engine.refill():
        answers += engine.step()
    name = puzzles.table.task_ids[puzzles.test_tasks[0]]
    votes = read_votes([candidate_table(one, concatenate(answers), "")], {name: 1})
    return votes.grid(0) if len(votes.tests) else None


def _select_tests(puzzles: PuzzleSet, tests: NDArray[np.intp] | slice) -> PuzzleSet:
    """Return the dataset with only some of its test inputs, numbered anew."""
    inputs, tasks = puzzles.test_inputs.take(tests), puzzles.test_tasks[tests]
    return replace(puzzles, test_inputs=inputs, test_tasks=tasks)


@dataclass(frozen=True)
class Proof:
    """How many demonstrations a network answers exactly, with the rows of their puzzles and with other rows.

    A trained network has memorized its demonstrations, but answers them only with the right rows.

    asked: how many were asked; their rows are spread evenly over the table.
    right: right answers.
    shifted: right answers with each puzzle's next row; None for a table of at most one row.
    gained, lost: demonstrations right only with their own row, and only with the next one.
    parts: `right` by quarter of the table. A wrong draw of an augmentation makes all later rows wrong.
    """

    asked: int
    right: int
    shifted: int | None
    gained: int
    lost: int
    parts: tuple[int, ...]

    @property
    def holds(self) -> bool:
        """Return whether the rows are right beyond chance, in every part of the table."""
        if self.shifted is None:
            # A single row cannot be mistaken for another.
            return True
        known = min(self.parts) * len(self.parts) >= _LEAST * self.asked
        return known and self.gained - self.lost >= _LEAST_LEAD * (self.gained + self.lost) ** 0.5 > 0

    @property
    def text(self) -> str:
        """Return the figures in words."""
        parts = ", ".join(f"{part}" for part in self.parts)
        beside = "" if self.shifted is None else f", with the next rows {self.shifted / self.asked:.0%}"
        return (
            f"of {self.asked} demonstrations {self.right / self.asked:.0%} are answered exactly{beside}; "
            f"by quarters of the table {parts} of {self.asked // len(self.parts)}"
        )


def probe(checkpoint: Checkpoint, puzzles: PuzzleSet) -> Proof:
    """Ask a checkpoint for demonstrations of a dataset, with their puzzles' rows and with the next rows.

    Args:    puzzles: the dataset; only its tasks and training examples are used, not its puzzle table.
    Raises:  CheckpointError if the family or canvas differs or there are no rows; DataError if the
             dataset has no examples of the checkpoint's tasks.
    """
    if checkpoint.config.puzzle_size and not len(checkpoint.puzzles):
        raise CheckpointError(f"{checkpoint.path}: has no puzzle rows, so there is nothing to prove")
    rows, examples = _draw(checkpoint, puzzles)
    right = _answered(checkpoint, puzzles, rows, rows, examples)
    shifted, shifted_right = None, right
    if checkpoint.config.puzzle_size and len(checkpoint.puzzles) > 1:
        shifted_right = _answered(checkpoint, puzzles, rows, (rows + 1) % len(checkpoint.puzzles), examples)
        shifted = int(shifted_right.sum())
    return Proof(
        asked=len(rows),
        right=int(right.sum()),
        shifted=shifted,
        gained=int((right & ~shifted_right).sum()),
        lost=int((shifted_right & ~right).sum()),
        parts=tuple(int(part.sum()) for part in np.split(right, _PARTS)),
    )


def _draw(checkpoint: Checkpoint, puzzles: PuzzleSet) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Draw one row (N,) of each of N equal parts of the table, and an example (N,) of its task."""
    number_of = {name: number for number, name in enumerate(puzzles.table.task_ids)}
    numbers = np.array([number_of.get(name, -1) for name in checkpoint.puzzles.task_ids], np.intp)
    with_examples = np.isin(numbers, puzzles.example_tasks)
    if not with_examples.any():
        raise DataError(
            f"{checkpoint.path}: knows none of the tasks that the dataset has demonstrations of, so they "
            "prove nothing"
        )
    eligible = np.flatnonzero(with_examples[checkpoint.puzzles.tasks])
    rng = np.random.default_rng(0)
    rows = eligible[((np.arange(_PROBES) + rng.random(_PROBES)) * len(eligible) / _PROBES).astype(np.intp)]
    tasks = numbers[checkpoint.puzzles.tasks[rows]]
    examples = [rng.choice(np.flatnonzero(puzzles.example_tasks == task)) for task in tasks]
    return rows, np.array(examples, np.intp)


def _answered(
    checkpoint: Checkpoint, puzzles: PuzzleSet, augmentations: NDArray[np.intp], rows: NDArray[np.intp],
    examples: NDArray[np.intp],
) -> NDArray[np.bool_]:  # fmt: skip
    """Return which examples (N,) are answered exactly.

    Args:  augmentations: (N,) the puzzles by whose augmentation the examples are presented.
           rows: (N,) the puzzles whose row the network gets.
    """
    config, table = checkpoint.config, checkpoint.puzzles
    count = len(examples)
    # Each example is a task of its own, under one augmentation.
    own = PuzzleTable(
        [f"{number}" for number in range(count)],
        np.arange(count, dtype=np.int32),
        table.dihedrals[augmentations],
        table.colors[augmentations],
    )
    colors = checkpoint.colors[table.tasks[rows]] if len(checkpoint.colors) else checkpoint.colors
    questions = replace(
        puzzles,
        table=own,
        test_inputs=puzzles.inputs.take(examples),
        test_tasks=own.tasks,
        variants=Variants(None, 0) if config.embedding == "task" else None,
    )
    with_rows = replace(checkpoint, rows=checkpoint.rows[rows], puzzles=own, colors=colors)
    steps = 0 if config.flow else min(_STEPS, config.max_steps)
    settings = InferSettings(max_steps=steps, votes=1, batch_size=count)
    needed = needed_sides(puzzles)[puzzles.example_tasks[examples]]
    candidates = predict(with_rows, questions, settings, needed=needed)
    votes = read_votes(candidates, dict.fromkeys(own.task_ids, 1))
    right = right_choices(votes, [puzzles.outputs.grid(example) for example in examples])
    return solved_tests(votes, rank(votes), right, 1)
