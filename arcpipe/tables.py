"""Read Parquet files of others within limits.

A small compressed file can hold a huge table. Its size follows from the footer, the header of each page, and
the uses of each dictionary value. All of them are checked before the values are read into memory.

Source:  parquet-format, `parquet.thrift` (PageHeader), in Thrift's compact protocol.
"""

import mmap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from arcpipe.documents import limit
from arcpipe.errors import DataError, one_line
from arcpipe.runs import reading

_MOST_PAGES = 2**17
_MOST_DEPTH = 4
# Types of values in the compact protocol.
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 12
# Fields of a page header: uncompressed and compressed size, data page header v1 and v2; in these: values.
_UNPACKED, _PACKED, _PAGE, _PAGE_2, _NUM_VALUES = 2, 3, 5, 8, 1
# The field of the encoding in data page headers, and the delta encodings of texts, a few bytes of which can
# expand to gigabytes.
_ENCODINGS, _TEXT_DIFFERENCES = {_PAGE: 2, _PAGE_2: 4}, (6, 7)
# Limits: a constant, which is harmless for any file, plus a multiple of the file size that no normal file
# needs. Of rows, of uncompressed pages, of columns with repeated values expanded, and of the footer.
_SPARE_ROWS, _ROWS_A_BYTE = 2**18, 0.25
_SPARE_PAGES, _TIMES_PAGES = 2**24, 48
_SPARE_BYTES, _TIMES_BYTES = 2**25, 96
_SPARE_FOOTER, _FOOTER_A_BYTE = 2**16, 0.25
# For tables of tasks: bytes counted per cell, and rows in memory at a time.
_BYTES_A_CELL, _ROWS_AT_ONCE = 4, 256


def read_table(
    file: Path, names: Sequence[str], *, most_rows: int, most_bytes: int,
    as_dictionaries: bool = False, remedy: str = "write it again",
) -> pa.Table:  # fmt: skip
    """Return the columns of `names` that a Parquet file has, texts as dictionaries, within limits of size.

    For a small file the limits are lower: a multiple of its size.

    Args:    most_bytes: limit of the columns' size with repeated values expanded.
             as_dictionaries: count repeated values once, because the caller does not expand them.
             remedy: advice for a column with an error.
    Raises:  DataError if it is not a complete Parquet file, too large, or a column is repeated or of lists.
    """
    try:
        with reading(file):
            size = file.stat().st_size
            stored, names, parts = _open(
                file, file, lambda known: [name for name in known if name in names], remedy=f"; {remedy}"
            )
            values = Counter[str]()
            for part in parts:
                values[part.path_in_schema] += part.num_values
            # A row group may claim fewer rows than its columns have values.
            refuse_rows(max(stored.metadata.num_rows, *values.values(), 0), file, size, most_rows)
            most_pages = limit(min(most_bytes, _SPARE_PAGES + _TIMES_PAGES * size))
            _refuse_bytes(sum(part.total_uncompressed_size for part in parts), file, most_pages)
            _refuse_bytes(_page_bytes(file, parts), file, most_pages)
            table = stored.read(names)
    except FileNotFoundError:
        raise DataError(f"{file}: no such file") from None
    except pa.ArrowNotImplementedError as error:
        reason = f"cannot be read ({one_line(error)}): write it with pyarrow or pandas"
        raise DataError(f"{file}: {reason}") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{file}: not a whole Parquet file ({one_line(error)})") from None
    if not as_dictionaries:
        most = limit(min(most_bytes, _SPARE_BYTES + _TIMES_BYTES * size))
        _refuse_bytes(sum(map(_expanded_bytes, table.columns)), file, most)
    return table


