"""Where foreign ARC tasks come from: archives, generators and sets of the Hugging Face hub."""

import http.client
import importlib
import io
import os
import re
import sys
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, Any

import datasets

from arcpipe.augment.forms import TABLES, ReadOptions, Source, TaskReader
from arcpipe.documents import limit
from arcpipe.errors import DataError, one_line
from arcpipe.runs import reading

ARCHIVES = (".zip", ".tar.gz", ".tgz", ".tar")
FILE_ENDINGS = (".csv", ".parquet", ".txt", ".json", ".gz", ".zip")
"""Data of these endings is never looked for on the hub, however its path reads."""

HUB = "hub:"
HUB_NAME = re.compile(rf"(?:{HUB})?[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_GENERATOR = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", re.ASCII)
_HUB_TIMEOUT_S = 10
# So much is no harm from any archive, and so many times its bytes no honest one needs: of what it unpacks to,
# and of the memory that one JSON document in it takes.
_SPARE_BYTES, _TIMES_BYTES = 2**25, 64
_LIST_BYTES, _ITEM_BYTES = 64, 8
_MOST_LINE, _MOST_HEADER = 2**24, 2**20
_HEADERS = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip


def read_archive(path: Path, inside: str, options: ReadOptions) -> Source:
    """Read the tasks of the files of an archive, below a folder in it, without unpacking it."""
    ending = next(ending for ending in ARCHIVES if path.name.endswith(ending))
    name = path.name.removesuffix(ending) if inside == "." else PurePosixPath(inside).name
    reader = TaskReader(name, options)
    with reading_archive(path), reading(path):
        for member, content in _archive_files(path, inside):
            if data_files([member], path):
                reader.add_file(member, _documents(member, content, path), f"{path}/{member}")
    return reader.source(f"{path}/{inside}", [path])


def split_archive(spec: str) -> tuple[Path, str] | None:
    """Return the archive that a source names and the folder in it, None for any other source."""
    for path in (Path(spec), *Path(spec).parents):
        if path.name.endswith(ARCHIVES) and path.is_file():
            return path, os.path.relpath(spec, path)
    return None


def archive_names(path: Path) -> list[str]:
    """Return the paths of what is in an archive."""
    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    with tarfile.open(path, tarinfo=_Member) as tar:
        return tar.getnames()


def _documents(member: str, content: IO[bytes], path: Path) -> Any:
    """Return a file of an archive, of JSON one that has been read; of its lines those that are.

    Raises:  DataError for a document that takes far more memory than the archive has bytes.
    """

    def bounded(text: bytes) -> bytes:
        memory = len(text) + _LIST_BYTES * (text.count(b"[") + text.count(b"{"))
        _within(memory + _ITEM_BYTES * text.count(b","), _most(path), path)
        return text

    if member.endswith(".jsonl"):
        return map(bounded, iter(lambda: content.readline(_MOST_LINE), b""))
    return io.BytesIO(bounded(content.read())) if member.endswith(".json") else content


class _Member(tarfile.TarInfo):
    """A member of a tar file, the headers of which are not larger than any honest one."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Member":
        """Return the member that a header is of."""
        member = super().frombuf(buf, encoding, errors)
        if member.type in _HEADERS and member.size > _MOST_HEADER:
            raise tarfile.ReadError(f"a header of {member.size / 1e6:,.0f} MB")
        return member


def _archive_files(path: Path, inside: str) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the paths and contents of the files of an archive below a folder in it, one after another.

    Raises:  DataError for a member whose path leads out of the archive, or for far more than its own size.
    """

    def below(name: str) -> bool:
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts:
            raise DataError(f"{path}: holds {name!a}, a path that leads out of the archive: not read")
        return parts[: len(folder)] == folder

    folder = PurePosixPath(inside).parts
    most, total = _most(path), 0
    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                total = _within(total + info.file_size, most, path)
                if below(info.filename) and not info.is_dir():
                    with archive.open(info) as content:
                        yield info.filename, content
    else:
        with tarfile.open(path, tarinfo=_Member) as tar:
            for member in tar:
                total = _within(total + member.size, most, path)
                file = tar.extractfile(member) if below(member.name) and member.isfile() else None
                if file is not None:
                    yield member.name, file


def _most(path: Path) -> int:
    return limit(_SPARE_BYTES + _TIMES_BYTES * path.stat().st_size)


