"""Merge submissions and predictions into one submission, test input by test input."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from arcpipe.errors import DataError
from arcpipe.grid import Grid
from arcpipe.infer.vote import rank, ranked_grids, read_arc_votes
from arcpipe.runs import MANIFEST, file_hash, known_manifest
from arcpipe.submissions.submission import (
    ATTEMPTS,
    NO_GRID,
    Submission,
    build_submission,
    is_fallback,
    read_made_by,
    read_results,
)
from arcpipe.task import Task

_MOST_RANKED = 1000
MergeRule = Literal["order", "count"]
Ranked = Mapping[tuple[str, int], Sequence[Grid]]
"""Distinct candidates by task id and test index, the best first."""


def read_ranked(path: Path, tasks: Sequence[Task], challenges: Path) -> Ranked:
    """Return the attempts of a submission or of published results, or the thousand best candidates of
    predictions by count.

    Args:    challenges: the file of the tasks.
    Raises:  DataError if it is none of these, or of another set.
    """
    num_tests = {task.id: len(task.tests) for task in tasks}
    if (path / MANIFEST).exists() or path.suffix == ".parquet":
        votes = read_arc_votes([path], num_tests, challenges)
        return ranked_grids(votes, rank(votes), _MOST_RANKED)
    return distinct_attempts(read_results(path, sum(num_tests.values())), tasks, path)


def distinct_attempts(submission: Submission, tasks: Sequence[Task], where: Path) -> Ranked:
    """Return the distinct attempts at each test input, but failed ones; none where both are `[[0]]`.

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


@dataclass
class Contribution:
    """The number of test inputs to which one source of a merged submission contributed.

    answered: it has a candidate.
    first, second: the attempt is its, and no source ranks it higher.
    alone: attempts that no other source has among its candidates.
    """

    answered: int = 0
    first: int = 0
    second: int = 0
    alone: int = 0


def merge(
    sources: Mapping[Path, Ranked], tasks: Sequence[Task], rule: MergeRule
) -> tuple[Submission, dict[Path, Contribution]]:
    """Make one submission for exactly these tasks; return it and what each source contributed.

    Each test input is decided alone, so sources may answer different tasks. By `order`, candidates of a
    better rank come first, and of equal rank those of the earlier source. By `count`, a grid that more
    sources would submit comes first, then as by `order`.

    Raises:  DataError if a source has no candidate for any of the tasks.
    """
    contributions = {path: Contribution() for path in sources}
    credited = list(contributions.values())
    merged = {}
    for key in [(task.id, index) for task in tasks for index in range(len(task.tests))]:
        lists = [ranked.get(key, ()) for ranked in sources.values()]
        ordered = _in_order(lists, rule)
        merged[key] = [lists[source][place] for (place, source), *_ in ordered]
        for contribution, grids in zip(credited, lists, strict=True):
            contribution.answered += bool(grids)
        for place, holders in enumerate(ordered[: len(ATTEMPTS)]):
            contribution = credited[holders[0][1]]
            contribution.first += place == 0
            contribution.second += place == 1
            contribution.alone += len(holders) == 1
    for path, contribution in contributions.items():
        if not contribution.answered:
            raise DataError(f"{path}: no candidate for a task of the challenges: is it of another set?")
    return build_submission(tasks, merged), contributions


def _in_order(lists: Sequence[Sequence[Grid]], rule: MergeRule) -> list[list[tuple[int, int]]]:
    """Return the holders of each distinct grid, the best grid by `rule` first.

    A holder is the grid's place in a list, and the list's number; the best holder comes first.
    """
    holders_of: dict[tuple[int, bytes], list[tuple[int, int]]] = defaultdict(list)
    for source, grids in enumerate(lists):
        for place, grid in enumerate(grids):
            holders_of[len(grid), grid.tobytes()].append((place, source))
    by_order = sorted(sorted(holders) for holders in holders_of.values())
    if rule == "order":
        return by_order
    # What most sources would submit.
    return sorted(by_order, key=lambda holders: -sum(place < len(ATTEMPTS) for place, _ in holders))


def contributions_text(contributions: Mapping[Path, Contribution]) -> str:
    """Return a line per source: test inputs it answers, its attempts, attempts no other source has."""
    width = max(len(str(path)) for path in contributions)
    lines = [f"{'source':{width}}{'answers':>10}{'attempt_1':>11}{'attempt_2':>11}{'its alone':>11}"]
    lines += [
        f"{path!s:{width}}{one.answered:>10}{one.first:>11}{one.second:>11}{one.alone:>11}"
        for path, one in contributions.items()
    ]
    return "\n".join(lines)


def describe_source(path: Path) -> dict[str, Any]:
    """Describe a submission or predictions by path, hash, manifest and the checkpoint's recipe.

    What is not known, because there is no manifest or the checkpoint is gone, is None; so is the hash of
    a folder of predictions.
    """
    sha256 = None if (path / MANIFEST).exists() else file_hash(path)
    manifest = read_made_by(path, sha256) if sha256 else known_manifest(path, "predictions")
    checkpoint = None
    if label := (manifest or {}).get("checkpoint"):
        # PATH@STEP, of a checkpoint or of the run that saved it.
        folder = Path(label.rpartition("@")[0] or label)
        maker = known_manifest(folder, "checkpoint") or known_manifest(folder, "run")
        checkpoint = maker and {key: maker.get(key) for key in ("recipe", "dataset", "git_commit")}
    return {"path": str(path), "sha256": sha256, "manifest": manifest, "checkpoint": checkpoint}


def generated_pairs(manifest: dict[str, Any] | None) -> int:
    """Return how many generated pairs of tasks to predict trained what a submission was made with.

    Args:  manifest: of the submission; None if there is none.
    """
    sources = (manifest or {}).get("sources") or []
    trained = [((source.get("checkpoint") or {}).get("dataset") or {}) for source in sources]
    own = max((dataset.get("generated_of_test", 0) for dataset in trained), default=0)
    return max(own, *(generated_pairs(source.get("manifest")) for source in sources), 0)
