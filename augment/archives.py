"""Archives of task files, .zip and .tar.gz: read without unpacking them."""

import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from arcpipe.documents import limit
from arcpipe.errors import DataError, one_line

ARCHIVES = (".zip", ".tar.gz", ".tgz", ".tar")
# Limits of what an archive unpacks to, and of the memory of each JSON document in it: the spare bytes harm no
# machine, and no honest archive needs more times its size.
_SPARE_BYTES, _TIMES_BYTES = 2**25, 64
# What Python keeps of a member of a tar file.
_MEMBER_BYTES = 2**11
_MOST_HEADER = 2**20
_PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_HEADERS = (*_PAX, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_PAX_LENGTH = re.compile(rb"([0-9]{1,9}) ")
_GZIP = b"\x1f\x8b"


def split_archive(spec: str) -> tuple[Path, str] | None:
    """Return the archive and the folder in it that a source names; None for any other source."""
    for path in (Path(spec), *Path(spec).parents):
        if path.name.endswith(ARCHIVES) and path.is_file():
            return path, os.path.relpath(spec, path)
    return None


class _Member(tarfile.TarInfo):
    """A member of a tar file, read with its headers in a time that grows with their size.

    Python's own reading of pax headers and of sparse files takes hours for some headers of a megabyte.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Member":
        """Return the member of a header.

        Raises:  tarfile.ReadError for a sparse file, a negative size, or a header that is too large.
        """
        member = super().frombuf(buf, encoding, errors)
        if member.type in _HEADERS and member.size > _MOST_HEADER:
            raise tarfile.ReadError(f"a header of {member.size / 1e6:,.0f} MB")
        if member.size < 0:
            raise tarfile.ReadError(f"a size of {member.size}")
        if member.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError("a sparse file")
        return member

    def _proc_pax(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        """Return the member after a pax header, with the path that the header has for it."""
        content = tar.fileobj.read(self._block(self.size))  # type: ignore[attr-defined]
        facts = dict(_pax_facts(content))
        try:
            member = self.fromtarfile(tar)
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(one_line(error)) from None
        if any(name.startswith("GNU.sparse") for name in facts):
            raise tarfile.ReadError("a sparse file")
        if facts.get("size", "").lstrip("0") not in ("", str(member.size)):
            raise tarfile.ReadError(f"another size in a header, {facts['size']:.20}")
        if self.type != tarfile.XGLTYPE:
            member.name = facts.get("path", member.name).rstrip("/")
            member.offset = self.offset
        return member


def _pax_facts(content: bytes) -> Iterator[tuple[str, str]]:
    """Yield the names and values of a pax header: `LENGTH NAME=VALUE` and a line break each, then zeros.

    Source:  POSIX, pax, "pax Header Block".
    """
    place = 0
    while content[place : place + 1].strip(b"\0"):
        match = _PAX_LENGTH.match(content, place)
        end = place + int(match[1]) if match else 0
        name, equals, value = content[match.end() if match else 0 : max(0, end - 1)].partition(b"=")
        if not equals or content[end - 1 : end] != b"\n":
            raise tarfile.ReadError("a damaged header")
        yield name.decode(errors="replace"), value.decode(errors="surrogateescape")
        place = end


def archive_files(path: Path, inside: str) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the path and content of each file below a folder of an archive.

    Raises:  DataError for a path that leads out of the archive, or contents far larger than the archive.
    """

    def below(name: str) -> bool:
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts:
            raise DataError(f"{path}: holds {name!a}, a path that leads out of the archive: not read")
        return parts[: len(folder)] == folder

    folder = PurePosixPath(inside).parts
    most, total = unpacked_limit(path), 0
    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                total = within(total + info.file_size, most, path)
                # Not by is_dir, which fails for an empty name.
                if below(info.filename) and not info.filename.endswith("/"):
                    with archive.open(info) as content:
                        yield info.filename, content
        return
    with path.open("rb") as start:
        # Not "r:*": bzip2 and xz pack a gigabyte into some hundred bytes.
        is_packed = start.read(len(_GZIP)) == _GZIP
    with tarfile.open(path, "r:gz" if is_packed else "r:", tarinfo=_Member) as tar:
        for member in tar:
            total = within(total + member.size + _MEMBER_BYTES, most, path)
            file = tar.extractfile(member) if below(member.name) and member.isfile() else None
            if file is not None:
                yield member.name, file


def unpacked_limit(path: Path) -> int:
    """Return the limit, in bytes, of what an archive unpacks to."""
    return limit(_SPARE_BYTES + _TIMES_BYTES * path.stat().st_size)


def within(size: int, most: int, path: Path) -> int:
    """Return the size; raise DataError if it exceeds the limit."""
    if size > most:
        raise DataError(
            f"{path}: {size / 1e6:,.0f} MB or more when unpacked, a file of its size may have "
            f"{most / 1e6:,.0f}: unpack it and name the folder"
        )
    return size


@contextmanager
def reading_archive(path: Path) -> Iterator[None]:
    """Raise a DataError naming the archive if it cannot be read."""
    try:
        yield
    except (
        zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, UnicodeDecodeError
    ) as error:  # fmt: skip
        raise DataError(f"{path}: not an archive that can be read ({one_line(error)})") from None
    except (RuntimeError, NotImplementedError) as error:
        # A password, or a compression unknown to Python.
        raise DataError(f"{path}: cannot be unpacked ({one_line(error)})") from None
