"""A dataset folder -> the layout that the reference's builders write and its trainer reads.

train/, test/      all__inputs.npy, all__labels.npy   (R, L) uint8: group by group, puzzle by puzzle
                   all__puzzle_indices.npy            (P + 1,) int32: the first row of each puzzle
                   all__group_indices.npy             (G + 1,) int32: the first puzzle of each group
                   all__puzzle_identifiers.npy        (P,) int32: rows of the puzzle-embedding table
                   dataset.json                       vocabulary, counts and the meaning of 0
identifiers.json   the name of each of those rows, the first "<blank>"
test_puzzles.json  the ARC tasks to predict, with their outputs

There every augmentation is written out. A group is a task of ARC, or one Sudoku or maze with its variants,
which share identifier 0.

Source:  the reference's `build_arc_dataset.py`, `build_sudoku_dataset.py` and `puzzle_dataset.py`.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arcpipe.codec import ARC, PAD, GridTable, encode_grids
from arcpipe.errors import DataError
from arcpipe.grid import Grid
from arcpipe.log import progress
from arcpipe.official import IDENTIFIERS_FILE, identifiers_of
from arcpipe.puzzleset import TEST, TRAIN, PuzzleSet, read_puzzle_set, read_test_outputs
from arcpipe.puzzletable import BLANK_TASK
from arcpipe.rng import random_bits
from arcpipe.runs import make_manifest, new_folder, refuse_existing, write_json
from arcpipe.task import (
    Task,
    challenges_json,
    read_challenges,
    read_solutions,
    solutions_json,
    with_solutions,
)

UNKNOWN: Grid = np.zeros((1, 1), np.uint8)
"""What the reference puts where a test output is not known."""
_ROWS_AT_ONCE = 1024
_MOST_ROWS = 2**31 - 1


@dataclass(frozen=True)
class ExportSummary:
    """What was written: rows of each split, puzzles, and whether the test outputs are known."""

    train_rows: int
    test_rows: int
    puzzles: int
    solved: bool


@dataclass(frozen=True, eq=False)
class _Rows:
    """N rows: their numbers, the example, the puzzle id and the variant of each, its place among the
    examples of its puzzle, and how many these are."""

    numbers: NDArray[np.intp]
    examples: NDArray[np.intp]
    puzzle_ids: NDArray[np.intp]
    variants: NDArray[np.uint64]
    places: NDArray[np.intp]
    num_places: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class _Split:
    """The framed grids of a split and its G groups: each of num_puzzles (G,) puzzles has all the
    num_examples (G,) examples of the group.

    examples: (E,) numbers of the grids, by group. puzzle_ids: (P,) by group; empty where all are id 0.
    """

    inputs: GridTable
    outputs: GridTable
    examples: NDArray[np.intp]
    num_examples: NDArray[np.intp]
    puzzle_ids: NDArray[np.intp]
    num_puzzles: NDArray[np.intp]

    @cached_property
    def ends(self) -> NDArray[np.intp]:
        """The row (G,) after the last of each group."""
        return np.cumsum(self.num_examples * self.num_puzzles)

    def rows(self, numbers: NDArray[np.intp]) -> _Rows:
        """What the rows with these numbers (N,) hold."""
        groups = np.searchsorted(self.ends, numbers, side="right")
        num_places = self.num_examples[groups]
        first_row = self.ends[groups] - num_places * self.num_puzzles[groups]
        variants, places = np.divmod(numbers - first_row, num_places)
        first_example = np.cumsum(self.num_examples)[groups] - num_places
        puzzle_ids = np.zeros_like(groups)
        if len(self.puzzle_ids):
            first_puzzle = np.cumsum(self.num_puzzles)[groups] - self.num_puzzles[groups]
            puzzle_ids = self.puzzle_ids[first_puzzle + variants]
        examples = self.examples[first_example + places]
        return _Rows(numbers, examples, puzzle_ids, variants.astype(np.uint64), places, num_places)


def export_trm(folder: Path, out: Path, *, seed: int, num_aug: int | None = None) -> ExportSummary:
    """Write a dataset folder in the reference's layout.

    Args:    seed: of the places on the canvas that the training examples of ARC get, all but one of each
             puzzle.
             num_aug: how many variants of each Sudoku or maze; None for as many as the dataset has.
    Raises:  DataError if it is no dataset folder, or asks for too much; OutputError if `out` exists or
             cannot be written.
    """
    refuse_existing(out)
    puzzles = read_puzzle_set(folder)
    solutions = folder / "solutions.json"
    tasks = _tasks_to_predict(folder, solutions) if puzzles.family is ARC and len(puzzles.test_tasks) else []
    splits = {TRAIN: _training(puzzles, _num_variants(folder, puzzles, num_aug))}
    if len(puzzles.test_tasks):
        splits[TEST] = _tests(folder, puzzles, tasks)
    if len(splits[TRAIN].ends) and splits[TRAIN].ends[-1] > _MOST_ROWS:
        raise DataError(f"{folder}: {splits[TRAIN].ends[-1]} rows are more than the layout can count")
    names = [BLANK_TASK, *(identifiers_of(puzzles.table) if puzzles.family is ARC else ())]
    manifest = make_manifest("trm dataset", data=str(folder), seed=seed, num_aug=num_aug)
    with new_folder(out, manifest) as made:
        for name, split in splits.items():
            (made / name).mkdir()
            _write_grids(made / name, puzzles, split, seed if name == TRAIN else None)
            _write_indices(made / name, puzzles, split, len(names))
        write_json(made / IDENTIFIERS_FILE, names, indent=False)
        if tasks:
            write_json(made / "test_puzzles.json", _as_json(tasks), indent=False)
    num_rows = {name: int(split.ends[-1]) for name, split in splits.items()}
    num_puzzles = int(splits[TRAIN].num_puzzles.sum())
    solved = not tasks or solutions.exists()
    return ExportSummary(num_rows[TRAIN], num_rows.get(TEST, 0), num_puzzles, solved)


def _num_variants(folder: Path, puzzles: PuzzleSet, num_aug: int | None) -> int:
    """How many variants beside itself to write of each example."""
    if puzzles.variants is None:
        if num_aug is not None:
            raise DataError(f"{folder}: --num-aug is for Sudokus and mazes; every puzzle of ARC is written")
        return 0
    count = puzzles.variants.count
    if count is None and num_aug is None:
        raise DataError(f"{folder}: it has fresh shuffles without end: say with --num-aug how many to write")
    if count is not None and num_aug is not None and num_aug > count:
        raise DataError(f"{folder}: --num-aug {num_aug}: it has {count} of each")
    return num_aug if num_aug is not None else int(count or 0)


def _training(puzzles: PuzzleSet, num_variants: int) -> _Split:
    inputs, outputs, _ = puzzles.framed
    return _split(puzzles, inputs, outputs, puzzles.example_groups, puzzles.example_tasks, num_variants)


def _tests(folder: Path, puzzles: PuzzleSet, tasks: list[Task]) -> _Split:
    """The tests; those of an ARC task are one group, under all its puzzles."""
    inputs = puzzles.framed[2]
    if puzzles.family is ARC:
        outputs = _packed_outputs(folder, puzzles, tasks)
        return _split(puzzles, inputs, outputs, puzzles.test_tasks, puzzles.test_tasks, 0)
    answers = read_test_outputs(folder)
    if answers is None:
        raise DataError(f"{folder}: its folder of solutions is missing; build it again")
    return _split(puzzles, inputs, answers, np.arange(len(inputs)), puzzles.test_tasks, 0)


def _split(
    puzzles: PuzzleSet, inputs: GridTable, outputs: GridTable, groups: NDArray[np.integer],
    tasks: NDArray[np.integer], num_variants: int,
) -> _Split:  # fmt: skip
    """The split of examples (E,) of these groups and tasks."""
    examples = np.argsort(groups, kind="stable")
    _, first, num_examples = np.unique(groups[examples], return_index=True, return_counts=True)
    if puzzles.variants is not None:
        num_puzzles = np.full(len(first), 1 + num_variants)
        return _Split(inputs, outputs, examples, num_examples, np.zeros(0, np.intp), num_puzzles)
    of_groups = [puzzles.table.of_task(int(task)) for task in tasks[examples[first]]]
    return _Split(
        inputs, outputs, examples, num_examples, np.concatenate(of_groups), np.array([*map(len, of_groups)])
    )


def _tasks_to_predict(folder: Path, solutions: Path) -> list[Task]:
    """The ARC tasks to predict, with their test outputs, or UNKNOWN for each where there are none."""
    tasks = read_challenges(folder / "challenges.json")
    if solutions.exists():
        return with_solutions(tasks, read_solutions(solutions), str(solutions))
    return with_solutions(tasks, {task.id: [UNKNOWN] * len(task.tests) for task in tasks}, str(folder))


def _as_json(tasks: list[Task]) -> dict[str, Any]:
    """The tasks by id in ARC's form, with their test outputs."""
    content, outputs = challenges_json(tasks), solutions_json(tasks)
    for task_id, task in content.items():
        pairs = zip(task["test"], outputs[task_id], strict=True)
        content[task_id] = task | {"test": [test | {"output": output} for test, output in pairs]}
    return content


