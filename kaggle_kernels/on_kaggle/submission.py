"""The submission of a Kaggle run: complete from the start, whatever the tasks are like; and its scores."""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arcpipe.errors import DataError
from arcpipe.kaggle_kernels.on_kaggle.mounts import ATTEMPTS, NO_ANSWER, fallbacks, num_tests
from arcpipe.submissions.score import answered_part, score_submission
from arcpipe.submissions.submission import read_submission
from arcpipe.task import Task, parse_task, read_json_objects, read_solutions

Entries = dict[str, list[dict[str, Any]]]
"""The content of submission.json: task id -> an entry with both attempts for each test input."""

SCORES = {
    "pass@2 over tasks": "pass@2 over tasks (Kaggle)",
    "pass@2": "pass@2 over test outputs",
    "pass@1": "pass@1 over test outputs",
}
"""The scores in a report, and what each is called where it is shown."""


@dataclass(frozen=True)
class HiddenTasks:
    """The tasks of a challenges file.

    tasks: those that can be read.
    unreadable: task id -> why it cannot be read.
    num_tests: task id -> its number of test inputs, of all tasks in the file's order.
    """

    tasks: tuple[Task, ...]
    unreadable: Mapping[str, str]
    num_tests: dict[str, int]

    @property
    def num_outputs(self) -> int:
        """Return the number of test outputs to predict."""
        return sum(self.num_tests.values())

    def sample(self, count: int) -> "HiddenTasks":
        """Return only so many of the tasks that can be read, those of several tests first."""
        tasks = tuple(sorted(self.tasks, key=lambda task: -len(task.tests))[:count])
        return HiddenTasks(tasks, {}, {task.id: len(task.tests) for task in tasks})


def read_hidden_tasks(path: Path) -> HiddenTasks:
    """Read a challenges file; a task that is broken leaves the others as they are.

    Raises:  DataError if the file itself is no JSON object of tasks.
    """
    content, _ = read_json_objects(path)
    if not isinstance(content, dict) or not content:
        raise DataError(f"{path}: expected an object of tasks by id")
    tasks: list[Task] = []
    unreadable: dict[str, str] = {}
    for task_id, value in content.items():
        try:
            tasks.append(parse_task(task_id, value, path.name))
        except DataError as error:
            unreadable[task_id] = str(error)
    return HiddenTasks(tuple(tasks), unreadable, {name: num_tests(value) for name, value in content.items()})


def read_ballot(hidden: HiddenTasks, path: Path) -> Entries:
    """Return the attempts of a voted submission file, and the fallback for tasks that cannot be read.

    Raises:  DataError if it is damaged or does not have every other task.
    """
    attempts, entries = read_submission(path).attempts, fallbacks(hidden.num_tests)
    for task in hidden.tasks:
        pairs = attempts.get(task.id, ())
        if len(pairs) != len(task.tests):
            raise DataError(f"{path}: task {task.id}: {len(pairs)} entries for {len(task.tests)} test inputs")
        entries[task.id] = [
            {name: grid.tolist() for name, grid in zip(ATTEMPTS, pair, strict=True)} for pair in pairs
        ]
    return entries


def num_answered(entries: Entries) -> int:
    """Return the number of test outputs with another attempt than the fallback."""
    return sum(
        any(entry[name] != NO_ANSWER for name in ATTEMPTS) for task in entries.values() for entry in task
    )


def scores_of(submission: Path, solutions: Path, answered: Container[tuple[str, int]]) -> dict[str, float]:
    """Return the scores of the answered test inputs, by the names of SCORES; none where there is none.

    Args:    answered: their task ids and test indices.
    Raises:  DataError if one of the files is damaged.
    """
    attempts, outputs = answered_part(read_submission(submission), read_solutions(solutions), answered)
    if not outputs:
        return {}
    score = score_submission(attempts, outputs, str(submission))
    return {
        "pass@2 over tasks": score.pass_at_2.mean_over_tasks,
        "pass@2": score.pass_at_2.mean_over_outputs,
        "pass@1": score.pass_at_1.mean_over_outputs,
    }


def score_words(scores: Mapping[str, float]) -> list[str]:
    """Return scores in words, Kaggle's first."""
    return [f"{words} {scores[name]:.4f}" for name, words in SCORES.items() if name in scores]