def read_rows(
    file: Path, where: str, choose: Callable[[Sequence[str]], Sequence[str]]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet file, which may contain lists and objects, some at a time.

    Args:    where: name of the file in messages. choose: returns the columns to read, given all names.
    Raises:  DataError if it is not a complete Parquet file, a column is of another type, or it is too large
             when expanded.
    """
    try:
        most = limit(_SPARE_BYTES + _TIMES_BYTES * file.stat().st_size)
        stored, names, parts = _open(file, where, choose, nested=True)
        cells = sum(part.num_values for part in parts)
        _refuse_bytes(max(_BYTES_A_CELL * cells, _page_bytes(file, parts)), where, most)
        expanded = 0
        for batch in stored.iter_batches(_ROWS_AT_ONCE, columns=names):
            expanded += sum(map(_expanded_bytes, pa.Table.from_batches([batch]).columns))
            _refuse_bytes(expanded, where, most)
            yield from batch.to_pylist()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{where}: not a table that can be read ({one_line(error)})") from None


def _open(
    file: Path, where: object, choose: Callable[[Sequence[str]], Sequence[str]], *,
    nested: bool = False, remedy: str = "",
) -> tuple[pq.ParquetFile, Sequence[str], list[pq.ColumnChunkMetaData]]:  # fmt: skip
    """Open a Parquet file; return it, the names of the columns to read, and their chunks in all row groups.

    Texts are read as dictionaries, which store a repeated value once.

    Args:    nested: allow columns of lists and objects.
    """
    size = file.stat().st_size
    with file.open("rb") as opened:
        opened.seek(max(0, size - 8))
        length = int.from_bytes(opened.read(4), "little")
    # Each byte of the footer takes about a hundred bytes in memory.
    if limit(int(_SPARE_FOOTER + _FOOTER_A_BYTE * size)) < length <= size:
        raise DataError(
            f"{where}: its footer has {length / 1e6:.1f} MB, too much for its size: write it again"
        )
    # Not with pyarrow's `read_table`, which takes folder names such as `variant=1` for columns.
    stored = pq.ParquetFile(file)
    schema, footer = stored.schema_arrow, stored.metadata
    names = choose(schema.names)
    for name in names:
        if schema.names.count(name) > 1:
            raise DataError(f"{where}: holds the column {name} twice{remedy}")
        # A row of a list or a fixed-size value may have any size.
        if not (_is_nested if nested else _is_flat)(kind := schema.field(name).type):
            what = "texts, numbers or lists of them" if nested else "single values"
            raise DataError(f"{where}: column {name} is not of {what} ({kind}){remedy}")
    inner = tuple(f"{name}." for name in names)
    paths = [stored.schema.column(number).path for number in range(footer.num_columns)]
    paths = [path for path in paths if path in names or path.startswith(inner)]
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    if any(group.num_columns != footer.num_columns for group in groups):
        raise ValueError("a row group has another number of columns")
    parts = [group.column(place) for group in groups for place in range(group.num_columns)]
    own = [part for part in parts if part.path_in_schema in paths]
    return pq.ParquetFile(file, metadata=footer, read_dictionary=paths), names, own


def _is_nested(kind: pa.DataType) -> bool:
    """Return whether a type is flat, or of lists or objects of flat values."""
    if pa.types.is_struct(kind):
        return all(_is_nested(part.type) for part in kind)
    return _is_nested(kind.value_type) if _is_list(kind) else _is_flat(kind)


def _is_list(kind: pa.DataType) -> bool:
    """Return whether a type is of lists of any size. Fixed-size lists use memory even for null."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _is_flat(kind: pa.DataType) -> bool:
    """Return whether a type is of numbers, or of text or bytes, in a dictionary or not."""
    if pa.types.is_primitive(kind) or pa.types.is_null(kind):
        return True
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return str(kind).removeprefix("large_").removesuffix("_view") in ("string", "binary")


def refuse_rows(rows: int, file: Path, size: int, most: int = 2**62) -> None:
    """Raise DataError for more rows than files of this size in bytes may have."""
    most = limit(min(most, int(_SPARE_ROWS + _ROWS_A_BYTE * size)))
    if rows > most:
        raise DataError(f"{file}: holds {rows:,} rows, a file of its size may hold up to {most:,}: split it")


def _refuse_bytes(size: int, where: object, most: int) -> None:
    if size > most:
        own, allowed = (f"{round(count / 2**20):,}" for count in (size, most))
        bound = f"a file of its size may have up to {allowed}"
        raise DataError(f"{where}: {own} MiB when unpacked, {bound}: split it")


def _expanded_bytes(column: pa.ChunkedArray) -> int:
    """Return the bytes of texts read as dictionaries, nested ones too, with repeated values expanded."""
    if pa.types.is_struct(column.type):
        return sum(map(_expanded_bytes, column.flatten()))
    if _is_list(column.type):
        return _expanded_bytes(pc.list_flatten(column))
    if not pa.types.is_dictionary(column.type):
        return 0
    lengths = (pc.binary_length(one.dictionary).take(one.indices) for one in column.chunks)
    return sum(pc.sum(one.cast(pa.int64())).as_py() or 0 for one in lengths)


def _page_bytes(file: Path, columns: Sequence[pq.ColumnChunkMetaData]) -> int:
    """Return the sum of the uncompressed sizes in all page headers; the footer may claim less.

    Raises:  ValueError if there is no page at a place where the footer has one.
    """
    total = pages = 0
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for column in columns:
            at = column.data_page_offset
            if column.has_dictionary_page:
                at = min(at, column.dictionary_page_offset)
            values = 0
            while values < column.num_values:
                try:
                    header, at = _struct(data, at)
                except IndexError:
                    raise ValueError("a page is cut short") from None
                unpacked, packed = header.get(_UNPACKED), header.get(_PACKED)
                if type(unpacked) is not int or type(packed) is not int or min(unpacked, packed) < 0:
                    raise ValueError("a page has no size")
                pages += 1
                if pages > _MOST_PAGES:
                    raise ValueError(f"more than {_MOST_PAGES:,} pages")
                total, at = total + unpacked, at + packed
                kind = _PAGE if _PAGE in header else _PAGE_2
                page = header.get(kind)
                page = page if isinstance(page, dict) else {}
                values += page.get(_NUM_VALUES, 0)
                if page.get(_ENCODINGS[kind]) in _TEXT_DIFFERENCES:
                    raise pa.ArrowNotImplementedError("texts as differences")
            if values > column.num_values:
                raise ValueError("a page has more values than are said")
    return total


def _struct(data: mmap.mmap, at: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    """Return the fields of a Thrift struct by number, and its end.

    Raises:  ValueError if it is not a page header, IndexError if it is cut short.
    """
    fields: dict[int, Any] = {}
    number = 0
    while (head := data[at]) != 0:
        at += 1
        kind = head & 15
        if head >> 4:
            number += head >> 4
        else:
            number, at = _integer(data, at)
        if kind in (_TRUE, _FALSE):
            fields[number] = kind == _TRUE
        elif kind in (_I16, _I32, _I64):
            fields[number], at = _integer(data, at)
        elif kind == _BINARY:
            length, at = _varint(data, at)
            at += length
        elif kind in (_BYTE, _DOUBLE):
            at += 1 if kind == _BYTE else 8
        elif kind == _STRUCT and depth < _MOST_DEPTH:
            fields[number], at = _struct(data, at, depth + 1)
        else:
            raise ValueError("a page has no header")
    return fields, at + 1


def _integer(data: mmap.mmap, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ValueError("a page has no header")
