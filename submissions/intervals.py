"""Bootstrap intervals: how far a score would move if the set had held other tasks of the same kind."""

import numpy as np
from numpy.typing import NDArray

NUM_RESAMPLES = 10_000
_SEED = 0
_PURPOSE = 8
_MOST_DRAWS = 4_000_000
_BOUNDS = (2.5, 97.5)

Interval = tuple[float, float]
"""The lower and upper bound of a 95% interval."""


def resample_tasks(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """The columns' sums over resampled tasks: (T, C) -> (10000, C).

    Whole tasks are drawn, T of them with replacement, so that the tests of a task stay together. The
    draws depend on T alone: sums of two submissions to one set belong together row by row.
    """
    num_tasks = len(columns)
    rng = np.random.default_rng([_SEED, _PURPOSE])
    lot = max(1, _MOST_DRAWS // num_tasks)
    sums = []
    for start in range(0, NUM_RESAMPLES, lot):
        count = min(lot, NUM_RESAMPLES - start)
        drawn = rng.integers(num_tasks, size=(count, num_tasks))
        drawn += num_tasks * np.arange(count)[:, None]
        times = np.bincount(drawn.ravel(), minlength=count * num_tasks).reshape(count, num_tasks)
        sums.append(times @ columns)
    return np.concatenate(sums)


def interval(values: NDArray[np.float64]) -> Interval:
    """The 95% percentile interval of resampled values.

    Where no task is solved, or every one, resampling has no spread: the interval is a point, not a proof.
    """
    low, high = np.percentile(values, _BOUNDS)
    return float(low), float(high)
