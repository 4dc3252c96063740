"""Where Sudokus and mazes with their solutions are, and the tables and text files that hold them."""

import gzip
import os
import re
import zlib
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv, parquet
from pydantic import Field

from arcpipe.augment.sources import FILE_ENDINGS, HUB, HUB_NAME, hub_split
from arcpipe.documents import limit
from arcpipe.errors import DataError, one_line, why_unreadable
from arcpipe.recipe import STRICT, Count
from arcpipe.runs import reading
from arcpipe.tables import read_table

_NAMED_ROWS = 5
_MOST_ROWS, _MOST_BYTES = 2**26, 2**34
_MOST_HEADER, _MOST_COLUMNS, _PART = 2**16, 1000, 2**20
# So much is no harm from any compressed text, and to so many times its bytes no honest one unpacks.
_SPARE_BYTES, _TIMES_BYTES = 2**24, 16
_TABLE_FORMS = "a source is a .csv, .csv.gz, .parquet or .txt file, or hub:OWNER/NAME on the Hugging Face hub"
# What tables in use call their columns, where they are not called as one asks for them.
_ALIASES = {
    "question": ("quizzes", "quiz", "puzzles", "puzzle", "problem"),
    "answer": ("solutions", "solution", "answers"),
}


@dataclass(frozen=True, kw_only=True)
class PuzzleSettings:
    """Which Sudokus or mazes to read or to generate, and how many variants of each."""

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
    """Puzzles as they are written, one a row.

    columns: by name, pyarrow ChunkedArrays of strings without nulls.
    row_name: what messages call a row, from 0.
    files: those that were read.
    has_answers: whether they are solved; those of a text file are not.
    """

    columns: dict[str, Any]
    row_name: Callable[[int], str]
    files: tuple[Path, ...]
    has_answers: bool = True

    def side(self, column: str, sides: Container[int], in_words: str) -> int:
        """Return the side of the square board that a row of a column holds: the first row that holds one.

        Raises:  DataError, which lists the sides `in_words`, if none does.
        """
        lengths = pc.unique(pc.utf8_length(self.columns[column])).to_pylist()
        for length in lengths:
            if isqrt(length) ** 2 == length and isqrt(length) in sides:
                return isqrt(length)
        side = isqrt(lengths[0])
        what = f"those of {side} x {side}" if side * side == lengths[0] else "not those of a square"
        cut = _of_a_spreadsheet(self.columns[column][0].as_py())
        raise DataError(
            f"{self.row_name(0)}: {column} has {lengths[0]} characters, {what}, where a board has a side of "
            f"{in_words}{cut}"
        )

    def boards(self, side: int, symbols: Mapping[str, Sequence[str]]) -> list[NDArray[np.uint8]]:
        """Return the boards (N, S, S) of columns.

        Args:    symbols: by column, for each cell value, from 0, the characters that stand for it.
        Raises:  DataError naming the rows of another length and those with another character.
        """
        self.refuse(*(fault for column in symbols for fault in self._faults(column, side, symbols[column])))
        boards = []
        for column, characters_of in symbols.items():
            values = np.zeros(128, np.uint8)
            for value, characters in enumerate(characters_of):
                values[[ord(character) for character in characters]] = value
            codes = np.concatenate([_chunk_codes(chunk) for chunk in self.columns[column].chunks])
            boards.append(values[codes].reshape(-1, side, side))
        return boards

    def _faults(
        self, column: str, side: int, symbols: Sequence[str]
    ) -> Iterator[tuple[NDArray[np.bool_], str]]:
        """Yield the rows (N,) of a column that hold no board, by what is wrong with the first of them."""
        strings, allowed = self.columns[column], "".join(symbols)
        lengths = pc.utf8_length(strings).to_numpy()
        other = lengths != side * side
        strange = ~pc.match_substring_regex(strings, f"^[{allowed}]*$").to_numpy() & ~other
        if other.any():
            first = int(other.argmax())
            cut = _of_a_spreadsheet(strings[first].as_py(), side)
            yield other, f"{column} has {lengths[first]} characters, expected {side * side}{cut}"
        if strange.any():
            string = strings[int(strange.argmax())].as_py()
            place = next(place for place, character in enumerate(string) if character not in allowed)
            row, at = divmod(place, side)
            where = f"line {row + 1}, column {at + 1} of the board"
            yield strange, f"{column} holds {string[place]!a} in {where}; it is made of {allowed!r}"

    def refuse(self, *faults: tuple[NDArray[np.bool_], str]) -> None:
        """Raise DataError if a row is wrong: it says of each fault which rows (N,) have it.

        Args:    faults: rows, and what is wrong with the first of them.
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


def _of_a_spreadsheet(text: str, side: int = 0) -> str:
    """Return what to do about a puzzle that a spreadsheet took for a number; empty if it is none."""
    if re.fullmatch(r"[0-9]+([.,][0-9]+)?[eE][+]?[0-9]+|[0-9]+[.,][0-9]+", text):
        return ": a spreadsheet took it for a number and cut its digits: import that column as text"
    if text.isdecimal() and len(text) < side * side and not text.startswith("0"):
        return ": a spreadsheet may have dropped the zeros at its front: import that column as text"
    return ""


@dataclass(frozen=True)
class SolvedPuzzles:
    """N Sudokus or mazes with their solutions.

    questions: (N, S, S) uint8, 0 for an empty cell of a Sudoku.
    answers: (N, S, S) uint8.
    files: those that they were read from.
    total: how many the source has, of which these were drawn; 0 where these are all.
    unverified: how many were not checked for a second solution.
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
        """Return the side of the puzzles."""
        return int(self.questions.shape[1])

    def take(self, rows: NDArray[np.intp]) -> "SolvedPuzzles":
        """Return the puzzles with these numbers, of a source that was verified as a whole."""
        return replace(self, questions=self.questions[rows], answers=self.answers[rows])

    def part(self, num_test: int) -> tuple["SolvedPuzzles", "SolvedPuzzles"]:
        """Return training puzzles and so many tests, which are the first."""
        test, train = np.split(np.arange(len(self)), [num_test])
        return self.take(train), self.take(test)


