"""The vote: candidates of one test input are grouped by grid and ranked."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from arcpipe.grid import Grid
from arcpipe.predictions import Prediction


@dataclass(eq=False)
class _Votes:
    """What speaks for one grid."""

    grid: Grid
    halt_probabilities: list[float] = field(default_factory=list)

    def rank(self) -> tuple[int, float]:
        """More votes first, then the higher mean halt probability."""
        count = len(self.halt_probabilities)
        return -count, -sum(self.halt_probabilities) / count


def rank_candidates(predictions: Iterable[Prediction]) -> dict[tuple[str, int], list[Grid]]:
    """The distinct candidate grids of each (task, test index), best first; ties keep first seen.

    A prediction without a grid has no vote: an empty grid cannot be submitted. The reference counts
    it, so there it can win.

    Source:  the reference's `evaluators/arc.py`: sorted by count, then mean halt probability.
    """
    votes: dict[tuple[str, int], dict[tuple[int, bytes], _Votes]] = {}
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
