"""The score of a submission, counted in the two ways in use, against the solutions of its set.

Source:  "Mean over test outputs" is Kaggle's, ARC Prize 2024 to 2026, "Evaluation": an output counts
         when either of its two attempts is exactly right. "Mean over tasks" of the solved fraction
         of each is the leaderboard's: arcprize/arc-agi-benchmarking, scoring.py; there the
         denominator is what was answered, here it is always the solutions file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from itertools import chain
from math import fsum
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from arcpipe import runs
from arcpipe.errors import DataError, OutputError
from arcpipe.grid import Grid
from arcpipe.submissions.format import Submission, is_fallback

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class OutputScore:
    """One test output: which attempts are right, whether it was answered, the size of its solution."""

    task: str
    test_index: int
    attempt_1_correct: bool
    attempt_2_correct: bool
    solved: bool
    answered: bool
    height: int
    width: int


@dataclass(frozen=True)
class PassAtK:
    """The score when the first k attempts count; means are fractions 0..1.

    `solved_tasks` counts tasks with every test correct, `task_sum` adds the solved fractions up.
    """

    solved_outputs: int
    solved_tasks: int
    task_sum: float
    mean_over_outputs: float
    mean_over_tasks: float


@dataclass(frozen=True)
class TaskScore:
    """The test outputs of one task; `solved` counts those that either attempt solves."""

    solved: int
    tests: int
    outputs: tuple[OutputScore, ...]


@dataclass(frozen=True)
class Score:
    """The score against a solutions file: totals, and every task in the file's order."""

    num_tasks: int
    num_outputs: int
    num_answered: int
    pass_at_1: PassAtK
    pass_at_2: PassAtK
    tasks: dict[str, TaskScore]


def score_submission(
    submission: Submission, solutions: Mapping[str, Sequence[Grid]], where: str = "submission"
) -> Score:
    """The Score over all tasks of `solutions`; what the submission leaves out counts as wrong.

    Args:    where: what the submission is called in the message.
    Raises:  DataError if it holds a task, or an entry of a task, that the solutions do not have.
    """
    assert solutions, "a solutions file holds a task"
    _refuse_strangers(submission, solutions, where)
    tasks = {
        task_id: _score_task(task_id, submission.attempts.get(task_id, ()), grids)
        for task_id, grids in solutions.items()
    }
    return Score(
        num_tasks=len(tasks),
        num_outputs=sum(task.tests for task in tasks.values()),
        num_answered=sum(output.answered for task in tasks.values() for output in task.outputs),
        pass_at_1=_pass_at_k([[o.attempt_1_correct for o in task.outputs] for task in tasks.values()]),
        pass_at_2=_pass_at_k([[o.solved for o in task.outputs] for task in tasks.values()]),
        tasks=tasks,
    )


def _refuse_strangers(submission: Submission, solutions: Mapping[str, Sequence[Grid]], where: str) -> None:
    strangers = [task_id for task_id in submission.attempts if task_id not in solutions]
    if strangers:
        more = f" (nor {len(strangers) - 1} more)" if len(strangers) > 1 else ""
        raise DataError(
            f"{where}: task {strangers[0]} is not in the solutions{more}: "
            "score a submission against the solutions of its own set"
        )
    for task_id, pairs in submission.attempts.items():
        if len(pairs) > len(solutions[task_id]):
            raise DataError(
                f"{where}: task {task_id} has {len(pairs)} entries, the solutions {len(solutions[task_id])}"
            )


def _score_task(task_id: str, pairs: Sequence[tuple[Grid, Grid]], solutions: Sequence[Grid]) -> TaskScore:
    outputs = tuple(
        _score_output(task_id, index, pairs[index] if index < len(pairs) else None, solution)
        for index, solution in enumerate(solutions)
    )
    return TaskScore(solved=sum(output.solved for output in outputs), tests=len(outputs), outputs=outputs)


def _score_output(
    task_id: str, index: int, attempts: tuple[Grid, Grid] | None, solution: Grid
) -> OutputScore:
    first, second = (np.array_equal(grid, solution) for grid in attempts) if attempts else (False, False)
    return OutputScore(
        task=task_id,
        test_index=index,
        attempt_1_correct=first,
        attempt_2_correct=second,
        solved=first or second,
        answered=attempts is not None and not is_fallback(attempts),
        height=solution.shape[0],
        width=solution.shape[1],
    )


def _pass_at_k(solved: Sequence[Sequence[bool]]) -> PassAtK:
    """From whether each test output of each task is solved."""
    fractions = [fmean(outputs) for outputs in solved]
    return PassAtK(
        solved_outputs=sum(map(sum, solved)),
        solved_tasks=sum(map(all, solved)),
        task_sum=fsum(fractions),
        mean_over_outputs=fmean(chain.from_iterable(solved)),
        mean_over_tasks=fmean(fractions),
    )


def score_text(score: Score) -> str:
    """The score as an aligned table, then one line per task: its solved tests at pass@2."""
    passes = (score.pass_at_1, score.pass_at_2)
    tasks, outputs = score.num_tasks, score.num_outputs
    rows: dict[str, list[tuple[float, float, int]]] = {
        "mean over test outputs (Kaggle)": [(p.mean_over_outputs, p.solved_outputs, outputs) for p in passes],
        "mean over tasks (ARC Prize)": [(p.mean_over_tasks, p.task_sum, tasks) for p in passes],
        "tasks with all tests correct": [(p.solved_tasks / tasks, p.solved_tasks, tasks) for p in passes],
    }
    lines = [f"{tasks} tasks, {outputs} test outputs, {score.num_answered} answered", ""]
    lines.append(f"{'':31}{'pass@1':>22}{'pass@2':>22}")
    for title, cells in rows.items():
        counts = [(mean, f"{round(count, 2):g}/{total}") for mean, count, total in cells]
        lines.append(f"{title:31}" + "".join(f"{mean:>9.2%}{count:>13}" for mean, count in counts))
    per_task = [f"{task_id}  {task.solved}/{task.tests}" for task_id, task in score.tasks.items()]
    return "\n".join([*lines, "", *per_task])


def per_task_frame(score: Score) -> "pd.DataFrame":
    """A table with one row per test output and the fields of OutputScore as columns."""
    import pandas as pd

    return pd.DataFrame([asdict(output) for task in score.tasks.values() for output in task.outputs])


def write_per_task(score: Score, path: Path) -> None:
    """Write `per_task_frame` as CSV or Parquet, by the suffix of `path`.

    Raises:  OutputError if the suffix is neither, or there is something at `path` already.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise OutputError(f"--per-task {path}: the name should end in .csv or .parquet")
    runs.refuse_existing(path, "choose another --per-task file or remove it")
    frame, content = per_task_frame(score), BytesIO()
    if path.suffix == ".csv":
        frame.to_csv(content, index=False)
    else:
        frame.to_parquet(content, index=False)
    runs.write_bytes(path, content.getvalue())
