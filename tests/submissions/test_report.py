"""`arcpipe report`: the sources that it finds, and the content of the page."""

from pathlib import Path
from typing import Any

import orjson
import pandas as pd
import pytest

from arcpipe.augment.maze import MazeSettings, build_maze
from arcpipe.errors import DataError
from arcpipe.puzzleset import read_puzzle_set, read_test_outputs
from arcpipe.runs import make_manifest, write_json
from arcpipe.submissions.report import find_sources
from arcpipe.submissions.results import charts, read_metrics, read_moves
from candidates import candidate, table, write_folder
from commands import fail_here, succeed_here
from reports import KINDS, STEPS, data_of, make_run, make_sudokus


@pytest.fixture(scope="module")
def made(quickstart: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page of the quickstart and its figures."""
    folder = tmp_path_factory.mktemp("report")
    out = folder / "report.html"
    words = ("report", quickstart, "--out", out, "--figures", folder / "figures")
    assert succeed_here(*words).startswith(f"{out}: 12 tasks, 6 charts, ")
    return folder


@pytest.fixture(scope="module")
def page(made: Path) -> dict[str, Any]:
    """The data of the page."""
    text = (made / "report.html").read_text("utf-8")
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    assert "@style@" not in text
    return data_of(made / "report.html")


def test_everything_of_a_quickstart_is_found(page: dict[str, Any]) -> None:
    assert (page["title"], page["notes"]) == ("quickstart-seed7", [])
    # 2 of 12 tasks are solved, and the right outputs of 4 are among the candidates.
    assert [tile[:2] for tile in page["tiles"]] == [
        ["pass@2", "16.7%"], ["pass@1", "16.7%"], ["mean over test outputs, pass@2", "14.3%"],
        ["oracle, no score", "33.3%"],
    ]  # fmt: skip
    assert page["tiles"][0][2].startswith("mean over tasks (Kaggle, ARC Prize), 95% interval ")
    assert page["tiles"][2][2] == ("2 of 14 test outputs; 11 are answered, the others count as wrong")
    assert page["tiles"][3][2] == "mean over tasks; 4 of 14 right outputs are among the candidates"
    assert [task["id"] for task in page["tasks"]] == [f"task-{number:04}" for number in range(12)]
    assert sum(part["outputs"] for part in page["parts"]["longest side"]) == 14
    assert page["recipe"] == {"train": {"lr": 1e-4}}


def test_each_task_has_its_outcome_its_votes_and_its_moves(page: dict[str, Any]) -> None:
    for number, task in enumerate(page["tasks"]):
        kind = KINDS[number % len(KINDS)]
        for test in task["tests"]:
            assert test["outcome"] == {"outvoted": "cells"}.get(kind, kind)
            is_found = test["truth"] in [grid for _, grid, _, _ in test["ranked"]]
            assert is_found == (kind in ("solved", "outvoted"))
            assert test["gridless"] == (6 if kind == "none" else 0)
            counted = sum(count for _, _, count, _ in test["ranked"])
            hidden = test["distinct"] - len(test["ranked"])
            assert test["candidates"] - test["gridless"] - counted >= hidden
            if kind in ("nearly", "cells"):
                assert test["wrong"] == {"nearly": 2, "cells": 6}[kind]
    assert page["tie"] == 2
    test = page["tasks"][0]["tests"][0]
    assert [(step, agreeing, total) for step, _, _, agreeing, total in test["moves"]] == [
        (step, 4, 7) for step in STEPS
    ]
    assert test["moves"][-1][1] == test["truth"]
    assert [halt for _, _, halt, _, _ in test["moves"]] == pytest.approx([0.3, 0.45, 0.9])


def test_a_part_that_is_missing_is_said_to_be(quickstart: Path, tmp_path: Path) -> None:
    challenges = tmp_path / "challenges.json"
    challenges.write_bytes((quickstart / "data" / "challenges.json").read_bytes())
    predictions = ["--predictions", quickstart / "predictions"]

    def page(*given: object) -> dict[str, Any]:
        run = make_run(tmp_path / f"run{len(given)}{given[-1:] == (challenges,)}", records=not given)
        succeed_here("report", run, *given)
        return data_of(run / "report.html")

    alone = page()
    assert alone["tasks"] == []
    assert any("--challenges" in note for note in alone["notes"])
    assert any("--predictions" in note for note in alone["notes"])

    # Without a submission the attempts are the best candidates.
    voted = page(*predictions, "--challenges", quickstart / "data")
    assert any("a vote by count" in note for note in voted["notes"])
    for test in (test for task in voted["tasks"] for test in task["tests"]):
        assert test["attempts"] == [grid for _, grid, _, _ in test["ranked"][:2]]

    # Without solutions the page calls nothing right.
    hidden = page(*predictions, "--challenges", challenges)
    tests = [test for task in hidden["tasks"] for test in task["tests"]]
    assert (hidden["tiles"], {test["truth"] for test in tests}) == ([], {None})
    assert {test["outcome"] for test in tests} == {"unknown", "none"}


def test_the_dataset_is_found_by_what_the_predictions_say(quickstart: Path, tmp_path: Path) -> None:
    """It must have the fingerprint that the predictions name."""
    for fingerprint, found in (("f", quickstart / "data"), ("g", None)):
        manifest = make_manifest("predictions", data=str(quickstart / "data"), dataset=fingerprint)
        write_json(tmp_path / fingerprint / "manifest.json", manifest)
        assert find_sources(quickstart / "run", predictions=tmp_path / fingerprint).data == found


def test_figures_for_a_paper_are_the_same_each_time(made: Path, quickstart: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", records=False)
    words = (
        "report", run, "--predictions", quickstart / "predictions", "--challenges", quickstart / "data",
        "--submission", quickstart / "submission.json", "--figures", tmp_path / "figures",
    )  # fmt: skip
    # --overwrite replaces a folder of figures, never another folder.
    (tmp_path / "figures").mkdir()
    assert fail_here(*words, "--overwrite").startswith(
        f"{tmp_path / 'figures'} exists already: choose another"
    )
    write_json(tmp_path / "figures" / "manifest.json", make_manifest("figures"))
    (tmp_path / "figures" / "old.png").touch()
    assert fail_here(*words).endswith("choose another --figures folder or --overwrite it")
    succeed_here(*words, "--overwrite")
    names, fewer = ({path.name for path in (of / "figures").iterdir()} for of in (made, tmp_path))
    stems = {
        "loss", "accuracy-in-training", "steps-to-halt", "learning-rate", "throughput", "evaluation",
        "outcomes", "examples",
    }  # fmt: skip
    assert names == {f"{stem}.{suffix}" for stem in stems for suffix in ("png", "svg")} | {"manifest.json"}
    # A run without records has no curves.
    assert {name.partition(".")[0] for name in fewer} == {"outcomes", "examples", "manifest"}
    for name in names - {"manifest.json"}:
        content = (made / "figures" / name).read_bytes()
        assert content.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")
        assert name not in fewer or content == (tmp_path / "figures" / name).read_bytes()


def test_sudokus_are_boards_and_wrong_ones_come_first(tmp_path: Path) -> None:
    data, predictions = tmp_path / "data", tmp_path / "predictions"
    make_sudokus(data, predictions)
    given = ["--predictions", predictions, "--challenges", data, "--figures", tmp_path / "figures"]
    assert ": 4 boards, " in succeed_here("report", make_run(tmp_path / "run", records=False), *given)
    page = data_of(tmp_path / "run" / "report.html")
    assert (page["family"], page["box"]) == ("sudoku", [2, 2])
    shares = [tile[:2] for tile in page["tiles"]][::2]
    # One of the four has no answer.
    assert shares == [["solved exactly", "66.7%"], ["follow the rules", "66.7%"]]
    assert page["tiles"][0][2] == "2 of 3 answered boards, of 4"
    outcomes = {task["id"]: task["tests"][0]["outcome"] for task in page["tasks"]}
    assert list(outcomes) == ["board-0", "board-2", "board-1", "board-3"]
    assert [outcomes[f"board-{number}"] for number in (1, 2, 3)] == ["solved", "none", "solved"]
    last = page["tasks"][-1]["tests"][0]
    # A board that breaks a rule never wins, however many votes it has.
    assert (last["ranked"][1][1], last["attempts"]) == (last["truth"], [last["truth"]])


def maze_file(path: Path, *walls: str) -> str:
    """A file of 4 x 4 mazes with these walls; the recorded path runs along the top, then down."""
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
    # The first maze is symmetric: the path down, then along the bottom, is as short.
    found = [outputs.grid(0).T, outputs.grid(1)]
    name = puzzles.table.task_ids[0]
    rows = [candidate(grid, task=name, test_index=number) for number, grid in enumerate(found)]
    predictions = write_folder(tmp_path / "predictions", [table(rows)])
    run = make_run(tmp_path / "run", records=False)
    succeed_here("report", run, "--predictions", predictions, "--challenges", data)
    page = data_of(run / "report.html")
    shares = [tile[:2] for tile in page["tiles"]]
    assert shares[::2] == [["solved exactly", "50.0%"], ["follow the rules", "100.0%"]]
    rules = {task["id"]: task["rule"] for task in page["tasks"]}
    assert rules == {"board-0": "another shortest path", "board-1": None}
    assert len(page["palette"]) == 5


def test_moves_are_those_of_the_first_way_that_tells() -> None:
    """Ways with a single step have no moves; each test input has its own first way."""
    rows = [
        candidate([[9]], steps=4, dihedral=1),
        candidate([[1]], 0.1, steps=2),
        candidate([[2]], 0.7, steps=4),
        candidate([[1]], steps=2, rollout=1),
        candidate([[3]], steps=4, rollout=1),
        candidate(None, 0.2, steps=2, test_index=1),
        candidate([[5, 5]], 0.3, steps=4, test_index=1),
        candidate([[7]], steps=2, task="other"),
        candidate([[7]], steps=4, task="other"),
    ]
    expected = {
        ("t", 0): [(2, [[1]], 2, 2), (4, [[2]], 1, 3)],
        ("t", 1): [(2, None, 1, 1), (4, [[5, 5]], 1, 1)],
    }
    whole, tests = table(rows), [("t", 0), ("t", 1), ("u", 0)]
    for tables in ([whole], [whole.slice(start, 2) for start in range(0, len(rows), 2)]):
        found = read_moves(tables, tests)
        assert found.keys() == expected.keys()
        for test, moves in expected.items():
            for move, (step, cells, *votes) in zip(found[test], moves, strict=True):
                assert [move.step, move.agreeing, move.total] == [step, *votes]
                assert (None if move.grid is None else move.grid.tolist()) == cells
        assert [move.halt_probability for move in found["t", 0]] == pytest.approx([0.1, 0.7])
    assert read_moves([], tests) == read_moves([whole], [("u", 0)]) == {}
    many = table([candidate([[step % 10]], steps=step) for step in range(1, 41)])
    [moves] = read_moves([many], [("t", 0)]).values()
    assert (len(moves), moves[0].step, moves[-1].step) == (16, 1, 40)


def metrics_of(folder: Path, *records: object) -> pd.DataFrame:
    """The metrics of a run with these records."""
    lines = b"".join(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in records)
    (folder / "metrics.jsonl").write_bytes(lines)
    return read_metrics(folder)


# Older runs record halt_accuracy, which is not drawn.
FINISHED = {"step": 1, "train/finished": 4, "train/exact_accuracy": 0.25, "train/halt_accuracy": 1.0}
ACCURACY = {"whole grids": ([1], [0.25])}
HALT = {"step": 1, "train/halt_recall": 0.25, "train/halt_precision": 0.5}
COUNTS = {"eval/test_inputs": 5, "eval/votes": 4, "eval/votes_asked": 10}
EVALUATED = [{"step": step, "eval/valid": 0.5, "eval/answered": 1.0, **COUNTS} for step in (1, 2)]


@pytest.mark.parametrize(("records", "lines"), [
    (
        [{"step": 5, "eval/pass@1": 0.25, "eval/cell_accuracy": 1}, {"step": 9, "eval/pass@1": 0.5}],
        {"pass@1": ([5, 9], [0.25, 0.5]), "cell accuracy": ([5], [1.0])},
    ),
    # The share answered is drawn only if it is ever below 1.
    (EVALUATED, {"valid": ([1, 2], [0.5, 0.5])}),
    (
        [*EVALUATED, {"step": 3, "eval/answered": 0.0, **COUNTS}],
        {"valid": ([1, 2], [0.5, 0.5]), "answered": ([1, 2, 3], [1.0, 1.0, 0.0])},
    ),
    ([HALT], {"halt recall": ([1], [0.25]), "halt precision": ([1], [0.5])}),
    # Older runs wrote zeros if no sample finished.
    ([FINISHED, {"step": 2, "train/finished": 0}], ACCURACY),
    ([FINISHED, {**FINISHED, "step": 2, "train/finished": 0, "train/exact_accuracy": 0}], ACCURACY),
])  # fmt: skip
def test_a_curve_has_a_point_a_record(tmp_path: Path, records: list[Any], lines: dict[str, Any]) -> None:
    [chart] = charts(metrics_of(tmp_path, *records))
    assert chart.lines == lines


def test_a_line_that_is_being_written_is_left_out_and_one_that_is_no_record_named(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    assert read_metrics(tmp_path).empty
    file.write_bytes(orjson.dumps({"step": 2}) + b"\n" + orjson.dumps({"step": 1}) + b'\n{"step": 3')
    assert list(read_metrics(tmp_path).index) == [1, 2]
    for line in ("{", "[]", "{}", '{"step": 1.5}', '{"step": true}', "\xff"):
        file.write_bytes(b'{"step": 1}\n' + line.encode("latin-1") + b"\n")
        with pytest.raises(DataError, match=r"metrics\.jsonl: line 2 is no record"):
            read_metrics(tmp_path)
