"""A disk without room, and one without locks."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from commands import environment

_NO_LOCKS = """
import fcntl, os

def flock(*_):
    raise OSError({number}, os.strerror({number}))

fcntl.flock = flock
"""


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """No file can grow beyond a size, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def without_locks(folder: Path, number: int) -> dict[str, str]:
    """The variables of a process for which every lock fails with this error number."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_NO_LOCKS.format(number=number))
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(folder), environment().get("PYTHONPATH"))))}
