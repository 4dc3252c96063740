"""A set of two tasks, `one` with one test input and `two` with two, and a submission that solves it all."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
import typer

from arcpipe.grid import Grid
from arcpipe.predictions import SCHEMA, write_table
from arcpipe.submissions import ledger_commands
from arcpipe.submissions.commands import check, merge, score
from arcpipe.task import Pair, Task, challenges_json, solutions_json


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
    path = tmp_path / "challenges.json"
    path.write_bytes(orjson.dumps(challenges_json(tasks)))
    return path


@pytest.fixture
def solutions(tasks: list[Task], tmp_path: Path) -> Path:
    path = tmp_path / "solutions.json"
    path.write_bytes(orjson.dumps(solutions_json(tasks)))
    return path


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
    found = [
        ("one", 0, grid([9])),
        ("one", 0, grid([1, 2])),
        ("one", 0, grid([9])),
        ("two", 0, grid([3], [4])),
    ]
    rows = [
        {
            "order": order, "task": task, "test_index": index, "dihedral": 0, "colors": "0123456789",
            "variant": 0, "rollout": 0, "height": cells.shape[0], "width": cells.shape[1],
            "cells": cells.tobytes(), "halt_probability": 0.5, "log_probability": -1.0, "steps": 1,
            "checkpoint": "",
        }
        for order, (task, index, cells) in enumerate(found)
    ]  # fmt: skip
    path = tmp_path / "predictions.parquet"
    write_table(path, pa.Table.from_pylist(rows, schema=SCHEMA))
    return path


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    for command in (check, score, merge):
        app.command()(command)
    app.add_typer(ledger_commands.app, name="submissions")
    return app
