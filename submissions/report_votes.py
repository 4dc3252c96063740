"""What predictions say of each test input: its grids by votes, and how an answer moves from step to step."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from arcpipe.grid import Grid

_MOST_STEPS = 16
_WAY = ["dihedral", "colors", "variant", "rollout", "checkpoint"]
_CODES = ["task", "colors", "checkpoint"]
_MAX_WIDTH = 256


@dataclass(frozen=True, eq=False)
class Ballot:
    """The E distinct grids that were voted for, by test input (T in all) and the best first.

    tests (E,): the number of the test input. counts (E,): candidates for the grid. halts (E,): their mean
    halt probability. keys (E,): what `grid_of` takes for the grid of each. candidates (T,): all there are,
    those without a grid too.
    """

    tests: NDArray[np.intp]
    counts: NDArray[np.intp]
    halts: NDArray[np.float64]
    keys: NDArray[np.intp]
    grid_of: Callable[[int], Grid]
    candidates: NDArray[np.intp]

    def grid(self, entry: int) -> Grid:
        """The grid of an entry."""
        return self.grid_of(int(self.keys[entry]))

    def of(self, test: int) -> range:
        """The entries of a test input."""
        first, end = np.searchsorted(self.tests, (test, test + 1))
        return range(int(first), int(end))


@dataclass(frozen=True, eq=False)
class Move:
    """An answer after so many steps; agreeing: how many of the candidates made at that step (`total`,
    itself too) have its grid, None where it has none."""

    step: int
    grid: Grid | None
    halt_probability: float
    agreeing: int
    total: int


def read_moves(
    tables: Iterable[pa.Table], num_tests: Mapping[str, int], wanted: NDArray[np.bool_]
) -> dict[int, list[Move]]:
    """How the answer to each wanted test input moves, in the first way it was asked that tells.

    That is the one without augmentation or noise, if its candidates are of several steps. At most 16
    steps are told, the first and the last among them. Inputs of which nothing tells are left out.

    Args:  tables: as `arcpipe.predictions.read_candidates` gives them.
           num_tests: how many test inputs each task has; they are numbered in that order.
           wanted: (T,) which of them.
    """
    grids: dict[bytes, int] = {}
    parts = [_columns(table, num_tests, wanted, grids) for table in tables]
    if not parts:
        return {}
    for name in _CODES:
        parts = _same_categories(parts, name)
    frame = pd.concat(parts, ignore_index=True)
    if frame["steps"].nunique() < 2:
        return {}
    by_step = frame.groupby(["test", "steps"], sort=False)
    frame["total"] = by_step["grid"].transform("size")
    frame["agreeing"] = frame.groupby(["test", "steps", "grid"], sort=False)["grid"].transform("size")
    frame["way"] = frame.groupby(_WAY, sort=False, observed=True).ngroup()
    frame = frame[frame.groupby(["test", "way"], sort=False)["steps"].transform("nunique") > 1]
    firsts = frame.groupby("test", sort=False)["way"].transform("first")
    chosen = frame[frame["way"] == firsts].drop_duplicates(["test", "steps"]).sort_values(["test", "steps"])
    cells = list(grids)
    return {
        int(rows["test"].iloc[0]): [_move(cells, *row) for row in zip(*_told(rows), strict=True)]
        for _, rows in chosen.groupby("test")
    }


def _columns(
    table: pa.Table, num_tests: Mapping[str, int], wanted: NDArray[np.bool_], grids: dict[bytes, int]
) -> pd.DataFrame:
    """The candidates of wanted test inputs: the input's number, how it was asked, steps, and the grid as a
    number that holds its width too, -1 for none. New grids are added to `grids`."""
    counts = np.array([*num_tests.values()], np.intp)
    places = {task: place for place, task in enumerate(num_tests)}
    tasks = table["task"].combine_chunks()
    codes = np.array([places.get(task, len(counts)) for task in tasks.dictionary.to_pylist()], np.intp)
    task, index = codes[tasks.indices.to_numpy()], table["test_index"].to_numpy()
    known = index < np.append(counts, 0)[task]
    tests = np.append(np.cumsum(counts) - counts, 0)[task] + index
    table = table.filter(pa.array(known & wanted[np.where(known, tests, 0)]))
    cells = table["cells"].combine_chunks().dictionary_encode()
    numbers = np.array([grids.setdefault(one, len(grids)) for one in cells.dictionary.to_pylist()], np.intp)
    widths = table["width"].to_numpy().astype(np.intp)
    frame: pd.DataFrame = table.select(["task", *_WAY, "steps", "halt_probability"]).to_pandas(
        categories=["colors"]
    )
    grid = numbers[cells.indices.to_numpy()] * _MAX_WIDTH + widths
    return frame.assign(
        test=tests[known & wanted[np.where(known, tests, 0)]], grid=np.where(widths > 0, grid, -1)
    )


def _same_categories(parts: list[pd.DataFrame], name: str) -> list[pd.DataFrame]:
    """The parts with one set of categories in a column, which concatenation keeps."""
    union: Any = pd.api.types.union_categoricals([part[name] for part in parts])
    ends = np.cumsum([len(part) for part in parts])
    return [
        part.assign(**{name: union[end - len(part) : end]}) for part, end in zip(parts, ends, strict=True)
    ]


def _told(rows: pd.DataFrame) -> list[list[Any]]:
    """The columns that `_move` takes, of at most 16 of the rows, evenly spread."""
    chosen = np.linspace(0, len(rows) - 1, min(len(rows), _MOST_STEPS)).round().astype(int)
    names = ("steps", "grid", "halt_probability", "agreeing", "total")
    return [rows[name].iloc[chosen].tolist() for name in names]


def _move(cells: list[bytes], step: int, code: int, halt: float, agreeing: int, total: int) -> Move:
    number, width = divmod(code, _MAX_WIDTH)
    grid = np.frombuffer(cells[number], np.uint8).reshape(-1, width) if code >= 0 else None
    return Move(step, grid, halt, agreeing, total)