def _packed_outputs(folder: Path, puzzles: PuzzleSet, tasks: list[Task]) -> GridTable:
    """The outputs of the ARC tests, in the order of the dataset."""
    known = {(task.id, index): pair.output for task in tasks for index, pair in enumerate(task.tests)}
    outputs = []
    for number, index in zip(puzzles.test_tasks, puzzles.test_indices, strict=True):
        task_id = puzzles.table.task_ids[number]
        output = known.get((task_id, int(index)))
        if output is None:
            raise DataError(
                f"{folder}: challenges.json has no test {index} of task {task_id}; build it again"
            )
        if max(output.shape) > puzzles.canvas:
            raise DataError(
                f"{folder}: task {task_id}: the output of test {index} does not fit the canvas of "
                f"{puzzles.canvas}: build it with a larger --canvas"
            )
        outputs.append(output)
    return GridTable.pack(outputs, puzzles.canvas).framed(ARC)


def _write_grids(folder: Path, puzzles: PuzzleSet, split: _Split, seed: int | None) -> None:
    """Write inputs and labels, some rows at a time; with a seed ARC examples are placed by it.

    Plain writes, not a memory map: on a full disk that would end the process without a word.
    """
    total = int(split.ends[-1])
    descr = np.lib.format.dtype_to_descr(np.dtype(np.uint8))
    header = {"descr": descr, "fortran_order": False, "shape": (total, puzzles.num_tokens)}
    with (
        (folder / "all__inputs.npy").open("wb") as inputs,
        (folder / "all__labels.npy").open("wb") as labels,
        progress(total=total, initial=0, unit="row", desc=folder.name) as bar,
    ):
        for file in (inputs, labels):
            np.lib.format.write_array_header_1_0(file, header)
        for first in range(0, total, _ROWS_AT_ONCE):
            rows = split.rows(np.arange(first, min(first + _ROWS_AT_ONCE, total)))
            offsets = _offsets(puzzles, split, rows, seed) if seed is not None else None
            for table, file in ((split.inputs, inputs), (split.outputs, labels)):
                transform = puzzles.transform(table, rows.examples, rows.puzzle_ids, rows.variants, offsets)
                file.write(encode_grids(table, rows.examples, transform).data)
            bar.update(len(rows.numbers))


