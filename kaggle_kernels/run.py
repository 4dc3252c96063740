"""What the notebook runs: the whole entry in a bounded time, with a complete submission from the start."""

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from arcpipe import __version__
from arcpipe.documents import load_json
from arcpipe.errors import ArcpipeError, DataError, OutputError
from arcpipe.kaggle_kernels.mounts import (
    BUNDLE_FILE,
    EntryError,
    bundles,
    fallbacks,
    find_file,
    find_test,
    refuse_partial,
)
from arcpipe.kaggle_kernels.pipeline import (
    HiddenTasks,
    KaggleEntry,
    Pipeline,
    RunReport,
    read_hidden_tasks,
    score_words,
    scores_of,
)
from arcpipe.kaggle_kernels.processes import Journal
from arcpipe.runs import write_json
from arcpipe.task import coverage_text

SUBMISSION, SMOKE, REPORT, LOG = "submission.json", "smoke.json", "arcpipe-report.json", "arcpipe.log"
RECIPE_FILE = "recipe.toml"
RERUN_VARIABLE = "KAGGLE_IS_COMPETITION_RERUN"
ROOT_VARIABLE, MINUTES_VARIABLE = "ARCPIPE_KAGGLE_ROOT", "ARCPIPE_KAGGLE_MINUTES"


def run_notebook(root: Path, minutes: float | None, bundle: Path | None) -> None:
    """Run the entry on Kaggle: in the scored rerun on the test tasks, otherwise a short one on a few
    evaluation tasks, which shows that all of it works.

    The files of the competition and the bundles lie below `root`/input, wherever; of several competitions
    that of the bundle is taken.

    Args:    minutes: instead of the recipe's limit. bundle: where known.
    Raises:  ArcpipeError if there are no test tasks or the fallback cannot be written; but for a rerun,
             which would score nothing, also if the bundle is not whole or cannot be run.
    """
    top, out, temp = root / "input", root / "working", root / "temp"
    out.mkdir(parents=True, exist_ok=True)
    journal = Journal(out / LOG)
    folders = bundles(top) if bundle is None else [bundle]
    competition = ""
    # A run needs no more of bundle.json than this, and can do without.
    with suppress(OSError, ValueError, KeyError, TypeError, IndexError):
        competition = str(load_json(folders[0] / BUNDLE_FILE)["competition"])
    try:
        test = find_test(top, competition)
    except EntryError as error:
        raise DataError(str(error)) from None
    hidden = read_hidden_tasks(test)
    write_json(out / SUBMISSION, fallbacks(hidden.num_tests), indent=False)
    rerun = bool(os.environ.get(RERUN_VARIABLE))
    journal.say(
        f"arcpipe {__version__} from {Path(__file__).parents[1]}; {test}: "
        f"{len(hidden.num_tests)} tasks; {'scored rerun' if rerun else 'commit run'}"
    )
    # What is large is no output: where there is no /kaggle/temp, it goes to the system's own place.
    large = temp if temp.is_dir() and os.access(temp, os.W_OK) else Path(os.environ.get("TMPDIR", "/tmp"))
    scratch = large / f"arcpipe-{os.getpid()}"
    report = RunReport(outputs=hidden.num_outputs)
    failure = ""
    try:
        refuse_partial(top, folders)
        entry = KaggleEntry(folders[0], folders[0] / RECIPE_FILE, scratch)
        if rerun:
            report = Pipeline(entry, hidden, minutes, journal).run(out / SUBMISSION)
        else:
            evaluation = [
                find_file(top, competition, "evaluation", kind) for kind in ("challenges", "solutions")
            ]
            report = _smoke(entry, hidden, evaluation, minutes, out, journal)
    except (ArcpipeError, EntryError) as error:
        failure = str(error)
        report.losses.append(failure)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    report.mode, report.tasks = "rerun" if rerun else "commit", len(hidden.num_tests)
    write_report(report, out, journal)
    if failure and not rerun:
        raise ArcpipeError(failure)


def _smoke(
    entry: KaggleEntry, hidden: HiddenTasks, evaluation: Sequence[Path | None], minutes: float | None,
    out: Path, journal: Journal,
) -> RunReport:  # fmt: skip
    """Run a few tasks for a short time; the submission for the test tasks stays the fallback.

    Args:  evaluation: the files of challenges and of solutions to take them from, where they are mounted.
    """
    challenges, solutions = evaluation
    if challenges is None:
        journal.say("no evaluation file beside the test file: trying a few of the test tasks")
    else:
        hidden = read_hidden_tasks(challenges)
    settings = entry.settings
    few = hidden.sample(settings.smoke_tasks)
    journal.say(f"{SUBMISSION} stays at [[0]]; trying {', '.join(task.id for task in few.tasks)}")
    limit = min(settings.smoke_minutes, minutes or settings.limit_minutes)
    pipeline = Pipeline(entry, few, limit, journal)
    report = pipeline.run(out / SMOKE)
    if solutions is not None:
        try:
            report.scored = len(pipeline.answered)
            report.scores = scores_of(out / SMOKE, solutions, pipeline.answered)
            words = [coverage_text(report.scored, report.outputs), *score_words(report.scores)]
            journal.say(f"{SMOKE}: {', '.join(words)}")
        except ArcpipeError as error:
            journal.say(f"the short run cannot be scored: {error}")
    return report


def write_report(report: RunReport, out: Path, journal: Journal) -> dict[str, Any]:
    """Say what happened to each stage, and write all of it to the report; return its content."""
    for stage in report.stages:
        journal.say(
            f"{stage['name']:5} took {stage['seconds'] / 60:5.1f} min, was to end by "
            f"{stage['ends_by'] / 60:.1f}: {stage['outcome']}"
        )
    journal.say(f"{len(report.losses)} losses" + "".join(f"\n  {loss}" for loss in report.losses))
    content = asdict(report)
    with suppress(OutputError):
        write_json(out / REPORT, content)
    return content
