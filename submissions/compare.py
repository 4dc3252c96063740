"""Merging submissions, comparing them and the rules of the vote, and the oracle score."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from arcpipe.augment.sources import read_outputs
from arcpipe.errors import DataError
from arcpipe.grid import Grid
from arcpipe.infer import vote
from arcpipe.runs import MANIFEST, file_hash
from arcpipe.submissions.ledger import Entry
from arcpipe.submissions.score import (
    Interval,
    PassAtK,
    Score,
    interval,
    mended_solutions,
    passes,
    resampled_means,
    score_submission,
)
from arcpipe.submissions.submission import (
    ATTEMPTS,
    Ranked,
    Submission,
    build_submission,
    distinct_attempts,
    read_results,
)
from arcpipe.task import Task, coverage_text

_MEANS = {"tasks": "mean over tasks (Kaggle, ARC Prize)", "outputs": "mean over test outputs"}
_ORACLE_RANKS = (1, 2, 10, 100, 1000)
_MOST_RANKED = 1000

MergeRule = Literal["order", "count"]


def read_ranked(path: Path, tasks: Sequence[Task], challenges: Path) -> Ranked:
    """Read the attempts of a submission or published results, or the 1000 best candidates of predictions.

    Args:    challenges: the file of the tasks, for messages.
    Raises:  DataError if `path` is none of these, or answers another set.
    """
    num_tests = {task.id: len(task.tests) for task in tasks}
    if (path / MANIFEST).exists() or path.suffix == ".parquet":
        votes = vote.read_arc_votes([path], num_tests, challenges, tasks)
        return vote.ranked_grids(votes, vote.rank(votes), _MOST_RANKED)
    return distinct_attempts(read_results(path, sum(num_tests.values())), tasks, path)


@dataclass
class Contribution:
    """The contribution of one source to a merged submission.

    answered: test inputs for which it has a candidate.
    first, second: first and second attempts that it ranks highest of all sources.
    alone: attempts that no other source has as a candidate.
    """

    answered: int = 0
    first: int = 0
    second: int = 0
    alone: int = 0


def merge(
    sources: Mapping[Path, Ranked], tasks: Sequence[Task], rule: MergeRule
) -> tuple[Submission, dict[Path, Contribution]]:
    """Merge sources into one submission for exactly these tasks; return it and each source's contribution.

    Each test input is decided on its own, so sources may answer different tasks. `order` sorts candidates by
    rank, then by source. `count` first sorts by the number of sources that would submit the grid.

    Raises:  DataError if a source has no candidate for any of the tasks.
    """
    contributions = {path: Contribution() for path in sources}
    by_source = list(contributions.values())
    merged = {}
    for key in [(task.id, index) for task in tasks for index in range(len(task.tests))]:
        lists = [ranked.get(key, ()) for ranked in sources.values()]
        ordered = _sort_grids(lists, rule)
        merged[key] = [lists[source][place] for (place, source), *_ in ordered]
        for contribution, grids in zip(by_source, lists, strict=True):
            contribution.answered += bool(grids)
        for place, holders in enumerate(ordered[: len(ATTEMPTS)]):
            contribution = by_source[holders[0][1]]
            contribution.first += place == 0
            contribution.second += place == 1
            contribution.alone += len(holders) == 1
    for path, contribution in contributions.items():
        if not contribution.answered:
            raise DataError(f"{path}: no candidate for a task of the challenges: is it of another set?")
    return build_submission(tasks, merged), contributions


def _sort_grids(lists: Sequence[Sequence[Grid]], rule: MergeRule) -> list[list[tuple[int, int]]]:
    """Return the holders of each distinct grid, the best grid by `rule` first.

    A holder is (place of the grid in a list, number of the list); the best holder comes first.
    """
    holders_of: dict[tuple[int, bytes], list[tuple[int, int]]] = defaultdict(list)
    for source, grids in enumerate(lists):
        for place, grid in enumerate(grids):
            holders_of[len(grid), grid.tobytes()].append((place, source))
    by_order = sorted(sorted(holders) for holders in holders_of.values())
    if rule == "order":
        return by_order
    # The number of sources that would submit the grid.
    return sorted(by_order, key=lambda holders: -sum(place < len(ATTEMPTS) for place, _ in holders))


@dataclass(frozen=True)
class Difference:
    """The pass@2 of a submission minus that of the first one, with paired 95% intervals.

    is_real: the interval over tasks excludes 0.
    """

    name: str
    pass_at_2: PassAtK
    over_tasks: float
    over_outputs: float
    interval_over_tasks: Interval
    interval_over_outputs: Interval
    is_real: bool


@dataclass(frozen=True)
class Comparison:
    """A comparison of submissions at pass@2. As text: counts of solved test outputs, then differences.

    others: the difference of each later submission from the first.
    outputs: the names of the submissions that solve each test output, by `task[test]`.
    """

    names: tuple[str, ...]
    others: tuple[Difference, ...]
    outputs: dict[str, tuple[str, ...]]

    def __str__(self) -> str:
        counts, both = Counter(self.outputs.values()), len(self.names) == 2
        several = sum(n for who, n in counts.items() if 1 < len(who) < len(self.names))
        groups = {
            f"by {'both' if both else 'all'}": counts[self.names],
            **({} if both else {"by several, not all": several}),
            **{f"only by {name}": counts[name,] for name in self.names},
            f"by {'neither' if both else 'none'}": counts[()],
        }
        width = max(map(len, groups))
        lines = ["test outputs solved at pass@2"]
        lines += [f"{title:{width}}{count:>7}" for title, count in groups.items()]
        for other in self.others:
            score = other.pass_at_2
            rows = {
                "tasks": (score.mean_over_tasks, other.over_tasks, other.interval_over_tasks),
                "outputs": (score.mean_over_outputs, other.over_outputs, other.interval_over_outputs),
            }
            lines += ["", f"{other.name} against {self.names[0]}"]
            for name, (mean, more, (low, high)) in rows.items():
                points = f"{100 * more:>+9.2f} points [{100 * low:+.1f}, {100 * high:+.1f}]"
                lines.append(f"{_MEANS[name]:35}{mean:>9.2%}{points}")
            verdict, side = ("a real", "outside") if other.is_real else ("no real", "inside")
            lines.append(f"{verdict} difference: 0 is {side} the 95% interval over tasks")
        return "\n".join(lines)


def compare_scores(scores: Mapping[str, Score]) -> Comparison:
    """Compare scores on the same set, by name, with the first of them."""
    names, first = tuple(scores), next(iter(scores.values()))
    solved = np.array([[output.solved for output in score.outputs] for score in scores.values()]).T
    means = resampled_means(solved, [task.tests for task in first.tasks.values()])
    others = []
    for name, (tasks, outputs, _) in zip(names[1:], means[1:] - means[0], strict=True):
        low, high = interval(tasks)
        others.append(Difference(
            name=name, pass_at_2=scores[name].pass_at_2, over_tasks=float(tasks[0]),
            over_outputs=float(outputs[0]), interval_over_tasks=(low, high),
            interval_over_outputs=interval(outputs), is_real=low > 0 or high < 0,
        ))  # fmt: skip
    solvers = {
        f"{output.task}[{output.test_index}]": tuple(np.array(names)[who].tolist())
        for output, who in zip(first.outputs, solved, strict=True)
    }
    return Comparison(names, tuple(others), solvers)


def compare_files(one: Entry, other: Entry) -> Comparison:
    """Compare two entries task by task: score their files again on the set on which both were scored last,
    without the tasks that were left out and with the corrections.

    Raises:  DataError if there is no such set, or a file is missing or has changed.
    """
    sets = [_scored_set(score) for score in other.scores]
    both = [score for score in one.scores if _scored_set(score) in sets]
    if not both:
        raise DataError("they were not scored on one set with the same --leave-out and --corrections")
    last = both[-1]
    if last.get("corrected") and "corrections" not in last:
        raise DataError("an older version did not enter where their corrections come from: score both again")
    whole = read_outputs(Path(last["solutions"]))
    outputs = mended_solutions(whole, last.get("left_out", []), last.get("corrections", []))
    scores = {}
    for entry in (one, other):
        for path in map(Path, entry.files):
            with suppress(OSError):
                if file_hash(path) == entry.sha256:
                    break
        else:
            raise DataError(f"{', '.join(entry.files)}: gone, or changed since it was entered")
        scores[entry.sha256[:8]] = score_submission(read_results(path), outputs, str(path), whole)
    return compare_scores(scores)


def _scored_set(score: Mapping[str, Any]) -> list[Any]:
    """Return what two scores have in common if they are of the same outputs."""
    return [score.get(name) for name in ("fingerprint", "left_out", "corrected", "corrections")]


@dataclass(frozen=True)
class Oracle:
    """The score of candidates if every solution among the best k of a test output were recognized.

    Only an upper bound: a submission has two attempts.

    num_candidates: distinct candidates over all test outputs.
    at: pass@k by k; the last k is the largest number of distinct candidates of a test output.
    """

    num_candidates: int
    at: dict[int, PassAtK]

    def __str__(self) -> str:
        lines = [f"oracle: the solution is among the best k of {self.num_candidates} distinct candidates"]
        lines.append(f"{'k':>7}{'over tasks':>13}{'over test outputs':>20}{'solved outputs':>17}")
        lines += [
            f"{k:>7}{score.mean_over_tasks:>13.2%}{score.mean_over_outputs:>20.2%}{score.solved_outputs:>17}"
            for k, score in self.at.items()
        ]
        return "\n".join(lines)


def oracle(votes: vote.Votes, ranking: vote.Ranking, solutions: Mapping[str, Sequence[Grid]]) -> Oracle:
    """Compute the Oracle of ranked candidates; `solutions` has the outputs of each task of the votes."""
    right = vote.right_choices(votes, [grid for task in votes.num_tests for grid in solutions[task]])
    longest = int(ranking.places.max(initial=0)) + 1
    at = [k for k in _ORACLE_RANKS if k < longest] + [longest]
    solved = np.stack([vote.solved_tests(votes, ranking, right, k) for k in at], axis=1)
    scores = passes(solved, [*votes.num_tests.values()])
    return Oracle(len(ranking.choices), dict(zip(at, scores, strict=True)))


@dataclass(frozen=True)
class Estimate:
    """A share 0..1 and the ends of its 95% bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:7.2%} [{self.low:6.1%},{self.high:7.1%}]"


