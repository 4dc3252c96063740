"""Canvas buckets: smaller canvases for ARC tasks that fit them, and the layout of a batch on them.

Most tokens of a canvas are PAD. A bucket of side b is the top left b x b corner of the dataset's canvas. Its
tokens keep their positions, so that the same weights work on all canvases. The network attends to PAD, so it
is another function on a smaller canvas: all grids of a task use one canvas, in training and inference. The
choice depends on the demonstrations and test inputs, never on test outputs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arcpipe.errors import DataError
from arcpipe.log import counted
from arcpipe.model_config import BUCKET_UNITS

if TYPE_CHECKING:
    from arcpipe.puzzleset import PuzzleSet


def crop(values: Tensor, side: int, canvas: int, prefix: int = 0) -> Tensor:
    """Return the prefix and the top left `side` x `side` of tokens (B, P + canvas * canvas, ...)."""
    if side == canvas:
        return values
    cells = values[:, prefix:].unflatten(1, (canvas, canvas))[:, :side, :side].flatten(1, 2)
    return torch.cat((values[:, :prefix], cells), dim=1) if prefix else cells


def pad_back(values: Tensor, side: int, canvas: int, prefix: int = 0) -> Tensor:
    """Return a crop (B, P + side * side, ...) on the whole canvas again, padded with 0."""
    if side == canvas:
        return values
    whole = values.new_zeros(len(values), prefix + canvas * canvas, *values.shape[2:])
    whole[:, :prefix] = values[:, :prefix]
    corner = whole[:, prefix:].unflatten(1, (canvas, canvas))[:, :side, :side]
    corner.copy_(values[:, prefix:].unflatten(1, (side, side)))
    return whole


def fitting_side(side: int, canvas: int) -> int:
    """Return the side of the largest grid on a canvas; a bucket needs room for a row and column of EOS."""
    return side if side == canvas else side - 1


def needed_sides(puzzles: "PuzzleSet") -> NDArray[np.intp]:
    """Return the side (T,) of the largest grid of each task, including an estimate for test outputs.

    If all training outputs have one shape, so has the test output. Otherwise its height and width are those
    of its input times the largest ratio of a training pair; doubled if the ratios differ, because 3 of 400
    evaluation tasks exceed the estimate otherwise.
    """
    tasks, tests = puzzles.example_tasks, puzzles.test_tasks
    inputs, outputs, test_inputs = (
        table.shapes.astype(np.intp) for table in (puzzles.inputs, puzzles.outputs, puzzles.test_inputs)
    )
    count = len(puzzles.table.task_ids)
    shape, one_shape = _largest(outputs, tasks, count)
    growth, one_growth = _largest(outputs / inputs, tasks, count)
    growth *= np.where(one_shape, 0, np.where(one_growth, 1, 2))[:, None]
    # The tolerance is for rounding: ratios of sides are integers or further than this from one.
    expected = np.ceil(test_inputs * growth[tests] - 1e-6)
    needed = shape.max(axis=1)
    np.maximum.at(needed, tasks, inputs.max(axis=1))
    np.maximum.at(needed, tests, np.maximum(test_inputs, expected).max(axis=1))
    fitting: NDArray[np.intp] = needed.clip(max=puzzles.canvas).astype(np.intp)
    return fitting


def _largest(
    values: NDArray[Any], tasks: NDArray[np.integer], count: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the largest values (T, 2) of each task in `values` (E, 2), and whether they are equal (T,)."""
    largest, smallest = np.zeros((count, 2)), np.full((count, 2), np.inf)
    np.maximum.at(largest, tasks, values)
    np.minimum.at(smallest, tasks, values)
    return largest, (largest == smallest).all(axis=1)


def bucket_sides(
    puzzles: "PuzzleSet", buckets: Sequence[int], needed: NDArray[np.intp] | None = None
) -> NDArray[np.intp]:
    """Return the side (T,) of the canvas of each task: the smallest bucket that fits, or the whole canvas.

    Args:    buckets: ascending sides. needed: from `needed_sides`, if some tests were removed since.
    Raises:  DataError if the puzzles cannot use these canvases.
    """
    canvas = puzzles.canvas
    if buckets and not puzzles.family.with_eos:
        raise DataError(
            f"model.buckets are for ARC tasks: every {puzzles.family.name} fills its canvas: leave them out "
            "by --set 'model.buckets=[]'"
        )
    if buckets and buckets[-1] >= canvas:
        raise DataError(
            f"model.buckets {[*buckets]} must all be smaller than the dataset's canvas of {canvas}: leave "
            f"out the others by --set 'model.buckets={[side for side in buckets if side < canvas]}'"
        )
    if not buckets:
        return np.full(len(puzzles.table.task_ids), canvas, np.intp)
    sides = np.array([*buckets, canvas], np.intp)
    fits = [fitting_side(side, canvas) for side in sides.tolist()]
    return sides[np.searchsorted(fits, needed_sides(puzzles) if needed is None else needed)]


