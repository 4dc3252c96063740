"""Sources of ARC tasks -> a dataset folder."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import orjson
from pydantic import Field

from arcpipe.augment.overlaps import Overlap
from arcpipe.augment.sources import read_source
from arcpipe.augment.split import Selection, select
from arcpipe.augment.unique import Augmentations, distinct_augmentations, grids_of
from arcpipe.errors import DataError
from arcpipe.grid import MAX_SIDE
from arcpipe.recipe import STRICT
from arcpipe.runs import file_hash, make_manifest, refuse_existing
from arcpipe.task import Task, challenges_json, solutions_json

if TYPE_CHECKING:
    from arcpipe.puzzleset import PuzzleSet
    from arcpipe.puzzletable import PuzzleTable


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Which tasks and how many augmentations, the table [data] of a recipe."""

    __pydantic_config__ = STRICT

    sources: list[str] = field(default_factory=list)
    # Name of the set to predict: its test outputs never train. Empty: every set's.
    test_set: str = ""
    # Augmented puzzles per task, beside the identity.
    num_aug: Annotated[int, Field(ge=0)] = 1000
    # Keep tasks whose demonstrations and test inputs fit.
    max_side: Annotated[int, Field(ge=1, le=MAX_SIDE)] = MAX_SIDE
    # Side of the canvas; 0 for the smallest that fits all grids.
    canvas: Annotated[int, Field(ge=0, le=MAX_SIDE)] = MAX_SIDE
    # A dataset or checkpoint: tasks that it knows get its augmentations, so that its rows fit them.
    extend: str = ""
    # Train no task of another set that shares a pair with a task to predict.
    exclude_overlap: bool = False
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0


@dataclass(frozen=True)
class BuildSummary:
    """What was built: counts for the user; `repeated` tasks were in two sources and taken once, `needed`
    is the smallest canvas that fits, `known` tasks have the augmentations of `extend`."""

    tasks: int
    examples: int
    test_inputs: int
    puzzles: int
    canvas: int
    needed: int
    repeated: int
    known: int
    overlaps: list[Overlap]
    untrained: list[str]


def build_arc(settings: DataSettings, out: Path) -> BuildSummary:
    """Build a dataset folder from ARC sources.

    The test outputs of the set to predict are not looked at but to be copied into solutions.json.

    Raises:  DataError for a source that cannot be read; OutputError if `out` exists.
    """
    refuse_existing(out)
    sources = [read_source(spec) for spec in settings.sources]
    selection = select(
        sources, test_set=settings.test_set, max_side=settings.max_side, canvas=settings.canvas,
        exclude_overlap=settings.exclude_overlap,
    )  # fmt: skip
    needed = max(int(side) for task in selection.shown for grid in grids_of(task) for side in grid.shape)
    canvas = settings.canvas or needed
    _check_fit(selection.shown, canvas)
    known = _known_augmentations(settings.extend) if settings.extend else {}
    groups = [
        known.get(task.id) or distinct_augmentations(task, settings.num_aug, settings.seed)
        for task in selection.shown
    ]
    puzzles = puzzle_set_of(selection, groups, canvas)
    summary = BuildSummary(
        tasks=len(selection.training),
        examples=len(puzzles.example_tasks),
        test_inputs=len(puzzles.test_tasks),
        puzzles=puzzles.num_puzzles,
        canvas=canvas,
        needed=needed,
        repeated=selection.repeated,
        known=sum(task.id in known for task in selection.training),
        overlaps=selection.overlaps,
        untrained=selection.untrained,
    )
    files = {str(path): file_hash(path) for source in sources for path in source.files}
    _write(out, settings, files, selection.targets, puzzles, summary)
    return summary


def _check_fit(tasks: Sequence[Task], canvas: int) -> None:
    for task in tasks:
        side = max(max(grid.shape) for grid in grids_of(task))
        if side > canvas:
            raise DataError(
                f"task {task.id}: a grid of side {side} does not fit canvas {canvas}: "
                "choose a larger --canvas (0 for the smallest that fits) or a smaller --max-side"
            )


def _known_augmentations(extend: str) -> dict[str, Augmentations]:
    """The augmentations of each task in a dataset folder or a checkpoint, in the order of their rows."""
    table = _read_table(Path(extend))
    order = np.argsort(table.tasks, kind="stable")
    ends = np.searchsorted(table.tasks[order], np.arange(len(table.task_ids)), side="right")
    groups = np.split(order, ends)[:-1]
    return {
        task_id: (table.dihedrals[rows], table.colors[rows])
        for task_id, rows in zip(table.task_ids, groups, strict=True)
    }


def _read_table(path: Path) -> "PuzzleTable":
    if (path / "puzzles").is_dir():
        from arcpipe.puzzleset import read_puzzle_set

        return read_puzzle_set(path).table
    from arcpipe.checkpoint import load_checkpoint

    return load_checkpoint(path).puzzles


def puzzle_set_of(selection: Selection, groups: Sequence[Augmentations], canvas: int) -> "PuzzleSet":
    """The puzzle set of selected tasks, each with its augmentations."""
    from arcpipe.codec import ARC, GridTable
    from arcpipe.puzzleset import PuzzleSet
    from arcpipe.puzzletable import PuzzleTable

    numbers = {task.id: number for number, task in enumerate(selection.training)}
    pairs = [
        (number, pair.input, pair.output)
        for task, number in zip(selection.training, numbers.values(), strict=True)
        for pair in (*task.demonstrations, *task.tests)
        if pair.output is not None
    ]
    tests = [(numbers[task.id], pair.input) for task in selection.targets for pair in task.tests]
    example_tasks = np.array([number for number, _, _ in pairs], np.int32)
    return PuzzleSet(
        family=ARC,
        canvas=canvas,
        table=PuzzleTable(
            list(numbers),
            np.repeat(np.arange(len(groups), dtype=np.int32), [len(dihedrals) for dihedrals, _ in groups]),
            np.concatenate([dihedrals for dihedrals, _ in groups]),
            np.concatenate([colors for _, colors in groups]),
        ),
        inputs=GridTable.pack([grid for _, grid, _ in pairs], canvas),
        outputs=GridTable.pack([grid for _, _, grid in pairs], canvas),
        example_tasks=example_tasks,
        example_groups=example_tasks,
        test_inputs=GridTable.pack([grid for _, grid in tests], canvas),
        test_tasks=np.array([number for number, _ in tests], np.int32),
    )


def _write(
    out: Path, settings: DataSettings, files: dict[str, str], targets: Sequence[Task], puzzles: "PuzzleSet",
    summary: BuildSummary,
) -> None:  # fmt: skip
    from arcpipe.puzzleset import write_puzzle_set

    manifest = make_manifest(
        "dataset", recipe={"data": asdict(settings)}, files=files, counts=asdict(summary)
    )
    extra = {"challenges.json": orjson.dumps(challenges_json(targets), option=orjson.OPT_APPEND_NEWLINE)}
    if all(pair.output is not None for task in targets for pair in task.tests):
        extra["solutions.json"] = orjson.dumps(solutions_json(targets), option=orjson.OPT_APPEND_NEWLINE)
    write_puzzle_set(out, puzzles, manifest, extra_files=extra)
