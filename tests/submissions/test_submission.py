"""A submission file: complete for any candidates; every defect is found, with its kind and place."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from arcpipe.errors import DataError, OutputError
from arcpipe.grid import Grid
from arcpipe.runs import file_hash, write_json
from arcpipe.submissions.submission import (
    build_submission,
    check_submission,
    read_made_by,
    read_submission,
    write_submission,
)
from arcpipe.task import Pair, Task
from commands import run_here
from files import json_of

Content = dict[str, Any]

# Small grids of few colors, so that candidates often coincide.
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


def make_tasks(counts: list[int]) -> list[Task]:
    pair = Pair(np.ones((1, 1), np.uint8), None)
    return [Task(task_id, (), (pair,) * count) for task_id, count in zip("abc", counts, strict=False)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=3), ranked_lists)
def test_any_candidates_give_a_valid_file(
    counts: list[int], ranked: dict[tuple[str, int], list[Grid]]
) -> None:
    tasks = make_tasks(counts)
    with TemporaryDirectory() as folder:
        first, second, third = (Path(folder) / name for name in ("1.json", "2.json", "3.json"))
        write_submission(build_submission(tasks, ranked), first, {})
        write_submission(build_submission(tasks, dict(reversed(ranked.items()))), second, {})
        write_submission(read_submission(first), third, {})
        assert first.read_bytes() == second.read_bytes() == third.read_bytes()
        assert not check_submission(first, tasks).errors
        assert list(orjson.loads(first.read_bytes())) == [task.id for task in tasks]


@pytest.mark.parametrize(("candidates", "first", "second"), [
    ([], [[0]], [[0]]),
    ([[[4, 4]]], [[4, 4]], [[4, 4]]),
    ([[[4, 4]], [[4, 4]], [[4], [4]]], [[4, 4]], [[4], [4]]),
    ([[[1]], [[2]], [[3]]], [[1]], [[2]]),
    # A real grid like that of no candidate, and one that is turned in memory.
    ([[[0]], [[2]]], [[0]], [[2]]),
    ([np.array([[1, 2], [3, 4]]).T], [[1, 3], [2, 4]], [[1, 3], [2, 4]]),
])  # fmt: skip
def test_the_attempts_are_the_two_best(
    tmp_path: Path, candidates: list[Any], first: Any, second: Any
) -> None:
    ranked = {("a", 0): [np.asarray(cells, np.uint8) for cells in candidates]}
    write_submission(build_submission(make_tasks([1]), ranked), tmp_path / "s.json", {})
    assert json_of(tmp_path / "s.json") == {"a": [{"attempt_1": first, "attempt_2": second}]}


def test_the_manifest_beside_it_says_what_made_it(own_folder: Path) -> None:
    file = own_folder / "submission.json"
    submission, facts = build_submission(make_tasks([1]), {}), {"sources": [{"path": "runs/predictions"}]}
    write_submission(submission, file, facts)
    assert {path.name for path in own_folder.iterdir()} == {"submission.json", "submission.manifest.json"}
    manifest = read_made_by(file, file_hash(file))
    assert manifest is not None
    assert (manifest["kind"], manifest["sources"]) == ("submission", facts["sources"])
    assert manifest["versions"].keys() >= {"arcpipe", "torch"}
    with pytest.raises(OutputError, match="exists already"):
        write_submission(submission, file, facts)
    # A copy has no manifest; that of the file belongs to another content afterwards.
    copied = file.rename(file.with_name("copy.json"))
    file.write_text("{}")
    assert [read_made_by(path, file_hash(path)) for path in (copied, file)] == [None, None]


def entry(test: int, **attempts: object) -> Callable[[Content], object]:
    return lambda content: content["two"][test].update(attempts)


AT = "two, test[1].attempt_2: "
DEFECTS: dict[str, tuple[Callable[[Content], object], str, str, int | None, str | None, str]] = {
    "missing task": (lambda c: c.pop("one"), "missing_task", "one", None, None, "one is missing"),
    "extra task": (lambda c: c.update(three=c["one"]), "extra_task", "three", None, None, "three is not in"),
    "missing test": (lambda c: c["two"].pop(), "entries", "two", None, None, "2 test inputs, found 1"),
    "extra test": (lambda c: c["one"].append(c["one"][0]), "entries", "one", None, None, "inputs, found 2"),
    "missing attempt": (lambda c: c["two"][1].pop("attempt_2"), "attempt", "two", 1, "attempt_2", "missing"),
    "extra attempt": (entry(0, attempt_3=[[1]]), "extra_key", "two", 0, "attempt_3", "attempt_3 is neither"),
    "entry a list": (
        lambda c: c["two"].__setitem__(0, [[1]]), "entries", "two", 0, None, "test[0]: expected an object",
    ),
    "entries no list": (lambda c: c.update(one={}), "entries", "one", None, None, "one: expected a list"),
    "ragged": (entry(1, attempt_2=[[1, 2], [3]]), "attempt", "two", 1, "attempt_2", f"{AT}ragged grid"),
    "value 10": (entry(1, attempt_2=[[10]]), "attempt", "two", 1, "attempt_2", "holds 10"),
    "null": (entry(1, attempt_2=None), "attempt", "two", 1, "attempt_2", f"{AT}expected a list of rows"),
    "31 columns": (entry(1, attempt_2=[[0] * 31]), "attempt", "two", 1, "attempt_2", "1 x 31 cells"),
    "no candidate": (entry(1, attempt_1=[[0]], attempt_2=[[0]]), "no_candidate", "two", 1, None, "are [[0]]"),
    "identical": (entry(1, attempt_1=[[9]]), "identical_attempts", "two", 1, None, "are identical"),
}  # fmt: skip
ANY_SET = {"missing task", "extra task", "missing test", "extra test", "no candidate", "identical"}
"""Defects that cannot be found without knowing the tasks."""


@pytest.mark.parametrize("name", DEFECTS)
def test_one_defect_is_one_problem(name: str, tasks: list[Task], content: Content, file: Path) -> None:
    change, kind, task, test, field, message = DEFECTS[name]
    change(content)
    write_json(file, content)
    findings = check_submission(file, tasks)
    is_warning = kind in ("no_candidate", "identical_attempts")
    [problem] = findings.warnings if is_warning else findings.errors
    assert (findings.counts, len(findings.errors)) == ({kind: 1}, not is_warning)
    assert (problem.kind, problem.task, problem.test, problem.field) == (kind, task, test, field)
    assert problem.message.startswith(f"{file}: task {task}")
    assert message in problem.message
    if name in ANY_SET:
        read_submission(file)
    else:
        with pytest.raises(DataError) as caught:
            read_submission(file)
        assert str(caught.value) == problem.message


def test_all_defects_are_found_at_once(tasks: list[Task], content: Content, file: Path) -> None:
    attempts = {"attempt_1": [[0] * 30] * 30, "attempt_2": [[1] * 30] * 30}
    file.write_text(json.dumps({task.id: [attempts] * len(task.tests) for task in tasks}, indent=4))
    assert check_submission(file, tasks).counts == {}

    del content["one"], content["two"][1]["attempt_2"]
    content["two"][0] = {"attempt_1": [[1, 2], [3]], "attempt_2": [[10]], "note": 1}
    file.write_bytes(orjson.dumps(content | {f"{number}": 0 for number in range(5000)}))
    findings = check_submission(file, tasks)
    assert findings.counts == {"missing_task": 1, "extra_task": 5000, "attempt": 3, "extra_key": 1}
    # Only the first 1000 of each kind are kept.
    kinds = [problem.kind for problem in findings.errors]
    assert kinds == ["missing_task", *["extra_task"] * 1000, *["attempt"] * 3, "extra_key"]


def test_repeated_keys_are_errors_with_their_place(tasks: list[Task], content: Content, file: Path) -> None:
    text = json.dumps(content)
    file.write_text(f'{text[:-3]}, "attempt_2": [[9]]}}], "one": [], "one": {json.dumps(content["one"])}}}')
    task, attempt = check_submission(file, tasks).errors
    assert task.message == f"{file}: task one stands more than once"
    assert attempt.message == f"{file}: task two, test[1]: attempt_2 stands more than once"
    place = (attempt.kind, attempt.task, attempt.test, attempt.field)
    assert place == ("repeated_key", "two", 1, "attempt_2")
    with pytest.raises(DataError, match="task one stands more than once"):
        read_submission(file)


HOSTILE = {
    **{text: text for text in ("", "{", "[]", "null", '{"one": "\\ud800"}', '{"\\ud800": 1}')},
    **{value: f'{{"one": [{{"attempt_1": [[{value}]], "attempt_2": [[1]]}}]}}'
       for value in ("NaN", "Infinity", "-Infinity", "1e999", "01", "0x1", "+1")},
    "deep list": "[" * 100_000,
    "deep object": '{"a":' * 100_000,
    "deep attempt": '{"one": [{"attempt_1": ' + "[" * 900 + "]" * 900 + "}]}",
    "a number of 5000 digits": '{"one": [' + "1" * 5000 + "]}",
    "names": json.dumps(dict.fromkeys(["\x1b[31m\n", "x" * 1000, ""])),
    # The limit: 1 MB, and 12 bytes for each of 900 cells of two attempts at 3 outputs.
    "too large": " " * (1_000_000 + 3 * 2 * 900 * 12 + 1),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_short_printable_errors(tasks: list[Task], file: Path, name: str) -> None:
    file.write_text(HOSTILE[name])
    findings = check_submission(file, tasks)
    assert findings.errors
    for problem in findings.errors + findings.warnings:
        assert problem.message.startswith(str(file))
        assert problem.message.isprintable()
        assert len(problem.message) < 400 + len(str(file))
    if name == "too large":
        assert "1.1 MB, more than any answer to 3 test outputs needs" in findings.errors[0].message
    if name == "names":
        extra = [problem.task for problem in findings.errors if problem.kind == "extra_task"]
        assert extra == [r"'\x1b[31m\n'", f"'{'x' * 40}'...", "''"]


def test_the_command_sums_a_file_up(content: Content, file: Path) -> None:
    words = ("check", file, "--challenges", "challenges.json")
    content["one"][0] = {"attempt_1": [[0]], "attempt_2": [[0]]}
    content["two"][0]["attempt_2"] = content["two"][0]["attempt_1"]
    write_json(file, content)
    Path("solutions.json").unlink()
    done = run_here(*words)
    summary = f"{file}: valid, 2 tasks, 3 test outputs, 1 without a candidate, 1 with identical attempts\n"
    assert (done.returncode, done.stdout) == (0, summary)
    assert done.stderr == f"next: arcpipe show {file}\n"
    document = orjson.loads(run_here(*words, "--json").stdout)
    assert (document["valid"], document["errors"]) == (True, [])
    assert [warning["kind"] for warning in document["warnings"]] == ["no_candidate", "identical_attempts"]
    assert (document["num_tasks"], document["num_outputs"]) == (2, 3)

    content["two"][1]["attempt_1"] = [[1, 2], [3]]
    file.write_bytes(orjson.dumps(content | {f"extra{number}": [] for number in range(25)}))
    done = run_here(*words)
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout, len(lines)) == (2, "", 22)
    assert lines[0] == f"{file}: task extra0 is not in the challenges"
    assert lines[-2] == "... and 5 more tasks that are not in the challenges"
    assert "ragged grid" in lines[-1]
    done = run_here(*words, "--json")
    document = orjson.loads(done.stdout)
    assert (done.returncode, document["valid"], len(document["errors"])) == (2, False, 26)
    assert document["counts"]["extra_task"] == 25


JUNK: tuple[Any, ...] = (
    None, True, False, -1, 10, 1.0, 0.5, 10**30, "1", "", [], {}, [[]], [[1], [1, 2]], [[True]], [[1.0]],
    [[0] * 31], [[0]] * 31, [[[1]]], {"attempt_1": [[1]]}, {"attempt_1": [[1]], "attempt_2": [[1]]},
)  # fmt: skip
Cell = Annotated[int, Field(ge=0, le=9)]
Sides = Field(min_length=1, max_length=30)
Rows = Annotated[list[Annotated[list[Cell], Sides]], Sides]


class Entry(BaseModel):
    """An entry as Kaggle's page defines it, implemented independently."""

    model_config = ConfigDict(strict=True, extra="forbid")
    attempt_1: Rows
    attempt_2: Rows


