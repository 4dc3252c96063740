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
from commands import fail, run_here, succeed

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
    done = run_here("vote", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(*arguments: object) -> str:
    done = run_here("vote", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("arcpipe: ")
    assert done.stderr.count("\n") == 1
    return done.stderr.removeprefix("arcpipe: ").rstrip("\n")


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
    score = json.loads(succeed("score", "a.json", "solutions.json", "--json", "--no-ledger", cwd=work))
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

    said = refused("p", "--challenges", "data", "--out", "c.csv", "--compare", "solutions.json")
    assert said == "--compare solutions.json: is for ARC tasks; data knows its own answers"
    manifest = read_manifest(work / "p", "predictions") | {"dataset": "of others", "data": "runs/other"}
    write_json(work / "p" / "manifest.json", manifest)
    said = refused("p", "--challenges", "data", "--out", "c.csv")
    assert said == "p: made for another dataset, runs/other; its boards are others"
    assert not Path("c.csv").exists()


def test_a_file_given_twice_is_refused(work: Path) -> None:
    write_folder(work / "p", [table([candidate([[1]])])])
    (work / "link").symlink_to(work / "p")
    shard = next((work / "p" / "shards").iterdir())
    for other in ("p", "link", "p/../p", shard):
        said = refused("p", other, *CHALLENGES, "--out", "a.json")
        assert said == f"{other}: given twice, its candidates would count twice"


def test_candidates_for_none_of_the_tasks_are_refused(work: Path) -> None:
    for number, row in enumerate((candidate([[1]], task="w"), candidate([[1]], test_index=2))):
        write_folder(work / f"p{number}", [table([row])])
        said = refused(f"p{number}", *CHALLENGES, "--out", "a.json")
        assert said == "no candidate is for a task of challenges.json: are these predictions of another set?"


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


def test_files_of_other_kinds_are_called_by_their_names(work: Path) -> None:
    write_folder(work / "p", [table([candidate([[1]])])])
    vote("p", *CHALLENGES, "--out", "submission.json")
    for kind in ("dataset", "checkpoint"):
        write_json(work / kind / "manifest.json", make_manifest(kind))
    task = {"train": [{"input": [[1]], "output": [[1]]}], "test": [{"input": [[1]]}]}
    for name, content in {"task.json": task, "list.json": [1]}.items():
        write_json(work / name, content)
    kinds = {
        "submission.json": "a submission", "solutions.json": "a solutions file",
        "task.json": "the file of one task", "challenges.json": "a challenges file",
        "list.json": "another JSON file",
    }  # fmt: skip
    expected = "expected a predictions folder or a Parquet file of predictions, found"
    for name, kind in kinds.items():
        assert refused(name, *CHALLENGES, "--out", "a.json") == f"{name}: {expected} {kind}"
    for name in ("dataset", "checkpoint"):
        said = refused(name, *CHALLENGES, "--out", "a.json")
        assert said == f"{name}: expected a predictions folder, found a {name} folder"
    expected = "expected a challenges file or a dataset folder, found"
    for name in ("submission.json", "solutions.json", "task.json"):
        said = refused("p", "--challenges", name, "--out", "a.json")
        assert said == f"{name}: {expected} {kinds[name]}"
    said = refused("p", "--challenges", "p", "--out", "a.json")
    assert said == "p: expected a dataset folder, found a predictions folder"
    assert not Path("a.json").exists()


def test_a_grid_that_no_arc_task_has_is_refused(work: Path) -> None:
    write_folder(work / "p", [table([candidate(np.ones((40, 2)))])])
    said = refused("p", *CHALLENGES, "--out", "a.json")
    assert said == "p: a candidate has a side of 40, those of ARC have up to 30"


def test_solutions_of_other_tasks_are_refused_before_anything_is_written(work: Path) -> None:
    write_folder(work / "p", [table([candidate([[1]])])])
    write_json(work / "other.json", {"t": [[[1]]], "u": [[[1]]]})
    said = refused("p", *CHALLENGES, "--out", "a.json", "--compare", "other.json")
    assert said == "other.json: task t: 1 outputs for 2 test inputs"
    assert not Path("a.json").exists()


def test_a_damaged_shard_is_named(work: Path) -> None:
    rows = table([candidate([[1]]), candidate([[2]]), candidate([[3]])])
    folder = write_folder(work / "p", [rows.slice(0, 2), rows.slice(2)])
    shard = sorted((folder / "shards").iterdir())[1]
    shard.write_bytes(shard.read_bytes()[:-20])
    assert fail("vote", "p", *CHALLENGES, "--out", "a.json", cwd=work).startswith(f"p/shards/{shard.name}: ")
    assert not (work / "a.json").exists()


def test_a_bare_table_of_others_can_be_merged(work: Path) -> None:
    rows = table([candidate([[4]], test_index=1), candidate([[4]], test_index=1)])
    parquet.write_table(rows.drop_columns(["order"]), work / "theirs.parquet")
    write_folder(work / "p", [table([candidate([[5]], test_index=1)])])
    vote("p", "theirs.parquet", *CHALLENGES, "--out", "a.json")
    assert submitted(work / "a.json")["t"][1] == [[[4]], [[5]]]
