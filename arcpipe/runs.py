"""Outputs of commands: files and folders written atomically, manifests, folder locks, a run's checkpoints."""

import difflib
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
from functools import cache
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from arcpipe import __version__
from arcpipe.documents import load_json
from arcpipe.errors import CheckpointError, DataError, OutputError, UnreadableError, one_line

# The logger of log.py, which imports this module.
_logger = logging.getLogger("arcpipe")
MANIFEST = "manifest.json"
CHECKPOINTS, BEST_FILE = "checkpoints", "best.json"
"""In a run folder: the folder of its checkpoints, and the file about the best of them."""
WEIGHTS, MODEL_FACTS = "model.safetensors", "model.json"
"""In a checkpoint: the weights, and what network they are of."""
FILES = "files"
"""The key of a manifest with the SHA-256 of each file by name; older checkpoints lack it."""
_STEP_NAME = re.compile(r"step-([0-9]{8,18})")
# Most subfolders searched for one of the right kind, to name in an error.
_MOST_NEARBY = 100
# Most names that a missing one is compared with.
_MOST_BESIDE = 1000
_PACKAGES = ("torch", "accelerate", "datasets", "numpy")
# Kinds of folders whose manifests are checked, and the types of the facts in them.
_TYPED = ("dataset", "run", "checkpoint", "predictions", "quickstart")
_TYPES: dict[str, Any] = {
    "created": str, "recipe": dict, "counts": dict, "files": dict, "checkpoint": str, "items": int,
    "data": str, "family": str, "plan": dict,
}  # fmt: skip
# pyarrow gives the file name in its message only.
_ARROW_FILE = re.compile(r"local file '(.*)'\. Detail")


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
        match = _ARROW_FILE.search(str(error))
        file = match[1] if match else error.filename or path
        why = os.strerror(error.errno or errno.EACCES)
        raise UnreadableError(f"{file}: cannot be read ({why})") from None


def refuse_existing(path: Path, remedy: str = "choose another --out or remove it") -> None:
    """Raise OutputError if `path` exists already or cannot be looked up."""
    with writing(path):
        exists = path.exists() or path.is_symlink()
    if exists:
        raise OutputError(f"{path} exists already: {remedy}")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, flush it to disk, and rename it."""
    temporary = temporary_path(path)
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
    """Return the bytes that `write_json` writes; dataclasses and numpy values are allowed."""
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(value, option=options | (orjson.OPT_INDENT_2 if indent else 0))


@contextmanager
def new_folder(path: Path, manifest: dict[str, Any]) -> Iterator[Path]:
    """Yield a temporary folder to fill; if the block succeeds, add the manifest and rename it to `path`.

    Raises:  OutputError if `path` exists or cannot be written. A failed block leaves nothing behind.
    """
    refuse_existing(path)
    temporary = temporary_path(path)
    try:
        with writing(path):
            temporary.mkdir(parents=True)
            yield temporary
            write_json(temporary / MANIFEST, manifest)
            mode = (temporary / MANIFEST).stat().st_mode
            # The content must be on disk before the new name is.
            for item in (*temporary.rglob("*"), temporary):
                if item.is_file() and item.stat().st_mode != mode:
                    # safetensors makes its files readable by their owner only.
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
                    # Another process made it meanwhile.
                    refuse_existing(path)
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def temporary_path(path: Path) -> Path:
    """Return the hidden name under which this process writes a file or folder before it renames it."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def make_manifest(kind: str, **facts: Any) -> dict[str, Any]:
    """Return a manifest: the kind of output, its `facts`, time, command, versions, commit and machine."""
    return {
        "kind": kind,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **facts,
        "command": sys.argv,
        **_origin(),
        "host": {"platform": platform.platform(), "machine": platform.machine(), "cpus": os.cpu_count()},
    }