def is_valid(content: Any, tests: dict[str, int]) -> bool:
    try:
        valid = TypeAdapter(dict[str, list[Entry]]).validate_python(content, strict=True)
    except ValueError:
        return False
    grids = [grid for entries in valid.values() for one in entries for grid in (one.attempt_1, one.attempt_2)]
    is_ragged = any(len({len(row) for row in grid}) > 1 for grid in grids)
    return {task: len(entries) for task, entries in valid.items()} == tests and not is_ragged


def owners(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each object and list in a JSON value, with each of its keys or indices."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield value, key
        yield from owners(item)


def damage(content: Any, rng: np.random.Generator) -> Any:
    """A copy with one value replaced by junk or by another value, removed, or repeated."""
    damaged = copy.deepcopy(content)
    places = list(owners(damaged))
    (owner, key), (other, other_key) = (places[index] for index in rng.integers(len(places), size=2))
    match rng.integers(4):
        case 0:
            owner[key] = JUNK[rng.integers(len(JUNK))]
        case 1:
            del owner[key]
        case 2 if isinstance(owner, list):
            owner.insert(key, owner[key])
        case _:
            owner[key] = copy.deepcopy(other[other_key])
    return damaged


def test_a_second_validator_agrees_on_damaged_files(tasks: list[Task], content: Content, file: Path) -> None:
    tests = {task.id: len(task.tests) for task in tasks}
    assert is_valid(content, tests)
    verdicts = []
    for index in range(600):
        damaged = damage(content, np.random.default_rng([0, index]))
        file.write_text(json.dumps(damaged))
        findings = check_submission(file, tasks)
        verdicts.append(is_valid(damaged, tests))
        assert (not findings.errors) == verdicts[-1], damaged
        for problem in findings.errors + findings.warnings:
            assert problem.message.startswith(str(file))
            assert problem.message.isprintable(), damaged
        try:
            submission = read_submission(file)
        except DataError:
            assert not verdicts[-1], damaged
        else:
            complete = {task_id: len(pairs) for task_id, pairs in submission.attempts.items()}
            assert verdicts[-1] == (complete == tests), damaged
    assert verdicts.count(False) > 300
