"""Where the parts of a report are: found beside the run, or given."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from arcpipe.errors import DataError
from arcpipe.runs import read_manifest


@dataclass(frozen=True)
class Sources:
    """The parts of a report; None for one that there is not.

    title: what is reported on. manifest: of the run folder `run`; {} without one. data: a dataset folder.
    challenges, solutions: files of ARC tasks. family: of the puzzles.
    """

    title: str
    run: Path | None = None
    manifest: dict[str, Any] | None = None
    predictions: Path | None = None
    submission: Path | None = None
    data: Path | None = None
    challenges: Path | None = None
    solutions: Path | None = None
    family: str = "arc"

    def missing(self) -> list[str]:
        """A sentence for each part that the page has to do without."""
        boards = self.family != "arc"
        known = self.data if boards else self.challenges
        lacks = {
            "There is no run folder yet, so no curves.": self.run is None,
            "Nothing says what the test inputs are, so none are shown: give --challenges, "
            "a challenges file or the dataset folder.": known is None,
            "There are no predictions, so no votes: give --predictions.": self.predictions is None,
            "There is no submission: the attempts are what a vote by count would submit.": not boards
            and self.submission is None
            and self.predictions is not None,
            "The right outputs are not known, so nothing says which attempts are right: give --solutions.": (
                not boards and self.challenges is not None and self.solutions is None
            ),
        }
        return [sentence for sentence, is_lacking in lacks.items() if is_lacking]


def find_sources(
    folder: Path,
    predictions: Path | None = None,
    submission: Path | None = None,
    challenges: Path | None = None,
    solutions: Path | None = None,
) -> Sources:
    """The parts of the report on a run folder or a quickstart's; what is given goes before what is found.

    Args:    challenges: a challenges file or a dataset folder.
    Raises:  DataError if `folder` is neither, or `predictions` or `challenges` is a folder of another kind.
    """
    found = _in_quickstart(folder) if _is_quickstart(folder) else _of_run(folder)
    found = replace(
        found, predictions=predictions or found.predictions, submission=submission or found.submission
    )
    if challenges is None and predictions is not None and predictions.is_dir():
        made_for = read_manifest(predictions, "predictions")
        data = _dataset(made_for.get("data"), made_for.get("dataset")) or found.data
    elif challenges is not None:
        data = challenges if challenges.is_dir() else None
    else:
        data = found.data
    if data is None:
        file = challenges
        known = None if file is None else _existing(_sibling(file))
        return replace(found, data=None, challenges=file, solutions=solutions or known)
    family = str(read_manifest(data, "dataset")["family"])
    if family != "arc":
        for name, path in (("submission", submission), ("solutions", solutions)):
            if path is not None:
                raise DataError(f"--{name} {path}: is for ARC tasks; {data} is of {family} boards")
        return replace(found, data=data, family=family)
    known = solutions or _existing(data / "solutions.json")
    return replace(found, data=data, challenges=data / "challenges.json", solutions=known)


def _is_quickstart(folder: Path) -> bool:
    try:
        read_manifest(folder, "quickstart")
    except DataError:
        return False
    return True


def _in_quickstart(folder: Path) -> Sources:
    run = _existing(folder / "run")
    return Sources(
        title=folder.resolve().name,
        run=run,
        manifest=read_manifest(run, "run") if run else None,
        predictions=_existing(folder / "predictions"),
        submission=_existing(folder / "submission.json"),
        data=_existing(folder / "data"),
    )


def _of_run(folder: Path) -> Sources:
    manifest = read_manifest(folder, "run")
    dataset = manifest.get("dataset") or {}
    data = _dataset(dataset.get("path"), dataset.get("fingerprint"))
    return Sources(title=folder.resolve().name, run=folder, manifest=manifest, data=data)


def _dataset(path: str | None, fingerprint: str | None) -> Path | None:
    """The dataset folder that a manifest names, if it is there and still the same."""
    if path is None:
        return None
    try:
        found = read_manifest(Path(path), "dataset")
    except DataError:
        return None
    return Path(path) if found.get("fingerprint") == fingerprint else None


def _sibling(challenges: Path) -> Path:
    """The solutions file that goes with a challenges file, by its name."""
    return challenges.with_name(challenges.name.replace("challenges", "solutions"))


def _existing(path: Path) -> Path | None:
    return path if path.exists() else None
