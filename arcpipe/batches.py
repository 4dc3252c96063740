"""PuzzleBatch, and the training stream: every global batch is a function of (seed, step) alone.

An epoch draws every group once in a shuffled order, with all its examples, under one of its task's puzzles.
This is the sampling of the official code (`puzzle_dataset.py`), as an endless stream of examples that is cut
into batches. So a batch is computed without the earlier ones, and is the same for any number of processes and
workers. With `Sampling`, a draw takes some examples of a group, and groups are drawn with different
frequencies; then the length of an epoch is the average over such draws.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from arcpipe.augmentation import TRANSPOSES, random_bits
from arcpipe.buckets import Layout, fitting_side, layout_of
from arcpipe.codec import PAD
from arcpipe.processes import ignore_signals
from arcpipe.puzzleset import PuzzleSet, ranks_of

_FEWEST_DRAWS = 1 << 10
IGNORE = -100
"""The label of a cell that losses and accuracies ignore."""


class PuzzleBatch(NamedTuple):
    """B samples, all int64.

    inputs: (B, L).
    labels: (B, L), IGNORE where the output is PAD.
    puzzle_ids: (B,).
    colors: (B, 10) the color permutation of each sample, if the dataset has fresh colors.
    """

    inputs: Tensor
    labels: Tensor
    puzzle_ids: Tensor
    colors: Tensor | None = None

    def to(self, device: torch.device) -> "PuzzleBatch":
        """Return the batch on another device; from pinned memory, the copy is asynchronous."""
        tensors = (None if one is None else one.to(device, non_blocking=True) for one in self)
        return PuzzleBatch(*tensors)  # type: ignore[arg-type]


class _Draws(NamedTuple):
    """N draws of the stream.

    examples, puzzle_ids, variants: (N,) the example, its puzzle and the number of its variant.
    placements: (N, 2) place on the canvas, as a fraction of the free rows and columns.
    """

    examples: NDArray[np.intp]
    puzzle_ids: NDArray[np.intp]
    variants: NDArray[np.uint64]
    placements: NDArray[np.float64]

    @classmethod
    def joined(cls, parts: Iterable["_Draws"]) -> "_Draws":
        columns: list[Any] = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return cls(*columns)


class _CanvasStream:
    """The endless stream of the examples of tasks on one canvas, of side `side`."""

    def __init__(self, puzzles: PuzzleSet, layout: Layout, side: int, seed: int, placement: bool) -> None:
        self.puzzles, self.seed = puzzles, seed
        self.placement = placement and puzzles.family.with_eos
        # The stream of the whole canvas does not depend on whether there are buckets.
        self.stream = [] if side == layout.canvas else [side]
        self.examples = np.flatnonzero(layout.task_sides[puzzles.example_tasks] == side)
        _, first_example, self.groups = np.unique(
            puzzles.example_groups[self.examples], return_index=True, return_inverse=True
        )
        self.task_of_group = puzzles.example_tasks[self.examples[first_example]]
        # The examples of group g are by_group[start[g] : start[g] + size[g]]; a draw takes taken[g] of them.
        self.by_group = np.argsort(self.groups, kind="stable")
        self.size = np.bincount(self.groups)
        self.start = np.cumsum(self.size) - self.size
        self.taken = np.minimum(self.size, puzzles.sampling.pairs or self.size)
        self.weights = puzzles.draw_weights[self.task_of_group] if puzzles.sampling.shares else None
        # Weighted draws are cut at the end of the epoch; with few draws this would favor large groups.
        self.num_draws = len(self.taken) if self.weights is None else max(len(self.taken), _FEWEST_DRAWS)
        self.epoch_size = round(float(np.average(self.taken, weights=self.weights)) * self.num_draws)
        # Not lru_cache, because worker processes get a copy of this object.
        self.epochs: dict[int, _Draws] = {}

    def draws(self, start: int, count: int) -> _Draws:
        """Return the draws start .. start + count - 1."""
        epochs, positions = np.divmod(np.arange(start, start + count), self.epoch_size)
        parts = []
        for epoch in np.unique(epochs).tolist():
            if epoch not in self.epochs:
                before = {near: draws for near, draws in self.epochs.items() if epoch - 3 < near < epoch}
                self.epochs = before | {epoch: self._draw_epoch(epoch)}
            parts.append(_Draws(*(column[positions[epochs == epoch]] for column in self.epochs[epoch])))
        return _Draws.joined(parts)

    def _draw_epoch(self, epoch: int) -> _Draws:
        rng = np.random.default_rng([self.seed, epoch, *self.stream])
        sampling, variants = self.puzzles.sampling, self.puzzles.variants
        # The group of each draw; then all examples of these groups, each with the number of its draw.
        groups = np.arange(len(self.size)) if self.weights is None else self._weighted_groups(rng)
        draws = np.repeat(np.arange(len(groups)), self.size[groups])
        items = self.by_group[self.start[groups][draws] + ranks_of(draws)]
        places = rng.permutation(len(groups))[draws]
        # Sorted by shuffled draw, and in a random order within each draw.
        order = np.lexsort((rng.random(len(draws)), places))
        ranks, choices = ranks_of(places[order]), rng.random(len(groups))
        drawn = np.flatnonzero(ranks < self.taken[groups[draws[order]]])[: self.epoch_size]
        order, ranks = order[drawn], ranks[drawn]
        draws, examples = draws[order], self.examples[items[order]]
        tasks = self.task_of_group[groups][draws]
        table = self.puzzles.table
        puzzle_ids = table.nth(tasks, (choices[draws] * table.num_of_tasks[tasks]).astype(np.intp))
        placements = np.zeros((len(order), 2))
        if self.placement and sampling.places is not None:
            placements = self._fixed_places(sampling.places, items[order], puzzle_ids)
        elif self.placement:
            placements = rng.random((len(order), 2))
            # One example of each group stays in the corner, even if this draw does not take it.
            stays = rng.random(len(groups)) if sampling.pairs else np.zeros(len(groups))
            placements[ranks == (stays * self.size[groups]).astype(np.intp)[draws]] = 0.0
        numbers = np.zeros(len(order), np.uint64)
        if variants is not None:
            most = 2**64 - 1 if variants.count is None else variants.count
            numbers = rng.integers(0, most, len(order), dtype=np.uint64, endpoint=True)
        return _Draws(examples, puzzle_ids, numbers, placements)

    def _weighted_groups(self, rng: np.random.Generator) -> NDArray[np.intp]:
        """Return the groups of enough draws to fill an epoch, in any order.

        They come in rounds of systematic sampling: in each round a group, and all groups of equal weight
        together, get their shares up to rounding.
        """
        assert self.weights is not None
        rounds: list[NDArray[np.intp]] = []
        filled = 0
        while filled < self.epoch_size:
            order = np.lexsort((rng.random(len(self.weights)), self.weights))
            ends = np.cumsum(self.weights[order])
            places = (np.arange(self.num_draws) + rng.random()) * ends[-1] / self.num_draws
            rounds.append(order[np.searchsorted(ends[:-1], places, side="right")])
            filled += int(self.taken[rounds[-1]].sum())
        return np.concatenate(rounds)

    def _fixed_places(
        self, seed: int, items: NDArray[np.intp], puzzle_ids: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Return the place (N, 2) of each example under its puzzle; 0, 0 for one example of each puzzle."""
        ids, groups = puzzle_ids.astype(np.uint64), self.groups[items]
        bits = random_bits(seed, ids, self.examples[items].astype(np.uint64))
        places = np.stack([bits >> np.uint64(32), bits & np.uint64(2**32 - 1)], axis=1) / 2.0**32
        stays = random_bits(seed, ids) % self.size[groups].astype(np.uint64)
        places[ranks_of(self.groups)[items] == stays] = 0.0
        return places


