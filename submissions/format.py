"""Submission: two attempts for every test input, and its file, submission.json.

Source:  Kaggle, ARC Prize 2024 to 2026, "Submission File": `{task id: [{"attempt_1": grid,
         "attempt_2": grid}, ...]}`, one entry per test input in the order of the challenges file;
         every task and both attempts must be present.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from arcpipe import runs
from arcpipe.errors import DataError
from arcpipe.grid import Grid, as_grid
from arcpipe.task import Task, read_json

ATTEMPTS = ("attempt_1", "attempt_2")
_FALLBACK: Grid = np.zeros((1, 1), np.uint8)


@dataclass(frozen=True, eq=False)
class Submission:
    """Task id -> one pair of attempts per test input, in the order of the file."""

    attempts: Mapping[str, tuple[tuple[Grid, Grid], ...]]


def build_submission(tasks: Sequence[Task], ranked: Mapping[tuple[str, int], Sequence[Grid]]) -> Submission:
    """The Submission for exactly these tasks: the two best distinct candidates of every test input.

    A lone candidate is given twice; `[[0]]` stands only where there is none.

    Args:  ranked: candidates by task id and test index (from 0), the best first. An absent key means
           no candidate; keys of other tasks are ignored.
    """
    return Submission(
        {
            task.id: tuple(_best_two(ranked.get((task.id, index), ())) for index in range(len(task.tests)))
            for task in tasks
        }
    )


def _best_two(candidates: Sequence[Grid]) -> tuple[Grid, Grid]:
    first = candidates[0] if len(candidates) else _FALLBACK
    return first, next((grid for grid in candidates if not np.array_equal(grid, first)), first)


def is_fallback(attempts: tuple[Grid, Grid]) -> bool:
    """Whether both attempts are `[[0]]`, as they are where there was no candidate."""
    return all(np.array_equal(grid, _FALLBACK) for grid in attempts)


def write_submission(submission: Submission, path: Path) -> None:
    """Write submission.json; the same submission gives the same bytes.

    Raises:  OutputError if there is something at `path` already or it cannot be written.
    """
    content = {
        task_id: [{name: grid.tolist() for name, grid in zip(ATTEMPTS, pair, strict=True)} for pair in pairs]
        for task_id, pairs in submission.attempts.items()
    }
    runs.refuse_existing(path)
    runs.write_json(path, content, indent=False)


def read_submission(path: Path) -> Submission:
    """The Submission of a file. Whether it answers every task, only `check_submission` can say.

    Raises:  DataError at the first thing that is not in Kaggle's form.
    """
    return Submission(
        {
            task_id: tuple(
                _parse_entry(entry, f"{path}: task {task_id}, test[{index}]")
                for index, entry in enumerate(parse_entries(entries, f"{path}: task {task_id}"))
            )
            for task_id, entries in read_content(path).items()
        }
    )


def read_content(path: Path) -> dict[str, Any]:
    """The JSON object that the file holds, its values as they stand there."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected an object of attempts by task id")
    return content


def parse_entries(value: Any, where: str) -> list[Any]:
    """The entries of a task, as they stand in the file."""
    if not isinstance(value, list):
        raise DataError(f"{where}: expected a list with one entry per test input")
    return value


def _parse_entry(entry: Any, where: str) -> tuple[Grid, Grid]:
    if not isinstance(entry, dict) or not entry.keys() <= set(ATTEMPTS):
        raise DataError(f"{where}: expected an object with the fields {' and '.join(ATTEMPTS)} only")
    first, second = (parse_attempt(entry, name, where) for name in ATTEMPTS)
    return first, second


def parse_attempt(entry: dict[str, Any], name: str, where: str) -> Grid:
    """The grid of the attempt `name`.

    Raises:  DataError naming `where` if it is missing or no grid.
    """
    if name not in entry:
        raise DataError(f"{where}: {name} is missing")
    return as_grid(entry[name], f"{where}.{name}")
