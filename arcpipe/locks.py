"""Locks on folders that one process at a time may write to; each ends with its process."""

import os
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import orjson
from filelock import FileLock, Timeout

from arcpipe.documents import load_json
from arcpipe.errors import OutputError, one_line
from arcpipe.log import logger
from arcpipe.runs import writing


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
            held.callback(_lock(own).release)
            for other in () if rank else folder.glob(".writer-*.lock"):
                if other != own:
                    _lock(other).release()
            if left := _holder(holder):
                logger.warning("%s: taken over from %s, which has ended without a word", folder, left)
        except (OSError, NotImplementedError) as error:
            reason = getattr(error, "strerror", None) or one_line(error)
            logger.warning("%s: no locks here (%s): let no other process write to it", folder, reason)
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


def _lock(path: Path) -> FileLock:
    """The lock of a file, taken; OutputError if another process has it."""
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
    return lock


def _holder(path: Path) -> str:
    """Who wrote itself into this file and has not ended well; empty if nobody."""
    try:
        holder = load_json(path)
        return f"process {holder['process']} on {holder['host']} ({holder['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