def read_split(settings: PuzzleSettings, split: str, read_text: Callable[[Path], Table]) -> Table:
    """Read the source of a split, train or test: a text file by this function, or a table."""
    spec = settings.source if split == "train" else settings.test_source
    if spec.endswith(".txt"):
        return read_text(Path(spec))
    return read_columns(spec, split, (settings.question, settings.answer))


def read_columns(spec: str, split: str, names: Sequence[str]) -> Table:
    """Read columns of strings of the table that `spec` stands for; at least one row.

    Args:    spec: a `.csv` or `.parquet` file, or `hub:OWNER/NAME` or `OWNER/NAME`, a data set on the
             Hugging Face hub, which is downloaded once and kept in its cache.
             split: the part of a set on the hub, such as train; a file is one part.
    Raises:  DataError if there is no such source, it cannot be reached or read, lacks a column or holds no
             rows.
    """
    path, names = Path(spec), list(dict.fromkeys(names))
    is_file = spec.endswith(FILE_ENDINGS) or os.path.exists(spec)
    if not is_file and HUB_NAME.fullmatch(spec):
        return _read_hub(spec.removeprefix(HUB), split, names)
    is_csv = spec.endswith((".csv", ".csv.gz"))
    if not is_csv and not spec.endswith(".parquet"):
        raise DataError(f"{spec}: not a table; {_TABLE_FORMS}")
    try:
        with reading(path):
            rows = (_read_csv if is_csv else _read_parquet)(path, names)
    except FileNotFoundError:
        raise DataError(f"{spec}: no such file; {_TABLE_FORMS}") from None
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        reason = why_unreadable(error) if isinstance(error, OSError) else one_line(error)
        raise DataError(f"{spec}: not a table that can be read ({reason})") from None
    return _table(rows, spec, names, (path,))


def draw_rows(settings: PuzzleSettings, split: str, total: int) -> tuple[NDArray[np.intp], int]:
    """Return the numbers of the rows of a split to take, in order, and of how many they were drawn: 0 if all.

    Raises:  DataError if there are fewer than were asked for.
    """
    of_train = split == "train"
    count = settings.subsample if of_train else settings.test_subsample
    if count > total:
        raise DataError(f"a subsample of {count} was asked for, but there are {total}")
    if not count:
        return np.arange(total), 0
    rng = np.random.default_rng((settings.seed, 0 if of_train else 1))
    return np.sort(rng.permutation(total)[:count]), total


def _read_csv(path: Path, names: list[str]) -> Any:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        header = file.readline(_MOST_HEADER).decode(errors="replace")
        if path.suffix == ".gz":
            most = limit(_SPARE_BYTES + _TIMES_BYTES * path.stat().st_size)
            unpacked = len(header)
            while part := file.read(_PART):
                if (unpacked := unpacked + len(part)) > most:
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
        # What is wrong with a row is said with its number by a single thread only.
        read_options=csv.ReadOptions(use_threads=False),
        parse_options=parse,
        convert_options=csv.ConvertOptions(
            include_columns=columns, column_types=dict.fromkeys(columns, pa.string())
        ),
    )
    return rows.rename_columns(names)


def _read_parquet(path: Path, names: list[str]) -> Any:
    with parquet.ParquetFile(path) as file:
        columns = _find_columns(file.schema_arrow.names, str(path), names)
    table = read_table(path, columns, most_rows=_MOST_ROWS, most_bytes=_MOST_BYTES)
    return table.select(columns).rename_columns(names)


def _read_hub(name: str, split: str, names: list[str]) -> Table:
    remedy = (
        "name a .csv or .parquet file, generate puzzles, or set HF_HUB_OFFLINE=1 if the set was downloaded "
        "before"
    )
    with hub_split(name, split, remedy, streaming=False) as loaded:
        files = tuple(Path(file["filename"]) for file in loaded.cache_files)
    where = f"{name}, {split}"
    columns = _find_columns(loaded.column_names, where, names)
    rows = loaded.with_format("arrow").select_columns(columns)[:].select(columns).rename_columns(names)
    return _table(rows, where, names, files)


def _find_columns(available: Sequence[str], where: str, names: Sequence[str]) -> list[str]:
    """Return the column for each name: called so but for spaces and capitals, or by a name that is in use.

    Raises:  DataError unless it is one.
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


def _table(rows: Any, name: str, names: Sequence[str], files: tuple[Path, ...]) -> Table:
    """Return the columns of a pyarrow table as a Table holds them."""
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


def _chunk_codes(chunk: Any) -> NDArray[np.uint8]:
    """Return the bytes of an Arrow string array, end to end."""
    _, offsets_buffer, data = chunk.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
    if data is None or offsets[0] == offsets[-1]:
        return np.zeros(0, np.uint8)
    return np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]
