"""Scores by hand: which mean, which attempts, and a denominator that is always the solutions file."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from arcpipe.errors import DataError, OutputError
from arcpipe.submissions.format import Submission, build_submission, read_submission
from arcpipe.submissions.score import Score, per_task_frame, score_submission, write_per_task
from arcpipe.task import Task, read_solutions

Content = dict[str, Any]
WRONG = {"attempt_1": [[9]], "attempt_2": [[8]]}


def score_content(content: Content, file: Path, solutions: Path) -> Score:
    file.write_bytes(orjson.dumps(content))
    return score_submission(read_submission(file), read_solutions(solutions))


def test_both_means_at_both_k(content: Content, file: Path, solutions: Path) -> None:
    # "one" is right at attempt 1; "two" at attempt 2, and at attempt 1.
    score = score_content(content, file, solutions)
    assert (score.num_tasks, score.num_outputs, score.num_answered) == (2, 3, 3)
    assert (score.pass_at_1.solved_outputs, score.pass_at_1.solved_tasks) == (2, 1)
    assert score.pass_at_1.mean_over_outputs == pytest.approx(2 / 3)
    assert score.pass_at_1.mean_over_tasks == (1 + 1 / 2) / 2
    assert (score.pass_at_2.solved_outputs, score.pass_at_2.solved_tasks) == (3, 2)
    assert score.pass_at_2.mean_over_outputs == score.pass_at_2.mean_over_tasks == 1


def test_a_task_with_one_test_weighs_more_in_the_mean_over_tasks(
    content: Content, file: Path, solutions: Path
) -> None:
    content["two"] = [WRONG, WRONG]
    score = score_content(content, file, solutions)
    assert score.pass_at_2.mean_over_outputs == pytest.approx(1 / 3)
    assert score.pass_at_2.mean_over_tasks == 1 / 2
    assert score.pass_at_2.solved_tasks == 1


def test_a_task_half_solved_is_no_solved_task(content: Content, file: Path, solutions: Path) -> None:
    content["two"][1] = WRONG
    score = score_content(content, file, solutions)
    assert score.pass_at_2.mean_over_outputs == pytest.approx(2 / 3)
    assert score.pass_at_2.mean_over_tasks == 3 / 4
    assert (score.pass_at_2.task_sum, score.pass_at_2.solved_tasks) == (1.5, 1)


def test_one_answered_task_of_two_is_not_all(content: Content, file: Path, solutions: Path) -> None:
    del content["two"]
    score = score_content(content, file, solutions)
    assert (score.num_tasks, score.num_outputs, score.num_answered) == (2, 3, 1)
    assert score.pass_at_2.mean_over_outputs == pytest.approx(1 / 3)
    assert score.pass_at_2.mean_over_tasks == 1 / 2


def test_a_missing_second_entry_is_wrong(content: Content, file: Path, solutions: Path) -> None:
    content["two"].pop()
    score = score_content(content, file, solutions)
    assert (score.num_outputs, score.num_answered) == (3, 2)
    assert score.pass_at_2.mean_over_outputs == pytest.approx(2 / 3)


def test_an_empty_submission_and_the_fallback_score_zero(tasks: list[Task], solutions: Path) -> None:
    for submission in (Submission({}), build_submission(tasks, {})):
        score = score_submission(submission, read_solutions(solutions))
        assert (score.num_tasks, score.num_outputs, score.num_answered) == (2, 3, 0)
        assert score.pass_at_2.mean_over_outputs == score.pass_at_2.mean_over_tasks == 0


def test_the_right_cells_in_another_shape_are_wrong(content: Content, file: Path, solutions: Path) -> None:
    content["two"][0] = {"attempt_1": [[3, 4]], "attempt_2": [[3], [4], [0]]}
    assert score_content(content, file, solutions).pass_at_2.solved_outputs == 2


def test_a_task_of_another_set_is_refused(content: Content, file: Path, solutions: Path) -> None:
    content["stranger"] = content["one"]
    with pytest.raises(DataError, match="task stranger is not in the solutions"):
        score_content(content, file, solutions)


def test_more_entries_than_test_outputs_are_refused(content: Content, file: Path, solutions: Path) -> None:
    content["one"] *= 2
    with pytest.raises(DataError, match="task one has 2 entries, the solutions 1"):
        score_content(content, file, solutions)


def test_the_table_has_a_row_per_test_output(content: Content, file: Path, solutions: Path) -> None:
    content["two"][1] = {"attempt_1": [[0]], "attempt_2": [[0]]}
    frame = per_task_frame(score_content(content, file, solutions))
    rows = [tuple(row) for row in frame.itertuples(index=False)]
    assert list(frame.columns) == [
        "task", "test_index", "attempt_1_correct", "attempt_2_correct",
        "solved", "answered", "height", "width",
    ]  # fmt: skip
    assert rows == [
        ("one", 0, True, False, True, True, 1, 2),
        ("two", 0, False, True, True, True, 2, 1),
        ("two", 1, False, False, False, False, 1, 1),
    ]


def test_the_command_prints_a_table_and_the_tasks(
    app: typer.Typer, content: Content, file: Path, solutions: Path
) -> None:
    content["two"][1] = WRONG
    file.write_bytes(orjson.dumps(content))
    result = CliRunner().invoke(app, ["score", str(file), str(solutions)])
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "2 tasks, 3 test outputs, 3 answered",
        "",
        "                                               pass@1                pass@2",
        "mean over test outputs (Kaggle)   33.33%          1/3   66.67%          2/3",
        "mean over tasks (ARC Prize)       50.00%          1/2   75.00%        1.5/2",
        "tasks with all tests correct      50.00%          1/2   50.00%          1/2",
        "",
        "one  1/1",
        "two  1/2",
    ]


def test_the_command_prints_one_json_document(
    app: typer.Typer, content: Content, file: Path, solutions: Path
) -> None:
    file.write_bytes(orjson.dumps(content))
    result = CliRunner().invoke(app, ["score", str(file), str(solutions), "--json"])
    document = orjson.loads(result.stdout)
    assert document["pass_at_1"]["mean_over_tasks"] == 0.75
    assert document["pass_at_2"]["solved_outputs"] == document["num_outputs"] == 3
    assert (document["tasks"]["two"]["solved"], document["tasks"]["two"]["tests"]) == (2, 2)
    assert document["tasks"]["two"]["outputs"][0]["attempt_1_correct"] is False


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_per_task_file_holds_the_table(
    app: typer.Typer, content: Content, file: Path, solutions: Path, suffix: str
) -> None:
    score = score_content(content, file, solutions)
    out = file.with_name(f"tasks{suffix}")
    result = CliRunner().invoke(app, ["score", str(file), str(solutions), "--per-task", str(out)])
    assert result.exit_code == 0
    frame = pd.read_csv(out) if suffix == ".csv" else pd.read_parquet(out)
    pd.testing.assert_frame_equal(frame, per_task_frame(score), check_dtype=False)


@pytest.mark.parametrize(
    ("name", "message"), [("tasks.txt", "csv or .parquet"), ("there.csv", "exists already")]
)
def test_a_per_task_file_that_cannot_be_is_refused(
    app: typer.Typer, content: Content, file: Path, solutions: Path, name: str, message: str
) -> None:
    file.write_bytes(orjson.dumps(content))
    file.with_name("there.csv").write_text("mine")
    before = sorted(file.parent.iterdir())
    out = file.with_name(name)
    result = CliRunner().invoke(app, ["score", str(file), str(solutions), "--per-task", str(out)])
    assert isinstance(result.exception, OutputError)
    assert message in str(result.exception)
    assert (sorted(file.parent.iterdir()), result.stdout) == (before, "")
    assert file.with_name("there.csv").read_text() == "mine"


def test_ids_that_look_like_numbers_stay_as_they_are(tmp_path: Path) -> None:
    cell = np.zeros((1, 1), np.uint8)
    score = score_submission(Submission({}), {"00576224": [cell], "12e45678": [cell]})
    write_per_task(score, tmp_path / "tasks.parquet")
    assert list(pd.read_parquet(tmp_path / "tasks.parquet")["task"]) == ["00576224", "12e45678"]
