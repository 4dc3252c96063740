"""When grids are alike: the distinct augmentations of a task, and what tasks to predict share with others."""

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
from arcpipe.augmentation import DIHEDRAL_INVERSE, DIHEDRALS, apply_dihedral, random_bits
from arcpipe.grid import MAX_SIDE, NUM_COLORS, Grid
from arcpipe.task import Pair, Task

Augmentations = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""K augmentations: dihedrals (K,) and color permutations (K, 10)."""

Pattern = tuple[bytes, bytes]
"""Shapes and cells but for the colors, and the colors."""

NamedTask = tuple[str, Task]
"""The name of a source, and a task of it."""

# So many are listed: many small inputs are alike by chance, and a manifest must not grow with their square.
_MOST_MATCHES = 150_000
_TRIES_PER_AUGMENTATION = 5
_TRIES_AT_ONCE = 512
_GENERATED = 10
_ROWS_AT_ONCE = 64
_FEW = 2
_BLACK = bytes(1)


def pattern(grids: Sequence[Grid], dihedral: int, fixed: bytes = b"") -> Pattern:
    """Return what turned grids show but for their colors, and their colors in order.

    Two lists of grids have one pattern if and only if a permutation of the colors that are not fixed makes
    one of the other; it sends the colors of the one, in their order, to those of the other.

    Args:    fixed: colors that stay as they are, beginning with 0.
    Returns: the shapes, and the cells as numbers of colors; the fixed colors and then the others in the
             order in which they come up.
    """
    turned = [apply_dihedral(grid, dihedral) for grid in grids]
    cells = b"".join(grid.tobytes() for grid in turned)
    others = (color for color in range(NUM_COLORS) if color in cells and color not in fixed)
    colors = fixed + bytes(sorted(others, key=cells.index))
    numbers = cells.translate(bytes.maketrans(colors, bytes(range(len(colors)))))
    return bytes(side for grid in turned for side in grid.shape) + numbers, colors


def patterns(grids: Sequence[Grid], fixed: bytes = b"") -> list[Pattern]:
    """Return the `pattern` of grids under each dihedral."""
    return [pattern(grids, dihedral, fixed) for dihedral in range(len(DIHEDRALS))]


def change_between(owns: Sequence[Pattern], other: Pattern) -> tuple[str, int, str] | None:
    """Return the change that makes grids others, in words, its dihedral and its colors; None if none does.

    Args:    owns: the `patterns` of the grids. other: the `pattern` of the others as they are.
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
    return words, dihedral, " ".join(f"{own}>{other}" for own, other in pairs if own != other)


def likeness(*columns: Sequence[Grid | None]) -> NDArray[np.uint64]:
    """Return a number for each row of grids (N,), one for all rows that one change makes of one another.

    A change is one of the eight turns and flips and a permutation of the ten colors, the same for the grids
    of a row; None is no grid. Others share a number by a chance of 2^-60.
    """
    starts = range(0, len(columns[0]), _ROWS_AT_ONCE)
    parts = [_likeness([column[start : start + _ROWS_AT_ONCE] for column in columns]) for start in starts]
    return np.concatenate([np.zeros(0, np.uint64), *parts])


