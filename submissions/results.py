"""What came of each test input: its attempts, its votes, and how its answer moved from step to step."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from arcpipe.grid import Grid
from arcpipe.infer.vote import Ranking, Votes, entries_by_test
from arcpipe.task import Pair

NEARLY = 3
"""So many wrong cells are nearly solved."""

NEAR_TIE = 2
"""So few votes between the second grid, an attempt, and the third are nearly none."""

OUTCOMES = {
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
_TEST = ["task", "test_index"]
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
        sized = [grid for grid in self.attempts if truth is not None and grid.shape == truth.shape]
        return min((int((grid != truth).sum()) for grid in sized), default=None)

    @property
    def outcome(self) -> str:
        """The outcome of the better attempt, one of OUTCOMES."""
        if not self.attempts:
            return "none"
        if self.pair.output is None:
            return "unknown"
        if (wrong := self.wrong_cells) is None:
            return "size"
        return "cells" if wrong > NEARLY else "nearly" if wrong else "solved"


def ranked_entries(votes: Votes, ranking: Ranking, tests: Iterable[int]) -> list[list[Entry]]:
    """Return the entries of some test inputs, by their numbers, the best first."""
    counts = votes.count()
    halts = votes.total(votes.halt) / counts.clip(min=1)
    of_test = entries_by_test(votes, ranking)
    return [
        [Entry(votes.grid(one), int(counts[one]), float(halts[one])) for one in of_test[test]]
        for test in tests
    ]


def sample_boards(right: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the numbers of up to 150 wrong boards, then of up to 50 right ones, evenly spread."""
    wrong_ones = _spread(np.flatnonzero(~right), _MOST_WRONG_BOARDS)
    return np.concatenate([wrong_ones, _spread(np.flatnonzero(right), _MOST_RIGHT_BOARDS)])


def _spread(items: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    """Return up to `most` of the items, evenly spread, the first and the last among them."""
    return items[np.linspace(0, len(items) - 1, min(len(items), most)).round().astype(np.intp)]


def read_moves(
    tables: Iterable[pa.Table], tests: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], list[Move]]:
    """Return up to 16 moves of the answer to each test input, as it was first asked for several steps.

    That is without augmentation or noise, if there are candidates of several steps of it. Inputs without
    candidates of several steps are left out.

    Args:  tables: as `arcpipe.predictions.read_candidates` gives them.
           tests: the task and index of each input; others may be returned too.
    """
    tasks = pa.array([task for task, _ in tests], pa.string())
    indices = pa.array([index for _, index in tests], pa.int32())
    columns = [*_TEST, *_WAY, "steps", "halt_probability", "width", "cells"]
    parts = []
    for table in tables:
        is_task = pc.is_in(table["task"].cast(pa.string()), tasks)
        part = table.select(columns).filter(pc.and_(is_task, pc.is_in(table["test_index"], indices)))
        # As numbers: a grid's bytes and a permutation's text stand in many rows.
        for name in ("colors", "cells"):
            part = part.set_column(columns.index(name), name, part[name].dictionary_encode())
        parts.append(part)
    if not parts:
        return {}
    table = pa.concat_tables(parts).unify_dictionaries()
    # Their numbers do, which are those of equal grids; as values all would be in memory once more.
    cells = table["cells"].combine_chunks()
    frame = table.drop_columns("cells").to_pandas().assign(cells=cells.indices.to_numpy())
    frame["total"] = _by_test(frame, "steps")["width"].transform("size")
    frame["agreeing"] = _by_test(frame, "steps", "cells", "width")["width"].transform("size")
    frame["way"] = _by_test(frame, *_WAY).ngroup()
    frame = frame[_by_test(frame, "way")["steps"].transform("nunique") > 1]
    frame = frame[frame["way"] == _by_test(frame)["way"].transform("first")]
    frame = frame.drop_duplicates([*_TEST, "steps"]).sort_values("steps")
    moves: dict[tuple[str, int], list[Move]] = {}
    for test, rows in _by_test(frame):
        moves[test] = []
        for row in rows.iloc[_spread(np.arange(len(rows)), _MOST_STEPS)].itertuples():
            content = cells.dictionary[row.cells].as_py()
            grid = np.frombuffer(content, np.uint8).reshape(-1, row.width) if row.width else None
            moves[test].append(Move(row.steps, grid, float(row.halt_probability), row.agreeing, row.total))
    return moves


def _by_test(frame: Any, *keys: str) -> Any:
    return frame.groupby([*_TEST, *keys], observed=True, sort=False)
