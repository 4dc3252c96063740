"""A submission is complete and reproducible whatever the candidates are."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arcpipe.errors import DataError, OutputError
from arcpipe.grid import Grid
from arcpipe.runs import file_hash
from arcpipe.submissions.check import check_submission
from arcpipe.submissions.format import build_submission, read_made_by, read_submission, write_submission
from arcpipe.task import Pair, Task

# Small and few-colored, so that candidates often coincide; any larger grid is treated alike.
sides = st.one_of(st.integers(1, 3), st.just(30))
grids = st.builds(
    lambda height, width, color: np.full((height, width), color, np.uint8),
    sides, sides, st.sampled_from([0, 9]),
)  # fmt: skip
ranked_lists = st.dictionaries(
    st.tuples(st.sampled_from(["a", "b", "c", "elsewhere"]), st.integers(0, 3)),
    st.lists(grids, max_size=4),
    max_size=10,
)
test_counts = st.lists(st.integers(1, 3), min_size=1, max_size=3)


def make_tasks(counts: list[int]) -> list[Task]:
    pair = Pair(np.ones((1, 1), np.uint8), None)
    return [Task(task_id, (), (pair,) * count) for task_id, count in zip("abc", counts, strict=False)]


@settings(max_examples=60, deadline=None)
@given(test_counts, ranked_lists)
def test_any_candidates_give_a_valid_file_and_always_the_same_one(
    counts: list[int], ranked: dict[tuple[str, int], list[Grid]]
) -> None:
    tasks = make_tasks(counts)
    with TemporaryDirectory() as folder:
        first, second, third = (Path(folder) / name for name in ("1.json", "2.json", "3.json"))
        write_submission(build_submission(tasks, ranked), first)
        write_submission(build_submission(tasks, dict(reversed(ranked.items()))), second)
        write_submission(read_submission(first), third)
        assert first.read_bytes() == second.read_bytes() == third.read_bytes()
        findings = check_submission(first, tasks)
        order = list(orjson.loads(first.read_bytes()))
    assert not findings.errors
    assert order == [task.id for task in tasks]


@pytest.mark.parametrize(
    ("candidates", "attempts"),
    [
        ([], ([[0]], [[0]])),
        ([[[4, 4]]], ([[4, 4]], [[4, 4]])),
        ([[[4, 4]], [[4, 4]], [[4], [4]]], ([[4, 4]], [[4], [4]])),
        ([[[1]], [[2]], [[3]]], ([[1]], [[2]])),
        ([[[0]], [[2]]], ([[0]], [[2]])),
    ],
    ids=["no candidate", "one candidate", "the same twice", "three candidates", "a real [[0]]"],
)
def test_the_attempts_are_the_two_best_distinct_candidates(
    candidates: list[list[list[int]]], attempts: tuple[list[list[int]], list[list[int]]]
) -> None:
    ranked = {("a", 0): [np.array(cells, np.uint8) for cells in candidates]}
    [pair] = build_submission(make_tasks([1]), ranked).attempts["a"]
    assert (pair[0].tolist(), pair[1].tolist()) == attempts


def test_a_turned_grid_that_is_not_contiguous_is_written(file: Path) -> None:
    turned = np.array([[1, 2], [3, 4]], np.uint8).T
    write_submission(build_submission(make_tasks([1]), {("a", 0): [turned]}), file)
    assert orjson.loads(file.read_bytes())["a"][0]["attempt_1"] == [[1, 3], [2, 4]]


def test_an_existing_file_is_refused_and_kept(file: Path) -> None:
    file.write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        write_submission(build_submission(make_tasks([1]), {}), file)
    assert [path.read_text() for path in file.parent.iterdir()] == ["mine"]


def test_the_manifest_beside_it_says_what_made_it(file: Path) -> None:
    submission = build_submission(make_tasks([1]), {})
    write_submission(submission, file, {"sources": ["runs/predictions"]})
    assert sorted(path.name for path in file.parent.iterdir()) == [
        "submission.json",
        "submission.manifest.json",
    ]
    manifest = read_made_by(file, file_hash(file))
    assert manifest is not None
    assert (manifest["kind"], manifest["sources"]) == ("submission", ["runs/predictions"])
    assert manifest["versions"].keys() >= {"arcpipe", "torch"}

    bare = file.with_name("bare.json")
    write_submission(submission, bare)
    assert bare.read_bytes() == file.read_bytes()
    assert read_made_by(bare, file_hash(bare)) is None


def test_the_manifest_of_another_content_is_not_its_own(file: Path) -> None:
    write_submission(build_submission(make_tasks([1]), {}), file, {})
    file.write_text("{}")
    assert read_made_by(file, file_hash(file)) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "expected an object"),
        ('{"a": [], "a": []}', "task a stands more than once"),
        ('{"a": [{"attempt_1": [[1]], "attempt_1": [[1]], "attempt_2": [[1]]}]}', "each once"),
        ("{", "not a JSON file"),
        ('{"a": {}}', "task a: expected a list"),
        ('{"a": [[]]}', r"task a, test\[0\]: expected an object"),
        ('{"a": [{"attempt_1": [[1]]}]}', r"task a, test\[0\]: attempt_2 is missing"),
        ('{"a": [{"attempt_1": [[1]], "attempt_2": [[1]], "attempt_3": [[1]]}]}', "and no other"),
        ('{"a": [{"attempt_1": [[1]], "attempt_2": [[1.0]]}]}', r"test\[0\].attempt_2: .* holds 1.0"),
    ],
)
def test_a_file_in_another_form_is_refused_with_its_place(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(DataError, match=message):
        read_submission(file)
