"""Entries of the ledger as lines of text, and what differs between two."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from arcpipe.submissions.ledger import Entry

_NOTHING = "-"
# What says when and where a submission was made, not what made it.
_CIRCUMSTANCES = {"time", "created", "command", "host", "sha256", "reference"}


def entry_facts(entry: Entry) -> dict[str, Any]:
    """The entry as JSON can hold it: hash, time, files, made_by, scores, kaggle."""
    files = [fact["file"] for fact in entry.files]
    return {
        "sha256": entry.sha256, "time": entry.time, "files": list(dict.fromkeys(files)),
        "made_by": entry.made_by, "scores": entry.scores, "kaggle": entry.kaggle,
    }  # fmt: skip


def list_text(entries: Sequence[Entry]) -> str:
    """A table with a line per entry, the first entered first."""
    rows = [("hash", "entered", "pass@2 at home", "Kaggle", "checkpoint", "file")]
    rows += [
        (
            entry.sha256[:8],
            entry.time[:16].replace("T", " "),
            _home(entry),
            ", ".join(str(fact["score"]) for fact in entry.kaggle) or _NOTHING,
            ", ".join(_checkpoints(entry)) or _NOTHING,
            entry.files[-1]["file"] if entry.files else _NOTHING,
        )
        for entry in entries
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _home(entry: Entry) -> str:
    """The last score at home, counted as Kaggle does: the mean over tasks, and the set."""
    if not entry.scores:
        return _NOTHING
    score = entry.scores[-1]
    return f"{score['pass_at_2']['mean_over_tasks']:.2%} of {score['set']}"


def _checkpoints(entry: Entry) -> list[str]:
    manifests = [source.get("manifest") or {} for source in entry.made_by.get("sources", ())]
    return [manifest["checkpoint"] for manifest in manifests if manifest.get("checkpoint")]


def entry_text(entry: Entry) -> str:
    """All that is known of an entry, a line per fact, in the order of `entry_facts`."""
    return "\n".join(f"{name}: {value}" for name, value in _flat(entry_facts(entry)))


def differences(one: Entry, other: Entry) -> dict[str, list[Any]]:
    """What made them and what they scored, where it differs: name -> the two values, None for unknown."""
    first, second = _comparable(one), _comparable(other)
    return {
        name: [first.get(name), second.get(name)]
        for name in {**first, **second}
        if first.get(name) != second.get(name)
    }


def _comparable(entry: Entry) -> dict[str, Any]:
    """The facts that can be set side by side: of the scores, the last on each set."""
    scores = {score["set"]: score for score in entry.scores}
    kaggle = [fact["score"] for fact in entry.kaggle]
    facts = _flat({"made_by": entry.made_by, "score": scores, "kaggle": kaggle})
    return {name: value for name, value in facts if _CIRCUMSTANCES.isdisjoint(name.split("."))}


def compare_text(one: Entry, other: Entry) -> str:
    """A line per difference: name, then both values."""
    if one.sha256 == other.sha256:
        return "the same submission"
    lines = [f"{name}: {first} -> {second}" for name, (first, second) in differences(one, other).items()]
    heading = f"{one.sha256[:8]} -> {other.sha256[:8]}"
    return "\n".join([heading, *(lines or ["nothing else is known to differ"])])


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested objects and lists, each with its path, such as `made_by.sources.0.path`."""
    if isinstance(value, Mapping) and value:
        items = list(value.items())
    elif isinstance(value, list) and value and not all(isinstance(item, (int, float, str)) for item in value):
        items = [(str(number), item) for number, item in enumerate(value)]
    else:
        yield name, value
        return
    for key, item in items:
        yield from _flat(item, f"{name}.{key}" if name else str(key))
