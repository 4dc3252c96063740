"""Submission: two attempts for every test input, and its file, submission.json: read, checked and written.

Source:  Kaggle, ARC Prize 2024 to 2026, "Submission File": `{task id: [{"attempt_1": grid,
         "attempt_2": grid}, ...]}`, one entry per test input in the order of the challenges file;
         every task and both attempts must be present.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson

from arcpipe import runs
from arcpipe.documents import load_json
from arcpipe.errors import DataError
from arcpipe.grid import MAX_SIDE, Grid, as_grid
from arcpipe.task import MAX_JSON_BYTES, Task, read_json_objects

ATTEMPTS = ("attempt_1", "attempt_2")
NO_GRID: Grid = np.zeros((0, 0), np.uint8)
"""An attempt that failed, which is like no grid; files that others publish have some."""
_FALLBACK: Grid = np.zeros((1, 1), np.uint8)

# Two bytes a cell are enough, the rest is for spaces and line breaks; so much again for tasks too many.
_BYTES_PER_CELL = 12
_SPARE_BYTES = 1_000_000
_PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,40}")
_MAX_PROBLEMS_OF_A_KIND = 1000

Attempts = tuple[Grid, Grid]

KINDS = {
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
"""The kinds of problems, each with its plural, in the order in which they are listed."""


@dataclass(frozen=True, eq=False)
class Submission:
    """Two attempts for each test input, by task id, in the order of the file."""

    attempts: Mapping[str, tuple[Attempts, ...]]


@dataclass(frozen=True)
class Problem:
    """Something wrong with a submission file: an error makes it invalid, a warning wastes an attempt.

    kind: one of KINDS.
    message: names the file, the task, the test (from 0) and the field.
    """

    severity: Literal["error", "warning"]
    kind: str
    message: str
    task: str | None = None
    test: int | None = None
    field: str | None = None


@dataclass(frozen=True)
class Findings:
    """The problems of a submission file, grouped by kind.

    counts: how many there are of each kind.
    errors: those that make it invalid, the first 1000 of each kind.
    warnings: those that waste an attempt, likewise.
    """

    counts: dict[str, int]
    errors: list[Problem]
    warnings: list[Problem]


def build_submission(tasks: Sequence[Task], ranked: Mapping[tuple[str, int], Sequence[Grid]]) -> Submission:
    """Return the Submission for exactly these tasks: the two best distinct candidates of each test input.

    A lone candidate is given twice; `[[0]]` stands only where there is none.

    Args:  ranked: candidates by task id and test index (from 0), the best first. An absent key means
           no candidate; keys of other tasks are ignored.
    """
    attempts: dict[str, tuple[Attempts, ...]] = {}
    for task in tasks:
        of_tests = [ranked.get((task.id, index)) or [_FALLBACK] for index in range(len(task.tests))]
        attempts[task.id] = tuple(
            (grids[0], next((grid for grid in grids if not np.array_equal(grid, grids[0])), grids[0]))
            for grids in of_tests
        )
    return Submission(attempts)


def is_fallback(attempts: Attempts) -> bool:
    """Return whether both attempts are `[[0]]`, as they are where there was no candidate, or have failed."""
    return all(grid is NO_GRID or np.array_equal(grid, _FALLBACK) for grid in attempts)


def write_submission(submission: Submission, path: Path, made_by: Mapping[str, Any] | None = None) -> None:
    """Write submission.json, and its manifest beside it; the same submission gives the same bytes.

    Args:    made_by: what the manifest says of the making; without it there is no manifest.
    Raises:  OutputError if there is something at `path` already or it cannot be written.
    """
    content = {
        task_id: [{name: grid.tolist() for name, grid in zip(ATTEMPTS, pair, strict=True)} for pair in pairs]
        for task_id, pairs in submission.attempts.items()
    }
    runs.refuse_existing(path)
    written = orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)
    if made_by is not None:
        digest = hashlib.sha256(written).hexdigest()
        # First, so that a submission never lacks it; a manifest alone is taken for an interrupted one.
        runs.write_json(manifest_path(path), runs.make_manifest("submission", sha256=digest, **made_by))
    runs.write_bytes(path, written)


def manifest_path(path: Path) -> Path:
    """Return where the manifest of a submission file lies: beside it, `submission.manifest.json`."""
    return path.with_name(f"{path.name.removesuffix('.json')}.manifest.json")


def read_made_by(path: Path, sha256: str) -> dict[str, Any] | None:
    """Return the manifest beside a submission file; None if there is none, or it is of another content."""
    try:
        with runs.reading(manifest_path(path)):
            manifest = load_json(manifest_path(path))
    except (OSError, ValueError):
        return None
    return manifest if is_made_by(manifest) and manifest.get("sha256") == sha256 else None


def is_made_by(manifest: Any) -> bool:
    """Return whether a manifest names its sources, if any, as that of a submission does."""
    sources = manifest.get("sources", []) if isinstance(manifest, dict) else None
    return isinstance(sources, list) and all(
        isinstance(one, dict) and isinstance(one.get("manifest") or {}, dict) for one in sources
    )


def read_submission(path: Path, num_outputs: int | None = None, *, may_fail: bool = False) -> Submission:
    """Read a submission file. Whether it answers every task, only `check_submission` can say.

    Args:    num_outputs: how many test outputs it may be for, which bounds its size.
             may_fail: null stands for an attempt that failed, which Kaggle does not take.
    Raises:  DataError with its first error.
    """
    content = _read_content(path, num_outputs)
    for problem in _problems(content, path, may_fail=may_fail):
        if problem.severity == "error":
            raise DataError(problem.message)

    def attempt(cells: Any) -> Grid:
        return NO_GRID if cells is None else np.array(cells, np.uint8)

    return Submission(
        {
            task: tuple((attempt(entry["attempt_1"]), attempt(entry["attempt_2"])) for entry in entries)
            for task, entries in content.items()
        }
    )


def check_submission(path: Path, tasks: Sequence[Task]) -> Findings:
    """Find all problems of a submission file as an answer to exactly these tasks.

    A file that cannot be read, is no JSON, or is larger than any answer to these tasks, is one error and
    ends the check.
    """
    num_tests = {task.id: len(task.tests) for task in tasks}
    try:
        content = _read_content(path, sum(num_tests.values()))
    except DataError as error:
        return Findings({"file": 1}, [Problem("error", "file", str(error))], [])
    counts: Counter[str] = Counter()
    first: list[Problem] = []
    for problem in _problems(content, path, num_tests):
        counts[problem.kind] += 1
        if counts[problem.kind] <= _MAX_PROBLEMS_OF_A_KIND:
            first.append(problem)
    first.sort(key=lambda problem: list(KINDS).index(problem.kind))
    return Findings(
        {kind: counts[kind] for kind in KINDS if counts[kind]},
        [problem for problem in first if problem.severity == "error"],
        [problem for problem in first if problem.severity == "warning"],
    )


def max_bytes(num_outputs: int) -> int:
    """Return the most bytes that an answer to so many test outputs needs."""
    return _SPARE_BYTES + num_outputs * len(ATTEMPTS) * MAX_SIDE**2 * _BYTES_PER_CELL


def _read_content(path: Path, num_outputs: int | None) -> dict[str, Any]:
    limit, remedy = MAX_JSON_BYTES, ""
    if num_outputs is not None:
        limit = max_bytes(num_outputs)
        remedy = (
            f", more than any answer to {num_outputs} test outputs needs: "
            "is it a submission to this set, and written without indentation?"
        )
    content, _ = read_json_objects(path, limit, remedy)
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected an object of attempts by task id")
    return content


def shown(key: str) -> str:
    """Return a task id or a field as a message can hold it: plain and short, whatever the file says."""
    return key if _PLAIN.fullmatch(key) else f"{key[:40]!a}{'...' if len(key) > 40 else ''}"


def _problems(
    content: dict[str, Any], path: Path, num_tests: Mapping[str, int] | None = None, *, may_fail: bool = False
) -> Iterator[Problem]:
    """Walk over the content of a submission file and yield each problem.

    Args:  num_tests: the number of test inputs of each task to answer; None if the tasks are not known.
           may_fail: null may stand in place of an attempt.
    """
    for task in map(shown, getattr(content, "repeated", ())):
        yield Problem("error", "repeated_key", f"{path}: task {task} stands more than once", task)
    for key in {**(num_tests or {}), **content}:
        task, entries = shown(key), content.get(key)
        where = f"{path}: task {task}"
        if key not in content:
            yield Problem("error", "missing_task", f"{where} is missing", task)
        elif num_tests is not None and key not in num_tests:
            yield Problem("error", "extra_task", f"{where} is not in the challenges", task)
        elif not isinstance(entries, list):
            yield Problem("error", "entries", f"{where}: expected a list with one entry per test input", task)
        else:
            expected = len(entries) if num_tests is None else num_tests[key]
            if len(entries) != expected:
                counts = f"one entry for each of {expected} test inputs, found {len(entries)}"
                yield Problem("error", "entries", f"{where}: expected {counts}", task)
            for test, entry in enumerate(entries[:expected]):
                yield from _problems_of_entry(entry, f"{where}, test[{test}]", task, test, may_fail)


def _problems_of_entry(entry: Any, where: str, task: str, test: int, may_fail: bool) -> Iterator[Problem]:
    if not isinstance(entry, dict):
        message = f"{where}: expected an object with the fields {' and '.join(ATTEMPTS)}"
        yield Problem("error", "entries", message, task, test)
        return
    for key in map(shown, getattr(entry, "repeated", ())):
        yield Problem("error", "repeated_key", f"{where}: {key} stands more than once", task, test, key)
    for key in map(shown, (key for key in entry if key not in ATTEMPTS)):
        message = f"{where}: {key} is neither {' nor '.join(ATTEMPTS)}"
        yield Problem("error", "extra_key", message, task, test, key)
    grids = []
    for name in ATTEMPTS:
        try:
            if name not in entry:
                raise DataError(f"{where}: {name} is missing")
            if not may_fail or entry[name] is not None:
                grids.append(as_grid(entry[name], f"{where}.{name}"))
        except DataError as error:
            yield Problem("error", "attempt", str(error), task, test, name)
    if len(grids) == len(ATTEMPTS) and np.array_equal(grids[0], grids[1]):
        if is_fallback((grids[0], grids[1])):
            yield Problem("warning", "no_candidate", f"{where}: both attempts are [[0]]", task, test)
        else:
            message = f"{where}: the attempts are identical"
            yield Problem("warning", "identical_attempts", message, task, test)
