"""Merge submissions and predictions into one submission, test input by test input."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from arcpipe.errors import DataError
from arcpipe.grid import Grid
from arcpipe.infer.vote import by_count, rank, ranked_grids
from arcpipe.infer.vote_files import read_arc_votes
from arcpipe.runs import file_hash, read_manifest
from arcpipe.submissions.submission import (
    Submission,
    build_submission,
    is_fallback,
    read_made_by,
    read_submission,
)
from arcpipe.task import Task

MergeRule = Literal["order", "count"]
Ranked = Mapping[tuple[str, int], Sequence[Grid]]
"""Distinct candidates by task id and test index, the best first."""

_NUM_ATTEMPTS = 2


@dataclass(frozen=True, eq=False)
class Source:
    """A submission, whose candidates are its attempts, or predictions."""

    path: Path
    ranked: Ranked


def read_source(path: Path, tasks: Sequence[Task], challenges: Path) -> Source:
    """Read the candidates of a submission file or of predictions, which are ranked by count.

    Args:    challenges: the file of the tasks.
    Raises:  DataError if it is neither, or of another set.
    """
    num_tests = {task.id: len(task.tests) for task in tasks}
    if path.is_dir() or path.suffix == ".parquet":
        votes = read_arc_votes([path], num_tests, challenges)
        return Source(path, ranked_grids(votes, rank(votes, by_count)))
    return Source(path, distinct_attempts(read_submission(path, sum(num_tests.values())), tasks, path))


def distinct_attempts(submission: Submission, tasks: Sequence[Task], where: Path) -> Ranked:
    """Return the distinct attempts at each test input; none where both are `[[0]]`.

    Raises:  DataError if a task has another number of entries than test inputs.
    """
    ranked = {}
    for task in tasks:
        pairs = submission.attempts.get(task.id)
        if pairs is not None and len(pairs) != len(task.tests):
            raise DataError(
                f"{where}: task {task.id} has {len(pairs)} entries, the challenges {len(task.tests)} test "
                "inputs: is it a submission to this version of the set?"
            )
        for index, attempts in enumerate(pairs or ()):
            if not is_fallback(attempts):
                ranked[task.id, index] = attempts[:1] if np.array_equal(*attempts) else attempts
    return ranked


@dataclass
class Contribution:
    """The number of test inputs to which one source of a merged submission contributed.

    answered: it has a candidate.
    first, second: the attempt is its, and no source ranks it higher.
    alone: attempts that no other source has among its candidates.
    """

    path: Path
    answered: int = 0
    first: int = 0
    second: int = 0
    alone: int = 0


@dataclass(eq=False)
class _Candidate:
    """A grid, and its rank (from 0) in each source that has it, by the source's number."""

    grid: Grid
    ranks: dict[int, int] = field(default_factory=dict)

    @property
    def best(self) -> tuple[int, int]:
        """The best rank, and the first source that has it there."""
        return min((place, number) for number, place in self.ranks.items())

    @property
    def would_submit(self) -> int:
        """How many sources have it among the two grids that they would submit."""
        return sum(place < _NUM_ATTEMPTS for place in self.ranks.values())


def merge(
    sources: Sequence[Source], tasks: Sequence[Task], rule: MergeRule
) -> tuple[Submission, list[Contribution]]:
    """Make one submission for exactly these tasks; return it and what each source contributed.

    Each test input is decided alone, so sources may answer different tasks. By `order`, candidates of a
    better rank come first, and of equal rank those of the earlier source. By `count`, a grid that more
    sources would submit comes first, then as by `order`.

    Raises:  DataError if a source has no candidate for any of the tasks.
    """
    contributions = [Contribution(source.path) for source in sources]
    merged = {}
    for key in [(task.id, index) for task in tasks for index in range(len(task.tests))]:
        ordered = _in_order([source.ranked.get(key, ()) for source in sources], rule)
        merged[key] = [candidate.grid for candidate in ordered]
        for contribution, source in zip(contributions, sources, strict=True):
            contribution.answered += bool(source.ranked.get(key))
        for place, candidate in enumerate(ordered[:_NUM_ATTEMPTS]):
            credited = contributions[candidate.best[1]]
            credited.first += place == 0
            credited.second += place == 1
            credited.alone += len(candidate.ranks) == 1
    idle = next((one.path for one in contributions if not one.answered), None)
    if idle is not None:
        raise DataError(f"{idle}: no candidate for a task of the challenges: is it of another set?")
    return build_submission(tasks, merged), contributions


def _in_order(lists: Iterable[Sequence[Grid]], rule: MergeRule) -> list[_Candidate]:
    """Return the distinct grids of all lists, the best by `rule` first."""
    found: dict[tuple[int, bytes], _Candidate] = {}
    for number, grids in enumerate(lists):
        for place, grid in enumerate(grids):
            candidate = found.setdefault((grid.shape[0], grid.tobytes()), _Candidate(grid))
            candidate.ranks.setdefault(number, place)
    if rule == "count":
        return sorted(found.values(), key=lambda candidate: (-candidate.would_submit, candidate.best))
    return sorted(found.values(), key=lambda candidate: candidate.best)


def contributions_text(contributions: Sequence[Contribution]) -> str:
    """Return a line per source: test inputs it answers, its attempts, attempts no other source has."""
    width = max(len(str(one.path)) for one in contributions)
    lines = [f"{'source':{width}}{'answers':>10}{'attempt_1':>11}{'attempt_2':>11}{'its alone':>11}"]
    lines += [
        f"{one.path!s:{width}}{one.answered:>10}{one.first:>11}{one.second:>11}{one.alone:>11}"
        for one in contributions
    ]
    return "\n".join(lines)


def describe_source(path: Path) -> dict[str, Any]:
    """Describe a submission or predictions by path, hash, manifest and the checkpoint's recipe.

    What is not known, because there is no manifest or the checkpoint is gone, is None; so is the hash of
    a folder.
    """
    sha256 = file_hash(path) if path.is_file() else None
    manifest = read_made_by(path, sha256) if sha256 else known_manifest(path, "predictions")
    return {
        "path": str(path), "sha256": sha256, "manifest": manifest, "checkpoint": _checkpoint(manifest),
    }  # fmt: skip


def _checkpoint(manifest: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return recipe, dataset and commit of the checkpoint, or run, that a manifest of predictions names."""
    if not manifest or not manifest.get("checkpoint"):
        return None
    label = manifest["checkpoint"]
    folder = Path(label.rpartition("@")[0] or label)
    found = known_manifest(folder, "checkpoint") or known_manifest(folder, "run")
    return None if found is None else {key: found.get(key) for key in ("recipe", "dataset", "git_commit")}


def known_manifest(folder: Path, kind: str) -> dict[str, Any] | None:
    """Return the manifest of a folder; None if there is no such folder, or it is of another kind."""
    try:
        return read_manifest(folder, kind)
    except DataError:
        return None
