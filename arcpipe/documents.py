"""Read files of others within limits, JSON and TOML in particular: a small file must not exhaust the machine.

The limits are above the needs of any file of this project. The factor ARCPIPE_LIMITS scales those of size.
"""

import json
import math
import os
import re
import stat
import tomllib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arcpipe.errors import ArcpipeError, DataError, one_line, why_unreadable

LIMITS = "ARCPIPE_LIMITS"
MOST_BYTES = 2**30
_MOST_FACTS = 2**26
_PART = 2**20
_MOST_DEPTH = 64
_MOST_TOML = 2**17
# A key of thousands of parts takes the parser gigabytes.
_MOST_DOTS = 200
_MOST_BITS = 63


def limit(number: int) -> int:
    """Return a limit of size times ARCPIPE_LIMITS; ArcpipeError if that is not a number."""
    factor = os.environ.get(LIMITS, "1")
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", factor):
        raise ArcpipeError(f"{LIMITS}={factor!r}: expected a factor, such as 4")
    return int(number * float(factor))


def read_within(path: Path, most: int = MOST_BYTES) -> bytes:
    """Return the content of a file or pipe of at most `most` bytes.

    Raises:  OSError if it cannot be read, ValueError if it is larger, or a device.
    """
    most = limit(most)
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            raise ValueError("it is a device, no file")
        # Python allocates as many bytes as it is asked to read.
        content = file.read(min(most, status.st_size) + 1)
        while len(content) <= most and (part := file.read(_PART)):
            content += part
    if len(content) > most:
        raise ValueError(f"larger than {most / 1e6:.1f} MB")
    return content


def read_file(path: Path, most: int = MOST_BYTES, remedy: str = "", missing: str = "no such file") -> bytes:
    """Return the content of a file as `read_within` does.

    Args:    remedy: text after the error for a larger file. missing: the error for a missing file.
    Raises:  DataError if it is missing, unreadable or larger.
    """
    try:
        return read_within(path, most)
    except FileNotFoundError:
        raise DataError(f"{path}: {missing}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({why_unreadable(error)})") from None
    except ValueError as error:
        raise DataError(f"{path}: {error}{remedy}") from None


def read_text(path: Path, most: int = MOST_BYTES, remedy: str = "") -> str:
    """Return the content of a text file, as `read_file`; DataError if it is not UTF-8."""
    try:
        return read_file(path, most, remedy).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text file in UTF-8") from None


class RepeatedKeys(dict[str, Any]):
    """A JSON object with repeated keys, listed in `repeated`; it holds the last value of each key."""

    def __init__(self, pairs: Sequence[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]


def read_json(path: Path, *, repeated: bool = False) -> Any:
    """Return the content of a JSON file; `repeated` and errors as in `read_file` and `parse_json`."""
    return parse_json(read_file(path), path, repeated=repeated)


def parse_json(content: bytes, where: object, *, repeated: bool = False) -> Any:
    """Return the content of a JSON document.

    Args:    repeated: allow objects with repeated keys, as `RepeatedKeys`.
    Raises:  DataError naming `where` if it is not JSON, or an object has a key twice.
    """
    try:
        value, objects = _parse(content)
    except ValueError as error:
        raise DataError(f"{where}: not a JSON file ({one_line(error)})") from None
    if objects and not repeated:
        key = ascii(objects[0].repeated[0])[:40]
        raise DataError(f"{where}: the key {key} stands more than once in an object: remove all but one")
    return value


def _parse(content: bytes) -> tuple[Any, list[RepeatedKeys]]:
    """Return the value of a JSON document, and its objects with repeated keys; ValueError if not JSON."""
    repeated: list[RepeatedKeys] = []

    def make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) == len(pairs):
            return value
        repeated.append(RepeatedKeys(pairs))
        return repeated[-1]

    try:
        # Not with orjson, which takes two thirds of the time, but silently drops repeated keys.
        text = content.decode("utf-8-sig")
        if not text or text.isspace():
            raise ValueError("it is empty")
        value = json.loads(text, object_pairs_hook=make_object, parse_constant=_number, parse_float=_number)
        if "\\u" in text:
            # A lone surrogate is not a character and could not be written again.
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value, repeated


def load_json(path: Path) -> Any:
    """Return the content of a JSON file of facts, such as a manifest, that can be written again.

    Raises:  OSError if it cannot be read; ValueError if it is not JSON, too large, nested too deeply, or an
             object has a key twice.
    """
    value, repeated = _parse(read_within(path, _MOST_FACTS))
    if repeated:
        raise ValueError(f"the key {repeated[0].repeated[0]!a:.40} stands more than once in an object")
    refuse_extremes(value)
    return value


def parse_toml(text: str) -> dict[str, Any]:
    """Return the content of a TOML document; ValueError if it is not TOML, too large or nested too deeply."""
    if len(text) > limit(_MOST_TOML):
        raise ValueError(f"larger than {limit(_MOST_TOML) / 1e3:.0f} kB")
    for number, line in enumerate(text.splitlines(), 1):
        if line.count(".") > _MOST_DOTS:
            raise ValueError(f"line {number} has more than {_MOST_DOTS} dots")
    try:
        value = tomllib.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    refuse_extremes(value)
    return value


def refuse_extremes(value: Any) -> None:
    """Raise ValueError for values that JSON cannot hold: too deep nesting, too large integers."""
    level = [value]
    for _ in range(_MOST_DEPTH):
        if any(type(one) is int and one.bit_length() > _MOST_BITS for one in level):
            raise ValueError("it has an integer of more than 64 bits")
        containers = [one for one in level if isinstance(one, dict | list)]
        level = [inner for one in containers for inner in (one.values() if isinstance(one, dict) else one)]
    if level:
        raise ValueError(f"nested more than {_MOST_DEPTH} deep")


def _number(text: str) -> float:
    if not math.isfinite(value := float(text)):
        why = "too large a number" if text[-1].isdecimal() else "no number of JSON"
        raise ValueError(f"{text[:40]} is {why}")
    return value
