"""Likeness of grids: distinct augmentations, and overlaps of tasks."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import compress, islice
from math import perm
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arcpipe.augment.sources import grids_of
from arcpipe.augmentation import DIHEDRAL_INVERSE, DIHEDRALS, IDENTITY_COLORS, apply_dihedral, random_bits
from arcpipe.grid import MAX_SIDE, NUM_COLORS, Grid
from arcpipe.task import Pair, Task

Augmentations = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""K augmentations: dihedrals (K,) and color permutations (K, 10)."""

IDENTITY: Augmentations = np.zeros(1, np.uint8), np.array([IDENTITY_COLORS], np.uint8)
"""The augmentation that changes nothing."""

Pattern = tuple[bytes, bytes]
"""Shapes and cells with numbered colors, and the colors in the order of their numbers."""

NamedTask = tuple[str, Task]
"""The name of a source, and one of its tasks."""

# Limit of the list: many small inputs are alike by chance, and the matches grow with their square.
_MOST_MATCHES = 150_000
TRIES_PER_AUGMENTATION = 5
"""Random augmentations that are tried for each distinct one, at most; as in the official builder."""
_TRIES_AT_ONCE = 512
_GENERATED = 10
_ROWS_AT_ONCE = 64
_SAMPLE = 2
_BLACK = bytes(1)


def pattern(grids: Sequence[Grid], dihedral: int, fixed: bytes = b"") -> Pattern:
    """Return the pattern of turned grids.

    Two lists of grids have the same shapes and cells in their patterns if and only if a permutation of the
    colors that are not fixed turns one list into the other. It maps the colors of the one pattern to the
    colors of the other, in order.

    Args:    fixed: colors that no permutation changes, starting with 0.
    Returns: the shapes, and the cells as numbers of colors; the fixed colors, then the others in order of
             first appearance.
    """
    turned = [apply_dihedral(grid, dihedral) for grid in grids]
    cells = b"".join(grid.tobytes() for grid in turned)
    others = (color for color in range(NUM_COLORS) if color in cells and color not in fixed)
    colors = fixed + bytes(sorted(others, key=cells.index))
    numbers = cells.translate(bytes.maketrans(colors, bytes(range(len(colors)))))
    return bytes(side for grid in turned for side in grid.shape) + numbers, colors


def patterns(grids: Sequence[Grid], fixed: bytes = b"") -> list[Pattern]:
    """Return the `pattern` of the grids under each dihedral."""
    return [pattern(grids, dihedral, fixed) for dihedral in range(len(DIHEDRALS))]


def change_between(owns: Sequence[Pattern], other: Pattern) -> tuple[str, int, str] | None:
    """Return how to turn grids into others: in words, as a dihedral and as colors; None if no change does.

    Args:    owns: the `patterns` of the grids.
             other: the `pattern` of the others at dihedral 0.
    """
    cells, colors = other
    changes = [
        (own_colors != colors, dihedral > 0, dihedral, own_colors)
        for dihedral, (own_cells, own_colors) in enumerate(owns)
        if own_cells == cells
    ]
    if not changes:
        return None
    recolored, turned, dihedral, own_colors = min(changes)
    words = " and ".join(["turned"] * turned + ["recolored"] * recolored) or "the same"
    pairs = sorted(zip(own_colors, colors, strict=True))
    return words, dihedral, " ".join(f"{before}>{after}" for before, after in pairs if before != after)


