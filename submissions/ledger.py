"""The ledger: the origin and the scores of each submission file, one JSON line per fact.

A line is `{"sha256": of the file, "fact": "file" | "score" | "kaggle", "time": ..., ...}`. Lines are only
appended, each in a single write, under a lock if the file system has locks. Facts with the same hash form an
entry.
"""

import errno
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import orjson

from arcpipe.documents import read_file, refuse_extremes
from arcpipe.errors import ArcpipeError, DataError, why_unreadable
from arcpipe.log import fact_line, logger
from arcpipe.runs import file_hash, writing
from arcpipe.submissions.score import Score
from arcpipe.submissions.submission import is_made_by, read_made_by

LEDGER = Path("runs/ledger.jsonl")
"""Default path of the ledger, relative to the working directory."""

LEDGER_START = b'{"sha256":"'
"""The first bytes of each line."""

_SHORTEST_PREFIX = 4
_SCORED = ("mean_over_tasks", "mean_over_outputs", "solved_tasks", "solved_outputs")
# What was changed of the solutions, as lists of texts.
_CHANGES = ("left_out", "corrected", "corrections")
_WIDTH = 14
# Fields about when and where a submission was made, which `differences` ignores.
_CIRCUMSTANCES = {"time", "created", "command", "host", "sha256", "reference"}


@dataclass
class Entry:
    """The facts about one submission file.

    time: when it was first entered, in UTC.
    files: the paths under which it was entered.
    made_by: its manifest when it was last entered with one; empty if never.
    scores: local scores, each with its set.
    kaggle: scores on Kaggle with their references, and the hash of the bundle if known.
    """

    sha256: str
    time: str
    files: list[str] = field(default_factory=list)
    made_by: dict[str, Any] = field(default_factory=dict)
    scores: list[dict[str, Any]] = field(default_factory=list)
    kaggle: list[dict[str, Any]] = field(default_factory=list)


def enter_file(ledger: Path, submission: Path) -> str:
    """Enter a submission file, with the manifest beside it if there is one; return its SHA-256.

    Raises:  DataError if it cannot be read, OutputError if the ledger cannot be written.
    """
    try:
        sha256 = file_hash(submission)
    except OSError as error:
        raise DataError(f"{submission}: cannot be read ({why_unreadable(error)})") from None
    add_fact(ledger, sha256, "file", file=str(submission), made_by=read_made_by(submission, sha256))
    return sha256


def enter_score(
    ledger: Path, submission: Path, score: Score, solutions: Path, corrections: Sequence[str] = ()
) -> str:
    """Enter a submission file and its local score; return its SHA-256.

    Args:    corrections: the sources of the corrected tasks.
    Raises:  as `enter_file`.
    """
    sha256 = enter_file(ledger, submission)
    one, two = ({name: getattr(k, name) for name in _SCORED} for k in (score.pass_at_1, score.pass_at_2))
    scored_set = str(score.set)
    if score.left_out:
        scored_set += f", {score.num_tasks} of its {score.set.num_tasks} tasks"
    if score.corrected:
        scored_set += f", {len(score.corrected)} corrected"
    changes = {"left_out": score.left_out, "corrected": score.corrected, "corrections": corrections}
    add_fact(
        ledger, sha256, "score", set=scored_set, fingerprint=score.set.fingerprint,
        num_tasks=score.num_tasks, num_outputs=score.num_outputs, solutions=str(solutions), pass_at_1=one,
        pass_at_2=two, **{name: list(items) for name, items in changes.items() if items},
    )  # fmt: skip
    return sha256


def add_fact(ledger: Path, sha256: str, fact: Literal["file", "score", "kaggle"], **content: Any) -> None:
    """Append a fact about a file, unless the ledger has the same fact from any time.

    Raises:  OutputError if the ledger cannot be written.
    """
    new = {"sha256": sha256, "fact": fact, **content}
    with writing(ledger):
        if ledger.exists() and not ledger.is_file():
            # Reading a device may never end.
            raise OSError(errno.EINVAL, "it is no file")
        ledger.parent.mkdir(parents=True, exist_ok=True)
        with ledger.open("a+b", buffering=0) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                _warn_of_no_lock(ledger, error.strerror)
            file.seek(0)
            before = file.read()
            facts = (_parse(line) for line in before.splitlines() if sha256.encode() in line)
            if any(fact and fact | {"time": None} == new | {"time": None} for fact in facts):
                return
            now = datetime.now(UTC).isoformat(timespec="seconds")
            line = orjson.dumps(new | {"time": now}, option=orjson.OPT_APPEND_NEWLINE)
            if before and not before.endswith(b"\n"):
                # A writer was interrupted; end its partial line first.
                line = b"\n" + line
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())


