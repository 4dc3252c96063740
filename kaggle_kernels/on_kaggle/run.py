"""What the notebook runs: the whole entry in a bounded time, with a complete submission from the start."""

import os
import shutil
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from arcpipe import __version__
from arcpipe.errors import ArcpipeError, OutputError
from arcpipe.kaggle_kernels.on_kaggle.budget import make_budget
from arcpipe.kaggle_kernels.on_kaggle.mounts import unanswered
from arcpipe.kaggle_kernels.on_kaggle.paths import Inputs, find_inputs, scratch_folder
from arcpipe.kaggle_kernels.on_kaggle.pipeline import KaggleEntry, Pipeline, RunReport
from arcpipe.kaggle_kernels.on_kaggle.processes import Journal
from arcpipe.kaggle_kernels.on_kaggle.submission import (
    HiddenTasks,
    read_hidden_tasks,
    score_words,
    scores_of,
    write_entries,
)
from arcpipe.runs import write_json

SUBMISSION, SMOKE, REPORT, LOG = "submission.json", "smoke.json", "arcpipe-report.json", "arcpipe.log"
RERUN_VARIABLE = "KAGGLE_IS_COMPETITION_RERUN"
MINUTES_VARIABLE = "ARCPIPE_KAGGLE_MINUTES"
RECIPE_FILE = "recipe.toml"


def run_notebook(root: Path, minutes: float | None, bundle: Path | None) -> None:
    """Run the entry on Kaggle: in the scored rerun on the test tasks, otherwise a short one on a few
    evaluation tasks, which shows that all of it works.

    Args:    minutes: instead of the recipe's limit. bundle: where known.
    Raises:  ArcpipeError if there are no test tasks or the fallback cannot be written; but for a rerun,
             which would score nothing, also if the bundle is not whole or cannot be run.
    """
    out = root / "working"
    out.mkdir(parents=True, exist_ok=True)
    journal = Journal(out / LOG)
    inputs = find_inputs(root, bundle)
    hidden = read_hidden_tasks(inputs.test)
    write_entries(unanswered(hidden.num_tests), out / SUBMISSION)
    rerun = bool(os.environ.get(RERUN_VARIABLE))
    journal.say(
        f"arcpipe {__version__} from {Path(__file__).parents[2]}; {inputs.test}: "
        f"{len(hidden.num_tests)} tasks; {'scored rerun' if rerun else 'commit run'}"
    )
    scratch = scratch_folder(root)
    failure: ArcpipeError | None = None
    try:
        whole = inputs.whole_bundle()
        entry = KaggleEntry(whole, whole / RECIPE_FILE, scratch)
        if rerun:
            budget = make_budget(entry.settings, minutes)
            report = Pipeline(entry, hidden, budget, journal).run(out / SUBMISSION)
        else:
            report = _smoke(entry, hidden, inputs, minutes, out, journal)
    except ArcpipeError as error:
        report, failure = RunReport(outputs=hidden.num_outputs, losses=[str(error)]), error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    scores: dict[str, float] = {}
    if (out / SMOKE).exists() and inputs.evaluation_solutions is not None:
        try:
            scores = scores_of(out / SMOKE, inputs.evaluation_solutions)
            journal.say(f"{SMOKE}: " + ", ".join(score_words(scores)))
        except ArcpipeError as error:
            journal.say(f"the short run cannot be scored: {error}")
    facts = {"mode": "rerun" if rerun else "commit", "tasks": len(hidden.num_tests), "scores": scores}
    write_report(report, facts, out, journal)
    if failure is not None and not rerun:
        raise failure


def _smoke(
    entry: KaggleEntry, hidden: HiddenTasks, inputs: Inputs, minutes: float | None, out: Path,
    journal: Journal,
) -> RunReport:  # fmt: skip
    """Run a few tasks for a short time; the submission for the test tasks stays the fallback."""
    settings = entry.settings
    limit = min(settings.smoke_minutes, minutes or settings.limit_minutes)
    if inputs.evaluation is None:
        journal.say("no evaluation file beside the test file: trying a few of the test tasks")
    else:
        hidden = read_hidden_tasks(inputs.evaluation)
    few = hidden.sample(settings.smoke_tasks)
    journal.say(f"{SUBMISSION} stays at [[0]]; trying {', '.join(task.id for task in few.tasks)}")
    return Pipeline(entry, few, make_budget(settings, limit), journal).run(out / SMOKE)


def write_report(report: RunReport, facts: dict[str, Any], out: Path, journal: Journal) -> dict[str, Any]:
    """Say what happened to each stage, and write it to the report after other facts; return its content."""
    for stage in report.stages:
        journal.say(
            f"{stage['name']:5} took {stage['seconds'] / 60:5.1f} min, was to end by "
            f"{stage['ends_by'] / 60:.1f}: {stage['outcome']}"
        )
    journal.say(f"{len(report.losses)} losses" + "".join(f"\n  {loss}" for loss in report.losses))
    content = facts | asdict(report)
    with suppress(OutputError):
        write_json(out / REPORT, content)
    return content