def likeness(*columns: Sequence[Grid | None]) -> NDArray[np.uint64]:
    """Return a key (N,) for each row of grids, equal for rows that one change turns into each other.

    A change is one of the eight turns and flips and a permutation of the ten colors, the same for all grids
    of a row; None is no grid. Any other two rows share a key with a probability of 2^-60.
    """
    keys = [np.zeros(0, np.uint64)]
    for start in range(0, len(columns[0]), _ROWS_AT_ONCE):
        grids = [
            (row, place, grid)
            for place, column in enumerate(columns)
            for row, grid in enumerate(column[start : start + _ROWS_AT_ONCE])
            if grid is not None
        ]
        cells = np.frombuffer(b"".join(grid.tobytes() for *_, grid in grids), np.uint8)
        first = np.array([row * NUM_COLORS for row, *_ in grids], np.uint16)
        colors = np.repeat(first, [grid.size for *_, grid in grids]) + cells
        order = np.argsort(colors, kind="stable")
        numbers = np.concatenate([cell_numbers(grid.shape, place) for _, place, grid in grids])[order]
        # A color is the sum of its cells, a row the sum of its mixed colors, under each dihedral (8).
        present, starts = np.unique(colors[order], return_index=True)
        mixed = random_bits(0, np.add.reduceat(numbers, starts))
        _, starts = np.unique(present // NUM_COLORS, return_index=True)
        keys.append(np.add.reduceat(mixed, starts).min(axis=1))
    return np.concatenate(keys)


@cache
def cell_numbers(shape: tuple[int, int], place: int) -> NDArray[np.uint64]:
    """Return a random number for each cell of a grid at its place under each dihedral (H * W, 8).

    Args:    place: the grid's place in its row, from 0, which changes the numbers.
    """
    side = np.arange(MAX_SIDE, dtype=np.uint64)
    numbers = random_bits(place, side[:, None], side)
    columns = []
    for inverse in DIHEDRAL_INVERSE:
        height, width = apply_dihedral(np.empty(shape, bool), inverse).shape
        columns.append(apply_dihedral(numbers[:height, :width], inverse).reshape(-1))
    return np.stack(columns, axis=1)


def first_of_each(keys: NDArray[np.integer]) -> NDArray[np.intp]:
    """Return the places in keys (N,) of the first of each key, in order."""
    return np.sort(np.unique(keys, return_index=True)[1])


def distinct_augmentations(task: Task, num_aug: int, seed: int) -> Augmentations:
    """Return the identity and up to `num_aug` augmentations, which all give different puzzles.

    They depend only on the seed, the task's id and its visible grids, or its first generated pairs if it has
    no others. A larger `num_aug` extends the list of a smaller one.

    Source:  the reference's `build_arc_dataset.py`: random dihedral x permutation of the nine colors,
             at most five tries for each.
    """
    grids = grids_of(*task.demonstrations, *task.tests) or grids_of(*task.generated[:_GENERATED])
    for sample in (grids[:_SAMPLE], grids):
        shapes, orders = zip(*patterns(sample, _BLACK), strict=True)
        if len(set(shapes)) == len(DIHEDRALS):
            # The sample tells all dihedrals apart: of the other grids only the colors matter, in any order.
            cells = b"".join(grid.tobytes() for grid in grids)
            present = bytes(color for color in range(NUM_COLORS) if not color or color in cells)
            orders = (present,) * len(shapes)
            break
    # Dihedrals of one class give the same puzzle under suitable colors.
    classes = np.array([shapes.index(shape) for shape in shapes])
    # The colors (8, K) other than black, in order of first appearance under each dihedral.
    shown = np.array([list(order[1:]) for order in orders], np.intp)
    # A puzzle is numbered by its class and the images of these colors.
    most = min(num_aug + 1, len(set(shapes)) * perm(NUM_COLORS - 1, shown.shape[1]))
    weights = NUM_COLORS ** np.arange(shown.shape[1] + 1)

    name = int.from_bytes(hashlib.sha256(task.id.encode()).digest()[:8], "big")
    rng = np.random.default_rng([seed, name])
    dihedrals, colors = IDENTITY
    # Column 0 is black, which no augmentation changes.
    permutations = np.tile(colors, (_TRIES_AT_ONCE, 1))
    others, tries = permutations[:, 1:].copy(), TRIES_PER_AUGMENTATION * num_aug
    while tries > 0 and len(dihedrals) < most:
        dihedrals = np.append(dihedrals, rng.integers(8, size=_TRIES_AT_ONCE, dtype=np.uint8)[:tries])
        rng.permuted(others[:tries], axis=1, out=permutations[:tries, 1:])
        colors = np.append(colors, permutations[:tries], axis=0)
        images = np.take_along_axis(colors, shown[dihedrals], axis=1)
        numbers = images @ weights[:-1] + classes[dihedrals] * weights[-1]
        distinct = first_of_each(numbers)
        dihedrals, colors, tries = dihedrals[distinct], colors[distinct], tries - _TRIES_AT_ONCE
    return dihedrals[: num_aug + 1], colors[: num_aug + 1]


@dataclass(frozen=True)
class Overlap:
    """A pair of a task to predict that another task has, too.

    task: the task to predict.
    part: its pair, `test[N]` or `train[N]`, counted from 0; `train` for all of its demonstrations.
    source: the source of the other task.
    other: the other task.
    other_part: its pair, or `train`.
    change: the change between the pairs in words: "the same", "turned" (or flipped), "recolored", or
            "turned and recolored".
    output: whether the outputs match under the same change; None if one is hidden.
    dihedral, colors: the change that turns the pair to predict into the other: its dihedral, and its visible
            color changes, such as `1>2 2>1`.
    """

    task: str
    part: str
    source: str
    other: str
    other_part: str
    change: str
    output: bool | None
    dihedral: int
    colors: str

    @property
    def is_answer(self) -> bool:
        """Return whether the shared input is a test input to predict: then the other pair may not train."""
        return self.part.startswith("test")

    @property
    def line(self) -> str:
        """Return the overlap in words."""
        change = f"{self.change}, the output too" if self.output and self.is_answer else self.change
        return f"{self.task} {self.part} = {self.other} {self.other_part} of {self.source}, {change}"


@dataclass(frozen=True)
class Overlaps:
    """What tasks to predict share with each other and with other tasks.

    listed: answers (known outputs, other task ids and large inputs first), then whole tasks, then
            demonstrations; limited in number.
    answers: all pairs that are answers.
    sharing: ids of the tasks not to be predicted that share a pair.
    unlisted: number of answers that are not in `listed`.
    """

    listed: list[Overlap]
    answers: frozenset[Pair]
    sharing: set[str]
    unlisted: int


@dataclass(frozen=True, slots=True)
class _Place:
    """A pair and its place: the source, the task, and the part, such as `test[N]` or `train[N]`.

    input_key, pair_key: the `likeness` of its input, and of both grids.
    """

    source: str
    task: str
    part: str
    pair: Pair
    input_key: int
    pair_key: int

    @property
    def is_test(self) -> bool:
        return self.part.startswith("test")


def find_overlaps(targets: Sequence[NamedTask], others: Sequence[NamedTask]) -> Overlaps:
    """Find what the tasks to predict (targets) share with each other and with other tasks.

    A pair is an answer if its input is a test input of another target, under any turn or flip and any
    permutation of the ten colors, black included. A target's own demonstrations are no answers: whoever
    solves the task sees them. A demonstration is shared if one such change turns input into input and output
    into output. A target is listed as a whole if another task has all of its demonstrations under one change.

    Small inputs are often alike by chance, inputs of one color always. They count as answers because only the
    hidden output could tell. Of the 3,081 pairs of ARC-AGI-1 that could train for its evaluation set, 25 are
    answers; two of them have the output, too, and one is of one color. Of the 4,666 pairs for the evaluation
    set of ARC-AGI-2 none is.
    """
    own_keys, other_keys = (
        likeness([pair.input for *_, pair in _pairs(tasks)]) for tasks in (targets, others)
    )
    keys, counts = np.unique(own_keys, return_counts=True)
    shared = keys[(counts > 1) | np.isin(keys, other_keys)]
    own_places = _places(targets, own_keys, shared)
    test_keys = {place.input_key for place in own_places if place.is_test}
    pair_keys = {place.pair_key for place in own_places if not place.is_test}
    other_places = [
        place
        for place in _places(others, other_keys, shared)
        if place.input_key in test_keys or place.pair_key in pair_keys
    ]
    by_input: dict[int, list[_Place]] = defaultdict(list)
    for place in own_places:
        by_input[place.input_key].append(place)
    answers = {place.pair for place in other_places if place.input_key in test_keys}
    for places in by_input.values():
        test_tasks = {place.task for place in places if place.is_test}
        answers.update(place.pair for place in places if not place.is_test and test_tasks - {place.task})

    among = list(islice(_matches_among(by_input.values()), _MOST_MATCHES))
    with_others = (
        (own, other)
        for other in other_places
        for own in by_input[other.input_key]
        if own.is_test or own.pair_key == other.pair_key
    )
    listed = [match for match in among if match[0].is_test]
    listed += islice(with_others, _MOST_MATCHES - len(among))
    among = [match for match in among if not match[0].is_test]
    whole = _whole_tasks(targets, [*among, *(match for match in listed if not match[0].is_test)])
    # A match of two targets is found from either side and listed once.
    listed += [(own, other) for own, other in among if own.task < other.task]
    unlisted = len(answers) - len({other.pair for own, other in listed if own.is_test})
    # Answers have rank 0, whole tasks 1, demonstrations 2.
    ranks: list[tuple[tuple[Any, ...], Overlap]] = [((1,), overlap) for overlap in whole]
    for own, other in listed:
        overlap, same_task = _overlap(own, other), own.task == other.task
        rank = (not overlap.output, same_task, -own.pair.input.size, own.task, own.part)
        ranks.append(((0 if own.is_test else 2, *rank), overlap))
    ordered = [overlap for _, overlap in sorted(ranks, key=itemgetter(0))]
    return Overlaps(ordered, frozenset(answers), {place.task for place in other_places}, unlisted)


def _pairs(tasks: Iterable[NamedTask]) -> Iterator[tuple[str, str, str, Pair]]:
    """Yield the source, the task, the part and the pair of each demonstration, test and generated pair."""
    for source, task in tasks:
        parts = ("train", task.demonstrations), ("test", task.tests), ("generated", task.generated)
        for part, pairs in parts:
            for number, pair in enumerate(pairs):
                yield source, task.id, f"{part}[{number}]", pair


def _places(tasks: Iterable[NamedTask], keys: NDArray[np.uint64], shared: NDArray[np.uint64]) -> list[_Place]:
    """Return the places of those pairs of tasks whose input has a shared key.

    Args:    keys: of the inputs of all pairs, in order. shared: some of them.
    """
    is_shared = np.isin(keys, shared)
    rows = list(compress(_pairs(tasks), is_shared.tolist()))
    pair_keys = likeness([pair.input for *_, pair in rows], [pair.output for *_, pair in rows])
    return [
        _Place(*row, input_key, pair_key)
        for row, input_key, pair_key in zip(rows, keys[is_shared].tolist(), pair_keys.tolist(), strict=True)
    ]


def _matches_among(groups: Iterable[Sequence[_Place]]) -> Iterator[tuple[_Place, _Place]]:
    """Yield the matches of two targets, given the places of each input under any change.

    A match is a test input and a pair that has it, or two demonstrations of the same input and output.
    """
    for places in groups:
        pairs = [place for place in places if not place.is_test]
        by_output: dict[int, list[_Place]] = defaultdict(list)
        for place in pairs:
            by_output[place.pair_key].append(place)
        for own in places:
            for other in pairs if own.is_test else by_output[own.pair_key]:
                if own.task != other.task:
                    yield own, other


def _whole_tasks(targets: Iterable[NamedTask], matches: Iterable[tuple[_Place, _Place]]) -> list[Overlap]:
    """Return the targets all of whose demonstrations one change turns into demonstrations of another task."""
    counts = {task.id: len(task.demonstrations) + len(task.generated) for _, task in targets}
    by_tasks: dict[tuple[str, str, str], dict[str, tuple[_Place, _Place]]] = defaultdict(dict)
    for own, other in matches:
        if own.task != other.task:
            by_tasks[own.task, other.source, other.task].setdefault(own.part, (own, other))
    whole = []
    for (task, source, other_task), pairs in by_tasks.items():
        owns, others = (
            grids_of(*(place.pair for place in side)) for side in zip(*pairs.values(), strict=True)
        )
        is_whole = len(pairs) == counts[task]
        change = change_between(patterns(owns), pattern(others, 0)) if is_whole else None
        if change:
            words, dihedral, colors = change
            whole.append(Overlap(task, "train", source, other_task, "train", words, True, dihedral, colors))
    return whole


def _overlap(own: _Place, other: _Place) -> Overlap:
    """Return the overlap of a pair of a target with a pair of another task."""
    known = own.pair.output is not None and other.pair.output is not None
    output = own.pair_key == other.pair_key if known else None
    others = grids_of(other.pair) if output else [other.pair.input]
    change = change_between(_patterns(own.pair, bool(output)), pattern(others, 0))
    assert change is not None, "equal keys without a change between the grids"
    words, dihedral, colors = change
    return Overlap(own.task, own.part, other.source, other.task, other.part, words, output, dihedral, colors)


@lru_cache(maxsize=64)
def _patterns(pair: Pair, with_output: bool) -> list[Pattern]:
    """Return the patterns of a pair, or of its input alone; cached because a pair may match many others."""
    return patterns(grids_of(pair) if with_output else [pair.input])
