"""`arcpipe quickstart`: the whole pipe on a few real ARC tasks."""

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from arcpipe.submissions.score import Score

RECIPE = "quickstart"
TASKS_FILE = "tasks.csv"


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
    from arcpipe.locks import hold_folder
    from arcpipe.log import start_logging
    from arcpipe.runs import refuse_existing

    start_logging()
    if out is not None and not _is_unfinished(out):
        refuse_existing(out)
    run = _open(out or Path("runs") / f"quickstart-seed{seed}", seed, minutes, overrides or [])
    with hold_folder(run.folder):
        seconds = {stage.name: _run(stage, run.folder) for stage in _stages(run)}
        _summarize(run, seconds)


@dataclass(frozen=True)
class _Quickstart:
    """The folder, the recipe's settings as typed tables and what overrode them, the time limit."""

    folder: Path
    settings: dict[str, Any]
    overrides: list[str]
    minutes: float | None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def predictions(self) -> Path:
        return self.folder / "predictions"

    @property
    def submission(self) -> Path:
        return self.folder / "submission.json"

    @property
    def train_overrides(self) -> str:
        """The flags that override the same settings of `arcpipe train`."""
        read = [text for text in self.overrides if text.strip().startswith(("model.", "train.", "eval."))]
        return "".join(f" --set {shlex.quote(text)}" for text in read)

    @property
    def frozen(self) -> dict[str, Any]:
        """The recipe as a run's manifest keeps it."""
        from arcpipe.recipe import as_tables

        return as_tables(self.settings)


@dataclass(frozen=True)
class _Stage:
    """A stage: the command that does the same, what it makes, and the function that does it."""

    name: str
    command: str
    makes: Path
    work: Callable[[], object]


def _is_unfinished(folder: Path) -> bool:
    """Whether an interrupted quickstart can go on there."""
    return (folder / "manifest.json").exists() and not (folder / TASKS_FILE).exists()


def _open(folder: Path, seed: int, minutes: float | None, overrides: list[str]) -> _Quickstart:
    """The folder to work in: a new one, or an earlier one of the same settings."""
    from arcpipe.recipe import load_recipe, recipe_changes

    # Before torch is imported, so that a misspelled --set is refused at once.
    recipe = load_recipe(RECIPE, [f"data.seed={seed}", f"train.seed={seed}", *overrides])

    from arcpipe.augment.build import DataSettings
    from arcpipe.errors import OutputError
    from arcpipe.infer.predict import InferSettings
    from arcpipe.runs import MANIFEST, make_manifest, read_manifest, write_json
    from arcpipe.train.config import EvalSettings, TrainSettings
    from arcpipe.trm import TRMConfig

    of_training = {"model": TRMConfig, "train": TrainSettings, "eval": EvalSettings}
    types = {"data": DataSettings, **of_training, "infer": InferSettings}
    run = _Quickstart(folder, recipe.resolve(types), overrides, minutes)
    if folder.exists():
        found = read_manifest(folder, "quickstart")
        changes = recipe_changes(found["recipe"], run.frozen)
        if found["minutes"] != minutes:
            changes.append(f"--minutes: {found['minutes']} -> {minutes}")
        if changes:
            raise OutputError(
                f"{folder} was made with other settings ({'; '.join(changes)}): repeat those to go on, "
                "choose another --out or remove it"
            )
    else:
        write_json(folder / MANIFEST, make_manifest("quickstart", recipe=run.frozen, minutes=minutes))
    return run


def _stages(run: _Quickstart) -> list[_Stage]:
    data, infer = run.settings["data"], run.settings["infer"]
    dataset, challenges, trained, predictions, submission = (
        shlex.quote(str(path))
        for path in (run.data, run.data / "challenges.json", run.run, run.predictions, run.submission)
    )
    limit = "" if run.minutes is None else f" --max-minutes {run.minutes:g}"
    sources = " ".join(f"--source {shlex.quote(source)}" for source in data.sources)
    test_set = f" --test-set {shlex.quote(data.test_set)}" if data.test_set else ""
    return [
        _Stage(
            "augment",
            f"augment arc {sources}{test_set} --max-side {data.max_side} --canvas {data.canvas} "
            f"--num-aug {data.num_aug} --seed {data.seed} --out {dataset}",
            run.data,
            lambda: _augment(run),
        ),
        _Stage(
            "train",
            f"train {RECIPE} --data {dataset} --out {trained} --seed {run.settings['train'].seed}"
            f"{limit}{run.train_overrides}",
            run.folder / "trained.json",
            lambda: _train(run),
        ),
        _Stage(
            "infer",
            f"infer --checkpoint {trained} --data {dataset} --out {predictions} "
            f"--max-steps {infer.max_steps} --batch-size {infer.batch_size}",
            run.folder / "predicted.json",
            lambda: _infer(run),
        ),
        _Stage(
            "vote",
            f"vote {predictions} --challenges {challenges} --out {submission}",
            run.submission,
            lambda: _vote(run),
        ),
    ]


