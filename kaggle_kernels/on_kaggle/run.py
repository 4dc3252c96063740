"""What the notebook runs: the whole entry in a bounded time, with a complete submission from the start."""

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from arcpipe import __version__
from arcpipe.errors import ArcpipeError, DataError, OutputError
from arcpipe.kaggle_kernels.on_kaggle.budget import make_budget
from arcpipe.kaggle_kernels.on_kaggle.mounts import (
    BUNDLE_FILE,
    EntryError,
    bundles,
    find_file,
    find_test,
    refuse_partial,
    unanswered,
)
from arcpipe.kaggle_kernels.on_kaggle.pipeline import KaggleEntry, Pipeline, RunReport
from arcpipe.kaggle_kernels.on_kaggle.processes import Journal
from arcpipe.kaggle_kernels.on_kaggle.submission import (
    HiddenTasks,
    read_hidden_tasks,
    score_words,
    scores_of,
)
from arcpipe.runs import write_json

SUBMISSION, SMOKE, REPORT, LOG = "submission.json", "smoke.json", "arcpipe-report.json", "arcpipe.log"
RECIPE_FILE = "recipe.toml"
RERUN_VARIABLE = "KAGGLE_IS_COMPETITION_RERUN"
ROOT_VARIABLE, MINUTES_VARIABLE = "ARCPIPE_KAGGLE_ROOT", "ARCPIPE_KAGGLE_MINUTES"


@dataclass(frozen=True)
class Inputs:
    """The mounted files below `top`.

    test: the test challenges.
    evaluation: the evaluation challenges; None if they are not there.
    evaluation_solutions: their solutions; None if they are not there.
    bundles: the folders of bundles, that to be used first.
    """

    top: Path
    test: Path
    evaluation: Path | None
    evaluation_solutions: Path | None
    bundles: Sequence[Path]


def find_inputs(root: Path, bundle: Path | None = None) -> Inputs:
    """Return the files of the competition and the bundles below `root`/input, wherever they are.

    Of several competitions that of the bundle is taken.

    Args:    bundle: the bundle to use, where it is known.
    Raises:  DataError if there are no test challenges.
    """
    top = root / "input"
    folders = bundles(top) if bundle is None else [bundle]
    competition = ""
    # A run needs no more of bundle.json than this, and can do without.
    with suppress(OSError, orjson.JSONDecodeError, KeyError, TypeError, IndexError):
        competition = str(orjson.loads((folders[0] / BUNDLE_FILE).read_bytes())["competition"])
    try:
        test = find_test(top, competition)
    except EntryError as error:
        raise DataError(str(error)) from None
    evaluation, solutions = (
        find_file(top, competition, "evaluation", kind) for kind in ("challenges", "solutions")
    )
    return Inputs(top, test, evaluation, solutions, folders)


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
    write_json(out / SUBMISSION, unanswered(hidden.num_tests), indent=False)
    rerun = bool(os.environ.get(RERUN_VARIABLE))
    journal.say(
        f"arcpipe {__version__} from {Path(__file__).parents[2]}; {inputs.test}: "
        f"{len(hidden.num_tests)} tasks; {'scored rerun' if rerun else 'commit run'}"
    )
    scratch = _scratch_folder(root)
    failure = ""
    try:
        refuse_partial(inputs.top, inputs.bundles)
        entry = KaggleEntry(inputs.bundles[0], inputs.bundles[0] / RECIPE_FILE, scratch)
        if rerun:
            budget = make_budget(entry.settings, minutes)
            report = Pipeline(entry, hidden, budget, journal).run(out / SUBMISSION)
        else:
            report = _smoke(entry, hidden, inputs, minutes, out, journal)
    except (ArcpipeError, EntryError) as error:
        failure = str(error)
        report = RunReport(outputs=hidden.num_outputs, losses=[failure])
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
    if failure and not rerun:
        raise ArcpipeError(failure)


def _scratch_folder(root: Path) -> Path:
    """Return a folder for what is large and no output: in /kaggle/temp, or else the system's own place."""
    temp = root / "temp"
    parent = temp if temp.is_dir() and os.access(temp, os.W_OK) else Path(os.environ.get("TMPDIR", "/tmp"))
    return parent / f"arcpipe-{os.getpid()}"


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
