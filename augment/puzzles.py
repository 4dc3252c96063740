"""Sudokus and mazes: the tables and text files that hold them, and the dataset folder made of them."""

import gzip
import re
import zlib
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isqrt
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv, parquet
from pydantic import Field

from arcpipe.augment.build import write_puzzle_set
from arcpipe.augment.sources import hub_name, hub_split
from arcpipe.augmentation import PuzzleTable
from arcpipe.codec import GridTable, family_of
from arcpipe.documents import limit
from arcpipe.errors import DataError, one_line, why_unreadable
from arcpipe.puzzleset import PuzzleSet, Variants
from arcpipe.recipe import STRICT, Count
from arcpipe.runs import file_hash, make_manifest, reading, refuse_existing
from arcpipe.tables import read_table

_NAMED_ROWS = 5
_MOST_ROWS, _MOST_BYTES = 2**26, 2**34
_MOST_HEADER, _MOST_COLUMNS, _PART = 2**16, 1000, 2**20
# Limits of unpacked text: the spare bytes harm no machine, and no honest file unpacks to more times its size.
_SPARE_BYTES, _TIMES_BYTES = 2**24, 16
_TABLE_FORMS = "a source is a .csv, .csv.gz, .parquet or .txt file, or hub:OWNER/NAME on the Hugging Face hub"
# Column names of published tables, tried where the configured name is absent.
_ALIASES = {
    "question": ("quizzes", "quiz", "puzzles", "puzzle", "problem"),
    "answer": ("solutions", "solution", "answers"),
}


@dataclass(frozen=True, kw_only=True)
class BoardSettings:
    """The settings shared by datasets of Sudokus and of mazes: what to read or generate."""

    __pydantic_config__ = STRICT

    source: Annotated[
        str,
        Field(
            description="A .csv or .parquet file, a .txt file, or OWNER/NAME on the Hugging Face hub (its "
            "split train)."
        ),
    ] = ""
    test_source: Annotated[
        str, Field(description="The tests, named in the same way (of a hub set the split test).")
    ] = ""
    question: Annotated[str, Field(description="The table's column of puzzles.")] = "question"
    answer: Annotated[str, Field(description="The table's column of solutions.")] = "answer"
    generate: Annotated[int, Field(ge=0, description="Make up so many instead of reading them.")] = 0
    test: Annotated[int, Field(ge=0, description="With --generate: make up so many tests too.")] = 0
    subsample: Annotated[int, Field(ge=0, description="Draw so many by the seed; 0 for all.")] = 0
    test_subsample: Annotated[int, Field(ge=0, description="Draw so many of the tests; 0 for all.")] = 0
    exclude_overlap: Annotated[bool, Field(description="Do not train on boards that are tests too.")] = False
    num_aug: Count | None = None
    seed: Annotated[int, Field(ge=0, le=2**32 - 1, description="Seed of all that is random.")] = 0


