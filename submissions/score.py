"""The score of a submission against the solutions of its set, as mean over tasks and over test outputs.

A test output is solved if one of its two attempts is exactly right; a task scores its solved share.

Source:  The mean over tasks is Kaggle's: every public score of ARC Prize 2025 and 2026 is a multiple of
         1/720 = 1/(120 tasks x lcm(1, 2, 3)), although the page reads like a mean over test outputs. It
         is also ARC Prize's own (arcprize/arc-agi-benchmarking, scoring.py), except that ARC Prize divides
         by the number of answered tasks, arcpipe by that of the solutions file.
"""

import hashlib
import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from io import BytesIO
from math import fsum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arcpipe import runs
from arcpipe.errors import DataError, OutputError
from arcpipe.grid import Grid
from arcpipe.log import counted
from arcpipe.submissions.submission import Submission, is_fallback, plain
from arcpipe.task import Task

# Public sets by `grids_hash` of their test outputs, and of the grids in their challenges file. ARC-AGI-1's
# evaluation set exists in versions that differ in demonstrations only, hence with the same test outputs.
# ARC-AGI-2's exists in two that differ in five tasks' numbers of tests, so their scores do not compare.
_BENCHMARKS = {
    "ARC-AGI-1 training": ("8011c3db8ebc29a7", "b808b3da2ed01957"),
    "ARC-AGI-1 training (Kaggle 2019)": ("53033105f9731acc", "d3bf016c2f84ea86"),
    "ARC-AGI-1 evaluation": ("13d69ac211a9f472", "1890423847fbdc94", "a5d4777f441b444c"),
    "ARC-AGI-1 evaluation (Kaggle 2019)": ("2b782b684bc6cdf1", "13cebca57e77f190"),
    "ARC-AGI-2 training": ("c59a72cf227cc885", "dc7fbb7857669195"),
    "ARC-AGI-2 evaluation of 167 test outputs (arcprize/ARC-AGI-2)": ("9b20b29764ecda58", "dba065f46f5acebb"),
    "ARC-AGI-2 evaluation of 172 test outputs (Kaggle 2025)": ("8d6831538a7e2e51", "eb90a971841faf70"),
    "ConceptARC": ("bbfc9b372fd64d1f", "d72a94a05a27f52d"),
}
_NAMES = {content: name for name, contents in _BENCHMARKS.items() for content in contents}

NUM_RESAMPLES = 10_000
_SEED, _PURPOSE = 0, 8
_DRAWS_AT_ONCE = 4_000_000
_PERCENTILES = (2.5, 97.5)

SIZE_RULES = ("same as input", "constant", "multiple of input", "other")
_SIDE_RANGES = ((1, 5), (6, 10), (11, 15), (16, 20), (21, 30))
_TASKS_A_LINE = 5
_FORMULA = re.compile(r"^[=+\-@\t\r]")

Interval = tuple[float, float]
"""The lower and upper bound of a 95% interval."""


@dataclass(frozen=True)
class TaskSet:
    """The identity of a set of tasks.

    name: the name of a public set, recognized by its grids; None for any other set.
    fingerprint: a hash of the task ids and their numbers of tests.
    """

    name: str | None
    fingerprint: str
    num_tasks: int
    num_outputs: int

    def __str__(self) -> str:
        counts = f"{counted(self.num_tasks, 'task')} and {counted(self.num_outputs, 'test output')}"
        return self.name or f"a set of {counts}"


def task_set(tests: Mapping[str, Sized], content: str | None = None) -> TaskSet:
    """Return the TaskSet of these tasks.

    Args:  tests: a collection with one item per test, by task id.
           content: the `grids_hash` of the test outputs or of the challenges; None leaves the set unnamed.
    """
    lines = "".join(f"{task_id} {len(items)}\n" for task_id, items in sorted(tests.items()))
    fingerprint = hashlib.sha256(lines.encode()).hexdigest()[:16]
    name = None if content is None else _NAMES.get(content)
    return TaskSet(name, fingerprint, len(tests), sum(map(len, tests.values())))


