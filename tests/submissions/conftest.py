"""A set of two tasks, `one` with one test input and `two` with two, and a submission that solves it."""

from pathlib import Path
from typing import Any

import pytest

from arcpipe.predictions import write_table
from arcpipe.runs import write_json
from arcpipe.submissions.ledger import LEDGER
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
def content() -> dict[str, Any]:
    """The content of a submission with every output right, at the first or the second attempt."""
    return {
        "one": [{"attempt_1": [[1, 2]], "attempt_2": [[9]]}],
        "two": [{"attempt_1": [[9]], "attempt_2": [[3], [4]]}, {"attempt_1": [[5]], "attempt_2": [[9]]}],
    }


@pytest.fixture
def here(tasks: list[Task], content: dict[str, Any], own_folder: Path) -> Path:
    """The working folder: the files of the set, the submission, and predictions.

    The candidates are two with a wrong grid and one with the right grid for `one`, and one for `two`.
    """
    write_json(Path("challenges.json"), challenges_json(tasks))
    write_json(Path("solutions.json"), solutions_json(tasks))
    write_json(Path("submission.json"), content)
    grids = (("one", [[9]]), ("one", [[1, 2]]), ("one", [[9]]), ("two", [[3], [4]]))
    rows = [candidate(cells, task=task) for task, cells in grids]
    write_table(Path("predictions.parquet"), table(rows))
    return own_folder


@pytest.fixture
def file(here: Path) -> Path:
    """The submission in the working folder."""
    return Path("submission.json")


@pytest.fixture
def ledger(here: Path) -> Path:
    """The ledger of the working folder, which does not exist yet."""
    return LEDGER


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an imitated quickstart on 12 tasks."""
    return make_quickstart(tmp_path_factory.mktemp("made") / "quickstart-seed7")
