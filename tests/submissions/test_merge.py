"""Several sources become one valid submission, each test input decided alone."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from arcpipe.errors import DataError, OutputError
from arcpipe.runs import file_hash, make_manifest, new_folder
from arcpipe.submissions.check import check_submission
from arcpipe.submissions.format import Submission, read_made_by, read_submission
from arcpipe.submissions.merge import Contribution, Rule, Source, describe_source, merge
from arcpipe.task import Pair, Task

Content = dict[str, Any]


def source(name: str, **colors: str) -> Source:
    """A source with candidates of one cell for the one test of each task: their colors, the best first."""
    return Source(
        Path(name),
        {
            (task, 0): [np.full((1, 1), int(color), np.uint8) for color in best]
            for task, best in colors.items()
        },
    )


def make_tasks(names: str) -> list[Task]:
    pair = Pair(np.zeros((1, 1), np.uint8), None)
    return [Task(name, (pair,), (pair,)) for name in names]


def attempts(submission: Submission) -> dict[str, str]:
    """The colors of the two attempts at each task."""
    return {task: "".join(str(grid[0, 0]) for grid in pair) for task, [pair] in submission.attempts.items()}


@pytest.mark.parametrize(
    ("rule", "lists", "expected"),
    [
        ("order", ("12", "34"), "13"),
        ("order", ("12", "12"), "12"),
        ("order", ("12", "13", "45"), "14"),
        ("order", ("1", "1", "1", "23"), "12"),
        ("order", ("1", "1"), "11"),
        ("order", ("", "34"), "34"),
        ("order", ("", ""), "00"),
        ("count", ("12", "34", "43"), "34"),
        ("count", ("12", "32", "42"), "21"),
        ("count", ("12", "34"), "13"),
        ("count", ("123", "453"), "14"),
        ("count", ("12", "21"), "12"),
    ],
)
def test_the_rule_picks_two_distinct_attempts(rule: Rule, lists: tuple[str, ...], expected: str) -> None:
    # A second task, which all answer, because a source without any candidate is refused.
    sources = [source(f"{number}", a=colors, b="5") for number, colors in enumerate(lists)]
    merged, _ = merge(sources, make_tasks("ab"), rule)
    assert attempts(merged) == {"a": expected, "b": "55"}


def test_sources_may_answer_different_tasks() -> None:
    sources = [source("first", a="12"), source("second", b="34", c="5")]
    merged, contributions = merge(sources, make_tasks("abcd"), "order")
    assert attempts(merged) == {"a": "12", "b": "34", "c": "55", "d": "00"}
    assert contributions == [
        Contribution(Path("first"), answered=1, first=1, second=1, alone=2),
        Contribution(Path("second"), answered=2, first=2, second=1, alone=3),
    ]


def test_a_shared_attempt_is_credited_once_and_to_the_higher_rank() -> None:
    sources = [source("first", a="12"), source("second", a="21")]
    _, contributions = merge(sources, make_tasks("a"), "count")
    assert contributions == [
        Contribution(Path("first"), answered=1, first=1, second=0, alone=0),
        Contribution(Path("second"), answered=1, first=0, second=1, alone=0),
    ]


ranked_colors = st.lists(st.sampled_from("0123"), unique=True, max_size=4).map("".join)


@given(st.lists(st.dictionaries(st.sampled_from("ab"), ranked_colors), min_size=1, max_size=4), st.booleans())
def test_any_sources_give_a_submission_with_the_best_there_is(
    lists: list[dict[str, str]], by_count: bool
) -> None:
    sources = [source(f"{number}", **colors, c="9") for number, colors in enumerate(lists)]
    merged, contributions = merge(sources, make_tasks("abc"), "count" if by_count else "order")
    found = attempts(merged)
    assert list(found) == ["a", "b", "c"]
    num_attempts = 0
    for task in "abc":
        offered = {color for one in lists for color in one.get(task, "")} if task != "c" else {"9"}
        first, second = found[task]
        assert {first, second} <= (offered or {"0"})
        assert (first != second) == (len(offered) > 1)
        num_attempts += min(len(offered), 2)
    assert sum(one.first + one.second for one in contributions) == num_attempts
    assert [one.answered for one in contributions] == [
        1 + sum(bool(colors.get(task)) for task in "ab") for colors in lists
    ]


def test_a_source_of_another_set_is_refused() -> None:
    with pytest.raises(DataError, match="second: no candidate for a task of the challenges"):
        merge([source("first", a="1"), source("second", z="1")], make_tasks("a"), "order")


def run(app: typer.Typer, challenges: Path, out: Path, *arguments: object) -> Result:
    words = ["merge", *map(str, arguments), "--challenges", str(challenges), "--out", str(out)]
    return CliRunner().invoke(app, words)


def test_the_command_merges_submissions_and_predictions(
    app: typer.Typer, content: Content, file: Path, challenges: Path, predictions: Path, tasks: list[Task]
) -> None:
    file.write_bytes(orjson.dumps({"two": content["two"]}))
    out = file.with_name("merged.json")
    result = run(app, challenges, out, file, predictions)
    assert result.exit_code == 0, result.exception
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["source", "answers", "attempt_1", "attempt_2", "its", "alone"]
    assert [line.split()[1:] for line in lines[1:3]] == [["2", "2", "1", "3"], ["2", "1", "2", "2"]]
    assert lines[3] == f"{out}: 2 tasks"
    assert check_submission(out, tasks).problems == []
    merged = orjson.loads(out.read_bytes())
    assert merged["one"] == [{"attempt_1": [[9]], "attempt_2": [[1, 2]]}]
    assert merged["two"] == [{"attempt_1": [[9]], "attempt_2": [[3], [4]]}, content["two"][1]]


def test_the_manifest_names_the_sources(
    app: typer.Typer, content: Content, file: Path, challenges: Path
) -> None:
    file.write_bytes(orjson.dumps(content))
    first, second = (file.with_name(name) for name in ("first.json", "second.json"))
    run(app, challenges, first, file)
    result = run(app, challenges, second, first, "--rule", "count")
    assert result.exit_code == 0, result.exception
    assert read_submission(second).attempts.keys() == read_submission(file).attempts.keys()
    manifest = read_made_by(second, file_hash(second))
    assert manifest is not None
    assert manifest["rule"] == "count"
    [described] = manifest["sources"]
    assert (described["path"], described["sha256"]) == (str(first), file_hash(first))
    assert described["manifest"]["sources"][0]["sha256"] == file_hash(file)


def test_predictions_lead_back_to_the_recipe_of_their_checkpoint(tmp_path: Path) -> None:
    run, predictions = tmp_path / "run", tmp_path / "predictions"
    with new_folder(run, make_manifest("run", recipe={"train": {"lr": 1e-3}}, dataset={"fingerprint": "f"})):
        pass
    with new_folder(predictions, make_manifest("predictions", checkpoint=f"{run}@12", data="data")):
        pass
    described = describe_source(predictions)
    assert described["manifest"]["checkpoint"] == f"{run}@12"
    assert described["checkpoint"]["recipe"] == {"train": {"lr": 1e-3}}
    assert described["checkpoint"]["dataset"] == {"fingerprint": "f"}
    shutil.rmtree(run)
    assert describe_source(predictions)["checkpoint"] is None


def test_an_untouched_fallback_is_no_candidate(
    app: typer.Typer, content: Content, file: Path, challenges: Path
) -> None:
    untouched = {"attempt_1": [[0]], "attempt_2": [[0]]}
    first, second = file.with_name("first.json"), file.with_name("second.json")
    first.write_bytes(orjson.dumps(content | {"one": [untouched]}))
    second.write_bytes(orjson.dumps(content | {"two": [untouched, untouched]}))
    assert run(app, challenges, file, first, second).exit_code == 0
    assert orjson.loads(file.read_bytes()) == content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"one": []}, "task one has 0 entries, the challenges 1 test inputs"),
        ({"one": [{"attempt_1": [[1]]}]}, r"task one, test\[0\]: attempt_2 is missing"),
    ],
)
def test_a_source_that_is_no_submission_to_the_set_is_refused(
    app: typer.Typer, content: Content, file: Path, challenges: Path, change: Content, message: str
) -> None:
    file.write_bytes(orjson.dumps(content | change))
    out = file.with_name("merged.json")
    result = run(app, challenges, out, file)
    assert isinstance(result.exception, DataError)
    with pytest.raises(DataError, match=message):
        raise result.exception
    assert not out.exists()


def test_nothing_is_taken_twice_or_overwritten(
    app: typer.Typer, content: Content, file: Path, challenges: Path
) -> None:
    file.write_bytes(orjson.dumps(content))
    twice = run(app, challenges, file.with_name("merged.json"), file, file)
    assert isinstance(twice.exception, DataError)
    assert "given twice" in str(twice.exception)
    before = sorted(file.parent.iterdir())
    taken = run(app, challenges, challenges, file)
    assert isinstance(taken.exception, OutputError)
    assert sorted(file.parent.iterdir()) == before
