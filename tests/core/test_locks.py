"""A folder has one writer at a time, also where locks, disks or writers fail."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from arcpipe.locks import hold_folder


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO, errno.EBADF])
def test_a_file_system_without_locks_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    """For ENOSYS filelock has a lock of another kind, which holds too."""

    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with hold_folder(tmp_path):
        assert ("no locks here" in caplog.text) == (number != errno.ENOSYS)
