"""The vote: the candidates of each test input are grouped by grid, and the grids are ranked.

N candidates are held as arrays. Their C distinct grids are the choices, numbered in order of appearance. A
rule computes sort keys of the choices from their candidates. The answer to a Sudoku or maze is the best one.
"""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from arcpipe.boards import is_valid
from arcpipe.codec import GridTable
from arcpipe.documents import read_json
from arcpipe.errors import DataError
from arcpipe.grid import MAX_SIDE, Grid
from arcpipe.infer.items import Doubles, numbered
from arcpipe.log import counted, logger
from arcpipe.predictions import shard_files
from arcpipe.puzzleset import PuzzleSet, ranks_of
from arcpipe.runs import known_manifest, read_manifest, write_bytes
from arcpipe.task import Task, kind_of, read_challenges

_MAX_WIDTH, _BOARDS_AT_ONCE = 256, 100_000
_PREDICTIONS = "expected a predictions folder or a Parquet file of predictions"


@dataclass(frozen=True, eq=False)
class Votes:
    """The candidates that hold a grid, in the order they were made, and their distinct grids.

    num_tests: how many test inputs each task has; they are numbered in this order, T in all.
    choices: (N,) the choice of each candidate.
    numbers: (N,) the place of each among all candidates of its test input, with a grid or without.
    checkpoints: (N,) the number of each candidate's checkpoint.
    halt: (N,) halt probabilities.
    log_probability: (N,).
    tests: (C,) the number of each choice's test input.
    cells: (C,) which of `grids` holds the cells of each choice.
    widths: (C,) of its grid; the same cells in another width are another choice.
    grids: the distinct cells of all choices, row by row.
    candidates: (T,) how many candidates each test input has, with a grid or without.
    without_grid: how many candidates hold no grid.
    others: how many test inputs have candidates but are not in `num_tests`.
    """

    num_tests: Mapping[str, int]
    choices: NDArray[np.intp]
    numbers: NDArray[np.intp]
    checkpoints: NDArray[np.intp]
    halt: NDArray[np.float32]
    log_probability: NDArray[np.float32]
    tests: NDArray[np.intp]
    cells: NDArray[np.intp]
    widths: NDArray[np.intp]
    grids: Sequence[bytes]
    candidates: NDArray[np.intp]
    without_grid: int
    others: int

    def where(self, mask: NDArray[np.bool_]) -> "Votes":
        """Return the votes of some candidates; all choices stay, with their numbers."""
        columns = ("choices", "numbers", "checkpoints", "halt", "log_probability")
        return replace(self, **{name: getattr(self, name)[mask] for name in columns})

    def grid(self, choice: int) -> Grid:
        """Return the grid of a choice."""
        cells = np.frombuffer(self.grids[self.cells[choice]], np.uint8)
        return cells.reshape(-1, self.widths[choice])

    def summary(self) -> tuple[dict[str, int], str]:
        """Return the counts of test inputs and candidates, by name and in a line."""
        none, grids = self.candidates == 0, np.bincount(self.tests, minlength=len(self.candidates))
        facts = {
            "test_inputs": len(none),
            "with_grid": int((grids > 0).sum()),
            "without_candidate": int(none.sum()),
            "candidates": int(self.candidates.sum()),
            "candidates_without_grid": self.without_grid,
            "other_test_inputs": self.others,
        }
        text = (
            f"{counted(len(none), 'test input')}, {facts['with_grid']} with a grid, "
            f"{facts['without_candidate']} without any candidate; {counted(facts['candidates'], 'candidate')}"
        )
        text += f", {self.without_grid} of which hold no grid and have no vote" if self.without_grid else ""
        return facts, text + (f"; ignored those for {self.others} other test inputs" if self.others else "")

    def shapes(self) -> NDArray[np.intp]:
        """Return height and width (C, 2) of the choices' grids."""
        sizes = np.array([len(cells) for cells in self.grids], np.intp)
        return np.stack([sizes[self.cells] // self.widths, self.widths], axis=1)

    def count(self) -> NDArray[np.intp]:
        """Return how many candidates (C,) each choice has."""
        return np.bincount(self.choices, minlength=len(self.tests))

    def total(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the sum (C,) of the values (N,) of each choice's candidates."""
        sums = np.bincount(self.choices, weights=values, minlength=len(self.tests))
        return sums.astype(np.float64)


def read_votes(tables: Iterable[pa.Table], num_tests: Mapping[str, int]) -> Votes:
    """Return the votes of tables of candidates.

    Args:  tables: from `arcpipe.predictions.read_candidates`.
           num_tests: how many test inputs each task has; candidates for other tasks are ignored.
    """
    task_numbers = {task: number for number, task in enumerate(num_tests)}
    counts = np.array([*num_tests.values()], np.intp)
    first, total = np.cumsum(counts) - counts, int(counts.sum())
    grids: dict[bytes, int] = {}
    checkpoints: dict[str, int] = {}
    others: set[tuple[int, int]] = set()

    parts = [[np.zeros(0, np.intp)] * 4 + [np.zeros(0, np.float32)] * 2]
    # Copies of what is needed from one batch after another: all tables together may not fit into memory.
    for batch in (batch for table in tables for batch in table.to_batches()):
        tasks, index = numbered(batch["task"], task_numbers), batch["test_index"].to_numpy()
        mine = (tasks < len(counts)) & (index < np.append(counts, 0)[tasks.clip(max=len(counts))])
        others.update(zip(tasks[~mine].tolist(), index[~mine].tolist(), strict=True))
        columns = [
            numbered(batch["cells"], grids),
            batch["width"].to_numpy().astype(np.intp),
            numbered(batch["checkpoint"], checkpoints),
            batch["halt_probability"].to_numpy(),
            batch["log_probability"].to_numpy(),
        ]
        parts.append([first[tasks[mine]] + index[mine], *(column[mine] for column in columns)])
    tests, cells, widths, checkpoint_ids, halt, log_probability = map(
        np.concatenate, zip(*parts, strict=True)
    )
    with_grid = widths > 0
    # One number for each pair of test input and grid.
    shape = (max(1, total), max(1, len(grids)), _MAX_WIDTH)
    keys = np.ravel_multi_index((tests[with_grid], cells[with_grid], widths[with_grid]), shape)
    choices = pa.array(keys).dictionary_encode()
    choice_tests, choice_cells, choice_widths = np.unravel_index(choices.dictionary.to_numpy(), shape)
    return Votes(
        num_tests=num_tests,
        choices=choices.indices.to_numpy().astype(np.intp),
        numbers=ranks_of(tests)[with_grid],
        checkpoints=checkpoint_ids[with_grid],
        halt=halt[with_grid],
        log_probability=log_probability[with_grid],
        tests=choice_tests,
        cells=choice_cells,
        widths=choice_widths,
        grids=list(grids),
        candidates=np.bincount(tests, minlength=total),
        without_grid=int((~with_grid).sum()),
        others=len(others),
    )


Keys = tuple[NDArray[Any], ...]
Rule = Callable[[Votes], Keys]
"""Returns the sort keys (C,) of the choices, the most significant first; higher is better."""


def by_count(votes: Votes) -> Keys:
    """Rank by the number of candidates, then by their mean halt probability.

    Source:  the official `evaluators/arc.py`; there an empty grid has a vote too, and can win.
    """
    count = votes.count()
    return count, votes.total(votes.halt) / count.clip(min=1)


def by_halt(votes: Votes) -> Keys:
    """Rank by the sum of the halt probabilities."""
    return votes.total(votes.halt), votes.count()


def by_score(votes: Votes) -> Keys:
    """Rank by the sum over the candidates of the geometric mean of their cells' probabilities.

    The product over the cells would favor small grids, and the best candidate alone would ignore agreement.
    """
    return votes.total(np.exp(votes.log_probability.astype(np.float64))), votes.count()


def by_rank(votes: Votes) -> Keys:
    """Rank by the sum over checkpoints of 1 / the place that the choice has by `count` in that checkpoint.

    Each checkpoint has the same weight, however many candidates it made; a single one ranks as by `count`.
    """
    total = np.zeros(len(votes.tests))
    for checkpoint in np.unique(votes.checkpoints):
        ranking = rank(votes.where(votes.checkpoints == checkpoint))
        total[ranking.choices] += 1 / (ranking.places + 1)
    return total, *by_count(votes)


RULES: Mapping[str, Rule] = {"count": by_count, "halt": by_halt, "score": by_score, "rank": by_rank}


@dataclass(frozen=True, eq=False)
class Ranking:
    """Ranked choices.

    choices: (M,) the choices that have a candidate, by test input, the best first.
    places: (M,) the place of each in its test input, from 0.
    """

    choices: NDArray[np.intp]
    places: NDArray[np.intp]


def rank(votes: Votes, rule: Rule = by_count, valid: NDArray[np.bool_] | None = None) -> Ranking:
    """Return the choices ranked by a rule; ties are broken by order of appearance.

    Args:  valid: (C,) choices to rank before all others of their test input.
    """
    present = np.flatnonzero(votes.count())
    keys = [*([] if valid is None else [valid]), *rule(votes)]
    falling = [-key[present].astype(np.float64) for key in reversed(keys)]
    order = present[np.lexsort((present, *falling, votes.tests[present]))]
    return Ranking(order, ranks_of(votes.tests[order]))


def choices_by_test(votes: Votes, ranking: Ranking) -> list[NDArray[np.intp]]:
    """Return the choices of each of the T test inputs, the best first."""
    tests = np.arange(1, len(votes.candidates))
    return np.split(ranking.choices, np.searchsorted(votes.tests[ranking.choices], tests))


def ranked_grids(
    votes: Votes, ranking: Ranking, most: int | None = None
) -> dict[tuple[str, int], list[Grid]]:
    """Return the distinct grids, the best first, of each (task, test index) that has a candidate.

    Args:  most: the maximum of grids of each.
    """
    names = [(task, index) for task, count in votes.num_tests.items() for index in range(count)]
    return {
        name: [votes.grid(choice) for choice in choices[:most]]
        for name, choices in zip(names, choices_by_test(votes, ranking), strict=True)
        if len(choices)
    }


class VotedGrid(NamedTuple):
    """A distinct grid, how many candidates equal it, and their mean halt probability."""

    grid: Grid
    votes: int
    halt_probability: float


def voted_grids(votes: Votes, ranking: Ranking, tests: Iterable[int]) -> list[list[VotedGrid]]:
    """Return the distinct grids of each of the test inputs with these numbers, the best first."""
    by_test, (count, halt) = choices_by_test(votes, ranking), by_count(votes)
    return [
        [VotedGrid(votes.grid(one), int(count[one]), float(halt[one])) for one in by_test[test]]
        for test in tests
    ]


def right_choices(votes: Votes, outputs: Sequence[Grid]) -> NDArray[np.bool_]:
    """Return which choices (C,) equal the output of their test input; there are T outputs."""
    number = {cells: index for index, cells in enumerate(votes.grids)}
    cells = np.array([number.get(grid.tobytes(), -1) for grid in outputs], np.intp)
    widths = np.array([grid.shape[1] for grid in outputs], np.intp)
    right: NDArray[np.bool_] = (cells[votes.tests] == votes.cells) & (widths[votes.tests] == votes.widths)
    return right


def solved_tests(votes: Votes, ranking: Ranking, right: NDArray[np.bool_], most: int) -> NDArray[np.bool_]:
    """Return which test inputs (T,) have a right choice among their `most` best."""
    best = ranking.choices[ranking.places < most]
    solved = np.zeros(len(votes.candidates), bool)
    solved[votes.tests[best[right[best]]]] = True
    return solved


def _read_vote_files(
    paths: Sequence[Path], num_tests: Mapping[str, int], where: Path, dataset: str | None = None
) -> Votes:
    """Read the votes of folders and files of predictions.

    Args:    num_tests: how many test inputs each task of `where` has.
             dataset: the fingerprint that the dataset of all folders must have; None for any.
    Raises:  DataError if a file is given twice, is of another kind or cannot be read, if two folders asked
             the same (see `Doubles`), or if all candidates are for test inputs that `where` lacks. No
             candidate at all is no error, because a short time limit leaves none.
    """
    shards: set[Path] = set()
    sources: list[tuple[Path, dict[str, Any]]] = []
    for path in paths:
        if path.suffix == ".json" and path.is_file():
            raise DataError(f"{path}: {_PREDICTIONS}, found {kind_of(read_json(path))}")
        files = {file.resolve() for file in shard_files(path)}
        if shards & files:
            raise DataError(f"{path}: given twice, its candidates would count twice")
        shards |= files
        made = read_manifest(path, "predictions") if path.is_dir() else {}
        if dataset is not None and made.get("dataset", dataset) != dataset:
            raise DataError(f"{path}: made for another dataset, {made.get('data')}; its boards are others")
        sources.append((path, made))
    doubles = Doubles()
    votes = read_votes(chain.from_iterable(doubles.distinct(*one) for one in sources), num_tests)
    if votes.others and not votes.candidates.any():
        raise DataError(f"no candidate is for a task of {where}: are these predictions of another set?")
    return votes


def read_arc_votes(
    paths: Sequence[Path], num_tests: Mapping[str, int], where: Path, tasks: Sequence[Task] = ()
) -> Votes:
    """Read the votes for ARC tasks; warn of folders that were made for other test inputs.

    Args:    tasks: those of `where`; without them only the numbers of test inputs are compared.
    Raises:  DataError as `_read_vote_files`, and for a grid that is too large.
    """
    votes = _read_vote_files(paths, num_tests, where)
    if (side := votes.shapes().max(initial=0)) > MAX_SIDE:
        names = ", ".join(map(str, paths))
        raise DataError(f"{names}: a candidate has a side of {side}, those of ARC have up to {MAX_SIDE}")
    own = _inputs_of(tasks)
    for path in paths:
        made = known_manifest(path, "predictions")
        data = Path(made.get("data", ""))
        asked: dict[str, list[Any]] = {}
        # Of a dataset that is gone or was replaced nothing is known.
        if known_manifest(data, "dataset").get("fingerprint", "") == made.get("dataset"):
            with suppress(DataError):
                asked = _inputs_of(read_challenges(data / "challenges.json"))
        others = [
            task_id
            for task_id, inputs in asked.items()
            if len(inputs) != num_tests.get(task_id, len(inputs)) or inputs != own.get(task_id, inputs)
        ]
        if others:
            logger.warning(
                "%s: its dataset has other test inputs than %s in %d of its %d tasks, such as %s: candidates "
                "may be counted for the wrong one, or be missing: predict the set that is voted on",
                path, where, len(others), len(asked), others[0],
            )  # fmt: skip
    return votes


def _inputs_of(tasks: Sequence[Task]) -> dict[str, list[Any]]:
    """Return the test inputs of each task as lists of rows."""
    return {task.id: [pair.input.tolist() for pair in task.tests] for task in tasks}


@dataclass(frozen=True, eq=False)
class BoardAnswers:
    """The answers to T Sudokus or mazes, and their votes.

    boards: (T, S, S), 0 without an answer.
    answered: (T,) whether there is an answer.
    valid: (T,) whether the answer follows the rules.
    """

    votes: Votes
    boards: NDArray[np.uint8]
    answered: NDArray[np.bool_]
    valid: NDArray[np.bool_]

    def scores(self, outputs: GridTable | None) -> dict[str, float]:
        """Return the shares of exact answers, of right cells and of valid answers, over the answered test
        inputs, of which there must be one; only that of valid ones if the outputs are not known."""
        scores = {}
        if outputs is not None:
            same = (self.boards == outputs.cells)[self.answered]
            scores = {
                "exact_accuracy": float(same.all(axis=(1, 2)).mean()),
                "cell_accuracy": float(same.mean()),
            }
        return scores | {"valid": float(self.valid[self.answered].mean())}

    def write(self, path: Path, puzzles: PuzzleSet) -> None:
        """Write a CSV file with the columns question and answer: the characters of a board, row by row; empty
        without an answer."""
        characters, count = np.array(list(puzzles.family.symbols)), puzzles.canvas**2
        questions, answers = (
            characters[boards].reshape(-1, count).view(f"U{count}")[:, 0]
            for boards in (puzzles.test_inputs.cells, self.boards)
        )
        columns = {"question": questions, "answer": np.where(self.answered, answers, "")}
        content = io.BytesIO()
        csv.write_csv(pa.table(columns), content, csv.WriteOptions(quoting_style="needed"))
        write_bytes(path, content.getvalue())


def read_boards(
    paths: Sequence[Path], puzzles: PuzzleSet, where: Path, rule: Rule = by_count
) -> BoardAnswers:
    """Read the votes for the Sudokus or mazes of the dataset folder `where`, and answer by `choose_boards`.

    Raises:  DataError as `_read_vote_files`, and for a candidate with another size or other cells.
    """
    num_tests = {puzzles.table.task_ids[0]: len(puzzles.test_tasks)}
    votes = _read_vote_files(paths, num_tests, where, read_manifest(where, "dataset")["fingerprint"])
    names, shapes = ", ".join(map(str, paths)), votes.shapes()
    other = (shapes != puzzles.canvas).any(axis=1)
    if other.any():
        height, width = shapes[other.argmax()]
        raise DataError(
            f"{names}: a candidate is {height} x {width}, the boards of {where} are {puzzles.canvas} wide"
        )
    most = max((max(grid) for grid in votes.grids if grid), default=0)
    if most >= puzzles.family.num_values:
        raise DataError(f"{names}: a candidate has a cell of {most}, which no {puzzles.family.name} has")
    return choose_boards(puzzles, votes, rule)


def choose_boards(puzzles: PuzzleSet, votes: Votes, rule: Rule = by_count) -> BoardAnswers:
    """Return the best choice of each test input by a rule of the vote.

    A Sudoku that breaks no rule of Sudoku ranks before one that does.
    """
    family, questions = puzzles.family.name, puzzles.test_inputs.cells

    def boards_of(choices: NDArray[np.intp]) -> NDArray[np.uint8]:
        cells = b"".join([votes.grids[number] for number in votes.cells[choices]])
        return np.frombuffer(cells, np.uint8).reshape(-1, *questions.shape[1:])

    valid = np.zeros(len(votes.tests), bool)
    for start in range(0, len(valid), _BOARDS_AT_ONCE):
        part = np.arange(start, min(start + _BOARDS_AT_ONCE, len(valid)))
        valid[part] = is_valid(family, questions[votes.tests[part]], boards_of(part))
    ranking = rank(votes, rule, valid if family == "sudoku" else None)
    best = ranking.choices[ranking.places == 0]
    tests = votes.tests[best]
    answers = BoardAnswers(votes, np.zeros_like(questions), *np.zeros((2, len(questions)), bool))
    answers.boards[tests], answers.answered[tests], answers.valid[tests] = boards_of(best), True, valid[best]
    return answers