def set_of_challenges(tasks: Sequence[Task]) -> TaskSet:
    """Return the TaskSet of challenges, recognized by all grids but the test outputs."""
    grids = {
        task.id: [
            *(grid for pair in task.demonstrations for grid in (pair.input, pair.output) if grid is not None),
            *(pair.input for pair in task.tests),
        ]
        for task in tasks
    }
    return task_set({task.id: task.tests for task in tasks}, grids_hash(grids))


def grids_hash(grids: Mapping[str, Sequence[Grid]]) -> str:
    """Hash the grids of tasks, regardless of the order of the tasks."""
    digest = hashlib.sha256()
    for task_id in sorted(grids):
        digest.update(f"{task_id} {len(grids[task_id])}\n".encode())
        for grid in grids[task_id]:
            digest.update(bytes(grid.shape) + grid.tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class OutputScore:
    """The score of one test output, with the size and number of colors of its solution."""

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
    """The score if the first k attempts count; means and shares are fractions 0..1.

    task_sum: the sum over tasks of the share of solved test outputs.
    solved_tasks: tasks with all test outputs solved.
    interval_*: 95% bootstrap intervals over tasks.
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
    """The test outputs of one task and the number of solved ones at pass@2."""

    solved: int
    tests: int
    outputs: tuple[OutputScore, ...]


@dataclass(frozen=True)
class Score:
    """The score against a solutions file: its set, totals, and every task in the order of the file.

    left_out: tasks of the set that were not scored.
    corrected: tasks that were scored against other outputs than those of the file.
    """

    set: TaskSet
    num_tasks: int
    num_outputs: int
    num_answered: int
    pass_at_1: PassAtK
    pass_at_2: PassAtK
    tasks: dict[str, TaskScore]
    left_out: tuple[str, ...] = ()
    corrected: tuple[str, ...] = ()

    @property
    def outputs(self) -> list[OutputScore]:
        """All test outputs, in the order of the solutions."""
        return [output for task in self.tasks.values() for output in task.outputs]


def mended_solutions(
    solutions: dict[str, list[Grid]], leave_out: Sequence[str], corrections: Sequence[str]
) -> dict[str, list[Grid]]:
    """Return the solutions without the tasks of `leave_out` and with the outputs of `corrections`.

    Args:    leave_out, corrections: as in `arcpipe.augment.split`.
    Raises:  DataError if they cannot be read or lack an output, or if no task is left.
    """
    if not leave_out and not corrections:
        return solutions
    # Imported here because it loads pyarrow, which the notebook on Kaggle may do without.
    from arcpipe.augment.split import read_corrections, read_ids

    skip = read_ids(leave_out, solutions)
    outputs_by_task = {task: grids for task, grids in solutions.items() if task not in skip}
    for task_id, task in read_corrections(corrections, outputs_by_task).items():
        outputs = [pair.output for pair in task.tests if pair.output is not None]
        if len(outputs) < len(task.tests) or not outputs:
            raise DataError(f"--corrections: task {task_id} has no outputs of its tests")
        outputs_by_task[task_id] = outputs
    if not outputs_by_task:
        raise DataError("--leave-out: no task is left to score")
    return outputs_by_task


def score_submission(
    submission: Submission,
    solutions: Mapping[str, Sequence[Grid]],
    where: str = "submission",
    whole: Mapping[str, Sequence[Grid]] | None = None,
) -> Score:
    """Score a submission over all tasks of `solutions`; missing tasks count as wrong.

    Args:    where: the name of the submission in messages.
             whole: the solutions of the whole set, if tasks were left out or corrected in `solutions`.
    Raises:  DataError if the submission has an unknown task, or another number of entries for a task: it
             answers another set, or another version of this one.
    """
    whole = solutions if whole is None else whole
    scored_set = task_set(whole, grids_hash(whole))
    _refuse_another_set(submission, {**whole, **solutions}, scored_set, where)
    tasks = {}
    for task_id, grids in solutions.items():
        pairs = submission.attempts.get(task_id, (None,) * len(grids))
        outputs = []
        for index, (pair, grid) in enumerate(zip(pairs, grids, strict=True)):
            first, second = (pair is not None and np.array_equal(pair[k], grid) for k in (0, 1))
            answered = pair is not None and not is_fallback(pair)
            outputs.append(OutputScore(
                task=task_id, test_index=index, attempt_1_correct=first, attempt_2_correct=second,
                solved=first or second, answered=answered, height=grid.shape[0], width=grid.shape[1],
                num_colors=len(np.unique(grid)),
            ))  # fmt: skip
        tasks[task_id] = TaskScore(sum(output.solved for output in outputs), len(outputs), tuple(outputs))
    scored = [output for task in tasks.values() for output in task.outputs]
    right = np.array([(output.attempt_1_correct, output.solved) for output in scored])
    pass_at_1, pass_at_2 = passes(right, [len(grids) for grids in solutions.values()])
    return Score(
        set=scored_set,
        num_tasks=len(tasks),
        num_outputs=len(scored),
        num_answered=sum(output.answered for output in scored),
        pass_at_1=pass_at_1,
        pass_at_2=pass_at_2,
        tasks=tasks,
        left_out=tuple(task_id for task_id in whole if task_id not in solutions),
        corrected=tuple(task_id for task_id, grids in solutions.items() if grids is not whole[task_id]),
    )


def answered_part(
    submission: Submission, solutions: Mapping[str, Sequence[Grid]], answered: Container[tuple[str, int]]
) -> tuple[Submission, dict[str, list[Grid]]]:
    """Return the attempts and the solutions of the answered test inputs only.

    Args:  answered: (task id, test index) of each answered test input, as in `answered_tests`.
    """
    attempts, outputs = {}, {}
    for task_id, grids in solutions.items():
        if indices := [index for index in range(len(grids)) if (task_id, index) in answered]:
            attempts[task_id] = tuple(submission.attempts[task_id][index] for index in indices)
            outputs[task_id] = [grids[index] for index in indices]
    return Submission(attempts), outputs


def _refuse_another_set(
    submission: Submission, solutions: Mapping[str, Sequence[Grid]], scored_set: TaskSet, where: str
) -> None:
    own_set = task_set(submission.attempts)
    for task_id, pairs in submission.attempts.items():
        if task_id not in solutions:
            problem = "is not in the solutions"
        elif len(pairs) != len(solutions[task_id]):
            problem = f"has {len(pairs)} entries, the solutions {len(solutions[task_id])}"
        else:
            continue
        raise DataError(
            f"{where}: task {plain(task_id)} {problem}; it answers {own_set}, the solutions are of "
            f"{scored_set}: score a submission against the solutions of its own set"
        )


def passes(solved: NDArray[np.bool_], sizes: Sequence[int]) -> list[PassAtK]:
    """Return the PassAtK of each column of `solved` (T, C).

    Args:  solved: whether each test output is solved.
           sizes: the number of test outputs of each task, T in all.
    """
    scores = []
    for counts, means in zip(_per_task(solved, sizes).T, resampled_means(solved, sizes), strict=True):
        over_tasks, over_outputs, solved_tasks = means
        scores.append(
            PassAtK(
                task_sum=fsum(counts / sizes),
                solved_tasks=int((counts == sizes).sum()),
                solved_outputs=int(counts.sum()),
                mean_over_tasks=float(over_tasks[0]),
                mean_over_outputs=float(over_outputs[0]),
                share_of_solved_tasks=float(solved_tasks[0]),
                interval_over_tasks=interval(over_tasks),
                interval_over_outputs=interval(over_outputs),
                interval_of_solved_tasks=interval(solved_tasks),
            )
        )
    return scores


def _per_task(solved: NDArray[np.bool_], sizes: Sequence[int]) -> NDArray[np.float64]:
    """Count the solved test outputs of each task: (T, C) -> (tasks, C)."""
    totals = np.asarray(sizes)
    return np.add.reduceat(solved.astype(np.float64), np.cumsum(totals) - totals)


def resampled_means(solved: NDArray[np.bool_], sizes: Sequence[int]) -> NDArray[np.float64]:
    """Return means of solved test outputs (T, C) over the set and over 10000 resamples: (C, 3, 10001).

    The three are the mean over tasks, the mean over test outputs, and the share of fully solved tasks. A
    resample draws tasks with replacement, as many as the set has; the tests of a task stay together. The
    draws depend on the number of tasks only, so resamples of two submissions to a set are paired.

    Args:  sizes: the number of test outputs of each task, T in all.
    """
    num_tasks, totals = len(sizes), np.array(sizes)[:, None]
    per_task = _per_task(solved, sizes)
    columns = np.concatenate([per_task / totals, per_task, per_task == totals, totals], axis=1)
    rng = np.random.default_rng([_SEED, _PURPOSE])
    batch = max(1, _DRAWS_AT_ONCE // num_tasks)
    sums = [np.array([[fsum(column) for column in columns.T]])]
    for start in range(0, NUM_RESAMPLES, batch):
        count = min(batch, NUM_RESAMPLES - start)
        draws = rng.integers(num_tasks, size=(count, num_tasks))
        draws += num_tasks * np.arange(count)[:, None]
        weights = np.bincount(draws.ravel(), minlength=count * num_tasks).reshape(count, num_tasks)
        sums.append(weights @ columns)
    *parts, outputs = np.split(np.concatenate(sums).T, np.arange(1, 4) * solved.shape[1])
    return np.stack([parts[0] / num_tasks, parts[1] / outputs, parts[2] / num_tasks], axis=1)


def interval(means: NDArray[np.float64]) -> Interval:
    """Return the 95% percentile interval of a mean.

    If no task or every task is solved, the resamples have no spread and the interval is a point.

    Args:  means: the mean of the set, then those of the resamples.
    """
    low, high = np.percentile(means[1:], _PERCENTILES)
    return float(low), float(high)


@dataclass(frozen=True)
class Part:
    """The number of test outputs with a common property, and of solved ones among them."""

    name: str
    outputs: int
    solved_at_1: int
    solved_at_2: int


def size_rule(task: Task) -> str:
    """Return the first of SIZE_RULES by which all demonstrations relate output size to input size.

    "multiple of input" means one integer factor for heights and one for widths, in all demonstrations.
    """
    sizes = [(pair.input.shape, pair.output.shape) for pair in task.demonstrations if pair.output is not None]
    if all(output == input_ for input_, output in sizes):
        return "same as input"
    if len({output for _, output in sizes}) == 1:
        return "constant"
    ratios = {(output[0] / input_[0], output[1] / input_[1]) for input_, output in sizes}
    if len(ratios) == 1 and all(ratio.is_integer() for ratio in next(iter(ratios))):
        return "multiple of input"
    return "other"


def breakdown(score: Score, rules: Mapping[str, str] | None = None) -> dict[str, list[Part]]:
    """Count the test outputs by longest side, number of colors and, if known, size rule.

    Args:  rules: the size rule of each task, by id.
    """
    sides = {side: f"{first}-{last}" for first, last in _SIDE_RANGES for side in range(first, last + 1)}
    kinds: dict[str, tuple[Iterable[str], Callable[[OutputScore], str]]] = {
        "longest side": (dict.fromkeys(sides.values()), lambda one: sides[max(one.height, one.width)]),
        "colors": (map(str, range(1, 11)), lambda one: str(one.num_colors)),
    }
    if rules:
        kinds["size_rule"] = (SIZE_RULES, lambda one: rules[one.task])
    by_title: dict[str, list[Part]] = {title: [] for title in kinds}
    for title, (names, name_of) in kinds.items():
        for name in names:
            group = [output for output in score.outputs if name_of(output) == name]
            at_1, at_2 = sum(one.attempt_1_correct for one in group), sum(one.solved for one in group)
            by_title[title] += [Part(name, len(group), at_1, at_2)] if group else []
    return by_title


def write_per_task(score: Score, path: Path, rules: Mapping[str, str] | None = None) -> None:
    """Write the OutputScore of each test output, with its size rule if known, to a CSV or Parquet file.

    Raises:  OutputError if `path` has another suffix, or exists.
    """
    import pandas as pd

    if path.suffix not in (".csv", ".parquet"):
        raise OutputError(f"--per-task {path}: the name should end in .csv or .parquet")
    runs.refuse_existing(path, "choose another --per-task file or remove it")
    frame, content = pd.DataFrame(score.outputs), BytesIO()
    if rules is not None:
        frame["size_rule"] = frame["task"].map(dict(rules))
    if path.suffix == ".csv":
        # A leading quote stops spreadsheets from reading an id as a formula.
        frame["task"] = frame["task"].str.replace(_FORMULA, r"'\g<0>", regex=True)
        frame.to_csv(content, index=False)
    else:
        frame.to_parquet(content, index=False)
    runs.write_bytes(path, content.getvalue())


def score_text(score: Score, parts: Mapping[str, Sequence[Part]]) -> str:
    """Format the score as aligned tables, followed by the solved tests of each task at pass@2."""
    tasks, outputs, both = score.num_tasks, score.num_outputs, (score.pass_at_1, score.pass_at_2)
    total = f" of {score.set.num_tasks}" if score.left_out else ""
    corrected = f", {len(score.corrected)} corrected" if score.corrected else ""
    others = ", the others count as wrong" if score.num_answered < outputs else ""
    lines = [
        f"{tasks}{total} tasks, {outputs} test outputs, {score.num_answered} answered{corrected}, "
        f"{score.set.name or 'not a known set'}{others}",
        "",
    ]
    # Resampling a single task tells nothing.
    has_interval = tasks > 1
    lines.append(f"{'score':>51}{'solved':>10}" + f"{'95% interval':>15}" * has_interval)
    rows = {
        "mean over tasks (Kaggle, ARC Prize)": [
            (k.mean_over_tasks, f"{round(k.task_sum, 2):g}/{tasks}", k.interval_over_tasks) for k in both
        ],
        "mean over test outputs": [
            (k.mean_over_outputs, f"{k.solved_outputs}/{outputs}", k.interval_over_outputs) for k in both
        ],
        "tasks with all tests correct": [
            (k.share_of_solved_tasks, f"{k.solved_tasks}/{tasks}", k.interval_of_solved_tasks) for k in both
        ],
    }
    for title, row in rows.items():
        for k, (mean, solved, (low, high)) in enumerate(row, 1):
            name = f"{title if k == 1 else '':36}pass@{k}"
            interval_text = f"[{100 * low:.1f}, {100 * high:.1f}]" if has_interval else ""
            lines.append(f"{name}{mean:>9.2%}{solved:>10}{interval_text:>15}".rstrip())
    lines += [f"(95% intervals: tasks resampled {NUM_RESAMPLES} times)"] * has_interval
    for title, group in parts.items():
        lines += ["", f"{title.replace('_', ' '):20}{'outputs':>8}{'pass@1':>16}{'pass@2':>16}"]
        for part in group:
            shares = (f"{n:>6}{n / part.outputs:>10.2%}" for n in (part.solved_at_1, part.solved_at_2))
            lines.append(f"{part.name:20}{part.outputs:>8}{''.join(shares)}")
    lines.append("")
    words = [f"{task_id}  {task.solved}/{task.tests}" for task_id, task in score.tasks.items()]
    width = max(map(len, words))
    for start in range(0, len(words), _TASKS_A_LINE):
        line = words[start : start + _TASKS_A_LINE]
        lines.append("   ".join(f"{word:{width}}" for word in line).rstrip())
    return "\n".join(lines)
