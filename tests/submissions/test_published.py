"""Results as others publish them are scored, compared, merged and shown like submissions of arcpipe."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from arcpipe.runs import write_json
from commands import run_here, succeed_here
from reports import make_set, make_tasks

SOLVED = {"one": "1/1", "two": "1/2"}


def folder_of(path: Path) -> Path:
    """`one` right at the second attempt, after a failure; `two` right at its second test, which is first."""

    def answer(grid: object, test: int = 0) -> dict[str, Any]:
        return {"answer": grid, "metadata": {"model": "m", "pair_index": test}}

    tasks = {
        "one": [{"attempt_1": None, "attempt_2": answer([[1, 2]])}],
        "two": [
            {"attempt_1": answer("[[5]]", 1), "attempt_2": answer([[5, 5], [5]], 1)},
            {"attempt_1": answer("I cannot see it."), "attempt_2": answer([])},
        ],
        "results": {"score": 1.5},
    }
    for name, entries in tasks.items():
        write_json(path / f"{name}.json", entries)
    return path


def table_of(path: Path) -> Path:
    rows = ["two_1,|5|", "one_0,|1|1| |12| |9| ", "two_0,"]
    path.write_text("\n".join(["output_id,output", *rows]))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "model")


def test_a_folder_of_the_foundation_is_scored(folder: Path, solutions: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    words = ("score", folder, solutions, "--json", "--ledger", ledger)
    done = run_here(*words)
    assert f"{folder}: 4 attempts hold no grid and count as wrong\n" in done.stderr
    score = orjson.loads(done.stdout)
    assert {task: f"{one['solved']}/{one['tests']}" for task, one in score["tasks"].items()} == SOLVED
    assert (score["num_answered"], score["pass_at_1"]["solved_outputs"]) == (2, 1)
    assert score["tasks"]["two"]["outputs"][1]["attempt_1_correct"] is True
    [entry] = orjson.loads(succeed_here("submissions", "list", "--json", "--ledger", ledger))
    assert entry["files"] == [str(folder)]
    assert entry["sha256"][:8] in succeed_here("submissions", "show", folder, "--ledger", ledger)


@pytest.mark.parametrize(
    ("numbers", "solved"), [((0, 1), 2), ((1, 0), 0), ((0, 0), 2), ((None, None), 2), ((7000, 1), 2)]
)
def test_pair_index_says_which_test_output_it_is_where_it_says_anything(
    solutions: Path, tmp_path: Path, numbers: tuple[int | None, int | None], solved: int
) -> None:
    answers = zip(([[3], [4]], [[5]]), numbers, strict=True)
    entries = [
        {"attempt_1": {"answer": grid, "metadata": {"pair_index": number}}} for grid, number in answers
    ]
    write_json(tmp_path / "model" / "two.json", entries)
    score = succeed_here("score", tmp_path / "model", solutions, "--json", "--no-ledger")
    assert orjson.loads(score)["pass_at_2"]["solved_outputs"] == solved


def test_an_old_table_and_null_attempts_are_scored(solutions: Path, challenges: Path, tmp_path: Path) -> None:
    table = table_of(tmp_path / "old.csv")
    done = run_here("score", table, solutions, "--json", "--no-ledger")
    assert "1 outputs have more" in done.stderr
    score = orjson.loads(done.stdout)
    assert (score["pass_at_2"]["solved_outputs"], score["num_answered"]) == (2, 2)
    assert score["pass_at_1"]["solved_outputs"] == 1
    # No attempt is right because it failed.
    write_json(tmp_path / "zero.json", {"one": [[[0]]]})
    for second, solved in (([[0]], 1), (None, 0)):
        write_json(tmp_path / "nulls.json", {"one": [{"attempt_1": None, "attempt_2": second}]})
        words = ("score", tmp_path / "nulls.json", tmp_path / "zero.json", "--json", "--no-ledger")
        assert orjson.loads(succeed_here(*words))["pass_at_2"]["solved_outputs"] == solved
    # Kaggle takes no null.
    checked = run_here("check", tmp_path / "nulls.json", "--challenges", challenges)
    assert checked.returncode == 2
    assert "task one, test[0].attempt_1: expected a list of rows, found null" in checked.stderr


def test_they_are_compared_and_merged_with_ours(
    folder: Path, content: dict[str, Any], file: Path, solutions: Path, challenges: Path, tmp_path: Path
) -> None:
    file.write_bytes(orjson.dumps({"two": content["two"]}))
    table = table_of(tmp_path / "old.csv")
    text = succeed_here("score", file, solutions, "--with", folder, "--with", table, "--no-ledger")
    assert f"{folder} against {file}\n" in text
    out = tmp_path / "merged.json"
    succeed_here("merge", folder, table, file, "--challenges", challenges, "--out", out)
    assert orjson.loads(out.read_bytes()) == {
        "one": [{"attempt_1": [[1, 2]], "attempt_2": [[1], [1]]}],
        "two": [content["two"][0], {"attempt_1": [[5]], "attempt_2": [[9]]}],
    }


def test_a_report_shows_the_attempts_that_there_are(quickstart: Path, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    tasks = make_tasks(12)
    files = make_set(tmp_path / "set", tasks)
    for name, pairs in orjson.loads(files["submission"].read_bytes()).items():
        entries = [{"attempt_1": {"answer": pair["attempt_1"]}, "attempt_2": None} for pair in pairs]
        write_json(tmp_path / "model" / f"{name}.json", entries)
    out = tmp_path / "report.html"
    succeed_here("report", quickstart, "--submission", tmp_path / "model", "--out", out)
    page = out.read_text("utf-8").partition('<script id="data" type="application/json">')[2]
    document = orjson.loads(page.partition("</script>")[0])
    assert {len(test["attempts"]) for task in document["tasks"] for test in task["tests"]} <= {0, 1}
    assert document["tiles"][0][1] == "16.7%"
