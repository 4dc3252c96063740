"""The tasks and boards of a report: what was asked, answered and right, as the page's script reads it.

A grid is text: the digits of its rows, "/" between them. Within a test input each distinct grid stands once,
in `grids`, and is meant by its number there.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from arcpipe.grid import Grid
from arcpipe.submissions.report_votes import Ballot, Move
from arcpipe.task import Pair, Task

NEARLY = 3
"""So many wrong cells are nearly solved."""

Outcome = Literal["solved", "nearly", "cells", "size", "none", "unknown"]
OUTCOMES: Mapping[Outcome, str] = {
    "solved": "solved",
    "nearly": f"within {NEARLY} cells",
    "cells": "wrong cells",
    "size": "wrong size",
    "none": "no votes",
    "unknown": "answered",
}
"""The outcomes of a test input, the best first, and what the page calls them."""

_SHOWN_CANDIDATES = 8


@dataclass(eq=False)
class Result:
    """A test input and what came of it.

    attempts: distinct ones, the first first. entries: its grids in the ballot. moves: its answer by step.
    outcome: of the better attempt. wrong_cells: the fewest of an attempt of the right size. rank: of the
    right grid among the candidates, from 0; None if it is not among them or not known.
    """

    task: str
    index: int
    pair: Pair
    attempts: Sequence[Grid]
    entries: Sequence[tuple[Grid, int, float]] = ()
    candidates: int = 0
    moves: Sequence[Move] = ()
    outcome: Outcome = field(init=False)
    wrong_cells: int | None = field(init=False, default=None)
    rank: int | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        truth = self.pair.output
        self.outcome = "unknown" if self.attempts else "none"
        if truth is None:
            return
        ranks = (place for place, (grid, _, _) in enumerate(self.entries) if np.array_equal(grid, truth))
        self.rank = next(ranks, None)
        wrong = [int((grid != truth).sum()) for grid in self.attempts if grid.shape == truth.shape]
        self.wrong_cells = min(wrong, default=None)
        if self.attempts:
            self.outcome = _outcome(self.wrong_cells)


def _outcome(wrong_cells: int | None) -> Outcome:
    if wrong_cells is None:
        return "size"
    if wrong_cells == 0:
        return "solved"
    return "nearly" if wrong_cells <= NEARLY else "cells"


def arc_tests(
    tasks: Sequence[Task],
    attempts: Mapping[tuple[str, int], Sequence[Grid]],
    ballot: Ballot | None,
    moves: Mapping[int, Sequence[Move]],
) -> list[Result]:
    """The test inputs of the tasks in their order, in which the ballot and the moves number them.

    Args:  attempts: distinct ones by task id and test index.
    """
    keys = [(task.id, index, pair) for task in tasks for index, pair in enumerate(task.tests)]
    return [
        Result(
            task_id, index, pair, attempts.get((task_id, index), ()), entries_of(ballot, number),
            0 if ballot is None else int(ballot.candidates[number]), moves.get(number, ()),
        )
        for number, (task_id, index, pair) in enumerate(keys)
    ]  # fmt: skip


def entries_of(ballot: Ballot | None, test: int) -> list[tuple[Grid, int, float]]:
    """Grid, candidates and mean halt probability of each entry of a test input, the best first."""
    if ballot is None:
        return []
    return [
        (ballot.grid(entry), int(ballot.counts[entry]), float(ballot.halts[entry]))
        for entry in ballot.of(test)
    ]


def task_documents(
    demonstrations: Mapping[str, Sequence[Pair]], tests: Sequence[Result], rules: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Each task as the page's script reads it, in the order of the tests.

    Args:  demonstrations: by task. rules: words to show beside it, by task.
    """
    by_task: dict[str, list[Result]] = {}
    for test in tests:
        by_task.setdefault(test.task, []).append(test)
    return [
        {
            "id": task,
            "rule": rules.get(task),
            "train": [[_text(pair.input), _text(pair.output)] for pair in demonstrations.get(task, ())],
            "tests": [_test_document(test) for test in of_task],
        }
        for task, of_task in by_task.items()
    ]


def _test_document(test: Result) -> dict[str, Any]:
    grids: dict[str, int] = {}

    def number(grid: Grid | None) -> int | None:
        return None if grid is None else grids.setdefault(_text(grid), len(grids))

    return {
        "input": number(test.pair.input),
        "truth": number(test.pair.output),
        "attempts": [number(grid) for grid in test.attempts],
        "outcome": test.outcome,
        "wrong": test.wrong_cells,
        "rank": test.rank,
        "candidates": test.candidates,
        "gridless": test.candidates - sum(count for _, count, _ in test.entries),
        "distinct": len(test.entries),
        "ranked": [
            [place, number(grid), count, round(halt, 4)]
            for place, (grid, count, halt) in _shown(test)
        ],
        "moves": [
            [move.step, number(move.grid), round(move.halt_probability, 4), move.agreeing, move.total]
            for move in test.moves
        ],
        "grids": list(grids),
    }  # fmt: skip


def _shown(test: Result) -> Iterator[tuple[int, tuple[Grid, int, float]]]:
    """The best candidates, and the right one wherever it stands."""
    for place, entry in enumerate(test.entries):
        if place < _SHOWN_CANDIDATES or place == test.rank:
            yield place, entry


def _text(grid: Grid | None) -> str:
    assert grid is not None, "a demonstration has an output"
    return "/".join((row + ord("0")).tobytes().decode() for row in grid)
