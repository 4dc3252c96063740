"""Submissions side by side, and the best that a set of candidates could have scored."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from arcpipe.grid import Grid
from arcpipe.submissions.intervals import Interval, interval
from arcpipe.submissions.score import PassAtK, Score, pass_at_k, resampled_means

_RANKS = (1, 2, 10, 100, 1000)


@dataclass(frozen=True)
class Difference:
    """A submission's pass@2 and how much higher it is than the first's, with 95% paired intervals."""

    name: str
    pass_at_2: PassAtK
    over_tasks: float
    over_outputs: float
    interval_over_tasks: Interval
    interval_over_outputs: Interval


@dataclass(frozen=True)
class Comparison:
    """Which submissions solve which test outputs, at pass@2.

    outputs: of each test output, as `task[test]`, the names of the submissions that solve it.
    """

    names: tuple[str, ...]
    others: tuple[Difference, ...]
    outputs: dict[str, tuple[str, ...]]

    def groups(self) -> dict[str, int]:
        """The number of test outputs solved by all, by each alone, by some, by none."""
        counts = Counter(self.outputs.values())
        several = sum(n for who, n in counts.items() if 1 < len(who) < len(self.names))
        both = len(self.names) == 2
        return {
            f"by {'both' if both else 'all'}": counts[self.names],
            **({} if both else {"by several, not all": several}),
            **{f"only by {name}": counts[name,] for name in self.names},
            f"by {'neither' if both else 'none'}": counts[()],
        }


def compare_scores(scores: Mapping[str, Score]) -> Comparison:
    """The Comparison of two or more scores on the same set, by name; the first is the one to compare with."""
    assert len({score.set for score in scores.values()}) == 1, "scores of different sets"
    first, *others = scores.items()
    solved = {name: [output.solved for output in score.outputs] for name, score in scores.items()}
    places = [f"{output.task}[{output.test_index}]" for output in first[1].outputs]
    return Comparison(
        names=tuple(scores),
        others=tuple(_difference(name, score, first[1]) for name, score in others),
        outputs={
            place: tuple(name for name in scores if solved[name][number])
            for number, place in enumerate(places)
        },
    )


def _difference(name: str, score: Score, first: Score) -> Difference:
    resampled = resampled_means(_solved(score)) - resampled_means(_solved(first))
    return Difference(
        name=name,
        pass_at_2=score.pass_at_2,
        over_tasks=score.pass_at_2.mean_over_tasks - first.pass_at_2.mean_over_tasks,
        over_outputs=score.pass_at_2.mean_over_outputs - first.pass_at_2.mean_over_outputs,
        interval_over_tasks=interval(resampled[:, 0]),
        interval_over_outputs=interval(resampled[:, 1]),
    )


def _solved(score: Score) -> list[list[bool]]:
    return [[output.solved for output in task.outputs] for task in score.tasks.values()]


def comparison_text(comparison: Comparison) -> str:
    """The comparison as lines: what is solved by whom, then how far each is from the first."""
    width = max(map(len, comparison.groups()))
    lines = ["test outputs solved at pass@2"]
    lines += [f"{title:{width}}{count:>7}" for title, count in comparison.groups().items()]
    for other in comparison.others:
        over = {
            "tasks (Kaggle, ARC Prize)": (
                other.pass_at_2.mean_over_tasks,
                other.over_tasks,
                other.interval_over_tasks,
            ),
            "test outputs": (
                other.pass_at_2.mean_over_outputs,
                other.over_outputs,
                other.interval_over_outputs,
            ),
        }
        lines += ["", f"{other.name} against {comparison.names[0]}"]
        lines += [
            f"mean over {what:25}{mean:>9.2%}{100 * more:>+9.2f} points [{100 * low:+.1f}, {100 * high:+.1f}]"
            for what, (mean, more, (low, high)) in over.items()
        ]
    return "\n".join(lines)


@dataclass(frozen=True)
class Oracle:
    """What candidates would score if the solution were recognized wherever it is among the best k of them.

    No score: only two attempts can be submitted. at: pass@k by k, the last k being the longest list.
    num_candidates: distinct ones, over all test outputs.
    """

    num_candidates: int
    at: dict[int, PassAtK]


def oracle(
    ranked: Mapping[tuple[str, int], Sequence[Grid]], solutions: Mapping[str, Sequence[Grid]]
) -> Oracle:
    """The Oracle of ranked candidates by task id and test index; keys of other tasks are ignored."""
    ranks = [
        [_rank(ranked.get((task_id, index), ()), grid) for index, grid in enumerate(grids)]
        for task_id, grids in solutions.items()
    ]
    lengths = [
        len(ranked.get((task_id, index), ()))
        for task_id, grids in solutions.items()
        for index in range(len(grids))
    ]
    longest = max(max(lengths), 1)
    at = [k for k in _RANKS if k < longest] + [longest]
    return Oracle(sum(lengths), {k: pass_at_k([[rank < k for rank in task] for task in ranks]) for k in at})


def _rank(candidates: Sequence[Grid], solution: Grid) -> float:
    """Where the solution stands among the candidates, from 0; infinite if it does not."""
    found = (rank for rank, grid in enumerate(candidates) if np.array_equal(grid, solution))
    return next(found, np.inf)


def oracle_text(found: Oracle) -> str:
    """The oracle's scores as lines, called so."""
    lines = [f"oracle: the solution is among the best k of {found.num_candidates} distinct candidates"]
    lines.append(f"{'k':>7}{'over tasks':>13}{'over test outputs':>20}{'solved outputs':>17}")
    lines += [
        f"{k:>7}{score.mean_over_tasks:>13.2%}{score.mean_over_outputs:>20.2%}{score.solved_outputs:>17}"
        for k, score in found.at.items()
    ]
    return "\n".join(lines)
