"""What is wrong with a submission.json, all of it at once."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np

from arcpipe.errors import DataError
from arcpipe.submissions.format import (
    ATTEMPTS,
    is_fallback,
    parse_attempt,
    parse_entries,
    read_content,
    shown,
)
from arcpipe.task import RepeatedKeys, Task

Kind = Literal[
    "file", "repeated_key", "missing_task", "extra_task", "entries", "attempt", "extra_key",
    "no_candidate", "identical_attempts",
]  # fmt: skip

NAMES: dict[Kind, str] = {
    "file": "unreadable files",
    "repeated_key": "keys that stand more than once",
    "missing_task": "missing tasks",
    "extra_task": "tasks that are not in the challenges",
    "entries": "wrong lists of test outputs",
    "attempt": "missing or wrong attempts",
    "extra_key": "unknown fields",
    "no_candidate": "test outputs left at [[0]]",
    "identical_attempts": "test outputs with identical attempts",
}
"""Each kind in words, for many of it; in the order of a report."""

_MOST_OF_A_KIND = 1000


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


@dataclass(frozen=True)
class Findings:
    """The problems of a submission, grouped by kind: how many there are, and the first 1000 of each."""

    counts: dict[Kind, int]
    problems: list[Problem]

    @property
    def errors(self) -> list[Problem]:
        """The problems that make the submission invalid; none means that it is valid."""
        return [problem for problem in self.problems if problem.severity == "error"]

    @property
    def warnings(self) -> list[Problem]:
        """The problems that waste an attempt."""
        return [problem for problem in self.problems if problem.severity == "warning"]


def check_submission(path: Path, tasks: Sequence[Task]) -> Findings:
    """All problems of the file as an answer to exactly these tasks.

    A file that cannot be read, is no JSON, or is larger than any answer to these tasks, is one error and
    ends the check.
    """
    try:
        content = read_content(path, sum(len(task.tests) for task in tasks))
    except DataError as error:
        return Findings({"file": 1}, [Problem(kind="file", message=str(error))])
    counts: Counter[Kind] = Counter()
    kept: dict[Kind, list[Problem]] = {kind: [] for kind in NAMES}
    for problem in _problems(content, tasks, path):
        counts[problem.kind] += 1
        if counts[problem.kind] <= _MOST_OF_A_KIND:
            kept[problem.kind].append(problem)
    known = {task.id for task in tasks}
    extra = [task_id for task_id in content if task_id not in known]
    counts["extra_task"] = len(extra)
    kept["extra_task"] = [_extra_task(shown(task_id), path) for task_id in extra[:_MOST_OF_A_KIND]]
    return Findings({kind: counts[kind] for kind in NAMES if counts[kind]}, list(chain(*kept.values())))


def _problems(content: dict[str, Any], tasks: Sequence[Task], path: Path) -> Iterator[Problem]:
    for task_id in content.repeated if isinstance(content, RepeatedKeys) else ():
        name = shown(task_id)
        message = f"{path}: task {name} stands more than once"
        yield Problem(kind="repeated_key", message=message, task=name)
    for task in tasks:
        if task.id in content:
            yield from _check_task(content[task.id], task, path)
        else:
            yield Problem(kind="missing_task", message=f"{path}: task {task.id} is missing", task=task.id)


def _extra_task(name: str, path: Path) -> Problem:
    return Problem(kind="extra_task", message=f"{path}: task {name} is not in the challenges", task=name)


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
    for index, entry in enumerate(entries[: len(task.tests)]):
        yield from _check_entry(entry, task.id, index, f"{where}, test[{index}]")


def _check_entry(entry: Any, task_id: str, test: int, where: str) -> Iterator[Problem]:
    if not isinstance(entry, dict):
        message = f"{where}: expected an object with the fields {' and '.join(ATTEMPTS)}"
        yield Problem(kind="entries", message=message, task=task_id, test=test)
        return
    for key in entry.repeated if isinstance(entry, RepeatedKeys) else ():
        name = shown(key)
        message = f"{where}: {name} stands more than once"
        yield Problem(kind="repeated_key", message=message, task=task_id, test=test, field=name)
    for key in entry:
        if key not in ATTEMPTS:
            name = shown(key)
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
