"""`arcpipe report`: what it finds, what the page holds, and what it refuses."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcpipe.augment.puzzles import MazeSettings, SudokuSettings, build_maze, build_sudoku
from arcpipe.errors import DataError
from arcpipe.grid import Grid
from arcpipe.puzzleset import read_puzzle_set, read_test_outputs
from arcpipe.runs import make_manifest, write_json
from arcpipe.submissions.figures import Chart, charts, duration, read_metrics, training_facts
from arcpipe.submissions.report import find_sources
from arcpipe.submissions.results import Entry, Result, read_moves, sample_boards
from arcpipe.task import Pair
from candidates import candidate, table, write_folder
from commands import fail_here, succeed_here
from reports import KINDS, STEPS, make_run, make_set, make_tasks, spoiled

TASKS = 12


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a quickstart, made up."""
    folder = tmp_path_factory.mktemp("made") / "quickstart-seed7"
    data, shards = folder / "data", folder / "predictions" / "shards"
    for made in (data, shards):
        made.mkdir(parents=True)
    files = make_set(data, make_tasks(TASKS))
    write_json(data / "manifest.json", make_manifest("dataset", family="arc", fingerprint="f"))
    write_json(folder / "manifest.json", make_manifest("quickstart"))
    write_json(shards.parent / "manifest.json", make_manifest("predictions"))
    files["submission"].rename(folder / "submission.json")
    files["predictions"].rename(shards / "part-0000000000-rank0.parquet")
    make_run(folder / "run")
    return folder


def data_of(page: Path) -> dict[str, Any]:
    """What the script of a page reads."""
    text = page.read_text("utf-8")
    data = text.partition('<script id="data" type="application/json">')[2].partition("</script>")[0]
    found: dict[str, Any] = orjson.loads(data)
    return found


