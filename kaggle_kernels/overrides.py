"""The settings that the notebook overrides: for its number of processes, and after tries that failed."""

from collections.abc import Mapping, Sequence
from typing import Any

from arcpipe.kaggle_kernels.clock import Outcome
from arcpipe.train.config import AdaptSettings

_RATES = ("lr", "puzzle_lr", "muon_lr")
_DEFAULTS = AdaptSettings()


def adapt_overrides(
    table: Mapping[str, int], processes: int, halvings: int, units: int = 1
) -> dict[str, int]:
    """Return the overrides of the table [adapt] for these processes, with memory halved `halvings` times.

    Accumulation saves memory without changing the steps. The batch size changes only if it does not divide by
    the processes and parts, or leaves a process fewer than `units` samples.
    """
    batch = table.get("batch_size", _DEFAULTS.batch_size)
    parts = table.get("accumulation", _DEFAULTS.accumulation)
    smaller = parts * 2**halvings
    whole = processes * smaller
    fitting = max(-(-processes * units // whole) * whole, batch // whole * whole)
    changes = {"accumulation": (parts, smaller), "batch_size": (batch, fitting)}
    return {key: after for key, (before, after) in changes.items() if after != before}


def rate_overrides(table: Mapping[str, Any], failures: Sequence[Outcome]) -> dict[str, Any]:
    """Return the overrides of the table [adapt] that halve its learning rates for each divergence.

    If one was in float16, which overflows sooner, they compute in float32.

    Args:  failures: the tries so far.
    """
    divergences = sum(failure.not_finite for failure in failures)
    if not divergences:
        return {}
    rates = {name: table.get(name, getattr(_DEFAULTS, name)) / 2**divergences for name in _RATES}
    return rates | ({"precision": "float32"} if any(failure.in_float16 for failure in failures) else {})