@dataclass(frozen=True)
class Table:
    """Puzzles as text, one per row.

    columns: by name, pyarrow ChunkedArrays of strings without nulls.
    row_name: returns the name of a row, counted from 0, for messages.
    files: the files that were read.
    has_answers: whether there is an answer column; text files have none.
    """

    columns: dict[str, Any]
    row_name: Callable[[int], str]
    files: tuple[Path, ...]
    has_answers: bool = True

    def side(self, column: str, sides: Container[int], in_words: str) -> int:
        """Return the board side of a column, from the first row whose length is that of an allowed board.

        Raises:  DataError, which lists the allowed sides `in_words`, if no row has such a length.
        """
        lengths = pc.unique(pc.utf8_length(self.columns[column])).to_pylist()
        for length in lengths:
            if isqrt(length) ** 2 == length and isqrt(length) in sides:
                return isqrt(length)
        side = isqrt(lengths[0])
        what = f"those of {side} x {side}" if side * side == lengths[0] else "not those of a square"
        advice = _spreadsheet_advice(self.columns[column][0].as_py())
        raise DataError(
            f"{self.row_name(0)}: {column} has {lengths[0]} characters, {what}, where a board has a side of "
            f"{in_words}{advice}"
        )

    def boards(self, side: int, symbols: Mapping[str, Sequence[str]]) -> dict[str, NDArray[np.uint8]]:
        """Return the boards (N, S, S) by column.

        Args:    symbols: by column, the characters of each cell value, counted from 0.
        Raises:  DataError naming the rows of a wrong length or with an unknown character.
        """
        faults = []
        for column, characters_of in symbols.items():
            strings, allowed = self.columns[column], "".join(characters_of)
            lengths = pc.utf8_length(strings).to_numpy()
            misfits = lengths != side * side
            if misfits.any():
                first = int(misfits.argmax())
                advice = _spreadsheet_advice(strings[first].as_py(), side)
                problem = f"{column} has {lengths[first]} characters, expected {side * side}{advice}"
                faults.append((misfits, problem))
            strange = ~pc.match_substring_regex(strings, f"^[{allowed}]*$").to_numpy() & ~misfits
            if strange.any():
                string = strings[int(strange.argmax())].as_py()
                place = next(place for place, character in enumerate(string) if character not in allowed)
                where = f"line {place // side + 1}, column {place % side + 1} of the board"
                problem = f"{column} holds {string[place]!a} in {where}; it is made of {allowed!r}"
                faults.append((strange, problem))
        self.refuse(*faults)
        boards = {}
        for column, characters_of in symbols.items():
            values = np.zeros(128, np.uint8)
            for value, characters in enumerate(characters_of):
                values[[ord(character) for character in characters]] = value
            chunks = ("".join(chunk.to_pylist()).encode() for chunk in self.columns[column].chunks)
            codes = np.frombuffer(b"".join(chunks), np.uint8)
            boards[column] = values[codes].reshape(-1, side, side)
        return boards

    def refuse(self, *faults: tuple[NDArray[np.bool_], str]) -> None:
        """Raise a DataError naming every faulty row, if there is any.

        Args:    faults: masks (N,) of the faulty rows, each with the problem of its first row.
        """
        lines = []
        for wrong, problem in faults:
            rows = np.flatnonzero(wrong).tolist()
            names = [self.row_name(row).rpartition(": ")[2] for row in rows[1 : 1 + _NAMED_ROWS]]
            names += [f"{len(rows) - 1 - _NAMED_ROWS} more"] if len(rows) > 1 + _NAMED_ROWS else []
            more = f" (so have {len(rows) - 1} others: {', '.join(names)})" if names else ""
            lines += [f"{self.row_name(rows[0])}: {problem}{more}"] if rows else []
        if lines:
            raise DataError("; ".join(lines))


def _spreadsheet_advice(text: str, side: int = 0) -> str:
    """Return advice for text that a spreadsheet has changed into a number; empty for any other text."""
    if re.fullmatch(r"[0-9]+([.,][0-9]+)?[eE][+]?[0-9]+|[0-9]+[.,][0-9]+", text):
        return ": a spreadsheet took it for a number and cut its digits: import that column as text"
    if text.isdecimal() and len(text) < side * side and not text.startswith("0"):
        return ": a spreadsheet may have dropped the zeros at its front: import that column as text"
    return ""


@dataclass(frozen=True)
class SolvedBoards:
    """N Sudokus or mazes with their solutions.

    questions: (N, S, S) uint8, 0 for an empty cell of a Sudoku.
    answers: (N, S, S) uint8.
    files: the files that they were read from.
    total: number of boards in the source, if these are a subsample of it; else 0.
    unverified: number of boards not checked for a second solution.
    """

    questions: NDArray[np.uint8]
    answers: NDArray[np.uint8]
    files: tuple[Path, ...] = ()
    total: int = 0
    unverified: int = 0

    def __len__(self) -> int:
        return len(self.questions)

    @property
    def side(self) -> int:
        """Return the side of the boards."""
        return int(self.questions.shape[1])

    def take(self, rows: NDArray[np.intp]) -> "SolvedBoards":
        """Return the boards of these rows, with the same files and totals."""
        return replace(self, questions=self.questions[rows], answers=self.answers[rows])

    def split(self, num_test: int) -> tuple["SolvedBoards", "SolvedBoards"]:
        """Return the training boards and the tests, which are the first `num_test`."""
        test, train = np.split(np.arange(len(self)), [num_test])
        return self.take(train), self.take(test)


