"""Task and Pair, and their JSON forms: ARC task files, Kaggle's challenges and solutions files."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from arcpipe.documents import read_json
from arcpipe.errors import DataError
from arcpipe.grid import Grid, as_grid

KINDS = TASK, CHALLENGES, SOLUTIONS, SUBMISSION = (
    "the file of one task", "a challenges file", "a solutions file", "a submission",
)  # fmt: skip


@dataclass(frozen=True, eq=False, slots=True)
class Pair:
    """An input grid and its output; `output` is None if it is hidden."""

    input: Grid
    output: Grid | None


@dataclass(frozen=True, eq=False, slots=True)
class Task:
    """An ARC task: demonstrations with known outputs, and tests whose outputs may be hidden.

    generated: more pairs from a generator, which may be used for training and are not part of the task.
    """

    id: str
    demonstrations: tuple[Pair, ...]
    tests: tuple[Pair, ...]
    generated: tuple[Pair, ...] = ()

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Return all pairs: demonstrations, tests, generated."""
        return (*self.demonstrations, *self.tests, *self.generated)


def parse_task(task_id: str, value: Any, where: str) -> Task:
    """Return the Task of `{"train": [PAIR], "test": [PAIR]}`; DataError names `where`, task and field."""
    place = f"{where}: task {task_id}"
    if not isinstance(value, dict) or not {"train", "test"} <= value.keys():
        raise DataError(f"{place}: expected an object with the fields 'train' and 'test'")
    return Task(
        task_id,
        demonstrations=parse_pairs(value["train"], f"{place}, train"),
        tests=parse_pairs(value["test"], f"{place}, test", output_required=False),
    )


def parse_pairs(value: Any, where: str, *, output_required: bool = True) -> tuple[Pair, ...]:
    """Return the pairs of a list of `{"input", "output"}`; DataError names `where`, pair and field."""
    if not isinstance(value, list) or not value:
        raise DataError(f"{where}: expected a non-empty list of pairs")
    pairs = []
    for index, pair in enumerate(value):
        place = f"{where}[{index}]"
        if not isinstance(pair, dict) or "input" not in pair:
            raise DataError(f"{place}: expected an object with the field 'input'")
        output = pair.get("output")
        if output is None and output_required:
            raise DataError(f"{place}: a demonstration needs an 'output'")
        grid = as_grid(pair["input"], f"{place}.input")
        pairs.append(Pair(grid, None if output is None else as_grid(output, f"{place}.output")))
    return tuple(pairs)


def kind_of(content: Any) -> str:
    """Return the kind of a JSON file, by its content."""
    if isinstance(content, dict) and content:
        first = next(iter(content.values()))
        if {"train", "test"} <= content.keys():
            return TASK
        if isinstance(first, dict) and {"train", "test"} <= first.keys():
            return CHALLENGES
        inner = first[0] if isinstance(first, list) and first else None
        if isinstance(inner, dict) and "attempt_1" in inner:
            return SUBMISSION
        # A list of grids, not of pairs of grids.
        row = inner[0] if isinstance(inner, list) and inner else None
        if isinstance(row, list) and row and isinstance(row[0], int):
            return SOLUTIONS
    return "another JSON file"


def refuse_other_kinds(path: Path, content: Any, expected: str) -> None:
    """Raise DataError if a JSON file is of one of the other kinds."""
    kind = kind_of(content)
    if kind in KINDS and kind != expected:
        raise DataError(f"{path}: expected {expected}, found {kind}")


def read_challenges(path: Path) -> list[Task]:
    """Return the tasks of a Kaggle challenges file `{task id: task}`, in the file's order."""
    content = read_json(path)
    refuse_other_kinds(path, content, CHALLENGES)
    if not isinstance(content, dict) or not content:
        raise DataError(f"{path}: expected an object of tasks by id")
    return [parse_task(task_id, value, str(path)) for task_id, value in content.items()]


def read_solutions(path: Path) -> dict[str, list[Grid]]:
    """Return the test outputs of a Kaggle solutions file `{task id: [grid, ...]}`, in the file's order."""
    content = read_json(path)
    refuse_other_kinds(path, content, SOLUTIONS)
    if not isinstance(content, dict) or not content:
        raise DataError(f"{path}: expected an object of test outputs by task id")
    solutions = {}
    for task_id, grids in content.items():
        if not isinstance(grids, list) or not grids:
            raise DataError(f"{path}: task {task_id}: expected a non-empty list of grids")
        solutions[task_id] = [
            as_grid(grid, f"{path}: task {task_id}, output[{index}]") for index, grid in enumerate(grids)
        ]
    return solutions


def solutions_beside(challenges: Path) -> Path:
    """Return the path of the solutions file that belongs to a challenges file, whether it exists or not."""
    return challenges.with_name(f"{challenges.stem.removesuffix('challenges')}solutions.json")


def with_solutions(tasks: Iterable[Task], solutions: dict[str, list[Grid]], where: str) -> list[Task]:
    """Return the tasks with their test outputs filled in.

    Raises:  DataError if a task has no solution or another number of test inputs.
    """
    solved = []
    for task in tasks:
        if task.id not in solutions:
            raise DataError(f"{where}: task {task.id} has no solution")
        outputs = solutions[task.id]
        if len(outputs) != len(task.tests):
            raise DataError(
                f"{where}: task {task.id}: {len(outputs)} outputs for {len(task.tests)} test inputs"
            )
        tests = tuple(Pair(pair.input, output) for pair, output in zip(task.tests, outputs, strict=True))
        solved.append(replace(task, tests=tests))
    return solved


def coverage_text(answered: int, total: int) -> str:
    """Return a text on how many test inputs have a candidate; scores of predictions count only these."""
    if not answered:
        return f"no score, none of {total} test inputs answered"
    if answered == total:
        return f"all {total} test inputs answered"
    return f"{answered} of {total} test inputs answered ({answered / total:.1%}), the scores are of these"


def challenges_json(tasks: Iterable[Task]) -> dict[str, Any]:
    """Return the content of Kaggle's challenges file: the tasks without test outputs."""
    return {
        task.id: {
            "train": [_pair_json(pair) for pair in task.demonstrations],
            "test": [{"input": pair.input.tolist()} for pair in task.tests],
        }
        for task in tasks
    }


def _pair_json(pair: Pair) -> dict[str, Any]:
    assert pair.output is not None, "the output is hidden"
    return {"input": pair.input.tolist(), "output": pair.output.tolist()}


def solutions_json(tasks: Iterable[Task]) -> dict[str, Any]:
    """Return the content of Kaggle's solutions file: the test outputs, which must be known."""
    return {task.id: [_pair_json(pair)["output"] for pair in task.tests] for task in tasks}
