"""PuzzleBatch, and the training stream: any global batch is a function of (seed, step) alone.

An epoch draws every group once, in a shuffled order, under one of its task's puzzles, with all its
examples: the sampling of the reference (`puzzle_dataset.py`), laid out as one endless stream of examples
that batches cut at fixed places. So a batch is found without replaying the ones before it, and is the
same for any number of processes and workers.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from arcpipe.codec import PAD, encode_grids
from arcpipe.puzzleset import PuzzleSet
from arcpipe.signals import ignore_signals

IGNORE = -100
"""The label of a cell that no loss and no accuracy counts."""


@dataclass(frozen=True)
class PuzzleBatch:
    """inputs (B, L), labels (B, L) with IGNORE where the output is PAD, puzzle_ids (B,); all int64."""

    inputs: Tensor
    labels: Tensor
    puzzle_ids: Tensor

    def to(self, device: torch.device) -> "PuzzleBatch":
        """The batch on another device; from pinned memory the copy does not wait."""
        inputs, labels, puzzle_ids = (
            tensor.to(device, non_blocking=True) for tensor in (self.inputs, self.labels, self.puzzle_ids)
        )
        return PuzzleBatch(inputs, labels, puzzle_ids)

    def pin_memory(self) -> "PuzzleBatch":
        """The batch in memory that a GPU can copy from by itself; `DataLoader` calls this."""
        return PuzzleBatch(self.inputs.pin_memory(), self.labels.pin_memory(), self.puzzle_ids.pin_memory())


@dataclass(frozen=True)
class _Draws:
    """N entries of the stream: which example, under which puzzle, as which variant, placed where (N, 2)."""

    examples: NDArray[np.intp]
    puzzle_ids: NDArray[np.intp]
    variants: NDArray[np.uint64]
    placements: NDArray[np.float64]

    def at(self, positions: NDArray[np.integer]) -> "_Draws":
        return _Draws(
            self.examples[positions],
            self.puzzle_ids[positions],
            self.variants[positions],
            self.placements[positions],
        )


class TrainingStream(Dataset[PuzzleBatch]):
    """The endless stream of augmented training examples of a puzzle set; item `step` is its batch.

    Args:  placement: move each ARC example to a random place on the canvas (input and output alike), but
           for one example of each puzzle, as the reference does.
           rank, num_ranks: which share of the global batch to make; ranks divide it evenly.
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
    ) -> None:
        self.puzzles = puzzles
        self.batch_size = batch_size
        self.seed = seed
        self.placement = placement
        self.rank = rank
        self.num_ranks = num_ranks
        self._num_groups = int(puzzles.example_groups.max()) + 1
        self._task_of_group = np.zeros(self._num_groups, np.intp)
        self._task_of_group[puzzles.example_groups] = puzzles.example_tasks
        # The puzzles of task t are by_task[first[t] : first[t] + count[t]].
        self._by_task = np.argsort(puzzles.table.tasks, kind="stable")
        self._count = np.bincount(puzzles.table.tasks, minlength=len(puzzles.table.task_ids))
        self._first = np.cumsum(self._count) - self._count
        # Not lru_cache: worker processes are handed a copy of this object.
        self._drawn: dict[int, _Draws] = {}

    def __getitem__(self, step: int) -> PuzzleBatch:
        """The rows of this rank in the global batch of a step (from 0)."""
        share = self.batch_size // self.num_ranks
        start = step * self.batch_size + self.rank * share
        epochs, positions = np.divmod(np.arange(start, start + share), len(self.puzzles.example_tasks))
        parts = [self._epoch(int(epoch)).at(positions[epochs == epoch]) for epoch in np.unique(epochs)]
        return self._encode(
            _Draws(
                *(
                    np.concatenate([getattr(part, name) for part in parts])
                    for name in ("examples", "puzzle_ids", "variants", "placements")
                )
            )
        )

    def batches(self, first_step: int, last_step: int, workers: int, *, pin: bool) -> Iterator[PuzzleBatch]:
        """The batches of steps first_step .. last_step - 1 in order, made ahead by `workers` processes; 0
        makes each when it is asked for."""
        steps = range(first_step, last_step)
        loader = DataLoader(
            self, batch_size=None, sampler=steps, num_workers=workers, pin_memory=pin,
            worker_init_fn=ignore_signals,
        )  # fmt: skip
        return iter(loader)

    def _epoch(self, epoch: int) -> _Draws:
        if epoch not in self._drawn:
            self._drawn = {known: draws for known, draws in self._drawn.items() if epoch - 3 < known < epoch}
            self._drawn[epoch] = self._draw_epoch(epoch)
        return self._drawn[epoch]

    def _draw_epoch(self, epoch: int) -> _Draws:
        puzzles = self.puzzles
        rng = np.random.default_rng([self.seed, epoch])
        place_of_group = rng.permutation(self._num_groups)
        own_place = place_of_group[puzzles.example_groups]
        # By group, and in a random order within each.
        examples = np.lexsort((rng.random(len(own_place)), own_place))
        count = self._count[self._task_of_group]
        chosen = self._first[self._task_of_group] + (rng.random(self._num_groups) * count).astype(np.intp)
        puzzle_ids = self._by_task[chosen][puzzles.example_groups[examples]]
        placements = np.zeros((len(examples), 2))
        if self.placement and puzzles.family.framed:
            placements = rng.random((len(examples), 2))
            sorted_place = own_place[examples]
            placements[np.flatnonzero(np.diff(sorted_place, prepend=-1))] = 0.0
        return _Draws(examples, puzzle_ids, self._draw_variants(rng, len(examples)), placements)

    def _draw_variants(self, rng: np.random.Generator, size: int) -> NDArray[np.uint64]:
        variants = self.puzzles.variants
        if variants is None:
            return np.zeros(size, np.uint64)
        most = 2**64 - 1 if variants.count is None else variants.count
        return rng.integers(0, most, size, dtype=np.uint64, endpoint=True)

    def _encode(self, draws: _Draws) -> PuzzleBatch:
        puzzles = self.puzzles
        offsets = self._offsets(draws)
        inputs, outputs = (
            encode_grids(
                table,
                draws.examples,
                puzzles.transform(table, draws.examples, draws.puzzle_ids, draws.variants, offsets),
            )
            for table in puzzles.framed[:2]
        )
        labels = outputs.astype(np.int64)
        labels[outputs == PAD] = IGNORE
        return PuzzleBatch(
            torch.from_numpy(inputs.astype(np.int64)),
            torch.from_numpy(labels),
            torch.from_numpy(draws.puzzle_ids.astype(np.int64)),
        )

    def _offsets(self, draws: _Draws) -> NDArray[np.intp]:
        """Row and column (N, 2) on the canvas, where the larger of input and output still fits."""
        puzzles = self.puzzles
        sides = np.maximum(puzzles.inputs.shapes[draws.examples], puzzles.outputs.shapes[draws.examples])
        return np.floor(draws.placements * (puzzles.room(sides, draws.puzzle_ids) + 1)).astype(np.intp)