def read_split(settings: BoardSettings, split: str, read_text: Callable[[Path, str], Table]) -> Table:
    """Read the source of a split; at least one row.

    A set on the Hugging Face hub is downloaded once into its cache.

    Args:    split: train, or another for the tests; the name of the split of a set on the hub.
             read_text: reads a text file as a column of this name.
    Raises:  DataError if the source does not exist, cannot be reached or read, lacks a column or has no
             rows.
    """
    spec = settings.source if split == "train" else settings.test_source
    path = Path(spec)
    if spec.endswith(".txt"):
        return read_text(path, settings.question)
    names = list(dict.fromkeys((settings.question, settings.answer)))
    if name := hub_name(spec):
        return _read_hub(name, split, names)
    is_csv = spec.endswith((".csv", ".csv.gz"))
    if not is_csv and not spec.endswith(".parquet"):
        what = "not a table" if path.exists() else "no such file"
        raise DataError(f"{spec}: {what}; {_TABLE_FORMS}")
    try:
        with reading(path):
            if is_csv:
                rows = _read_csv(path, names)
            else:
                with parquet.ParquetFile(path) as file:
                    columns = _find_columns(file.schema_arrow.names, spec, names)
                table = read_table(path, columns, most_rows=_MOST_ROWS, most_bytes=_MOST_BYTES)
                rows = table.select(columns).rename_columns(names)
    except FileNotFoundError:
        raise DataError(f"{spec}: no such file; {_TABLE_FORMS}") from None
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        reason = why_unreadable(error) if isinstance(error, OSError) else one_line(error)
        raise DataError(f"{spec}: not a table that can be read ({reason})") from None
    return _table(rows, spec, names, (path,))


