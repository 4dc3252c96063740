"""Submissions and the rules of the vote side by side, and the oracle, which is no score."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcpipe.infer.vote import RULES, Votes, read_votes
from arcpipe.submissions.compare import compare_rules, compare_scores
from arcpipe.submissions.score import Score, score_submission
from arcpipe.submissions.submission import Submission
from candidates import candidate, table
from commands import succeed_here

RIGHT, WRONG = np.array([[1]], np.uint8), np.array([[2]], np.uint8)


def score_of(*solved: bool) -> Score:
    """The score of a submission to tasks with one test each, solved or not."""
    attempts = {f"{number}": ((WRONG, RIGHT if right else WRONG),) for number, right in enumerate(solved)}
    return score_submission(Submission(attempts), {task: [RIGHT] for task in attempts})


def test_an_output_is_solved_by_all_by_some_by_one_or_by_none() -> None:
    scores = {"a": score_of(True, True, True, False), "b": score_of(True, True, False, False)}
    two = compare_scores(scores)
    assert two.groups() == {"by both": 2, "only by a": 1, "only by b": 0, "by neither": 1}
    assert two.outputs == {"0[0]": ("a", "b"), "1[0]": ("a", "b"), "2[0]": ("a",), "3[0]": ()}
    three = compare_scores(scores | {"c": score_of(True, False, False, False)})
    assert three.groups() == {
        "by all": 1, "by several, not all": 1, "only by a": 1, "only by b": 0, "only by c": 0, "by none": 1,
    }  # fmt: skip


def test_the_difference_is_paired() -> None:
    first = [number < 30 for number in range(100)]
    better = [number < 40 for number in range(100)]
    scores = {"a": score_of(*first), "b": score_of(*first), "c": score_of(*better)}
    same, more = compare_scores(scores).others
    assert (same.over_outputs, same.interval_over_outputs, same.interval_over_tasks) == (0, (0, 0), (0, 0))
    # c solves all that a solves, and a tenth more: how many of both are drawn does not matter.
    assert more.over_tasks == pytest.approx(0.1)
    spread = 1.96 * (0.1 * 0.9 / 100) ** 0.5
    assert more.interval_over_tasks == pytest.approx((0.1 - spread, 0.1 + spread), abs=0.012)
    assert (same.is_real, more.is_real) == (False, True)


def test_the_command_compares(
    content: dict[str, Any], file: Path, solutions: Path, predictions: Path
) -> None:
    file.write_bytes(orjson.dumps({"one": content["one"]}))
    other = file.with_name("other.json")
    other.write_bytes(orjson.dumps(content))
    words = ("score", file, solutions, "--with", other, "--candidates", predictions, "--no-ledger")
    text = succeed_here(*words)
    assert "\noracle: the solution is among the best k of 3 distinct candidates\n" in text
    assert text.splitlines()[-1].split() == ["2", "75.00%", "66.67%", "2"]
    assert "by both" in text
    assert f"{other} against {file}\n" in text
    assert "  100.00%   +50.00 points [+0.0, +100.0]" in text
    assert "no real difference: 0 is inside the 95% interval over tasks" in text

    document = orjson.loads(succeed_here(*words, "--json"))
    assert document["comparison"]["outputs"] == {
        "one[0]": [str(file), str(other)], "two[0]": [str(other)], "two[1]": [str(other)],
    }  # fmt: skip
    assert document["pass_at_2"]["solved_outputs"] == 1
    at = document["oracle"]["at"]
    assert {k: score["solved_outputs"] for k, score in at.items()} == {"1": 1, "2": 2}


SOLUTIONS = {"t": [RIGHT, WRONG], "u": [np.array([[3, 3]], np.uint8)]}


def votes_of(*rows: dict[str, object]) -> Votes:
    return read_votes([table(rows)], {"t": 2, "u": 1})


def test_the_rules_are_counted_over_outputs_and_over_tasks() -> None:
    # Of t the first test is solved at once, the second not at all; of u at the second attempt.
    rows = [
        *[candidate([[1]])] * 2, candidate([[4]]), candidate([[5]], test_index=1),
        *[candidate([[3], [3]], task="u")] * 3, candidate([[3, 3]], task="u"), candidate([[0]], task="u"),
    ]  # fmt: skip
    found = compare_rules(votes_of(*rows), SOLUTIONS)
    count = found.rules["count"]
    assert (found.num_tasks, found.num_outputs) == (2, 3)
    assert count["pass_at_1"]["outputs"].value == pytest.approx(1 / 3)
    assert count["pass_at_1"]["tasks"].value == pytest.approx((1 / 2 + 0) / 2)
    assert count["pass_at_2"]["outputs"].value == pytest.approx(2 / 3)
    assert count["pass_at_2"]["tasks"].value == pytest.approx((1 / 2 + 1) / 2)
    assert found.oracle["outputs"].value == pytest.approx(2 / 3)
    # Of two tasks drawn, both may be t, or both u.
    assert (count["pass_at_2"]["tasks"].low, count["pass_at_2"]["tasks"].high) == (0.5, 1.0)


def test_the_gain_of_a_rule_is_over_count_on_the_same_tasks() -> None:
    rows = [*[candidate([[7]], 0.1)] * 2, *[candidate([[8]], 0.1)] * 2, candidate([[1]], 0.9)]
    rows += [candidate([[9]], test_index=1), candidate([[9]], task="u")]
    found = compare_rules(votes_of(*rows), SOLUTIONS)
    gain = {name: score["gain"]["outputs"] for name, score in found.rules.items()}
    assert gain["halt"].value == pytest.approx(1 / 3)
    assert gain["halt"].low == 0
    assert (gain["count"].value, gain["count"].low, gain["count"].high) == (0, 0, 0)
    assert gain["rank"] == gain["count"]


def test_the_curve_takes_the_first_candidates_of_each_test_input() -> None:
    # Right is first, then outvoted; one without a grid is a vote spent.
    wrong = [candidate([[cell]]) for cell in (6, 7, 6, 7)]
    rows = [candidate([[1]]), *wrong, candidate(None, task="u"), candidate([[3, 3]], task="u")]
    rows += [candidate([[9]], test_index=1)]
    found = compare_rules(votes_of(*rows), SOLUTIONS)
    assert found.votes == [1, 2, 4, 5]
    for name in RULES:
        assert found.curve[name] == pytest.approx([1 / 3, 2 / 3, 2 / 3, 1 / 3]), name
        assert found.curve_over_tasks[name] == pytest.approx([1 / 4, 3 / 4, 3 / 4, 1 / 2]), name
    text = str(found)
    assert text.startswith("2 tasks, 3 test outputs; in brackets 95% intervals")
    titles = [line for line in text.splitlines() if line.startswith("mean over")]
    assert titles == ["mean over tasks (Kaggle, ARC Prize)", "mean over test outputs"]
    for name in (*RULES, "oracle"):
        assert text.count(f"\n{name}  ") == 2, name
    assert text.splitlines()[-4].split() == ["1", *["25.00%"] * 4]


@given(st.lists(st.tuples(st.sampled_from("tu"), st.integers(0, 1), st.integers(1, 3)), max_size=12))
def test_an_attempt_more_never_scores_less_and_the_oracle_most(rows: list[tuple[str, int, int]]) -> None:
    made = [candidate([[cell]], task=task, test_index=index) for task, index, cell in rows]
    made += [candidate([[4]])]
    found = compare_rules(votes_of(*made), SOLUTIONS)
    for mean in ("outputs", "tasks"):
        for score in found.rules.values():
            assert 0 <= score["pass_at_1"][mean].value <= score["pass_at_2"][mean].value
            assert score["pass_at_2"][mean].value <= found.oracle[mean].value <= 1
    for mean, curves in {"outputs": found.curve, "tasks": found.curve_over_tasks}.items():
        for name, curve in curves.items():
            assert not curve or curve[-1] == pytest.approx(found.rules[name]["pass_at_2"][mean].value)
