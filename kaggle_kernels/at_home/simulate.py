"""A whole entry at home, on tasks whose solutions are known."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arcpipe.augment.sources import read_source
from arcpipe.errors import DataError
from arcpipe.kaggle_kernels.at_home.bundle import write_recipe, write_trunk
from arcpipe.kaggle_kernels.on_kaggle.budget import KaggleSettings, refuse_short_clock
from arcpipe.kaggle_kernels.on_kaggle.pipeline import KaggleEntry, Pipeline
from arcpipe.kaggle_kernels.on_kaggle.processes import Journal
from arcpipe.kaggle_kernels.on_kaggle.run import LOG, RECIPE_FILE, SUBMISSION, write_report
from arcpipe.kaggle_kernels.on_kaggle.submission import read_hidden_tasks, scores_of
from arcpipe.recipe import Recipe
from arcpipe.runs import make_manifest, new_folder, write_json
from arcpipe.task import Task, challenges_json, solutions_json


def solved_tasks(source: str, count: int, seed: int) -> list[Task]:
    """Return so many tasks of a source, by the seed; all of them for 0.

    Raises:  DataError if their solutions are not known.
    """
    tasks = list(read_source(source).tasks)
    if any(pair.output is None for task in tasks for pair in task.tests):
        raise DataError(f"{source}: its solutions are not known, so there would be no score")
    if not count or count >= len(tasks):
        return tasks
    numbers = np.random.default_rng([seed, count]).choice(len(tasks), count, replace=False)
    return [tasks[number] for number in sorted(numbers)]


def simulate_entry(
    tasks: Sequence[Task], checkpoint: Path, recipe: Recipe, minutes: float, out: Path
) -> dict[str, Any]:
    """Make an entry to these tasks in the folder `out`; return its report, with its scores.

    Raises:  OutputError if `out` exists; ArcpipeError if the clock is too short; errors of a checkpoint that
             cannot be adapted.
    """
    refuse_short_clock(recipe.settings("kaggle", KaggleSettings), minutes)
    manifest = make_manifest("simulation", checkpoint=str(checkpoint), minutes=minutes, recipe=recipe.name)
    with new_folder(out, manifest) as folder:
        # The notebook has no more of the checkpoint than its trunk either.
        write_trunk(checkpoint, folder / "trunk")
        write_recipe(recipe, folder / RECIPE_FILE)
        write_json(folder / "challenges.json", challenges_json(tasks), indent=False)
        write_json(folder / "solutions.json", solutions_json(tasks), indent=False)
    journal = Journal(out / LOG)
    entry = KaggleEntry(out / "trunk", out / RECIPE_FILE, out / "work")
    hidden = read_hidden_tasks(out / "challenges.json")
    pipeline = Pipeline(entry, hidden, minutes, journal)
    report = pipeline.run(out / SUBMISSION)
    report.mode, report.tasks = "simulation", len(tasks)
    report.scored = len(pipeline.answered)
    report.scores = scores_of(out / SUBMISSION, out / "solutions.json", pipeline.answered)
    return write_report(report, out, journal)
