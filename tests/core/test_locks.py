"""A folder has one writer at a time, also where locks, disks or writers fail."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from arcpipe.errors import OutputError
from arcpipe.runs import hold_folder


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


def test_what_a_link_leads_to_is_not_written_to(tmp_path: Path) -> None:
    """But a folder may lie elsewhere as a whole, and have links in it to what is in it."""
    whole, other = tmp_path / "whole", tmp_path / "other"
    whole.mkdir()
    other.write_text("mine")
    (whole / "inner").symlink_to("file")
    (tmp_path / "run").symlink_to(whole)
    with hold_folder(tmp_path / "run"):
        pass
    (whole / ".writer-0.json").symlink_to(other)
    said = r"writer-0\.json: is a link that leads out of its folder"
    with pytest.raises(OutputError, match=said), hold_folder(tmp_path / "run"):
        pass
    assert other.read_text() == "mine"
