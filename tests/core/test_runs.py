"""Files and folders are written atomically, by one writer at a time."""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arcpipe.errors import DataError, OutputError
from arcpipe.runs import MANIFEST, hold_folder, new_folder, read_manifest, refuse_existing, write_bytes


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_cut_off_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(_: int) -> None:
        raise error

    write_bytes(tmp_path / "a", b"old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises((OutputError, KeyboardInterrupt)):
        write_bytes(tmp_path / "a", b"new")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_folder_appears_with_its_manifest_when_its_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run"
    with new_folder(path, {"kind": "run"}) as folder:
        (folder / "data").write_text("content")
        assert not path.exists()
    assert names(path) == ["data", MANIFEST]
    assert names(path.parent) == ["run"]
    assert read_manifest(path, "run") == {"kind": "run"}


@pytest.mark.parametrize("error", [ValueError, OutputError, KeyboardInterrupt])
def test_a_failing_block_leaves_no_folder(tmp_path: Path, error: type[BaseException]) -> None:
    def fail_half_way() -> None:
        with new_folder(tmp_path / "run", {"kind": "run"}) as folder:
            (folder / "data").write_text("content")
            raise error("in the block")

    with pytest.raises(error, match="in the block"):
        fail_half_way()
    assert names(tmp_path) == []


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("nowhere")])
def test_what_exists_is_neither_overwritten_nor_entered(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "run"
    make(path)
    with pytest.raises(OutputError, match="run exists already: choose another --out"), new_folder(path, {}):
        pytest.fail("entered")
    assert names(tmp_path) == ["run"]
    with pytest.raises(OutputError, match="run exists already: pass --resume"):
        refuse_existing(path, "pass --resume")


def test_a_folder_is_flushed_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, flushed, fsync = tmp_path / "run", set(), os.fsync

    def record(descriptor: int) -> None:
        assert not path.exists()
        flushed.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    with new_folder(path, {"kind": "run"}) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "data").write_text("content")
    assert {item.stat().st_ino for item in (path, *path.rglob("*"))} <= flushed


TWICE = "the key 'kind' stands more than once in an object"


@pytest.mark.parametrize(("content", "message"), [
    (None, "no run folder (its manifest.json is missing or broken)"),
    ('{"kind": 1, "kind": "run"}', f"no run folder (its manifest.json is broken: {TWICE})"),
    ("[]", "no run folder (its manifest.json is missing or broken)"),
    ("{}", "no run folder (its manifest.json is missing or broken)"),
    ('{"kind": "dataset"}', "expected a run folder, found a dataset folder"),
])  # fmt: skip
def test_a_folder_without_the_right_manifest_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    if content is not None:
        (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(DataError) as caught:
        read_manifest(tmp_path, "run")
    assert str(caught.value) == f"{tmp_path}: {message}"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO, errno.EBADF])
def test_a_file_system_without_locks_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    """After ENOSYS filelock uses another kind of lock, which works too."""

    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with hold_folder(tmp_path):
        assert ("no locks here" in caplog.text) == (number != errno.ENOSYS)


def test_what_a_link_leads_to_is_not_written_to(tmp_path: Path) -> None:
    """A folder may itself be a link, and contain links to its own content."""
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