Estimates = dict[str, Estimate]
"""A share as the mean over `tasks` and as the mean over test `outputs`."""


@dataclass(frozen=True)
class RuleComparison:
    """Scores of all rules of the vote on the same candidates, over the test outputs that have a candidate.

    num_without_candidate: test outputs without a candidate.
    rules: `pass_at_1`, `pass_at_2` and `gain` of each rule; the gain is its pass@2 minus that of `count`,
        in the same resamples.
    oracle: the share of tasks, and of test outputs, that any candidate solves.
    votes: numbers of candidates per test input, one per point of the curves.
    curve: pass@2 of each rule, as mean over test outputs, if only the first candidates vote.
    curve_over_tasks: the same as mean over tasks.
    """

    num_tasks: int
    num_outputs: int
    num_without_candidate: int
    rules: dict[str, dict[str, Estimates]]
    oracle: Estimates
    votes: list[int]
    curve_over_tasks: dict[str, list[float]]
    curve: dict[str, list[float]]

    def __str__(self) -> str:
        lines = [
            f"{self.num_tasks} tasks, {self.num_outputs} test outputs; in brackets 95% intervals, "
            "bootstrapped over the tasks"
        ]
        if self.num_without_candidate:
            lines.append(coverage_text(self.num_outputs, self.num_outputs + self.num_without_candidate))
        for mean, title in _MEANS.items():
            lines += ["", title, f"{'rule':6}{'pass@1':>7}{'pass@2':>25}{'pass@2 above count':>37}"]
            for name, scores in self.rules.items():
                lines.append(f"{name:6}{' '.join(str(estimates[mean]) for estimates in scores.values())}")
            lines.append(f"{'oracle':31}{self.oracle[mean]}")
        curves = self.curve_over_tasks
        lines += ["", "pass@2 by candidates of each test input, in their order, mean over tasks"]
        lines.append(f"{'votes':>8}" + "".join(f"{name:>9}" for name in curves))
        for index, first in enumerate(self.votes):
            lines.append(f"{first:>8}" + "".join(f"{curve[index]:9.2%}" for curve in curves.values()))
        return "\n".join(lines)


