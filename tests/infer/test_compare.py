"""The rules of the vote against each other, against scores counted by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcpipe.infer.compare import compare_rules, comparison_text
from arcpipe.infer.vote import RULES, Votes, read_votes
from arcpipe.submissions.intervals import resample_tasks
from candidates import candidate, table

SOLUTIONS = {"t": [np.array([[1]], np.uint8), np.array([[2]], np.uint8)], "u": [np.array([[3, 3]], np.uint8)]}


def votes_of(*rows: dict[str, object]) -> Votes:
    return read_votes([table(rows)], {"t": 2, "u": 1})


def test_pass_at_k_is_counted_over_outputs_and_over_tasks() -> None:
    # Of t the first test is solved at once, the second not at all; of u at the second attempt.
    rows = [
        *[candidate([[1]])] * 2, candidate([[4]]), candidate([[5]], test_index=1),
        *[candidate([[3], [3]], task="u")] * 3, candidate([[3, 3]], task="u"), candidate([[0]], task="u"),
    ]  # fmt: skip
    found = compare_rules(votes_of(*rows), SOLUTIONS, resample_tasks)
    count = found.rules["count"]
    assert (found.num_tasks, found.num_outputs) == (2, 3)
    assert count.pass_at_1["outputs"].value == pytest.approx(1 / 3)
    assert count.pass_at_1["tasks"].value == pytest.approx((1 / 2 + 0) / 2)
    assert count.pass_at_2["outputs"].value == pytest.approx(2 / 3)
    assert count.pass_at_2["tasks"].value == pytest.approx((1 / 2 + 1) / 2)
    assert found.oracle["outputs"].value == pytest.approx(2 / 3)
    # Of two tasks drawn, both may be t, or both u.
    assert (count.pass_at_2["tasks"].low, count.pass_at_2["tasks"].high) == (0.5, 1.0)


def test_the_gain_of_a_rule_is_over_count_on_the_same_tasks() -> None:
    rows = [
        candidate([[7]], 0.1), candidate([[7]], 0.1), candidate([[8]], 0.1), candidate([[8]], 0.1),
        candidate([[1]], 0.9),
    ]  # fmt: skip
    found = compare_rules(votes_of(*rows), SOLUTIONS, resample_tasks)
    gain = {name: score.gain["outputs"] for name, score in found.rules.items()}
    assert gain["halt"].value == pytest.approx(1 / 3)
    assert gain["halt"].low == 0
    assert (gain["count"].value, gain["count"].low, gain["count"].high) == (0, 0, 0)
    assert gain["rank"] == gain["count"]


def test_the_curve_takes_the_first_candidates_of_each_test_input() -> None:
    # Right is first, then outvoted; one without a grid is a vote spent.
    wrong = [candidate([[cell]]) for cell in (6, 7, 6, 7)]
    rows = [candidate([[1]]), *wrong, candidate(None, task="u"), candidate([[3, 3]], task="u")]
    found = compare_rules(votes_of(*rows), SOLUTIONS, resample_tasks)
    assert found.votes == [1, 2, 4, 5]
    for name in RULES:
        assert found.curve[name] == pytest.approx([1 / 3, 2 / 3, 2 / 3, 1 / 3]), name
        assert found.curve_over_tasks[name] == pytest.approx([1 / 4, 3 / 4, 3 / 4, 1 / 2]), name
    assert found.oracle["outputs"].value == pytest.approx(2 / 3)


def test_the_text_holds_every_rule_and_every_point_of_the_curve() -> None:
    text = comparison_text(
        compare_rules(votes_of(candidate([[1]]), candidate([[9]])), SOLUTIONS, resample_tasks)
    )
    assert text.startswith("2 tasks, 3 test outputs; in brackets 95% intervals")
    titles = [line for line in text.splitlines() if line.startswith("mean over")]
    assert titles == ["mean over tasks (Kaggle, ARC Prize)", "mean over test outputs"]
    for name in (*RULES, "oracle"):
        assert text.count(f"\n{name}  ") == 2, name
    assert text.splitlines()[-2:] == [
        "       1   25.00%   25.00%   25.00%   25.00%",
        "       2   25.00%   25.00%   25.00%   25.00%",
    ]


@given(st.lists(st.tuples(st.sampled_from("tu"), st.integers(0, 1), st.integers(1, 3)), max_size=12))
def test_an_attempt_more_never_scores_less_and_the_oracle_most(rows: list[tuple[str, int, int]]) -> None:
    made = [candidate([[cell]], task=task, test_index=index) for task, index, cell in rows]
    found = compare_rules(votes_of(*made), SOLUTIONS, lambda columns: columns.sum(axis=0, keepdims=True))
    for mean in ("outputs", "tasks"):
        for score in found.rules.values():
            assert 0 <= score.pass_at_1[mean].value <= score.pass_at_2[mean].value
            assert score.pass_at_2[mean].value <= found.oracle[mean].value <= 1
    for mean, curves in {"outputs": found.curve, "tasks": found.curve_over_tasks}.items():
        for name, curve in curves.items():
            assert not curve or curve[-1] == pytest.approx(found.rules[name].pass_at_2[mean].value)
