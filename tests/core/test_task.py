"""Grids and tasks: round trips through JSON, and errors that name the place of a problem."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcpipe.documents import read_json
from arcpipe.errors import DataError
from arcpipe.grid import as_grid
from arcpipe.task import (
    Task,
    challenges_json,
    parse_task,
    read_challenges,
    read_solutions,
    solutions_json,
    with_solutions,
)
from puzzles import plain_task, solved_tasks


@pytest.mark.parametrize(("cells", "message"), [
    ([[1, 2], [3]], "ragged grid, row 2 has 1 cells and row 1 has 2"),
    ([[0, 10]], "row 1, column 2 holds 10"),
    ([[True]], "row 1, column 1 holds true"),
    ([[1.0]], "row 1, column 1 holds 1.0"),
    ([["1"]], "row 1, column 1 holds '1'"),
    ([[[1]]], "row 1, column 1 holds a list"),
    ([], "expected a list of rows, found an empty list"),
    ([[]], "row 1 should be a list of cells, found an empty list"),
    (["12"], "row 1 should be a list of cells, found '12'"),
    (None, "expected a list of rows, found null"),
    ("12", "expected a list of rows, found '12'"),
    ([[0] * 31], "1 x 31 cells, sides may be 1..30"),
    (np.zeros((1, 1, 1), np.uint8), "row 1, column 1 holds a list"),
    ([["a\nb" * 1000]], "row 1, column 1 holds 'a\\nba"),
])  # fmt: skip
def test_what_is_no_grid_is_refused_with_its_place(cells: Any, message: str) -> None:
    """In one short line."""
    with pytest.raises(DataError) as caught:
        as_grid(cells, "tasks.json: task 007, train[1].output")
    said = str(caught.value)
    assert said.startswith(f"tasks.json: task 007, train[1].output: {message}")
    assert "\n" not in said
    assert len(said) < 160


SOLVED = {"input": [[1]], "output": [[2]]}
GOOD = {"train": [SOLVED], "test": [{"input": [[3]]}]}


def write(path: Path, value: Any) -> Path:
    path.write_bytes(orjson.dumps(value))
    return path


@given(st.lists(solved_tasks(), min_size=1, max_size=3, unique_by=lambda task: task.id))
def test_tasks_survive_kaggles_two_files(tmp_path_factory: pytest.TempPathFactory, tasks: list[Task]) -> None:
    folder = tmp_path_factory.mktemp("kaggle")
    hidden = read_challenges(write(folder / "challenges.json", challenges_json(tasks)))
    assert [task.id for task in hidden] == [task.id for task in tasks]
    assert all(pair.output is None for task in hidden for pair in task.tests)
    solutions = read_solutions(write(folder / "solutions.json", solutions_json(tasks)))
    solved = with_solutions(hidden, solutions, "solutions.json")
    assert [plain_task(task) for task in solved] == [plain_task(task) for task in tasks]


def test_a_null_output_of_a_test_is_hidden() -> None:
    task = parse_task("a", {"train": [SOLVED], "test": [{"input": [[3]], "output": None}, SOLVED]}, "f")
    assert plain_task(task)["test"] == [([[3]], None), ([[1]], [[2]])]


@pytest.mark.parametrize(("value", "message"), [
    ([], "expected an object with the fields 'train' and 'test'"),
    ({"train": [SOLVED]}, "expected an object with the fields 'train' and 'test'"),
    ({"train": [], "test": [SOLVED]}, "train: expected a non-empty list of pairs"),
    ({"train": [SOLVED], "test": {}}, "test: expected a non-empty list of pairs"),
    ({"train": [SOLVED], "test": [[[1]]]}, "test[0]: expected an object with the field 'input'"),
    ({"train": [SOLVED, {}], "test": [SOLVED]}, "train[1]: expected an object with the field 'input'"),
    ({"train": [{"input": [[1]]}], "test": [SOLVED]}, "train[0]: a demonstration needs an 'output'"),
    ({"train": [{"input": [[1]], "output": None}], "test": [SOLVED]}, "train[0]: a demonstration needs"),
    ({"train": [SOLVED], "test": [{"input": [[1, 11]]}]}, "test[0].input: row 1, column 2 holds 11"),
    ({"train": [{"input": [[1]], "output": [[1], [2, 3]]}], "test": [SOLVED]}, "train[0].output: ragged"),
])  # fmt: skip
def test_a_bad_task_is_refused_with_file_task_and_field(tmp_path: Path, value: Any, message: str) -> None:
    path = write(tmp_path / "challenges.json", {"good": GOOD, "bad": value})
    with pytest.raises(DataError) as caught:
        read_challenges(path)
    separator = ": " if message.startswith("expected") else ", "
    assert str(caught.value).startswith(f"{path}: task bad{separator}{message}")


BAD_JSON = {
    "cut short": b"{",
    "empty": b"",
    "trailing comma": b"[1,]",
    "no number": b'{"a": NaN}',
    "infinite": b'{"a": -Infinity}',
    "half a surrogate pair in a key": b'{"\\ud800": 1}',
    "half a surrogate pair in a list": b'["\\udc00a"]',
    "encoded surrogate": b'["\xed\xa0\x80"]',
    "not UTF-8": b'["\xff"]',
    "UTF-16": "{}".encode("utf-16"),
    "deep": b"[" * 100_000,
    "repeated key": b'{"a": {"k": 1, "k": 2}}',
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_a_file_that_is_no_json_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(BAD_JSON[name])
    with pytest.raises(DataError, match=r"a\.json: (not a JSON file \(|the key 'k' stands more than once)"):
        read_json(path)


def test_whatever_is_json_is_read_as_written(tmp_path: Path) -> None:
    content = {"\\ud800": ["\U0001f600", "\x7f", None, True, -0.5, 2**63], "": {}}
    path = write(tmp_path / "a.json", content)
    assert read_json(path) == content
    # With a byte order mark too.
    path.write_bytes(b'\xef\xbb\xbf["\\ud83d\\ude00"]')
    assert read_json(path) == ["\U0001f600"]


@pytest.mark.parametrize(("content", "message"), [
    ({"a": []}, "task a: expected a non-empty list of grids"),
    ({"a": {"0": [[1]]}}, "task a: expected a non-empty list of grids"),
    ({"a": [[[1]], [[10]]]}, r"task a, output\[1\]: row 1, column 1 holds 10"),
])  # fmt: skip
def test_bad_solutions_are_refused_with_file_and_task(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_solutions(write(tmp_path / "solutions.json", content))