def _offsets(puzzles: PuzzleSet, split: _Split, rows: _Rows, seed: int) -> NDArray[np.intp]:
    """Row and column (N, 2) on the canvas: by seed and row number, anywhere that input and output fit; of
    each puzzle one example stays in the corner."""
    sides = np.maximum(split.inputs.shapes[rows.examples], split.outputs.shapes[rows.examples])
    room = (puzzles.slack(sides, rows.puzzle_ids) + 1).astype(np.uint64)
    numbers, first = rows.numbers.astype(np.uint64), (rows.numbers - rows.places).astype(np.uint64)
    offsets = random_bits(seed, numbers[:, None], np.arange(2, dtype=np.uint64)) % room
    stays = random_bits(seed, first, np.full(1, 2, np.uint64)) % rows.num_places.astype(np.uint64)
    offsets[stays == rows.places.astype(np.uint64)] = 0
    return offsets.astype(np.intp)


def _write_indices(folder: Path, puzzles: PuzzleSet, split: _Split, num_identifiers: int) -> None:
    """Write the three tables of indices and dataset.json."""
    num_puzzles = int(split.num_puzzles.sum())
    of_arc = puzzles.family is ARC
    columns = {
        "puzzle_identifiers": split.puzzle_ids + 1 if of_arc else np.zeros(num_puzzles, np.intp),
        "puzzle_indices": np.append(0, np.cumsum(np.repeat(split.num_examples, split.num_puzzles))),
        "group_indices": np.append(0, np.cumsum(split.num_puzzles)),
    }
    for name, values in columns.items():
        with (folder / f"all__{name}.npy").open("wb") as file:
            np.save(file, values.astype(np.int32))
    facts = {
        "seq_len": puzzles.num_tokens,
        "vocab_size": puzzles.family.vocabulary,
        "pad_id": PAD,
        "ignore_label_id": PAD,
        "blank_identifier_id": 0,
        "num_puzzle_identifiers": num_identifiers,
        "total_groups": len(split.num_puzzles),
        "mean_puzzle_examples": int(split.ends[-1]) / num_puzzles,
        "total_puzzles": num_puzzles,
        "sets": ["all"],
    }
    write_json(folder / "dataset.json", facts)
