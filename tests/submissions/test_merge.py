"""Published results are read like our own, and several sources merge into one valid submission."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcpipe.runs import file_hash, make_manifest, new_folder, write_json
from arcpipe.submissions.compare import Contribution, MergeRule, merge
from arcpipe.submissions.submission import Ranked, Submission, check_submission, describe_source
from arcpipe.task import Pair, Task
from commands import run_here, succeed_here
from files import json_of, lay_out
from reports import data_of

Content = dict[str, Any]
UNTOUCHED = {"attempt_1": [[0]], "attempt_2": [[0]]}


def source(**colors: str) -> Ranked:
    """Single-cell candidates for the test of each task, by color, the best first."""
    return {
        (task, 0): [np.full((1, 1), int(color), np.uint8) for color in best] for task, best in colors.items()
    }


def tasks_of(names: str) -> list[Task]:
    pair = Pair(np.zeros((1, 1), np.uint8), None)
    return [Task(name, (pair,), (pair,)) for name in names]


def attempts(submission: Submission) -> dict[str, str]:
    """The colors of the two attempts at each task."""
    return {task: "".join(str(grid[0, 0]) for grid in pair) for task, [pair] in submission.attempts.items()}


@pytest.mark.parametrize(("rule", "lists", "expected"), [
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
])  # fmt: skip
def test_the_rule_picks_two_distinct_attempts(rule: MergeRule, lists: tuple[str, ...], expected: str) -> None:
    # Every source answers a second task, because a source without any candidate is refused.
    sources = {Path(f"{number}"): source(a=colors, b="5") for number, colors in enumerate(lists)}
    merged, _ = merge(sources, tasks_of("ab"), rule)
    assert attempts(merged) == {"a": expected, "b": "55"}


def test_sources_may_answer_different_tasks_and_are_credited() -> None:
    first, second = Path("first"), Path("second")
    merged, credited = merge(
        {first: source(a="12"), second: source(b="34", c="5")}, tasks_of("abcd"), "order"
    )
    assert attempts(merged) == {"a": "12", "b": "34", "c": "55", "d": "00"}
    assert credited == {first: Contribution(1, 1, 1, alone=2), second: Contribution(2, 2, 1, alone=3)}
    # A shared attempt is credited once, to the source that ranks it higher.
    _, credited = merge({first: source(a="12"), second: source(a="21")}, tasks_of("a"), "count")
    assert credited == {first: Contribution(1, 1, 0, alone=0), second: Contribution(1, 0, 1, alone=0)}


ranked_colors = st.lists(st.sampled_from("0123"), unique=True, max_size=4).map("".join)


@given(st.lists(st.dictionaries(st.sampled_from("ab"), ranked_colors), min_size=1, max_size=4), st.booleans())
def test_any_sources_give_the_best_there_is(lists: list[dict[str, str]], by_count: bool) -> None:
    sources = {Path(f"{number}"): source(**colors, c="9") for number, colors in enumerate(lists)}
    merged, contributions = merge(sources, tasks_of("abc"), "count" if by_count else "order")
    found = attempts(merged)
    assert list(found) == ["a", "b", "c"]
    num_attempts = 0
    for task in "abc":
        offered = {color for one in lists for color in one.get(task, "")} if task != "c" else {"9"}
        first, second = found[task]
        assert {first, second} <= (offered or {"0"})
        assert (first != second) == (len(offered) > 1)
        num_attempts += min(len(offered), 2)
    assert sum(one.first + one.second for one in contributions.values()) == num_attempts
    assert [one.answered for one in contributions.values()] == [
        1 + sum(bool(colors.get(task)) for task in "ab") for colors in lists
    ]


WORDS = ("merge", "--challenges", "challenges.json", "--out")


def test_the_command_merges_what_it_is_given(content: Content, file: Path, tasks: list[Task]) -> None:
    write_json(file, {"two": content["two"]})
    lines = succeed_here(*WORDS, "merged.json", file, "predictions.parquet").splitlines()
    assert lines == [
        "source                answers  attempt_1  attempt_2  its alone",
        "submission.json             2          2          1          3",
        "predictions.parquet         2          1          2          2",
        "merged.json: 2 tasks",
    ]
    merged = Path("merged.json")
    assert check_submission(merged, tasks).counts == {}
    assert json_of(merged) == {
        "one": [{"attempt_1": [[9]], "attempt_2": [[1, 2]]}],
        "two": [{"attempt_1": [[9]], "attempt_2": [[3], [4]]}, content["two"][1]],
    }
    manifest = json_of(Path("merged.manifest.json"))
    assert manifest["rule"] == "order"
    assert [source["path"] for source in manifest["sources"]] == ["submission.json", "predictions.parquet"]

    succeed_here(*WORDS, "again.json", "merged.json", "--rule", "count")
    [source] = json_of(Path("again.manifest.json"))["sources"]
    assert source["manifest"]["sources"][0]["sha256"] == file_hash(file)


@pytest.mark.usefixtures("here")
def test_an_untouched_fallback_is_no_candidate(content: Content) -> None:
    write_json(Path("a.json"), content | {"one": [UNTOUCHED]})
    write_json(Path("b.json"), content | {"two": [UNTOUCHED] * 2})
    succeed_here(*WORDS, "merged.json", "a.json", "b.json")
    assert json_of(Path("merged.json")) == content


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


def folder() -> Path:
    """Results of the foundation: `one` is right at the second attempt; `two` is right at its second test,
    whose entry comes first."""

    def answer(grid: object, test: int = 0) -> dict[str, Any]:
        return {"answer": grid, "metadata": {"model": "m", "pair_index": test}}

    tasks = {
        "one": [{"attempt_1": None, "attempt_2": answer([[1, 2]])}],
        "two": [
            {"attempt_1": answer("[[5]]", 1), "attempt_2": answer([[5, 5], [5]], 1)},
            {"attempt_1": answer("I cannot see it."), "attempt_2": answer([])},
        ],
        "results": {"score": 1.5},
    }
    lay_out({f"model/{name}.json": entries for name, entries in tasks.items()})
    return Path("model")


def old_table() -> Path:
    rows = ["two_1,|5|", "one_0,|1|1| |12| |9| ", "two_0,"]
    Path("old.csv").write_text("\n".join(["output_id,output", *rows]))
    return Path("old.csv")


def score(source: Path, solutions: str = "solutions.json") -> tuple[Any, str]:
    """The score as a document, and what was logged."""
    done = run_here("score", source, solutions, "--json", code=0)
    return orjson.loads(done.stdout), done.stderr


@pytest.mark.usefixtures("here")
def test_a_folder_of_the_foundation_is_scored() -> None:
    found, said = score(folder())
    assert "model: 4 attempts hold no grid and count as wrong\n" in said
    assert [(one["solved"], one["tests"]) for one in found["tasks"].values()] == [(1, 1), (1, 2)]
    assert (found["num_answered"], found["pass_at_1"]["solved_outputs"]) == (2, 1)
    assert found["tasks"]["two"]["outputs"][1]["attempt_1_correct"] is True
    [entry] = orjson.loads(succeed_here("submissions", "list", "--json"))
    assert entry["files"] == ["model"]
    assert entry["sha256"][:8] in succeed_here("submissions", "show", "model")


@pytest.mark.parametrize(
    ("numbers", "solved"), [((0, 1), 2), ((1, 0), 0), ((0, 0), 2), ((None, None), 2), ((7000, 1), 2)]
)
@pytest.mark.usefixtures("here")
def test_pair_index_says_which_test_output_it_is_where_it_says_anything(
    numbers: tuple[int | None, int | None], solved: int
) -> None:
    entries = [
        {"attempt_1": {"answer": grid, "metadata": {"pair_index": number}}}
        for grid, number in zip(([[3], [4]], [[5]]), numbers, strict=True)
    ]
    write_json(Path("model/two.json"), entries)
    assert score(Path("model"))[0]["pass_at_2"]["solved_outputs"] == solved


@pytest.mark.usefixtures("here")
def test_an_old_table_and_null_attempts_are_scored() -> None:
    found, said = score(old_table())
    assert "1 outputs have more" in said
    assert (found["pass_at_2"]["solved_outputs"], found["num_answered"]) == (2, 2)
    assert found["pass_at_1"]["solved_outputs"] == 1
    # A failed attempt is not right by accident.
    write_json(Path("zero.json"), {"one": [[[0]]]})
    for second, solved in (([[0]], 1), (None, 0)):
        write_json(Path("nulls.json"), {"one": [{"attempt_1": None, "attempt_2": second}]})
        assert score(Path("nulls.json"), "zero.json")[0]["pass_at_2"]["solved_outputs"] == solved
    # Kaggle does not accept null.
    checked = run_here("check", "nulls.json", "--challenges", "challenges.json", code=2)
    assert "task one, test[0].attempt_1: expected a list of rows, found null" in checked.stderr


def test_they_are_compared_and_merged_with_ours(content: Content, file: Path) -> None:
    write_json(file, {"two": content["two"]})
    model, table = folder(), old_table()
    text = succeed_here("score", file, "solutions.json", "--with", model, "--with", table, "--no-ledger")
    assert f"{model} against {file}\n" in text
    succeed_here(*WORDS, "merged.json", model, table, file)
    assert json_of(Path("merged.json")) == {
        "one": [{"attempt_1": [[1, 2]], "attempt_2": [[1], [1]]}],
        "two": [content["two"][0], {"attempt_1": [[5]], "attempt_2": [[9]]}],
    }


def test_a_report_shows_the_attempts_that_there_are(quickstart: Path, tmp_path: Path) -> None:
    for name, pairs in json_of(quickstart / "submission.json").items():
        entries = [{"attempt_1": {"answer": pair["attempt_1"]}, "attempt_2": None} for pair in pairs]
        write_json(tmp_path / "model" / f"{name}.json", entries)
    out = tmp_path / "report.html"
    succeed_here("report", quickstart, "--submission", tmp_path / "model", "--out", out)
    document = data_of(out)
    assert {len(test["attempts"]) for task in document["tasks"] for test in task["tests"]} <= {0, 1}
    assert document["tiles"][0][1] == "16.7%"
