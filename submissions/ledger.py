"""The ledger: what each submission file was made from and what it scored, one JSON line per fact.

A line is `{"sha256": of the file, "fact": "file" | "score" | "kaggle", "time": ..., ...}`. Lines are only
ever appended, under a lock where the file system has locks, and in one write each; the facts with the same
hash are one entry.
"""

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import IO, Any, Literal

import orjson

from arcpipe.errors import ArcpipeError, DataError
from arcpipe.log import logger
from arcpipe.runs import file_hash, writing
from arcpipe.submissions.format import read_made_by
from arcpipe.submissions.score import Score

Fact = Literal["file", "score", "kaggle"]
_SHORTEST_PREFIX = 4


@dataclass
class Entry:
    """All that is known of one submission file, each fact with its time.

    files: where it was seen, and what it was made by, if known. scores: at home, with their set. kaggle:
    reference and score.
    """

    sha256: str
    files: list[dict[str, Any]] = field(default_factory=list)
    scores: list[dict[str, Any]] = field(default_factory=list)
    kaggle: list[dict[str, Any]] = field(default_factory=list)

    @property
    def made_by(self) -> dict[str, Any]:
        """The manifest that was beside the file when it was last entered with one; empty if never."""
        known = [fact["made_by"] for fact in self.files if fact.get("made_by")]
        return known[-1] if known else {}

    @property
    def time(self) -> str:
        """When it was first entered, in UTC."""
        return min(str(fact["time"]) for fact in (*self.files, *self.scores, *self.kaggle))


def enter_file(ledger: Path, submission: Path) -> str:
    """Enter a submission file with the manifest beside it, if there is one; its SHA-256.

    A file that is in already stays one entry.

    Raises:  DataError if it cannot be read, OutputError if the ledger cannot be written.
    """
    try:
        sha256 = file_hash(submission)
    except OSError as error:
        raise DataError(f"{submission}: cannot be read ({error.strerror})") from None
    add_fact(ledger, sha256, "file", file=str(submission), made_by=read_made_by(submission, sha256))
    return sha256


def enter_score(ledger: Path, sha256: str, score: Score, solutions: Path) -> None:
    """Add a score at home to the entry of a file, with the set it is on."""
    passes = {
        f"pass_at_{k}": {
            "mean_over_tasks": counted.mean_over_tasks,
            "mean_over_outputs": counted.mean_over_outputs,
            "solved_tasks": counted.solved_tasks,
            "solved_outputs": counted.solved_outputs,
        }
        for k, counted in ((1, score.pass_at_1), (2, score.pass_at_2))
    }
    add_fact(
        ledger, sha256, "score", set=str(score.set), fingerprint=score.set.fingerprint,
        num_tasks=score.num_tasks, num_outputs=score.num_outputs, solutions=str(solutions), **passes,
    )  # fmt: skip


def add_fact(ledger: Path, sha256: str, fact: Fact, **content: Any) -> bool:
    """Append a fact about a file; False if the ledger holds the same one already, whatever its time.

    Raises:  OutputError if the ledger cannot be written.
    """
    new = {"sha256": sha256, "fact": fact, **content}
    with writing(ledger):
        if ledger.exists() and not ledger.is_file():
            # A device could be read without end.
            raise OSError(errno.EINVAL, "it is no file")
        ledger.parent.mkdir(parents=True, exist_ok=True)
        with _locked(ledger, "a+b", fcntl.LOCK_EX) as file:
            file.seek(0)
            before = file.read()
            about_it = [line for line in before.splitlines() if sha256.encode() in line]
            if any(_without_time(line) == new for line in about_it):
                return False
            now = datetime.now(UTC).isoformat(timespec="seconds")
            line = orjson.dumps(new | {"time": now}, option=orjson.OPT_APPEND_NEWLINE)
            if before and not before.endswith(b"\n"):
                # A writer was interrupted: its rest becomes a line of its own.
                line = b"\n" + line
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
    return True


@contextmanager
def only_warning() -> Iterator[None]:
    """Warns of what keeps the block from entering something: what it enters has been said, and stands."""
    try:
        yield
    except ArcpipeError as error:
        logger.warning("%s: not entered; --ledger names another ledger, --no-ledger none", error)


@contextmanager
def _locked(ledger: Path, mode: str, lock: int) -> Iterator[IO[bytes]]:
    """The open ledger, unbuffered, with the lock until the block ends; without one where there are none."""
    with ledger.open(mode, buffering=0) as file:
        try:
            fcntl.flock(file, lock)
        except OSError as error:
            # A reader needs none: it leaves out a line that is cut off.
            if lock == fcntl.LOCK_EX:
                _warn_of_no_lock(ledger, error.strerror)
        yield file


@cache
def _warn_of_no_lock(ledger: Path, reason: str) -> None:
    """Once a command, which enters several lines."""
    logger.warning("%s: cannot be locked (%s): let no other command write it now", ledger, reason)


def _without_time(line: bytes) -> dict[str, Any] | None:
    fact = _parse(line)
    return None if fact is None else {key: value for key, value in fact.items() if key != "time"}


def _parse(line: bytes) -> dict[str, Any] | None:
    """The fact of a line; None if it is cut off."""
    try:
        fact = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return fact if isinstance(fact, dict) else None


def read_ledger(ledger: Path) -> list[Entry]:
    """The entries, in the order in which the files were first entered.

    A line that is cut off, because its writer was interrupted, is left out and warned of.

    Raises:  DataError if there is no ledger, or naming the line that is no fact.
    """
    try:
        with _locked(ledger, "rb", fcntl.LOCK_SH) as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        raise DataError(f"{ledger}: no ledger here: score a submission, or name one with --ledger") from None
    except OSError as error:
        raise DataError(f"{ledger}: cannot be read ({error.strerror})") from None
    entries: dict[str, Entry] = {}
    for number, line in enumerate(lines, 1):
        fact = _parse(line)
        if fact is None:
            logger.warning("%s: line %d is cut off and left out: a writer was interrupted", ledger, number)
            continue
        try:
            entry = entries.setdefault(fact["sha256"], Entry(fact["sha256"]))
            {"file": entry.files, "score": entry.scores, "kaggle": entry.kaggle}[fact["fact"]].append(
                {key: value for key, value in fact.items() if key not in ("sha256", "fact")}
            )
        except (KeyError, TypeError):
            raise DataError(f"{ledger}: line {number} is no fact about a submission: remove it") from None
    return list(entries.values())


def find_entry(entries: Sequence[Entry], wanted: str, ledger: Path) -> Entry:
    """The entry of a submission file, or the only one whose hash begins with `wanted`.

    Raises:  ArcpipeError if there is none, or there are several.
    """
    path = Path(wanted)
    prefix = file_hash(path) if path.is_file() else wanted.lower()
    found = [entry for entry in entries if entry.sha256.startswith(prefix)]
    if len(prefix) < _SHORTEST_PREFIX:
        raise ArcpipeError(f"{wanted}: give at least {_SHORTEST_PREFIX} characters of a hash, or a file")
    if not found:
        raise ArcpipeError(f"{wanted}: not in {ledger}: see arcpipe submissions list")
    if len(found) > 1:
        hashes = ", ".join(entry.sha256[: len(prefix) + 4] for entry in found[:3])
        raise ArcpipeError(f"{wanted}: {len(found)} submissions begin so ({hashes}...): give more of it")
    return found[0]
