"""What building an ARC dataset and drawing batches from it costs, and what storing every grid would.

The baseline is a plain program for the same purpose: it makes each augmented grid, drops repeated puzzles,
pads, keeps everything in memory and saves it. It runs at few augmentations, and its time, memory and disk
are multiplied up to as many puzzles as the dataset has.
"""

import hashlib
import multiprocessing
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from arcpipe.augmentation import apply_dihedral
from arcpipe.codec import ARC, EOS, PAD
from arcpipe.errors import DataError
from arcpipe.grid import MAX_SIDE, NUM_COLORS, Grid
from arcpipe.runs import writing
from arcpipe.task import Task

BASELINE_NUM_AUG = 20
"""Augmented puzzles per task that the baseline makes, at most."""
_SECONDS_OF_BATCHES = 2.0
_TRIES = 5


@dataclass(frozen=True)
class BenchSettings:
    """What to build, and the batches to draw: `workers` processes make them, beside a run with none."""

    sources: Sequence[str]
    test_set: str
    num_aug: int
    batch_size: int
    workers: int


@dataclass(frozen=True)
class _Cost:
    """What a call in a process of its own took, from its start to its end, and what it returned."""

    seconds: float
    peak_bytes: int
    result: Any


def bench_augment(settings: BenchSettings, scratch: Path) -> tuple[list[dict[str, Any]], str]:
    """Rows of figures, each with its `unit`, of `arcpipe` and of the `baseline`, and their `ratio`; and a
    note on how the baseline was measured.

    Args:    scratch: an empty folder for what is built.
    Raises:  DataError for a source that cannot be read.
    """
    data, stored = scratch / "data", scratch / "stored"
    few = min(BASELINE_NUM_AUG, settings.num_aug)
    start = _in_own_process(_load)
    built = _in_own_process(_build, settings, data)
    materialized = _in_own_process(_materialize, settings, few, stored)
    factor = built.result / materialized.result
    seconds = start.seconds + (materialized.seconds - start.seconds) * factor
    peak = start.peak_bytes + (materialized.peak_bytes - start.peak_bytes) * factor
    rows = [
        _row("build", "s", built.seconds, seconds),
        _row("peak memory", "MB", built.peak_bytes / 1e6, peak / 1e6),
        _row("disk", "MB", _size_of(data) / 1e6, _size_of(stored) / 1e6 * factor),
    ]
    stored_rate = _stored_batches(settings, stored)
    for workers in dict.fromkeys((0, settings.workers)):
        rate = _batches(settings, data, workers)
        rows.append(_row(f"batches of {settings.batch_size}, {workers} workers", "1/s", rate, stored_rate))
    note = (
        f"{built.result} puzzles. Baseline: measured at {few} augmentations, {materialized.result} puzzles, "
        f"and multiplied by {factor:.1f}; its batches are read, by no workers, from the files of those few"
    )
    return rows, note


def _row(figure: str, unit: str, arcpipe: float, baseline: float) -> dict[str, Any]:
    """A row; the ratio says how many times better arcpipe is, less than 1 where it is worse."""
    ratio = arcpipe / baseline if unit == "1/s" else baseline / arcpipe
    return {"figure": figure, "unit": unit, "arcpipe": arcpipe, "baseline": baseline, "ratio": ratio}


def _in_own_process(work: Callable[..., Any], *args: Any) -> _Cost:
    """What a call costs in a fresh interpreter, whose start and imports count.

    A process begins with its parent's peak memory: this one must have loaded nothing large.
    """
    began = time.monotonic()
    spawn = multiprocessing.get_context("spawn")
    # Ctrl-C ends it without a word; this process says what there is to say.
    quiet = (signal.SIGINT, signal.SIG_DFL)
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=signal.signal, initargs=quiet) as pool:
        try:
            result, peak = pool.submit(_with_peak, work, *args).result()
        except BrokenProcessPool:
            raise DataError("a process of the benchmark was killed: it may have run out of memory") from None
    return _Cost(time.monotonic() - began, peak, result)


def _with_peak(work: Callable[..., Any], *args: Any) -> tuple[Any, int]:
    result = work(*args)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes but on macOS, where it is bytes.
    return result, peak * (1 if sys.platform == "darwin" else 1024)


def _load() -> None:
    """Import what the baseline needs: the part of its cost that does not grow."""
    import arcpipe.augment.split  # noqa: F401