def _run(stage: _Stage, folder: Path) -> float:
    """Do a stage unless it is done; the seconds it took, then or now."""
    from arcpipe.runs import write_json
    from arcpipe.task import read_json

    record = folder / "seconds.json"
    seconds = read_json(record) if record.exists() else {}
    if stage.makes.exists():
        typer.echo(f"# {stage.makes} is there already, {stage.name} is not run again", err=True)
    else:
        typer.echo(f"$ arcpipe {stage.command}", err=True)
        began = time.monotonic()
        stage.work()
        seconds[stage.name] = time.monotonic() - began
        write_json(record, seconds)
    return float(seconds.get(stage.name, 0.0))


def _augment(run: _Quickstart) -> None:
    from arcpipe.augment.build import build_arc

    build_arc(run.settings["data"], run.data)


def _train(run: _Quickstart) -> None:
    from arcpipe.errors import ArcpipeError
    from arcpipe.puzzleset import read_puzzle_set
    from arcpipe.runs import write_json
    from arcpipe.train.config import TrainRun
    from arcpipe.train.trainer import train

    training = TrainRun(
        puzzles=read_puzzle_set(run.data),
        data_dir=run.data,
        config=run.settings["model"],
        settings=run.settings["train"],
        recipe={table: run.frozen[table] for table in ("model", "train", "eval")},
        out=run.run,
        folder="resumed" if run.run.exists() else "new",
        max_minutes=run.minutes,
    )
    result = train(training)
    if result.interrupted:
        raise ArcpipeError(f"interrupted at step {result.step}; the same command goes on from there")
    write_json(run.folder / "trained.json", {"checkpoint": str(result.checkpoint), "step": result.step})


def _infer(run: _Quickstart) -> None:
    from arcpipe.errors import ArcpipeError
    from arcpipe.infer.predict import infer_to_folder
    from arcpipe.runs import write_json

    resume = run.predictions.exists()
    result = infer_to_folder(run.run, run.data, run.predictions, run.settings["infer"], resume=resume)
    if result.interrupted:
        raise ArcpipeError(f"interrupted after {result.done} grids; the same command goes on from there")
    write_json(run.folder / "predicted.json", {"candidates": result.candidates})


def _vote(run: _Quickstart) -> None:
    from arcpipe.submissions.commands import vote

    vote([run.predictions], run.data / "challenges.json", run.submission)


def _summarize(run: _Quickstart, seconds: dict[str, float]) -> None:
    """Score if the solutions are known, draw a solved task, and name the files to open."""
    from arcpipe.submissions.commands import report
    from arcpipe.submissions.score import score_submission, write_per_task
    from arcpipe.submissions.submission import read_submission
    from arcpipe.task import read_challenges, read_solutions, with_solutions

    solutions_path, page = run.data / "solutions.json", run.folder / "report.html"
    times = "  ".join(f"{name} {value:.0f}" for name, value in seconds.items())
    if not page.exists():
        report(run.folder)
    if not solutions_path.exists():
        typer.echo(f"\nseconds        {times}\nno solutions in the source, so no score: {run.submission}")
        return
    submission, solutions = read_submission(run.submission), read_solutions(solutions_path)
    score, per_task = score_submission(submission, solutions), run.folder / TASKS_FILE
    if not per_task.exists():
        write_per_task(score, per_task)
    solved = [output for task in score.tasks.values() for output in task.outputs if output.solved]
    if solved:
        tasks = with_solutions(read_challenges(run.data / "challenges.json"), solutions, str(solutions_path))
        typer.echo("\n" + _drawing(solved[0], {task.id: task for task in tasks}, submission))
    typer.echo(_table(score, times))
    typer.echo(
        f"\n{run.submission}  the submission, in Kaggle's form"
        f"\n{per_task}  what was solved"
        f"\n{page}  all of it, and why tasks fail: open it in a browser"
        f"\nDraw any of the tasks with: arcpipe show {next(iter(score.tasks))}"
    )


def _table(score: "Score", times: str) -> str:
    """pass@1 and pass@2 over tasks and over test outputs, and the seconds of each stage."""
    one, two = score.pass_at_1, score.pass_at_2
    outputs = f"{two.solved_outputs} of {score.num_outputs} solved"
    tasks = f"{two.solved_tasks} of {score.num_tasks} solved wholly"
    return (
        f"\n{'':14}{'pass@1':>8}{'pass@2':>8}"
        f"\ntasks (Kaggle){one.mean_over_tasks:8.3f}{two.mean_over_tasks:8.3f}   {tasks}"
        f"\ntest outputs  {one.mean_over_outputs:8.3f}{two.mean_over_outputs:8.3f}   {outputs}"
        f"\nseconds         {times}"
    )


def _drawing(solved: Any, tasks: dict[str, Any], submission: Any) -> str:
    """One solved test of a task: its demonstrations, its input and the right attempt."""
    from arcpipe.augment.show import task_text
    from arcpipe.grid import draw
    from arcpipe.log import use_color

    task = tasks[solved.task]
    color = use_color()
    attempt = 1 if solved.attempt_1_correct else 2
    grid = submission.attempts[task.id][solved.test_index][attempt - 1]
    given = task.tests[solved.test_index].input
    shown = draw([given, grid], ["test input", f"attempt {attempt}: right"], color)
    _, _, demonstrations = task_text(type(task)(task.id, task.demonstrations, ()), color).partition("\n\n")
    return f"One of the solved tasks, {task.id}:\n\n{demonstrations}\n\n{shown}"
