"""Sources of ARC tasks -> a dataset folder."""

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from arcpipe.augment.alike import IDENTITY, Augmentations, Overlap, distinct_augmentations
from arcpipe.augment.forms import DataSettings, Source
from arcpipe.augment.sources import fitting, largest_side, read_source, source_specs
from arcpipe.augment.split import Conflict, Selection, correct_sources, sampling_of, select
from arcpipe.augmentation import PuzzleTable
from arcpipe.codec import ARC, GridList, GridTable
from arcpipe.errors import DataError
from arcpipe.log import counted
from arcpipe.puzzleset import TEST, TRAIN, PuzzleSet, Variants, read_puzzle_set
from arcpipe.runs import file_hash, make_manifest, new_folder, refuse_existing
from arcpipe.task import Task, challenges_json, solutions_json

if TYPE_CHECKING:
    import datasets

_MOST_LINES = 10


@dataclass(frozen=True)
class SourceSummary:
    """Contents of a source, and how much of it trains.

    name, spec: its name, and the source as given by the user.
    tasks, pairs: number of tasks and pairs, including pairs with a hidden output.
    trained: number of pairs that train.
    skipped: lines about what is not read or does not train.
    """

    name: str
    spec: str
    tasks: int
    pairs: int
    trained: int
    skipped: list[str]

    @property
    def line(self) -> str:
        """Return the summary in words."""
        counts = f"{counted(self.tasks, 'task')}, {counted(self.pairs, 'pair')}, {self.trained} of them train"
        return "; ".join([f"{self.name}: {counts}", *self.skipped])


@dataclass(frozen=True)
class BuildSummary:
    """Counts and findings of a build, for the user and the manifest.

    tasks, examples, test_inputs, puzzles: numbers of each in the dataset.
    canvas: side of the canvas.
    needed: side of the smallest canvas that fits.
    repeated: number of tasks that a later source repeats.
    known: number of tasks with the augmentations of `settings.extend`.
    shares: share of each source in the draws, if there are weights.
    overlaps, untrained, conflicts, unlisted: as in `Selection`.
    sources: summaries of the sources.
    left_out, corrected: ids of the tasks that were left out or replaced.
    generated_of_test: number of generated pairs of tasks to predict that train.
    """

    tasks: int
    examples: int
    test_inputs: int
    puzzles: int
    canvas: int
    needed: int
    repeated: int
    known: int
    overlaps: list[Overlap]
    untrained: list[str]
    conflicts: list[Conflict]
    sources: list[SourceSummary]
    left_out: list[str]
    corrected: list[str]
    generated_of_test: int
    shares: dict[str, float]
    unlisted: int


