"""The vote, compared with the reference's evaluator on the same candidates, and rule by rule."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcpipe.augmentation import IDENTITY, Augmentation
from arcpipe.codec import decode
from arcpipe.grid import Grid
from arcpipe.infer.vote import RULES, Votes, rank, ranked_grids, read_votes
from arcpipe.predictions import read_candidates, write_table
from arcpipe.submissions.score import score_submission
from arcpipe.submissions.submission import build_submission
from arcpipe.task import Pair, Task, challenges_json
from candidates import candidate, table, write_folder
from commands import succeed_here
from puzzles import augmented, encode, grids, restored


def array(cells: Any) -> Grid:
    return np.array(cells, np.uint8)


@pytest.fixture(scope="module")
def recording(fixtures_dir: Path) -> dict[str, Any]:
    """voting.json, its tasks, and its records as candidates in the reference's order."""
    content: dict[str, Any] = json.loads((fixtures_dir / "voting.json").read_text())
    # The reference's tasks have no demonstrations here; a challenges file must have one.
    demonstrations = (Pair(array([[0]]), array([[0]])),)
    content["tasks"] = [
        Task(
            name, demonstrations, tuple(Pair(array(of["input"]), array(of["output"])) for of in task["test"])
        )
        for name, task in content["test_puzzles"].items()
    ]
    # The reference has no probabilities of cells.
    content["candidates"] = [
        candidate(of["pred_grid"] or None, of["q"], task=of["task"], test_index=of["test_index"],
                  log_probability=0.0)
        for of in content["records"]
    ]  # fmt: skip
    return content


def votes_of(rows: Sequence[dict[str, Any]], **num_tests: int) -> Votes:
    return read_votes([table(rows)], num_tests or {"t": 1})


def test_the_candidates_come_out_of_the_recorded_answers(recording: dict[str, Any]) -> None:
    for record in recording["records"]:
        # `task` or `task|||t<dihedral>|||<ten digits>`.
        _, *parts = record["name"].split("|||")
        way = Augmentation(int(parts[0][1:]), tuple(map(int, parts[1]))) if parts else IDENTITY
        canvas = encode(augmented(array(record["input_grid"]), way), 30)
        assert canvas.tolist() == record["input_canvas"]
        (answer,) = decode(np.array([record["pred_canvas"]]))
        assert ([] if answer is None else restored(answer, way).tolist()) == record["pred_grid"]


def test_the_submission_is_official_where_it_can_be(recording: dict[str, Any], tmp_path: Path) -> None:
    rows, official = table(recording["candidates"]), recording["submission"]
    write_table(tmp_path / "whole.parquet", rows)
    write_table(tmp_path / "first.parquet", rows.slice(0, 17))
    write_folder(tmp_path / "second", [rows.slice(20), rows.slice(17, 3)])
    (tmp_path / "challenges.json").write_text(json.dumps(challenges_json(recording["tasks"])))
    for out, files in {"a.json": ["whole.parquet"], "b.json": ["first.parquet", "second"]}.items():
        printed = succeed_here("vote", *files, "--challenges", "challenges.json", "--out", out, cwd=tmp_path)
        assert printed == (
            f"{out}: 12 test inputs, 10 with a grid, 2 without any candidate; {len(rows)} candidates, 2 of "
            "which hold no grid and have no vote\n"
        )
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()

    made = json.loads((tmp_path / "a.json").read_bytes())
    unanswered = {"attempt_1": [[0]], "attempt_2": [[0]]}
    assert official["no_preds"] == []
    # The reference's list has one entry for two tests, at the place of the other test.
    assert len(official["two_tests_first_missing"]) == 1
    # Two empty answers outvote the grid in the reference; here they have no vote.
    empty, runner_up = official["empty_wins"][0].values()
    assert empty == []
    assert made == official | {
        "no_preds": [unanswered],
        "two_tests_first_missing": [unanswered, *official["two_tests_first_missing"]],
        "empty_wins": [{"attempt_1": runner_up, "attempt_2": runner_up}],
    }


def test_pass_at_k_is_the_references(recording: dict[str, Any]) -> None:
    tasks, metrics = recording["tasks"], recording["metrics"]
    votes = votes_of(recording["candidates"], **{task.id: len(task.tests) for task in tasks})
    ranking = rank(votes, RULES["count"])
    solutions = {task.id: [pair.output for pair in task.tests] for task in tasks}
    score = score_submission(build_submission(tasks, ranked_grids(votes, ranking, 2)), solutions)
    # The task with an empty winner in the reference is right at the first attempt here.
    assert score.pass_at_1.mean_over_tasks == pytest.approx(metrics["ARC/pass@1"] + 1 / 10)
    assert score.pass_at_2.mean_over_tasks == pytest.approx(metrics["ARC/pass@2"])
    best_five = {
        name: {grid.tobytes() for grid in of} for name, of in ranked_grids(votes, ranking, 5).items()
    }
    shares = [
        np.mean(
            [output.tobytes() in best_five.get((name, index), ()) for index, output in enumerate(outputs)]
        )
        for name, outputs in solutions.items()
    ]
    assert np.mean(shares) == pytest.approx(metrics["ARC/pass@5"])