@pytest.fixture(scope="module")
def page(quickstart: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the page of the quickstart holds."""
    out = tmp_path_factory.mktemp("page") / "report.html"
    assert succeed_here("report", quickstart, "--out", out).startswith(f"{out}: {TASKS} tasks, 6 charts, ")
    text = out.read_text("utf-8")
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    assert "@style@" not in text
    return data_of(out)


def test_everything_of_a_quickstart_is_found(page: dict[str, Any]) -> None:
    assert (page["title"], page["notes"]) == ("quickstart-seed7", [])
    # Task by task 2 of 12 are solved, and the right outputs of 4 found.
    assert [tile[:2] for tile in page["tiles"]] == [
        ["pass@2", "16.7%"], ["pass@1", "16.7%"], ["mean over test outputs, pass@2", "14.3%"],
        ["oracle, no score", "33.3%"],
    ]  # fmt: skip
    assert page["tiles"][0][2].startswith("mean over tasks (Kaggle, ARC Prize), 95% interval ")
    assert page["tiles"][2][2] == "2 of 14 test outputs"
    assert page["tiles"][3][2] == "mean over tasks; 4 of 14 right outputs are among the candidates"
    assert [task["id"] for task in page["tasks"]] == [f"task-{number:04}" for number in range(TASKS)]
    assert sum(part["outputs"] for part in page["parts"]["longest side"]) == 14
    assert page["recipe"] == {"train": {"lr": 1e-4}}


def test_each_task_has_its_outcome_its_votes_and_its_moves(page: dict[str, Any]) -> None:
    for number, task in enumerate(page["tasks"]):
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
        run = make_run(tmp_path / f"run{len(given)}{given[-1:] == (challenges,)}")
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

    # Without solutions nothing is called right.
    hidden = page(*predictions, "--challenges", challenges)
    tests = [test for task in hidden["tasks"] for test in task["tests"]]
    assert (hidden["tiles"], {test["truth"] for test in tests}) == ([], {None})
    assert {test["outcome"] for test in tests} == {"unknown", "none"}


def test_the_dataset_is_found_by_what_the_predictions_say(quickstart: Path, tmp_path: Path) -> None:
    """It must still be the one they were made for."""
    for fingerprint, found in (("f", quickstart / "data"), ("g", None)):
        manifest = make_manifest("predictions", data=str(quickstart / "data"), dataset=fingerprint)
        write_json(tmp_path / fingerprint / "manifest.json", manifest)
        assert find_sources(quickstart / "run", predictions=tmp_path / fingerprint).data == found


def test_figures_for_a_paper(quickstart: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        succeed_here("report", quickstart, "--out", tmp_path / f"{name}.html", "--figures", tmp_path / name)
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
    ones = np.ones((4, 4), np.uint8)
    found = [
        (0, spoiled(truths[0], 2) % 4 + 1), (1, truths[1]), (2, None), (3, ones), (3, ones), (3, truths[3]),
    ]  # fmt: skip
    name = puzzles.table.task_ids[0]
    rows = [
        candidate(grid, task=name, test_index=test, variant=variant)
        for variant, (test, grid) in enumerate(found)
    ]
    return data, write_folder(folder / "predictions", [table(rows)])


def test_sudokus_are_boards_and_wrong_ones_come_first(tmp_path: Path) -> None:
    data, predictions = sudoku_predictions(tmp_path)
    given = ["--predictions", predictions, "--challenges", data, "--figures", tmp_path / "figures"]
    assert ": 4 boards, " in succeed_here("report", make_run(tmp_path / "run"), *given)
    page = data_of(tmp_path / "run" / "report.html")
    assert (page["family"], page["box"]) == ("sudoku", [2, 2])
    shares = [tile[:2] for tile in page["tiles"]][::2]
    assert shares == [["solved exactly", "50.0%"], ["follow the rules", "50.0%"]]
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
    run = make_run(tmp_path / "run")
    succeed_here("report", run, "--predictions", predictions, "--challenges", data)
    page = data_of(run / "report.html")
    shares = [tile[:2] for tile in page["tiles"]]
    assert shares[::2] == [["solved exactly", "50.0%"], ["follow the rules", "100.0%"]]
    rules = {task["id"]: task["rule"] for task in page["tasks"]}
    assert rules == {"board-0": "another shortest path", "board-1": None}
    assert len(page["palette"]) == 5


REFUSED = {
    "NOWHERE": "nowhere: no such folder",
    "Q/data": "expected a run folder, found a dataset folder",
    "Q --out old.html": "old.html exists already",
    "Q --figures there": "--figures folder",
    "Q --predictions p": "no such folder",
    "Q --submission s.json": "no such file",
    "Q --solutions s.json": "no such file",
    "Q --challenges c.json": "no such file",
    "empty": "nothing to report yet",
    "Q --predictions predictions.parquet": "another set",
    "Q --solutions solutions.json": "task-0000 has no solution",
    "Q --submission submission.json": "is not in the solutions",
    "Q --predictions boards/predictions --challenges boards/data --submission submission.json": "ARC",
}


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with parts of another set, of boards, and of a run without records."""
    folder = tmp_path_factory.mktemp("wrong")
    make_set(folder, [replace(task, id=f"x{task.id}") for task in make_tasks(3)])
    (folder / "boards").mkdir()
    sudoku_predictions(folder / "boards")
    (make_run(folder / "empty") / "metrics.jsonl").unlink()
    (folder / "old.html").write_text("kept")
    (folder / "there").mkdir()
    return folder


@pytest.mark.parametrize("words", REFUSED)
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    words: str, quickstart: Path, wrong: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(wrong)
    before = sorted(wrong.rglob("*"))
    given = words.replace("NOWHERE", "nowhere").replace("Q", str(quickstart)).split()
    out = [] if "--out" in given else ["--out", "new.html"]
    assert REFUSED[words] in fail_here("report", *given, *out)
    assert (sorted(wrong.rglob("*")), Path("old.html").read_text()) == (before, "kept")


grids = st.builds(
    lambda height, width, seed: np.random.default_rng(seed).integers(0, 2, (height, width), dtype=np.uint8),
    st.integers(1, 3), st.integers(1, 3), st.integers(0, 50),
)  # fmt: skip


def outcome_by_hand(attempts: list[Grid], truth: Grid) -> str:
    if not attempts:
        return "none"
    if any(np.array_equal(grid, truth) for grid in attempts):
        return "solved"
    same_size = [grid for grid in attempts if grid.shape == truth.shape]
    if not same_size:
        return "size"
    return "nearly" if any((grid != truth).sum() <= 3 for grid in same_size) else "cells"


@given(st.lists(grids, max_size=2), grids, st.lists(grids, max_size=4))
def test_the_outcome_is_that_of_the_better_attempt(
    attempts: list[Grid], truth: Grid, candidates: list[Grid]
) -> None:
    entries = [Entry(grid, 1, 0.5) for grid in candidates]
    result = Result("t", Pair(truth, truth), attempts, entries, len(entries))
    assert result.outcome == outcome_by_hand(attempts, truth)
    places = [place for place, grid in enumerate(candidates) if np.array_equal(grid, truth)]
    assert result.rank == (places[0] if places else None)
    # Where the output is hidden nothing is right or wrong.
    hidden = replace(result, pair=Pair(truth, None))
    assert (hidden.wrong_cells, hidden.rank) == (None, None)
    assert hidden.outcome == ("unknown" if attempts else "none")


@given(st.lists(st.booleans(), min_size=1, max_size=600))
def test_the_sample_of_boards_is_bounded_and_wrong_ones_come_first(right: list[bool]) -> None:
    is_right = np.array(right)
    chosen = sample_boards(is_right)
    assert len(set(chosen.tolist())) == len(chosen)
    counts = Counter(right)
    wrong = min(counts[False], 150)
    assert len(chosen) == wrong + min(counts[True], 50)
    assert not is_right[chosen[:wrong]].any()
    assert is_right[chosen[wrong:]].all()


def test_moves_are_those_of_the_first_way_that_tells() -> None:
    """Ways of one step tell nothing; the same ways in another test input are others."""
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
        0: [(2, [[1]], 2, 2), (4, [[2]], 1, 3)],
        1: [(2, None, 1, 1), (4, [[5, 5]], 1, 1)],
    }
    whole, tests = table(rows), [("t", 0), ("t", 1), ("u", 0)]
    for tables in ([whole], [whole.slice(start, 2) for start in range(0, len(rows), 2)]):
        found = read_moves(tables, tests)
        told = {
            index: [
                (step, None if grid is None else grid.tolist(), agreeing, total)
                for step, grid, _, agreeing, total in moves
            ]
            for (_, index), moves in found.items()
        }
        assert (told, {task for task, _ in found}) == (expected, {"t"})
        assert [move.halt_probability for move in found["t", 0]] == pytest.approx([0.1, 0.7])
    assert read_moves([], tests) == read_moves([whole], [("u", 0)]) == {}
    many = table([candidate([[step % 10]], steps=step) for step in range(1, 41)])
    [moves] = read_moves([many], [("t", 0)]).values()
    assert (len(moves), moves[0].step, moves[-1].step) == (16, 1, 40)


