"""`arcpipe vote` as a user meets it: rules, comparisons, boards, and what it refuses."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from arcpipe.augment.puzzles import SudokuSettings, build_sudoku
from arcpipe.infer.vote import RULES
from arcpipe.puzzleset import read_puzzle_set, read_test_outputs
from arcpipe.runs import make_manifest, read_manifest, write_json
from arcpipe.task import Pair, Task, challenges_json, solutions_json
from candidates import candidate, table, write_folder
from commands import fail_here, succeed_here

ONE = np.array([[1]], np.uint8)
CHALLENGES = ("--challenges", "challenges.json")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with challenges.json and solutions.json of the tasks t, of two tests, and u."""
    pair = Pair(ONE, ONE)
    tasks = [Task("t", (pair,), (pair, pair)), Task("u", (pair,), (pair,))]
    write_json(tmp_path / "challenges.json", challenges_json(tasks))
    write_json(tmp_path / "solutions.json", solutions_json(tasks))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def submitted(file: Path) -> Any:
    content = json.loads(file.read_bytes())
    return {task: [[e["attempt_1"], e["attempt_2"]] for e in entries] for task, entries in content.items()}


def vote(*arguments: object) -> str:
    return succeed_here("vote", *arguments)


def test_each_rule_submits_its_own_best_two(work: Path) -> None:
    rows = [
        candidate([[2]], 0.1, log_probability=-3.0), candidate([[2]], 0.1, log_probability=-3.0),
        candidate([[3]], 0.9, log_probability=-2.0),
        candidate([[4]], 0.3, log_probability=-0.1, checkpoint="d"),
        candidate([[4]], 0.0, task="v"), candidate(None, task="u"),
    ]  # fmt: skip
    write_folder(work / "p", [table(rows)])
    best = {"count": [2, 3], "halt": [3, 4], "score": [4, 3], "rank": [2, 4]}
    for rule in RULES:
        printed = vote("p", *CHALLENGES, "--rule", rule, "--out", f"{rule}.json")
        assert printed == (
            f"{rule}.json: 3 test inputs, 1 with a grid, 1 without any candidate; 5 candidates, 1 of them "
            "without a grid; ignored those for 1 other test inputs\n"
        )
        none = [[[0]], [[0]]]
        first, second = best[rule]
        assert submitted(work / f"{rule}.json") == {"t": [[[[first]], [[second]]], none], "u": [none]}


def test_several_folders_vote_together_in_the_order_given(work: Path) -> None:
    write_folder(work / "p", [table([candidate([[2]]), candidate([[3]], test_index=1)])])
    write_folder(work / "q", [table([candidate([[5]]), candidate([[4]], test_index=1)] * 2)])
    vote("p", "q", *CHALLENGES, "--out", "pq.json")
    vote("q", "p", *CHALLENGES, "--out", "qp.json")
    assert submitted(work / "pq.json") == submitted(work / "qp.json")
    assert submitted(work / "pq.json")["t"] == [[[[5]], [[2]]], [[[4]], [[3]]]]
    write_folder(work / "r", [table([candidate([[7]]), candidate([[7]])])])
    vote("q", "r", *CHALLENGES, "--out", "qr.json")
    vote("r", "q", *CHALLENGES, "--out", "rq.json")
    assert submitted(work / "qr.json")["t"][0] == [[[5]], [[7]]]
    assert submitted(work / "rq.json")["t"][0] == [[[7]], [[5]]]


