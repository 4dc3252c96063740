"""The rules of the vote against each other, on test inputs whose outputs are known."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arcpipe.grid import Grid
from arcpipe.infer.vote import RULES, Rule, Votes, rank

Resample = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From columns of numbers by task (tasks, C), their sums over resampled tasks (R, C), a row each."""
_MEANS = {"tasks": "mean over tasks (Kaggle, ARC Prize)", "outputs": "mean over test outputs"}
_INTERVAL = (2.5, 97.5)


@dataclass(frozen=True)
class Estimate:
    """A share 0..1 and the ends of its 95% bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:7.2%} [{self.low:6.2%},{self.high:7.2%}]"


@dataclass(frozen=True)
class RuleScore:
    """What a rule scores: pass@1 and pass@2 as means over tasks and over test outputs, and how much more
    its pass@2 is than that of the rule `count`, the intervals from the same resamples."""

    pass_at_1: dict[str, Estimate]
    pass_at_2: dict[str, Estimate]
    gain: dict[str, Estimate]


@dataclass(frozen=True)
class Comparison:
    """All rules on one set of candidates.

    oracle: the mean over tasks, and the share of test outputs, that some candidate solves. curve: pass@2
    of each rule as means over test outputs when only the first `votes` candidates of each test input count;
    curve_over_tasks: the same as means over tasks.
    """

    num_tasks: int
    num_outputs: int
    num_without_candidate: int
    rules: dict[str, RuleScore]
    oracle: dict[str, Estimate]
    votes: list[int]
    curve_over_tasks: dict[str, list[float]]
    curve: dict[str, list[float]]


def compare_rules(votes: Votes, solutions: Mapping[str, Sequence[Grid]], resample: Resample) -> Comparison:
    """The Comparison of all rules.

    Args:  solutions: the test outputs of every task of `votes.num_tests`.
    """
    right = _right(votes, solutions)
    sizes = np.array([*votes.num_tests.values()])
    oracle = np.zeros((sizes.sum(), 1), bool)
    oracle[votes.tests[right & (votes.count() > 0)]] = True
    solved = [_solved(votes, right, rule) for rule in RULES.values()]
    *of_rules, best = np.moveaxis(_means(np.concatenate([*solved, oracle], axis=1), sizes, resample), 2, 0)
    first, second = (dict(zip(RULES, of_rules[k::2], strict=True)) for k in (0, 1))
    steps = _doublings(int(votes.candidates.max(initial=0)))
    parts = [votes.where(votes.numbers < step) for step in steps]
    curves = np.array([_pass_at_2(part, right, sizes) for part in parts]).reshape(-1, 2, len(RULES))
    of_tasks, of_outputs = (dict(zip(RULES, curves[:, mean].T.tolist(), strict=True)) for mean in (0, 1))
    return Comparison(
        num_tasks=len(sizes),
        num_outputs=int(sizes.sum()),
        num_without_candidate=int((votes.candidates == 0).sum()),
        rules={
            name: RuleScore(
                pass_at_1=_estimates(first[name]),
                pass_at_2=_estimates(second[name]),
                gain=_estimates(second[name] - second["count"]),
            )
            for name in RULES
        },
        oracle=_estimates(best),
        votes=steps,
        curve_over_tasks=of_tasks,
        curve=of_outputs,
    )


def _right(votes: Votes, solutions: Mapping[str, Sequence[Grid]]) -> NDArray[np.bool_]:
    """Which entries (E,) are the output of their test input."""
    outputs = [grid for task in votes.num_tests for grid in solutions[task]]
    number = {cells: index for index, cells in enumerate(votes.grids)}
    cells = np.array([number.get(grid.tobytes(), -1) for grid in outputs], np.intp)
    widths = np.array([grid.shape[1] for grid in outputs], np.intp)
    same: NDArray[np.bool_] = (cells[votes.tests] == votes.cells) & (widths[votes.tests] == votes.widths)
    return same


def _solved(votes: Votes, right: NDArray[np.bool_], rule: Rule) -> NDArray[np.bool_]:
    """Which test inputs (T, 2) the first grid solves, and which one of the first two."""
    ranking = rank(votes, rule)
    solved = np.zeros((len(votes.candidates), 2), bool)
    for k in (1, 2):
        chosen = ranking.entries[ranking.places < k]
        solved[votes.tests[chosen[right[chosen]]], k - 1] = True
    return solved


def _pass_at_2(votes: Votes, right: NDArray[np.bool_], sizes: NDArray[np.intp]) -> NDArray[np.float64]:
    """The means over tasks and over outputs (2, rules) of each rule's pass@2."""
    solved = [_solved(votes, right, rule)[:, 1] for rule in RULES.values()]
    return _means(np.stack(solved, axis=1), sizes, lambda columns: columns[:0])[:, 0]


def _means(solved: NDArray[np.bool_], sizes: NDArray[np.intp], resample: Resample) -> NDArray[np.float64]:
    """The mean over tasks and over outputs (2, 1 + R, C): of all tasks, then of each resample.

    Args:  solved: (T, C). sizes: (tasks,) how many test outputs each has.
    """
    per_task = np.add.reduceat(solved.astype(np.float64), np.cumsum(sizes) - sizes)
    ones = np.ones((len(sizes), 1))
    columns = np.concatenate([ones, per_task / sizes[:, None], sizes[:, None], per_task], axis=1)
    sums = np.concatenate([columns.sum(axis=0, keepdims=True), resample(columns)])
    return np.stack([means[:, 1:] / means[:, :1] for means in np.split(sums, 2, axis=1)])


def _estimates(means: NDArray[np.float64]) -> dict[str, Estimate]:
    """By `_MEANS`, from the values (2, 1 + R) of all tasks and of each resample."""
    low, high = np.percentile(means[:, 1:], _INTERVAL, axis=1)
    return {
        name: Estimate(float(means[index, 0]), float(low[index]), float(high[index]))
        for index, name in enumerate(_MEANS)
    }


def _doublings(most: int) -> list[int]:
    """1, 2, 4, ... below `most`, and `most` itself."""
    return [*(2**power for power in range(max(most - 1, 0).bit_length())), *([most] if most else [])]


def comparison_text(comparison: Comparison) -> str:
    """The comparison as aligned tables."""
    lines = [
        f"{comparison.num_tasks} tasks, {comparison.num_outputs} test outputs; in brackets 95% intervals, "
        "bootstrapped over the tasks"
    ]
    if comparison.num_without_candidate:
        lines.append(f"{comparison.num_without_candidate} of them without a candidate, which counts as wrong")
    for mean, title in _MEANS.items():
        lines += ["", title]
        lines.append(f"{'rule':8}{'pass@1':>7}{'pass@2':>25}{'pass@2 above count':>37}")
        lines += [
            f"{name:8}{score.pass_at_1[mean]} {score.pass_at_2[mean]} {score.gain[mean]}"
            for name, score in comparison.rules.items()
        ]
        lines.append(f"{'oracle':33}{comparison.oracle[mean]}")
    curves = comparison.curve_over_tasks
    lines += ["", f"pass@2 by candidates of each test input, in their order: {_MEANS['tasks']}"]
    lines.append(f"{'votes':>8}" + "".join(f"{name:>9}" for name in curves))
    for index, first in enumerate(comparison.votes):
        lines.append(f"{first:>8}" + "".join(f"{curve[index]:9.2%}" for curve in curves.values()))
    return "\n".join(lines)
