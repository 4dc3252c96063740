"""The entry that the notebook runs: within the time limit, with a complete submission from the start.

Its stages are adapt, infer and vote. Each runs an arcpipe command in processes of its own, with the recipe of
the bundle and a deadline. A failure in a stage or a task costs answers, never the submission.
"""

import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from arcpipe import __version__
from arcpipe.documents import load_json, read_json
from arcpipe.errors import ArcpipeError, DataError, OutputError
from arcpipe.infer.config import InferSettings
from arcpipe.kaggle_kernels import clock, mounts
from arcpipe.log import METRICS_FILE
from arcpipe.model_config import BUCKET_UNITS
from arcpipe.recipe import load_recipe
from arcpipe.runs import MANIFEST, MODEL_FACTS, read_manifest, whole_checkpoints, write_json
from arcpipe.submissions.score import answered_part, score_submission
from arcpipe.submissions.submission import read_submission
from arcpipe.task import Task, challenges_json, coverage_text, parse_task, read_solutions
from arcpipe.train.config import AdaptSettings

SUBMISSION, SMOKE, REPORT, LOG = "submission.json", "smoke.json", "arcpipe-report.json", "arcpipe.log"
RECIPE_FILE = "recipe.toml"
RERUN_VARIABLE = "KAGGLE_IS_COMPETITION_RERUN"
ROOT_VARIABLE, MINUTES_VARIABLE = "ARCPIPE_KAGGLE_ROOT", "ARCPIPE_KAGGLE_MINUTES"
_TRIES = 4
_RATES = ("lr", "puzzle_lr", "muon_lr")

SCORES = {
    "pass@2 over tasks": "pass@2 over tasks (Kaggle)",
    "pass@2": "pass@2 over test outputs",
    "pass@1": "pass@1 over test outputs",
}
"""The scores in a report, with their labels in the log."""


@dataclass(frozen=True)
class HiddenTasks:
    """The tasks of a challenges file.

    tasks: the tasks that can be read.
    unreadable: task id -> the reason why it cannot be read.
    num_tests: task id -> number of test inputs, for all tasks in the order of the file.
    """

    tasks: tuple[Task, ...]
    unreadable: Mapping[str, str]
    num_tests: dict[str, int]

    @property
    def num_outputs(self) -> int:
        """Return the number of test outputs to predict."""
        return sum(self.num_tests.values())

    def sample(self, count: int) -> "HiddenTasks":
        """Return `count` of the readable tasks, those with the most tests first."""
        tasks = tuple(sorted(self.tasks, key=lambda task: -len(task.tests))[:count])
        return HiddenTasks(tasks, {}, {task.id: len(task.tests) for task in tasks})


def read_hidden_tasks(path: Path) -> HiddenTasks:
    """Read a challenges file; malformed tasks do not affect the others.

    Raises:  DataError if the file is not a JSON object of tasks.
    """
    content = read_json(path, repeated=True)
    if not isinstance(content, dict) or not content:
        raise DataError(f"{path}: expected an object of tasks by id")
    tasks: list[Task] = []
    unreadable: dict[str, str] = {}
    for task_id, value in content.items():
        try:
            tasks.append(parse_task(task_id, value, path.name))
        except DataError as error:
            unreadable[task_id] = str(error)
    num_tests = {name: mounts.num_tests(value) for name, value in content.items()}
    return HiddenTasks(tuple(tasks), unreadable, num_tests)


def score_words(scores: Mapping[str, float]) -> list[str]:
    """Format scores with their labels, Kaggle's first."""
    return [f"{words} {scores[name]:.4f}" for name, words in SCORES.items() if name in scores]


