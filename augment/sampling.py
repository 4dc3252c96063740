"""How often training draws the tasks of each source."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from arcpipe.augment.settings import DataSettings
from arcpipe.augment.split import Selection
from arcpipe.errors import DataError
from arcpipe.puzzleset import Sampling


def sampling_of(selection: Selection, settings: DataSettings) -> Sampling:
    """Return how training is to draw the tasks of a selection.

    Raises:  DataError for a weight that is none, or shares that do not add up to 1.
    """
    shares = _shares(selection, settings.weights)
    runs = [(name, len(list(tasks))) for name, tasks in groupby(selection.sources)] if shares else []
    return Sampling(
        settings.pairs_per_draw,
        [(name, count, shares.get(name, 0.0)) for name, count in runs],
        settings.seed if settings.placement == "fixed" else None,
    )


def _shares(selection: Selection, weights: Sequence[str]) -> dict[str, float]:
    """Return the share of each source in the draws; none without weights."""
    counts = Counter(
        name
        for name, task in zip(selection.sources, selection.training, strict=True)
        if task.demonstrations or task.generated or any(pair.output is not None for pair in task.tests)
    )
    shares: dict[str, float] = {}
    for text in weights:
        name, _, number = text.rpartition("=")
        try:
            share = float(number)
        except ValueError:
            share = 0.0
        if not name or not 0 < share <= 1:
            raise DataError(f"weight {text!r}: expected SOURCE=SHARE, a share of all draws such as 0.2")
        if name not in counts or name in shares:
            why = "has a weight already" if name in shares else "no task of such a source trains"
            raise DataError(f"weight {text!r}: {why}; the sources: {', '.join(counts)}")
        shares[name] = share
    others, rest = {name: counts[name] for name in counts if name not in shares}, 1 - sum(shares.values())
    if shares and (rest < 1e-6 if others else abs(rest) > 1e-6):
        of_others = f"leave nothing to {', '.join(others)}" if others else "should be 1"
        raise DataError(f"the weights are {1 - rest:g} together, which {of_others}: change them")
    total = sum(others.values())
    return shares | {name: rest * count / total for name, count in others.items() if shares}
