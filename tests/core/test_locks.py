"""A folder has one writer at a time, also where locks, disks or writers fail."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from arcpipe.errors import OutputError
from arcpipe.locks import hold_folder
from commands import environment

HOLD = """
import sys
from pathlib import Path
from arcpipe.locks import hold_folder
with hold_folder(Path(sys.argv[1]), int(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder: Path, rank: int = 0) -> "subprocess.Popen[str]":
    """Another process that holds the folder until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), str(rank)], env=environment(), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout
    process.stdout.readline()
    return process


@pytest.mark.parametrize("rank", [0, 3])
def test_what_another_process_holds_is_refused_until_it_ends(tmp_path: Path, rank: int) -> None:
    with holder(tmp_path, rank) as other:
        for _ in range(2):
            with (
                pytest.raises(OutputError, match=f"process {other.pid} on .* is writing to it"),
                hold_folder(tmp_path),
            ):
                pass
        with hold_folder(tmp_path, 1):
            pass
        other.communicate()
    with hold_folder(tmp_path):
        assert (tmp_path / ".writer-0.json").exists()
    assert not (tmp_path / ".writer-0.json").exists()


def test_what_a_killed_process_held_is_taken_over_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with holder(tmp_path) as other:
        other.kill()
    with hold_folder(tmp_path):
        assert f"taken over from process {other.pid} on " in caplog.text
    caplog.clear()
    with hold_folder(tmp_path):
        assert not caplog.text


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
