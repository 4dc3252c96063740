"""Several submissions or sets of candidates made into one submission, test input by test input."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from arcpipe.errors import DataError
from arcpipe.grid import Grid
from arcpipe.runs import file_hash, read_manifest
from arcpipe.submissions.format import (
    Submission,
    build_submission,
    is_fallback,
    read_made_by,
)
from arcpipe.task import Task

Rule = Literal["order", "count"]
Ranked = Mapping[tuple[str, int], Sequence[Grid]]
"""Distinct candidates by task id and test index, the best first."""

_NUM_ATTEMPTS = 2


@dataclass(frozen=True, eq=False)
class Source:
    """What is merged: its path, and its candidates; a submission's are its attempts."""

    path: Path
    ranked: Ranked


@dataclass
class Contribution:
    """What one source brought to a merged submission, in test inputs.

    answered: it has a candidate. first, second: that attempt is its, and no source ranks it higher. alone:
    attempts that no other source has among its candidates.
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
        return min((rank, number) for number, rank in self.ranks.items())

    @property
    def would_submit(self) -> int:
        """How many sources have it among the two grids that they would submit."""
        return sum(rank < _NUM_ATTEMPTS for rank in self.ranks.values())


def submission_candidates(submission: Submission, tasks: Sequence[Task], where: Path) -> Ranked:
    """The attempts of a submission as candidates; none where both are `[[0]]`.

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
                distinct = attempts[:1] if np.array_equal(*attempts) else attempts
                ranked[task.id, index] = distinct
    return ranked


def merge(
    sources: Sequence[Source], tasks: Sequence[Task], rule: Rule
) -> tuple[Submission, list[Contribution]]:
    """One submission for exactly these tasks, and what each source contributed.

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


def _in_order(lists: Iterable[Sequence[Grid]], rule: Rule) -> list[_Candidate]:
    """The distinct grids of all lists, the best by `rule` first."""
    found: dict[tuple[int, bytes], _Candidate] = {}
    for number, grids in enumerate(lists):
        for rank, grid in enumerate(grids):
            candidate = found.setdefault((grid.shape[0], grid.tobytes()), _Candidate(grid))
            candidate.ranks.setdefault(number, rank)
    if rule == "count":
        return sorted(found.values(), key=lambda candidate: (-candidate.would_submit, candidate.best))
    return sorted(found.values(), key=lambda candidate: candidate.best)


def contributions_text(contributions: Sequence[Contribution]) -> str:
    """A line per source: test inputs it answers, attempts that are its, attempts no other source has."""
    width = max(len(str(one.path)) for one in contributions)
    lines = [f"{'source':{width}}{'answers':>10}{'attempt_1':>11}{'attempt_2':>11}{'its alone':>11}"]
    lines += [
        f"{one.path!s:{width}}{one.answered:>10}{one.first:>11}{one.second:>11}{one.alone:>11}"
        for one in contributions
    ]
    return "\n".join(lines)


def describe_source(path: Path) -> dict[str, Any]:
    """Where a submission or its candidates came from: path, hash, manifest, and the checkpoint's recipe.

    What is not known, because there is no manifest or the checkpoint is gone, is None; so is the hash of
    a folder.
    """
    sha256 = file_hash(path) if path.is_file() else None
    manifest = read_made_by(path, sha256) if sha256 else _manifest(path, "predictions")
    return {
        "path": str(path), "sha256": sha256, "manifest": manifest, "checkpoint": _checkpoint(manifest),
    }  # fmt: skip


def _checkpoint(manifest: dict[str, Any] | None) -> dict[str, Any] | None:
    """Recipe, dataset and commit of the checkpoint, or run, that a manifest of predictions names."""
    if not manifest or not manifest.get("checkpoint"):
        return None
    label = manifest["checkpoint"]
    folder = Path(label.rpartition("@")[0] or label)
    found = _manifest(folder, "checkpoint") or _manifest(folder, "run")
    return None if found is None else {key: found.get(key) for key in ("recipe", "dataset", "git_commit")}


def _manifest(folder: Path, kind: str) -> dict[str, Any] | None:
    try:
        return read_manifest(folder, kind)
    except DataError:
        return None
