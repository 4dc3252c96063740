"""The vote, against what the reference's evaluator made of the same candidates."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcpipe.augmentation import IDENTITY, Augmentation
from arcpipe.codec import decode, encode
from arcpipe.errors import DataError
from arcpipe.grid import Grid
from arcpipe.infer.vote import rank_candidates, rank_files
from arcpipe.predictions import PREDICTIONS_FILE, Prediction, read_predictions, write_predictions
from arcpipe.submissions.format import Submission, build_submission, read_submission
from arcpipe.submissions.score import score_submission
from arcpipe.task import Pair, Task, challenges_json
from commands import succeed
from strategies import grids

CANVAS = 30
NO_ANSWER = [[0]]
Ranked = Mapping[tuple[str, int], Sequence[Grid]]


@dataclass(frozen=True)
class Recording:
    """voting.json: its tasks, the candidates in the order the reference took them, and the rest as it is."""

    tasks: list[Task]
    predictions: list[Prediction]
    records: list[dict[str, Any]]
    submission: dict[str, Any]
    metrics: dict[str, float]

    @property
    def solutions(self) -> dict[str, list[Any]]:
        return {task.id: [pair.output for pair in task.tests] for task in self.tasks}


def array(cells: Any) -> Grid:
    return np.array(cells, np.uint8)


def augmentation_of(name: str) -> Augmentation:
    """From `task` or `task|||t<dihedral>|||<ten digits>`."""
    _, *parts = name.split("|||")
    if not parts:
        return IDENTITY
    return Augmentation(int(parts[0].removeprefix("t")), tuple(map(int, parts[1])))


def prediction_of(record: dict[str, Any]) -> Prediction:
    # arcpipe has no empty grid: an answer that holds none is a candidate without a grid.
    grid = array(record["pred_grid"])
    return Prediction(
        task=record["task"],
        test_index=record["test_index"],
        augmentation=augmentation_of(record["name"]),
        grid=grid if grid.size else None,
        halt_probability=record["q"],
        steps=16,
    )


@pytest.fixture(scope="module")
def recording(fixtures_dir: Path) -> Recording:
    content = json.loads((fixtures_dir / "voting.json").read_text())
    # The reference's tasks have no demonstrations here; a challenges file must have one.
    demonstrations = (Pair(array([[0]]), array([[0]])),)
    tasks = [
        Task(
            task_id,
            demonstrations,
            tuple(Pair(array(pair["input"]), array(pair["output"])) for pair in puzzle["test"]),
        )
        for task_id, puzzle in content["test_puzzles"].items()
    ]
    return Recording(
        tasks=tasks,
        predictions=[prediction_of(record) for record in content["records"]],
        records=content["records"],
        submission=content["submission"],
        metrics=content["metrics"],
    )


def plain(submission: Submission) -> dict[str, Any]:
    return {
        task_id: [{"attempt_1": first.tolist(), "attempt_2": second.tolist()} for first, second in pairs]
        for task_id, pairs in submission.attempts.items()
    }


def pass_at(k: int, ranked: Ranked, recording: Recording) -> float:
    """Mean over the tasks of the share of their tests whose solution is among the best k candidates."""
    shares = []
    for task in recording.tasks:
        found = [
            any(np.array_equal(grid, pair.output) for grid in ranked.get((task.id, index), ())[:k])
            for index, pair in enumerate(task.tests)
        ]
        shares.append(sum(found) / len(found))
    return sum(shares) / len(shares)


def candidate(
    grid: list[list[int]] | None, halt_probability: float = 0.5, task: str = "t", test_index: int = 0
) -> Prediction:
    cells = None if grid is None else array(grid)
    return Prediction(task, test_index, IDENTITY, cells, halt_probability, steps=1)


def test_the_candidates_come_out_of_the_recorded_answers(recording: Recording) -> None:
    for record, prediction in zip(recording.records, recording.predictions, strict=True):
        augmentation = prediction.augmentation
        asked = encode(augmentation.apply(array(record["input_grid"])), CANVAS)
        assert asked.tolist() == record["input_canvas"]
        answer = decode(np.array([record["pred_canvas"]]))[0]
        if prediction.grid is None:
            assert answer is None
        else:
            assert answer is not None
            np.testing.assert_array_equal(augmentation.inverse().apply(answer), prediction.grid)


def test_the_submission_is_the_references_but_where_it_cannot_be_submitted(recording: Recording) -> None:
    made = plain(build_submission(recording.tasks, rank_candidates(recording.predictions)))
    assert list(made) == list(recording.submission)
    differing = {task_id for task_id in made if made[task_id] != recording.submission[task_id]}
    assert differing == {"no_preds", "two_tests_first_missing", "empty_wins"}

    unanswered = {"attempt_1": NO_ANSWER, "attempt_2": NO_ANSWER}
    assert recording.submission["no_preds"] == []
    assert made["no_preds"] == [unanswered]

    # The reference's list has one entry for two tests, and it stands at the place of the other test.
    assert len(recording.submission["two_tests_first_missing"]) == 1
    assert made["two_tests_first_missing"] == [unanswered, *recording.submission["two_tests_first_missing"]]

    # Two empty answers outvote the grid in the reference; here they have no vote.
    empty, runner_up = recording.submission["empty_wins"][0].values()
    assert empty == []
    assert made["empty_wins"] == [{"attempt_1": runner_up, "attempt_2": runner_up}]


def test_pass_at_k_is_the_references(recording: Recording) -> None:
    ranked = rank_candidates(recording.predictions)
    score = score_submission(build_submission(recording.tasks, ranked), recording.solutions)
    # The task whose winner is empty in the reference is right at the first attempt here.
    assert score.pass_at_1.mean_over_tasks == pytest.approx(recording.metrics["ARC/pass@1"] + 1 / 10)
    assert score.pass_at_2.mean_over_tasks == pytest.approx(recording.metrics["ARC/pass@2"])
    assert pass_at(5, ranked, recording) == pytest.approx(recording.metrics["ARC/pass@5"])
    assert pass_at(1, ranked, recording) == pytest.approx(score.pass_at_1.mean_over_tasks)
    assert pass_at(2, ranked, recording) == pytest.approx(score.pass_at_2.mean_over_tasks)


def test_the_vote_is_the_same_through_files(recording: Recording, tmp_path: Path) -> None:
    expected = plain(build_submission(recording.tasks, rank_candidates(recording.predictions)))
    whole, first, second = (tmp_path / name for name in ("whole.parquet", "first.parquet", "second"))
    second.mkdir()
    write_predictions(whole, recording.predictions)
    write_predictions(first, recording.predictions[:17])
    write_predictions(second / PREDICTIONS_FILE, recording.predictions[17:])
    challenges = tmp_path / "challenges.json"
    challenges.write_text(json.dumps(challenges_json(recording.tasks)))

    ranked = rank_candidates(read_predictions(whole))
    assert plain(build_submission(recording.tasks, ranked)) == expected
    for out, files in {"a.json": [whole], "b.json": [first, second]}.items():
        printed = succeed("vote", *files, "--challenges", challenges, "--out", out, cwd=tmp_path)
        assert printed == f"{out}: 12 test inputs, 10 with a candidate\n"
        assert plain(read_submission(tmp_path / out)) == expected


def test_votes_count_first_then_the_mean_halt_probability_then_who_came_first() -> None:
    ranked = rank_candidates(
        [
            candidate([[1]], 0.9),
            candidate([[2]], 0.1),
            candidate([[3]], 0.4),
            candidate([[4]], 0.4),
            candidate([[2]], 0.1),
            candidate([[5]], 0.95),
        ]
    )
    assert [grid.item() for grid in ranked["t", 0]] == [2, 5, 1, 3, 4]


def test_the_shape_of_a_grid_is_part_of_it() -> None:
    ranked = rank_candidates([candidate([[1, 2]]), candidate([[1], [2]]), candidate([[1], [2]])])
    assert [grid.shape for grid in ranked["t", 0]] == [(2, 1), (1, 2)]


def test_candidates_of_other_tests_and_tasks_do_not_meet() -> None:
    ranked = rank_candidates(
        [
            candidate([[1]]),
            candidate([[2]], test_index=1),
            candidate([[2]], task="u"),
            candidate(None, task="v"),
        ]
    )
    assert {key: [grid.tolist() for grid in found] for key, found in ranked.items()} == {
        ("t", 0): [[[1]]],
        ("t", 1): [[[2]]],
        ("u", 0): [[[2]]],
    }


@given(st.lists(st.tuples(grids(2), st.floats(0, 1)), min_size=1, max_size=12))
def test_the_ranking_holds_every_grid_once_by_falling_count(answers: list[tuple[Grid, float]]) -> None:
    predictions = [Prediction("t", 0, IDENTITY, grid, q, steps=1) for grid, q in answers]
    given_grids = [grid.tolist() for grid, _ in answers]
    ranked = [grid.tolist() for grid in rank_candidates(predictions)["t", 0]]
    counts = [given_grids.count(grid) for grid in ranked]
    assert sum(counts) == len(given_grids)
    assert counts == sorted(counts, reverse=True)


@pytest.fixture
def challenges(tmp_path: Path) -> Path:
    """A challenges file of the task `t` with one test input, and `mine.parquet` with a candidate for it."""
    task = Task("t", (Pair(array([[0]]), array([[0]])),), (Pair(array([[0]]), None),))
    path = tmp_path / "challenges.json"
    path.write_text(json.dumps(challenges_json([task])))
    write_predictions(tmp_path / "mine.parquet", [candidate([[1]])])
    return path


def test_candidates_for_other_test_inputs_are_counted(challenges: Path, tmp_path: Path) -> None:
    others = [candidate([[2]], task="u"), candidate([[3]], task="u"), candidate(None, test_index=1)]
    write_predictions(tmp_path / "more.parquet", [*others, candidate([[1]])])
    arguments = ("--challenges", challenges, "--out", "a.json")
    printed = succeed("vote", "mine.parquet", "more.parquet", *arguments, cwd=tmp_path)
    assert printed == "a.json: 1 test inputs, 1 with a candidate; ignored the candidates for 2 others\n"


def test_candidates_for_none_of_the_tasks_are_refused(challenges: Path, tmp_path: Path) -> None:
    file = tmp_path / "others.parquet"
    for others in ([candidate([[2]], task="u")], [candidate([[2]], test_index=1)], []):
        write_predictions(file, others)
        with pytest.raises(DataError) as caught:
            rank_files([file], [("t", 0)], challenges)
        assert str(caught.value) == (
            f"no candidate is for a task of {challenges}: are these predictions of another set?"
        )


def test_an_answer_without_a_grid_is_an_answer(challenges: Path, tmp_path: Path) -> None:
    write_predictions(tmp_path / "none.parquet", [candidate(None)])
    assert rank_files([tmp_path / "none.parquet"], [("t", 0)], challenges) == ({}, 0)


def test_a_file_given_twice_is_refused(challenges: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    write_predictions(folder / PREDICTIONS_FILE, [candidate([[1]])])
    (tmp_path / "link").symlink_to(folder)
    for other in (folder, folder / PREDICTIONS_FILE, folder / ".." / "folder", tmp_path / "link"):
        with pytest.raises(DataError, match=f"^{folder}: given twice, its candidates would count twice"):
            rank_files([folder, tmp_path / "mine.parquet", other], [("t", 0)], challenges)
