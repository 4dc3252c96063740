"""Several sources become one valid submission, each test input decided alone."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcpipe.runs import file_hash, make_manifest, new_folder
from arcpipe.submissions.merge import Contribution, MergeRule, Ranked, describe_source, merge
from arcpipe.submissions.submission import Submission, check_submission
from arcpipe.task import Pair, Task
from commands import succeed_here

Content = dict[str, Any]
UNTOUCHED = {"attempt_1": [[0]], "attempt_2": [[0]]}


def source(**colors: str) -> Ranked:
    """Candidates of one cell for the one test of each task: their colors, the best first."""
    return {
        (task, 0): [np.full((1, 1), int(color), np.uint8) for color in best] for task, best in colors.items()
    }


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
def test_the_rule_picks_two_distinct_attempts(rule: MergeRule, lists: tuple[str, ...], expected: str) -> None:
    # A second task, which all answer, because a source without any candidate is refused.
    sources = {Path(f"{number}"): source(a=colors, b="5") for number, colors in enumerate(lists)}
    merged, _ = merge(sources, make_tasks("ab"), rule)
    assert attempts(merged) == {"a": expected, "b": "55"}


def test_sources_may_answer_different_tasks_and_are_credited() -> None:
    first, second = Path("first"), Path("second")
    merged, credited = merge(
        {first: source(a="12"), second: source(b="34", c="5")}, make_tasks("abcd"), "order"
    )
    assert attempts(merged) == {"a": "12", "b": "34", "c": "55", "d": "00"}
    assert credited == {first: Contribution(1, 1, 1, alone=2), second: Contribution(2, 2, 1, alone=3)}
    # A shared attempt is credited once, and to the higher rank.
    _, credited = merge({first: source(a="12"), second: source(a="21")}, make_tasks("a"), "count")
    assert credited == {first: Contribution(1, 1, 0, alone=0), second: Contribution(1, 0, 1, alone=0)}


ranked_colors = st.lists(st.sampled_from("0123"), unique=True, max_size=4).map("".join)


@given(st.lists(st.dictionaries(st.sampled_from("ab"), ranked_colors), min_size=1, max_size=4), st.booleans())
def test_any_sources_give_the_best_there_is(lists: list[dict[str, str]], by_count: bool) -> None:
    sources = {Path(f"{number}"): source(**colors, c="9") for number, colors in enumerate(lists)}
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
    assert sum(one.first + one.second for one in contributions.values()) == num_attempts
    assert [one.answered for one in contributions.values()] == [
        1 + sum(bool(colors.get(task)) for task in "ab") for colors in lists
    ]


WORDS = ["merge", "--challenges", "challenges.json", "--out", "merged.json"]


@pytest.fixture(autouse=True)
def here(challenges: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder of the test's files."""
    monkeypatch.chdir(tmp_path)


def test_the_command_merges_what_it_is_given(content: Content, predictions: Path, tasks: list[Task]) -> None:
    Path("s.json").write_bytes(orjson.dumps({"two": content["two"]}))
    lines = succeed_here(*WORDS, "s.json", predictions.name).splitlines()
    assert lines == [
        "source                answers  attempt_1  attempt_2  its alone",
        "s.json                      2          2          1          3",
        "predictions.parquet         2          1          2          2",
        "merged.json: 2 tasks",
    ]
    merged = Path("merged.json")
    assert check_submission(merged, tasks).counts == {}
    assert orjson.loads(merged.read_bytes()) == {
        "one": [{"attempt_1": [[9]], "attempt_2": [[1, 2]]}],
        "two": [{"attempt_1": [[9]], "attempt_2": [[3], [4]]}, content["two"][1]],
    }
    manifest = orjson.loads(Path("merged.manifest.json").read_bytes())
    assert manifest["rule"] == "order"
    assert (manifest["sources"][0]["path"], manifest["sources"][1]["path"]) == ("s.json", predictions.name)

    succeed_here(*WORDS[:-1], "again.json", "merged.json", "--rule", "count")
    [source] = orjson.loads(Path("again.manifest.json").read_bytes())["sources"]
    assert source["manifest"]["sources"][0]["sha256"] == file_hash(Path("s.json"))


def test_an_untouched_fallback_is_no_candidate(content: Content) -> None:
    Path("a.json").write_bytes(orjson.dumps(content | {"one": [UNTOUCHED]}))
    Path("b.json").write_bytes(orjson.dumps(content | {"two": [UNTOUCHED] * 2}))
    succeed_here(*WORDS, "a.json", "b.json")
    assert orjson.loads(Path("merged.json").read_bytes()) == content


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
