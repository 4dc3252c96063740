"""Outputs of commands: files and folders that appear whole or not at all, manifests, and locks.

A folder that one process at a time may write to is locked until that process ends.
"""

import errno
import hashlib
import logging
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson

from arcpipe import __version__
from arcpipe.documents import load_json
from arcpipe.errors import DataError, OutputError, UnreadableError, one_line

# That of log.py, which imports this file.
_logger = logging.getLogger("arcpipe")
MANIFEST = "manifest.json"
# Of folders that are looked at to name the one that was meant.
_MOST_NEARBY = 100
_PACKAGES = ("torch", "accelerate", "datasets", "numpy")
# Facts of the manifests of some kinds, where they are there.
_TYPED = ("dataset", "run", "checkpoint", "predictions", "quickstart")
_TYPES: dict[str, Any] = {
    "created": str, "recipe": dict, "counts": dict, "files": dict, "checkpoint": str, "items": int,
    "data": str, "family": str,
}  # fmt: skip
# pyarrow names the file in its message only.
_OF_ARROW = re.compile(r"local file '(.*)'\. Detail")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into an OutputError that names `path`."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or one_line(error)})") from None


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn a PermissionError of the block into an UnreadableError that names its file, or else `path`."""
    try:
        yield
    except PermissionError as error:
        of_arrow = _OF_ARROW.search(str(error))
        named = of_arrow[1] if of_arrow else error.filename or path
        why = os.strerror(error.errno or errno.EACCES)
        raise UnreadableError(f"{named}: cannot be read ({why})") from None


def refuse_existing(path: Path, remedy: str = "choose another --out or remove it") -> None:
    """Raise OutputError if there is something at `path` already, or nothing can be."""
    with writing(path):
        exists = path.exists() or path.is_symlink()
    if exists:
        raise OutputError(f"{path} exists already: {remedy}")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, flush it to disk, and rename it."""
    temporary = _temporary(path)
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_json(path: Path, value: Any, *, indent: bool = True) -> None:
    """Write a JSON file atomically."""
    write_bytes(path, json_bytes(value, indent=indent))


def json_bytes(value: Any, *, indent: bool = True) -> bytes:
    """Return the bytes that `write_json` writes; dataclasses and numpy values are understood."""
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(value, option=options | (orjson.OPT_INDENT_2 if indent else 0))


@contextmanager
def new_folder(path: Path, manifest: dict[str, Any]) -> Iterator[Path]:
    """Yield a folder to fill, which appears at `path`, with its manifest, when the block ends well.

    Raises:  OutputError if `path` exists or cannot be written. Nothing stays of a failed block.
    """
    refuse_existing(path)
    temporary = _temporary(path)
    try:
        with writing(path):
            temporary.mkdir(parents=True)
            yield temporary
            write_json(temporary / MANIFEST, manifest)
            mode = (temporary / MANIFEST).stat().st_mode
            # The name must not reach the disk before the content does.
            for item in (*temporary.rglob("*"), temporary):
                if item.is_file() and item.stat().st_mode != mode:
                    # safetensors lets only its owner read a file.
                    item.chmod(mode)
                descriptor = os.open(item, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
            try:
                temporary.rename(path)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    # Another process was faster.
                    refuse_existing(path)
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def make_manifest(kind: str, **facts: Any) -> dict[str, Any]:
    """Return a manifest: what was made, from what (`facts`), when, with which versions, on what machine."""
    return {
        "kind": kind,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **facts,
        "command": sys.argv,
        "versions": {
            "arcpipe": __version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in _PACKAGES},
        },
        "git_commit": _git_commit(),
        "host": {"platform": platform.platform(), "machine": platform.machine(), "cpus": os.cpu_count()},
    }