def test_compare_scores_every_rule(work: Path) -> None:
    write_folder(work / "p", [table([candidate([[2]]), candidate([[1]]), candidate([[1]], task="u")])])
    arguments = ("p", *CHALLENGES, "--compare", "solutions.json")
    text = vote(*arguments, "--out", "a.json")
    assert "\n\n2 tasks, 3 test outputs; in brackets 95% intervals" in text
    assert "\n1 of them without a candidate, which counts as wrong\n" in text
    document = json.loads(vote(*arguments, "--rule", "halt", "--out", "b.json", "--json"))
    assert (document["out"], document["rule"], document["candidates"]) == ("b.json", "halt", 3)
    compared = document["comparison"]
    assert set(compared["rules"]) == set(RULES)
    count = compared["rules"]["count"]
    assert count["pass_at_1"]["tasks"]["value"] == 0.5
    assert count["pass_at_2"]["tasks"] == {"value": 0.75, "low": 0.5, "high": 1.0}
    assert list(count["pass_at_2"]) == ["tasks", "outputs"]
    assert compared["curve"]["count"] == pytest.approx([1 / 3, 2 / 3])
    assert compared["curve_over_tasks"]["count"] == pytest.approx([1 / 2, 3 / 4])
    assert json.loads(vote(*arguments, "--out", "c.json", "--json"))["comparison"] == compared
    score = json.loads(succeed_here("score", "a.json", "solutions.json", "--json", "--no-ledger"))
    assert score["pass_at_2"]["mean_over_tasks"] == 0.75


def test_the_dataset_folder_stands_for_its_challenges(mini: Any, work: Path) -> None:
    vote(mini.folder / "predictions", "--challenges", mini.folder / "data", "--out", "a.json")
    assert (work / "a.json").read_bytes() == (mini.folder / "submission.json").read_bytes()


