"""A made-up run with everything a report shows: curves, tasks, predictions with steps, a submission."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from arcpipe.augment.sudoku import SudokuSettings, build_sudoku
from arcpipe.grid import Grid
from arcpipe.predictions import write_table
from arcpipe.puzzleset import read_puzzle_set, read_test_outputs
from arcpipe.runs import make_manifest, write_json
from arcpipe.submissions.submission import build_submission, write_submission
from arcpipe.task import Pair, Task, challenges_json, solutions_json
from candidates import candidate, table, write_folder

KINDS = ("solved", "nearly", "cells", "size", "none", "outvoted")
"""The outcome of each task, in turn: task 0 has the first, task 6 the first again."""
STEPS = (1, 2, 4)


def make_run(folder: Path, *, records: bool = True) -> Path:
    """A run folder, with or without the records of 40 steps and an evaluation."""
    folder.mkdir()
    write_json(folder / "manifest.json", make_manifest("run", recipe={"train": {"lr": 1e-4}}, dataset=None))
    if records:
        (folder / "metrics.jsonl").write_bytes(b"".join(_records()))
    return folder


def _records() -> Iterator[bytes]:
    for step in range(1, 41):
        record = {
            "step": step, "seconds": step * 2.0, "train/loss_answer": 2.0 / step, "train/loss_halt": 0.1,
            "train/exact_accuracy": step / 50, "train/cell_accuracy": 0.9, "train/halt_recall": 0.8,
            "train/steps_to_halt": 4.0, "train/lr": 1e-4, "samples_per_second": 100.0 + step,
        }  # fmt: skip
        yield orjson.dumps(record) + b"\n"
    yield orjson.dumps({"step": 40, "seconds": 80.0, "eval/pass@1": 0.25, "eval/pass@2": 0.5}) + b"\n"


def make_tasks(count: int, most_side: int = 8) -> list[Task]:
    """Tasks of random grids, task-0000 and so on; every fifth has two tests."""
    rng = np.random.default_rng(0)

    def pair() -> Pair:
        sides = rng.integers(3, most_side + 1, (2, 2))
        first, second = (rng.integers(0, 10, side, dtype=np.uint8) for side in sides)
        return Pair(first, second)

    return [
        Task(
            f"task-{number:04}", (pair(), pair(), pair()), tuple(pair() for _ in range(1 + (number % 5 == 4)))
        )
        for number in range(count)
    ]


def spoiled(grid: Grid, cells: int) -> Grid:
    """Return the grid with its first `cells` cells changed."""
    changed = grid.copy()
    changed.reshape(-1)[:cells] = (changed.reshape(-1)[:cells] + 1) % 10
    return changed


def answers(truth: Grid, kind: str) -> list[Grid | None]:
    """Return the grids of the candidates, one per augmentation; the first two are the attempts.

    For `nearly` the second attempt is the better one.
    """
    if kind == "none":
        return [None, None]
    other = truth[:, :-1] if truth.shape[1] > 1 else np.pad(truth, ((0, 0), (0, 1)))
    best = {
        "solved": [truth, spoiled(truth, 1)],
        "nearly": [spoiled(truth, 9), spoiled(truth, 2)],
        "cells": [spoiled(truth, 6), spoiled(truth, 8)],
        "size": [other, spoiled(other, 1)],
        "outvoted": [spoiled(truth, 5), spoiled(truth, 7), truth],
    }[kind]
    return [grid for count, grid in zip((4, 3, 1), best, strict=False) for _ in range(count)]


def make_set(folder: Path, tasks: Sequence[Task]) -> dict[str, Path]:
    """Write challenges, solutions, predictions and submission of a set of tasks; return the files by name.

    Each augmentation has a candidate at every one of STEPS; earlier ones have more wrong cells.
    """
    files = {name: folder / f"{name}.json" for name in ("challenges", "solutions", "submission")}
    files["predictions"] = folder / "predictions.parquet"
    write_json(files["challenges"], challenges_json(tasks), indent=False)
    write_json(files["solutions"], solutions_json(tasks), indent=False)
    rows, ranked = [], {}
    for number, task in enumerate(tasks):
        for index, pair in enumerate(task.tests):
            assert pair.output is not None
            found = answers(pair.output, KINDS[number % len(KINDS)])
            grids = [grid for grid in found if grid is not None]
            ranked[task.id, index] = list({grid.tobytes(): grid for grid in grids}.values())
            for way, grid in enumerate(found):
                asked = {"task": task.id, "test_index": index, "dihedral": way}
                for left, step in enumerate(reversed(STEPS)):
                    cells = None if grid is None else grid if not left else spoiled(grid, 2 + left)
                    halt = 0.9 / (1 + left)
                    rows.append(candidate(cells, halt, steps=step, **asked))
    write_table(files["predictions"], table(rows))
    write_submission(build_submission(tasks, ranked), files["submission"], {})
    return files


def data_of(page: Path) -> dict[str, Any]:
    """Return the data of a page, as its script reads them."""
    text = page.read_text("utf-8")
    data = text.partition('<script id="data" type="application/json">')[2].partition("</script>")[0]
    found: dict[str, Any] = orjson.loads(data)
    return found


def make_quickstart(folder: Path) -> Path:
    """The folder of a quickstart on 12 tasks."""
    data, shards = folder / "data", folder / "predictions" / "shards"
    for made in (data, shards):
        made.mkdir(parents=True)
    files = make_set(data, make_tasks(12))
    write_json(data / "manifest.json", make_manifest("dataset", family="arc", fingerprint="f"))
    write_json(folder / "manifest.json", make_manifest("quickstart"))
    write_json(shards.parent / "manifest.json", make_manifest("predictions"))
    files["submission"].rename(folder / "submission.json")
    files["predictions"].rename(shards / "part-0000000000-rank0.parquet")
    make_run(folder / "run")
    return folder


def make_sudokus(data: Path, predictions: Path) -> None:
    """A dataset of four Sudokus, and predictions: wrong in two cells, right, none, and right but outvoted."""
    build_sudoku(SudokuSettings(generate=3, test=4, side=4, num_aug=2, seed=1), data)
    name, outputs = read_puzzle_set(data).table.task_ids[0], read_test_outputs(data)
    assert outputs is not None
    truths, ones = [outputs.grid(number) for number in range(4)], np.ones((4, 4), np.uint8)
    found = [
        (0, spoiled(truths[0], 2) % 4 + 1), (1, truths[1]), (2, None), (3, ones), (3, ones), (3, truths[3]),
    ]  # fmt: skip
    rows = [
        candidate(grid, task=name, test_index=test, variant=variant)
        for variant, (test, grid) in enumerate(found)
    ]
    write_folder(predictions, [table(rows)])
