"""Local tests of an entry: a rehearsal of a bundle's notebook, or a simulation on solved tasks.

A rehearsal runs the notebook as Kaggle would, on unseen tasks, in an environment that imitates Kaggle's
image: it has only the packages of the image, in the versions installed here.
"""

import os
import shutil
import signal
import subprocess
import time
import venv
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import metadata, resources
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from arcpipe.augment.sources import read_source
from arcpipe.devices import measure_peak
from arcpipe.errors import ArcpipeError, DataError, OutputError
from arcpipe.kaggle_kernels import run
from arcpipe.kaggle_kernels.bundle import NOTEBOOK, check_bundle, write_recipe, write_trunk
from arcpipe.kaggle_kernels.clock import Journal, KaggleSettings, refuse_short_clock
from arcpipe.kaggle_kernels.submit import DATASET, KERNEL, read_bundle, read_history, write_history
from arcpipe.log import logger
from arcpipe.recipe import Recipe
from arcpipe.runs import hold_folder, known_json, make_manifest, new_folder, write_json
from arcpipe.submissions.submission import check_submission
from arcpipe.task import (
    Task,
    challenges_json,
    coverage_text,
    read_challenges,
    solutions_beside,
    solutions_json,
)

LAYOUTS = {
    "flat": ("{competition}", "{slug}"),
    "nested": ("competitions/{competition}", "datasets/{owner}/{slug}"),
    "model": ("competitions/{competition}", "models/{owner}/{slug}/pytorch/default/1"),
}
"""The folders below /kaggle/input of the competition and of the bundle, by layout.

flat: 2024 and 2025. nested: 2026. model: the bundle is attached as a model.
"""

EXECUTED = "executed.ipynb"
# Time of the notebook outside the run: starting, installing, printing.
_SPARE_S = 240.0
_GRACE_S = 10.0
_PASSED_ON = ("LANG", "LC_ALL", "TMPDIR", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")


def rehearse(
    bundle: Path, challenges: Path, minutes: float, out: Path, layouts: Sequence[str], modes: Sequence[str]
) -> list[dict[str, Any]]:
    """Run a bundle's notebook in the new folder `out`, once for each layout and mode; return the reports.

    Each report lists the `problems` that the run would have on Kaggle.

    Args:    challenges: the file of tasks in place of the hidden ones. minutes: the time limit of each run.
    Raises:  DataError if the bundle is not complete; ArcpipeError if this machine cannot rehearse.
    """
    manifest = check_bundle(bundle)
    if not challenges.is_file():
        raise DataError(f"{challenges}: no such file")
    prefix, why_not = without_network()
    if why_not:
        logger.warning("THE NETWORK IS NOT CUT OFF (%s): a download in the notebook would go unseen", why_not)
    out.mkdir(parents=True)
    python = make_image(out / "environment")
    on_gpu = torch.cuda.is_available()
    peak = measure_peak(
        torch.device("cuda" if on_gpu else "cpu"), torch.bfloat16 if on_gpu else torch.float32
    )
    reports = []
    for layout, mode in product(layouts, modes):
        root = out / f"{layout}-{mode}"
        _lay_out(root, bundle, challenges, layout, manifest["competition"])
        logger.info("%s layout, %s mode: the notebook runs in %s", layout, mode, root)
        report = _run(root, bundle, minutes, python, prefix, mode)
        report["problems"] += _problems(report, root, challenges, mode)
        hours = estimate(report, manifest["kaggle"], peak)
        text = estimate_text(hours, manifest["kaggle"])
        facts = {"layout": layout, "network": "on" if why_not else "cut off"}
        reports.append({**facts, **report, "at_240_tasks": hours, "estimate": text})
    return reports


def image_packages() -> dict[str, str]:
    """Return the versions of the packages in Kaggle's image, by canonical name."""
    file = resources.files("arcpipe.kaggle_kernels") / "templates" / "image-packages.txt"
    lines = [line for line in file.read_text("utf-8").splitlines() if not line.startswith("#")]
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def make_image(folder: Path) -> Path:
    """Make an environment in `folder` with the packages of the image, without arcpipe; return its Python.

    Its packages are links to those installed here, including the requirements they have on this machine.

    Raises:  ArcpipeError if this machine has no pip, which the notebook calls.
    """
    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
    site = next((folder / "lib").glob("python*/site-packages"))
    queue, seen = [Requirement(name) for name in image_packages()], set()
    while queue:
        requirement = queue.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            package = metadata.distribution(requirement.name)
        except metadata.PackageNotFoundError:
            continue
        for top in {file.parts[0] for file in package.files or []} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(package.locate_file(top))).resolve())
        queue += [
            dependency
            for dependency in map(Requirement, package.requires or [])
            if dependency.marker is None
            or any(dependency.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras))
        ]
    if not (site / "pip").exists():
        raise ArcpipeError("pip: a rehearsal needs it: python -m ensurepip")
    return folder / "bin" / "python"


