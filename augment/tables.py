"""Tables of puzzles: columns of a CSV or Parquet file, or of a set of the Hugging Face hub."""

import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arcpipe.errors import DataError, one_line
from arcpipe.runs import reading

_HUB = "hub:"
_HUB_NAME = re.compile(rf"(?:{_HUB})?[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_HUB_TIMEOUT_S = 10
_FORMS = "a source is a .csv, .parquet or .txt file, or hub:OWNER/NAME on the Hugging Face hub"
# Data of these endings is never looked for on the hub, however its path reads.
_FILE_ENDINGS = (".csv", ".parquet", ".txt", ".json", ".gz", ".zip")


@dataclass(frozen=True)
class Table:
    """Columns by name, the files they were read from, and the name that messages give the source.

    A required column is a pyarrow ChunkedArray of strings without nulls; an optional one has the type
    that the file gives it, and is None where the file has no such column.
    """

    name: str
    columns: dict[str, Any]
    files: tuple[Path, ...]

    def characters(self, column: str, length: int | None = None) -> NDArray[np.uint8]:
        """The ASCII codes (N, length) of a required column, whose strings all have one length.

        Args:    length: how many characters, by default as many as row 1 has.
        Raises:  DataError naming the first row (from 1) of another length or with another character.
        """
        import pyarrow.compute as pc

        strings = self.columns[column]
        ascii_only = pc.string_is_ascii(strings).to_numpy()
        if not ascii_only.all():
            row = int(ascii_only.argmin())
            strange = next(char for char in strings[row].as_py() if not char.isascii())
            raise DataError(f"{self.name}: row {row + 1}: {column} holds {strange!a}, which no puzzle does")
        lengths = pc.utf8_length(strings).to_numpy()
        expected = int(lengths[0]) if length is None else length
        if (lengths != expected).any():
            row = int((lengths != expected).argmax())
            other = f"{expected} in row 1" if length is None else f"expected {expected}"
            raise DataError(f"{self.name}: row {row + 1}: {column} has {lengths[row]} characters, {other}")
        codes = np.concatenate([_chunk_codes(chunk) for chunk in strings.chunks])
        return codes.reshape(-1, expected)


def _chunk_codes(chunk: Any) -> NDArray[np.uint8]:
    """The bytes of an Arrow string array, end to end."""
    _, offsets_buffer, data = chunk.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
    if data is None or offsets[0] == offsets[-1]:
        return np.zeros(0, np.uint8)
    return np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]


def read_columns(spec: str, split: str, required: Sequence[str], optional: Sequence[str] = ()) -> Table:
    """Columns of the table that `spec` stands for; at least one row.

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
        raise DataError(f"{spec}: not a table; {_FORMS}")
    elif _HUB_NAME.fullmatch(spec) and not spec.endswith(_FILE_ENDINGS):
        return _read_hub(spec.removeprefix(_HUB), split, required, optional)
    else:
        raise DataError(f"{spec}: no such file; {_FORMS}")
    return Table(spec, _columns(table, spec, required, optional), (path,))


def draw_rows(total: int, count: int, seed: Sequence[int]) -> NDArray[np.intp]:
    """The numbers of `count` of `total` rows, drawn without replacement, in their order; 0 for all.

    Raises:  DataError if there are fewer.
    """
    if count > total:
        raise DataError(f"a subsample of {count} was asked for, but there are {total}")
    if not count:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).permutation(total)[:count])


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, without their ends; spaces stay.

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


def _is_file(spec: str) -> bool:
    try:
        if Path(spec).is_dir():
            raise DataError(f"{spec}: a folder; {_FORMS}")
        return Path(spec).exists()
    except OSError as error:
        raise DataError(f"{spec}: cannot be read ({error.strerror})") from None


def _columns(table: Any, name: str, required: Sequence[str], optional: Sequence[str]) -> dict[str, Any]:
    """The columns of a pyarrow table as a Table holds them."""
    import pyarrow as pa
    import pyarrow.compute as pc

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
    """The names of the columns to read."""
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
    import pyarrow as pa
    from pyarrow import csv

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
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            available = file.schema_arrow.names
            return file.read(columns=_present(available, str(path), required, optional))
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: not a Parquet file that can be read ({one_line(error)})") from None


def _read_hub(name: str, split: str, required: Sequence[str], optional: Sequence[str]) -> Table:
    import datasets

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
