"""Input that the commands on submissions refuse: one line says what is wrong, nothing is written."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from arcpipe.predictions import write_table
from arcpipe.submissions.ledger import add_fact
from arcpipe.task import Task, challenges_json, solutions_json
from candidates import candidate, table
from commands import assert_refused
from files import Files, lay_out
from reports import make_run, make_set, make_sudokus, make_tasks

WRONG = {"attempt_1": [[9]], "attempt_2": [[8]]}
# Entries of submission files that replace those of a right one.
SUBMISSIONS: dict[str, dict[str, Any]] = {
    "s": {}, "there": {}, "stranger": {"stranger": []}, "more": {"one": [WRONG, WRONG]}, "short": {"one": []},
    "half": {"one": [{"attempt_1": [[1]]}]}, "nulls": {"one": [{"attempt_1": None, "attempt_2": [[1, 2]]}]},
}  # fmt: skip
FACT = {"sha256": "ab", "time": "now"}
FILES: Files = {
    # Published results: of the task `one`, and tables.
    "lm-broken/one.json": {"train": [], "test": []}, "lm-more/one.json": [WRONG, WRONG], "list/": None,
    "empty.csv": "output_id,output\n", "torn.csv": "output_id,output\none_0,|1|\none_1,|1|2\n",
    "again.csv": "output_id,output\none_0,|1|\none_0,|2|\n", "gap.csv": "output_id,output\ntwo_1,|1|\n",
    "answers.csv": '"question","answer"\n"1.","12"\n',
    # Ledgers.
    "other.jsonl": [FACT | {"fact": "other"}], "list.jsonl": [FACT | {"fact": "file", "sha256": [1]}],
    "half.jsonl": [
        FACT | {"fact": "file", "file": "a"},
        FACT | {"fact": "score", "pass_at_2": {"mean_over_tasks": 1}},
    ],
    "word.jsonl": [FACT | {"fact": "kaggle", "reference": 1, "score": "much"}],
}  # fmt: skip
SCORE, MERGE = "score s.json solutions.json", "merge --challenges challenges.json --out merged.json"
REPORT = "report QUICKSTART --out new.html"
# Command lines, and parts of the error message.
REFUSED = {
    "score marked.json solutions.json": "marked.json: begins with a byte-order mark",
    "score stranger.json solutions.json": "stranger.json: task stranger is not in the solutions",
    "score more.json solutions.json": (
        "task one has 2 entries, the solutions 1|it answers a set of 2 tasks and 4 test outputs|"
        "the solutions are of a set of 2 tasks and 3 test outputs"
    ),
    "score short.json solutions.json": "task one has 0 entries, the solutions 1",
    f"{SCORE} --leave-out none": "--leave-out none: no task here, nor a file; near: one",
    f"{SCORE} --leave-out one --leave-out two": "--leave-out: no task is left to score",
    f"{SCORE} --corrections few.json": "--corrections: task one has no outputs of its tests",
    f"{SCORE} --per-task t.txt": "--per-task t.txt: the name should end in .csv",
    f"{SCORE} --challenges few.json": "few.json: task two of the solutions is not in it",
    f"{SCORE} --with s.json": "s.json: given twice",
    f"{SCORE} --candidates other.parquet": "no candidate is for a task of solutions.json",
    "score nulls.json solutions.json --with list": "list: holds neither predictions nor results",
    "score lm-broken solutions.json": "lm-broken/one.json: expected a list over test outputs of",
    "score lm-more solutions.json": "lm-more: task one has 2 entries, the solutions 1",
    "score boards solutions.json": "boards: a folder that arcpipe made: arcpipe vote makes a submission of",
    "score answers.csv data": "data: a dataset of sudoku boards, expected ARC tasks; arcpipe vote and",
    "score answers.csv solutions.json": "answers.csv: answers to Sudokus or mazes, expected a submission to",
    "check s.json --challenges data": "data: a dataset of sudoku boards, expected ARC tasks",
    "check s.json --challenges boards": "boards: expected a dataset folder, found a predictions folder",
    "augment arc --source data --out out": "data: a dataset of sudoku boards, expected ARC tasks",
    "score none.csv solutions.json": "none.csv: no such file",
    "score empty.csv solutions.json": "empty.csv: no row of output_id,output",
    "score torn.csv solutions.json": "torn.csv: line 3: expected output_id,output, such as 00576224_0,",
    "score again.csv solutions.json": "again.csv: line 3: one_0 stands there a second time",
    "score gap.csv solutions.json": "gap.csv: two_0 is missing",
    "score bytes.csv solutions.json": "bytes.csv: not a CSV file (",
    "score challenges.json solutions.json": "challenges.json: expected a submission, found a challenges file",
    f"{MERGE} none.json": "none.json: no such file",
    f"{MERGE} short.json": "short.json: task one has 0 entries, the challenges 1 test inputs",
    f"{MERGE} half.json": "half.json: task one, test[0]: attempt_2 is missing",
    f"{MERGE} s.json ./s.json": "s.json: given twice, it would count twice",
    f"{MERGE} s.json zero.json": "zero.json: no candidate for a task of the challenges",
    f"{MERGE} s.json --out there.json": "there.json exists already",
    "show l.jsonl": "l.jsonl: a ledger, which is shown by arcpipe submissions list --ledger l.jsonl",
    "submissions list --ledger none.jsonl": "none.jsonl: no ledger here",
    "submissions list --ledger other.jsonl": "other.jsonl: line 1 is no fact about a submission: remove it",
    "submissions list --ledger list.jsonl": "list.jsonl: line 1 is no fact about a submission: remove it",
    "submissions list --ledger half.jsonl": "half.jsonl: line 2 is no fact about a submission: remove it",
    "submissions list --ledger word.jsonl": "word.jsonl: line 1 is no fact about a submission: remove it",
    "submissions show 1111 --ledger l.jsonl": "1111: 2 submissions begin so (11111111, 11112222...)",
    "submissions show 111 --ledger l.jsonl": "111: give at least 4 characters of a hash, or a file",
    "submissions compare beef 1111 --ledger l.jsonl": "beef: not in l.jsonl: see arcpipe submissions list",
    "report nowhere": "nowhere: no such folder",
    "report QUICKSTART/data": "expected a run folder, found a dataset folder",
    "report QUICKSTART --out there.json": "there.json exists already",
    "report empty --out new.html": "nothing to report yet",
    f"{REPORT} --figures empty": "choose another --figures folder",
    f"{REPORT} --predictions none": "no such folder",
    f"{REPORT} --predictions tasks/predictions.parquet": "another set",
    f"{REPORT} --solutions tasks/solutions.json": "task-0000 has no solution",
    f"{REPORT} --submission tasks/submission.json": "is not in the solutions",
    f"{REPORT} --predictions boards --challenges data --submission s.json": "s.json: is for ARC tasks",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tasks: list[Task]) -> Path:
    """Right and wrong files of the set, files of another set and of boards, and a run without records."""
    folder = tmp_path_factory.mktemp("refused")
    outputs, inputs = solutions_json(tasks), challenges_json(tasks)
    right = {
        task: [{"attempt_1": grid, "attempt_2": [[9]]} for grid in grids] for task, grids in outputs.items()
    }
    files = {"challenges": inputs, "few": {"one": inputs["one"]}, "solutions": outputs, "zero": {}}
    files |= {name: right | changes for name, changes in SUBMISSIONS.items()}
    lay_out(FILES | {f"{name}.json": document for name, document in files.items()}, folder)
    (folder / "marked.json").write_bytes(b"\xef\xbb\xbf" + (folder / "s.json").read_bytes())
    (folder / "bytes.csv").write_bytes(b"output_id,output\none_0,\xff\n")
    write_table(folder / "other.parquet", table([candidate([[1]], task="elsewhere")]))
    for sha256 in ("1" * 64, "1111" + "2" * 60):
        add_fact(folder / "l.jsonl", sha256, "kaggle", reference="r", score=0.1)
    (folder / "tasks").mkdir()
    make_set(folder / "tasks", [replace(task, id=f"x{task.id}") for task in make_tasks(3)])
    make_sudokus(folder / "data", folder / "boards")
    make_run(folder / "empty", records=False)
    return folder


@pytest.mark.parametrize("command", REFUSED)
def test_one_line_says_what_is_wrong(
    command: str, folder: Path, quickstart: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert_refused(command, REFUSED[command], QUICKSTART=quickstart)