def curves_of(folder: Path, *records: object) -> list[Chart]:
    return charts(metrics_of(folder, *records))


def metrics_of(folder: Path, *records: object) -> pd.DataFrame:
    """What is read of a run with these records."""
    lines = b"".join(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in records)
    (folder / "metrics.jsonl").write_bytes(lines)
    return read_metrics(folder)


def test_curves_hold_means_of_many_records_and_skip_what_is_no_number(tmp_path: Path) -> None:
    records = [{"step": step, "train/loss_answer": float(step), "train/lr": None} for step in range(1, 1001)]
    [chart] = curves_of(tmp_path, *records)
    assert (chart.title, chart.averaged, list(chart.lines)) == ("Loss", 3, ["answer"])
    steps, values = chart.lines["answer"]
    assert (steps[0], values[0], steps[-1], values[-1]) == (3, 2.0, 1000, 1000.0)
    # Every score of an evaluation is a curve.
    [chart] = curves_of(
        tmp_path, {"step": 5, "eval/pass@1": 0.25, "eval/cell_accuracy": 1}, {"step": 9, "eval/pass@1": 0.5}
    )
    assert chart.lines == {"pass@1": ([5, 9], [0.25, 0.5]), "cell accuracy": ([5], [1.0])}
    assert curves_of(tmp_path) == []


