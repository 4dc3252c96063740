"""Tokens of answers -> rows of predictions: cropped, and turned back to the frame of the original puzzle."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from arcpipe.augmentation import DIHEDRAL_INVERSE
from arcpipe.codec import GridTable, crop_shapes, dihedral_transform, encode_grids
from arcpipe.infer.schedule import Items
from arcpipe.predictions import SCHEMA
from arcpipe.puzzleset import PuzzleSet
from arcpipe.puzzletable import PuzzleTable

_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class Answers:
    """N answers of the model.

    orders: (N,) values of the column `order`.
    items: their items.
    tokens: (N, L).
    halt: (N,) halt probabilities.
    log_probability: (N,) mean over the tokens that are not PAD.
    steps: (N,) supervision steps done.
    """

    orders: NDArray[np.int64]
    items: Items
    tokens: NDArray[np.uint8]
    halt: NDArray[np.float32]
    log_probability: NDArray[np.float32]
    steps: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.orders)

    def at(self, index: NDArray[np.integer] | slice) -> "Answers":
        """Return the answers of an index."""
        columns = {name: getattr(self, name)[index] for name in _COLUMNS}
        return Answers(items=self.items.at(index), **columns)


_COLUMNS = tuple(field.name for field in fields(Answers) if field.name != "items")


def concatenate(parts: Sequence[Answers]) -> Answers:
    """Return the answers of all parts, by order."""
    items = Items(*(np.concatenate([getattr(p.items, f.name) for p in parts]) for f in fields(Items)))
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS}
    return Answers(items=items, **columns).at(np.argsort(columns["orders"], kind="stable"))


def original_grids(
    puzzles: PuzzleSet, items: Items, tokens: NDArray[np.uint8]
) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
    """Return shapes (N, 2) and cells of answers, turned back to the frame of the original puzzle.

    A shape is 0, 0 where there is no grid; the cells of all grids follow one another, row by row.
    """
    if not puzzles.family.with_eos:
        return _original_puzzles(puzzles, items, tokens)
    family, canvas = puzzles.family, puzzles.canvas
    shapes = crop_shapes(tokens)
    values = (tokens.reshape(-1, canvas, canvas) - family.first).astype(np.uint8)
    table = GridTable(values, shapes.astype(np.int16)).with_eos(family)
    dihedrals = np.array(DIHEDRAL_INVERSE)[puzzles.table.dihedrals[items.puzzle_ids]]
    colors = np.argsort(puzzles.colors(items.puzzle_ids, items.variants), axis=1).astype(np.uint8)
    every = np.arange(len(tokens))
    back = dihedral_transform(family, table, every, canvas, dihedrals=dihedrals, colors=colors)
    turned = encode_grids(table, every, back)
    shapes = np.where(back.transpose[:, None], shapes[:, ::-1], shapes)
    rows, columns = (np.arange(canvas) < shapes[:, axis, None] for axis in (0, 1))
    inside = (rows[:, :, None] & columns[:, None, :]).reshape(len(tokens), -1)
    return shapes, turned[inside] - np.uint8(family.first)


def _original_puzzles(
    puzzles: PuzzleSet, items: Items, tokens: NDArray[np.uint8]
) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
    """Return the same of Sudokus and mazes; 0, an empty cell or a wall, where the token is no cell value."""
    family, canvas, count = puzzles.family, puzzles.canvas, len(tokens)
    transform = puzzles.transform(puzzles.tables_with_eos[2], items.tests, items.puzzle_ids, items.variants)
    # The value of each token under the transform; 0 for PAD and other tokens that stand for none.
    values = np.zeros((count, 256), np.uint8)
    number = np.arange(family.num_values, dtype=np.uint8)
    np.put_along_axis(values, transform.tokens[:, : family.num_values].astype(np.intp), number[None], axis=1)
    turned = transform.transpose[:, None, None]
    rows, columns = transform.rows[:, :, None], transform.columns[:, None, :]
    source = np.where(turned, columns * canvas + rows, rows * canvas + columns).reshape(count, -1)
    cells = np.empty((count, canvas * canvas), np.uint8)
    np.put_along_axis(cells, source, np.take_along_axis(values, tokens.astype(np.intp), axis=1), axis=1)
    return np.full((count, 2), canvas, np.intp), cells.reshape(-1)


def candidate_table(puzzles: PuzzleSet, answers: Answers, checkpoint: str) -> pa.Table:
    """Return the answers as rows of predictions, in their order."""
    starts = range(0, max(1, len(answers)), _AT_ONCE)
    parts = [_rows(puzzles, answers.at(slice(start, start + _AT_ONCE)), checkpoint) for start in starts]
    return pa.concat_tables(parts).combine_chunks()


def _rows(puzzles: PuzzleSet, answers: Answers, checkpoint: str) -> pa.Table:
    items, table = answers.items, puzzles.table
    shapes, cells = original_grids(puzzles, items, answers.tokens)
    shown = PuzzleTable(
        table.task_ids,
        puzzles.test_tasks[items.tests],
        table.dihedrals[items.puzzle_ids],
        puzzles.colors(items.puzzle_ids, items.variants),
    ).to_arrow()
    offsets = np.concatenate([[0], np.cumsum(shapes.prod(axis=1))]).astype(np.int32)
    columns = {
        "order": answers.orders,
        "task": shown["task"].combine_chunks(),
        "test_index": puzzles.test_indices[items.tests],
        "dihedral": shown["dihedral"].combine_chunks(),
        "colors": shown["colors"].combine_chunks(),
        "variant": items.variants,
        "rollout": items.rollouts,
        "height": shapes[:, 0],
        "width": shapes[:, 1],
        "cells": pa.Array.from_buffers(
            pa.binary(), len(offsets) - 1, [None, pa.py_buffer(offsets), pa.py_buffer(cells.tobytes())]
        ),
        "halt_probability": answers.halt,
        "log_probability": answers.log_probability,
        "steps": answers.steps,
        "checkpoint": pa.DictionaryArray.from_arrays(
            pa.array(np.zeros(len(offsets) - 1, np.int32)), pa.array([checkpoint])
        ),
    }
    arrays = [pa.array(columns[field.name]).cast(field.type) for field in SCHEMA]
    return pa.table(arrays, schema=SCHEMA)
