"""`arcpipe report`: what it finds, what the page holds, and what it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from arcpipe.augment.puzzles import MazeSettings, SudokuSettings, build_maze, build_sudoku
from arcpipe.puzzleset import read_puzzle_set, read_test_outputs
from arcpipe.runs import make_manifest, write_json
from arcpipe.submissions.report_sources import find_sources
from candidates import candidate, table, write_folder
from commands import run_here
from reports import KINDS, STEPS, make_run, make_set, make_tasks, spoiled

TASKS = 12


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a quickstart, made up."""
    folder = tmp_path_factory.mktemp("made") / "quickstart-seed7"
    data = folder / "data"
    data.mkdir(parents=True)
    files = make_set(data, make_tasks(TASKS))
    write_json(data / "manifest.json", make_manifest("dataset", family="arc", fingerprint="f"))
    write_json(folder / "manifest.json", make_manifest("quickstart"))
    files["submission"].rename(folder / "submission.json")
    make_run(folder / "run")
    shard = files["predictions"]
    predictions = folder / "predictions"
    (predictions / "shards").mkdir(parents=True)
    write_json(predictions / "manifest.json", make_manifest("predictions"))
    shard.rename(predictions / "shards" / "part-0000000000-rank0.parquet")
    return folder


def report(*arguments: object) -> str:
    """What `arcpipe report` says; it must end well."""
    done = run_here("report", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(*arguments: object) -> str:
    """The one line with which `arcpipe report` refuses."""
    done = run_here("report", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("arcpipe: ")
    assert done.stderr.count("\n") == 1
    return done.stderr.removeprefix("arcpipe: ").rstrip("\n")


def data_of(page: Path) -> dict[str, Any]:
    """What the script of a page reads."""
    text = page.read_text("utf-8")
    data = text.partition('<script id="data" type="application/json">')[2].partition("</script>")[0]
    found: dict[str, Any] = orjson.loads(data)
    return found


def test_everything_of_a_quickstart_is_found(quickstart: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    said = report(quickstart, "--out", out)
    assert said.startswith(f"{out}: {TASKS} tasks, 6 charts, ")
    page = data_of(out)
    assert (page["title"], page["notes"]) == ("quickstart-seed7", [])
    assert [tile[0] for tile in page["tiles"]] == [
        "pass@2", "pass@1", "mean over test outputs, pass@2", "oracle, no score",
    ]  # fmt: skip
    # Task by task 2 of 12 are solved, and the right outputs of 4 found.
    assert [tile[1] for tile in page["tiles"]] == ["16.7%", "16.7%", "14.3%", "33.3%"]
    assert page["tiles"][0][2].startswith("mean over tasks (Kaggle, ARC Prize), 95% interval ")
    assert page["tiles"][2][2] == "2 of 14 test outputs"
    assert page["tiles"][3][2] == "mean over tasks; 4 of 14 right outputs are among the candidates"
    assert [task["id"] for task in page["tasks"]] == [f"task-{number:04}" for number in range(TASKS)]
    assert sum(part["outputs"] for part in page["parts"]["longest side"]) == 14
    assert page["recipe"] == {"train": {"lr": 1e-4}}


def test_the_page_lies_in_the_run_unless_it_is_told_otherwise(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert report(run).startswith(f"{run}/report.html: 0 tasks, 6 charts, ")
    text = (run / "report.html").read_text("utf-8")
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    assert "@style@" not in text


def test_each_task_has_its_outcome(quickstart: Path, tmp_path: Path) -> None:
    report(quickstart, "--out", tmp_path / "report.html")
    for number, task in enumerate(data_of(tmp_path / "report.html")["tasks"]):
        kind = KINDS[number % len(KINDS)]
        for test in task["tests"]:
            assert test["outcome"] == {"outvoted": "cells"}.get(kind, kind)
            assert (test["rank"] is not None) == (kind in ("solved", "outvoted"))
            assert test["gridless"] == (6 if kind == "none" else 0)
            counted = sum(count for _, _, count, _ in test["ranked"])
            hidden = test["distinct"] - len(test["ranked"])
            assert test["candidates"] - test["gridless"] - counted >= hidden
            if kind in ("nearly", "cells"):
                assert test["wrong"] == {"nearly": 2, "cells": 6}[kind]


def test_the_page_tells_the_answer_step_by_step(quickstart: Path, tmp_path: Path) -> None:
    report(quickstart, "--out", tmp_path / "report.html")
    test = data_of(tmp_path / "report.html")["tasks"][0]["tests"][0]
    assert [(step, agreeing, total) for step, _, _, agreeing, total in test["moves"]] == [
        (step, 4, 7) for step in STEPS
    ]
    assert test["moves"][-1][1] == test["truth"]
    assert [halt for _, _, halt, _, _ in test["moves"]] == pytest.approx([0.3, 0.45, 0.9])


def test_a_run_alone_says_what_it_lacks(quickstart: Path, tmp_path: Path) -> None:
    report(quickstart / "run", "--out", tmp_path / "report.html")
    page = data_of(tmp_path / "report.html")
    assert page["tasks"] == []
    assert any("--challenges" in note for note in page["notes"])
    assert any("--predictions" in note for note in page["notes"])


def test_the_dataset_is_found_by_what_the_predictions_say(quickstart: Path, tmp_path: Path) -> None:
    """It must still be the one they were made for."""
    for fingerprint, found in (("f", quickstart / "data"), ("g", None)):
        folder = tmp_path / fingerprint
        folder.mkdir()
        write_json(
            folder / "manifest.json",
            make_manifest("predictions", data=str(quickstart / "data"), dataset=fingerprint),
        )
        assert find_sources(quickstart / "run", predictions=folder).data == found


def test_without_a_submission_the_attempts_are_the_best_candidates(quickstart: Path, tmp_path: Path) -> None:
    given = ["--predictions", quickstart / "predictions", "--challenges", quickstart / "data"]
    report(quickstart / "run", *given, "--out", tmp_path / "report.html")
    page = data_of(tmp_path / "report.html")
    assert any("a vote by count" in note for note in page["notes"])
    for task in page["tasks"]:
        for test in task["tests"]:
            assert test["attempts"] == [number for _, number, _, _ in test["ranked"][:2]]


def test_without_solutions_nothing_is_called_right(quickstart: Path, tmp_path: Path) -> None:
    challenges = tmp_path / "challenges.json"
    challenges.write_bytes((quickstart / "data" / "challenges.json").read_bytes())
    given = ["--predictions", quickstart / "predictions", "--challenges", challenges]
    report(quickstart / "run", *given, "--out", tmp_path / "report.html")
    page = data_of(tmp_path / "report.html")
    assert page["tiles"] == []
    assert {test["outcome"] for task in page["tasks"] for test in task["tests"]} == {"unknown", "none"}
    assert {test["truth"] for task in page["tasks"] for test in task["tests"]} == {None}


def test_figures_for_a_paper(quickstart: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        report(quickstart, "--out", tmp_path / f"{name}.html", "--figures", tmp_path / name)
    names = {path.name for path in (tmp_path / "one").iterdir()}
    stems = {
        "loss", "accuracy-in-training", "steps-to-halt", "learning-rate", "throughput", "evaluation",
        "outcomes", "examples",
    }  # fmt: skip
    assert names == {f"{stem}.{suffix}" for stem in stems for suffix in ("png", "svg")} | {"manifest.json"}
    for name in names - {"manifest.json"}:
        content = (tmp_path / "one" / name).read_bytes()
        assert content.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")
        assert content == (tmp_path / "two" / name).read_bytes()


def sudoku_predictions(folder: Path) -> tuple[Path, Path]:
    """A dataset of four Sudokus, and predictions: wrong in two cells, right, none, and right but outvoted."""
    data = folder / "data"
    build_sudoku(SudokuSettings(generate=3, test=4, side=4, num_aug=2, seed=1), data)
    puzzles, outputs = read_puzzle_set(data), read_test_outputs(data)
    assert outputs is not None
    truths = [outputs.grid(number) for number in range(4)]
    found = [
        (0, spoiled(truths[0], 2) % 4 + 1, 0),
        (1, truths[1], 0),
        (2, None, 0),
        (3, np.ones((4, 4), np.uint8), 0),
        (3, np.ones((4, 4), np.uint8), 1),
        (3, truths[3], 2),
    ]
    name = puzzles.table.task_ids[0]
    rows = [candidate(grid, task=name, test_index=test, variant=variant) for test, grid, variant in found]
    return data, write_folder(folder / "predictions", [table(rows)])


def test_sudokus_are_boards_and_wrong_ones_come_first(tmp_path: Path) -> None:
    data, predictions = sudoku_predictions(tmp_path)
    given = ["--predictions", predictions, "--challenges", data, "--figures", tmp_path / "figures"]
    assert ": 4 boards, " in report(make_run(tmp_path / "run"), *given)
    page = data_of(tmp_path / "run" / "report.html")
    assert (page["family"], page["box"]) == ("sudoku", [2, 2])
    assert [tile[:2] for tile in page["tiles"]][::2] == [
        ["solved exactly", "50.0%"],
        ["follow the rules", "50.0%"],
    ]
    outcomes = {task["id"]: task["tests"][0]["outcome"] for task in page["tasks"]}
    assert list(outcomes) == ["board-0", "board-2", "board-1", "board-3"]
    assert [outcomes[f"board-{number}"] for number in (1, 2, 3)] == ["solved", "none", "solved"]
    last = page["tasks"][-1]["tests"][0]
    # A board that breaks a rule never wins, however many ask for it.
    assert (last["rank"], last["attempts"]) == (1, [last["truth"]])


def maze_file(path: Path, *walls: str) -> str:
    """A file of mazes of side 4, those cells walls; the recorded path runs along the top, then down."""
    lines = ["question,answer"]
    for cells in walls:
        question, answer = list("S" + " " * 14 + "G"), list("Sooo   o   o   G")
        for cell in cells.split():
            question[int(cell)] = answer[int(cell)] = "#"
        lines.append(f"{''.join(question)},{''.join(answer)}")
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_another_shortest_path_is_said_to_be_one(tmp_path: Path) -> None:
    files = {
        "source": maze_file(tmp_path / "a.csv", "5"),
        "test_source": maze_file(tmp_path / "b.csv", "10", "6 9"),
    }
    data = tmp_path / "data"
    build_maze(MazeSettings(**files, num_aug=0), data)
    puzzles, outputs = read_puzzle_set(data), read_test_outputs(data)
    assert outputs is not None
    # The first maze is the same across its diagonal: down, then along the bottom is as short.
    found = [outputs.grid(0).T, outputs.grid(1)]
    name = puzzles.table.task_ids[0]
    rows = [candidate(grid, task=name, test_index=number) for number, grid in enumerate(found)]
    predictions = write_folder(tmp_path / "predictions", [table(rows)])
    report(make_run(tmp_path / "run"), "--predictions", predictions, "--challenges", data)
    page = data_of(tmp_path / "run" / "report.html")
    shares = [tile[:2] for tile in page["tiles"]]
    assert shares[::2] == [["solved exactly", "50.0%"], ["follow the rules", "100.0%"]]
    rules = {task["id"]: task["rule"] for task in page["tasks"]}
    assert rules == {"board-0": "another shortest path", "board-1": None}
    assert len(page["palette"]) == 5


def test_what_is_wrong_is_one_line(quickstart: Path, tmp_path: Path) -> None:
    out = ["--out", tmp_path / "new.html"]
    assert refused(tmp_path / "nowhere", *out) == f"{tmp_path}/nowhere: no such folder"
    assert "expected a run folder, found a dataset folder" in refused(quickstart / "data", *out)
    (tmp_path / "old.html").write_text("kept")
    assert "old.html exists already" in refused(quickstart, "--out", tmp_path / "old.html")
    assert "--figures folder" in refused(quickstart, *out, "--figures", tmp_path)
    assert "no such folder" in refused(quickstart, *out, "--predictions", tmp_path / "p")
    assert "no such file" in refused(quickstart, *out, "--submission", tmp_path / "s.json")
    assert "no such file" in refused(quickstart, *out, "--solutions", tmp_path / "s.json")
    assert "no such file" in refused(quickstart, *out, "--challenges", tmp_path / "c.json")
    empty = make_run(tmp_path / "empty")
    (empty / "metrics.jsonl").unlink()
    assert "nothing to report yet" in refused(empty, *out)
    assert (tmp_path / "old.html").read_text() == "kept"
    assert not (tmp_path / "new.html").exists()


def test_parts_of_another_set_are_refused(quickstart: Path, tmp_path: Path) -> None:
    renamed = [type(task)(f"x{task.id}", task.demonstrations, task.tests) for task in make_tasks(3)]
    files = make_set(tmp_path, renamed)
    out = ["--out", tmp_path / "new.html"]
    assert "another set" in refused(quickstart, *out, "--predictions", files["predictions"])
    assert "task-0000 has no solution" in refused(quickstart, *out, "--solutions", files["solutions"])
    assert "is not in the solutions" in refused(quickstart, *out, "--submission", files["submission"])
    data, predictions = sudoku_predictions(tmp_path / "boards")
    given = ["--predictions", predictions, "--challenges", data, "--submission", files["submission"]]
    assert "is for ARC tasks" in refused(quickstart / "run", *out, *given)
