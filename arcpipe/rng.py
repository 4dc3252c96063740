"""Random bits by counter.

A draw is a function of a seed and of the numbers of what it is for, never of the draws before it: an epoch of
the training stream (`batches.py`), a shuffle of a board, the noise of a rollout. So any one of them is found
without the others, and is the same for any number of processes.
"""

import numpy as np
from numpy.typing import NDArray

# The increment of SplitMix64's state and the factors of its two mixing steps.
_STEP, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def random_bits(seed: int, *counters: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return 64 random bits for each entry of the counters, broadcast: a function of seed and counters alone.

    Args:    seed: below 2**64.
    Source:  the mixing of SplitMix64 (Steele, Lea, Flood 2014), once for the seed and each counter.
    """
    state = _mix(np.array([seed], np.uint64))
    for counter in counters:
        state = _mix(state ^ counter)
    return state


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = state + np.uint64(_STEP)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(_FIRST)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(_SECOND)
    return state ^ (state >> np.uint64(31))
