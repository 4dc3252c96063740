"""From the tokens of answers to rows of predictions: cropped, turned back, and all at once as arrays."""

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
"""Answers decoded together, which bounds the memory."""


@dataclass(frozen=True, eq=False)
class Answers:
    """N answers: the order (N,) of each and its item; tokens (N, L) uint8; halt probability and mean log
    probability (N,) float32; supervision steps done (N,)."""

    orders: NDArray[np.int64]
    items: Items
    tokens: NDArray[np.uint8]
    halt: NDArray[np.float32]
    log_probability: NDArray[np.float32]
    steps: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.orders)

    def at(self, chosen: NDArray[np.integer] | slice) -> "Answers":
        """Some of the answers."""
        names = [field.name for field in fields(self) if field.name != "items"]
        return Answers(items=self.items.at(chosen), **{name: getattr(self, name)[chosen] for name in names})


def joined(parts: Sequence[Answers]) -> Answers:
    """The answers of all parts, by order."""
    items = Items(*(np.concatenate([getattr(p.items, f.name) for p in parts]) for f in fields(Items)))
    names = [field.name for field in fields(Answers) if field.name != "items"]
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return Answers(items=items, **columns).at(np.argsort(columns["orders"], kind="stable"))


def original_grids(
    puzzles: PuzzleSet, items: Items, tokens: NDArray[np.uint8]
) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
    """Shapes (N, 2) of the answers in the frame of their puzzle, 0, 0 for none, and their cells, row by row
    and one after the other."""
    if not puzzles.family.framed:
        return _original_boards(puzzles, items, tokens)
    family, canvas = puzzles.family, puzzles.canvas
    shapes = crop_shapes(tokens)
    values = (tokens.reshape(-1, canvas, canvas) - family.first).astype(np.uint8)
    table = GridTable(values, shapes.astype(np.int16)).framed(family)
    dihedrals = np.array(DIHEDRAL_INVERSE)[puzzles.table.dihedrals[items.puzzle_ids]]
    colors = np.argsort(puzzles.table.colors[items.puzzle_ids], axis=1).astype(np.uint8)
    every = np.arange(len(tokens))
    back = dihedral_transform(family, table, every, canvas, dihedrals=dihedrals, colors=colors)
    turned = encode_grids(table, every, back)
    shapes = np.where(back.transpose[:, None], shapes[:, ::-1], shapes)
    rows, columns = (np.arange(canvas) < shapes[:, axis, None] for axis in (0, 1))
    inside = (rows[:, :, None] & columns[:, None, :]).reshape(len(tokens), -1)
    return shapes, turned[inside] - np.uint8(family.first)


def _original_boards(
    puzzles: PuzzleSet, items: Items, tokens: NDArray[np.uint8]
) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
    """The same of Sudokus and mazes; 0, an empty cell or a wall, where the token is no cell value."""
    family, canvas, count = puzzles.family, puzzles.canvas, len(tokens)
    asked = puzzles.transform(puzzles.framed[2], items.tests, items.puzzle_ids, items.variants)
    # Which value each token of the answer stood for; 0 for PAD, and for what else is none.
    values = np.zeros((count, 256), np.uint8)
    number = np.arange(family.num_values, dtype=np.uint8)
    np.put_along_axis(values, asked.tokens[:, : family.num_values].astype(np.intp), number[None], axis=1)
    turned = asked.transpose[:, None, None]
    rows, columns = asked.rows[:, :, None], asked.columns[:, None, :]
    source = np.where(turned, columns * canvas + rows, rows * canvas + columns).reshape(count, -1)
    boards = np.empty((count, canvas * canvas), np.uint8)
    np.put_along_axis(boards, source, np.take_along_axis(values, tokens.astype(np.intp), axis=1), axis=1)
    return np.full((count, 2), canvas, np.intp), boards.reshape(-1)


def candidate_table(puzzles: PuzzleSet, answers: Answers, checkpoint: str) -> pa.Table:
    """The answers as rows of predictions, in their order."""
    starts = range(0, max(1, len(answers)), _AT_ONCE)
    parts = [_rows(puzzles, answers.at(slice(start, start + _AT_ONCE)), checkpoint) for start in starts]
    return pa.concat_tables(parts).combine_chunks()


def _rows(puzzles: PuzzleSet, answers: Answers, checkpoint: str) -> pa.Table:
    items, table = answers.items, puzzles.table
    shapes, cells = original_grids(puzzles, items, answers.tokens)
    asked = PuzzleTable(
        table.task_ids,
        puzzles.test_tasks[items.tests],
        table.dihedrals[items.puzzle_ids],
        table.colors[items.puzzle_ids],
    ).to_arrow()
    offsets = np.concatenate([[0], np.cumsum(shapes.prod(axis=1))]).astype(np.int32)
    columns = {
        "order": answers.orders,
        "task": asked["task"].combine_chunks(),
        "test_index": puzzles.test_indices[items.tests],
        "dihedral": asked["dihedral"].combine_chunks(),
        "colors": asked["colors"].combine_chunks(),
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
