"""A set of two tasks, `one` with one test input and `two` with two, and a submission that solves it all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arcpipe.grid import Grid
from arcpipe.predictions import write_table
from arcpipe.runs import write_json
from arcpipe.task import Pair, Task, challenges_json, solutions_json
from candidates import candidate, table
from commands import fail_here


def grid(*rows: list[int]) -> Grid:
    return np.array(rows, dtype=np.uint8)


@pytest.fixture
def tasks() -> list[Task]:
    demonstration = Pair(grid([1]), grid([2]))
    outputs = {"one": [grid([1, 2])], "two": [grid([3], [4]), grid([5])]}
    return [
        Task(task_id, (demonstration,), tuple(Pair(grid([7]), output) for output in grids))
        for task_id, grids in outputs.items()
    ]


@pytest.fixture
def challenges(tasks: list[Task], tmp_path: Path) -> Path:
    write_json(tmp_path / "challenges.json", challenges_json(tasks))
    return tmp_path / "challenges.json"


@pytest.fixture
def solutions(tasks: list[Task], tmp_path: Path) -> Path:
    write_json(tmp_path / "solutions.json", solutions_json(tasks))
    return tmp_path / "solutions.json"


@pytest.fixture
def content() -> dict[str, Any]:
    """What a submission file holds that has every output right, at the first or the second attempt."""
    return {
        "one": [{"attempt_1": [[1, 2]], "attempt_2": [[9]]}],
        "two": [
            {"attempt_1": [[9]], "attempt_2": [[3], [4]]},
            {"attempt_1": [[5]], "attempt_2": [[9]]},
        ],
    }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "submission.json"


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    """Candidates for the set: of "one", two for a wrong grid and one for the right one; of "two" one."""
    grids = (("one", [[9]]), ("one", [[1, 2]]), ("one", [[9]]), ("two", [[3], [4]]))
    write_table(
        tmp_path / "predictions.parquet", table([candidate(cells, task=task) for task, cells in grids])
    )
    return tmp_path / "predictions.parquet"


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run a command in the folder of the test's files: the line with which it refuses, nothing written."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> str:
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        said = fail_here(*words)
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
        return said

    return run
