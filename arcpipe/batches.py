"""PuzzleBatch, and the training stream: any global batch is a function of (seed, step) alone.

An epoch draws every group once, in a shuffled order, under one of its task's puzzles, with all its
examples: the sampling of the official code (`puzzle_dataset.py`), laid out as one endless stream of examples
that batches cut at fixed places. So a batch is found without replaying the ones before it, and is the
same for any number of processes and workers.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from arcpipe.buckets import Layout, fitting_side, layout_of
from arcpipe.codec import PAD, encode_grids
from arcpipe.puzzleset import PuzzleSet
from arcpipe.signals import ignore_signals

IGNORE = -100
"""The label of a cell that no loss and no accuracy counts."""


@dataclass(frozen=True)
class PuzzleBatch:
    """B samples, all int64.

    inputs: (B, L).
    labels: (B, L), IGNORE where the output is PAD.
    puzzle_ids: (B,).
    colors: (B, 10) the permutation of colors of each, where they are drawn afresh; else None.
    """

    inputs: Tensor
    labels: Tensor
    puzzle_ids: Tensor
    colors: Tensor | None = None

    def to(self, device: torch.device) -> "PuzzleBatch":
        """Return the batch on another device; from pinned memory the copy does not wait."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "PuzzleBatch":
        """Return the batch in memory that a GPU can copy from by itself; `DataLoader` calls this."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "PuzzleBatch":
        tensors = (getattr(self, field.name) for field in fields(self))
        return PuzzleBatch(*(None if tensor is None else change(tensor) for tensor in tensors))  # type: ignore[arg-type]


class _Draws(NamedTuple):
    """N entries of the stream.

    examples, puzzle_ids, variants: (N,) which example, under which puzzle, as which variant.
    placements: (N, 2) where on the canvas, as shares 0..1 of the rows and columns that are left.
    limits: (N,) side of the largest grid that the canvas holds.
    """

    examples: NDArray[np.intp]
    puzzle_ids: NDArray[np.intp]
    variants: NDArray[np.uint64]
    placements: NDArray[np.float64]
    limits: NDArray[np.intp]

    @classmethod
    def joined(cls, parts: Iterable["_Draws"]) -> "_Draws":
        columns: list[Any] = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return cls(*columns)


class _CanvasStream:
    """The endless stream of the examples of tasks on one canvas, of side `side`."""

    def __init__(self, puzzles: PuzzleSet, layout: Layout, side: int, seed: int, placement: bool) -> None:
        self.puzzles, self.placement = puzzles, placement and puzzles.family.with_eos
        # That of the whole canvas is the same whether or not there are smaller ones.
        self.seed, self.stream = seed, [] if side == layout.canvas else [side]
        self.limit = fitting_side(side, layout.canvas)
        self.examples = np.flatnonzero(layout.task_sides[puzzles.example_tasks] == side)
        _, first_example, self.groups = np.unique(
            puzzles.example_groups[self.examples], return_index=True, return_inverse=True
        )
        self.task_of_group = puzzles.example_tasks[self.examples[first_example]]
        # The puzzles of task t are by_task[first[t] : first[t] + count[t]].
        self.by_task = np.argsort(puzzles.table.tasks, kind="stable")
        self.count = np.bincount(puzzles.table.tasks, minlength=len(puzzles.table.task_ids))
        self.first = np.cumsum(self.count) - self.count
        # Not lru_cache: worker processes are handed a copy of this object.
        self.epochs: dict[int, _Draws] = {}

    def draws(self, start: int, count: int) -> _Draws:
        """Return the entries start .. start + count - 1."""
        epochs, positions = np.divmod(np.arange(start, start + count), len(self.examples))
        return _Draws.joined(
            _Draws(*(column[positions[epochs == epoch]] for column in self._epoch(int(epoch))))
            for epoch in np.unique(epochs)
        )

    def _epoch(self, epoch: int) -> _Draws:
        if epoch not in self.epochs:
            before = {number: self.epochs[number] for number in self.epochs if epoch - 3 < number < epoch}
            self.epochs = before | {epoch: self._draw_epoch(epoch)}
        return self.epochs[epoch]

    def _draw_epoch(self, epoch: int) -> _Draws:
        rng = np.random.default_rng([self.seed, epoch, *self.stream])
        num_groups, size = len(self.task_of_group), len(self.examples)
        own_place = rng.permutation(num_groups)[self.groups]
        # By group, and in a random order within each.
        order = np.lexsort((rng.random(size), own_place))
        count = self.count[self.task_of_group]
        ids = self.first[self.task_of_group] + (rng.random(num_groups) * count).astype(np.intp)
        placements = np.zeros((size, 2))
        if self.placement:
            placements = rng.random((size, 2))
            placements[np.flatnonzero(np.diff(own_place[order], prepend=-1))] = 0.0
        numbers, variants = np.zeros(size, np.uint64), self.puzzles.variants
        if variants is not None:
            most = 2**64 - 1 if variants.count is None else variants.count
            numbers = rng.integers(0, most, size, dtype=np.uint64, endpoint=True)
        limits = np.full(size, self.limit, np.intp)
        return _Draws(
            self.examples[order], self.by_task[ids][self.groups[order]], numbers, placements, limits
        )


class TrainingStream(Dataset[PuzzleBatch]):
    """The endless stream of augmented training examples of a puzzle set; item `step` is its batch.

    Each canvas of the layout has a stream of its own, from which it takes its rows of each batch.

    Args:  placement: move each ARC example to a random place on its canvas (input and output alike), but
           for one example of each puzzle, as the official code does.
           rank, num_ranks: which share of the global batch to make; ranks divide it evenly.
           layout: of the batch; None for the whole canvas throughout.
    """

    def __init__(
        self,
        puzzles: PuzzleSet,
        *,
        batch_size: int,
        seed: int,
        placement: bool,
        rank: int = 0,
        num_ranks: int = 1,
        layout: Layout | None = None,
    ) -> None:
        self.puzzles = puzzles
        self.layout = layout_of(puzzles, [], batch_size) if layout is None else layout
        assert sum(self.layout.rows) == batch_size, "the layout is of another batch"
        self.rank = rank
        self.num_ranks = num_ranks
        self._streams = [
            _CanvasStream(puzzles, self.layout, side, seed, placement) for side in self.layout.sides
        ]

    def __getitem__(self, step: int) -> PuzzleBatch:
        """Return the rows of this rank in the global batch of a step (from 0)."""
        parts = []
        for stream, rows in zip(self._streams, self.layout.rows, strict=True):
            share = rows // self.num_ranks
            parts.append(stream.draws(step * rows + self.rank * share, share))
        return self._encode(_Draws.joined(parts))

    def batches(self, first_step: int, last_step: int, workers: int, *, pin: bool) -> Iterator[PuzzleBatch]:
        """Yield the batches of steps first_step .. last_step - 1, made ahead by `workers` processes.

        With 0 workers each is made when it is asked for.
        """
        steps = range(first_step, last_step)
        loader = DataLoader(
            self, batch_size=None, sampler=steps, num_workers=workers, pin_memory=pin,
            worker_init_fn=ignore_signals,
        )  # fmt: skip
        return iter(loader)

    def _encode(self, draws: _Draws) -> PuzzleBatch:
        puzzles = self.puzzles
        # Where on the canvas the larger of input and output still fits.
        sides = np.maximum(puzzles.inputs.shapes[draws.examples], puzzles.outputs.shapes[draws.examples])
        slack = puzzles.slack(sides, draws.puzzle_ids) - (puzzles.canvas - draws.limits)[:, None]
        offsets = np.floor(draws.placements * (slack + 1)).astype(np.intp)
        inputs, outputs = (
            encode_grids(
                table,
                draws.examples,
                puzzles.transform(table, draws.examples, draws.puzzle_ids, draws.variants, offsets),
            )
            for table in puzzles.tables_with_eos[:2]
        )
        labels = outputs.astype(np.int64)
        labels[outputs == PAD] = IGNORE
        return PuzzleBatch(
            torch.from_numpy(inputs.astype(np.int64)),
            torch.from_numpy(labels),
            torch.from_numpy(draws.puzzle_ids.astype(np.int64)),
            torch.from_numpy(puzzles.colors(draws.puzzle_ids, draws.variants).astype(np.int64))
            if puzzles.fresh_colors
            else None,
        )