@contextmanager
def _without_collector() -> Iterator[None]:
    """Pause garbage collection, which would spend most of a build searching millions of grids for cycles."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@_without_collector()
def build_arc(settings: DataSettings, out: Path, *, keep_demonstrations: bool = False) -> BuildSummary:
    """Build a dataset folder from ARC sources.

    Test outputs of the set to predict are only copied into solutions.json.

    Args:    keep_demonstrations: as in `select`.
    Raises:  DataError for a source that cannot be read; OutputError if `out` exists.
    """
    refuse_existing(out)
    specs = source_specs(settings)
    originals = [read_source(spec, settings) for spec in specs]
    sources, left_out, corrected = correct_sources(originals, settings.leave_out, settings.corrections)
    selection = select(sources, settings, keep_demonstrations=keep_demonstrations)
    sides = {task.id: largest_side(*task.pairs) for task in selection.shown}
    needed = max(sides.values())
    canvas = settings.canvas or needed
    for task_id, side in sides.items():
        if side > canvas:
            raise DataError(
                f"task {task_id}: a grid of side {side} does not fit canvas {canvas}: "
                "choose a larger --canvas (0 for the smallest that fits) or a smaller --max-side"
            )
    sampling = sampling_of(selection, settings)
    groups, num_known = _augmentations(selection.shown, settings)
    puzzles = replace(
        puzzle_set_of(selection.training, selection.targets, groups, canvas),
        variants=Variants(None, settings.seed) if settings.num_aug is None else None,
        sampling=sampling,
    )
    summary = BuildSummary(
        tasks=len(selection.training),
        examples=len(puzzles.example_tasks),
        test_inputs=len(puzzles.test_tasks),
        puzzles=puzzles.num_puzzles,
        canvas=canvas,
        needed=needed,
        repeated=selection.repeated,
        known=num_known,
        overlaps=selection.overlaps,
        untrained=selection.untrained,
        conflicts=selection.conflicts,
        sources=_source_summaries(sources, specs, selection),
        left_out=left_out,
        corrected=corrected,
        generated_of_test=sum(len(selection.training[task].generated) for task in set(puzzles.test_tasks)),
        shares={name: share for name, _, share in puzzles.sampling.shares},
        unlisted=selection.unlisted,
    )
    files = {str(path): file_hash(path) for source in sources for path in source.files}
    # `asdict` would copy long lists of overlaps.
    counts = {name: value for name, value in vars(summary).items() if name != "unlisted" or value}
    manifest = make_manifest("dataset", recipe={"data": asdict(settings)}, files=files, counts=counts)
    targets, extra = selection.targets, {}
    if targets:
        extra["challenges.json"] = _json_lines(targets, challenges_json)
        if all(pair.output is not None for task in targets for pair in task.tests):
            extra["solutions.json"] = _json_lines(targets, solutions_json)
    write_puzzle_set(out, puzzles, manifest, extra_files=extra)
    return summary


def report_overlaps(
    summary: BuildSummary, settings: DataSettings, *, keep_demonstrations: bool = False
) -> list[str]:
    """Return a few lines about overlaps for the user; no lines if there are no overlaps.

    Args:  keep_demonstrations: as of the build, whose tasks are then all of one source.
    """
    lines: list[str] = []
    overlaps, keep_overlap, test_set = summary.overlaps, settings.keep_overlap, settings.test_set
    groups: dict[bool, list[Overlap]] = {True: [], False: []}
    for one in overlaps:
        if one.is_answer:
            is_kept = keep_demonstrations and one.other_part.startswith("train[")
            groups[keep_overlap or is_kept].append(one)
    for trains, answers in groups.items():
        unlisted = summary.unlisted if trains == keep_overlap else 0
        if not answers and not unlisted:
            continue
        pairs = {(answer.source, answer.other, answer.other_part) for answer in answers}
        flag = " (--keep-overlap)" if keep_overlap else ""
        what, why = (f"train all the same{flag}", "though") if trains else ("do not train", "because")
        lines.append(
            f"pairs that {what}: {len(pairs) + unlisted}, {why} a test input to predict is their input, as "
            "it is or turned, flipped, recolored"
        )
        lines += [f"  {answer.line}" for answer in answers[:_MOST_LINES]]
        if len(answers) > _MOST_LINES:
            least = "at least " if unlisted else ""
            lines.append(f"  and {least}{len(answers) - _MOST_LINES} more matches")
    whole = [overlap for overlap in overlaps if overlap.part == "train"]
    if whole:
        lines.append(f"tasks to predict all of whose demonstrations another task has: {len(whole)}")
        lines += [f"  {overlap.line}" for overlap in whole[:_MOST_LINES]]
    if summary.untrained:
        lines.append(
            f"tasks without a demonstration left: {len(summary.untrained)}, such as {summary.untrained[0]}; "
            "they do not train, those to predict are predicted all the same"
        )
    among = [one for one in overlaps if one.part.startswith("train[") and test_set in ("", one.source)]
    if among:
        lines.append(f"demonstrations that two tasks to predict share: {len(among)}, such as {among[0].line}")
    outside = {overlap.other for overlap in overlaps if test_set not in ("", overlap.source)}
    if outside:
        advice = "left out" if settings.exclude_overlap else "leave them out with --exclude-overlap"
        lines.append(
            f"tasks of other sources that share a pair with a task to predict: {len(outside)}; {advice}"
        )
    return lines


def _augmentations(tasks: Sequence[Task], settings: DataSettings) -> tuple[list[Augmentations], int]:
    """Return the augmentations of each task, and the number of tasks that `settings.extend` knows."""
    known: dict[str, Augmentations] = {}
    if settings.extend:
        path = Path(settings.extend)
        if (path / "puzzles").is_dir():
            table = read_puzzle_set(path).table
        else:
            # Imported here because it loads torch, which takes seconds.
            from arcpipe.checkpoint import load_checkpoint

            table = load_checkpoint(path).puzzles
        for number, task_id in enumerate(table.task_ids):
            rows = table.of_task(number)
            known[task_id] = table.dihedrals[rows], table.colors[rows]
    num_known = sum(task.id in known for task in tasks)
    if settings.num_aug is None:
        turns = PuzzleTable.uncolored(["any task"], range(8))
        return [(turns.dihedrals, turns.colors)] * len(tasks), num_known
    groups = [
        known.get(task.id) or distinct_augmentations(task, settings.num_aug, settings.seed) for task in tasks
    ]
    return groups, num_known


def _source_summaries(
    sources: Sequence[Source], specs: Sequence[str], selection: Selection
) -> list[SourceSummary]:
    """Return the summary of each source."""
    trained = {id(pair) for task in selection.training for pair in task.pairs if pair.output is not None}
    summaries = []
    for source, spec, skipped in zip(sources, specs, selection.skipped, strict=True):
        pairs = [pair for task in source.tasks for pair in task.pairs]
        lines = [*source.notes, *(f"{what}: {count}" for what, count in skipped.items())]
        num_trained = sum(id(pair) in trained for pair in pairs)
        summaries.append(SourceSummary(source.name, spec, len(source.tasks), len(pairs), num_trained, lines))
    return summaries


def _json_lines(tasks: Sequence[Task], to_json: Callable[[Sequence[Task]], Any]) -> Iterator[bytes]:
    """Yield a JSON object of tasks by id, task by task, to save memory."""
    for number, task in enumerate(tasks):
        yield (b"," if number else b"{") + orjson.dumps(to_json([task]))[1:-1]
    yield b"}\n"


def puzzle_set_of(
    training: Sequence[Task], targets: Sequence[Task], groups: Sequence[Augmentations], canvas: int
) -> PuzzleSet:
    """Return the puzzle set of tasks that train, each with its augmentations, and of tasks to predict."""
    numbers = {task.id: number for number, task in enumerate(training)}
    pairs = [
        (number, pair.input, pair.output)
        for number, task in enumerate(training)
        for pair in task.pairs
        if pair.output is not None
    ]
    tests = [(numbers[task.id], pair.input) for task in targets for pair in task.tests]
    example_tasks = np.array([number for number, _, _ in pairs], np.int32)
    return PuzzleSet(
        family=ARC,
        canvas=canvas,
        table=PuzzleTable(
            list(numbers),
            np.repeat(np.arange(len(groups), dtype=np.int32), [len(dihedrals) for dihedrals, _ in groups]),
            np.concatenate([dihedrals for dihedrals, _ in groups]),
            np.concatenate([colors for _, colors in groups]),
        ),
        inputs=GridList([grid for _, grid, _ in pairs], canvas),
        outputs=GridList([grid for _, _, grid in pairs], canvas),
        example_tasks=example_tasks,
        example_groups=example_tasks,
        test_inputs=GridList([grid for _, grid in tests], canvas),
        test_tasks=np.array([number for number, _ in tests], np.int32),
    )


def demonstrations_of(sources: Sequence[Source], canvas: int) -> PuzzleSet:
    """Return the demonstrations, without augmentations, of the tasks that fit a canvas, the first of each id.

    Raises:  DataError if no task fits.
    """
    tasks = {
        task.id: replace(task, tests=())
        for source in reversed(sources)
        for task in fitting(source.tasks, canvas)
    }
    if not tasks:
        raise DataError(f"no task of {', '.join(source.name for source in sources)} fits {canvas} x {canvas}")
    return puzzle_set_of([*tasks.values()], [], [IDENTITY] * len(tasks), canvas)


def write_puzzle_set(
    path: Path,
    puzzles: PuzzleSet,
    manifest: dict[str, Any],
    *,
    solutions: GridTable | None = None,
    extra_files: Mapping[str, Iterable[bytes]] | None = None,
) -> None:
    """Write a dataset folder, whole or not at all.

    Args:    manifest: from `make_manifest("dataset", ...)`; family, canvas and task ids are added.
             solutions: the outputs of the test inputs, in their order.
             extra_files: contents, in parts, of further files by name, such as challenges.json.
    Raises:  OutputError if the folder exists or cannot be written.
    """
    facts = {
        "family": puzzles.family.name,
        "canvas": puzzles.canvas,
        "variants": puzzles.variants,
        "sampling": puzzles.sampling,
        "task_ids": puzzles.table.task_ids,
        "fingerprint": puzzles.fingerprint(),
    }
    table, tasks = puzzles.table, {"task": puzzles.example_tasks, "group": puzzles.example_groups}
    splits = {TRAIN: _parts(tasks, input=puzzles.inputs, output=puzzles.outputs)}
    # An empty split cannot be saved: a dataset without tests has no test split.
    if len(puzzles.test_tasks):
        splits[TEST] = _parts({"task": puzzles.test_tasks}, input=puzzles.test_inputs)
    rows: dict[str, NDArray[Any]] = {"task": table.tasks, "dihedral": table.dihedrals, "colors": table.colors}
    # Here and below not at the top: it takes a second, which `--help` and `arcpipe recipe` do without.
    import datasets

    with new_folder(path, manifest | facts) as folder:
        datasets.disable_progress_bars()
        first = {name: _dataset(next(parts)) for name, parts in splits.items()}
        datasets.DatasetDict(first).save_to_disk(folder / "examples")
        for name, parts in splits.items():
            _append(folder / "examples" / name, parts)
        _dataset(rows).save_to_disk(folder / "puzzles")
        if solutions is not None:
            _dataset(_grid_columns("output", solutions)).save_to_disk(folder / "solutions")
        for name, content in (extra_files or {}).items():
            with (folder / name).open("wb") as file:
                file.writelines(content)


def _grid_columns(name: str, table: GridTable) -> dict[str, NDArray[Any]]:
    count, height, width = table.cells.shape
    return {name: table.cells.reshape(count, height * width), f"{name}_shape": table.shapes}


def _parts(columns: Mapping[str, NDArray[Any]], **grids: GridTable) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the columns, and those of grids, a batch of rows at a time."""
    start = 0
    for parts in zip(*(table.parts() for table in grids.values()), strict=True):
        rows = slice(start, start + len(parts[0]))
        start = rows.stop
        part = {name: column[rows] for name, column in columns.items()}
        for name, table in zip(grids, parts, strict=True):
            part |= _grid_columns(name, table)
        yield part


