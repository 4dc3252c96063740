"""The score of a submission, counted in the two ways in use, against the solutions of its set.

An output counts when either of its two attempts is exactly right, and a task k/n when k of its n do.

Source:  The mean over tasks is Kaggle's: every public score of ARC Prize 2025 and 2026 is a multiple of
         1/720 = 1/(120 tasks x lcm(1, 2, 3)), although the page reads like a mean over test outputs. It
         is also ARC Prize's own: arcprize/arc-agi-benchmarking, scoring.py; there the denominator is
         what was answered, here it is always the solutions file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from math import fsum
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from arcpipe import runs
from arcpipe.errors import DataError, OutputError
from arcpipe.grid import Grid
from arcpipe.submissions.format import Submission, is_fallback, shown
from arcpipe.submissions.intervals import Interval, interval, resample_tasks
from arcpipe.submissions.sets import TaskSet, task_set

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class OutputScore:
    """One test output: which attempts are right, whether it was answered; its solution's size and colors."""

    task: str
    test_index: int
    attempt_1_correct: bool
    attempt_2_correct: bool
    solved: bool
    answered: bool
    height: int
    width: int
    num_colors: int


@dataclass(frozen=True)
class PassAtK:
    """The score when the first k attempts count; means and shares are fractions 0..1.

    `solved_tasks` counts tasks with every test correct, `task_sum` adds the solved fractions up. The
    intervals are 95% bootstrap intervals over tasks.
    """

    task_sum: float
    solved_tasks: int
    solved_outputs: int
    mean_over_tasks: float
    mean_over_outputs: float
    share_of_solved_tasks: float
    interval_over_tasks: Interval
    interval_over_outputs: Interval
    interval_of_solved_tasks: Interval


@dataclass(frozen=True)
class TaskScore:
    """The test outputs of one task; `solved` counts those that either attempt solves."""

    solved: int
    tests: int
    outputs: tuple[OutputScore, ...]


@dataclass(frozen=True)
class Score:
    """The score against a solutions file: its set, totals, and every task in the file's order."""

    set: TaskSet
    num_tasks: int
    num_outputs: int
    num_answered: int
    pass_at_1: PassAtK
    pass_at_2: PassAtK
    tasks: dict[str, TaskScore]

    @property
    def outputs(self) -> list[OutputScore]:
        """All test outputs, in the order of the solutions."""
        return [output for task in self.tasks.values() for output in task.outputs]


def score_submission(
    submission: Submission, solutions: Mapping[str, Sequence[Grid]], where: str = "submission"
) -> Score:
    """The Score over all tasks of `solutions`; what the submission leaves out counts as wrong.

    Args:    where: what the submission is called in the message.
    Raises:  DataError if it holds a task that the solutions do not have, or another number of entries for
             a task: it was made for another set, or another version of this one.
    """
    assert solutions, "a solutions file holds a task"
    found = task_set({task_id: len(grids) for task_id, grids in solutions.items()})
    _refuse_another_set(submission, solutions, found, where)
    tasks = {
        task_id: _score_task(task_id, submission.attempts.get(task_id), grids)
        for task_id, grids in solutions.items()
    }
    scored = list(tasks.values())
    return Score(
        set=found,
        num_tasks=found.num_tasks,
        num_outputs=found.num_outputs,
        num_answered=sum(output.answered for task in scored for output in task.outputs),
        pass_at_1=pass_at_k([[output.attempt_1_correct for output in task.outputs] for task in scored]),
        pass_at_2=pass_at_k([[output.solved for output in task.outputs] for task in scored]),
        tasks=tasks,
    )


def _refuse_another_set(
    submission: Submission, solutions: Mapping[str, Sequence[Grid]], found: TaskSet, where: str
) -> None:
    answered = task_set({task_id: len(pairs) for task_id, pairs in submission.attempts.items()})
    sets = f"it answers {answered}, the solutions are of {found}"
    remedy = "score a submission against the solutions of its own set"
    strangers = [task_id for task_id in submission.attempts if task_id not in solutions]
    if strangers:
        more = f" (nor {len(strangers) - 1} more)" if len(strangers) > 1 else ""
        raise DataError(
            f"{where}: task {shown(strangers[0])} is not in the solutions{more}; {sets}: {remedy}"
        )
    for task_id, pairs in submission.attempts.items():
        if len(pairs) != len(solutions[task_id]):
            counts = f"has {len(pairs)} entries, the solutions {len(solutions[task_id])}"
            raise DataError(f"{where}: task {task_id} {counts}; {sets}: {remedy}")


def _score_task(
    task_id: str, pairs: Sequence[tuple[Grid, Grid]] | None, solutions: Sequence[Grid]
) -> TaskScore:
    outputs = tuple(
        _score_output(task_id, index, pairs[index] if pairs else None, solution)
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
        num_colors=len(np.unique(solution)),
    )


def pass_at_k(solved: Sequence[Sequence[bool]]) -> PassAtK:
    """The PassAtK from whether each test output of each task is solved."""
    fractions = [fmean(outputs) for outputs in solved]
    num_tasks, num_outputs = len(solved), sum(map(len, solved))
    solved_outputs, solved_tasks = sum(map(sum, solved)), sum(map(all, solved))
    means = resampled_means(solved)
    return PassAtK(
        task_sum=fsum(fractions),
        solved_tasks=solved_tasks,
        solved_outputs=solved_outputs,
        mean_over_tasks=fmean(fractions),
        mean_over_outputs=solved_outputs / num_outputs,
        share_of_solved_tasks=solved_tasks / num_tasks,
        interval_over_tasks=interval(means[:, 0]),
        interval_over_outputs=interval(means[:, 1]),
        interval_of_solved_tasks=interval(means[:, 2]),
    )


def resampled_means(solved: Sequence[Sequence[bool]]) -> NDArray[np.float64]:
    """Mean over tasks, mean over outputs and share of tasks solved wholly, of resampled tasks: (10000, 3)."""
    columns = np.array([[len(task), sum(task), fmean(task), all(task)] for task in solved], np.float64)
    sums = resample_tasks(columns)
    return np.stack([sums[:, 2] / len(solved), sums[:, 1] / sums[:, 0], sums[:, 3] / len(solved)], axis=1)


def per_task_frame(score: Score, rules: Mapping[str, str] | None = None) -> "pd.DataFrame":
    """A table with one row per test output and the fields of OutputScore as columns; size_rule if known."""
    import pandas as pd

    frame = pd.DataFrame([asdict(output) for output in score.outputs])
    return frame if rules is None else frame.assign(size_rule=frame["task"].map(dict(rules)))


def write_per_task(score: Score, path: Path, rules: Mapping[str, str] | None = None) -> None:
    """Write `per_task_frame` as CSV or Parquet, by the suffix of `path`.

    Raises:  OutputError if the suffix is neither, or there is something at `path` already.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise OutputError(f"--per-task {path}: the name should end in .csv or .parquet")
    runs.refuse_existing(path, "choose another --per-task file or remove it")
    frame, content = per_task_frame(score, rules), BytesIO()
    if path.suffix == ".csv":
        frame.to_csv(content, index=False)
    else:
        frame.to_parquet(content, index=False)
    runs.write_bytes(path, content.getvalue())