@cache
def _warn_of_no_lock(ledger: Path, reason: str) -> None:
    """Warn that the ledger cannot be locked; once per command, which may enter several lines."""
    logger.warning("%s: cannot be locked (%s): let no other command write it now", ledger, reason)


@contextmanager
def only_warning() -> Iterator[None]:
    """Turn an error of the block into a warning: the user already has the printed result."""
    try:
        yield
    except ArcpipeError as error:
        logger.warning("%s: not entered; --ledger names another ledger, --no-ledger none", error)


def _parse(line: bytes) -> dict[str, Any] | None:
    """Parse a line into its fact; None if the line is cut off."""
    try:
        fact = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return fact if isinstance(fact, dict) else None


def read_ledger(ledger: Path) -> list[Entry]:
    """Read the entries, in the order in which the files were first entered.

    Skips a line cut off by an interrupted writer, with a warning.

    Raises:  DataError if there is no ledger, or naming a line that is not a fact.
    """
    missing = "no ledger here: score a submission, or name one with --ledger"
    lines = read_file(ledger, missing=missing).splitlines()
    entries: dict[str, Entry] = {}
    for number, line in enumerate(lines, 1):
        if (fact := _parse(line)) is None:
            logger.warning("%s: line %d is cut off and left out: a writer was interrupted", ledger, number)
            continue
        try:
            sha256, kind = fact.pop("sha256"), fact.pop("fact")
            _refuse_unshowable(kind, fact)
            entry = entries.setdefault(sha256, Entry(sha256, fact["time"]))
            if kind == "file":
                entry.files += [fact["file"]] if fact["file"] not in entry.files else []
                entry.made_by = fact.get("made_by") or entry.made_by
            else:
                {"score": entry.scores, "kaggle": entry.kaggle}[kind].append(fact)
        except (KeyError, TypeError, ValueError):
            raise DataError(f"{ledger}: line {number} is no fact about a submission: remove it") from None
    return list(entries.values())


def bundle_entries(entries: Sequence[Entry]) -> list[Entry]:
    """Return an entry for each bundle scored on Kaggle, under the hash of the bundle, with its scores there.

    Several bundles may have the same submission file: Kaggle scores another one, made for the hidden tasks.
    """
    bundles: dict[str, Entry] = {}
    for entry in entries:
        for fact in entry.kaggle:
            if sha256 := fact.get("bundle"):
                bundle = bundles.setdefault(sha256, Entry(sha256, fact["time"], entry.files))
                bundle.made_by = fact.get("made_by") or bundle.made_by
                bundle.kaggle.append(fact)
    return list(bundles.values())


def _refuse_unshowable(kind: str, fact: Mapping[str, Any]) -> None:
    """Raise KeyError, TypeError or ValueError if a fact lacks a field that the commands show."""
    refuse_extremes(fact)
    texts = {"file": ("file",), "score": ("set", "fingerprint", "solutions"), "kaggle": ()}[kind]
    are_texts = all(isinstance(fact[name], str) for name in ("time", *texts))
    are_texts &= all(isinstance(text, str) for name in _CHANGES for text in fact.get(name, ()))
    has_reference = kind != "kaggle" or isinstance(fact["reference"], str | int)
    if not are_texts or not has_reference or not is_made_by(fact.get("made_by") or {}):
        raise TypeError
    if kind != "file":
        float(fact["score"] if kind == "kaggle" else fact["pass_at_2"]["mean_over_tasks"])


def find_entry(entries: Sequence[Entry], name: str, ledger: Path) -> Entry:
    """Return the entry of a submission or bundle.

    Args:    name: a submission file, or a unique prefix of the hash of a submission or bundle.
    Raises:  ArcpipeError if no entry or several entries match.
    """
    prefix = file_hash(Path(name)) if Path(name).exists() else name.lower()
    matches = [one for one in (*entries, *bundle_entries(entries)) if one.sha256.startswith(prefix)]
    if len(prefix) < _SHORTEST_PREFIX:
        raise ArcpipeError(f"{name}: give at least {_SHORTEST_PREFIX} characters of a hash, or a file")
    if not matches:
        raise ArcpipeError(f"{name}: not in {ledger}: see arcpipe submissions list")
    if len(matches) > 1:
        hashes = ", ".join(entry.sha256[: len(prefix) + 4] for entry in matches[:3])
        raise ArcpipeError(f"{name}: {len(matches)} submissions begin so ({hashes}...): give more of it")
    return matches[0]


