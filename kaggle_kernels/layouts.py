"""Where Kaggle puts what a notebook mounts: it has moved over the years, so it is searched for."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import orjson

from arcpipe.errors import DataError

ROOT_VARIABLE = "ARCPIPE_KAGGLE_ROOT"
BUNDLE_FILE = "bundle.json"
"""What marks the dataset of a bundle, and says what is in it."""

LAYOUTS = {
    "flat": ("{competition}", "{slug}"),
    "nested": ("competitions/{competition}", "datasets/{owner}/{slug}"),
    "model": ("competitions/{competition}", "models/{owner}/{slug}/pytorch/default/1"),
}
"""By name: where below /kaggle/input the competition's files are, and where the bundle's.

flat: 2024 and 2025. nested: 2026. model: the bundle's files attached as a model.
"""

_DEPTH = 7
# Kaggle's own page writes these names with hyphens too.
_FILE = re.compile(r"arc-agi[_-](test|evaluation)[_-](challenges|solutions)\.json")


@dataclass(frozen=True)
class Inputs:
    """What was found: the test challenges, the evaluation set (None if it is not there), the bundle."""

    test: Path
    evaluation: Path | None
    evaluation_solutions: Path | None
    bundle: Path


def find_inputs(root: Path) -> Inputs:
    """The files of the competition and of the bundle below `root`/input, wherever they are.

    Of several competitions that of the bundle is taken.

    Raises:  DataError if one is not there.
    """
    top = root / "input"
    files = list(_files(top))
    bundle = next((path.parent for path in files if path.name == BUNDLE_FILE), None)
    if bundle is None:
        raise DataError(f"{top}: no {BUNDLE_FILE} below it: attach the bundle's dataset to the notebook")
    competition = _competition_of(bundle)
    files.sort(key=lambda path: (competition not in path.parts, len(path.parts), str(path)))
    found: dict[str, Path] = {}
    for path in files:
        if match := _FILE.fullmatch(path.name):
            found.setdefault("_".join(match.groups()), path)
    if "test_challenges" not in found:
        raise DataError(f"{top}: no arc-agi_test_challenges.json below it: attach the competition")
    test = found["test_challenges"]
    return Inputs(test, found.get("evaluation_challenges"), found.get("evaluation_solutions"), bundle)


def _competition_of(bundle: Path) -> str:
    """The competition that a bundle is for; empty if its file does not say: a run needs no more of it."""
    with suppress(OSError, orjson.JSONDecodeError, KeyError, TypeError):
        return str(orjson.loads((bundle / BUNDLE_FILE).read_bytes())["competition"])
    return ""


def _files(top: Path) -> Iterator[Path]:
    """The files below a folder, links to folders followed, not deeper than any layout."""
    for folder, folders, names in os.walk(top, followlinks=True):
        if len(Path(folder).relative_to(top).parts) >= _DEPTH:
            folders.clear()
        folders.sort()
        yield from (Path(folder) / name for name in sorted(names))


def scratch_folder(root: Path) -> Path:
    """Where a run can put what is large and no output: below /kaggle/temp, or else the system's own place."""
    temp = root / "temp"
    parent = temp if temp.is_dir() and os.access(temp, os.W_OK) else Path(os.environ.get("TMPDIR", "/tmp"))
    return parent / f"arcpipe-{os.getpid()}"
