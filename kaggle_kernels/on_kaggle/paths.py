"""Where Kaggle puts what a notebook mounts: it has moved over the years, so it is searched for."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import orjson

from arcpipe.errors import DataError
from arcpipe.kaggle_kernels.on_kaggle.mounts import (
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
    """The mounted files below `top`.

    test: the test challenges.
    evaluation: the evaluation challenges; None if they are not there.
    evaluation_solutions: their solutions; None if they are not there.
    bundles: the folders of bundles, that to be used first.
    """

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
    folders = bundles(top) if bundle is None else [bundle]
    competition = ""
    # A run needs no more of bundle.json than this, and can do without.
    with suppress(OSError, orjson.JSONDecodeError, KeyError, TypeError, IndexError):
        competition = str(orjson.loads((folders[0] / BUNDLE_FILE).read_bytes())["competition"])
    try:
        test = find_test(top, competition)
    except EntryError as error:
        raise DataError(str(error)) from None
    evaluation, solutions = (
        find_file(top, competition, "evaluation", kind) for kind in ("challenges", "solutions")
    )
    return Inputs(top, test, evaluation, solutions, folders)


def scratch_folder(root: Path) -> Path:
    """Return a folder for what is large and no output: in /kaggle/temp, or else the system's own place."""
    temp = root / "temp"
    parent = temp if temp.is_dir() and os.access(temp, os.W_OK) else Path(os.environ.get("TMPDIR", "/tmp"))
    return parent / f"arcpipe-{os.getpid()}"
