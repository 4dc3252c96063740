"""`arcpipe quickstart`: the whole pipe on a few real ARC tasks; a loop over the commands that it prints."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from arcpipe.augment.settings import DataSettings
from arcpipe.checkpoint import whole_checkpoints
from arcpipe.commands.cli import INTERRUPTED, app
from arcpipe.commands.show import task_text
from arcpipe.errors import ArcpipeError, OutputError
from arcpipe.grid import draw
from arcpipe.infer.predict import InferSettings
from arcpipe.locks import hold_folder
from arcpipe.log import color_bits, command_line, hints, start_logging
from arcpipe.model_config import TRMConfig
from arcpipe.predictions import answered_tests
from arcpipe.ranks import Processes
from arcpipe.recipe import as_tables, load_recipe, recipe_changes
from arcpipe.runs import MANIFEST, make_manifest, read_manifest, refuse_existing, write_json
from arcpipe.submissions.commands import report
from arcpipe.submissions.score import Score, answered_part, score_submission, write_per_task
from arcpipe.submissions.submission import Submission, read_submission
from arcpipe.task import Task, coverage_text, read_challenges, read_json, read_solutions, with_solutions
from arcpipe.train.config import EvalSettings, TrainSettings

RECIPE = "quickstart"
_TABLES = {
    "data": DataSettings, "model": TRMConfig, "train": TrainSettings, "eval": EvalSettings,
    "infer": InferSettings,
}  # fmt: skip
# The seconds of each stage that is done, by its name.
_DONE = "seconds.json"
_LARGER = ("augment", "arc", "--recipe", "arc-laptop", "--out", "runs/arc-laptop")
# The name there of the seconds of a stage that was interrupted.
_UNFINISHED = "unfinished"


def quickstart(
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder to make. Default: runs/quickstart-seedN, gone on with where it stopped."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of augmentations, weights and batches.")] = 0,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Train for at most this long, the schedule hastened to fit.")
    ] = None,
    processes: Processes = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Override a setting of the recipe."),
    ] = None,
) -> None:
    """The whole pipe on 25 small ARC-AGI-1 tasks, on a laptop: augment, train, infer, vote, score.

    Training sees demonstrations only. No network, no account. Each stage's command is printed.

    Example: arcpipe quickstart --seed 1
    """
    start_logging()
    folder = out or Path("runs") / f"quickstart-seed{seed}"
    if out is not None and (not (out / MANIFEST).exists() or (out / "tasks.csv").exists()):
        refuse_existing(out)
    _open(folder, seed, minutes, overrides or [])
    with hold_folder(folder):
        conclude(folder, run_stages(folder, _stages(folder, seed, minutes, processes, overrides or [])))
    step = max(whole_checkpoints(folder / "run"))
    steps = read_manifest(folder / "run", "run")["recipe"]["train"]["steps"]
    if step < steps:
        _, (train, _), *_ = _stages(folder, seed, None, processes, overrides or [])
        typer.echo(f"The time ended the training at step {step} of {steps}; train on: {command_line(*train)}")
    typer.echo(f"Go on with larger tasks: {command_line(*_LARGER)}")


def run_stages(folder: Path, stages: Iterable[tuple[list[str], Path | None]]) -> dict[str, float]:
    """Run the command of each stage that is not done, and return the seconds of each.

    Args:    stages: each command with its output, if it leaves any; computed one by one, so that a stage
             can go on with what an interrupted call left.
    Raises:  ArcpipeError where a signal ended one.
    """
    seconds: dict[str, float] = read_json(folder / _DONE) if (folder / _DONE).exists() else {}
    for command, output in stages:
        # Datasets and submissions appear whole.
        if command[0] in seconds or (output and output.exists() and "--resume" not in command):
            typer.echo(f"# {output or folder} is there already, {command[0]} is not run again", err=True)
            continue
        typer.echo(f"$ {command_line(*command)}", err=True)
        _run(command, seconds, folder / _DONE)
    return seconds


def _run(command: list[str], seconds: dict[str, float], file: Path) -> None:
    """Run a command and add its seconds to those of the file, with those of its interrupted calls.

    Raises:  ArcpipeError if it was interrupted.
    """
    began = time.monotonic() - seconds.pop(_UNFINISHED, 0.0)
    name, hints.disabled = _UNFINISHED, True
    try:
        result = app(command, standalone_mode=False)
        if result != INTERRUPTED and not getattr(result, "interrupted", False):
            name = command[0]
    finally:
        hints.disabled = False
        seconds[name] = time.monotonic() - began
        write_json(file, seconds)
    if name == _UNFINISHED:
        raise ArcpipeError("interrupted; the same command goes on from there")


def _open(folder: Path, seed: int, minutes: float | None, overrides: list[str]) -> None:
    """Make the folder; or find the one of an earlier call, which must have had the same settings.

    Raises:  OutputError if its settings were others.
    """
    recipe = load_recipe(RECIPE, [f"data.seed={seed}", f"train.seed={seed}", *overrides], tuple(_TABLES))
    tables = as_tables(recipe.resolve(_TABLES))
    if not folder.exists():
        write_json(folder / MANIFEST, make_manifest("quickstart", recipe=tables, minutes=minutes))
        return
    manifest = read_manifest(folder, "quickstart")
    # Settings that are newer than the folder had their defaults.
    defaults = as_tables({name: kind() for name, kind in _TABLES.items()})
    before = {name: table | manifest.get("recipe", {}).get(name, {}) for name, table in defaults.items()}
    changes = recipe_changes(before, tables)
    if manifest.get("minutes") != minutes:
        changes.append(f"--minutes: {manifest.get('minutes')} -> {minutes}")
    refuse_changes(folder, changes)


def refuse_changes(folder: Path, changes: Sequence[str]) -> None:
    """Raise OutputError if the settings of a folder to go on with have changed."""
    if changes:
        raise OutputError(
            f"{folder} was made with other settings ({'; '.join(changes)}): repeat those to go on, "
            "choose another --out or remove it"
        )


def _stages(
    folder: Path, seed: int, minutes: float | None, processes: str | None, overrides: list[str]
) -> Iterator[tuple[list[str], Path]]:
    """Yield the command of each stage and its output; a stage goes on with what an interrupted call left."""
    data, run, predictions = folder / "data", folder / "run", folder / "predictions"
    limit = [] if minutes is None else ["--max-minutes", round(max(0.0, minutes - _minutes_trained(run)), 3)]
    stages: list[tuple[list[Any], Path, tuple[str, ...]]] = [
        (["augment", "arc", "--recipe", RECIPE, "--seed", seed], data, ("data",)),
        (["train", RECIPE, "--data", data, "--seed", seed, *limit], run, ("model", "train", "eval")),
        (["infer", "--recipe", RECIPE, "--checkpoint", run, "--data", data], predictions, ("infer",)),
        (["vote", predictions, "--challenges", data / "challenges.json"], folder / "submission.json", ()),
    ]
    for words, output, tables in stages:
        words += ["--out", output]
        for override in overrides:
            if override.strip().partition(".")[0] in tables:
                words += ["--set", override]
        if words[0] in ("train", "infer") and output.exists():
            words.append("--resume")
        if processes and words[0] in ("train", "infer"):
            words += ["--processes", processes]
        yield list(map(str, words)), output


def _minutes_trained(run: Path) -> float:
    """The minutes of the parts of the training that were interrupted."""
    saved = list(whole_checkpoints(run).values())
    return float(read_manifest(saved[-1], "checkpoint")["seconds"]) / 60 if saved else 0.0


def conclude(folder: Path, seconds: Mapping[str, float]) -> None:
    """Report, score if the solutions are known, draw a solved task, and name the files to open.

    Args:    seconds: of each stage.
    """
    times = "  ".join(f"{name} {value:.0f}" for name, value in seconds.items())
    data, file, page, per_task = (
        folder / name for name in ("data", "submission.json", "report.html", "tasks.csv")
    )
    if not page.exists():
        report(folder)
    if not (data / "solutions.json").exists():
        typer.echo(f"\nseconds  {times}\nno solutions in the source, so no score: {file}")
        return
    submission, solutions = read_submission(file), read_solutions(data / "solutions.json")
    whole = score_submission(submission, solutions)
    if not per_task.exists():
        write_per_task(whole, per_task)
    answered = answered_tests(folder / "predictions")
    tasks = with_solutions(read_challenges(data / "challenges.json"), solutions, str(data / "solutions.json"))
    table = coverage_text(len(answered), whole.num_outputs)
    if len(answered) == whole.num_outputs:
        table = _table(whole, tasks)
    elif answered:
        table += f"\n{_table(score_submission(*answered_part(submission, solutions, answered)), tasks)}"
    typer.echo(
        f"{_drawing(whole, {task.id: task for task in tasks}, submission)}"
        f"\n{table}"
        f"\nseconds         {times}"
        f"\n\n{file}  the submission, in Kaggle's form"
        f"\n{per_task}  what was solved"
        f"\n{page}  all of it, and why tasks fail: {page.resolve().as_uri()}"
        f"\nDraw any of the tasks with: {command_line('show', next(iter(whole.tasks)))}"
    )


def _table(score: Score, tasks: Sequence[Task]) -> str:
    """Return pass@1 and pass@2, and what answers without any learning would score."""
    one, two = score.pass_at_1, score.pass_at_2
    return (
        f"{'':14}{'pass@1':>8}{'pass@2':>8}"
        f"\ntasks (Kaggle){one.mean_over_tasks:8.3f}{two.mean_over_tasks:8.3f}   "
        f"{two.solved_tasks} of {score.num_tasks} solved wholly"
        f"\ntest outputs  {one.mean_over_outputs:8.3f}{two.mean_over_outputs:8.3f}   "
        f"{two.solved_outputs} of {score.num_outputs} solved"
        f"\n{_baselines(tasks)}"
    )


def _baselines(tasks: Sequence[Task]) -> str:
    """Return what answers without any learning would score, as two lines of the table.

    By chance: two distinct grids of the right size, each cell any of the ten colors.
    """
    by_chance, copied = [], []
    for task in tasks:
        outputs = [pair.output for pair in task.tests if pair.output is not None]
        by_chance.append(float(np.mean([10.0**-output.size for output in outputs])))
        same = [np.array_equal(pair.input, pair.output) for pair in task.tests if pair.output is not None]
        copied.append(float(np.mean(same)))
    chance, copy = np.mean(by_chance), np.mean(copied)
    return f"{'by chance':14}{chance:8.3f}{2 * chance:8.3f}\n{'input copied':14}{copy:8.3f}{copy:8.3f}"


def _drawing(score: Score, tasks: dict[str, Task], submission: Submission) -> str:
    """Draw the first solved test input with its demonstrations and the right attempt, if any is solved."""
    solved = next((output for output in score.outputs if output.solved), None)
    if solved is None:
        return ""
    task, attempt = tasks[solved.task], 0 if solved.attempt_1_correct else 1
    grids = [task.tests[solved.test_index].input, submission.attempts[task.id][solved.test_index][attempt]]
    shown = draw(grids, ["test input", f"attempt {attempt + 1}: right"], color_bits())
    _, _, demonstrations = task_text(Task(task.id, task.demonstrations, ()), color_bits()).partition("\n\n")
    return f"\nOne of the solved tasks, {task.id}:\n\n{demonstrations}\n\n{shown}\n"
