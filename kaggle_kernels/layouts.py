"""Where Kaggle puts what a notebook mounts: it has moved over the years, so it is searched for."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import orjson

from arcpipe.errors import DataError
from arcpipe.kaggle_kernels.mounts import (
    BUNDLE_FILE,
    EntryError,
    bundles,
    find_file,
    find_test,
    refuse_partial,
)

ROOT_VARIABLE = "ARCPIPE_KAGGLE_ROOT"
LAYOUTS = {
    "flat": ("{competition}", "{slug}"),
    "nested": ("competitions/{competition}", "datasets/{owner}/{slug}"),
    "model": ("competitions/{competition}", "models/{owner}/{slug}/pytorch/default/1"),
}
"""By name: where below /kaggle/input the competition's files are, and where the bundle's.

flat: 2024 and 2025. nested: 2026. model: the bundle's files attached as a model.
"""


@dataclass(frozen=True)
class Inputs:
    """What was found below `top`: the test challenges, the evaluation set (None if it is not there), and the
    bundles, that to be used first."""

    top: Path
    test: Path
    evaluation: Path | None
    evaluation_solutions: Path | None
    bundles: Sequence[Path]

    def whole_bundle(self) -> Path:
        """Return the bundle.

        Raises:  DataError if there is none, or it lacks files.
        """
        try:
            refuse_partial(self.top, self.bundles)
        except EntryError as error:
            raise DataError(str(error)) from None
        return self.bundles[0]


def find_inputs(root: Path, bundle: Path | None = None) -> Inputs:
    """Return the files of the competition and the bundles below `root`/input, wherever they are.

    Of several competitions that of the bundle is taken.

    Args:    bundle: the bundle to use, where it is known.
    Raises:  DataError if there are no test challenges.
    """
    top = root / "input"
    found = bundles(top) if bundle is None else [bundle]
    competition = _competition_of(found[0]) if found else ""
    try:
        test = find_test(top, competition)
    except EntryError as error:
        raise DataError(str(error)) from None
    evaluation, solutions = (
        find_file(top, competition, "evaluation", kind) for kind in ("challenges", "solutions")
    )
    return Inputs(top, test, evaluation, solutions, found)


def _competition_of(bundle: Path) -> str:
    """The competition that a bundle is for; empty if its file does not say: a run needs no more of it."""
    with suppress(OSError, orjson.JSONDecodeError, KeyError, TypeError):
        return str(orjson.loads((bundle / BUNDLE_FILE).read_bytes())["competition"])
    return ""


def scratch_folder(root: Path) -> Path:
    """Where a run can put what is large and no output: below /kaggle/temp, or else the system's own place."""
    temp = root / "temp"
    parent = temp if temp.is_dir() and os.access(temp, os.W_OK) else Path(os.environ.get("TMPDIR", "/tmp"))
    return parent / f"arcpipe-{os.getpid()}"
