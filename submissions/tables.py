"""Scores as tables: solved test outputs by kind of task, and the text of a score."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from arcpipe.errors import DataError
from arcpipe.submissions.intervals import NUM_RESAMPLES, Interval
from arcpipe.submissions.score import Score, per_task_frame
from arcpipe.task import Task

if TYPE_CHECKING:
    import pandas as pd

SIZE_RULES = ("same as input", "constant", "multiple of input", "other")
_LONGEST_SIDES = (5, 10, 15, 20, 30)
_TASKS_A_LINE = 6


@dataclass(frozen=True)
class Part:
    """The test outputs that have a property in common: how many, and how many of them are solved."""

    name: str
    outputs: int
    solved_at_1: int
    solved_at_2: int


def size_rule(task: Task) -> str:
    """How the demonstrations' output sizes follow from the inputs': the first of SIZE_RULES that fits all.

    A multiple has one integer factor for the heights and one for the widths, the same in all of them.
    """
    sizes = [(pair.input.shape, pair.output.shape) for pair in task.demonstrations if pair.output is not None]
    if all(output == given for given, output in sizes):
        return "same as input"
    if len({output for _, output in sizes}) == 1:
        return "constant"
    ratios = {(output[0] / given[0], output[1] / given[1]) for given, output in sizes}
    if len(ratios) == 1 and all(ratio.is_integer() for ratio in next(iter(ratios))):
        return "multiple of input"
    return "other"


def size_rules(tasks: Sequence[Task], score: Score, where: Path) -> dict[str, str]:
    """The size rule of each scored task, by id.

    Raises:  DataError naming `where`, the file of the tasks, if one is not in it.
    """
    known = {task.id: task for task in tasks}
    missing = next((task_id for task_id in score.tasks if task_id not in known), None)
    if missing is not None:
        raise DataError(
            f"{where}: task {missing} of the solutions is not in it: give the challenges of the set"
        )
    return {task_id: size_rule(known[task_id]) for task_id in score.tasks}


def breakdown(score: Score, rules: Mapping[str, str] | None = None) -> dict[str, list[Part]]:
    """The test outputs in parts: by longest side, by number of colors, and by size rule if known."""
    frame = per_task_frame(score, rules)
    frame["longest side"] = frame[["height", "width"]].max(axis=1).map(_side_range)
    frame["colors"] = frame["num_colors"].map(str)
    orders = {
        "longest side": [_side_range(side) for side in _LONGEST_SIDES],
        "colors": [str(count) for count in range(1, 11)],
    }
    if rules is not None:
        orders["size_rule"] = list(SIZE_RULES)
    return {column: _parts(frame, column, order) for column, order in orders.items()}


def _side_range(side: int) -> str:
    """The range of sides that holds `side`: 1-5, 6-10, 11-15, 16-20 or 21-30."""
    last = next(bound for bound in _LONGEST_SIDES if side <= bound)
    first = max((bound for bound in _LONGEST_SIDES if bound < last), default=0) + 1
    return f"{first}-{last}"


def _parts(frame: "pd.DataFrame", column: str, order: Sequence[str]) -> list[Part]:
    counts = frame.groupby(column).agg(
        outputs=("task", "size"), solved_at_1=("attempt_1_correct", "sum"), solved_at_2=("solved", "sum")
    )
    found = {name: Part(name, *values) for name, *values in counts.itertuples(name=None)}
    return [found[name] for name in order if name in found]


def score_text(score: Score, parts: Mapping[str, Sequence[Part]] | None = None) -> str:
    """The score as aligned tables, then the tasks with their solved tests at pass@2."""
    passes = (score.pass_at_1, score.pass_at_2)
    tasks, outputs = score.num_tasks, score.num_outputs
    rows: dict[str, list[tuple[float, str, Interval]]] = {
        "mean over tasks (Kaggle, ARC Prize)": [
            (p.mean_over_tasks, f"{round(p.task_sum, 2):g}/{tasks}", p.interval_over_tasks) for p in passes
        ],
        "mean over test outputs": [
            (p.mean_over_outputs, f"{p.solved_outputs}/{outputs}", p.interval_over_outputs) for p in passes
        ],
        "tasks with all tests correct": [
            (p.share_of_solved_tasks, f"{p.solved_tasks}/{tasks}", p.interval_of_solved_tasks) for p in passes
        ],
    }
    name = f", {score.set.name}" if score.set.name else ""
    lines = [f"{tasks} tasks, {outputs} test outputs, {score.num_answered} answered{name}", ""]
    lines.append(f"{'':35}{'pass@1':>34}{'pass@2':>34}")
    for title, cells in rows.items():
        lines.append(f"{title:35}" + "".join(map(_cell, cells)))
    lines.append(f"(95% intervals: tasks resampled {NUM_RESAMPLES} times)")
    for title, group in (parts or {}).items():
        lines += ["", f"{title.replace('_', ' '):20}{'outputs':>8}{'pass@1':>16}{'pass@2':>16}"]
        lines += [_part_line(part) for part in group]
    return "\n".join([*lines, "", *_task_lines(score)])


def _cell(value: tuple[float, str, Interval]) -> str:
    mean, count, (low, high) = value
    return f"{mean:>9.2%}{count:>10}{f'[{100 * low:.1f}, {100 * high:.1f}]':>15}"


def _part_line(part: Part) -> str:
    solved = "".join(
        f"{count:>6}{count / part.outputs:>10.2%}" for count in (part.solved_at_1, part.solved_at_2)
    )
    return f"{part.name:20}{part.outputs:>8}{solved}"


def _task_lines(score: Score) -> Iterator[str]:
    """The tasks with how many of their tests are solved, several a line."""
    words = [f"{task_id}  {task.solved}/{task.tests}" for task_id, task in score.tasks.items()]
    width = max(map(len, words))
    for _, line in groupby(enumerate(words), lambda item: item[0] // _TASKS_A_LINE):
        yield "   ".join(f"{word:{width}}" for _, word in line).rstrip()
