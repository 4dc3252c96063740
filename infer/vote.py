"""The vote: candidates of one test input are grouped by grid and ranked."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from arcpipe.errors import DataError
from arcpipe.grid import Grid
from arcpipe.predictions import Prediction, predictions_file, read_predictions

TestKey = tuple[str, int]
"""A test input: task id and test index."""


@dataclass(eq=False)
class _Votes:
    """What speaks for one grid."""

    grid: Grid
    halt_probabilities: list[float] = field(default_factory=list)

    def rank(self) -> tuple[int, float]:
        """More votes first, then the higher mean halt probability."""
        count = len(self.halt_probabilities)
        return -count, -sum(self.halt_probabilities) / count


def rank_candidates(predictions: Iterable[Prediction]) -> dict[TestKey, list[Grid]]:
    """The distinct candidate grids of each (task, test index), best first; ties keep first seen.

    A prediction without a grid has no vote: an empty grid cannot be submitted. The reference counts
    it, so there it can win.

    Source:  the reference's `evaluators/arc.py`: sorted by count, then mean halt probability.
    """
    votes: dict[TestKey, dict[tuple[int, bytes], _Votes]] = {}
    for prediction in predictions:
        if prediction.grid is None:
            continue
        grids = votes.setdefault((prediction.task, prediction.test_index), {})
        key = (prediction.grid.shape[0], prediction.grid.tobytes())
        grids.setdefault(key, _Votes(prediction.grid)).halt_probabilities.append(prediction.halt_probability)
    return {
        where: [votes_for.grid for votes_for in sorted(grids.values(), key=_Votes.rank)]
        for where, grids in votes.items()
    }


def rank_files(
    paths: Sequence[Path], wanted: Collection[TestKey], challenges: Path
) -> tuple[dict[TestKey, list[Grid]], int]:
    """The ranking of the candidates in all the files, and how many unwanted test inputs it has.

    Args:    wanted: the test inputs of `challenges`.
    Raises:  DataError if a file is given twice or cannot be read, or no candidate is for a wanted test
             input.
    """
    files = [predictions_file(path).resolve() for path in paths]
    twice = next((path for path, file in zip(paths, files, strict=True) if files.count(file) > 1), None)
    if twice is not None:
        raise DataError(f"{twice}: given twice, its candidates would count twice")
    seen: set[TestKey] = set()
    ranked = rank_candidates(_noting((p for path in paths for p in read_predictions(path)), seen))
    unwanted = seen.difference(wanted)
    if len(unwanted) == len(seen):
        raise DataError(f"no candidate is for a task of {challenges}: are these predictions of another set?")
    return ranked, len(unwanted)


def _noting(predictions: Iterable[Prediction], seen: set[TestKey]) -> Iterator[Prediction]:
    """The predictions as they are; their test inputs are added to `seen`, with a grid or without."""
    for prediction in predictions:
        seen.add((prediction.task, prediction.test_index))
        yield prediction