def list_text(entries: Sequence[Entry]) -> str:
    """Return a table of the entries, two lines each, then a table of the bundles on Kaggle."""
    rows: list[tuple[str, ...]] = [("hash", "entered", "pass@2 at home", "Kaggle", "file")]
    origins = []
    for entry in entries:
        # The mean that Kaggle reports.
        home = [f"{one['pass_at_2']['mean_over_tasks']:.2%}" for one in entry.scores[-1:]]
        kaggle = [str(fact["score"]) for fact in entry.kaggle]
        facts = [", ".join(values) or "-" for values in (home, kaggle, entry.files[-1:])]
        rows.append((entry.sha256[:8], _minute(entry.time), *facts))
        manifests = [source.get("manifest") or {} for source in entry.made_by.get("sources", ())]
        names = [str(one["checkpoint"]) for one in manifests if one.get("checkpoint")]
        checkpoints = ", ".join(dict.fromkeys(names))
        origin = [f"of {one['set']}" for one in entry.scores[-1:]]
        origins.append("; ".join(origin + [f"from {checkpoints}"] * bool(checkpoints)))
    bundles: list[tuple[str, ...]] = [("bundle", "scored", "runs", "mean", "lowest", "highest", "kernel")]
    for entry in bundle_entries(entries):
        runs, last = kaggle_scores(entry), entry.kaggle[-1]
        spread = (f"{value:.2f}" for value in (fmean(runs), min(runs), max(runs)))
        scored = _minute(last["time"])
        bundles.append((entry.sha256[:8], scored, f"{len(runs)}", *spread, last.get("kernel", "-")))
    heading, *lines = _table(rows).splitlines()
    pairs = [f"{line}\n    {more}".rstrip() for line, more in zip(lines, origins, strict=True)]
    return "\n".join([heading, *pairs]) + (f"\n\n{_table(bundles)}" if bundles[1:] else "")


def entry_text(entry: Entry) -> str:
    """Return the facts of an entry as text: its scores, then what made it, without what is not known."""
    lines = [f"{entry.sha256}, entered {_minute(entry.time)}"]
    lines += [fact_line("file", file, _WIDTH) for file in entry.files]
    for fact in entry.scores:
        lines += ["", fact_line("score", _home_score(fact), _WIDTH)]
        rest = {"of": fact["set"], "solutions": fact["solutions"], "scored": _minute(fact["time"])}
        rest |= {name: fact.get(name) for name in _CHANGES}
        lines += _tree(rest, "  ")
    for fact in entry.kaggle:
        lines += ["", fact_line("Kaggle score", str(fact["score"]), _WIDTH)]
        lines += _tree({name: fact[name] for name in fact if name not in ("score", "made_by")}, "  ")
    # A bundle made the submission that was scored on Kaggle.
    makers = [entry.made_by, *(fact.get("made_by") for fact in entry.kaggle)]
    for number, maker in enumerate(makers):
        if maker and maker not in makers[:number]:
            lines += ["", "made by", *_tree(maker, "  ")]
    return "\n".join(lines)


def _minute(time: str) -> str:
    return time[:16].replace("T", " ")


def _home_score(fact: Mapping[str, Any]) -> str:
    """Return the score of a submission at home, from its pass@1 and pass@2."""
    text = ""
    for name in ("pass_at_2", "pass_at_1"):
        at_k = fact.get(name) or {}
        shares = {of: at_k.get(f"mean_over_{of}") for of in ("tasks", "outputs")}
        words = [f"{value:.2%} of {of}" for of, value in shares.items() if isinstance(value, int | float)]
        text += f"{'; ' if text else ''}{name.replace('_at_', '@')} {', '.join(words) or 'not known'}"
    two = fact["pass_at_2"]
    return (
        f"{text}; solved {two.get('solved_tasks', '?')} of {fact.get('num_tasks', '?')} tasks wholly, "
        f"{two.get('solved_outputs', '?')} of {fact.get('num_outputs', '?')} test outputs"
    )


