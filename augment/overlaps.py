"""Pairs that a task to predict and another task share, turned, flipped and recolored ones too."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from arcpipe.augmentation import DIHEDRALS, apply_dihedral
from arcpipe.grid import Grid
from arcpipe.task import Pair, Task

NamedTask = tuple[str, Task]
"""The name of a source, and a task of it."""

_MOST_LINES = 10


@dataclass(frozen=True)
class Overlap:
    """A pair of a task to predict that another task has too.

    task: the task to predict.
    part: its pair, `test[N]` or `train[N]`, counted from 0.
    source: the name of the source where the pair stands too.
    other: the task there.
    other_part: the pair there.
    change: what makes one of the other: "the same", "turned" (or flipped), "recolored", or
            "turned and recolored".
    """

    task: str
    part: str
    source: str
    other: str
    other_part: str
    change: str

    @property
    def is_answer(self) -> bool:
        """Return whether the input of both is a test input to predict: the other pair does not train."""
        return self.part.startswith("test")

    @property
    def line(self) -> str:
        """Return the overlap in words."""
        return f"{self.task} {self.part} = {self.other} {self.other_part} of {self.source}, {self.change}"


@dataclass(frozen=True)
class _Place:
    """Where a pair stands: the source, the task, and the part of it."""

    source: str
    task: str
    part: str
    is_test: bool
    pair: Pair


def find_overlaps(
    targets: Iterable[NamedTask], others: Iterable[NamedTask]
) -> tuple[list[Overlap], frozenset[Pair]]:
    """Find what the tasks to predict share with each other and with other tasks.

    A pair is an answer if its input is a test input of another task that is to be predicted, under any of
    the eight turns and flips and any permutation of the ten colors, black too. A task's own demonstrations
    are no answers to it: whoever solves the task is shown them. A demonstration is shared if one such
    change takes input to input and output to output; tasks to predict are not compared by these.

    Small inputs are often alike by chance, those of one color always. Their pairs are answers all the
    same: only the hidden output could tell. Of the 3,081 pairs of ARC-AGI-1 that could train for its
    evaluation set 25 are answers, of which two have the output too and one is of one color; of the 4,666
    for the evaluation set of ARC-AGI-2 none is.

    Returns: the overlaps: answers first, tasks of another name first, large inputs first. The pairs that
             are answers.
    """
    own_places = [place for source, task in targets for place in _places(source, task)]
    known: dict[bytes, list[_Place]] = defaultdict(list)
    for place in own_places:
        known[canonical([place.pair.input])].append(place)
    found = [
        (own, place)
        for places in known.values()
        for own in places
        for place in places
        if own.is_test and not place.is_test and own.task != place.task
    ]
    found += [
        (own, place)
        for source, task in others
        for place in _places(source, task)
        for own in known.get(canonical([place.pair.input]), ())
        if own.is_test or canonical(_grids(own.pair)) == canonical(_grids(place.pair))
    ]
    found.sort(key=_order)
    answers = frozenset(place.pair for own, place in found if own.is_test)
    return [_overlap(own, place) for own, place in found], answers


def report_overlaps(
    overlaps: Sequence[Overlap], untrained: Sequence[str], *, test_set: str, exclude_overlap: bool
) -> list[str]:
    """Return what to tell the user of overlaps, in a few lines; none where there are none.

    Args:    untrained: the tasks that have no demonstration left. test_set: as of `select`.
    """
    lines = []
    answers = [overlap for overlap in overlaps if overlap.is_answer]
    if answers:
        num_pairs = len({(answer.source, answer.other, answer.other_part) for answer in answers})
        lines += [
            f"pairs that do not train: {num_pairs}, because a test input to predict is their input, as it is "
            "or turned, flipped, recolored",
            *(f"  {answer.line}" for answer in answers[:_MOST_LINES]),
        ]
    if len(answers) > _MOST_LINES:
        lines.append(f"  and {len(answers) - _MOST_LINES} more matches")
    if untrained:
        lines.append(
            f"tasks without a demonstration left: {len(untrained)}, such as {untrained[0]}; they do not "
            "train, those to predict are predicted all the same"
        )
    outside = {overlap.other for overlap in overlaps if test_set not in ("", overlap.source)}
    if outside:
        advice = "left out" if exclude_overlap else "leave them out with --exclude-overlap"
        lines.append(
            f"tasks of other sources that share a pair with a task to predict: {len(outside)}; {advice}"
        )
    return lines


def canonical(grids: Sequence[Grid]) -> bytes:
    """Return what two lists of grids have in common if and only if one change makes one of the other.

    A change is one of the eight turns and flips and a permutation of the ten colors.
    """
    return min(_pattern(grids, dihedral) for dihedral in range(len(DIHEDRALS)))


def _places(source: str, task: Task) -> list[_Place]:
    """Return the demonstrations and then the tests of a task."""
    return [
        _Place(source, task.id, f"{part}[{number}]", part == "test", pair)
        for part, pairs in (("train", task.demonstrations), ("test", task.tests))
        for number, pair in enumerate(pairs)
    ]


def _order(found: tuple[_Place, _Place]) -> tuple[bool, bool, int, str, str]:
    """Return what to sort by; what is alike stays in the order of the sources."""
    own, place = found
    return not own.is_test, own.task == place.task, -own.pair.input.size, own.task, own.part


def _overlap(own: _Place, place: _Place) -> Overlap:
    """Return the overlap of a pair of a task to predict with a pair of another task."""
    if own.is_test:
        change = _change([own.pair.input], [place.pair.input])
    else:
        change = _change(_grids(own.pair), _grids(place.pair))
    return Overlap(own.task, own.part, place.source, place.task, place.part, change)


def _grids(pair: Pair) -> list[Grid]:
    return [grid for grid in (pair.input, pair.output) if grid is not None]


def _pattern(grids: Sequence[Grid], dihedral: int) -> bytes:
    """Return the turned grids, their colors numbered in the order in which they come up."""
    turned = [apply_dihedral(grid, dihedral) for grid in grids]
    cells = b"".join(grid.tobytes() for grid in turned)
    colors = bytes(dict.fromkeys(cells))
    numbered = cells.translate(bytes.maketrans(colors, bytes(range(len(colors)))))
    return bytes(side for grid in turned for side in grid.shape) + numbered


def _change(grids: Sequence[Grid], others: Sequence[Grid]) -> str:
    """Return what makes the others of these grids, which have the same canonical form."""
    pairs = list(zip(grids, others, strict=True))
    equal = [
        all(np.array_equal(apply_dihedral(grid, dihedral), other) for grid, other in pairs)
        for dihedral in range(len(DIHEDRALS))
    ]
    if any(equal):
        return "the same" if equal[0] else "turned"
    return "recolored" if _pattern(grids, 0) == _pattern(others, 0) else "turned and recolored"