class TrainingStream(Dataset[PuzzleBatch]):
    """The endless stream of augmented training examples of a puzzle set; item `step` is the batch of a step.

    Each canvas of the layout has its own stream, which provides its rows of each batch.

    Args:  placement: move the input and output of each ARC example to a random place on the canvas, except
           for one example of each puzzle, as the official code does.
           rank, num_ranks: the share of the global batch to compute; ranks have equal shares.
           layout: layout of the batch; None for the whole canvas only.
    """

    def __init__(
        self, puzzles: PuzzleSet, *, batch_size: int, seed: int, placement: bool,
        rank: int = 0, num_ranks: int = 1, layout: Layout | None = None,
    ) -> None:  # fmt: skip
        self.puzzles, self.rank, self.num_ranks = puzzles, rank, num_ranks
        self.layout = layout_of(puzzles, [], batch_size) if layout is None else layout
        assert sum(self.layout.rows) == batch_size, "the layout is of another batch"
        self._streams = [
            _CanvasStream(puzzles, self.layout, side, seed, placement) for side in self.layout.sides
        ]

    def __getitem__(self, step: int) -> PuzzleBatch:
        """Return the rows of this rank in the global batch of a step (from 0)."""
        puzzles, layout = self.puzzles, self.layout
        shares = [rows // self.num_ranks for rows in layout.rows]
        draws = _Draws.joined(
            stream.draws(step * rows + self.rank * share, share)
            for stream, rows, share in zip(self._streams, layout.rows, shares, strict=True)
        )
        # Both input and output must fit on the canvas.
        sides = np.maximum(puzzles.inputs.shapes[draws.examples], puzzles.outputs.shapes[draws.examples])
        transposed = np.array(TRANSPOSES)[puzzles.table.dihedrals[draws.puzzle_ids]]
        limits = np.repeat([fitting_side(side, layout.canvas) for side in layout.sides], shares)
        room = limits[:, None] - np.where(transposed[:, None], sides[:, ::-1], sides)
        offsets = np.floor(draws.placements * (room + 1)).astype(np.intp)
        inputs, outputs = (
            puzzles.encode(table, draws.examples, draws.puzzle_ids, draws.variants, offsets)
            for table in puzzles.tables_with_eos[:2]
        )
        labels = np.where(outputs == PAD, IGNORE, outputs.astype(np.int64))
        arrays: list[NDArray[Any]] = [inputs, labels, draws.puzzle_ids]
        if puzzles.fresh_colors:
            arrays.append(puzzles.colors(draws.puzzle_ids, draws.variants))
        return PuzzleBatch(*(torch.from_numpy(array.astype(np.int64)) for array in arrays))

    def batches(self, first_step: int, last_step: int, workers: int, *, pin: bool) -> Iterator[PuzzleBatch]:
        """Yield the batches of steps first_step .. last_step - 1, prefetched by `workers` processes."""
        loader = DataLoader(
            self, batch_size=None, sampler=range(first_step, last_step), num_workers=workers, pin_memory=pin,
            worker_init_fn=ignore_signals,
        )  # fmt: skip
        return iter(loader)
