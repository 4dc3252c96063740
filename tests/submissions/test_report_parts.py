"""The parts of a report: curves, outcomes, and how answers move from step to step."""

from collections import Counter
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcpipe.errors import DataError
from arcpipe.grid import Grid
from arcpipe.submissions.report_boards import sample_boards
from arcpipe.submissions.report_curves import charts, duration, read_metrics, training_facts
from arcpipe.submissions.report_tasks import Result
from arcpipe.submissions.report_votes import read_moves
from arcpipe.task import Pair
from candidates import candidate, table

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
    entries = [(grid, 1, 0.5) for grid in candidates]
    result = Result("t", 0, Pair(truth, truth), attempts, entries, len(entries))
    assert result.outcome == outcome_by_hand(attempts, truth)
    places = [place for place, grid in enumerate(candidates) if np.array_equal(grid, truth)]
    assert result.rank == (places[0] if places else None)


def test_where_the_output_is_hidden_nothing_is_right_or_wrong() -> None:
    grid = np.zeros((1, 1), np.uint8)
    result = Result("t", 0, Pair(grid, None), [grid], [(grid, 1, 0.5)], 1)
    assert (result.outcome, result.wrong_cells, result.rank) == ("unknown", None, None)


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
    found = read_moves([table(rows)], {"t": 2, "u": 1}, np.ones(3, bool))
    told = {
        test: [(move.step, None if move.grid is None else move.grid.tolist(), move.agreeing, move.total)
               for move in moves]
        for test, moves in found.items()
    }  # fmt: skip
    assert told == {
        0: [(2, [[1]], 2, 2), (4, [[2]], 1, 3)],
        1: [(2, None, 1, 1), (4, [[5, 5]], 1, 1)],
    }
    assert [move.halt_probability for move in found[0]] == pytest.approx([0.1, 0.7])


def test_moves_are_the_same_in_one_table_and_in_several() -> None:
    rows = [
        candidate([[step % 3]], steps=step, task=task, checkpoint=f"c{step % 2}", colors=colors)
        for step in range(1, 6)
        for task in ("a", "b")
        for colors in ("0123456789", "0213456789")
    ]
    whole = read_moves([table(rows)], {"a": 1, "b": 1}, np.ones(2, bool))
    parts = [table(rows[start : start + 3]) for start in range(0, len(rows), 3)]
    cut = read_moves(parts, {"a": 1, "b": 1}, np.ones(2, bool))
    for test, moves in whole.items():
        assert [(move.step, move.agreeing, move.total) for move in moves] == [
            (move.step, move.agreeing, move.total) for move in cut[test]
        ]
    assert whole.keys() == cut.keys() == {0, 1}


def test_at_most_sixteen_steps_are_told_the_last_among_them() -> None:
    rows = [candidate([[step % 10]], steps=step) for step in range(1, 41)]
    [moves] = read_moves([table(rows)], {"t": 1}, np.ones(1, bool)).values()
    assert (len(moves), moves[0].step, moves[-1].step) == (16, 1, 40)
    assert read_moves([table(rows)], {"t": 1}, np.zeros(1, bool)) == {}
    assert read_moves([table(rows)], {"u": 1}, np.ones(1, bool)) == {}


def test_curves_hold_means_of_many_records_and_skip_what_is_no_number() -> None:
    records = [{"step": step, "train/loss_answer": float(step), "train/lr": None} for step in range(1, 1001)]
    [chart] = charts(records)
    [line] = chart.lines
    assert (chart.title, chart.averaged, line.name) == ("Loss", 3, "answer")
    assert (line.steps[0], line.values[0], line.steps[-1], line.values[-1]) == (3, 2.0, 1000, 1000.0)
    assert charts([]) == []


def test_every_score_of_an_evaluation_is_a_curve() -> None:
    records = [{"step": 5, "eval/pass@1": 0.25, "eval/cell_accuracy": 1}, {"step": 9, "eval/pass@1": 0.5}]
    [chart] = charts(records)
    assert [(line.name, line.steps, line.values) for line in chart.lines] == [
        ("pass@1", [5, 9], [0.25, 0.5]), ("cell accuracy", [5], [1.0]),
    ]  # fmt: skip


def test_the_share_answered_is_a_curve_where_it_is_not_all() -> None:
    counts = {"eval/test_inputs": 5, "eval/votes": 4, "eval/votes_asked": 10}
    records = [{"step": step, "eval/valid": 0.5, "eval/answered": 1.0, **counts} for step in (1, 2)]
    [chart] = charts(records)
    assert [line.name for line in chart.lines] == ["valid"]
    [chart] = charts([*records, {"step": 3, "eval/answered": 0.0, **counts}])
    assert [(line.name, line.steps, line.values) for line in chart.lines] == [
        ("valid", [1, 2], [0.5, 0.5]), ("answered", [1, 2, 3], [1.0, 1.0, 0.0]),
    ]  # fmt: skip


@pytest.mark.parametrize("absent", [{}, {"train/exact_accuracy": 0, "train/halt_accuracy": 0}])
def test_records_in_which_no_sample_finished_have_no_part_in_the_curves(absent: dict[str, float]) -> None:
    """Older runs wrote zeros there. Halt decisions are shown against those of never halting."""
    loss = {"train/loss_answer": 1.0}
    told = {"train/finished": 4, "train/exact_accuracy": 0.25, "train/halt_accuracy": 1.0}
    records = [{"step": 1, **loss, **told}, {"step": 2, **loss, "train/finished": 0, **absent}]
    chart = next(chart for chart in charts(records) if chart.title == "Accuracy in training")
    assert [(line.name, line.steps, line.values) for line in chart.lines] == [
        ("whole grids", [1], [0.25]), ("halt decisions", [1], [1.0]), ("never to halt", [1], [0.75]),
    ]  # fmt: skip
    assert dict(training_facts(records))["whole grids right in training"] == "25.0%"


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    assert read_metrics(file) == []
    file.write_bytes(orjson.dumps({"step": 2}) + b"\n" + orjson.dumps({"step": 1}) + b'\n{"step": 3')
    assert read_metrics(file) == [{"step": 1}, {"step": 2}]


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"step": 1.5}', '{"step": true}', "\xff"])
def test_a_line_that_is_no_record_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b'{"step": 1}\n' + line.encode("latin-1") + b"\n")
    with pytest.raises(DataError, match=r"metrics\.jsonl: line 2 is no record"):
        read_metrics(file)


def test_facts_of_a_training_in_words() -> None:
    records = [{"step": 1200, "seconds": 7500.0, "train/loss_answer": 0.123456, "samples_per_second": 1234.5}]
    assert training_facts(records) == [
        ("steps", "1,200"), ("time", "2 h 5 min"), ("samples a second", "1,234"),
        ("loss at the end", "0.123"),
    ]  # fmt: skip
    assert [duration(seconds) for seconds in (5, 100, 86400 * 3)] == ["5 s", "2 min", "3 d 0 h"]
