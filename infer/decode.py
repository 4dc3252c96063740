"""Tokens of answers -> rows of predictions: cropped, and turned back to the frame of the original puzzle."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from arcpipe.augmentation import TRANSPOSES, PuzzleTable
from arcpipe.codec import GridTable, crop_shapes
from arcpipe.infer.schedule import Items
from arcpipe.predictions import SCHEMA
from arcpipe.puzzleset import PuzzleSet

_AT_ONCE = 1024
_TRANSPOSES = np.array(TRANSPOSES)


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

    def __getitem__(self, index: NDArray[Any] | slice) -> "Answers":
        return Answers(*(getattr(self, field.name)[index] for field in fields(self)))


def concatenate(parts: Sequence[Answers]) -> Answers:
    """Return the answers of all parts, by order."""
    items = {f.name: np.concatenate([getattr(part.items, f.name) for part in parts]) for f in fields(Items)}
    names = [field.name for field in fields(Answers) if field.name != "items"]
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return Answers(items=Items(**items), **columns)[np.argsort(columns["orders"], kind="stable")]


def original_grids(
    puzzles: PuzzleSet, items: Items, tokens: NDArray[np.uint8]
) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
    """Return shapes (N, 2) and cells of answers, turned back to the frame of the original puzzle.

    A shape is 0, 0 where there is no grid; the cells of all grids follow one another, row by row. Of a Sudoku
    or maze a cell is 0, empty or a wall, where the token is no cell value.
    """
    family, count = puzzles.family, len(tokens)
    if family.with_eos:
        shapes, numbers = crop_shapes(tokens), np.arange(count)
        transposed = _TRANSPOSES[puzzles.table.dihedrals[items.puzzle_ids]]
        shapes = np.where(transposed[:, None], shapes[:, ::-1], shapes)
        # Only the shapes of a table decide how its grids lie on the canvas.
        side = puzzles.canvas + 2
        table = GridTable(np.broadcast_to(np.uint8(0), (count, side, side)), shapes.astype(np.int16))
    else:
        table, numbers = puzzles.tables_with_eos[2], items.tests
        side, shapes = puzzles.canvas, np.full((count, 2), puzzles.canvas)
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
    """Return the answers as rows of predictions, in their order.

    Args:  checkpoint: the value of that column.
    """
    items, table, count = answers.items, puzzles.table, len(answers)
    parts = [slice(start, start + _AT_ONCE) for start in range(0, count, _AT_ONCE)]
    grids = [original_grids(puzzles, items[part], answers.tokens[part]) for part in parts]
    shapes, cells = (np.concatenate(columns) for columns in zip(*grids, strict=True))
    offsets = np.concatenate([[0], np.cumsum(shapes.prod(axis=1))]).astype(np.int32)
    asked = PuzzleTable(
        table.task_ids,
        puzzles.test_tasks[items.tests],
        table.dihedrals[items.puzzle_ids],
        puzzles.colors(items.puzzle_ids, items.variants),
    ).to_arrow()
    columns = {
        "order": answers.orders,
        **{name: asked[name].combine_chunks() for name in asked.column_names},
        "test_index": puzzles.test_indices[items.tests],
        "variant": items.variants,
        "rollout": items.rollouts,
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