def compare_rules(votes: vote.Votes, solutions: Mapping[str, Sequence[Grid]]) -> RuleComparison:
    """Compare all rules of the vote over the test outputs that have a candidate; at least one must.

    Args:  solutions: the outputs of each task of the votes.
    """
    right = vote.right_choices(votes, [grid for task in votes.num_tests for grid in solutions[task]])
    most = int(votes.candidates.max())
    # 1, 2, 4, ... candidates, then all.
    steps = [*(2**power for power in range((most - 1).bit_length())), most]
    ranked = {name: vote.rank(votes, rule) for name, rule in vote.RULES.items()}
    solved = {
        (name, k): vote.solved_tests(votes, ranked[name], right, k) for name in vote.RULES for k in (1, 2)
    }
    solved["oracle", 0] = vote.solved_tests(votes, ranked["count"], right, len(right))
    for step in steps:
        first = votes.where(votes.numbers < step)
        for name, rule in vote.RULES.items():
            solved[f"{name} by votes", step] = vote.solved_tests(first, vote.rank(first, rule), right, 2)
    answered, num_tests = votes.candidates > 0, [*votes.num_tests.values()]
    counts = np.bincount(np.repeat(np.arange(len(num_tests)), num_tests)[answered])
    sizes = counts[counts > 0].tolist()
    columns = np.stack([*solved.values()], axis=1)[answered]
    means = dict(zip(solved, resampled_means(columns, sizes), strict=True))
    over_tasks, over_outputs = (
        {name: [float(means[f"{name} by votes", step][mean, 0]) for step in steps] for name in vote.RULES}
        for mean in (0, 1)
    )
    rules = {
        name: {
            "pass_at_1": _estimates(means[name, 1]),
            "pass_at_2": _estimates(means[name, 2]),
            "gain": _estimates(means[name, 2] - means["count", 2]),
        }
        for name in vote.RULES
    }
    return RuleComparison(
        num_tasks=len(sizes), num_outputs=sum(sizes), num_without_candidate=int((~answered).sum()),
        rules=rules, oracle=_estimates(means["oracle", 0]), votes=steps, curve_over_tasks=over_tasks,
        curve=over_outputs,
    )  # fmt: skip


def _estimates(means: NDArray[np.float64]) -> Estimates:
    """Return the estimates of the means (3, 1 + R) from `resampled_means`."""
    return {
        name: Estimate(float(mean[0]), *interval(mean)) for name, mean in zip(_MEANS, means, strict=False)
    }
