"""The curves of a run: what metrics.jsonl holds, as charts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from arcpipe.errors import DataError

METRICS_FILE = "metrics.jsonl"
_MOST_POINTS = 400
_EVALUATION = "eval/"
_ANSWERED = "eval/answered"
# Of an evaluation, what is no share.
_COUNTS = ("eval/test_inputs", "eval/votes", "eval/votes_asked")
_OF_FINISHED = ("train/exact_accuracy", "train/cell_accuracy", "train/halt_accuracy", "train/steps_to_halt")

Records = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Line:
    """One curve: its name, and a value at each of some steps."""

    name: str
    steps: list[int]
    values: list[float]


@dataclass(frozen=True)
class Chart:
    """Curves over training steps on one scale: share (0..1), log or linear, from zero or not.

    averaged: how many records a point is the mean of.
    """

    title: str
    scale: str
    lines: tuple[Line, ...]
    averaged: int


# Title, scale, and the name of each metric there.
_CHARTS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("Loss", "log", {"train/loss_answer": "answer", "train/loss_halt": "halt"}),
    (
        "Accuracy in training",
        "share",
        {
            "train/exact_accuracy": "whole grids",
            "train/cell_accuracy": "cells",
            "train/halt_accuracy": "halt decisions",
            "train/halt_baseline": "never to halt",
        },
    ),
    ("Steps to halt", "linear", {"train/steps_to_halt": "steps"}),
    ("Learning rate", "linear", {"train/lr": "learning rate"}),
    ("Throughput", "linear", {"samples_per_second": "samples a second"}),
    ("Share of the device's peak", "share", {"share_of_peak": "share of peak"}),
)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl, by step; a last line that is still being written is left out.

    Raises:  DataError naming the line if it cannot be read or holds something else.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            record = None
        if not isinstance(record, dict) or type(record.get("step")) is not int:
            raise DataError(f"{path}: line {number} is no record of a training; mend the file or remove it")
        records.append(record)
    return sorted(records, key=lambda record: int(record["step"]))


def charts(records: Records) -> list[Chart]:
    """The charts that the records have values for; evaluations come last, in one, with the share answered
    where that is not all."""
    records = [_meant(record) for record in records]
    evaluated = {
        key: key.removeprefix(_EVALUATION).replace("_", " ")
        for record in records
        for key in record
        if key.startswith(_EVALUATION) and key not in _COUNTS
    }
    if all(record.get(_ANSWERED, 1) == 1 for record in records):
        evaluated.pop(_ANSWERED, None)
    kinds = [*_CHARTS, ("Evaluation", "share", evaluated)]
    made = [_chart(title, scale, names, records) for title, scale, names in kinds]
    return [chart for chart in made if chart is not None]


def _meant(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """A record without the zeros that older runs wrote where no sample finished, and with their baseline."""
    if record.get("train/finished") == 0:
        return {key: value for key, value in record.items() if key not in _OF_FINISHED}
    exact = record.get("train/exact_accuracy")
    return {"train/halt_baseline": 1 - exact, **record} if isinstance(exact, int | float) else record


def _chart(title: str, scale: str, names: Mapping[str, str], records: Records) -> Chart | None:
    columns = {name: column for key, name in names.items() if len((column := _column(records, key))[0])}
    if not columns:
        return None
    longest = max(len(steps) for steps, _ in columns.values())
    size = -(-longest // _MOST_POINTS)
    lines = tuple(Line(name, *_thinned(*column, size)) for name, column in columns.items())
    return Chart(title, scale, lines, size)


def _column(records: Records, key: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The steps that have a number under `key`, and those numbers."""
    found = [(record["step"], record[key]) for record in records if type(record.get(key)) in (int, float)]
    steps, values = zip(*found, strict=True) if found else ((), ())
    return np.array(steps, np.int64), np.array(values, np.float64)


def _thinned(
    steps: NDArray[np.int64], values: NDArray[np.float64], size: int
) -> tuple[list[int], list[float]]:
    """The mean of each `size` values after each other, at the last of their steps."""
    starts = np.arange(0, len(steps), size)
    ends = np.append(starts[1:], len(steps))
    means = np.add.reduceat(values, starts) / (ends - starts)
    return steps[ends - 1].tolist(), [float(f"{mean:.5g}") for mean in means]


def training_facts(records: Records) -> list[tuple[str, str]]:
    """What the records say of the training as a whole, in words."""
    trained = [_meant(record) for record in records if "train/loss_answer" in record]
    if not trained:
        return []
    last = trained[-1]
    facts = [("steps", f"{last['step']:,}")]
    if "seconds" in last:
        facts.append(("time", duration(float(last["seconds"]))))
    speeds = _column(trained, "samples_per_second")[1]
    if len(speeds):
        facts.append(("samples a second", f"{np.median(speeds):,.0f}"))
    facts.append(("loss at the end", f"{last['train/loss_answer']:.3g}"))
    right = _column(trained, "train/exact_accuracy")[1]
    if len(right):
        facts.append(("whole grids right in training", f"{right[-1]:.1%}"))
    return facts


def duration(seconds: float) -> str:
    """A time in words: its two largest units."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    hours = round(minutes / 60)
    return f"{minutes // 60} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
