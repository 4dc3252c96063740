"""Results of a run: training curves, and attempts and votes for each test input."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from arcpipe.documents import limit, read_file
from arcpipe.errors import DataError
from arcpipe.grid import Grid
from arcpipe.infer.vote import VotedGrid
from arcpipe.log import METRICS_FILE
from arcpipe.task import Pair

_LOSS = "train/loss_answer"
_MOST_POINTS = 400
_SPARE_VALUES = 2**20
_EVALUATION = "eval/"
_ANSWERED = "eval/answered"
# Metrics of an evaluation that are counts; the others are shares.
_COUNTS = ("eval/test_inputs", "eval/votes", "eval/votes_asked")
_OF_FINISHED = ["train/exact_accuracy", "train/cell_accuracy", "train/steps_to_halt"]
# Title, scale, and the metrics to draw with their labels.
_CHARTS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("Loss", "log", {"train/loss_answer": "answer", "train/loss_halt": "halt"}),
    ("Accuracy in training", "share", {
        "train/exact_accuracy": "whole grids", "train/cell_accuracy": "cells",
        "train/halt_recall": "halt recall", "train/halt_precision": "halt precision",
    }),
    ("Steps to halt", "linear", {"train/steps_to_halt": "steps"}),
    ("Learning rate", "linear", {"train/lr": "learning rate"}),
    ("Throughput", "linear", {"samples_per_second": "samples a second"}),
    ("Share of the device's peak", "share", {"share_of_peak": "share of peak"}),
)  # fmt: skip

NEARLY = 3
"""A test input is nearly solved with at most this many wrong cells."""

NEAR_TIE = 2
"""A near tie: the votes of the second grid, an attempt, and of the third differ by at most this many."""

OUTCOMES = {
    "solved": "solved",
    "nearly": f"within {NEARLY} cells",
    "cells": "wrong cells",
    "size": "wrong size",
    "none": "no votes",
    "unknown": "answered",
}
"""Outcomes of a test input, the best first, with their labels on the page."""

_MOST_STEPS = 16
_TEST = ["task", "test_index"]
_WAY = ["dihedral", "colors", "variant", "rollout", "checkpoint"]

Line = tuple[list[int], list[float]]
"""A curve: steps, and the value at each step."""


@dataclass(frozen=True)
class Chart:
    """Curves over training steps, by name, on one scale.

    scale: share (0..1), log or linear.
    averaged: records averaged into one point.
    """

    title: str
    scale: str
    lines: dict[str, Line]
    averaged: int


def read_metrics(run: Path | None) -> pd.DataFrame:
    """Read the metrics of a run: a row per record, indexed by step; NaN where a record has no number.

    Skips a last line without a line break, which is still being written, and the zeros that older runs
    wrote when no sample finished.

    Raises:  DataError naming the line if the file cannot be read or a line is not a record.
    """
    records = []
    path = (run or Path()) / METRICS_FILE
    content = read_file(path) if run and path.exists() else b""
    names: set[str] = set()
    for number, line in enumerate(content.split(b"\n")[:-1], 1):
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            record = None
        if not isinstance(record, dict) or type(record.get("step")) is not int:
            raise DataError(f"{path}: line {number} is no record of a training; mend the file or remove it")
        names.update(record)
        # If no two records share a name, the table grows with the square of the file.
        if len(names) * number > limit(_SPARE_VALUES + len(content)):
            raise DataError(
                f"{path}: line {number}: {len(names)} metrics by then, too many for its size; mend the file "
                "or remove it"
            )
        records.append(record)
    frame = pd.DataFrame(records, columns=None if records else ["step"]).set_index("step")
    numbers = {str(name): pd.to_numeric(column, errors="coerce") for name, column in frame.items()}
    frame = pd.DataFrame(numbers, frame.index, dtype=float).sort_index(kind="stable")
    if "train/finished" in frame:
        frame.loc[frame["train/finished"] == 0, frame.columns.intersection(_OF_FINISHED)] = np.nan
    return frame


def training_facts(metrics: pd.DataFrame) -> list[tuple[str, str]]:
    """Return facts about the whole training, as pairs of name and text."""
    trained = metrics[metrics[_LOSS].notna()] if _LOSS in metrics else metrics[:0]
    if trained.empty:
        return []
    facts = {"steps": f"{trained.index[-1]:,}"}
    values = {str(name): column.dropna().tolist() for name, column in trained.items()}
    if seconds := values.get("seconds"):
        facts["time"] = duration(seconds[-1])
    if speeds := values.get("samples_per_second"):
        facts["samples a second"] = f"{np.median(speeds):,.0f}"
    facts["loss at the end"] = f"{values[_LOSS][-1]:.3g}"
    if right := values.get("train/exact_accuracy"):
        facts["whole grids right in training"] = f"{right[-1]:.1%}"
    return list(facts.items())


def duration(seconds: float) -> str:
    """Format a time in its two largest units."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    hours = round(minutes / 60)
    return f"{minutes // 60} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def charts(metrics: pd.DataFrame) -> list[Chart]:
    """Return the charts for which there are metrics.

    The last chart has all scores of evaluations. It shows the share answered only if that is ever below 1.
    """
    evaluated = {
        key: key.removeprefix(_EVALUATION).replace("_", " ")
        for key in map(str, metrics.columns)
        if key.startswith(_EVALUATION) and key not in _COUNTS
    }
    if _ANSWERED in metrics and (metrics[_ANSWERED].dropna() == 1).all():
        del evaluated[_ANSWERED]
    drawable = []
    for title, scale, names in (*_CHARTS, ("Evaluation", "share", evaluated)):
        curves = {name: metrics[key].dropna() for key, name in names.items() if key in metrics}
        curves = {name: curve for name, curve in curves.items() if len(curve)}
        size = max(1, -(-max(map(len, curves.values()), default=0) // _MOST_POINTS))
        lines: dict[str, Line] = {}
        for name, curve in curves.items():
            # Each point is the mean of `size` consecutive values, at the last of their steps.
            means = curve.groupby(np.arange(len(curve)) // size).mean()
            last = [*range(size - 1, len(curve) - 1, size), len(curve) - 1]
            lines[name] = curve.index[last].tolist(), [float(f"{mean:.5g}") for mean in means]
        if lines:
            drawable.append(Chart(title, scale, lines, size))
    return drawable


class Move(NamedTuple):
    """The answer after a number of steps; the grid is None if none could be cropped.

    agreeing: candidates with the same grid, of the `total` at that step.
    """

    step: int
    grid: Grid | None
    halt_probability: float
    agreeing: int
    total: int


@dataclass(frozen=True, eq=False)
class Result:
    """A test input with its attempts and votes.

    attempts: the distinct attempts, in order.
    voted: the distinct grids of the candidates, the best first.
    candidates: number of candidates, including those without a grid.
    moves: the answer step by step.
    demonstrations: the demonstrations of its task.
    note: a remark to show beside its task.
    """

    task: str
    pair: Pair
    attempts: Sequence[Grid]
    voted: Sequence[VotedGrid] = ()
    candidates: int = 0
    moves: Sequence[Move] = ()
    demonstrations: Sequence[Pair] = ()
    note: str | None = None

    @property
    def wrong_cells(self) -> int | None:
        """The fewest wrong cells of an attempt; None if no attempt has the right size."""
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


def spread(items: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    """Return up to `most` evenly spaced items, including the first and the last."""
    return items[np.linspace(0, len(items) - 1, min(len(items), most)).round().astype(np.intp)]


def read_moves(
    tables: Iterable[pa.Table], tests: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], list[Move]]:
    """Return up to 16 moves per test input, from the first way of answering it that has several steps.

    A way is an augmentation, variant, rollout and checkpoint; the first has no augmentation or noise. A test
    input without such a way is left out.

    Args:  tables: the tables of `arcpipe.predictions.read_candidates`.
           tests: the task and index of each input; the result may have more.
    """
    tasks = pa.array([task for task, _ in tests], pa.string())
    indices = pa.array([index for _, index in tests], pa.int32())
    columns = [*_TEST, *_WAY, "steps", "halt_probability", "width", "cells"]
    parts = []
    for table in tables:
        is_task = pc.is_in(table["task"].cast(pa.string()), tasks)
        part = table.select(columns).filter(pc.and_(is_task, pc.is_in(table["test_index"], indices)))
        # Dictionaries: many rows repeat the same grid and the same permutation.
        for name in ("colors", "cells"):
            part = part.set_column(columns.index(name), name, part[name].dictionary_encode())
        parts.append(part)
    if not parts:
        return {}
    table = pa.concat_tables(parts).unify_dictionaries()
    # Compare grids by their dictionary index: decoding them would copy every grid in memory.
    cells = table["cells"].combine_chunks()
    frame = table.drop_columns("cells").to_pandas().assign(cells=cells.indices.to_numpy())
    frame["total"] = _by_test(frame, "steps")["width"].transform("size")
    frame["agreeing"] = _by_test(frame, "steps", "cells", "width")["width"].transform("size")
    frame["way"] = _by_test(frame, *_WAY).ngroup()
    frame = frame[_by_test(frame, "way")["steps"].transform("nunique") > 1]
    frame = frame[frame["way"] == _by_test(frame)["way"].transform("first")]
    frame = frame.drop_duplicates([*_TEST, "steps"]).sort_values("steps")
    # One frame for all tests: pandas takes milliseconds to take a frame apart.
    shown = [place for rows in _by_test(frame).indices.values() for place in spread(rows, _MOST_STEPS)]
    moves: dict[tuple[str, int], list[Move]] = defaultdict(list)
    for row in frame.iloc[shown].itertuples():
        content = cells.dictionary[row.cells].as_py()
        grid = np.frombuffer(content, np.uint8).reshape(-1, row.width) if row.width else None
        move = Move(row.steps, grid, float(row.halt_probability), row.agreeing, row.total)
        moves[row.task, row.test_index].append(move)
    return dict(moves)


def _by_test(frame: Any, *keys: str) -> Any:
    return frame.groupby([*_TEST, *keys], observed=True, sort=False)