def has_buckets(checkpoint: Path) -> bool:
    """Return whether a network has smaller canvases for small tasks; False for a damaged checkpoint."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        return bool(load_json(checkpoint / MODEL_FACTS)["config"].get("buckets"))
    return False


@dataclass
class RunReport:
    """The report of a run: stages with their times and outcomes, and losses. Times are in seconds.

    mode: commit, rerun or simulation.
    tasks: number of tasks in the test file; the run tried `tried_tasks` of them.
    scores: by the names of SCORES, over the `scored` test outputs with a candidate, if solutions are known.
    answered: test outputs with an attempt other than [[0]].
    clock: the time limit.
    """

    mode: str = ""
    tasks: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    scored: int = 0
    outputs: int = 0
    answered: int = 0
    processes: int = 0
    gpus: tuple[str, ...] = ()
    plan: str = ""
    clock: float = 0.0
    stages: list[dict[str, Any]] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    tried_tasks: int = 0
    grids: int = 0
    grids_wanted: int = 0
    trained: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    peak_memory_bytes: int = 0
    scratch_bytes: int = 0


class Pipeline:
    """The stages of one entry, in folders below its scratch folder.

    answered: (task id, test index) of each test input with a candidate.
    """

    def __init__(
        self, checkpoint: Path, recipe: Path, scratch: Path, journal: clock.Journal, hidden: HiddenTasks,
        minutes: float | None,
    ) -> None:  # fmt: skip
        """Args:  minutes: the time limit; by default that of the recipe."""
        self.checkpoint, self.recipe, self.scratch = checkpoint, recipe, scratch
        self.hidden, self.journal, self.began = hidden, journal, time.monotonic()
        entry = load_recipe(str(recipe))
        self.tables, self.settings = entry.tables, entry.settings("kaggle", clock.KaggleSettings)
        self.budget = clock.make_budget(self.settings, minutes)
        self.devices = clock.find_devices(self.settings.cpu_processes, journal)
        self.report = RunReport(
            outputs=hidden.num_outputs, plan=self.budget.text, clock=self.budget.total_s,
            gpus=self.devices.gpus, processes=self.devices.count, tried_tasks=len(hidden.tasks),
        )  # fmt: skip
        self.challenges, self.ballot = scratch / "challenges.json", scratch / "voted.json"
        self.adapted, self.predictions = scratch / "adapted", scratch / "predictions"
        self.answered: set[tuple[str, int]] = set()

    def run(self, target: Path) -> RunReport:
        """Write a submission to `target`: first the fallback, at the end the voted attempts.

        Raises:  OutputError if not even the fallback can be written.
        """
        outputs = f"{self.report.outputs} test outputs"
        write_json(target, mounts.fallbacks(self.hidden.num_tests), indent=False)
        self.journal.say(f"{target.name}: complete with [[0]] for {outputs}")
        self.journal.say(
            f"plan for {len(self.hidden.tasks)} tasks with {outputs}: {self.budget.text}; "
            f"{self.devices.count} process(es) on {self.devices.text}"
        )
        for reason in self.hidden.unreadable.values():
            self._add_loss(f"left at [[0]]: {reason}")
        try:
            content = self._predict()
            try:
                write_json(target, content, indent=False)
            except OutputError:
                # Make room on a full disk.
                shutil.rmtree(self.scratch, ignore_errors=True)
                write_json(target, content, indent=False)
            attempts = (pair.values() for task in content.values() for pair in task)
            self.report.answered = sum(any(grid != mounts.NO_ANSWER for grid in pair) for pair in attempts)
        except (ArcpipeError, OSError) as error:
            self._add_loss(str(error))
        self.report.seconds = time.monotonic() - self.began
        unit = 1 if sys.platform == "darwin" else 1024
        self.report.peak_memory_bytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
        self.journal.say(f"{target.name}: {self.report.answered} of {outputs} answered")
        return self.report

    def score(self, submission: Path, solutions: Path) -> None:
        """Add the scores of the answered test inputs of a submission to the report.

        Raises:  DataError if one of the files is damaged.
        """
        self.report.scored = len(self.answered)
        grids = read_solutions(solutions)
        attempts, outputs = answered_part(read_submission(submission), grids, self.answered)
        if outputs:
            score = score_submission(attempts, outputs, str(submission))
            self.report.scores = {
                "pass@2 over tasks": score.pass_at_2.mean_over_tasks,
                "pass@2": score.pass_at_2.mean_over_outputs,
                "pass@1": score.pass_at_1.mean_over_outputs,
            }

    def _add_loss(self, what: str) -> None:
        """Report and log a loss, which makes the submission worse."""
        self.report.losses.append(what)
        self.journal.say(f"LOSS: {what}")

    def _predict(self) -> dict[str, list[dict[str, Any]]]:
        """Run all stages and return the voted submission; raise ArcpipeError if a stage has no result."""
        if not self.hidden.tasks:
            raise ArcpipeError("no task can be read")
        self.scratch.mkdir(parents=True, exist_ok=True)
        write_json(self.challenges, challenges_json(self.hidden.tasks), indent=False)
        self._stage("adapt", self.budget.adapt_s, self._adapt, self._trainers, together=True)
        if not whole_checkpoints(self.adapted):
            raise ArcpipeError("adaptation left no checkpoint, without which nothing can be answered")
        with suppress(OSError, orjson.JSONDecodeError, IndexError):
            last = orjson.loads((self.adapted / METRICS_FILE).read_bytes().splitlines()[-1])
            self.report.trained = {name: last.get(name) for name in ("step", "seconds", "samples_per_second")}
        self._stage("infer", self.budget.infer_s, self._infer, lambda: self.devices, together=False)
        if (self.predictions / MANIFEST).exists():
            # Imported here because the fallback must not depend on them.
            from pyarrow import ArrowException, parquet

            from arcpipe.predictions import answered_tests, shard_files

            self.report.grids_wanted = read_manifest(self.predictions, "predictions")["items"]
            for file in shard_files(self.predictions):
                with suppress(OSError, ArrowException, DataError):
                    self.report.grids += parquet.ParquetFile(file).metadata.num_rows
                    self.answered |= answered_tests(file)
        self.report.scratch_bytes = folder_size(self.scratch)
        if not self.report.grids:
            raise ArcpipeError("inference left no candidates")
        # The vote takes a single process without GPU.
        vote = [*map(str, ("vote", self.predictions, "--challenges", self.challenges, "--out", self.ballot))]
        self._stage("vote", self.budget.vote_s, lambda *_: vote, lambda: clock.Devices(()), together=False)
        if not self.ballot.exists():
            raise ArcpipeError("the vote left no answers")
        # Unreadable tasks keep the fallback.
        content = mounts.fallbacks(self.hidden.num_tests)
        content.update(read_json(self.ballot))
        return content

    def _stage(
        self, name: str, end_s: float, command: Callable[[float, Sequence[clock.Outcome]], list[str]],
        devices: Callable[[], clock.Devices], *, together: bool,
    ) -> None:  # fmt: skip
        """Run a stage; repeat it until its deadline if it fails for a reason that another try may avoid.

        Args:  command: returns the arguments, given the minutes of work and the tries that failed.
               devices: returns the devices for the stage, of those that still work.
        """
        began, outcome = time.monotonic(), None
        failures: list[clock.Outcome] = []
        for tries in range(1, _TRIES + 1):
            window = clock.make_window(self.settings, self.began + end_s)
            if window.work_s <= 0:
                break
            arguments = command(window.work_s / 60, failures)
            self.journal.say(f"{name}: arcpipe {' '.join(arguments)}")
            environments = devices().environments()
            # Only once, so that the others come to their end if one crashes each time.
            restart_by = time.monotonic() + (2 / 3 * window.work_s if tries == 1 else 0.0)
            outcome = clock.run_processes(
                arguments, environments, window, self.journal, together=together, restart_by=restart_by
            )
            self.journal.say(f"{name}: {outcome.text}")
            if outcome.success or outcome.late or outcome.refused:
                break
            self._add_loss(f"{name}, try {tries}: {outcome.text}")
            failures.append(outcome)
            if devices().gpus:
                # Continue without GPUs that no longer work.
                devices_now = clock.find_devices(self.settings.cpu_processes, self.journal)
                if devices_now.gpus and devices_now.gpus != self.devices.gpus:
                    self._add_loss(f"{self.devices.text} -> {', '.join(devices_now.gpus)}")
                    self.devices = devices_now
        text = "no time was left" if outcome is None else outcome.text
        failed = outcome is None or not outcome.success
        # The loss of a try with another one after it is known already.
        if failed and outcome not in failures:
            self._add_loss(f"{name}: {text}")
        self.report.stages.append(
            {
                "name": name, "seconds": time.monotonic() - began, "ends_by": end_s, "failed": failed,
                "outcome": text, "said": "".join(outcome.tails[0][-1:]) if outcome is not None else "",
            }
        )  # fmt: skip

    def _trainers(self) -> clock.Devices:
        """Return the devices for adaptation; with buckets a power of two, to divide the samples evenly."""
        if not has_buckets(self.checkpoint):
            return self.devices
        count = 1 << (self.devices.count.bit_length() - 1)
        return clock.Devices(self.devices.gpus[:count], min(self.devices.cpu_processes, count))

    def _adapt(self, minutes: float, failures: Sequence[clock.Outcome]) -> list[str]:
        """Return the arguments of adaptation.

        Each try that ran out of memory halves it; each whose loss was not finite halves the learning rates.
        """
        arguments = [
            "adapt", "--checkpoint", str(self.checkpoint), "--challenges", str(self.challenges),
            "--out", str(self.adapted), "--recipe", str(self.recipe), "--max-minutes", f"{minutes:.3f}",
        ]  # fmt: skip
        if (self.adapted / MANIFEST).exists():
            arguments += ["--resume", "--force"]
        table, count = self.tables.get("adapt", {}), self._trainers().count
        units = BUCKET_UNITS if count > 1 and has_buckets(self.checkpoint) else 1
        halvings = sum(failure.out_of_memory for failure in failures)
        divergences = sum(failure.not_finite for failure in failures)
        overrides: dict[str, Any] = clock.adapt_overrides(table, count, halvings, units)
        for rate in _RATES if divergences else ():
            overrides[rate] = table.get(rate, getattr(AdaptSettings(), rate)) / 2**divergences
        if any(failure.in_float16 for failure in failures):
            # In float16 a loss overflows sooner.
            overrides["precision"] = "float32"
        for key, value in overrides.items():
            arguments += ["--set", f"adapt.{key}={value}"]
        return arguments

    def _infer(self, minutes: float, failures: Sequence[clock.Outcome]) -> list[str]:
        arguments = [
            "infer", "--checkpoint", str(self.adapted), "--data", str(self.adapted / "data"),
            "--out", str(self.predictions), "--recipe", str(self.recipe),
            "--max-minutes", f"{minutes:.3f}",
        ]  # fmt: skip
        if halvings := sum(failure.out_of_memory for failure in failures):
            batch = self.tables.get("infer", {}).get("batch_size", InferSettings().batch_size)
            arguments += ["--set", f"infer.batch_size={max(1, batch >> halvings)}"]
        return arguments + (["--resume"] if (self.predictions / MANIFEST).exists() else [])


def folder_size(folder: Path) -> int:
    """Return the total size of all files below a folder in bytes."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def run_notebook(root: Path, minutes: float | None, bundle: Path | None) -> None:
    """Run the entry on Kaggle: all test tasks in the scored rerun, a few evaluation tasks in the commit run.

    The competition and the bundles may be anywhere below `root`/input; the bundle names its competition.

    Args:    minutes: replaces the time limit of the recipe. bundle: the bundle's folder, if known.
    Raises:  ArcpipeError if there are no test tasks or the fallback cannot be written. A commit run also
             raises it if the bundle is incomplete or cannot be run, or if GPUs of the recipe's machine are
             missing and the time limit is the recipe's; a failed rerun would score nothing.
    """
    top, out, temp = root / "input", root / "working", root / "temp"
    journal = clock.Journal(out / LOG)
    folders = mounts.bundles(top) if bundle is None else [bundle]
    competition = ""
    # The name only breaks ties between competitions, so it may be missing.
    with suppress(OSError, ValueError, KeyError, TypeError, IndexError):
        competition = str(load_json(folders[0] / mounts.BUNDLE_FILE)["competition"])
    try:
        test = mounts.find_test(top, competition)
    except mounts.EntryError as error:
        raise DataError(str(error)) from None
    hidden = read_hidden_tasks(test)
    write_json(out / SUBMISSION, mounts.fallbacks(hidden.num_tests), indent=False)
    rerun = bool(os.environ.get(RERUN_VARIABLE))
    journal.say(
        f"arcpipe {__version__} from {Path(__file__).parents[1]}; {test}: "
        f"{len(hidden.num_tests)} tasks; {'scored rerun' if rerun else 'commit run'}"
    )
    # Large files must not become output of the notebook; use the temporary folder of Kaggle or the system.
    large = temp if temp.is_dir() and os.access(temp, os.W_OK) else Path(os.environ.get("TMPDIR", "/tmp"))
    scratch = large / f"arcpipe-{os.getpid()}"
    report = RunReport(outputs=hidden.num_outputs)
    failure = ""
    try:
        mounts.refuse_partial(top, folders)
        bundle = folders[0]
        settings = load_recipe(str(bundle / RECIPE_FILE)).settings("kaggle", clock.KaggleSettings)
        if rerun:
            pipeline = Pipeline(bundle, bundle / RECIPE_FILE, scratch, journal, hidden, minutes)
            report = pipeline.run(out / SUBMISSION)
        else:
            report = _smoke(root, competition, bundle, settings, scratch, journal, hidden, minutes)
        if minutes is None:
            # A rehearsal, which replaces the clock, is not on the machine of the settings.
            clock.refuse_missing_gpus(settings, report.gpus)
    except (ArcpipeError, mounts.EntryError) as error:
        failure = str(error)
        report.losses.append(failure)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    report.mode, report.tasks = "rerun" if rerun else "commit", len(hidden.num_tests)
    write_report(report, out, journal)
    if failure and not rerun:
        raise ArcpipeError(failure)