# Of what this process has loaded: a training asks for it at each checkpoint.
@cache
def _origin() -> dict[str, Any]:
    """Return the versions, and the commit of the checkout: None for an installed package."""
    packages = {name: metadata.version(name) for name in _PACKAGES}
    versions = {"arcpipe": __version__, "python": platform.python_version(), **packages}
    source = Path(__file__)
    git = ["git", "-C", str(source.parent)]
    # An installed package may lie inside another repository: check that the repository tracks this file.
    commands = ([*git, "ls-files", "--error-unmatch", source.name], [*git, "rev-parse", "HEAD"])
    commit = None
    with suppress(OSError, subprocess.SubprocessError):
        _, head = (
            subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout
            for command in commands
        )
        commit = head.strip()
    return {"versions": versions, "git_commit": commit}


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
            f"{folder}: no {kind} folder (its {MANIFEST} is missing or broken){_nearby(folder, kind)}"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: no {kind} folder (its {MANIFEST} is broken: {one_line(error)})") from None
    if actual != kind:
        raise DataError(
            f"{folder}: expected a {kind} folder, found a {actual!s:.40} folder{_nearby(folder, kind)}"
        )
    if kind in _TYPED:
        types = _TYPES | {"dataset": str if kind == "predictions" else dict | None}
        wrong = [key for key, cls in types.items() if key in manifest and not isinstance(manifest[key], cls)]
        wrong += ["family"] if kind == "dataset" and "family" not in manifest else []
        if wrong or not all(isinstance(table, dict) for table in manifest.get("recipe", {}).values()):
            key = (wrong or ["recipe"])[0]
            raise DataError(f"{folder}: the {key} in its {MANIFEST} is not one of a {kind} folder")
    return manifest


def _nearby(folder: Path, *kinds: str) -> str:
    """Return the end of a message that names a folder of these kinds: a subfolder, else the parent."""
    for file in (*sorted(folder.glob(f"*/{MANIFEST}"))[:_MOST_NEARBY], folder.parent / MANIFEST):
        with suppress(OSError, ValueError, AttributeError):
            if load_json(file).get("kind") in kinds:
                return f"; {file.parent} is one"
    return ""


def similar(path: Path) -> str:
    """Return the end of a message about a missing file or folder: the name beside it that is most like it."""
    names: list[str] = []
    with suppress(OSError):
        names = [one.name for one in islice(path.parent.iterdir(), _MOST_BESIDE)]
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.with_name(near[0])}?" if near else ""


def known_manifest(folder: Path, kind: str) -> dict[str, Any]:
    """Return the manifest of a folder; an empty one if it is missing or of another kind."""
    try:
        return read_manifest(folder, kind)
    except DataError:
        return {}