def without_network() -> tuple[list[str], str]:
    """Return a command prefix that cuts off the network; if that is impossible, no prefix and the reason."""
    command = ["unshare", "--map-root-user", "--net", "--"]
    try:
        subprocess.run([*command, "true"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return [], " ".join(str(getattr(error, "stderr", "") or error).split())
    return command, ""


def _lay_out(root: Path, bundle: Path, challenges: Path, layout: str, competition: str) -> None:
    """Make the folder /kaggle in a layout: input, working and temp."""
    owner, slug = read_bundle(bundle).dataset.split("/")
    competition_dir, dataset_dir = (
        root / "input" / place.format(competition=competition, owner=owner, slug=slug)
        for place in LAYOUTS[layout]
    )
    competition_dir.mkdir(parents=True)
    shutil.copytree(bundle / DATASET.parent, dataset_dir, ignore=shutil.ignore_patterns(DATASET.name))
    for name in ("test", "evaluation"):
        shutil.copyfile(challenges, competition_dir / f"arc-agi_{name}_challenges.json")
    if (solutions := solutions_beside(challenges)).is_file():
        shutil.copyfile(solutions, competition_dir / "arc-agi_evaluation_solutions.json")
    for path in (root / "input").rglob("*"):
        if path.is_file():
            path.chmod(0o444)
    for name in ("working", "temp", "home"):
        (root / name).mkdir()


def _run(
    root: Path, bundle: Path, minutes: float, python: Path, prefix: Sequence[str], mode: str
) -> dict[str, Any]:
    """Execute the notebook; return the report of its run, with facts about the notebook.

    Args:  prefix: put before the command to cut off the network.
    """
    # Only these variables: others of this machine could help or disturb the notebook.
    environment = {
        **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        "PATH": os.pathsep.join((str(python.parent), os.defpath)), "HOME": str(root / "home"),
        "JUPYTER_PLATFORM_DIRS": "1", "HF_HUB_OFFLINE": "1", "PYTHONNOUSERSITE": "1",
        "KAGGLE_KERNEL_RUN_TYPE": "Batch", run.ROOT_VARIABLE: str(root.resolve()),
        run.MINUTES_VARIABLE: f"{minutes:g}", **({run.RERUN_VARIABLE: "1"} if mode == "rerun" else {}),
    }  # fmt: skip
    working = root / "working"
    notebook = (bundle / KERNEL.parent / NOTEBOOK).resolve()
    script, executed = Path(__file__).with_name("execute.py"), (working / EXECUTED).resolve()
    began, problems = time.monotonic(), []
    with subprocess.Popen(
        [*prefix, *map(str, (python.absolute(), "-P", script, notebook, executed))], env=environment,
        cwd=working, text=True, errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            stderr = process.communicate(timeout=60 * minutes + _SPARE_S)[1]
            if process.returncode:
                last = stderr.rstrip().rpartition("\n")[2]
                problems.append(f"the notebook failed: {last}")
        except subprocess.TimeoutExpired:
            problems.append(f"the notebook did not end within {minutes:g} minutes and {_SPARE_S / 60:g} more")
        finally:
            # Also on an interrupt. The kernel has a process group of its own, which execute.py ends.
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE_S)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return {
        **known_json(working / run.REPORT), "mode": mode, "notebook_seconds": time.monotonic() - began,
        "output_bytes": run.folder_size(working), "problems": problems,
    }  # fmt: skip


def _problems(report: Mapping[str, Any], root: Path, challenges: Path, mode: str) -> list[str]:
    """Return the problems that the run would have had on Kaggle."""
    submission = root / "working" / run.SUBMISSION
    if not submission.exists():
        return [f"there is no {run.SUBMISSION}"]
    errors = check_submission(submission, read_challenges(challenges)).errors
    problems = [problem.message for problem in errors]
    if "stages" not in report:
        return [*problems, "the run left no report: arcpipe.log says how far it came"]
    problems += report["losses"]
    if not report["answered"] and not problems:
        problems.append(f"no test output is answered ({mode} run): give it more --minutes")
    return problems


def estimate(report: Mapping[str, Any], settings: Mapping[str, Any], peak_here: float) -> dict[str, float]:
    """Estimate inference and adaptation for all hidden tasks, here and on the bundle's machine.

    Returns nothing if the run predicted no grid. Scales times by peak operations per second, which is right
    within a small factor.

    Args:    report: the report of a rehearsal's run. settings: the table [kaggle] of the bundle.
             peak_here: operations per second of this machine.
    """
    infer_s = sum(stage["seconds"] for stage in report.get("stages", ()) if stage["name"] == "infer")
    if not infer_s or not report["grids"]:
        return {}
    # Older bundles lack these settings, and some machines have no GPU.
    faster = (settings.get("gpus", 0) * settings.get("gpu_tflops", 0.0) * 1e12 or peak_here) / peak_here
    tasks = _tasks(settings) / report["tried_tasks"]
    hours = infer_s / 3600 * report["grids_wanted"] / report["grids"] * tasks
    speed = report["trained"].get("samples_per_second") or 0.0
    return {
        "infer_hours_here": hours,
        "infer_hours_there": hours / faster,
        "infer_hours_planned": settings["infer_minutes"] / 60,
        "samples_per_second_here": speed,
        "samples_per_second_there": speed * faster,
    }


def estimate_text(hours: Mapping[str, float], settings: Mapping[str, Any]) -> str:
    """Format the estimate in two lines."""
    if not hours:
        return f"no grid was answered, so nothing can be said of {_tasks(settings)} tasks"
    machine = settings["machine_shape"] or "this machine"
    return (
        f"{_tasks(settings)} tasks: inference {hours['infer_hours_here']:.2f} h here, about "
        f"{hours['infer_hours_there']:.2f} h on {machine}, planned {hours['infer_hours_planned']:.2f} h\n"
        f"adaptation: {hours['samples_per_second_here']:.0f} samples/s here, about "
        f"{hours['samples_per_second_there']:.0f} on {machine} (by the products it computes: a guess)"
    )


def _tasks(settings: Mapping[str, Any]) -> int:
    return int(settings.get("hidden_tasks", KaggleSettings().hidden_tasks))


def report_text(report: Mapping[str, Any]) -> str:
    """Format the report of a run: times, memory, disk, answers, and the estimate."""
    # Bundles of older versions do not report it.
    scored = report.get("scored", 0)
    state = "FAILED" if report["problems"] else "passed"
    return "\n".join(
        [
            f"{report['layout']} layout, {report['mode']} run, network {report['network']}: {state}",
            f"  notebook{report['notebook_seconds']:8.1f} s",
            *(
                f"  {stage['name']:8}{stage['seconds']:8.1f} s   {stage['outcome']}"
                for stage in report.get("stages", ())
            ),
            f"  largest process {report.get('peak_memory_bytes', 0) / 1e9:.2f} GB, scratch "
            f"{report.get('scratch_bytes', 0) / 1e6:.1f} MB, output {report['output_bytes'] / 1e6:.1f} MB",
            f"  {report.get('answered', 0)} of {report.get('outputs', 0)} test outputs answered",
            *([f"  {coverage_text(scored, report['outputs'])}"] if 0 < scored < report["outputs"] else []),
            *(f"  {words}" for words in run.score_words(report.get("scores", {}))),
            *(f"  {line}" for line in report["estimate"].splitlines()),
            *(f"  PROBLEM: {problem}" for problem in report["problems"]),
        ]
    )


def refuse_problems(reports: Sequence[Mapping[str, Any]], out: Path | None) -> None:
    """Raise ArcpipeError if a run has problems."""
    problems = [
        f"{report['layout']}, {report['mode']}: {problem}"
        for report in reports
        for problem in report["problems"]
    ]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        where = f"see {out}" if out else "--out DIR keeps its logs"
        raise ArcpipeError(f"the rehearsal failed: {problems[0]}{more}; {where}")


def note_share(reports: Sequence[Mapping[str, Any]], bundle: Path) -> None:
    """Note in the history of the bundle which share of its clock the commit run took.

    The run on Kaggle is compared with it.
    """
    # Bundles of older versions do not report their clock.
    commits = [report for report in reports if report["mode"] == "commit" and report.get("clock")]
    if commits:
        share = min(report["seconds"] / report["clock"] for report in commits)
        # A bundle in a read-only folder can be rehearsed too.
        with suppress(OutputError), hold_folder(bundle):
            write_history(bundle, replace(read_history(bundle), rehearsed=share))


def solved_tasks(source: str, count: int, seed: int) -> list[Task]:
    """Read `count` tasks of a source, drawn by the seed; all of them for 0.

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
    """Run an entry for these tasks in the folder `out`; return its report, with its scores.

    Raises:  OutputError if `out` exists; ArcpipeError if the clock is too short; CheckpointError if the
             checkpoint cannot be adapted.
    """
    refuse_short_clock(recipe.settings("kaggle", KaggleSettings), minutes)
    manifest = make_manifest("simulation", checkpoint=str(checkpoint), minutes=minutes, recipe=recipe.name)
    with new_folder(out, manifest) as folder:
        # As in a bundle, only the trunk of the checkpoint.
        write_trunk(checkpoint, folder / "trunk")
        write_recipe(recipe, folder / run.RECIPE_FILE)
        write_json(folder / "challenges.json", challenges_json(tasks), indent=False)
        write_json(folder / "solutions.json", solutions_json(tasks), indent=False)
    journal = Journal(out / run.LOG)
    hidden = run.read_hidden_tasks(out / "challenges.json")
    pipeline = run.Pipeline(out / "trunk", out / run.RECIPE_FILE, out / "work", journal, hidden, minutes)
    report = pipeline.run(out / run.SUBMISSION)
    report.mode, report.tasks = "simulation", len(tasks)
    pipeline.score(out / run.SUBMISSION, out / "solutions.json")
    return run.write_report(report, out, journal)
