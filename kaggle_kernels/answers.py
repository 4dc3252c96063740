"""The submission of a Kaggle run: complete from the start, whatever the tasks are like."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from arcpipe.errors import DataError
from arcpipe.grid import as_grid
from arcpipe.kaggle_kernels.mounts import ATTEMPTS, NO_ANSWER, num_tests, unanswered
from arcpipe.runs import write_bytes
from arcpipe.task import Task, challenges_json, parse_task, read_json, read_json_objects

Answers = dict[str, list[dict[str, Any]]]
"""The content of submission.json: task id -> an entry with both attempts for each test input."""


@dataclass(frozen=True)
class Questions:
    """The tasks of a challenges file: those that can be read, why others cannot, and how many test inputs
    each of all has, in the file's order."""

    tasks: tuple[Task, ...]
    unreadable: dict[str, str]
    num_tests: dict[str, int]

    @property
    def num_outputs(self) -> int:
        """Test outputs to answer."""
        return sum(self.num_tests.values())

    def first(self, count: int) -> "Questions":
        """Those with only so many tasks, which can be read; those of several tests first."""
        tasks = tuple(sorted(self.tasks, key=lambda task: -len(task.tests))[:count])
        return Questions(tasks, {}, {task.id: len(task.tests) for task in tasks})


def read_questions(path: Path) -> Questions:
    """The tasks of a challenges file, one that is broken leaving the others as they are.

    Raises:  DataError if the file itself is no JSON object of tasks.
    """
    content, _ = read_json_objects(path)
    if not isinstance(content, dict) or not content:
        raise DataError(f"{path}: expected an object of tasks by id")
    tasks: list[Task] = []
    unreadable: dict[str, str] = {}
    for task_id, value in content.items():
        try:
            tasks.append(parse_task(task_id, value, path.name))
        except DataError as error:
            unreadable[task_id] = str(error)
    return Questions(tuple(tasks), unreadable, {name: num_tests(value) for name, value in content.items()})


def write_readable(questions: Questions, path: Path) -> None:
    """Write a challenges file of the tasks that can be read."""
    write_bytes(path, orjson.dumps(challenges_json(questions.tasks)))


def fallback(questions: Questions) -> Answers:
    """`[[0]]` twice for every test input."""
    return unanswered(questions.num_tests)


def voted(questions: Questions, path: Path) -> Answers:
    """The answers of a submission file, and the fallback for tasks that it leaves out.

    Raises:  DataError if it is damaged.
    """
    content = read_json(path)
    answers = fallback(questions)
    for task in questions.tasks:
        where = f"{path}: task {task.id}"
        try:
            entries = [{name: entry[name] for name in ATTEMPTS} for entry in content[task.id]]
        except (KeyError, TypeError):
            raise DataError(f"{where}: is missing or broken") from None
        for entry in entries:
            for name in ATTEMPTS:
                as_grid(entry[name], f"{where}.{name}")
        if len(entries) != len(task.tests):
            raise DataError(f"{where}: {len(entries)} entries for {len(task.tests)} test inputs")
        answers[task.id] = entries
    return answers


def num_answered(answers: Answers) -> int:
    """Test outputs with another answer than the fallback."""
    return sum(
        any(entry[name] != NO_ANSWER for name in ATTEMPTS)
        for entries in answers.values()
        for entry in entries
    )


def write_answers(answers: Answers, path: Path) -> None:
    """Write submission.json in the place of the one before, whole or not at all."""
    write_bytes(path, orjson.dumps(answers, option=orjson.OPT_APPEND_NEWLINE))