def known_json(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file; an empty one if the file is missing, damaged or of something else.

    Raises:  UnreadableError without permission to read it.
    """
    try:
        with reading(file):
            value = load_json(file)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint folder at `path`; of a run folder its best checkpoint, or else the newest."""
    with reading(path):
        if (path / MODEL_FACTS).is_file() or _manifest_of(path):
            return path
    best = read_best(path)
    return newest_checkpoint(path) if best is None else path / CHECKPOINTS / checkpoint_name(best["step"])


def newest_checkpoint(run: Path) -> Path:
    """Return the newest whole checkpoint folder of a run folder; CheckpointError if there is none."""
    with reading(run):
        if not run.exists():
            raise CheckpointError(f"{run}: no such folder")
    whole = whole_checkpoints(run)
    if not whole:
        near = _nearby(run, "run", "checkpoint")
        raise CheckpointError(f"{run}: neither a checkpoint folder nor a run folder with a checkpoint{near}")
    return whole[max(whole)]


def whole_checkpoints(run: Path) -> dict[int, Path]:
    """Return the complete checkpoint folders of a run by step, in order.

    A folder counts only if its manifest has the step of its name: it may be an incomplete or renamed copy.
    """
    return {
        step: path for step, path in named_checkpoints(run).items() if _manifest_of(path).get("step") == step
    }


def named_checkpoints(run: Path) -> dict[int, Path]:
    """Return the folders of a run named like a checkpoint, complete or not, by step, in order."""
    try:
        with reading(run / CHECKPOINTS):
            paths = list((run / CHECKPOINTS).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    folders = {int(match[1]): path for path in paths if (match := _STEP_NAME.fullmatch(path.name))}
    return {step: path for step, path in sorted(folders.items()) if path.name == checkpoint_name(step)}


def _manifest_of(folder: Path) -> dict[str, Any]:
    """Return the manifest of a checkpoint folder, empty if it is none; UnreadableError without permission."""
    try:
        return read_manifest(folder, "checkpoint")
    except UnreadableError:
        raise
    except DataError:
        return {}


def checkpoint_name(step: int) -> str:
    """Return the name of the folder of a step; the names sort by step."""
    return f"step-{step:08d}"


def read_best(run: Path) -> dict[str, Any] | None:
    """Return step, metric and value of a run's best evaluation; None if it or its checkpoint is missing."""
    best = known_json(run / BEST_FILE)
    sound = type(best.get("step")) is int and type(best.get("value")) is float
    return best if sound and best["step"] in whole_checkpoints(run) else None


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal; of a folder, the SHA-256 of its file names and hashes."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        lines = "".join(f"{file.relative_to(path).as_posix()}\0{file_hash(file)}\n" for file in files)
        return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def hold_folder(folder: Path, rank: int = 0) -> Iterator[None]:
    """Lock `folder` for this process until the block ends.

    The lock is on a hidden file, which stays; another hidden file names the process that holds it. On a file
    system without locks this logs a warning and goes on.

    Args:    rank: of this process among those that share the folder; each has its own lock. Rank 0 locks
             first and checks that no other job holds a lock.
    Raises:  OutputError if another process holds it, naming its host and process number, or if the folder
             contains a link that leads out of it.
    """
    _refuse_links(folder)
    own = folder / f".writer-{rank}.lock"
    holder_file = own.with_suffix(".json")
    with ExitStack() as locks:
        try:
            locks.callback(_lock(own))
            for other in () if rank else folder.glob(".writer-*.lock"):
                if other != own:
                    _lock(other)()
            if dead := _holder(holder_file):
                _logger.warning("%s: taken over from %s, which has ended without a word", folder, dead)
        except (OSError, NotImplementedError) as error:
            reason = getattr(error, "strerror", None) or one_line(error)
            _logger.warning("%s: no locks here (%s): let no other process write to it", folder, reason)
        this = {"process": os.getpid(), "host": socket.gethostname(), "command": " ".join(sys.argv)}
        # Only an error message depends on this file, so ignore a full disk.
        with suppress(OSError):
            holder_file.write_bytes(orjson.dumps(this))
        try:
            yield
        finally:
            with suppress(OSError):
                holder_file.unlink()


def _refuse_links(folder: Path) -> None:
    """Raise OutputError for a link in a folder that leads out of it: writing would change another folder."""
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
    """Lock a file; return the function that unlocks it. OutputError if another process holds the lock."""
    # Not at the top: few commands lock, and importing it is a quarter of the startup time of the others.
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=0)
    try:
        with warnings.catch_warnings():
            # FileLock warns when it falls back to another kind of lock.
            warnings.simplefilter("ignore")
            lock.acquire()
    except Timeout:
        holder = _holder(path.with_suffix(".json")) or "another process"
        raise OutputError(
            f"{path.parent}: {holder} is writing to it: wait for its end, stop it, or choose another folder"
        ) from None
    return lock.release


def _holder(path: Path) -> str:
    """Return the process that this file names, which has not ended cleanly; empty without one."""
    try:
        holder = load_json(path)
        return f"process {holder['process']} on {holder['host']} ({holder['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
