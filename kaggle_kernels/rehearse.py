"""A rehearsal: the bundle's own notebook, run as Kaggle would run it, on tasks that it has never seen."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import torch

from arcpipe.errors import ArcpipeError, DataError
from arcpipe.flops import measure_peak
from arcpipe.kaggle_kernels.attempt import folder_size
from arcpipe.kaggle_kernels.bundle import check_bundle, dataset_name
from arcpipe.kaggle_kernels.environment import make_environment, variables, without_network
from arcpipe.kaggle_kernels.estimate import estimate, estimate_text
from arcpipe.kaggle_kernels.layouts import LAYOUTS, ROOT_VARIABLE
from arcpipe.kaggle_kernels.push import DATASET, KERNEL
from arcpipe.kaggle_kernels.render import NOTEBOOK
from arcpipe.kaggle_kernels.run import MINUTES_VARIABLE, REPORT, RERUN_VARIABLE, SUBMISSION, score_words
from arcpipe.log import logger

EXECUTED = "executed.ipynb"
# What the notebook does beside the run: it starts, installs, and shows.
_SPARE_S = 240.0

Checker = Callable[[Path, Path], Sequence[str]]
"""The errors of a submission file as an answer to a challenges file."""


@dataclass(frozen=True)
class Stage:
    """What is rehearsed: a bundle, the tasks, the minutes of the clock, and a folder for what it makes."""

    bundle: Path
    challenges: Path
    minutes: float
    out: Path


def rehearse_bundle(
    stage: Stage, layouts: Sequence[str], modes: Sequence[str], check: Checker
) -> list[dict[str, Any]]:
    """The reports of the runs, one for each layout and mode, with `problems` of what would fail on Kaggle.

    Raises:  DataError if the bundle is not whole; ArcpipeError if this machine cannot rehearse.
    """
    manifest = check_bundle(stage.bundle)
    if not stage.challenges.is_file():
        raise DataError(f"{stage.challenges}: no such file")
    isolated, why_not = without_network()
    if why_not:
        logger.warning("THE NETWORK IS NOT CUT OFF (%s): a download in the notebook would go unseen", why_not)
    stage.out.mkdir(parents=True)
    python = make_environment(stage.out / "environment")
    peak = _peak_here()
    reports = []
    for layout in layouts:
        for mode in modes:
            root = stage.out / f"{layout}-{mode}"
            _lay_out(root, stage, layout, manifest["competition"])
            logger.info("%s layout, %s mode: the notebook runs in %s", layout, mode, root)
            report = _run(root, stage, python, isolated, mode)
            report["problems"] += _problems(report, root, stage, mode, check)
            found = estimate(report, manifest["kaggle"], peak)
            text = estimate_text(found, manifest["kaggle"])
            facts = {"layout": layout, "network": "on" if why_not else "cut off"}
            reports.append({**facts, **report, "at_240_tasks": found, "estimate": text})
    return reports


def _peak_here() -> float:
    """Operations a second of this machine's fastest device."""
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    return measure_peak(device, torch.bfloat16 if on_gpu else torch.float32)


def _lay_out(root: Path, stage: Stage, layout: str, competition: str) -> None:
    """Make the /kaggle of a layout: input, working and temp."""
    owner, slug = dataset_name(stage.bundle).split("/")
    of_competition, of_dataset = (
        root / "input" / place.format(competition=competition, owner=owner, slug=slug)
        for place in LAYOUTS[layout]
    )
    of_competition.mkdir(parents=True)
    shutil.copytree(stage.bundle / DATASET.parent, of_dataset, ignore=shutil.ignore_patterns(DATASET.name))
    for name in ("test", "evaluation"):
        shutil.copyfile(stage.challenges, of_competition / f"arc-agi_{name}_challenges.json")
    stem = stage.challenges.name.removesuffix("challenges.json")
    solutions = stage.challenges.with_name(f"{stem}solutions.json")
    if solutions.is_file():
        shutil.copyfile(solutions, of_competition / "arc-agi_evaluation_solutions.json")
    for path in (root / "input").rglob("*"):
        if path.is_file():
            path.chmod(0o444)
    for name in ("working", "temp"):
        (root / name).mkdir()


