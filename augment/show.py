"""What `arcpipe show` prints of a task, and where it looks for one."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from arcpipe.augment.arc import read_source
from arcpipe.errors import DataError
from arcpipe.grid import draw
from arcpipe.runs import read_manifest
from arcpipe.task import Pair, Task, read_challenges


def task_text(task: Task, color: bool) -> str:
    """The task as text: its id and counts, its demonstrations, its tests; shapes are height x width.

    Args:  color: draw cells as colored blocks (24-bit ANSI); otherwise as digits.
    """
    counts = f"{_count(len(task.demonstrations), 'demonstration')}, {_count(len(task.tests), 'test')}"
    parts = [f"{task.id}: {counts}"]
    for name, pairs in (("demonstration", task.demonstrations), ("test", task.tests)):
        parts += [_pair_text(f"{name} {number}", pair, color) for number, pair in enumerate(pairs, 1)]
    return "\n\n".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _pair_text(label: str, pair: Pair, color: bool) -> str:
    input_title = "input {}x{}".format(*pair.input.shape)
    if pair.output is None:
        return f"{label}, output hidden\n{draw([pair.input], [input_title], color)}"
    titles = [input_title, "-> output {}x{}".format(*pair.output.shape)]
    return f"{label}\n{draw([pair.input, pair.output], titles, color)}"


def find_task(target: str, source_specs: Sequence[str]) -> Task:
    """The task in the file `target`, or the one with that id in the first source that has it.

    Args:    target: a path (it ends in `.json` or has a slash) or a task id.
             source_specs: what to search for an id, as `read_source` takes them.
    Raises:  DataError if the file holds no task or several, or if no source has the id.
    """
    if target.endswith(".json") or "/" in target:
        tasks = read_source(target).tasks
        if len(tasks) != 1:
            raise DataError(f"{target}: holds {len(tasks)} tasks, name one by its id and this as the source")
        return tasks[0]
    known: list[str] = []
    for spec in source_specs:
        tasks_by_id = {task.id: task for task in read_source(spec).tasks}
        if target in tasks_by_id:
            return tasks_by_id[target]
        known += tasks_by_id
    # Without a cutoff: even the nearest of strangers shows what an id looks like.
    nearest = difflib.get_close_matches(target, sorted(set(known)), n=3, cutoff=0)
    raise DataError(
        f"no task {target!r} in {', '.join(source_specs)}; the nearest known ids: {', '.join(nearest)}"
    )


def dataset_text(folder: Path, color: bool) -> str:
    """A dataset folder as text: its counts, where it comes from, and its first task drawn.

    Raises:  DataError if it is no dataset folder.
    """
    manifest = read_manifest(folder, "dataset")
    counts, data = manifest["counts"], manifest["recipe"]["data"]
    first = read_challenges(folder / "challenges.json")[0]
    return f"""{folder}: {manifest["family"]} dataset, made {manifest["created"]}
sources      {", ".join(data["sources"])}
tasks        {counts["tasks"]}, with {counts["examples"]} training examples
test inputs  {counts["test_inputs"]}
puzzles      {counts["puzzles"]} (a task under an augmentation; at most {data["num_aug"]} + 1 a task)
canvas       {counts["canvas"]} x {counts["canvas"]}

{task_text(first, color)}"""
