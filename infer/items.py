"""The items of the schedule, and answers as rows of predictions.

An item is a test input and one way to present it: under an augmentation, as a variant, with noise. Round k
has the k-th way of each test input that has so many; the first way is the plain one. Items are computed
from their position in the schedule, because all of them may not fit into memory. Answers are cropped and
turned back to the orientation and colors of the original puzzle. `Doubles` finds what two folders of
predictions both asked.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from arcpipe.augmentation import TRANSPOSES, PuzzleTable, random_bits
from arcpipe.codec import PAD, GridTable, crop_shapes
from arcpipe.errors import DataError
from arcpipe.infer.config import FRESH_VOTES, InferSettings, deciding
from arcpipe.log import counted, logger
from arcpipe.predictions import SCHEMA, read_candidates
from arcpipe.puzzleset import PuzzleSet
from arcpipe.runs import json_bytes

_MAZE_TURNS = 7
_AT_ONCE = 1024
# Of the deal of items to processes, the same in all of them.
_SEED = 0
_TRANSPOSES = np.array(TRANSPOSES)
_QUESTION = ("test_index", "dihedral", "variant", "rollout", "steps")
_NAMES = ("task", "colors")
# Two folders are of the same checkpoint on the same canvas if their manifests agree in these.
_CHECKPOINT = ("weights", "checkpoint_manifest", "canvas")


@dataclass(frozen=True, eq=False)
class Items:
    """N items of a schedule.

    positions: (N,) places in the schedule.
    tests: (N,) numbers of the test inputs.
    puzzle_ids: (N,) rows of the puzzle table.
    variants: (N,) turns or shuffles of Sudokus and mazes, 0 for none.
    rollouts: (N,) 0 for the rollout without noise.
    """

    positions: NDArray[np.int64]
    tests: NDArray[np.intp]
    puzzle_ids: NDArray[np.intp]
    variants: NDArray[np.uint64]
    rollouts: NDArray[np.intp]

    def __getitem__(self, index: NDArray[Any] | slice) -> Self:
        return type(self)(*(getattr(self, field.name)[index] for field in fields(self)))

    def __setitem__(self, index: NDArray[np.intp], items: "Items") -> None:
        for field in fields(self):
            getattr(self, field.name)[index] = getattr(items, field.name)


class Schedule:
    """The items of a puzzle set in their order.

    Args:    settings: how often each test input is asked: its variants, rollouts and votes.
    Raises:  DataError if there is no test input, or the puzzles have no such variants.
    """

    def __init__(self, puzzles: PuzzleSet, settings: InferSettings) -> None:
        variants, votes = settings.variants, settings.votes
        if not len(puzzles.test_tasks):
            raise DataError("the dataset has no test inputs: build it with some, or choose another")
        if variants and puzzles.family.with_eos:
            raise DataError("--variants is for Sudokus and mazes: an ARC task is asked under all its puzzles")
        if variants and puzzles.variants is None:
            raise DataError("--variants: the dataset does not say how to shuffle; build it again")
        if variants > _MAZE_TURNS and puzzles.family.name == "maze":
            raise DataError(f"--variants {variants}: a maze has {_MAZE_TURNS} turns and flips beside itself")
        self._table, self._tasks, self._variants = puzzles.table, puzzles.test_tasks, variants
        self._fresh, self._puzzles = puzzles.fresh_colors, self._table.num_of_tasks[self._tasks]
        # The ways of each test input apart from noise: its task's puzzles, or its variants.
        self._ways = self._puzzles * (1 + variants)
        if self._fresh:
            self._ways = np.full(len(puzzles.test_tasks), votes or FRESH_VOTES)
        elif votes:
            self._ways = self._ways.clip(max=votes)
        lengths = self._ways * settings.rollouts
        # Round k asks each test input that has more than k items. From one of these lengths to the next, all
        # rounds ask the same test inputs.
        self._drops = np.unique(lengths)
        self._active = [np.flatnonzero(lengths >= length) for length in self._drops]
        sizes = np.array([len(tests) for tests in self._active])
        self._starts = np.concatenate([[0], np.cumsum(sizes * np.diff(self._drops, prepend=0))])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def items(self, positions: NDArray[np.int64]) -> Items:
        """Return the items at positions (N,)."""
        tests, numbers = np.empty(len(positions), np.intp), np.empty(len(positions), np.intp)
        parts = np.searchsorted(self._starts, positions, side="right") - 1
        for part in np.unique(parts):
            here, active = parts == part, self._active[part]
            rounds, places = np.divmod(positions[here] - self._starts[part], len(active))
            tests[here] = active[places]
            numbers[here] = rounds + (self._drops[part - 1] if part else 0)
        rollouts, ways = np.divmod(numbers, self._ways[tests])
        first = np.zeros(len(positions), np.intp)
        puzzles, variants = (first, ways) if self._variants else (ways, first)
        if self._fresh:
            # A new coloring each time; the task's puzzles, its dihedrals, take turns.
            puzzles, variants = ways % self._puzzles[tests], ways
        puzzle_ids = self._table.nth(self._tasks[tests], puzzles)
        return Items(positions, tests, puzzle_ids, variants.astype(np.uint64), rollouts)


class WorkQueue:
    """The positions of a schedule that one rank has to answer.

    Of each `num_ranks` positions in a row every rank has one, at random. So a rank that dies or is slow lacks
    some votes of each test input, not all votes of some.

    left: how many are left.

    Args:  length: of the schedule.
           done: (M,) positions already answered.
    """

    def __init__(self, length: int, done: NDArray[np.int64], rank: int, num_ranks: int) -> None:
        undone = np.delete(np.arange(length), done)
        deals = np.tile(np.arange(num_ranks), (-(-len(undone) // num_ranks), 1))
        ranks = np.random.default_rng(_SEED).permuted(deals, axis=1).ravel()[: len(undone)]
        self._positions: NDArray[np.int64] = undone[ranks == rank]
        self.left = len(self._positions)

    def take(self, count: int) -> NDArray[np.int64]:
        """Remove and return the next positions, up to `count` of them."""
        first = len(self._positions) - self.left
        positions = self._positions[first : first + count]
        self.left -= len(positions)
        return positions


@dataclass(frozen=True, eq=False)
class Answers(Items):
    """N items with the answers of the model.

    orders: (N,) values of the column `order`.
    tokens: (N, L).
    halt: (N,) halt probabilities.
    log_probability: (N,) mean over the tokens that are not PAD.
    steps: (N,) supervision steps done.
    """

    orders: NDArray[np.int64]
    tokens: NDArray[np.uint8]
    halt: NDArray[np.float32]
    log_probability: NDArray[np.float32]
    steps: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.orders)


def concatenate(parts: Sequence[Answers]) -> Answers:
    """Return the answers of all parts, sorted by order."""
    names = [field.name for field in fields(Answers)]
    answers = Answers(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
    return answers[np.argsort(answers.orders, kind="stable")]


def original_grids(
    puzzles: PuzzleSet, items: Items, tokens: NDArray[np.uint8]
) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
    """Return shapes (N, 2) and cells of answers, turned back to the original puzzle.

    The cells of all grids follow one another, row by row. The shape is 0, 0 if there is no grid. A Sudoku or
    maze has 0, an empty cell or a wall, for a token that is no cell value, and no grid if all are PAD.
    """
    family, count = puzzles.family, len(tokens)
    if family.with_eos:
        shapes, numbers = crop_shapes(tokens), np.arange(count)
        transposed = _TRANSPOSES[puzzles.table.dihedrals[items.puzzle_ids]]
        shapes = np.where(transposed[:, None], shapes[:, ::-1], shapes)
        # The cells of the table are never read: shapes alone decide how grids lie on the canvas.
        side = puzzles.canvas + 2
        table = GridTable(np.broadcast_to(np.uint8(0), (count, side, side)), shapes.astype(np.int16))
    else:
        table, numbers = puzzles.tables_with_eos[2], items.tests
        side = puzzles.canvas
        shapes = np.where((tokens != PAD).any(axis=1)[:, None], side, np.zeros((count, 2), np.intp))
    transform = puzzles.transform(table, numbers, items.puzzle_ids, items.variants)
    values = np.zeros((count, 256), np.uint8)
    every = np.arange(family.num_values, dtype=np.uint8)
    np.put_along_axis(values, transform.tokens[:, : family.num_values].astype(np.intp), every[None], axis=1)
    rows, columns = transform.rows[:, :, None], transform.columns[:, None, :]
    source = np.where(transform.transpose[:, None, None], columns * side + rows, rows * side + columns)
    cells = np.empty((count, side, side), np.uint8)
    np.put_along_axis(
        cells.reshape(count, -1),
        source.reshape(count, -1),
        np.take_along_axis(values, tokens.astype(np.intp), axis=1),
        axis=1,
    )
    in_row, in_column = (np.arange(side) < shapes[:, axis, None] for axis in (0, 1))
    return shapes, cells[in_row[:, :, None] & in_column[:, None, :]]


def candidate_table(puzzles: PuzzleSet, answers: Answers, checkpoint: str) -> pa.Table:
    """Return the answers as rows of predictions.

    Args:  checkpoint: the value of the column `checkpoint`.
    """
    table, count = puzzles.table, len(answers)
    parts = [slice(start, start + _AT_ONCE) for start in range(0, count, _AT_ONCE)]
    grids = [original_grids(puzzles, answers[part], answers.tokens[part]) for part in parts]
    shapes, cells = (np.concatenate(columns) for columns in zip(*grids, strict=True))
    offsets = np.concatenate([[0], np.cumsum(shapes.prod(axis=1))]).astype(np.int32)
    augmentations = PuzzleTable(
        table.task_ids,
        puzzles.test_tasks[answers.tests],
        table.dihedrals[answers.puzzle_ids],
        puzzles.colors(answers.puzzle_ids, answers.variants),
    ).to_arrow()
    columns = {
        "order": answers.orders,
        **{name: augmentations[name].combine_chunks() for name in augmentations.column_names},
        "test_index": puzzles.test_indices[answers.tests],
        "variant": answers.variants,
        "rollout": answers.rollouts,
        "height": shapes[:, 0],
        "width": shapes[:, 1],
        "cells": pa.Array.from_buffers(
            pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(cells.tobytes())]
        ),
        "halt_probability": answers.halt,
        "log_probability": answers.log_probability,
        "steps": answers.steps,
        "checkpoint": pa.array([checkpoint] * count).dictionary_encode(),
    }
    arrays = [pa.array(columns[field.name]).cast(field.type) for field in SCHEMA]
    return pa.table(arrays, schema=SCHEMA)


def numbered(column: pa.Array, numbers: dict[Any, int]) -> NDArray[np.intp]:
    """Return the number (N,) of each value; new values get the next numbers, in `numbers`."""
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    codes = [numbers.setdefault(value, len(numbers)) for value in encoded.dictionary.to_pylist()]
    coded: NDArray[np.intp] = np.array(codes, np.intp)[encoded.indices.to_numpy()]
    return coded


class _Asked(NamedTuple):
    """Hashes (N,) of a folder's questions, sorted, and whether its rollouts after the first have noise."""

    path: Path
    is_noisy: bool
    questions: NDArray[np.uint64]


