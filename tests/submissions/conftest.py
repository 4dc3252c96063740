"""A set of two tasks, `one` with one test input and `two` with two, and a submission that solves it."""

from pathlib import Path
from typing import Any

import pytest

from arcpipe.predictions import write_table
from arcpipe.runs import write_json
from arcpipe.task import Pair, Task, challenges_json, solutions_json
from candidates import candidate, table
from puzzles import grid
from reports import make_quickstart


@pytest.fixture(scope="session")
def tasks() -> list[Task]:
    demonstration = Pair(grid("1"), grid("2"))
    outputs = {"one": [grid("12")], "two": [grid("3", "4"), grid("5")]}
    return [
        Task(task_id, (demonstration,), tuple(Pair(grid("7"), output) for output in grids))
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
    """The content of a submission with every output right, at the first or the second attempt."""
    return {
        "one": [{"attempt_1": [[1, 2]], "attempt_2": [[9]]}],
        "two": [{"attempt_1": [[9]], "attempt_2": [[3], [4]]}, {"attempt_1": [[5]], "attempt_2": [[9]]}],
    }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "submission.json"


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    """Candidates: for "one", two with a wrong grid and one with the right grid; for "two", one."""
    grids = (("one", [[9]]), ("one", [[1, 2]]), ("one", [[9]]), ("two", [[3], [4]]))
    rows = [candidate(cells, task=task) for task, cells in grids]
    write_table(tmp_path / "predictions.parquet", table(rows))
    return tmp_path / "predictions.parquet"


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an imitated quickstart on 12 tasks."""
    return make_quickstart(tmp_path_factory.mktemp("made") / "quickstart-seed7")