def _build(settings: BenchSettings, out: Path) -> int:
    """Build the dataset; the number of its puzzles."""
    from arcpipe.augment.build import DataSettings, build_arc

    data = DataSettings(sources=list(settings.sources), test_set=settings.test_set, num_aug=settings.num_aug)
    return build_arc(data, out).puzzles


def _materialize(settings: BenchSettings, num_aug: int, out: Path) -> int:
    """Make, pad and save the training grids of every augmented puzzle; the number of puzzles."""
    from arcpipe.augment.sources import read_source
    from arcpipe.augment.split import select

    rng = np.random.default_rng(0)
    sources = [read_source(spec) for spec in settings.sources]
    chosen = select(
        sources, test_set=settings.test_set, max_side=MAX_SIDE, canvas=MAX_SIDE, exclude_overlap=False
    )
    inputs: list[Grid] = []
    labels: list[Grid] = []
    num_puzzles = 0
    for task in chosen.training:
        for pairs in _distinct_puzzles(task, num_aug, rng):
            num_puzzles += 1
            for given, wanted in pairs:
                room = MAX_SIDE + 1 - np.maximum(given.shape, wanted.shape)
                top, left = (int(start) for start in rng.integers(room))
                inputs.append(_padded(given, top, left))
                labels.append(_padded(wanted, top, left))
    with writing(out):
        out.mkdir()
        np.save(out / "inputs.npy", np.stack(inputs))
        np.save(out / "labels.npy", np.stack(labels))
    return num_puzzles


def _distinct_puzzles(
    task: Task, num_aug: int, rng: np.random.Generator
) -> Iterator[list[tuple[Grid, Grid]]]:
    """The pairs of a task itself and under random augmentations, none that came before."""
    pairs = [(pair.input, pair.output) for pair in (*task.demonstrations, *task.tests)]
    seen: set[bytes] = set()
    for attempt in range(_TRIES * num_aug + 1):
        dihedral, colors = 0, np.arange(NUM_COLORS, dtype=np.uint8)
        if attempt:
            dihedral, colors[1:] = int(rng.integers(8)), rng.permutation(colors[1:])
        made = [
            (apply_dihedral(colors[given], dihedral), apply_dihedral(colors[wanted], dihedral))
            for given, wanted in pairs
            if wanted is not None
        ]
        digest = hashlib.sha256()
        for grid in chain.from_iterable(made):
            digest.update(bytes(grid.shape) + grid.tobytes())
        if digest.digest() not in seen:
            seen.add(digest.digest())
            yield made
        if len(seen) > num_aug:
            break


def _padded(grid: Grid, top: int, left: int) -> Grid:
    """The tokens (900,) of a grid at a place of the canvas."""
    canvas = np.full((MAX_SIDE + 1, MAX_SIDE + 1), PAD, np.uint8)
    bottom, right = top + grid.shape[0], left + grid.shape[1]
    canvas[top:bottom, left:right] = grid + ARC.first
    canvas[bottom, left:right] = EOS
    canvas[top:bottom, right] = EOS
    return canvas[:MAX_SIDE, :MAX_SIDE].flatten()


def _batches(settings: BenchSettings, data: Path, workers: int) -> float:
    """Training batches a second."""
    from arcpipe.batches import TrainingStream
    from arcpipe.puzzleset import read_puzzle_set

    puzzles = read_puzzle_set(data)
    stream = TrainingStream(puzzles, batch_size=settings.batch_size, seed=0, placement=True)
    batches = stream.batches(0, 2**31, workers, pin=False)
    return _rate(lambda: next(batches))


def _stored_batches(settings: BenchSettings, stored: Path) -> float:
    """Batches a second of random rows of the baseline's files, mapped from the disk."""
    inputs, labels = (np.load(stored / f"{name}.npy", mmap_mode="r") for name in ("inputs", "labels"))
    rng = np.random.default_rng(0)

    def draw() -> None:
        rows = rng.integers(len(inputs), size=settings.batch_size)
        for grids in (inputs, labels):
            grids[rows].astype(np.int64)

    return _rate(draw)


def _rate(draw: Callable[[], object]) -> float:
    """Calls a second, after the first few."""
    for _ in range(5):
        draw()
    began, count = time.monotonic(), 0
    while (passed := time.monotonic() - began) < _SECONDS_OF_BATCHES:
        draw()
        count += 1
    return count / passed


def _size_of(folder: Path) -> int:
    """The bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