def _smoke(
    root: Path, competition: str, bundle: Path, settings: clock.KaggleSettings, scratch: Path,
    journal: clock.Journal, hidden: HiddenTasks, minutes: float | None,
) -> RunReport:  # fmt: skip
    """Run a few tasks for a short time; the submission for the test tasks stays the fallback."""
    target = root / "working" / SMOKE
    challenges, solutions = (
        mounts.find_file(root / "input", competition, "evaluation", kind)
        for kind in ("challenges", "solutions")
    )
    if challenges is None:
        journal.say("no evaluation file beside the test file: trying a few of the test tasks")
    else:
        hidden = read_hidden_tasks(challenges)
    sample = hidden.sample(settings.smoke_tasks)
    journal.say(f"{SUBMISSION} stays at [[0]]; trying {', '.join(task.id for task in sample.tasks)}")
    limit = min(settings.smoke_minutes, minutes or settings.limit_minutes)
    pipeline = Pipeline(bundle, bundle / RECIPE_FILE, scratch, journal, sample, limit)
    report = pipeline.run(target)
    if solutions is not None:
        try:
            pipeline.score(target, solutions)
            words = [coverage_text(report.scored, report.outputs), *score_words(report.scores)]
            journal.say(f"{SMOKE}: {', '.join(words)}")
        except ArcpipeError as error:
            journal.say(f"the short run cannot be scored: {error}")
    return report


def write_report(report: RunReport, out: Path, journal: clock.Journal) -> dict[str, Any]:
    """Log the outcome of each stage, and write the report; return its content."""
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
