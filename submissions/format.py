"""Submission: two attempts for every test input, and its file, submission.json.

Source:  Kaggle, ARC Prize 2024 to 2026, "Submission File": `{task id: [{"attempt_1": grid,
         "attempt_2": grid}, ...]}`, one entry per test input in the order of the challenges file;
         every task and both attempts must be present.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from arcpipe import runs
from arcpipe.errors import DataError
from arcpipe.grid import MAX_SIDE, Grid, as_grid
from arcpipe.task import MAX_JSON_BYTES, RepeatedKeys, Task, read_json_objects

ATTEMPTS = ("attempt_1", "attempt_2")
_FALLBACK: Grid = np.zeros((1, 1), np.uint8)

# Two bytes a cell are enough, the rest is for spaces and line breaks; so much again for tasks too many.
_BYTES_PER_CELL = 12
_SPARE_BYTES = 1_000_000
_KIND = "submission"
_PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,40}")


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


def manifest_path(path: Path) -> Path:
    """Where the manifest of a submission file lies: beside it, `submission.manifest.json`."""
    return path.with_name(f"{path.name.removesuffix('.json')}.manifest.json")


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
        runs.write_json(manifest_path(path), runs.make_manifest(_KIND, sha256=digest, **made_by))
    runs.write_bytes(path, written)


def read_made_by(path: Path, sha256: str) -> dict[str, Any] | None:
    """The manifest beside a submission file; None if there is none, or it is of another file's content."""
    try:
        with runs.reading(manifest_path(path)):
            manifest = orjson.loads(manifest_path(path).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    is_of_file = isinstance(manifest, dict) and manifest.get("sha256") == sha256
    return manifest if is_of_file else None


def read_submission(path: Path, num_outputs: int | None = None) -> Submission:
    """The Submission of a file. Whether it answers every task, only `check_submission` can say.

    Args:    num_outputs: how many test outputs it may be for, which bounds its size.
    Raises:  DataError at the first thing that is not in Kaggle's form.
    """
    content = read_content(path, num_outputs)
    if isinstance(content, RepeatedKeys):
        raise DataError(f"{path}: task {shown(content.repeated[0])} stands more than once")
    return Submission(
        {
            task_id: tuple(
                _parse_entry(entry, f"{path}: task {shown(task_id)}, test[{index}]")
                for index, entry in enumerate(parse_entries(entries, f"{path}: task {shown(task_id)}"))
            )
            for task_id, entries in content.items()
        }
    )


def read_content(path: Path, num_outputs: int | None = None) -> dict[str, Any]:
    """The JSON object that the file holds, its values as they stand there."""
    max_bytes, remedy = MAX_JSON_BYTES, ""
    if num_outputs is not None:
        max_bytes = _SPARE_BYTES + num_outputs * len(ATTEMPTS) * MAX_SIDE**2 * _BYTES_PER_CELL
        remedy = (
            f", more than any answer to {num_outputs} test outputs needs: "
            "is it a submission to this set, and written without indentation?"
        )
    content, _ = read_json_objects(path, max_bytes, remedy)
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected an object of attempts by task id")
    return content


def shown(key: str) -> str:
    """A task id or a field as a message can hold it: plain and short, whatever the file says."""
    return key if _PLAIN.fullmatch(key) else f"{key[:40]!a}{'...' if len(key) > 40 else ''}"


def parse_entries(value: Any, where: str) -> list[Any]:
    """The entries of a task, as they stand in the file."""
    if not isinstance(value, list):
        raise DataError(f"{where}: expected a list with one entry per test input")
    return value


def _parse_entry(entry: Any, where: str) -> tuple[Grid, Grid]:
    if not isinstance(entry, dict) or not entry.keys() <= set(ATTEMPTS) or isinstance(entry, RepeatedKeys):
        raise DataError(
            f"{where}: expected an object with the fields {' and '.join(ATTEMPTS)}, each once and no other"
        )
    first, second = (parse_attempt(entry, name, where) for name in ATTEMPTS)
    return first, second


def parse_attempt(entry: dict[str, Any], name: str, where: str) -> Grid:
    """The grid of the attempt `name`.

    Raises:  DataError naming `where` if it is missing or no grid.
    """
    if name not in entry:
        raise DataError(f"{where}: {name} is missing")
    return as_grid(entry[name], f"{where}.{name}")