def _git_commit() -> str | None:
    """Return the commit of the checkout this runs from; None for an installed package."""
    source = Path(__file__)
    git = ["git", "-C", str(source.parent)]
    # An environment inside somebody's repository is not of that repository: ask whether it tracks us.
    commands = ([*git, "ls-files", "--error-unmatch", source.name], [*git, "rev-parse", "HEAD"])
    try:
        _, head = (
            subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout
            for command in commands
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head.strip()


def read_manifest(folder: Path, kind: str) -> dict[str, Any]:
    """Return the manifest of a folder made by arcpipe.

    Raises:  DataError if the folder is missing, unfinished or of another kind.
    """
    try:
        if not folder.is_dir():
            what = f"is a file, expected a {kind} folder" if folder.exists() else "no such folder"
            raise DataError(f"{folder}: {what}")
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from None
    try:
        with reading(folder / MANIFEST):
            manifest: dict[str, Any] = load_json(folder / MANIFEST)
        actual = manifest["kind"]
    except (FileNotFoundError, KeyError, TypeError):
        raise DataError(
            f"{folder}: no {kind} folder (its {MANIFEST} is missing or broken){nearby(folder, kind)}"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: no {kind} folder (its {MANIFEST} is broken: {one_line(error)})") from None
    if actual != kind:
        raise DataError(
            f"{folder}: expected a {kind} folder, found a {actual!s:.40} folder{nearby(folder, kind)}"
        )
    if kind in _TYPED:
        types = _TYPES | {"dataset": str if kind == "predictions" else dict | None}
        wrong = [key for key, of in types.items() if key in manifest and not isinstance(manifest[key], of)]
        wrong += ["family"] if kind == "dataset" and "family" not in manifest else []
        if wrong or not all(isinstance(table, dict) for table in manifest.get("recipe", {}).values()):
            key = (wrong or ["recipe"])[0]
            raise DataError(f"{folder}: the {key} in its {MANIFEST} is not one of a {kind} folder")
    return manifest


def nearby(folder: Path, *kinds: str) -> str:
    """Return, as the end of a message, the first folder of these kinds in this one, or that it is in."""
    for file in (*sorted(folder.glob(f"*/{MANIFEST}"))[:_MOST_NEARBY], folder.parent / MANIFEST):
        with suppress(OSError, ValueError, AttributeError):
            if load_json(file).get("kind") in kinds:
                return f"; {file.parent} is one"
    return ""


def known_manifest(folder: Path, kind: str) -> dict[str, Any] | None:
    """Return the manifest of a folder; None if there is no such folder, or it is of another kind."""
    try:
        return read_manifest(folder, kind)
    except DataError:
        return None


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal; of a folder that of the names and hashes in it."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        lines = "".join(f"{file.relative_to(path).as_posix()}\0{file_hash(file)}\n" for file in files)
        return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def hold_folder(folder: Path, rank: int = 0) -> Iterator[None]:
    """Hold `folder` for this process until the block ends.

    One hidden file in it is what is locked, and stays; another says who holds it. Where the file system has
    no locks, a warning says so, and nothing is held.

    Args:    rank: of several processes that share the folder, each with a lock of its own. Rank 0 takes its
             lock first and finds the locks of another job.
    Raises:  OutputError if another process holds it, naming its host and number, or if something in it is a
             link that leads out of it.
    """
    _refuse_links(folder)
    own = folder / f".writer-{rank}.lock"
    holder = own.with_suffix(".json")
    with ExitStack() as held:
        try:
            held.callback(_lock(own))
            for other in () if rank else folder.glob(".writer-*.lock"):
                if other != own:
                    _lock(other)()
            if left := _holder(holder):
                _logger.warning("%s: taken over from %s, which has ended without a word", folder, left)
        except (OSError, NotImplementedError) as error:
            reason = getattr(error, "strerror", None) or one_line(error)
            _logger.warning("%s: no locks here (%s): let no other process write to it", folder, reason)
        this = {"process": os.getpid(), "host": socket.gethostname(), "command": " ".join(sys.argv)}
        # Only a message depends on this file, so a full disk is no error.
        with suppress(OSError):
            holder.write_bytes(orjson.dumps(this))
        try:
            yield
        finally:
            with suppress(OSError):
                holder.unlink()


def _refuse_links(folder: Path) -> None:
    """Raise OutputError for a link that leads out of a folder, where what is written to it would land."""
    top = os.path.realpath(folder)
    with writing(folder):
        links = sorted(path for path in folder.iterdir() if path.is_symlink())
    for path in links:
        if os.path.commonpath([top, os.path.realpath(path)]) != top:
            raise OutputError(
                f"{path}: is a link that leads out of its folder, and is not written to: put in its place "
                "what it leads to; the folder as a whole may be a link"
            )


def _lock(path: Path) -> Callable[[], None]:
    """Lock a file; return what unlocks it. OutputError if another process has it."""
    # Not at the top: few commands lock, and it takes a quarter of the time in which others begin.
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=0)
    try:
        with warnings.catch_warnings():
            # It warns where it falls back to a lock of another kind.
            warnings.simplefilter("ignore")
            lock.acquire()
    except Timeout:
        holder = _holder(path.with_suffix(".json")) or "another process"
        raise OutputError(
            f"{path.parent}: {holder} is writing to it: wait for its end, stop it, or choose another folder"
        ) from None
    return lock.release


def _holder(path: Path) -> str:
    """Who wrote itself into this file and has not ended well; empty if nobody."""
    try:
        holder = load_json(path)
        return f"process {holder['process']} on {holder['host']} ({holder['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
