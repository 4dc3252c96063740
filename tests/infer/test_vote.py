"""The vote, against what the reference's evaluator made of the same candidates, and rule by rule."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
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
from arcpipe.submissions.submission import build_submission, read_submission
from arcpipe.task import Pair, Task, challenges_json
from augmented import augmented, encode, restored
from candidates import candidate, table, write_folder
from commands import succeed_here
from strategies import grids

CANVAS = 30
NO_ANSWER = [[0]]


@dataclass(frozen=True)
class Recording:
    """voting.json: its tasks, the candidates in the order the reference took them, and the rest as it is."""

    tasks: list[Task]
    records: list[dict[str, Any]]
    submission: dict[str, Any]
    metrics: dict[str, float]

    @property
    def candidates(self) -> list[dict[str, Any]]:
        # The reference knows no probability of the cells.
        return [
            candidate(record["pred_grid"] or None, record["q"], task=record["task"],
                      test_index=record["test_index"], log_probability=0.0)
            for record in self.records
        ]  # fmt: skip

    @property
    def num_tests(self) -> dict[str, int]:
        return {task.id: len(task.tests) for task in self.tasks}


def array(cells: Any) -> Grid:
    return np.array(cells, np.uint8)


def augmentation_of(name: str) -> Augmentation:
    """From `task` or `task|||t<dihedral>|||<ten digits>`."""
    _, *parts = name.split("|||")
    if not parts:
        return IDENTITY
    return Augmentation(int(parts[0].removeprefix("t")), tuple(map(int, parts[1])))


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
    return Recording(tasks, content["records"], content["submission"], content["metrics"])


def attempts(file: Path) -> dict[str, Any]:
    return {
        task_id: [{"attempt_1": first.tolist(), "attempt_2": second.tolist()} for first, second in pairs]
        for task_id, pairs in read_submission(file).attempts.items()
    }


def ranked(votes: Votes, rule: str = "count") -> list[Any]:
    """The grids of all test inputs, best first, as lists."""
    return [votes.grid(entry).tolist() for entry in rank(votes, RULES[rule]).entries]


def votes_of(rows: Sequence[dict[str, Any]], **num_tests: int) -> Votes:
    return read_votes([table(rows)], num_tests or {"t": 1})


def test_the_candidates_come_out_of_the_recorded_answers(recording: Recording) -> None:
    for record in recording.records:
        augmentation = augmentation_of(record["name"])
        asked = encode(augmented(array(record["input_grid"]), augmentation), CANVAS)
        assert asked.tolist() == record["input_canvas"]
        answer = decode(np.array([record["pred_canvas"]]))[0]
        found = [] if answer is None else restored(answer, augmentation).tolist()
        assert found == record["pred_grid"]


def test_the_submission_is_official_where_it_can_be_submitted(recording: Recording, tmp_path: Path) -> None:
    rows = table(recording.candidates)
    write_table(tmp_path / "whole.parquet", rows)
    write_table(tmp_path / "first.parquet", rows.slice(0, 17))
    write_folder(tmp_path / "second", [rows.slice(20), rows.slice(17, 3)])
    challenges = tmp_path / "challenges.json"
    challenges.write_text(json.dumps(challenges_json(recording.tasks)))
    for out, files in {"a.json": ["whole.parquet"], "b.json": ["first.parquet", "second"]}.items():
        printed = succeed_here("vote", *files, "--challenges", challenges, "--out", out, cwd=tmp_path)
        assert printed.startswith(f"{out}: 12 test inputs, 10 with a grid, 2 without any candidate; ")
        assert printed.endswith(f"{len(recording.records)} candidates, 2 of them without a grid\n")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()

    made = attempts(tmp_path / "a.json")
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
    votes = votes_of(recording.candidates, **recording.num_tests)
    ranking = rank(votes, RULES["count"])
    solutions = {task.id: [pair.output for pair in task.tests] for task in recording.tasks}
    submission = build_submission(recording.tasks, ranked_grids(votes, ranking, 2))
    score = score_submission(submission, solutions)  # type: ignore[arg-type]  # all outputs are known
    # The task whose winner is empty in the reference is right at the first attempt here.
    assert score.pass_at_1.mean_over_tasks == pytest.approx(recording.metrics["ARC/pass@1"] + 1 / 10)
    assert score.pass_at_2.mean_over_tasks == pytest.approx(recording.metrics["ARC/pass@2"])

    best_five = ranking.entries[ranking.places < 5]
    found = [
        {votes.grid(entry).tobytes() for entry in best_five if votes.tests[entry] == test}
        for test in range(sum(recording.num_tests.values()))
    ]
    outputs = iter(found)
    shares = [np.mean([out.tobytes() in next(outputs) for out in solved]) for solved in solutions.values()]
    assert np.mean(shares) == pytest.approx(recording.metrics["ARC/pass@5"])


def test_halt_adds_up_the_halt_probabilities() -> None:
    rows = [candidate([[1]], 0.25), candidate([[1]], 0.25), candidate([[2]], 0.75), candidate([[3]], 0.5)]
    # As much for 1 as for 3, but from two candidates.
    assert ranked(votes_of(rows), "halt") == [[[2]], [[1]], [[3]]]


def test_score_adds_up_how_sure_the_cells_are_whatever_the_size() -> None:
    rows = [
        candidate([[1]], log_probability=np.log(0.5)),
        candidate([[1]], log_probability=np.log(0.25)),
        candidate([[2] * 9] * 9, log_probability=np.log(0.9)),
        candidate([[3]], log_probability=np.log(0.8)),
    ]
    assert ranked(votes_of(rows), "score") == [[[2] * 9] * 9, [[3]], [[1]]]


def test_rank_gives_each_checkpoint_the_same_weight() -> None:
    first = [candidate([[cell]], checkpoint="a") for cell in (1, 1, 1, 1, 1, 2)]
    second = [candidate([[cell]], checkpoint="b") for cell in (2, 2, 3)]
    third = [candidate([[cell]], checkpoint="c") for cell in (2,)]
    votes = votes_of([*first, *second, *third])
    assert ranked(votes, "count")[0] == [[1]]
    # 1/2 + 1 + 1 for 2; 1 for 1; 1/2 for 3.
    assert ranked(votes, "rank") == [[[2]], [[1]], [[3]]]


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
    """The rule count as one would write it down."""
    halts: dict[tuple[int, bytes], list[float]] = {}
    for row in rows:
        if (row["task"], row["test_index"]) == (task, index) and row["width"]:
            halts.setdefault((row["width"], row["cells"]), []).append(
                float(np.float32(row["halt_probability"]))
            )
    return sorted(halts, key=lambda key: (-len(halts[key]), -np.cumsum(halts[key])[-1] / len(halts[key])))


@given(ROWS)
def test_count_is_what_a_plain_loop_finds(rows: list[dict[str, Any]]) -> None:
    votes = votes_of(rows, **NUM_TESTS)
    ranking = rank(votes, RULES["count"])
    tests = [(task, index) for task, count in NUM_TESTS.items() for index in range(count)]
    for number, (task, index) in enumerate(tests):
        entries = [entry for entry in ranking.entries if votes.tests[entry] == number]
        found = [(int(votes.widths[entry]), votes.grid(entry).tobytes()) for entry in entries]
        assert found == plain_count(rows, task, index)


@given(ROWS, st.sampled_from(sorted(RULES)))
def test_each_rule_ranks_each_grid_once(rows: list[dict[str, Any]], rule: str) -> None:
    votes = votes_of(rows, **NUM_TESTS)
    ranking = rank(votes, RULES[rule])
    assert sorted(ranking.entries) == list(range(len(votes.tests)))
    tasks = [Task(name, (), (Pair(array([[0]]), None),) * count) for name, count in NUM_TESTS.items()]
    best = ranked_grids(votes, ranking, 2)
    submission = build_submission(tasks, best)
    for task in tasks:
        for index, (first, second) in enumerate(submission.attempts[task.id]):
            given_grids = {
                (row["width"], row["cells"])
                for row in rows
                if (row["task"], row["test_index"]) == (task.id, index) and row["width"]
            }
            chosen = {(grid.shape[1], grid.tobytes()) for grid in (first, second)}
            assert len(chosen) == max(1, min(2, len(given_grids)))
            assert chosen <= (given_grids or {(1, b"\0")})


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
        ranking, expected = rank(cut, rule), rank(one, rule)
        np.testing.assert_array_equal(ranking.entries, expected.entries)
    for entry in range(len(one.tests)):
        np.testing.assert_array_equal(cut.grid(entry), one.grid(entry))
    assert cut.summary() == one.summary()