def byte_keys(boards: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """Return the cells of boards (N, S, S) as byte strings (N,), which drop zeros at their end."""
    num_cells = boards.shape[1] * boards.shape[2]
    return boards.reshape(len(boards), num_cells).view(f"S{num_cells}")[:, 0]


def draw_rows(settings: BoardSettings, split: str, total: int) -> tuple[NDArray[np.intp], int]:
    """Return the rows of a split to take, in order, and the number they were drawn from; 0 for all rows.

    Raises:  DataError if the subsample is larger than the split.
    """
    of_train = split == "train"
    count = settings.subsample if of_train else settings.test_subsample
    if count > total:
        raise DataError(f"a subsample of {count} was asked for, but there are {total}")
    if not count:
        return np.arange(total), 0
    rng = np.random.default_rng((settings.seed, 0 if of_train else 1))
    return np.sort(rng.permutation(total)[:count]), total


def _read_csv(path: Path, names: list[str]) -> pa.Table:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        header = file.readline(_MOST_HEADER).decode(errors="replace")
        if path.suffix == ".gz":
            most = limit(_SPARE_BYTES + _TIMES_BYTES * path.stat().st_size)
            num_bytes = len(header)
            while part := file.read(_PART):
                if (num_bytes := num_bytes + len(part)) > most:
                    reason = f"more than {most / 1e6:,.0f} MB when unpacked, too much for its size"
                    raise DataError(f"{path}: {reason}: unpack it")
    delimiter = max(",;\t", key=header.count)
    if header.count(delimiter) > _MOST_COLUMNS:
        raise DataError(f"{path}: more than {_MOST_COLUMNS} columns")
    parse = csv.ParseOptions(delimiter=delimiter)
    with csv.open_csv(path, parse_options=parse) as reader:
        columns = _find_columns(reader.schema.names, str(path), names)
    rows = csv.read_csv(
        path,
        # Only the single-threaded reader names the row of an error.
        read_options=csv.ReadOptions(use_threads=False),
        parse_options=parse,
        convert_options=csv.ConvertOptions(
            include_columns=columns, column_types=dict.fromkeys(columns, pa.string())
        ),
    )
    return rows.rename_columns(names)


def _read_hub(name: str, split: str, names: list[str]) -> Table:
    remedy = (
        "name a .csv or .parquet file, generate puzzles, or set HF_HUB_OFFLINE=1 if the set was downloaded "
        "before"
    )
    with hub_split(name, split, remedy, streaming=False) as dataset:
        files = tuple(Path(file["filename"]) for file in dataset.cache_files)
    where = f"{name}, {split}"
    columns = _find_columns(dataset.column_names, where, names)
    rows = dataset.with_format("arrow").select_columns(columns)[:].select(columns).rename_columns(names)
    return _table(rows, where, names, files)


def _find_columns(available: Sequence[str], where: str, names: Sequence[str]) -> list[str]:
    """Return the column of each name or else of an alias; spaces around it and capitals do not matter.

    Raises:  DataError for a name with no column or several.
    """
    matches = []
    for name in names:
        for known in (name, *_ALIASES.get(name, ())):
            columns = [column for column in available if column.strip().casefold() == known.casefold()]
            if columns:
                break
        if len(columns) != 1:
            what = "two columns" if columns else "no column"
            raise DataError(f"{where}: {what} {name!r}; its columns are: {', '.join(available)}")
        matches += columns
    return matches


def _table(rows: pa.Table, name: str, names: Sequence[str], files: tuple[Path, ...]) -> Table:
    """Return a pyarrow table as a Table."""
    if rows.num_rows == 0:
        raise DataError(f"{name}: no rows")
    columns = {}
    for column in names:
        kind = rows[column].type
        if not pa.types.is_string(kind) and pa.types.is_primitive(kind):
            raise DataError(
                f"{name}: column {column!r} holds numbers ({kind}), which lack the zeros at the front or the "
                "last digits: write it as text"
            )
        try:
            columns[column] = pc.fill_null(rows[column].cast(pa.string()), "")
        except pa.ArrowException as error:
            raise DataError(f"{name}: column {column!r} holds no text ({one_line(error)})") from None
    return Table(columns, lambda row: f"{name}: row {row + 1}", files)


@dataclass(frozen=True)
class BoardSummary:
    """Counts of a dataset of Sudokus or mazes.

    examples, test_inputs: training examples and test inputs.
    canvas: side of the canvas.
    overlap: training boards that are tests too, counted before they are excluded.
    repeated: training boards equal to an earlier one.
    drawn_from, tests_drawn_from: boards of the source, if only a subsample of them is used; else 0.
    unverified: Sudokus not checked for a second solution.
    """

    examples: int
    test_inputs: int
    canvas: int
    overlap: int
    repeated: int
    drawn_from: int
    tests_drawn_from: int
    unverified: int


def build_boards(
    family: str, settings: BoardSettings, out: Path,
    generate: Callable[[], tuple[SolvedBoards, SolvedBoards]],
    read: Callable[[BoardSettings, str], SolvedBoards],
    keys_of: Callable[[NDArray[np.uint8]], NDArray[np.bytes_]],
) -> BoardSummary:  # fmt: skip
    """Generate or read boards, exclude overlaps if the settings say so, and write the dataset folder.

    Args:    family: sudoku or maze.
             generate: makes the training boards and the tests.
             read: reads a split, train or test.
             keys_of: returns a key (N,) for each board (N, S, S), equal for boards that overlap.
    Raises:  DataError for contradictory settings or an unreadable source; OutputError if `out` exists.
    """
    refuse_existing(out)
    if bool(settings.source) == bool(settings.generate):
        raise DataError("name a --source, or say with --generate how many to make up: one of the two")
    if settings.generate and settings.test_source:
        raise DataError("--test-source goes with --source; --test N generates tests")
    if settings.test and not settings.generate:
        raise DataError("--test goes with --generate; --test-source names the tests of a source")
    if settings.generate:
        train, test = generate()
    else:
        train = read(settings, "train")
        none = SolvedBoards(train.questions[:0], train.answers[:0])
        test = read(settings, "test") if settings.test_source else none
    if test.side != train.side:
        raise DataError(
            f"the tests are {test.side} wide, the training boards {train.side}: "
            "a dataset has boards of one size"
        )
    shared = np.zeros(len(train), bool)
    if len(test):
        shared = np.isin(keys_of(train.questions), keys_of(test.questions))
    examples = train.take(np.flatnonzero(~shared)) if settings.exclude_overlap else train
    if not len(examples):
        raise DataError("no board is left to train on: all of them are tests too")
    puzzles = PuzzleSet(
        family=family_of(family, train.side),
        canvas=train.side,
        table=PuzzleTable.uncolored([family]),
        inputs=_grid_table(examples.questions),
        outputs=_grid_table(examples.answers),
        example_tasks=np.zeros(len(examples), np.int32),
        example_groups=np.arange(len(examples), dtype=np.int32),
        test_inputs=_grid_table(test.questions),
        test_tasks=np.zeros(len(test), np.int32),
        variants=Variants(settings.num_aug, settings.seed),
    )
    summary = BoardSummary(
        examples=len(examples), test_inputs=len(test), canvas=train.side, overlap=int(shared.sum()),
        repeated=len(examples) - len(set(byte_keys(examples.questions).tolist())),
        drawn_from=train.total, tests_drawn_from=test.total, unverified=train.unverified + test.unverified,
    )  # fmt: skip
    files = {str(path): file_hash(path) for path in dict.fromkeys((*train.files, *test.files))}
    counts = asdict(summary) | {"tasks": 1, "puzzles": 1}
    manifest = make_manifest("dataset", recipe={"data": asdict(settings)}, files=files, counts=counts)
    write_puzzle_set(out, puzzles, manifest, solutions=_grid_table(test.answers) if len(test) else None)
    return summary


def _grid_table(boards: NDArray[np.uint8]) -> GridTable:
    return GridTable(boards, np.full((len(boards), 2), boards.shape[1], np.int16))
