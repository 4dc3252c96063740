"""A whole entry at home, on tasks whose solutions are known."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arcpipe.kaggle_kernels.answers import read_questions
from arcpipe.kaggle_kernels.attempt import Entry
from arcpipe.kaggle_kernels.budget import make_plan
from arcpipe.kaggle_kernels.bundle import TABLES, write_trunk
from arcpipe.kaggle_kernels.run import LOG, RECIPE_FILE, SUBMISSION, Scorer, answer, write_report
from arcpipe.kaggle_kernels.workers import Journal
from arcpipe.recipe import Recipe, to_toml
from arcpipe.runs import make_manifest, new_folder, write_bytes, write_json
from arcpipe.task import Task, challenges_json, solutions_json


def simulate(
    tasks: Sequence[Task], checkpoint: Path, recipe: Recipe, minutes: float, out: Path, score: Scorer
) -> dict[str, Any]:
    """The report of an entry to these tasks, made in the folder `out`, with its scores.

    Raises:  OutputError if `out` exists; errors of a checkpoint that cannot be adapted.
    """
    manifest = make_manifest("simulation", checkpoint=str(checkpoint), minutes=minutes, recipe=recipe.name)
    with new_folder(out, manifest) as folder:
        # The notebook has no more of the checkpoint than this either.
        write_trunk(checkpoint, folder / "trunk")
        write_bytes(
            folder / RECIPE_FILE, to_toml({name: recipe.tables.get(name, {}) for name in TABLES}).encode()
        )
        write_json(folder / "challenges.json", challenges_json(tasks), indent=False)
        write_json(folder / "solutions.json", solutions_json(tasks), indent=False)
    journal = Journal(out / LOG)
    entry = Entry(out / "trunk", str(out / RECIPE_FILE), out / "work")
    plan = make_plan(entry.settings, minutes)
    report = answer(entry, read_questions(out / "challenges.json"), plan, out / SUBMISSION, journal)
    scores = score(out / SUBMISSION, out / "solutions.json")
    return write_report(report, {"mode": "simulation", "tasks": len(tasks), "scores": scores}, out, journal)
