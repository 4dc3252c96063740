"""Every problem of a submission file is found, named and placed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import typer
from typer.testing import CliRunner

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
    [problem] = check_submission(file, tasks)
    assert (problem.severity, problem.kind) == ("error", kind)
    assert (problem.task, problem.test, problem.field) == (task, test, field)
    assert problem.message.startswith(f"{file}: task {task}")
    assert message in problem.message


def test_all_defects_are_found_at_once(tasks: list[Task], content: Content, file: Path) -> None:
    for change in (drop_task, drop_attempt):
        change(content)
    content["two"][0] = {"attempt_1": RAGGED, "attempt_2": [[10]], "note": 1}
    content["three"] = []
    file.write_bytes(orjson.dumps(content))
    kinds = [problem.kind for problem in check_submission(file, tasks)]
    assert kinds == ["missing_task", "extra_key", "attempt", "attempt", "attempt", "extra_task"]


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
    [problem] = check_submission(file, tasks)
    assert (problem.severity, problem.kind) == ("warning", kind)
    assert (problem.task, problem.test) == ("two", 1)


def test_one_attempt_of_zero_is_no_fallback(tasks: list[Task], content: Content, file: Path) -> None:
    content["one"][0]["attempt_2"] = [[0]]
    file.write_bytes(orjson.dumps(content))
    assert check_submission(file, tasks) == []


@pytest.mark.parametrize("text", [None, "", "{", "[]", "null", '{"one": NaN}'])
def test_a_file_that_holds_no_submission_is_one_error(
    tasks: list[Task], file: Path, text: str | None
) -> None:
    if text is not None:
        file.write_text(text)
    [problem] = check_submission(file, tasks)
    assert (problem.severity, problem.kind) == ("error", "file")
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


def test_the_command_lists_errors_on_stderr_and_exits_2(
    app: typer.Typer, challenges: Path, content: Content, file: Path
) -> None:
    content |= {f"extra{number}": [] for number in range(25)}
    file.write_bytes(orjson.dumps(content))
    code, output, errors = run(app, file, "--challenges", challenges)
    lines = errors.splitlines()
    assert (code, output, len(lines)) == (2, "", 21)
    assert lines[0] == f"{file}: task extra0 is not in the challenges"
    assert lines[-1] == "... and 5 more"

    code, output, _ = run(app, file, "--challenges", challenges, "--json")
    document = orjson.loads(output)
    assert (code, document["valid"], len(document["errors"])) == (2, False, 25)
    assert document["errors"][0]["task"] == "extra0"
