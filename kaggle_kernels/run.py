"""What the notebook runs: the whole entry in a bounded time, with a complete submission from the start."""

import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from arcpipe import __version__
from arcpipe.errors import ArcpipeError, OutputError
from arcpipe.kaggle_kernels.answers import (
    Answers,
    Questions,
    fallback,
    num_answered,
    read_questions,
    write_answers,
)
from arcpipe.kaggle_kernels.attempt import Attempt, Entry, Report
from arcpipe.kaggle_kernels.budget import Plan, make_plan
from arcpipe.kaggle_kernels.layouts import Inputs, find_inputs, scratch_folder
from arcpipe.kaggle_kernels.workers import Journal
from arcpipe.runs import write_json

SUBMISSION, SMOKE, REPORT, LOG = "submission.json", "smoke.json", "arcpipe-report.json", "arcpipe.log"
RERUN_VARIABLE = "KAGGLE_IS_COMPETITION_RERUN"
MINUTES_VARIABLE = "ARCPIPE_KAGGLE_MINUTES"
RECIPE_FILE = "recipe.toml"

SCORES = {
    "pass@2 over tasks": "pass@2 over tasks (Kaggle)",
    "pass@2": "pass@2 over test outputs",
    "pass@1": "pass@1 over test outputs",
}
"""The scores in a report, and what each is called where it is shown."""

Scorer = Callable[[Path, Path], dict[str, float]]
"""The scores of a submission file by a solutions file, by the names of `SCORES`; nothing without a task."""


def run_notebook(root: Path, minutes: float | None, score: Scorer) -> dict[str, Any]:
    """The whole run on Kaggle: in the scored rerun on the test tasks, otherwise a short one on a few
    evaluation tasks, which shows that all of it works. What happened, as it is written to the report.

    Args:    minutes: the time limit in place of the recipe's. score: what scores the short run.
    Raises:  ArcpipeError if the inputs are not there or the fallback cannot be written.
    """
    out = root / "working"
    out.mkdir(parents=True, exist_ok=True)
    journal = Journal(out / LOG)
    inputs = find_inputs(root)
    questions = read_questions(inputs.test)
    write_answers(fallback(questions), out / SUBMISSION)
    rerun = bool(os.environ.get(RERUN_VARIABLE))
    journal.say(
        f"arcpipe {__version__} from {Path(__file__).parents[1]}; {inputs.test}: "
        f"{len(questions.num_tests)} tasks; {'scored rerun' if rerun else 'commit run'}"
    )
    entry = Entry(inputs.bundle, str(inputs.bundle / RECIPE_FILE), scratch_folder(root))
    try:
        if rerun:
            report = answer(entry, questions, make_plan(entry.settings, minutes), out / SUBMISSION, journal)
        else:
            report = _smoke(entry, questions, inputs, minutes, out, journal)
    except ArcpipeError as error:
        report = Report(losses=[str(error)])
    finally:
        shutil.rmtree(entry.scratch, ignore_errors=True)
    facts = {
        "mode": "rerun" if rerun else "commit",
        "tasks": len(questions.num_tests),
        "scores": _score(score, inputs, out / SMOKE, journal),
    }
    return write_report(report, facts, out, journal)


def _smoke(
    entry: Entry, questions: Questions, inputs: Inputs, minutes: float | None, out: Path, journal: Journal
) -> Report:
    """A short run on a few tasks; the submission for the test tasks stays the fallback."""
    settings = entry.settings
    limit = min(settings.smoke_minutes, minutes or settings.limit_minutes)
    if inputs.evaluation is None:
        journal.say("no evaluation file beside the test file: trying a few of the test tasks")
    tried = questions if inputs.evaluation is None else read_questions(inputs.evaluation)
    few = tried.first(settings.smoke_tasks)
    journal.say(f"{SUBMISSION} stays at [[0]]; trying {', '.join(task.id for task in few.tasks)}")
    return answer(entry, few, make_plan(settings, limit), out / SMOKE, journal)


def _score(score: Scorer, inputs: Inputs, path: Path, journal: Journal) -> dict[str, float]:
    """The scores of the short run, where there was one and its solutions are known."""
    if not path.exists() or inputs.evaluation_solutions is None:
        return {}
    try:
        scores = score(path, inputs.evaluation_solutions)
    except ArcpipeError as error:
        journal.say(f"the short run cannot be scored: {error}")
        return {}
    journal.say(f"{path.name}: " + ", ".join(score_words(scores)))
    return scores


def score_words(scores: Mapping[str, float]) -> list[str]:
    """The scores of a report in words, Kaggle's first."""
    return [f"{words} {scores[name]:.4f}" for name, words in SCORES.items() if name in scores]


def answer(entry: Entry, questions: Questions, plan: Plan, target: Path, journal: Journal) -> Report:
    """Write a submission to `target` for the questions: first the fallback, at the end what was voted.

    Raises:  OutputError if not even the fallback can be written.
    """
    write_answers(fallback(questions), target)
    journal.say(f"{target.name}: complete with [[0]] for {questions.num_outputs} test outputs")
    attempt = Attempt(entry, questions, plan, journal)
    report = attempt.report
    for reason in questions.unreadable.values():
        attempt.lose(f"left at [[0]]: {reason}")
    try:
        answers = attempt.make()
        if answers is not None:
            _put(answers, target, entry.scratch)
            report.answered = num_answered(answers)
    except (ArcpipeError, OSError) as error:
        attempt.lose(f"{error}")
    report.seconds = time.monotonic() - attempt.began
    report.peak_memory_bytes = _peak_memory()
    journal.say(f"{target.name}: {report.answered} of {report.outputs} test outputs answered")
    return report


def _put(answers: Answers, target: Path, scratch: Path) -> None:
    """Write the answers; if there is no room, make some first."""
    try:
        write_answers(answers, target)
    except OutputError:
        shutil.rmtree(scratch, ignore_errors=True)
        write_answers(answers, target)


def _peak_memory() -> int:
    """Bytes of the largest process that was started."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit


def write_report(report: Report, facts: dict[str, Any], out: Path, journal: Journal) -> dict[str, Any]:
    """Say what happened to each stage, and write it to the report after other facts; its content."""
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
