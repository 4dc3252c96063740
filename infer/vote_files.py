"""The files of the vote: predictions, and the challenges or dataset folder that names the test inputs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arcpipe.errors import DataError
from arcpipe.grid import MAX_SIDE
from arcpipe.infer.vote import Votes, read_votes
from arcpipe.predictions import read_candidates, shard_files
from arcpipe.runs import read_manifest
from arcpipe.task import Task, read_challenges, read_json

_PREDICTIONS = "expected a predictions folder or a Parquet file of predictions"
_CHALLENGES = "expected a challenges file or a dataset folder"


def read_vote_files(paths: Sequence[Path], num_tests: Mapping[str, int], where: Path) -> Votes:
    """Read the votes of folders and files of predictions, one after the other.

    Args:    num_tests: how many test inputs each task of `where` has.
    Raises:  DataError if a file is given twice, is of another kind or cannot be read, or if all candidates
             are for other test inputs than those of `where`. No candidate at all is no error: a short
             deadline leaves none.
    """
    shards: set[Path] = set()
    for path in paths:
        if path.suffix == ".json" and path.is_file():
            raise DataError(f"{path}: {_PREDICTIONS}, found {_kind(read_json(path))}")
        files = {file.resolve() for file in shard_files(path)}
        if shards & files:
            raise DataError(f"{path}: given twice, its candidates would count twice")
        shards |= files
    votes = read_votes(read_candidates(paths), num_tests)
    if votes.others and not votes.candidates.any():
        raise DataError(f"no candidate is for a task of {where}: are these predictions of another set?")
    return votes


def read_arc_votes(paths: Sequence[Path], num_tests: Mapping[str, int], where: Path) -> Votes:
    """Read the votes for ARC tasks.

    Raises:  DataError as `read_vote_files`, and for a grid that is too large.
    """
    votes = read_vote_files(paths, num_tests, where)
    if (side := votes.shapes().max(initial=0)) > MAX_SIDE:
        names = ", ".join(map(str, paths))
        raise DataError(f"{names}: a candidate has a side of {side}, those of ARC have up to {MAX_SIDE}")
    return votes


def dataset_family(path: Path) -> str:
    """Return the family of the dataset folder `path`; arc where it is a file.

    Raises:  DataError if it is a folder of another kind.
    """
    return str(read_manifest(path, "dataset")["family"]) if path.is_dir() else "arc"


def read_tasks(path: Path) -> list[Task]:
    """Read the ARC tasks of a challenges file, or of the one in a dataset folder.

    Raises:  DataError if it is none; the message names its kind.
    """
    file = path / "challenges.json" if path.is_dir() else path
    if file.suffix == ".parquet":
        raise DataError(f"{path}: {_CHALLENGES}, found a Parquet file")
    kind = _kind(read_json(file))
    if kind in (_SUBMISSION, _SOLUTIONS, _TASK):
        raise DataError(f"{path}: {_CHALLENGES}, found {kind}")
    return read_challenges(file)


_SUBMISSION, _SOLUTIONS, _TASK = "a submission", "a solutions file", "the file of one task"


def _kind(content: Any) -> str:
    """Return what kind of file a JSON file is, from its content."""
    if isinstance(content, dict) and content:
        first = next(iter(content.values()))
        if {"train", "test"} <= content.keys():
            return _TASK
        if isinstance(first, dict) and {"train", "test"} <= first.keys():
            return "a challenges file"
        if isinstance(first, list) and first and isinstance(first[0], list):
            return _SOLUTIONS
        if isinstance(first, list) and first and isinstance(first[0], dict) and "attempt_1" in first[0]:
            return _SUBMISSION
    return "another JSON file"