def _append(folder: Path, parts: Iterator[dict[str, NDArray[Any]]]) -> None:
    """Append rows to a split that `datasets` has saved as one file."""
    import datasets

    first = next(parts, None)
    if first is None:
        return
    (path,), whole = folder.glob("data-*.arrow"), folder / "whole"
    with (
        pa.ipc.open_stream(pa.memory_map(str(path))) as saved,
        pa.OSFile(str(whole), "wb") as sink,
        pa.ipc.new_stream(sink, saved.schema) as writer,
    ):
        for batch in saved:
            writer.write_batch(batch)
        for columns in chain([first], parts):
            # Record batches of the size that `datasets` writes.
            writer.write_table(_arrow(columns).cast(saved.schema), datasets.config.DEFAULT_MAX_BATCH_SIZE)
    whole.rename(path)


def _dataset(columns: dict[str, NDArray[Any]]) -> "datasets.Dataset":
    import datasets

    return datasets.Dataset(datasets.table.InMemoryTable(_arrow(columns)))


def _arrow(columns: dict[str, NDArray[Any]]) -> pa.Table:
    """Return an Arrow table of columns (N,) and (N, W), the latter as lists of fixed size; copy nothing."""
    return pa.table(
        {
            name: pa.array(values)
            if values.ndim == 1
            else pa.FixedSizeListArray.from_arrays(
                pa.array(np.ascontiguousarray(values).reshape(-1)), values.shape[1]
            )
            for name, values in columns.items()
        }
    )
