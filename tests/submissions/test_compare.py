"""Submissions side by side, and the oracle, which is no score."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from arcpipe.errors import DataError
from arcpipe.grid import Grid
from arcpipe.submissions.compare import compare_scores, oracle
from arcpipe.submissions.format import Submission
from arcpipe.submissions.score import Score, score_submission

Content = dict[str, Any]
RIGHT, WRONG = np.array([[1]], np.uint8), np.array([[2]], np.uint8)


def score_of(*solved: bool) -> Score:
    """The score of a submission to tasks with one test each, solved or not."""
    attempts = {f"{number}": ((WRONG, RIGHT if right else WRONG),) for number, right in enumerate(solved)}
    return score_submission(Submission(attempts), {task: [RIGHT] for task in attempts})


def test_two_submissions_solve_both_one_or_neither() -> None:
    scores = {"a": score_of(True, True, True, False, False), "b": score_of(True, False, False, True, False)}
    comparison = compare_scores(scores)
    assert comparison.groups() == {"by both": 1, "only by a": 2, "only by b": 1, "by neither": 1}
    assert comparison.outputs == {
        "0[0]": ("a", "b"),
        "1[0]": ("a",),
        "2[0]": ("a",),
        "3[0]": ("b",),
        "4[0]": (),
    }


def test_of_three_submissions_several_may_solve_an_output() -> None:
    scores = {"a": score_of(True, True, True, False), "b": score_of(True, True, False, False)}
    comparison = compare_scores(scores | {"c": score_of(True, False, False, False)})
    assert comparison.groups() == {
        "by all": 1, "by several, not all": 1, "only by a": 1, "only by b": 0, "only by c": 0, "by none": 1,
    }  # fmt: skip


outcomes = st.lists(st.tuples(*[st.booleans()] * 3), min_size=1, max_size=8)


@given(outcomes)
def test_every_output_is_in_one_group(solved: list[tuple[bool, bool, bool]]) -> None:
    scores = {name: score_of(*column) for name, column in zip("abc", zip(*solved, strict=True), strict=True)}
    assert sum(compare_scores(scores).groups().values()) == len(solved)
    two = compare_scores({name: scores[name] for name in "ab"})
    assert sum(two.groups().values()) == len(solved)


def test_the_difference_is_paired() -> None:
    first = [number < 30 for number in range(100)]
    better = [number < 40 for number in range(100)]
    [same] = compare_scores({"a": score_of(*first), "b": score_of(*first)}).others
    assert (same.over_outputs, same.interval_over_outputs, same.interval_over_tasks) == (0, (0, 0), (0, 0))
    # b solves all that a solves, and a tenth more: how many of both are drawn does not matter.
    [more] = compare_scores({"a": score_of(*first), "b": score_of(*better)}).others
    assert more.over_tasks == pytest.approx(0.1)
    spread = 1.96 * (0.1 * 0.9 / 100) ** 0.5
    assert more.interval_over_tasks == pytest.approx((0.1 - spread, 0.1 + spread), abs=0.012)


def run(app: typer.Typer, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["score", *map(str, arguments), "--no-ledger"])


def test_the_command_sets_submissions_side_by_side(
    app: typer.Typer, content: Content, file: Path, solutions: Path
) -> None:
    file.write_bytes(orjson.dumps(content))
    other = file.with_name("other.json")
    other.write_bytes(orjson.dumps({"one": content["one"]}))
    lines = run(app, file, solutions, "--with", other).stdout.splitlines()
    start = lines.index("test outputs solved at pass@2")
    assert [line.split()[-1] for line in lines[start + 1 : start + 5]] == ["1", "2", "0", "0"]
    assert lines[start + 6] == f"{other} against {file}"
    assert lines[start + 7].startswith("mean over tasks (Kaggle, ARC Prize)   50.00%   -50.00 points [")
    assert lines[start + 8].startswith("mean over test outputs                33.33%   -66.67 points [")

    document = orjson.loads(run(app, file, solutions, "--with", other, "--json").stdout)
    assert document["comparison"]["outputs"] == {
        "one[0]": [str(file), str(other)], "two[0]": [str(file)], "two[1]": [str(file)],
    }  # fmt: skip
    assert document["pass_at_2"]["solved_outputs"] == 3


def test_a_submission_is_not_compared_with_itself(
    app: typer.Typer, content: Content, file: Path, solutions: Path
) -> None:
    file.write_bytes(orjson.dumps(content))
    error = run(app, file, solutions, "--with", file).exception
    assert isinstance(error, DataError)
    assert "given twice" in str(error)


def candidate(color: int) -> Grid:
    return np.full((1, 1), color, np.uint8)


def test_the_oracle_finds_the_solution_wherever_it_is() -> None:
    ranked = {
        ("a", 0): [candidate(color) for color in (0, 2, 1)],
        ("a", 1): [candidate(1)],
        ("b", 0): [candidate(color) for color in (2, 3, 4, 5)],
        ("elsewhere", 0): [candidate(1)] * 50,
    }
    found = oracle(ranked, {"a": [RIGHT, RIGHT], "b": [RIGHT], "c": [RIGHT]})
    assert found.num_candidates == 8
    assert {k: score.solved_outputs for k, score in found.at.items()} == {1: 1, 2: 1, 4: 2}
    assert (found.at[4].mean_over_outputs, found.at[4].mean_over_tasks) == (2 / 4, 1 / 3)


def test_the_oracle_of_no_candidate_is_zero() -> None:
    found = oracle({}, {"a": [RIGHT]})
    assert {k: score.solved_outputs for k, score in found.at.items()} == {1: 0}


def test_the_command_keeps_the_oracle_apart(
    app: typer.Typer, file: Path, solutions: Path, predictions: Path
) -> None:
    file.write_text("{}")
    result = run(app, file, solutions, "--candidates", predictions)
    assert "oracle: the solution is among the best k of 3 distinct candidates" in result.stdout
    assert result.stdout.splitlines()[-1].split() == ["2", "75.00%", "66.67%", "2"]

    document = orjson.loads(run(app, file, solutions, "--candidates", predictions, "--json").stdout)
    assert document["pass_at_2"]["solved_outputs"] == 0
    assert document["oracle"]["at"]["1"]["solved_outputs"] == 1
    assert document["oracle"]["at"]["2"]["solved_outputs"] == 2


def test_candidates_of_another_set_are_refused(
    app: typer.Typer, file: Path, solutions: Path, predictions: Path
) -> None:
    file.write_text("{}")
    solutions.write_text('{"elsewhere": [[[1]]]}')
    error = run(app, file, solutions, "--candidates", predictions).exception
    assert isinstance(error, DataError)
    assert str(error).startswith(f"{predictions}: no candidate for a task of {solutions}")
