"""`arcpipe quickstart`: the whole pipe on a few real ARC tasks; a loop over the commands that it prints."""

import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from arcpipe.augment.build import DataSettings
from arcpipe.augment.show import task_text
from arcpipe.commands.cli import app
from arcpipe.errors import ArcpipeError, OutputError
from arcpipe.grid import draw
from arcpipe.infer.predict import InferSettings
from arcpipe.locks import hold_folder
from arcpipe.log import start_logging, use_color
from arcpipe.model_config import TRMConfig
from arcpipe.recipe import as_tables, load_recipe, recipe_changes
from arcpipe.runs import MANIFEST, make_manifest, read_manifest, refuse_existing, write_json
from arcpipe.submissions.commands import report
from arcpipe.submissions.score import Score, score_submission, write_per_task
from arcpipe.submissions.submission import Submission, read_submission
from arcpipe.task import Task, read_challenges, read_json, read_solutions, with_solutions
from arcpipe.train.config import EvalSettings, TrainSettings

RECIPE = "quickstart"
_TABLES = {
    "data": DataSettings, "model": TRMConfig, "train": TrainSettings, "eval": EvalSettings,
    "infer": InferSettings,
}  # fmt: skip
# The seconds of each stage that is done, by its name.
_DONE = "seconds.json"


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
        seconds = read_json(folder / _DONE) if (folder / _DONE).exists() else {}
        for stage in _stages(folder, seed, minutes, overrides or []):
            # Datasets and submissions appear whole.
            if stage.name in seconds or (stage.makes.exists() and "--resume" not in stage.command):
                typer.echo(f"# {stage.makes} is there already, {stage.name} is not run again", err=True)
                continue
            began = time.monotonic()
            _run(stage.command)
            seconds[stage.name] = time.monotonic() - began
            write_json(folder / _DONE, seconds)
        _conclude(folder, "  ".join(f"{name} {value:.0f}" for name, value in seconds.items()))


@dataclass(frozen=True)
class _Stage:
    """A stage: its name, its command, and what that makes."""

    name: str
    command: list[str]
    makes: Path


def _open(folder: Path, seed: int, minutes: float | None, overrides: list[str]) -> None:
    """Make the folder; or find the one of an earlier call, which must have had the same settings.

    Raises:  OutputError if its settings were others.
    """
    recipe = load_recipe(RECIPE, [f"data.seed={seed}", f"train.seed={seed}", *overrides], tuple(_TABLES))
    frozen = as_tables(recipe.resolve(_TABLES))
    if not folder.exists():
        write_json(folder / MANIFEST, make_manifest("quickstart", recipe=frozen, minutes=minutes))
        return
    found = read_manifest(folder, "quickstart")
    changes = recipe_changes(found["recipe"], frozen)
    if found["minutes"] != minutes:
        changes.append(f"--minutes: {found['minutes']} -> {minutes}")
    if changes:
        raise OutputError(
            f"{folder} was made with other settings ({'; '.join(changes)}): repeat those to go on, "
            "choose another --out or remove it"
        )


def _stages(folder: Path, seed: int, minutes: float | None, overrides: list[str]) -> list[_Stage]:
    """Return the stages in their order, each going on with what an interrupted call has left."""

    def command(words: str, makes: Path, tables: tuple[str, ...], *flags: object) -> list[str]:
        own = [text for text in overrides if text.strip().partition(".")[0] in tables]
        sets = [word for text in own for word in ("--set", text)]
        resumes = ["--resume"] if words.startswith(("train", "infer")) and makes.exists() else []
        return [*shlex.split(words), *map(str, flags), "--out", str(makes), *sets, *resumes]

    data, run, predictions = folder / "data", folder / "run", folder / "predictions"
    submission = folder / "submission.json"
    limit = () if minutes is None else ("--max-minutes", minutes)
    training, asked = ("--data", data, "--seed", seed, *limit), ("--checkpoint", run, "--data", data)
    votes = ("--challenges", data / "challenges.json")
    return [
        _Stage("augment", command(f"augment arc --recipe {RECIPE}", data, ("data",), "--seed", seed), data),
        _Stage("train", command(f"train {RECIPE}", run, ("model", "train", "eval"), *training), run),
        _Stage("infer", command(f"infer --recipe {RECIPE}", predictions, ("infer",), *asked), predictions),
        _Stage("vote", command(f"vote {shlex.quote(str(predictions))}", submission, (), *votes), submission),
    ]  # fmt: skip


def _run(command: list[str]) -> None:
    """Print a command and run it; ArcpipeError if a signal has ended it."""
    typer.echo(f"$ arcpipe {shlex.join(command)}", err=True)
    result = app(command, standalone_mode=False)
    if getattr(result, "interrupted", False):
        raise ArcpipeError("interrupted; the same command goes on from there")


def _conclude(folder: Path, seconds: str) -> None:
    """Score if the solutions are known, draw a solved task, and name the files to open."""
    data, submission_file, page = folder / "data", folder / "submission.json", folder / "report.html"
    if not page.exists():
        report(folder)
    if not (data / "solutions.json").exists():
        typer.echo(f"\nseconds  {seconds}\nno solutions in the source, so no score: {submission_file}")
        return
    submission, solutions = read_submission(submission_file), read_solutions(data / "solutions.json")
    score = score_submission(submission, solutions)
    tasks = with_solutions(read_challenges(data / "challenges.json"), solutions, str(data / "solutions.json"))
    if drawing := _drawing(score, {task.id: task for task in tasks}, submission):
        typer.echo(f"\n{drawing}")
    per_task = folder / "tasks.csv"
    if not per_task.exists():
        write_per_task(score, per_task)
    typer.echo(_table(score, seconds))
    typer.echo(
        f"\n{submission_file}  the submission, in Kaggle's form"
        f"\n{per_task}  what was solved"
        f"\n{page}  all of it, and why tasks fail: open it in a browser"
        f"\nDraw any of the tasks with: arcpipe show {next(iter(score.tasks))}"
    )


def _table(score: Score, seconds: str) -> str:
    """Return pass@1 and pass@2 over tasks and over test outputs, and the seconds of each stage."""
    one, two = score.pass_at_1, score.pass_at_2
    tasks = f"{two.solved_tasks} of {score.num_tasks} solved wholly"
    outputs = f"{two.solved_outputs} of {score.num_outputs} solved"
    return (
        f"\n{'':14}{'pass@1':>8}{'pass@2':>8}"
        f"\ntasks (Kaggle){one.mean_over_tasks:8.3f}{two.mean_over_tasks:8.3f}   {tasks}"
        f"\ntest outputs  {one.mean_over_outputs:8.3f}{two.mean_over_outputs:8.3f}   {outputs}"
        f"\nseconds         {seconds}"
    )


def _drawing(score: Score, tasks: dict[str, Task], submission: Submission) -> str:
    """Draw the first solved test input with its demonstrations and the right attempt, if any is solved."""
    solved = next((output for output in score.outputs if output.solved), None)
    if solved is None:
        return ""
    task, attempt = tasks[solved.task], 0 if solved.attempt_1_correct else 1
    grids = [task.tests[solved.test_index].input, submission.attempts[task.id][solved.test_index][attempt]]
    shown = draw(grids, ["test input", f"attempt {attempt + 1}: right"], use_color())
    _, _, demonstrations = task_text(Task(task.id, task.demonstrations, ()), use_color()).partition("\n\n")
    return f"One of the solved tasks, {task.id}:\n\n{demonstrations}\n\n{shown}"
