"""What came of each test input: its attempts, its votes, and how its answer moved from step to step."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from arcpipe.grid import Grid
from arcpipe.infer.vote import Ranking, Votes, entries_by_test
from arcpipe.task import Pair

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

_MOST_WRONG_BOARDS, _MOST_RIGHT_BOARDS = 150, 50
_MOST_STEPS = 16
_WAY = ["dihedral", "colors", "variant", "rollout", "checkpoint"]


class Entry(NamedTuple):
    """A distinct grid, the number of candidates that hold it, and their mean halt probability."""

    grid: Grid
    candidates: int
    halt_probability: float


class Move(NamedTuple):
    """The answer after so many steps, None where no grid could be cropped.

    agreeing: how many of the `total` candidates made at that step have the same grid.
    """

    step: int
    grid: Grid | None
    halt_probability: float
    agreeing: int
    total: int


@dataclass(frozen=True, eq=False)
class Result:
    """A test input and what came of it.

    attempts: distinct ones, the first first.
    entries: the distinct grids of its candidates, the best first.
    candidates: how many there are, those without a grid too.
    moves: its answer by step.
    demonstrations: of its task.
    note: words to show beside its task.
    """

    task: str
    pair: Pair
    attempts: Sequence[Grid]
    entries: Sequence[Entry] = ()
    candidates: int = 0
    moves: Sequence[Move] = ()
    demonstrations: Sequence[Pair] = ()
    note: str | None = None

    @property
    def wrong_cells(self) -> int | None:
        """The fewest wrong cells of an attempt of the right size; None without one."""
        truth = self.pair.output
        if truth is None:
            return None
        wrong = [int((grid != truth).sum()) for grid in self.attempts if grid.shape == truth.shape]
        return min(wrong, default=None)

    @property
    def rank(self) -> int | None:
        """The place of the right grid among the entries, from 0; None if it is not there or not known."""
        truth = self.pair.output
        if truth is None:
            return None
        grids = (entry.grid for entry in self.entries)
        return next((place for place, grid in enumerate(grids) if np.array_equal(grid, truth)), None)

    @property
    def outcome(self) -> Outcome:
        """The outcome of the better attempt."""
        wrong = self.wrong_cells
        if not self.attempts:
            return "none"
        if self.pair.output is None:
            return "unknown"
        if wrong is None:
            return "size"
        if wrong == 0:
            return "solved"
        return "nearly" if wrong <= NEARLY else "cells"


def with_votes(
    results: Mapping[int, Result], votes: Votes, ranking: Ranking, moves: Mapping[int, Sequence[Move]]
) -> list[Result]:
    """Add the votes and the moves to results, by the number that these have of their test inputs."""
    counts = votes.count()
    halts = votes.total(votes.halt) / counts.clip(min=1)
    of_test = entries_by_test(votes, ranking)
    return [
        replace(
            result,
            entries=[Entry(votes.grid(one), int(counts[one]), float(halts[one])) for one in of_test[test]],
            candidates=int(votes.candidates[test]),
            moves=moves.get(test, ()),
        )
        for test, result in results.items()
    ]


def sample_boards(right: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the numbers of up to 150 wrong boards, then of up to 50 right ones, evenly spread."""
    return np.concatenate(
        [
            boards[np.linspace(0, len(boards) - 1, min(len(boards), most)).round().astype(np.intp)]
            for boards, most in (
                (np.flatnonzero(~right), _MOST_WRONG_BOARDS),
                (np.flatnonzero(right), _MOST_RIGHT_BOARDS),
            )
        ]
    )


def read_moves(
    tables: Iterable[pa.Table], num_tests: Mapping[str, int], wanted: NDArray[np.bool_]
) -> dict[int, list[Move]]:
    """Return how the answer to each wanted test input moves, as it was first asked for several steps.

    That is without augmentation or noise, if there are candidates of several steps of it. At most 16 steps
    are told, the first and the last among them. Inputs without candidates of several steps are left out.

    Args:  tables: as `arcpipe.predictions.read_candidates` gives them.
           num_tests: how many test inputs each task has; they are numbered in that order.
           wanted: (T,) which of them.
    """
    parts = [_with_tests(table, num_tests, wanted) for table in tables]
    if not parts:
        return {}
    frame = pa.concat_tables(parts).unify_dictionaries().to_pandas()
    frame["grid"] = frame["cells"].cat.codes.astype(np.int64) * 256 + frame["width"]
    at_step = ["test", "steps"]
    frame["total"] = frame.groupby(at_step)["grid"].transform("size")
    frame["agreeing"] = frame.groupby([*at_step, "grid"])["grid"].transform("size")
    frame["way"] = frame.groupby(_WAY, sort=False, observed=True).ngroup()
    frame = frame[frame.groupby(["test", "way"])["steps"].transform("nunique") > 1]
    first_way = frame.groupby("test")["way"].transform("first")
    told = frame[frame["way"] == first_way].drop_duplicates(at_step).sort_values(at_step)
    moves = {}
    for test, rows in told.groupby("test"):
        spread = np.linspace(0, len(rows) - 1, min(len(rows), _MOST_STEPS)).round().astype(int)
        moves[int(test)] = [_move(row) for row in rows.iloc[spread].itertuples()]
    return moves


def _with_tests(table: pa.Table, num_tests: Mapping[str, int], wanted: NDArray[np.bool_]) -> pa.Table:
    """Return the candidates of wanted test inputs, with the input's number in the column `test`."""
    firsts = dict(zip(num_tests, np.cumsum([0, *num_tests.values()]), strict=False))
    tasks = table["task"].combine_chunks()
    names = tasks.dictionary.to_pylist()
    codes, index = tasks.indices.to_numpy(), table["test_index"].to_numpy()
    counts = np.array([num_tests.get(name, 0) for name in names], np.intp)[codes]
    tests = np.array([firsts.get(name, 0) for name in names], np.intp)[codes] + index
    chosen = index < counts
    chosen[chosen] = wanted[tests[chosen]]
    columns = {name: table[name] for name in (*_WAY, "steps", "halt_probability", "width")}
    # As numbers: a grid's bytes and a permutation's text stand in many rows.
    columns |= {name: table[name].dictionary_encode() for name in ("colors", "cells")}
    return pa.table({"test": tests, **columns}).filter(pa.array(chosen))


def _move(row: Any) -> Move:
    grid = np.frombuffer(row.cells, np.uint8).reshape(-1, row.width) if row.width else None
    return Move(row.steps, grid, float(row.halt_probability), row.agreeing, row.total)