class Doubles:
    """Finds the questions that were asked twice, among folders of predictions that are read one by one.

    A question is a checkpoint, a test input, the way it is presented and the step of the answer; under noise,
    and of a flow, also what decides the noise. Files, and folders whose manifest has no hash of the weights,
    are not compared.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._asked: dict[tuple[Any, ...], list[_Asked]] = {}

    def distinct(self, path: Path, manifest: Mapping[str, Any]) -> Iterator[pa.Table]:
        """Yield the candidates of a folder or file, as `read_candidates`.

        Folders asked with noise have the first rollout, which has none, in common: it is left out of all but
        the first of them.

        Args:    manifest: of the folder; empty for a file.
        Raises:  DataError for any other question that an earlier folder has too.
        """
        if not manifest.get("weights"):
            yield from read_candidates(path)
            return
        earlier = self._asked.setdefault(tuple(manifest.get(name) for name in _CHECKPOINT), [])
        is_noisy = bool(manifest.get("plan", {}).get("noise"))
        left_out, parts = 0, [np.zeros(0, np.uint64)]
        for table in read_candidates(path):
            questions, first = self._questions(table, manifest), table["rollout"].to_numpy() == 0
            keep = np.ones(len(table), bool)
            for other in earlier:
                # Not np.isin, which would sort the other's again for each table.
                before = np.searchsorted(other.questions, questions, "left")
                double = before < np.searchsorted(other.questions, questions, "right")
                spared = first & (is_noisy or other.is_noisy)
                if count := int((double & ~spared).sum()):
                    raise DataError(
                        f"{path}: asked the same checkpoint the same as {other.path}, so that "
                        f"{counted(count, 'candidate')} would count twice: vote on one of the two, or ask "
                        "otherwise (other augmentations, noise of another seed)"
                    )
                keep &= ~double
            left_out += int((~keep).sum())
            parts.append(questions)
            yield table.filter(keep)
        if left_out:
            logger.info("%s: %s without noise already counted", path, counted(left_out, "candidate"))
        earlier.append(_Asked(path, is_noisy, np.sort(np.concatenate(parts))))

    def _questions(self, table: pa.Table, manifest: Mapping[str, Any]) -> NDArray[np.uint64]:
        """Return a hash (N,) of the question of each candidate."""
        columns = [table[name].to_numpy() for name in _QUESTION]
        columns += [numbered(table[name].combine_chunks(), self._numbers) for name in _NAMES]
        columns = [column.astype(np.uint64) for column in columns]
        plan = manifest.get("plan")
        if plan is None:
            # Of an older version, which does not say whether its settings had an effect: all count.
            return random_bits(_hash(deciding(manifest.get("recipe", {}).get("infer", {}))), *columns)
        noise = np.zeros(len(table), np.uint64)
        is_flow = bool(plan.get("flow"))
        if is_flow or plan.get("noise"):
            names = ("noise", "seed", *(("gamma", "steps") if is_flow else ()))
            positions = table["order"].to_numpy() // (len(plan.get("marks", ())) + 1)
            noise = random_bits(_hash([plan.get(name) for name in names]), positions.astype(np.uint64))
            if not is_flow:
                noise *= table["rollout"].to_numpy() > 0
        return random_bits(0, *columns, noise)


def _hash(value: Any) -> int:
    """Return 64 bits that tell JSON values apart."""
    return int.from_bytes(hashlib.sha256(json_bytes(value)).digest()[:8])