def _run(root: Path, stage: Stage, python: Path, isolated: list[str], mode: str) -> dict[str, Any]:
    """Execute the notebook; the report of its run, with what there is to say of the notebook itself."""
    home = root / "home"
    home.mkdir()
    environment = variables(python, home) | {
        ROOT_VARIABLE: str(root.resolve()), MINUTES_VARIABLE: f"{stage.minutes:g}",
        **({RERUN_VARIABLE: "1"} if mode == "rerun" else {}),
    }  # fmt: skip
    script = Path(__file__).with_name("execute.py")
    working = root / "working"
    notebook = (stage.bundle / KERNEL.parent / NOTEBOOK).resolve()
    command = [
        *isolated,
        str(python.absolute()),
        "-P",
        str(script),
        str(notebook),
        str((working / EXECUTED).resolve()),
    ]
    began = time.monotonic()
    problems = []
    ended, said = _bounded(command, environment, working, 60 * stage.minutes + _SPARE_S)
    if ended is None:
        problems.append(
            f"the notebook did not end within {stage.minutes:g} minutes and {_SPARE_S / 60:g} more"
        )
    elif ended:
        problems.append(f"the notebook failed: {said}")
    report: dict[str, Any] = {}
    with suppress(OSError, orjson.JSONDecodeError):
        report = orjson.loads((working / REPORT).read_bytes())
    return {
        **report, "mode": mode, "notebook_seconds": time.monotonic() - began,
        "output_bytes": folder_size(working), "problems": problems,
    }  # fmt: skip


def _bounded(
    command: Sequence[str], environment: Mapping[str, str], cwd: Path, timeout_s: float
) -> tuple[int | None, str]:
    """The exit code of a command, None if it had to be killed, and the last line that it said."""
    with subprocess.Popen(
        command, env=environment, cwd=cwd, text=True, errors="replace", stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            said = process.communicate(timeout=timeout_s)[1]
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            return None, ""
    lines = [line for line in said.splitlines() if line.strip()]
    return process.returncode, lines[-1] if lines else ""


def _problems(report: Mapping[str, Any], root: Path, stage: Stage, mode: str, check: Checker) -> list[str]:
    """What would have gone wrong on Kaggle."""
    submission = root / "working" / SUBMISSION
    if not submission.exists():
        return [f"there is no {SUBMISSION}"]
    found = list(check(submission, stage.challenges))
    if "stages" not in report:
        return [*found, "the run left no report: arcpipe.log says how far it came"]
    found += report["losses"]
    if not report["answered"] and not found:
        found.append(f"no test output is answered ({mode} run): give it more --minutes")
    return found


def report_text(report: Mapping[str, Any]) -> str:
    """What there is to say of a run: times, memory, disk, answers, and 240 tasks."""
    stages = [
        f"  {stage['name']:8}{stage['seconds']:8.1f} s   {stage['outcome']}"
        for stage in report.get("stages", ())
    ]
    scores = [f"  {words}" for words in score_words(report.get("scores", {}))]
    return "\n".join(
        [
            f"{report['layout']} layout, {report['mode']} run, network {report['network']}: "
            + ("FAILED" if report["problems"] else "passed"),
            f"  notebook{report['notebook_seconds']:8.1f} s",
            *stages,
            f"  largest process {report.get('peak_memory_bytes', 0) / 1e9:.2f} GB, scratch "
            f"{report.get('scratch_bytes', 0) / 1e6:.1f} MB, output {report['output_bytes'] / 1e6:.1f} MB",
            f"  {report.get('answered', 0)} of {report.get('outputs', 0)} test outputs answered",
            *scores,
            *(f"  {line}" for line in report["estimate"].splitlines()),
            *(f"  PROBLEM: {problem}" for problem in report["problems"]),
        ]
    )


def refuse_problems(reports: Sequence[Mapping[str, Any]], out: Path | None) -> None:
    """Raises ArcpipeError if a run would have gone wrong."""
    problems = [
        f"{report['layout']}, {report['mode']}: {problem}"
        for report in reports
        for problem in report["problems"]
    ]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        where = f"see {out}" if out else "--out DIR keeps its logs"
        raise ArcpipeError(f"the rehearsal failed: {problems[0]}{more}; {where}")