def alone(cell: int, halt: float = 0.5, log: float = -1.0, checkpoint: str = "c") -> dict[str, Any]:
    return candidate([[cell]], halt, log_probability=log, checkpoint=checkpoint)


@pytest.mark.parametrize(("rule", "rows", "expected"), [
    # As much for 1 as for 3, but from two candidates.
    ("halt", [alone(1, 0.25), alone(1, 0.25), alone(2, 0.75), alone(3, 0.5)], [2, 1, 3]),
    # Mean probabilities of cells add up, whatever the size of the grid.
    (
        "score",
        [alone(1, log=np.log(0.5)), alone(1, log=np.log(0.25)), alone(3, log=np.log(0.8)),
         candidate([[2] * 9] * 9, log_probability=np.log(0.9))],
        [2, 3, 1],
    ),
    # Each checkpoint has the same weight: 1/2 + 1 + 1 for 2; 1 for 1; 1/2 for 3.
    (
        "rank",
        [alone(cell, checkpoint=name) for name, cells in (("a", "111112"), ("b", "223"), ("d", "2"))
         for cell in map(int, cells)],
        [2, 1, 3],
    ),
])  # fmt: skip
def test_a_rule_ranks_by_what_it_says(rule: str, rows: list[dict[str, Any]], expected: list[int]) -> None:
    votes = votes_of(rows)
    assert [int(votes.grid(entry)[0, 0]) for entry in rank(votes, RULES[rule]).entries] == expected


ROWS = st.lists(
    st.builds(
        lambda grid, halt, log, task, index, checkpoint: candidate(
            grid, halt, log_probability=log, task=task, test_index=index, checkpoint=checkpoint
        ),
        st.none() | grids(2).map(lambda grid: grid % 2),
        st.sampled_from((0.0, 0.25, 0.5, 1.0)) | st.floats(0, 1, width=32),
        st.floats(-20, 0, width=32),
        st.sampled_from("tuv"),
        st.integers(0, 2),
        st.sampled_from("abc"),
    ),
    max_size=24,
)
NUM_TESTS = {"t": 2, "u": 1, "w": 1}


def plain_count(rows: Sequence[dict[str, Any]], task: str, index: int) -> list[tuple[int, bytes]]:
    """A plain implementation of the rule count."""
    halts: dict[tuple[int, bytes], list[float]] = {}
    for row in rows:
        if (row["task"], row["test_index"]) == (task, index) and row["width"]:
            halts.setdefault((row["width"], row["cells"]), []).append(
                float(np.float32(row["halt_probability"]))
            )
    return sorted(halts, key=lambda key: (-len(halts[key]), -np.cumsum(halts[key])[-1] / len(halts[key])))


@given(ROWS)
def test_count_is_a_plain_loop_and_each_rule_ranks_the_same_grids(rows: list[dict[str, Any]]) -> None:
    votes = votes_of(rows, **NUM_TESTS)
    for rule in RULES:
        ranked = ranked_grids(votes, rank(votes, RULES[rule]))
        for task, index in ((task, index) for task, count in NUM_TESTS.items() for index in range(count)):
            found = [(grid.shape[1], grid.tobytes()) for grid in ranked.get((task, index), ())]
            expected = plain_count(rows, task, index)
            assert found == expected if rule == "count" else sorted(found) == sorted(expected)


@given(ROWS, st.data())
def test_how_a_folder_is_cut_into_shards_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    whole = table(rows)
    of_rank = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows))), int)
    shards = [whole.filter(of_rank == number) for number in range(4)]
    folder = tmp_path_factory.mktemp("cut") / "predictions"
    write_folder(folder, data.draw(st.permutations([shard for shard in shards if len(shard)])))
    cut, one = (read_votes(tables, NUM_TESTS) for tables in (read_candidates([folder]), [whole]))
    for rule in RULES.values():
        np.testing.assert_array_equal(rank(cut, rule).entries, rank(one, rule).entries)
    for entry in range(len(one.tests)):
        np.testing.assert_array_equal(cut.grid(entry), one.grid(entry))
    assert cut.summary() == one.summary()
