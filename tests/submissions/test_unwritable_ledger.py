"""A score is printed whatever keeps the ledger from being written or locked."""

import errno
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import orjson
import pytest

from arcpipe.runs import file_hash
from commands import run_arcpipe, run_here
from disks import largest_file, without_locks


@pytest.fixture
def scored(content: dict[str, Any], file: Path, solutions: Path) -> list[object]:
    """The arguments that score a submission, without its ledger."""
    file.write_bytes(orjson.dumps(content))
    return ["score", file, solutions]


@pytest.mark.parametrize("name", ["ENOLCK", "ENOSYS", "EOPNOTSUPP", "EIO", "EBADF"])
def test_a_file_system_without_locks_has_a_ledger_too(
    scored: list[object], file: Path, tmp_path: Path, name: str
) -> None:
    env, ledger = without_locks(tmp_path / "site", getattr(errno, name)), tmp_path / "ledger.jsonl"
    done = run_arcpipe(*scored, "--ledger", ledger, cwd=tmp_path, env=env)
    assert (done.returncode, done.stdout) == (0, run_here(*scored, "--no-ledger").stdout), done.stderr
    warning, entered = done.stderr.splitlines()
    assert warning.startswith(f"{ledger}: cannot be locked (")
    assert entered == f"{file} is {file_hash(file)[:8]} in {ledger}"

    listed = run_arcpipe("submissions", "list", "--ledger", ledger, cwd=tmp_path, env=env)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert f"{file_hash(file)[:8]}  " in listed.stdout


@pytest.mark.parametrize("flags", [(), ("--json",), ("--with", "other.json")])
@pytest.mark.parametrize("ledger", ["a-folder", "a-file/ledger.jsonl", "/dev/full", "full-disk.jsonl"])
def test_a_ledger_that_cannot_be_written_is_a_warning(
    scored: list[object], content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    ledger: str, flags: tuple[str, ...],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("a-folder").mkdir()
    Path("a-file").touch()
    Path("other.json").write_bytes(orjson.dumps({"one": content["one"]}))
    disk: AbstractContextManager[None] = largest_file(100) if "disk" in ledger else nullcontext()
    with disk:
        done = run_here(*scored, *flags, "--ledger", ledger)
    assert (done.returncode, done.stdout) == (0, run_here(*scored, *flags, "--no-ledger").stdout)
    [warning] = done.stderr.splitlines()
    assert warning.startswith(f"{ledger}: cannot be written (")
    assert warning.endswith("): not entered; --ledger names another ledger, --no-ledger none")