def _likeness(columns: Sequence[Sequence[Grid | None]]) -> NDArray[np.uint64]:
    """Return the numbers of a few rows: a color is the sum of its cells, a row that of its colors."""
    grids = [
        (row, place, grid)
        for place, column in enumerate(columns)
        for row, grid in enumerate(column)
        if grid is not None
    ]
    cells = np.frombuffer(b"".join(grid.tobytes() for *_, grid in grids), np.uint8)
    first = np.array([row * NUM_COLORS for row, *_ in grids], np.uint16)
    colors = np.repeat(first, [grid.size for *_, grid in grids]) + cells
    order = np.argsort(colors, kind="stable")
    numbers = np.concatenate([cell_numbers(grid.shape, place) for _, place, grid in grids])[order]
    present, starts = np.unique(colors[order], return_index=True)
    mixed = random_bits(0, np.add.reduceat(numbers, starts))
    _, starts = np.unique(present // NUM_COLORS, return_index=True)
    least: NDArray[np.uint64] = np.add.reduceat(mixed, starts).min(axis=1)
    return least


@cache
def cell_numbers(shape: tuple[int, int], place: int) -> NDArray[np.uint64]:
    """Return a random number of each cell of a grid, where each dihedral takes it (H * W, 8).

    Args:    place: of the grid in its row, from 0: those of another place are others.
    """
    side = np.arange(MAX_SIDE, dtype=np.uint64)
    numbers = random_bits(place, side[:, None], side)
    columns = []
    for inverse in DIHEDRAL_INVERSE:
        height, width = apply_dihedral(np.empty(shape, bool), inverse).shape
        columns.append(apply_dihedral(numbers[:height, :width], inverse).reshape(-1))
    return np.stack(columns, axis=1)


def distinct_augmentations(task: Task, num_aug: int, seed: int) -> Augmentations:
    """Return the identity and up to `num_aug` augmentations, no two of which give the same puzzle.

    They depend on the seed, the task's id and its visible grids alone, not on other tasks; a larger
    `num_aug` adds to those of a smaller one. The first generated pairs stand for a task of no others.

    Source:  the reference's `build_arc_dataset.py`: random dihedral x permutation of the nine colors,
             at most five tries for each.
    """
    grids = grids_of(*task.demonstrations, *task.tests) or grids_of(*task.generated[:_GENERATED])
    for several in (grids[:_FEW], grids):
        shapes, orders = zip(*patterns(several, _BLACK), strict=True)
        if len(set(shapes)) == len(DIHEDRALS):
            # No two dihedrals give the same puzzle: of the other grids only the colors matter, in any order.
            cells = b"".join(grid.tobytes() for grid in grids)
            colors_of_all = bytes(color for color in range(NUM_COLORS) if not color or color in cells)
            orders = (colors_of_all,) * len(shapes)
            break
    classes = np.array([shapes.index(one) for one in shapes])
    # The colors (8, K) but black in the order in which each dihedral shows them first.
    shown = np.array([list(order[1:]) for order in orders], np.intp)
    # There are so many puzzles, and each has a number, from its class and what these colors are sent to.
    most = min(num_aug + 1, len(set(shapes)) * perm(NUM_COLORS - 1, shown.shape[1]))
    weights = NUM_COLORS ** np.arange(shown.shape[1] + 1)

    name = int.from_bytes(hashlib.sha256(task.id.encode()).digest()[:8], "big")
    rng = np.random.default_rng([seed, name])
    dihedrals, colors = np.zeros(1, np.uint8), np.arange(NUM_COLORS, dtype=np.uint8)[None]
    # Black stays black.
    drawn = np.tile(colors, (_TRIES_AT_ONCE, 1))
    others, tries = drawn[:, 1:].copy(), _TRIES_PER_AUGMENTATION * num_aug
    while tries > 0 and len(dihedrals) < most:
        dihedrals = np.append(dihedrals, rng.integers(8, size=_TRIES_AT_ONCE, dtype=np.uint8)[:tries])
        rng.permuted(others[:tries], axis=1, out=drawn[:tries, 1:])
        colors = np.append(colors, drawn[:tries], axis=0)
        sent = np.take_along_axis(colors, shown[dihedrals], axis=1)
        numbers = sent @ weights[:-1] + classes[dihedrals] * weights[-1]
        distinct = np.sort(np.unique(numbers, return_index=True)[1])
        dihedrals, colors, tries = dihedrals[distinct], colors[distinct], tries - _TRIES_AT_ONCE
    return dihedrals[: num_aug + 1], colors[: num_aug + 1]


@dataclass(frozen=True)
class Overlap:
    """A pair of a task to predict that another task has too.

    task: the task to predict.
    part: its pair, `test[N]` or `train[N]`, counted from 0; `train` for all of its demonstrations.
    source: the name of the source where the pair stands too.
    other: the task there.
    other_part: the pair there, or `train`.
    change: what makes one of the other: "the same", "turned" (or flipped), "recolored", or
            "turned and recolored".
    output: whether the outputs are one under that change too; None where one is hidden.
    dihedral, colors: the change that makes the other of the pair to predict: a turn or flip, and which color
            becomes which, such as `1>2 2>1`, for those that it shows and that change.
    """

    task: str
    part: str
    source: str
    other: str
    other_part: str
    change: str
    output: bool | None = True
    dihedral: int = 0
    colors: str = ""

    @property
    def is_answer(self) -> bool:
        """Return whether the input of both is a test input to predict: the other pair does not train."""
        return self.part.startswith("test")

    @property
    def line(self) -> str:
        """Return the overlap in words."""
        change = f"{self.change}, the output too" if self.output and self.is_answer else self.change
        return f"{self.task} {self.part} = {self.other} {self.other_part} of {self.source}, {change}"


@dataclass(frozen=True)
class Overlaps:
    """What tasks to predict and other tasks share.

    listed: answers first, those with the output too, tasks of another name, large inputs; then whole tasks,
            then demonstrations. There is a limit to them.
    answers: all pairs that are answers, of which so many are `unlisted`.
    sharing: the ids of all tasks that are not to be predicted and share a pair.
    """

    listed: list[Overlap]
    answers: frozenset[Pair]
    sharing: set[str]
    unlisted: int


@dataclass(frozen=True, slots=True)
class _Place:
    """A pair and where it stands: the source, the task, and the part of it, `test[N]` or `train[N]`.

    like, pair_like: the numbers of `likeness` of its input, and of both grids.
    """

    source: str
    task: str
    part: str
    pair: Pair
    like: int
    pair_like: int

    @property
    def is_test(self) -> bool:
        return self.part.startswith("test")


def find_overlaps(targets: Sequence[NamedTask], others: Sequence[NamedTask]) -> Overlaps:
    """Find what the tasks to predict share with each other and with other tasks.

    A pair is an answer if its input is a test input of another task that is to be predicted, under any of
    the eight turns and flips and any permutation of the ten colors, black too. A task's own demonstrations
    are no answers to it: whoever solves the task is shown them. A demonstration is shared if one such
    change takes input to input and output to output.

    Small inputs are often alike by chance, those of one color always. Their pairs are answers all the
    same: only the hidden output could tell. Of the 3,081 pairs of ARC-AGI-1 that could train for its
    evaluation set 25 are answers, of which two have the output too and one is of one color; of the 4,666
    for the evaluation set of ARC-AGI-2 none is.

    A task whose demonstrations all are another task's too, under one change, is said as a whole.
    """
    own_likes, other_likes = (
        likeness([pair.input for *_, pair in _pairs(tasks)]) for tasks in (targets, others)
    )
    values, counts = np.unique(own_likes, return_counts=True)
    values = values[(counts > 1) | np.isin(values, other_likes)]
    own_places = _places(targets, own_likes, values)
    test_likes = {place.like for place in own_places if place.is_test}
    pair_likes = {place.pair_like for place in own_places if not place.is_test}
    other_places = [
        place
        for place in _places(others, other_likes, values)
        if place.like in test_likes or place.pair_like in pair_likes
    ]
    alike: dict[int, list[_Place]] = defaultdict(list)
    for place in own_places:
        alike[place.like].append(place)
    answers = {place.pair for place in other_places if place.like in test_likes}
    for places in alike.values():
        asking = {place.task for place in places if place.is_test}
        told = (place for place in places if not place.is_test and len(asking) > (place.task in asking))
        answers.update(place.pair for place in told)

    matches_among = list(islice(_matches_among(alike.values()), _MOST_MATCHES))
    with_others = (
        (own, place)
        for place in other_places
        for own in alike[place.like]
        if own.is_test or own.pair_like == place.pair_like
    )
    listed = [both for both in matches_among if both[0].is_test]
    listed += islice(with_others, _MOST_MATCHES - len(matches_among))
    among = [both for both in matches_among if not both[0].is_test]
    whole = _whole_tasks(targets, [*among, *(both for both in listed if not both[0].is_test)])
    # Each pair of tasks to predict once.
    listed += [(own, place) for own, place in among if own.task < place.task]
    unlisted = len(answers) - len({place.pair for own, place in listed if own.is_test})
    # Answers, whole tasks, demonstrations.
    ranks: list[tuple[tuple[Any, ...], Overlap]] = [((1,), overlap) for overlap in whole]
    for own, place in listed:
        overlap, same_task = _overlap(own, place), own.task == place.task
        rank = (not overlap.output, same_task, -own.pair.input.size, own.task, own.part)
        ranks.append(((0 if own.is_test else 2, *rank), overlap))
    ordered = [overlap for _, overlap in sorted(ranks, key=itemgetter(0))]
    return Overlaps(ordered, frozenset(answers), {place.task for place in other_places}, unlisted)


def _pairs(tasks: Iterable[NamedTask]) -> Iterator[tuple[str, str, str, int, Pair]]:
    """Yield the demonstrations, the tests and the generated pairs of each task, and where they stand."""
    for source, task in tasks:
        parts = ("train", task.demonstrations), ("test", task.tests), ("generated", task.generated)
        for part, pairs in parts:
            for number, pair in enumerate(pairs):
                yield source, task.id, part, number, pair


def _places(
    tasks: Iterable[NamedTask], likes: NDArray[np.uint64], values: NDArray[np.uint64]
) -> list[_Place]:
    """Return the places of pairs, of inputs that are like so, whose likeness is one of these values."""
    alike = np.isin(likes, values)
    rows = list(compress(_pairs(tasks), alike.tolist()))
    pair_likes = likeness([pair.input for *_, pair in rows], [pair.output for *_, pair in rows])
    return [
        _Place(source, task, f"{part}[{number}]", pair, like, pair_like)
        for (source, task, part, number, pair), like, pair_like in zip(
            rows, likes[alike].tolist(), pair_likes.tolist(), strict=True
        )
    ]


def _matches_among(groups: Iterable[Sequence[_Place]]) -> Iterator[tuple[_Place, _Place]]:
    """Yield what two tasks to predict share, given the places of each input, however it is changed.

    A test input and a pair with that input, or two pairs with the same output too.
    """
    for places in groups:
        pairs = [place for place in places if not place.is_test]
        by_output: dict[int, list[_Place]] = defaultdict(list)
        for place in pairs:
            by_output[place.pair_like].append(place)
        for own in places:
            for place in pairs if own.is_test else by_output[own.pair_like]:
                if own.task != place.task:
                    yield own, place


def _whole_tasks(targets: Iterable[NamedTask], matches: Iterable[tuple[_Place, _Place]]) -> list[Overlap]:
    """Return the tasks to predict that are another task: one change makes demonstrations of all of theirs."""
    counts = {task.id: len(task.demonstrations) + len(task.generated) for _, task in targets}
    by_tasks: dict[tuple[str, str, str], dict[str, tuple[_Place, _Place]]] = defaultdict(dict)
    for own, place in matches:
        if own.task != place.task:
            by_tasks[own.task, place.source, place.task].setdefault(own.part, (own, place))
    whole = []
    for (task, source, other), pairs in by_tasks.items():
        owns, others = (
            grids_of(*(place.pair for place in side)) for side in zip(*pairs.values(), strict=True)
        )
        is_whole = len(pairs) == counts[task]
        change = change_between(patterns(owns), pattern(others, 0)) if is_whole else None
        if change:
            whole.append(Overlap(task, "train", source, other, "train", change[0], True, *change[1:]))
    return whole


def _overlap(own: _Place, place: _Place) -> Overlap:
    """Return the overlap of a pair of a task to predict with a pair of another task."""
    known = own.pair.output is not None and place.pair.output is not None
    same = known and own.pair_like == place.pair_like
    others = grids_of(place.pair) if same else [place.pair.input]
    change = change_between(_patterns(own.pair, same), pattern(others, 0))
    assert change is not None, "they are alike"
    output = same if known else None
    return Overlap(own.task, own.part, place.source, place.task, place.part, change[0], output, *change[1:])


@lru_cache(maxsize=64)
def _patterns(pair: Pair, with_output: bool) -> list[Pattern]:
    """Return the patterns of a pair to predict, or of its input alone, which many others may match."""
    return patterns(grids_of(pair) if with_output else [pair.input])