def _tree(facts: Mapping[str, Any], indent: str) -> Iterator[str]:
    """Yield the lines of nested facts; a table without others in it takes one line."""
    width = _WIDTH + len(indent)
    for name, value in facts.items():
        if name == "command" and isinstance(value, list):
            value = " ".join(["arcpipe", *map(str, value[1:])])
        for item in value if _has_tables(value) and isinstance(value, list) else [value]:
            if isinstance(item, dict) and any(map(_has_tables, item.values())):
                yield f"{indent}{name}"
                yield from _tree(item, f"{indent}  ")
            elif text := fact_text(item):
                yield fact_line(f"{indent}{name} ", text, width)


def _has_tables(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(map(_has_tables, value)))


def fact_text(value: Any) -> str:
    """Return a fact in a line: text without quotes, others as JSON writes them; empty if it is unknown."""
    if isinstance(value, dict):
        texts = {name: fact_text(item) for name, item in value.items()}
        return ", ".join(f"{name} {text}" for name, text in texts.items() if text)
    if value in (None, []):
        return ""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def kaggle_scores(entry: Entry) -> list[float]:
    """Return the scores of the last bundle of an entry on Kaggle, one per submission."""

    def bundle(fact: Mapping[str, Any]) -> list[Any]:
        # Older facts name the version of the kernel only.
        names = ("bundle",) if "bundle" in fact else ("kernel", "kernel_version")
        return [fact.get(name) for name in ("competition", *names)]

    facts = [fact for fact in entry.kaggle if bundle(fact) == bundle(entry.kaggle[-1])]
    return [float(score) for score in {fact["reference"]: fact["score"] for fact in facts}.values()]


@dataclass(frozen=True)
class KaggleDifference:
    """The scores of two entries on Kaggle, one per submission, and the second mean minus the first.

    is_real: the ranges of scores do not overlap; None if each entry was submitted once, without a range.
    """

    first: list[float]
    second: list[float]
    points: float
    is_real: bool | None

    def __str__(self) -> str:
        first, second = (
            f"{fmean(runs):.2f} ({len(runs)} runs, {min(runs):.2f} to {max(runs):.2f})"
            if len(runs) > 1
            else f"{runs[0]:.2f}"
            for runs in (self.first, self.second)
        )
        verdict = f"{'outside' if self.is_real else 'inside'} the spread of repeats"
        if self.is_real is None:
            verdict = "one run each does not tell whether that is real, arcpipe kaggle submit --again does"
        return f"on Kaggle {first} -> {second}, {self.points:+.2f}: {verdict}"


def kaggle_difference(one: Entry, other: Entry) -> KaggleDifference | None:
    """Compare the scores of two entries on Kaggle; None if either has none."""
    first, second = kaggle_scores(one), kaggle_scores(other)
    if not first or not second:
        return None
    apart = min(first) > max(second) or min(second) > max(first)
    repeated = len(first) + len(second) > 2
    return KaggleDifference(first, second, fmean(second) - fmean(first), apart if repeated else None)


def differences(one: Entry, other: Entry) -> dict[str, list[Any]]:
    """Return the facts in which two entries differ: name -> both values, None if unknown.

    Compares the manifests, the scores on Kaggle, and the last local score on each set.
    """

    def facts_of(entry: Entry) -> dict[str, Any]:
        scores = {score["set"]: score for score in entry.scores}
        kaggle = [fact["score"] for fact in entry.kaggle]
        return _leaves({"made_by": entry.made_by, "score": scores, "kaggle": kaggle})

    first, second = facts_of(one), facts_of(other)
    return {
        name: [first.get(name), second.get(name)]
        for name in first | second
        if first.get(name) != second.get(name) and _CIRCUMSTANCES.isdisjoint(name.split("."))
    }


def _leaves(value: Any, name: str = "") -> dict[str, Any]:
    """Flatten nested objects and lists to leaves by path, such as `made_by.sources.0.path`."""
    if isinstance(value, list) and not all(isinstance(item, (int, float, str)) for item in value):
        value = {str(number): item for number, item in enumerate(value)}
    if not isinstance(value, dict) or not value:
        # An empty object or list is as unknown as a missing one.
        return {name: None if value in ({}, []) else value}
    leaves: dict[str, Any] = {}
    for key, item in value.items():
        leaves |= _leaves(item, f"{name}.{key}" if name else str(key))
    return leaves
