"""What `arcpipe show` prints of a task, and where it looks for one."""

import difflib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from arcpipe.augment.sources import read_source
from arcpipe.codec import decode, encode_grids
from arcpipe.errors import DataError
from arcpipe.grid import draw
from arcpipe.puzzleset import PuzzleSet, read_puzzle_set
from arcpipe.puzzletable import PuzzleTable
from arcpipe.runs import read_manifest
from arcpipe.task import Pair, Task

_SHOWN = 3


def task_text(task: Task, color: bool) -> str:
    """Return a task as text: its id and counts, its demonstrations, its tests; shapes are height x width.

    Args:  color: draw cells as colored blocks (24-bit ANSI); otherwise as digits.
    """
    counts, pair_texts = [], []
    for name, pairs in (("demonstration", task.demonstrations), ("test", task.tests)):
        counts.append(f"{len(pairs)} {name}{'' if len(pairs) == 1 else 's'}")
        pair_texts += [_pair_text(f"{name} {number}", pair, color) for number, pair in enumerate(pairs, 1)]
    return "\n\n".join([f"{task.id}: {', '.join(counts)}", *pair_texts])


def _pair_text(label: str, pair: Pair, color: bool) -> str:
    input_title = "input {}x{}".format(*pair.input.shape)
    if pair.output is None:
        return f"{label}, output hidden\n{draw([pair.input], [input_title], color)}"
    titles = [input_title, "-> output {}x{}".format(*pair.output.shape)]
    return f"{label}\n{draw([pair.input, pair.output], titles, color)}"


def find_task(target: str, source_specs: Sequence[str]) -> Task:
    """Find the task in the file `target`, or the one with that id in the first source that has it.

    Args:    target: a path (it ends in `.json` or has a slash) or a task id.
             source_specs: what to search for an id, as `read_source` takes them.
    Raises:  DataError if the file holds no task or several, or if no source has the id.
    """
    if target.endswith(".json") or "/" in target:
        tasks = read_source(target).tasks
        if len(tasks) != 1:
            raise DataError(f"{target}: holds {len(tasks)} tasks, name one by its id and this as the source")
        return tasks[0]
    ids: set[str] = set()
    for spec in source_specs:
        tasks_by_id = {task.id: task for task in read_source(spec).tasks}
        if target in tasks_by_id:
            return tasks_by_id[target]
        ids |= tasks_by_id.keys()
    # Without a cutoff: even the nearest of strangers shows what an id looks like.
    nearest = difflib.get_close_matches(target, sorted(ids), n=3, cutoff=0)
    raise DataError(
        f"no task {target!r} in {', '.join(source_specs)}; the nearest known ids: {', '.join(nearest)}"
    )


def dataset_text(folder: Path, color: bool) -> str:
    """Return a dataset folder as text: its counts, where it comes from, and examples as training sees them.

    Raises:  DataError if it is no dataset folder.
    """
    manifest = read_manifest(folder, "dataset")
    puzzles = read_puzzle_set(folder)
    counts, data = manifest["counts"], manifest["recipe"]["data"]
    sources = data["sources"] if "sources" in data else [data["source"] or f"{data['generate']} made up"]
    if puzzles.variants is None:
        augmented = (
            f"{puzzles.num_puzzles} (a task under a dihedral, its colors permuted at every draw)"
            if puzzles.fresh_colors
            else f"{puzzles.num_puzzles} (a task under an augmentation; at most {data['num_aug']} + 1 a task)"
        )
    else:
        number = "a fresh one at every draw" if data["num_aug"] is None else data["num_aug"]
        augmented = f"1; variants of each example, which share it: {number}"
    return f"""{folder}: {puzzles.family.name} dataset, made {manifest["created"]}
sources      {", ".join(sources)}
tasks        {counts["tasks"]}, with {counts["examples"]} training examples
test inputs  {counts["test_inputs"]}
puzzles      {augmented}
canvas       {puzzles.canvas} x {puzzles.canvas}

{_augmented_text(puzzles, color)}"""


def _augmented_text(puzzles: PuzzleSet, color: bool) -> str:
    """Return the first training example under its first augmentations, with their ids."""
    task = int(puzzles.example_tasks[0])
    if puzzles.variants is None:
        puzzle_ids = puzzles.table.of_task(task)[:_SHOWN]
        numbers = np.zeros(len(puzzle_ids), np.uint64)
        titles = [_puzzle_title(puzzles.table, int(puzzle_id)) for puzzle_id in puzzle_ids]
    else:
        count = _SHOWN if puzzles.variants.count is None else puzzles.variants.count + 1
        numbers = np.arange(min(_SHOWN, count), dtype=np.uint64)
        puzzle_ids = np.zeros(len(numbers), np.intp)
        titles = [f"example 0, variant {number}" for number in numbers]
    items = np.zeros(len(numbers), np.intp)
    inputs, outputs = (
        decode(
            encode_grids(table, items, puzzles.transform(table, items, puzzle_ids, numbers)), puzzles.family
        )
        for table in puzzles.tables_with_eos[:2]
    )
    look = puzzles.family.symbols, puzzles.family.palette
    blocks = [
        f"{title}\n{draw([grid for grid in pair if grid is not None], ['input', '-> output'], color, *look)}"
        for title, pair in zip(titles, zip(inputs, outputs, strict=True), strict=True)
    ]
    return "\n\n".join(blocks)


def _puzzle_title(table: PuzzleTable, puzzle_id: int) -> str:
    augmentation = table.augmentation(puzzle_id)
    colors = "".join(map(str, augmentation.colors))
    fingerprint = int(table.fingerprints()[puzzle_id])
    task_id = table.task_ids[table.tasks[puzzle_id]]
    return (
        f"puzzle {puzzle_id}: task {task_id}, dihedral {augmentation.dihedral}, colors {colors}, "
        f"fingerprint {fingerprint:016x}"
    )
