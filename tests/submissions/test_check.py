"""Every problem of a submission file is found, named and placed; the case's name says which."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import typer
from typer.testing import CliRunner

from arcpipe.errors import DataError
from arcpipe.submissions.check import check_submission
from arcpipe.task import Task

Content = dict[str, Any]
RAGGED = [[1, 2], [3]]


def drop_task(content: Content) -> None:
    del content["one"]


def add_task(content: Content) -> None:
    content["three"] = content["one"]


def drop_second_test(content: Content) -> None:
    content["two"].pop()


def add_test(content: Content) -> None:
    content["one"].append(content["one"][0])


def drop_attempt(content: Content) -> None:
    del content["two"][1]["attempt_2"]


def add_attempt(content: Content) -> None:
    content["one"][0]["attempt_3"] = [[1]]


def list_for_entry(content: Content) -> None:
    content["one"][0] = [[[1]], [[2]]]


def grid_for_entries(content: Content) -> None:
    content["one"] = content["one"][0]


def second_attempt(grid: object) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        content["two"][1]["attempt_2"] = grid

    return change


PLACE = "two, test[1].attempt_2: "
CASES = {
    "missing task": (drop_task, "missing_task", "one", None, None, "one is missing"),
    "extra task": (add_task, "extra_task", "three", None, None, "three is not in the challenges"),
    "second of two tests missing": (drop_second_test, "entries", "two", None, None, "2 test inputs, found 1"),
    "one test too many": (add_test, "entries", "one", None, None, "1 test inputs, found 2"),
    "missing attempt_2": (drop_attempt, "attempt", "two", 1, "attempt_2", "attempt_2 is missing"),
    "third attempt": (add_attempt, "extra_key", "one", 0, "attempt_3", "attempt_3 is neither"),
    "entry is a list": (list_for_entry, "entries", "one", 0, None, "one, test[0]: expected an object"),
    "entries are no list": (grid_for_entries, "entries", "one", None, None, "expected a list"),
    "ragged": (second_attempt(RAGGED), "attempt", "two", 1, "attempt_2", f"{PLACE}ragged grid, row 2"),
    "value 10": (second_attempt([[10]]), "attempt", "two", 1, "attempt_2", "holds 10"),
    "value -1": (second_attempt([[-1]]), "attempt", "two", 1, "attempt_2", "holds -1"),
    "true": (second_attempt([[True]]), "attempt", "two", 1, "attempt_2", "holds true"),
    "1.0": (second_attempt([[1.0]]), "attempt", "two", 1, "attempt_2", "holds 1.0"),
    "text": (second_attempt([["1"]]), "attempt", "two", 1, "attempt_2", "holds '1'"),
    "null": (second_attempt(None), "attempt", "two", 1, "attempt_2", f"{PLACE}expected a list of rows"),
    "empty": (second_attempt([[]]), "attempt", "two", 1, "attempt_2", "found an empty list"),
    "31 columns": (second_attempt([[0] * 31]), "attempt", "two", 1, "attempt_2", "1 x 31 cells"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_one_defect_is_one_error_with_its_place(
    case: tuple[Callable[[Content], None], str, str, int | None, str | None, str],
    tasks: list[Task],
    content: Content,
    file: Path,
) -> None:
    change, kind, task, test, field, message = case
    change(content)
    file.write_bytes(orjson.dumps(content))
    findings = check_submission(file, tasks)
    [problem] = findings.errors
    assert (findings.problems, findings.counts) == ([problem], {kind: 1})
    assert problem.kind == kind
    assert (problem.task, problem.test, problem.field) == (task, test, field)
    assert problem.message.startswith(f"{file}: task {task}")
    assert message in problem.message


def test_all_defects_are_found_at_once(tasks: list[Task], content: Content, file: Path) -> None:
    for change in (drop_task, drop_attempt):
        change(content)
    content["two"][0] = {"attempt_1": RAGGED, "attempt_2": [[10]], "note": 1}
    content["three"] = []
    file.write_bytes(orjson.dumps(content))
    findings = check_submission(file, tasks)
    assert findings.counts == {"missing_task": 1, "extra_task": 1, "attempt": 3, "extra_key": 1}
    assert [problem.kind for problem in findings.problems] == [
        "missing_task", "extra_task", "attempt", "attempt", "attempt", "extra_key",
    ]  # fmt: skip


def as_text(content: Content, extra: str) -> str:
    """The content with `extra` as the last field of its last entry."""
    text = json.dumps(content)
    assert text.endswith("}]}")
    return f"{text[:-3]}, {extra}}}]}}"


def test_a_repeated_attempt_is_an_error_with_its_place(
    tasks: list[Task], content: Content, file: Path
) -> None:
    file.write_text(as_text(content, '"attempt_2": [[9]]'))
    [problem] = check_submission(file, tasks).problems
    assert (problem.kind, problem.task, problem.test, problem.field) == (
        "repeated_key",
        "two",
        1,
        "attempt_2",
    )
    assert problem.message == f"{file}: task two, test[1]: attempt_2 stands more than once"


def test_a_repeated_task_is_an_error_beside_the_others(
    tasks: list[Task], content: Content, file: Path
) -> None:
    drop_attempt(content)
    one = json.dumps(content["one"])
    file.write_text(f'{json.dumps(content)[:-1]}, "one": {one}, "one": {one}}}')
    findings = check_submission(file, tasks)
    assert findings.counts == {"repeated_key": 1, "attempt": 1}
    assert findings.problems[0].task == "one"


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "01", "0x1", "+1"])
def test_what_is_no_json_number_is_an_error(
    tasks: list[Task], content: Content, file: Path, value: str
) -> None:
    file.write_text(json.dumps(content).replace("[[5]]", f"[[{value}]]"))
    [problem] = check_submission(file, tasks).errors
    assert problem.kind in ("file", "attempt")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"one": [{"attempt_1": ' + "[" * 900 + "]" * 900 + "}]}",
        '{"one": "\\ud800"}',
        '{"\\ud800": 1}',
        '{"one": [' + "1" * 5000 + "]}",
    ],
    ids=["deep list", "deep object", "deep attempt", "lone surrogate", "its key", "a number of 5000 digits"],
)
def test_hostile_json_is_an_error_like_any_other(tasks: list[Task], file: Path, text: str) -> None:
    file.write_text(text)
    findings = check_submission(file, tasks)
    assert findings.errors
    assert all(len(problem.message) < 400 + len(str(file)) for problem in findings.problems)


def test_a_file_larger_than_any_answer_is_refused(tasks: list[Task], file: Path) -> None:
    # 1 MB to spare, and for 3 outputs of two attempts with 900 cells 12 bytes each.
    limit = 1_000_000 + 3 * 2 * 900 * 12
    file.write_bytes(b" " * (limit + 1))
    [problem] = check_submission(file, tasks).errors
    assert problem.kind == "file"
    assert f"{file}: larger than 1.1 MB, more than any answer to 3 test outputs needs" in problem.message
    file.write_bytes(b" " * limit)
    assert "not a JSON file" in check_submission(file, tasks).errors[0].message


def test_the_largest_answer_is_read_though_it_is_indented(tasks: list[Task], file: Path) -> None:
    attempts = {"attempt_1": [[0] * 30] * 30, "attempt_2": [[1] * 30] * 30}
    largest = {task.id: [attempts] * len(task.tests) for task in tasks}
    file.write_text(json.dumps(largest, indent=4))
    assert check_submission(file, tasks).problems == []


def test_a_name_that_is_no_plain_one_is_shown_short_and_escaped(
    tasks: list[Task], content: Content, file: Path
) -> None:
    names = ["\x1b[31m\n", "x" * 1000, ""]
    file.write_text(json.dumps(content | dict.fromkeys(names)))
    problems = check_submission(file, tasks).problems
    assert [problem.task for problem in problems] == [r"'\x1b[31m\n'", f"'{'x' * 40}'...", "''"]


def test_of_thousands_the_first_of_each_kind_are_kept_and_all_are_counted(
    tasks: list[Task], content: Content, file: Path
) -> None:
    drop_attempt(content)
    file.write_text(json.dumps(content | {f"{number}": 0 for number in range(5000)}))
    findings = check_submission(file, tasks)
    assert findings.counts == {"extra_task": 5000, "attempt": 1}
    assert len(findings.problems) == 1001


@pytest.mark.parametrize(
    ("grid", "kind"),
    [([[0]], "no_candidate"), ([[0, 0]], "identical_attempts")],
    ids=["fallback", "identical"],
)
def test_a_wasted_attempt_is_a_warning(
    tasks: list[Task], content: Content, file: Path, grid: list[list[int]], kind: str
) -> None:
    content["two"][1] = {"attempt_1": grid, "attempt_2": grid}
    file.write_bytes(orjson.dumps(content))
    findings = check_submission(file, tasks)
    [problem] = findings.warnings
    assert (findings.errors, problem.kind) == ([], kind)
    assert (problem.task, problem.test) == ("two", 1)


def test_one_attempt_of_zero_is_no_fallback(tasks: list[Task], content: Content, file: Path) -> None:
    content["one"][0]["attempt_2"] = [[0]]
    file.write_bytes(orjson.dumps(content))
    assert check_submission(file, tasks).problems == []


@pytest.mark.parametrize("text", [None, "", "{", "[]", "null", '{"one": NaN}'])
def test_a_file_that_holds_no_submission_is_one_error(
    tasks: list[Task], file: Path, text: str | None
) -> None:
    if text is not None:
        file.write_text(text)
    [problem] = check_submission(file, tasks).errors
    assert problem.kind == "file"
    assert problem.message.startswith(str(file))


def run(app: typer.Typer, *arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["check", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_the_command_sums_a_valid_file_up(
    app: typer.Typer, challenges: Path, content: Content, file: Path
) -> None:
    content["one"][0] = {"attempt_1": [[0]], "attempt_2": [[0]]}
    content["two"][0]["attempt_2"] = content["two"][0]["attempt_1"]
    file.write_bytes(orjson.dumps(content))
    summary = f"{file}: valid, 2 tasks, 3 test outputs, 1 without a candidate, 1 with identical attempts\n"
    assert run(app, file, "--challenges", challenges) == (0, summary, "")

    code, output, errors = run(app, file, "--challenges", challenges, "--json")
    document = orjson.loads(output)
    assert (code, errors, document["valid"], document["errors"]) == (0, "", True, [])
    assert [warning["kind"] for warning in document["warnings"]] == ["no_candidate", "identical_attempts"]
    assert (document["num_tasks"], document["num_outputs"]) == (2, 3)


@pytest.mark.parametrize("name", ["challenges", "solutions"])
def test_a_task_that_stands_twice_in_the_set_itself_is_refused(
    app: typer.Typer, challenges: Path, solutions: Path, content: Content, file: Path, name: str
) -> None:
    path = {"challenges": challenges, "solutions": solutions}[name]
    path.write_text(f"{path.read_text()[:-1]}, {path.read_text()[1:]}")
    file.write_bytes(orjson.dumps(content))
    words = {"challenges": ["check", file, "--challenges", path], "solutions": ["score", file, path]}[name]
    error = CliRunner().invoke(app, list(map(str, words))).exception
    assert isinstance(error, DataError)
    assert str(error) == f"{path}: the key 'one' stands more than once in an object: remove all but one"


def test_the_command_lists_errors_on_stderr_and_exits_2(
    app: typer.Typer, challenges: Path, content: Content, file: Path
) -> None:
    content["two"][1]["attempt_1"] = RAGGED
    content |= {f"extra{number}": [] for number in range(25)}
    file.write_bytes(orjson.dumps(content))
    code, output, errors = run(app, file, "--challenges", challenges)
    lines = errors.splitlines()
    assert (code, output, len(lines)) == (2, "", 22)
    assert lines[0] == f"{file}: task extra0 is not in the challenges"
    assert lines[-2] == "... and 5 more tasks that are not in the challenges"
    assert "ragged grid" in lines[-1]

    code, output, _ = run(app, file, "--challenges", challenges, "--json")
    document = orjson.loads(output)
    assert (code, document["valid"], len(document["errors"])) == (2, False, 26)
    assert document["counts"] == {"extra_task": 25, "attempt": 1}
    assert document["errors"][0]["task"] == "extra0"
