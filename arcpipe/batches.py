"""PuzzleBatch, and the training stream: any global batch is a function of (seed, step) alone.

An epoch draws every task once, in a shuffled order, under one of its puzzles, with all its examples:
the sampling of the reference (`puzzle_dataset.py`), laid out as one endless stream of examples that
batches cut at fixed places. So a batch is found without replaying the ones before it, and is the same
for any number of processes.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arcpipe.augmentation import TRANSPOSES
from arcpipe.codec import PAD, encode_grids
from arcpipe.puzzleset import PuzzleSet

IGNORE = -100
"""The label of a cell that no loss and no accuracy counts."""


@dataclass(frozen=True)
class PuzzleBatch:
    """inputs (B, L), labels (B, L) with IGNORE where the output is PAD, puzzle_ids (B,); all int64."""

    inputs: Tensor
    labels: Tensor
    puzzle_ids: Tensor

    def to(self, device: torch.device) -> "PuzzleBatch":
        """The batch on another device."""
        return PuzzleBatch(self.inputs.to(device), self.labels.to(device), self.puzzle_ids.to(device))


@dataclass(frozen=True)
class _Epoch:
    """One pass over the tasks, an entry per example (E,): which, under which puzzle, placed where."""

    examples: NDArray[np.intp]
    puzzle_ids: NDArray[np.intp]
    placements: NDArray[np.float64]


class TrainingStream:
    """The endless stream of augmented training examples of a puzzle set.

    Args:  placement: move each example to a random place on the canvas (input and output alike), but
           for one example of each puzzle, as the reference does.
    """

    def __init__(self, puzzles: PuzzleSet, *, batch_size: int, seed: int, placement: bool) -> None:
        self.puzzles = puzzles
        self.batch_size = batch_size
        self.seed = seed
        self.placement = placement
        order = np.argsort(puzzles.example_tasks, kind="stable")
        tasks, starts = np.unique(puzzles.example_tasks[order], return_index=True)
        self._examples_of = dict(zip(tasks, np.split(order, starts[1:]), strict=True))
        self._puzzles_of = {task: puzzles.puzzles_of(task) for task in tasks}
        self._epoch = lru_cache(maxsize=4)(self._draw_epoch)

    def batch(self, step: int, rank: int = 0, num_ranks: int = 1) -> PuzzleBatch:
        """The rows of `rank` in the global batch of a step (from 0); ranks divide the batch evenly."""
        share = self.batch_size // num_ranks
        start = step * self.batch_size + rank * share
        epochs, positions = np.divmod(np.arange(start, start + share), len(self.puzzles.example_tasks))
        parts = [(self._epoch(int(epoch)), positions[epochs == epoch]) for epoch in np.unique(epochs)]
        examples = np.concatenate([epoch.examples[at] for epoch, at in parts])
        puzzle_ids = np.concatenate([epoch.puzzle_ids[at] for epoch, at in parts])
        placements = np.concatenate([epoch.placements[at] for epoch, at in parts])
        return self._encode(examples, puzzle_ids, placements)

    def _draw_epoch(self, epoch: int) -> _Epoch:
        rng = np.random.default_rng([self.seed, epoch])
        examples, puzzle_ids, placements = [], [], []
        for task in rng.permutation(list(self._examples_of)):
            own = rng.permutation(self._examples_of[task])
            place = rng.random((len(own), 2)) if self.placement else np.zeros((len(own), 2))
            place[0] = 0.0
            examples.append(own)
            puzzle_ids.append(np.full(len(own), rng.choice(self._puzzles_of[task])))
            placements.append(place)
        return _Epoch(np.concatenate(examples), np.concatenate(puzzle_ids), np.concatenate(placements))

    def _encode(
        self, examples: NDArray[np.intp], puzzle_ids: NDArray[np.intp], placements: NDArray[np.float64]
    ) -> PuzzleBatch:
        puzzles, canvas = self.puzzles, self.puzzles.canvas
        dihedrals, colors = puzzles.dihedrals[puzzle_ids], puzzles.colors[puzzle_ids]
        sides = np.maximum(puzzles.inputs.shapes[examples], puzzles.outputs.shapes[examples])
        transposes = np.array(TRANSPOSES)[dihedrals]
        sides = np.where(transposes[:, None], sides[:, ::-1], sides)
        offsets = np.floor(placements * (canvas - sides + 1)).astype(np.intp)
        inputs, outputs = (
            encode_grids(
                table.cells[examples], table.shapes[examples], canvas,
                dihedrals=dihedrals, colors=colors, offsets=offsets,
            ).astype(np.int64)
            for table in (puzzles.inputs, puzzles.outputs)
        )  # fmt: skip
        return PuzzleBatch(
            torch.from_numpy(inputs),
            torch.from_numpy(np.where(outputs == PAD, IGNORE, outputs)),
            torch.from_numpy(puzzle_ids.astype(np.int64)),
        )