def test_sudokus_get_one_answer_each(work: Path) -> None:
    build_sudoku(SudokuSettings(generate=2, test=3, side=4, num_aug=0), work / "data")
    outputs = read_test_outputs(work / "data")
    assert outputs is not None
    rows = [candidate(outputs.cells[test], task="sudoku", test_index=test) for test in (0, 2)]
    write_folder(work / "p", [table(rows)])
    printed = vote("p", "--challenges", "data", "--out", "answers.csv")
    assert printed == (
        "answers.csv: 3 test inputs, 2 with a grid, 1 without any candidate; 2 candidates, 0 of them without "
        "a grid\nexact accuracy 66.67%, cell accuracy 66.67%, valid 66.67%; "
        "what is not answered counts as wrong\n"
    )
    with Path("answers.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    first = read_puzzle_set(work / "data").test_inputs.cells[0].ravel()
    assert written[0]["question"] == "".join(".1234"[cell] for cell in first)
    assert [row["answer"] for row in written] == [
        "".join(map(str, outputs.cells[0].ravel())), "", "".join(map(str, outputs.cells[2].ravel())),
    ]  # fmt: skip
    document = json.loads(vote("p", "--challenges", "data", "--out", "b.csv", "--json"))
    assert document["exact_accuracy"] == pytest.approx(2 / 3)

    said = fail_here("vote", "p", "--challenges", "data", "--out", "c.csv", "--compare", "solutions.json")
    assert said == "--compare solutions.json: is for ARC tasks; data knows its own answers"
    manifest = read_manifest(work / "p", "predictions") | {"dataset": "of others", "data": "runs/other"}
    write_json(work / "p" / "manifest.json", manifest)
    said = fail_here("vote", "p", "--challenges", "data", "--out", "c.csv")
    assert said == "p: made for another dataset, runs/other; its boards are others"
    assert not Path("c.csv").exists()


def test_no_candidate_at_all_leaves_a_complete_submission(work: Path) -> None:
    write_folder(work / "p", [])
    printed = vote("p", *CHALLENGES, "--out", "a.json", "--compare", "solutions.json")
    assert printed.startswith("a.json: 3 test inputs, 0 with a grid, 3 without any candidate; 0 candidates, ")
    assert printed.endswith("\nno score, no test input has a candidate\n")
    none = [[[0]], [[0]]]
    assert submitted(work / "a.json") == {"t": [none, none], "u": [none]}
    build_sudoku(SudokuSettings(generate=2, test=3, side=4, num_aug=0), work / "data")
    printed = vote("p", "--challenges", "data", "--out", "a.csv")
    assert printed.endswith("without a grid\nno score, no test input has an answer\n")


def test_a_bare_table_of_others_can_be_merged(work: Path) -> None:
    rows = table([candidate([[4]], test_index=1), candidate([[4]], test_index=1)])
    parquet.write_table(rows.drop_columns(["order"]), work / "theirs.parquet")
    write_folder(work / "p", [table([candidate([[5]], test_index=1)])])
    vote("p", "theirs.parquet", *CHALLENGES, "--out", "a.json")
    assert submitted(work / "a.json")["t"][1] == [[[4]], [[5]]]


EXPECTED = "expected a predictions folder or a Parquet file of predictions, found"
EXPECTED_CHALLENGES = "expected a challenges file or a dataset folder, found"
TWICE = "given twice, its candidates would count twice"
ANOTHER_SET = "no candidate is for a task of challenges.json: are these predictions of another set?"
REFUSED = {
    "p p": f"p: {TWICE}",
    "p link": f"link: {TWICE}",
    "p p/../p": f"p/../p: {TWICE}",
    "p p/shards/part-0000000000-rank0.parquet": f"p/shards/part-0000000000-rank0.parquet: {TWICE}",
    "other-task": ANOTHER_SET,
    "other-test": ANOTHER_SET,
    "submission.json": f"submission.json: {EXPECTED} a submission",
    "solutions.json": f"solutions.json: {EXPECTED} a solutions file",
    "challenges.json": f"challenges.json: {EXPECTED} a challenges file",
    "task.json": f"task.json: {EXPECTED} the file of one task",
    "list.json": f"list.json: {EXPECTED} another JSON file",
    "dataset": "dataset: expected a predictions folder, found a dataset folder",
    "checkpoint": "checkpoint: expected a predictions folder, found a checkpoint folder",
    "p --challenges submission.json": f"submission.json: {EXPECTED_CHALLENGES} a submission",
    "p --challenges solutions.json": f"solutions.json: {EXPECTED_CHALLENGES} a solutions file",
    "p --challenges task.json": f"task.json: {EXPECTED_CHALLENGES} the file of one task",
    "p --challenges p": "p: expected a dataset folder, found a predictions folder",
    "large": "large: a candidate has a side of 40, those of ARC have up to 30",
    "p --compare other.json": "other.json: task t: 1 outputs for 2 test inputs",
    "damaged": "damaged/shards/part-0000000002-rank1.parquet: not a whole Parquet file",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_voted_on_is_refused_before_anything_is_written(work: Path, words: str) -> None:
    write_folder(work / "p", [table([candidate([[1]])])])
    (work / "link").symlink_to(work / "p")
    write_folder(work / "other-task", [table([candidate([[1]], task="w")])])
    write_folder(work / "other-test", [table([candidate([[1]], test_index=2)])])
    write_folder(work / "large", [table([candidate(np.ones((40, 2)))])])
    rows = table([candidate([[1]]), candidate([[2]]), candidate([[3]])])
    write_folder(work / "damaged", [rows.slice(0, 2), rows.slice(2)])
    shard = work / "damaged" / "shards" / "part-0000000002-rank1.parquet"
    shard.write_bytes(shard.read_bytes()[:-20])
    for kind in ("dataset", "checkpoint"):
        write_json(work / kind / "manifest.json", make_manifest(kind))
    attempts = {"attempt_1": [[1]], "attempt_2": [[2]]}
    files = {
        "submission": {"t": [attempts, attempts], "u": [attempts]}, "list": [1],
        "task": {"train": [{"input": [[1]], "output": [[1]]}], "test": [{"input": [[1]]}]},
        "other": {"t": [[[1]]], "u": [[[1]]]},
    }  # fmt: skip
    for name, content in files.items():
        write_json(work / f"{name}.json", content)
    challenges = () if "--challenges" in words else CHALLENGES
    said = fail_here("vote", *words.split(), *challenges, "--out", "a.json")
    assert said.startswith(REFUSED[words])
    assert not Path("a.json").exists()
