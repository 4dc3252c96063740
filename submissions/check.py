"""What is wrong with a submission.json, all of it at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from arcpipe.errors import DataError
from arcpipe.submissions.format import ATTEMPTS, is_fallback, parse_attempt, parse_entries, read_content
from arcpipe.task import Task

Kind = Literal[
    "file", "missing_task", "extra_task", "entries", "attempt", "extra_key",
    "no_candidate", "identical_attempts",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something wrong with a submission: an error, which makes it invalid, or a warning.

    `message` is complete in itself: it names the file, the task, the test (from 0) and the field.
    """

    severity: Literal["error", "warning"] = "error"
    kind: Kind
    message: str
    task: str | None = None
    test: int | None = None
    field: str | None = None


def check_submission(path: Path, tasks: Sequence[Task]) -> list[Problem]:
    """All problems of the file as an answer to exactly these tasks; no error means that it is valid.

    A file that cannot be read, or is no JSON, is one error and ends the check.
    """
    try:
        content = read_content(path)
    except DataError as error:
        return [Problem(kind="file", message=str(error))]
    problems: list[Problem] = []
    for task in tasks:
        if task.id in content:
            problems += _check_task(content[task.id], task, path)
        else:
            message = f"{path}: task {task.id} is missing"
            problems.append(Problem(kind="missing_task", message=message, task=task.id))
    known = {task.id for task in tasks}
    return problems + [
        Problem(kind="extra_task", message=f"{path}: task {task_id} is not in the challenges", task=task_id)
        for task_id in content
        if task_id not in known
    ]


def _check_task(value: Any, task: Task, path: Path) -> Iterator[Problem]:
    where = f"{path}: task {task.id}"
    try:
        entries = parse_entries(value, where)
    except DataError as error:
        yield Problem(kind="entries", message=str(error), task=task.id)
        return
    if len(entries) != len(task.tests):
        message = (
            f"{where}: expected one entry for each of {len(task.tests)} test inputs, found {len(entries)}"
        )
        yield Problem(kind="entries", message=message, task=task.id)
    for index, entry in enumerate(entries):
        yield from _check_entry(entry, task.id, index, f"{where}, test[{index}]")


def _check_entry(entry: Any, task_id: str, test: int, where: str) -> Iterator[Problem]:
    if not isinstance(entry, dict):
        message = f"{where}: expected an object with the fields {' and '.join(ATTEMPTS)}"
        yield Problem(kind="entries", message=message, task=task_id, test=test)
        return
    for name in [key for key in entry if key not in ATTEMPTS]:
        message = f"{where}: {name} is neither {' nor '.join(ATTEMPTS)}"
        yield Problem(kind="extra_key", message=message, task=task_id, test=test, field=name)
    grids = []
    for name in ATTEMPTS:
        try:
            grids.append(parse_attempt(entry, name, where))
        except DataError as error:
            yield Problem(kind="attempt", message=str(error), task=task_id, test=test, field=name)
    if len(grids) == len(ATTEMPTS) and np.array_equal(grids[0], grids[1]):
        fallback = is_fallback((grids[0], grids[1]))
        yield Problem(
            severity="warning",
            kind="no_candidate" if fallback else "identical_attempts",
            message=f"{where}: {'both attempts are [[0]]' if fallback else 'the attempts are identical'}",
            task=task_id,
            test=test,
        )