def test_the_share_answered_is_a_curve_where_it_is_not_all(tmp_path: Path) -> None:
    counts = {"eval/test_inputs": 5, "eval/votes": 4, "eval/votes_asked": 10}
    records = [{"step": step, "eval/valid": 0.5, "eval/answered": 1.0, **counts} for step in (1, 2)]
    [chart] = curves_of(tmp_path, *records)
    assert list(chart.lines) == ["valid"]
    [chart] = curves_of(tmp_path, *records, {"step": 3, "eval/answered": 0.0, **counts})
    assert chart.lines == {"valid": ([1, 2], [0.5, 0.5]), "answered": ([1, 2, 3], [1.0, 1.0, 0.0])}


@pytest.mark.parametrize("absent", [{}, {"train/exact_accuracy": 0, "train/halt_accuracy": 0}])
def test_records_in_which_no_sample_finished_have_no_part_in_the_curves(
    absent: dict[str, float], tmp_path: Path
) -> None:
    """Older runs wrote zeros there. Halt decisions are shown against those of never halting."""
    loss = {"train/loss_answer": 1.0}
    told = {"train/finished": 4, "train/exact_accuracy": 0.25, "train/halt_accuracy": 1.0}
    records = [{"step": 1, **loss, **told}, {"step": 2, **loss, "train/finished": 0, **absent}]
    _, chart = curves_of(tmp_path, *records)
    assert chart.lines == {
        "whole grids": ([1], [0.25]), "halt decisions": ([1], [1.0]), "never to halt": ([1], [0.75]),
    }  # fmt: skip
    assert dict(training_facts(read_metrics(tmp_path)))["whole grids right in training"] == "25.0%"


def test_a_line_that_is_being_written_is_left_out_and_one_that_is_no_record_named(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    assert read_metrics(tmp_path).empty
    file.write_bytes(orjson.dumps({"step": 2}) + b"\n" + orjson.dumps({"step": 1}) + b'\n{"step": 3')
    assert list(read_metrics(tmp_path).index) == [1, 2]
    for line in ("{", "[]", "{}", '{"step": 1.5}', '{"step": true}', "\xff"):
        file.write_bytes(b'{"step": 1}\n' + line.encode("latin-1") + b"\n")
        with pytest.raises(DataError, match=r"metrics\.jsonl: line 2 is no record"):
            read_metrics(tmp_path)


def test_facts_of_a_training_in_words(tmp_path: Path) -> None:
    record = {"step": 1200, "seconds": 7500.0, "train/loss_answer": 0.1234, "samples_per_second": 1234.5}
    facts = [
        ("steps", "1,200"), ("time", "2 h 5 min"), ("samples a second", "1,234"),
        ("loss at the end", "0.123"),
    ]  # fmt: skip
    assert training_facts(metrics_of(tmp_path, record)) == facts
    accuracy = metrics_of(tmp_path, record | {"train/exact_accuracy": 0.5})
    assert training_facts(accuracy) == [*facts, ("whole grids right in training", "50.0%")]
    assert [duration(seconds) for seconds in (5, 100, 86400 * 3)] == ["5 s", "2 min", "3 d 0 h"]