def _within(size: int, most: int, path: Path) -> int:
    if size > most:
        raise DataError(
            f"{path}: {size / 1e6:,.0f} MB or more when unpacked, a file of its size may have "
            f"{most / 1e6:,.0f}: unpack it and name the folder"
        )
    return size


@contextmanager
def reading_archive(path: Path) -> Iterator[None]:
    """Turn what is wrong with an archive into a DataError that names it."""
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise DataError(f"{path}: not an archive that can be read ({one_line(error)})") from None
    except (RuntimeError, NotImplementedError) as error:
        # A password, or a compression that Python does not know.
        raise DataError(f"{path}: cannot be unpacked ({one_line(error)})") from None


def data_files(names: Iterable[str], where: Path) -> list[str]:
    """Return the files that may hold tasks, in order; DataError if one is of Kaggle's challenges."""
    files = sorted(path for path in map(PurePosixPath, names) if _is_data_file(path))
    challenges = [str(path) for path in files if is_challenges(path)]
    if challenges:
        raise DataError(f"{where}: a folder of challenges files, name one of them: {', '.join(challenges)}")
    return list(map(str, files))


def _is_data_file(path: PurePosixPath) -> bool:
    """Return whether a file of a folder or archive may hold tasks: neither hidden nor of another kind."""
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return path.name.endswith((".json", *TABLES)) and not hidden


def is_challenges(path: PurePath) -> bool:
    """Return whether a file is named as Kaggle's challenges are."""
    return path.stem == "challenges" or path.stem.endswith("_challenges")


def is_generator(spec: str) -> bool:
    """Return whether a source reads as `module:function`."""
    return _GENERATOR.fullmatch(spec) is not None


def read_generator(spec: str, options: ReadOptions) -> Source:
    """Read what a function of the user's yields, `count` items at most, called with a seed and that count.

    Raises:  DataError if there is no such function, or it raises.
    """
    module_name, _, function = spec.partition(":")
    reader = TaskReader(function, options)
    reader.add_generated(_items(module_name, function, options), spec, function)
    file = sys.modules[module_name].__file__
    return reader.source(spec, [Path(file)] if file else [])


def _items(module_name: str, function: str, options: ReadOptions) -> Iterator[Any]:
    sys.path.insert(0, os.getcwd())
    try:
        maker: Callable[..., Iterable[Any]] = getattr(importlib.import_module(module_name), function)
        yield from islice(maker(seed=options.seed, count=options.count), options.count)
    except Exception as error:  # What runs is the user's own, and may raise anything.
        raise DataError(
            f"{module_name}:{function}: cannot be run with seed={options.seed}, count={options.count} "
            f"({type(error).__name__}: {one_line(error)})"
        ) from error
    finally:
        sys.path.remove(os.getcwd())


def read_hub(name: str, split: str, options: ReadOptions) -> Source:
    """Read the rows of a split of a set of the Hugging Face hub as they arrive.

    Raises:  DataError if it cannot be reached or read.
    """
    remedy = (
        f"fetch it where there is a network, `hf download --repo-type dataset {name} --local-dir FOLDER`, "
        "and name the folder"
    )
    check_hub(name, remedy)
    reader = TaskReader(name.partition("/")[2], options)
    try:
        rows = datasets.load_dataset(name, split=split, streaming=True)
        reader.add_rows(enumerate(rows, 1), name, reader.name)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"{name}: {split} cannot be read from the Hugging Face hub ({one_line(error)}): {remedy}"
        ) from None
    return reader.source(name, [])


def check_hub(name: str, remedy: str) -> None:
    """Raise DataError where there is no way to the hub, which `datasets` takes half a minute to say."""
    if datasets.config.HF_HUB_OFFLINE:
        return
    try:
        url = f"{datasets.config.HF_ENDPOINT}/api/datasets/{name}"
        urllib.request.urlopen(url, timeout=_HUB_TIMEOUT_S).close()
    except urllib.error.HTTPError:
        pass  # It answers; what is wrong with the name, `datasets` says better.
    except (OSError, http.client.HTTPException) as error:
        reason = one_line(getattr(error, "reason", error))
        raise DataError(
            f"{name}: no such file, and the Hugging Face hub cannot be reached ({reason}): {remedy}"
        ) from None