@dataclass(frozen=True, eq=False)
class Layout:
    """How a global batch is divided among canvases.

    canvas: side of the dataset's canvas.
    sides: sides of the canvases with rows in the batch, ascending.
    rows: number of rows on each of them, in this order.
    task_sides: (T,) side of the canvas of each task.
    """

    canvas: int
    sides: tuple[int, ...]
    rows: tuple[int, ...]
    task_sides: NDArray[np.intp]

    @property
    def buckets(self) -> list[int]:
        """Return the sides of the smaller canvases."""
        return [side for side in self.sides if side < self.canvas]

    @property
    def text(self) -> str:
        """Return the layout in a line, for the log."""
        tokens, total = self.mean(float), sum(self.rows)
        parts = (
            f"side {side}: {counted(int((self.task_sides == side).sum()), 'task')}, {rows} of {total} rows"
            for side, rows in zip(self.sides, self.rows, strict=True)
        )
        share = tokens / self.canvas**2
        return f"{'; '.join(parts)}; {tokens:.0f} tokens a sample on average, {share:.0%} of the tokens"

    def mean(self, value: Callable[[int], float]) -> float:
        """Return the mean over rows of a function of the number of tokens."""
        sums = [rows * value(side * side) for side, rows in zip(self.sides, self.rows, strict=True)]
        return sum(sums) / sum(self.rows)

    def own_rows(self, rank: int, num_ranks: int) -> NDArray[np.intp]:
        """Return the rows of the global batch that a process computes: its share of each canvas."""
        ends = np.cumsum(self.rows)
        parts = [
            np.arange(rows // num_ranks) + end - rows + rank * (rows // num_ranks)
            for rows, end in zip(self.rows, ends, strict=True)
        ]
        return np.concatenate(parts)

    def parts(self, num_ranks: int, accumulation: int) -> list[tuple[slice, int]]:
        """Return the rows of a process in parts (rows, side), at most `accumulation` per canvas."""
        parts, start = [], 0
        for side, rows in zip(self.sides, self.rows, strict=True):
            share = rows // num_ranks
            cuts = [start + share * number // accumulation for number in range(accumulation + 1)]
            parts += [(slice(first, last), side) for first, last in pairwise(cuts) if first < last]
            start += share
        return parts


def layout_of(puzzles: "PuzzleSet", buckets: Sequence[int], batch_size: int) -> Layout:
    """Return the layout of a batch, with rows in proportion to the draws of examples on each canvas.

    Rows are a multiple of a power of two that depends only on the batch size, so that processes can have
    equal shares. A bucket with too few examples is merged into the next larger canvas.

    Raises:  DataError if the puzzles cannot use these canvases.
    """
    example_sides, weights = bucket_sides(puzzles, buckets)[puzzles.example_tasks], puzzles.example_weights
    unit = 1
    while batch_size % (2 * unit) == 0 and 2 * unit * BUCKET_UNITS <= batch_size:
        unit *= 2
    sides, total = np.unique(example_sides), batch_size // unit
    while True:
        counts = np.zeros(len(sides), np.intp)
        np.add.at(counts, np.searchsorted(sides, example_sides), weights)
        # By largest remainders; the largest canvas has one at least.
        units, remainders = np.divmod(total * counts, counts.sum())
        units[np.argsort(-remainders, kind="stable")[: total - units.sum()]] += 1
        if not units[-1]:
            units[(units * counts.sum() - total * counts).argmax()] -= 1
            units[-1] = 1
        if units.all():
            break
        sides = np.delete(sides, units.argmin())
    used = [side for side in sides.tolist() if side < puzzles.canvas]
    rows = tuple((units * unit).tolist())
    return Layout(puzzles.canvas, tuple(sides.tolist()), rows, bucket_sides(puzzles, used))
