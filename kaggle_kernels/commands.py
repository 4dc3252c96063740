"""`arcpipe kaggle`: from a bundle folder to a score on Kaggle."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arcpipe.kaggle_kernels import entry_commands

if TYPE_CHECKING:
    from arcpipe.kaggle_kernels.client import Kaggle, Submission
    from arcpipe.kaggle_kernels.record import Record, SentKernel

app = typer.Typer(rich_markup_mode=None)

_Bundle = Annotated[Path, typer.Argument(help="A bundle folder, with dataset/ and kernel/.")]
_Timeout = Annotated[
    float,
    typer.Option(min=0.01, envvar="ARCPIPE_KAGGLE_TIMEOUT_S", help="Seconds to wait for an answer."),
]
_Poll = Annotated[
    float,
    typer.Option(
        min=0.01, envvar="ARCPIPE_KAGGLE_POLL_S", help="Seconds between two looks at Kaggle, or two tries."
    ),
]
_Ledger = Annotated[Path, typer.Option(help="The ledger that the score is entered in.")]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]


@app.callback(invoke_without_command=True)
def kaggle(context: typer.Context) -> None:
    """Kaggle: make a bundle, rehearse it, push it, follow its run, submit it once, and see its score."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.command()(entry_commands.bundle)
app.command()(entry_commands.rehearse)
app.command()(entry_commands.run)
app.command()(entry_commands.simulate)


@app.command()
def push(
    bundle: _Bundle,
    max_minutes: Annotated[float, typer.Option(min=0, help="How long to wait for the dataset.")] = 60,
    timeout_s: _Timeout = 60,
    poll_s: _Poll = 30,
) -> None:
    """Send a bundle: its dataset, and when that is ready, its kernel, which Kaggle then runs.

    A dataset that is there already is not sent again.

    Example: arcpipe kaggle push runs/bundle
    """
    from arcpipe.kaggle_kernels.push import push_dataset, push_kernel, read_bundle
    from arcpipe.kaggle_kernels.record import at_work, read_record
    from arcpipe.log import start_logging

    start_logging()
    with at_work(bundle):
        checked, record = read_bundle(bundle), read_record(bundle)
        connection = _connect(timeout_s, poll_s)
        dataset = push_dataset(connection, checked, record, max_minutes)
        kernel = push_kernel(connection, checked, record)
    typer.echo(f"dataset {dataset.reference} version {dataset.version}")
    typer.echo(f"kernel {kernel.reference} version {kernel.version}: {kernel.url}")


@app.command()
def status(
    bundle: _Bundle,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the run has ended.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="A folder to make of the files and the log of the ended run.")
    ] = None,
    max_minutes: Annotated[float, typer.Option(min=0, help="How long to wait for its end.")] = 780,
    timeout_s: _Timeout = 60,
    poll_s: _Poll = 30,
) -> None:
    """How the run of the kernel that was pushed last stands; exit code 2 if it failed.

    A run that is COMPLETE without a submission.json has failed.

    Example: arcpipe kaggle status runs/bundle --wait --out runs/bundle-output
    """
    from arcpipe.errors import ArcpipeError
    from arcpipe.kaggle_kernels import follow
    from arcpipe.runs import refuse_existing

    if out is not None:
        refuse_existing(out)
    kernel = _sent_kernel(bundle)[1]
    connection = _connect(timeout_s, poll_s)
    state, reason = (
        follow.wait_for_end(connection, kernel, max_minutes) if wait else follow.state_now(connection, kernel)
    )
    if out is not None:
        if not follow.is_over(state):
            raise ArcpipeError(f"{follow.name(kernel)}: {state}, it has no output yet: add --wait")
        follow.fetch_output(connection, kernel, out)
    where = f"{out}/{follow.LOG}" if out else "its log (--out DIR fetches it)"
    follow.refuse_failure(connection, kernel, state, reason, where)
    typer.echo(f"{follow.name(kernel)}: {state}")


@app.command()
def submit(
    bundle: _Bundle,
    competition: Annotated[
        str, typer.Option(help="Its name on Kaggle; by default the one that the kernel mounts.")
    ] = "",
    message: Annotated[str, typer.Option(help="A description for the list of submissions.")] = "",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the score.")] = True,
    max_minutes: Annotated[float, typer.Option(min=0, help="How long to wait for it.")] = 900,
    ledger: _Ledger = Path("runs/ledger.jsonl"),
    no_ledger: Annotated[bool, typer.Option("--no-ledger", help="Enter nothing.")] = False,
    timeout_s: _Timeout = 60,
    poll_s: _Poll = 30,
) -> None:
    """Submit the ended run of the kernel that was pushed last, and wait for its score.

    No run is submitted twice: a second time, the command goes on waiting. The run's submission.json
    comes to outputs/ in the bundle, and is entered in the ledger with its score.

    Example: arcpipe kaggle submit runs/bundle --message "256 augmentations"
    """
    from arcpipe.kaggle_kernels.push import read_bundle
    from arcpipe.kaggle_kernels.record import at_work
    from arcpipe.kaggle_kernels.submit import submit_once, wait_for_score
    from arcpipe.log import start_logging
    from arcpipe.runs import file_hash

    start_logging()
    with at_work(bundle):
        record, kernel = _sent_kernel(bundle)
        target = competition or _only_competition(read_bundle(bundle).competitions, bundle)
        connection = _connect(timeout_s, poll_s)
        path = _fetch_checked(connection, kernel, bundle)
        sha256 = file_hash(path)
        sent = submit_once(connection, bundle, record, kernel, target, sha256, message)
    if not wait:
        typer.echo(f"{target}: submission {sent.reference}")
        return
    scored = wait_for_score(connection, sent, max_minutes)
    typer.echo(f"{target}: submission {scored.reference} scored {scored.score}")
    if not no_ledger:
        _enter(ledger, path, target, kernel, scored)


@app.command()
def scores(
    competition: Annotated[str, typer.Option(help="The competition's name on Kaggle.")],
    as_json: _Json = False,
    timeout_s: _Timeout = 60,
    poll_s: _Poll = 30,
) -> None:
    """The submissions to a competition, the newest first: reference, time, status, score, description.

    Example: arcpipe kaggle scores --competition arc-prize-2026-arc-agi-2
    """
    import orjson

    listed = list(_connect(timeout_s, poll_s).submissions(competition))
    if as_json:
        typer.echo(orjson.dumps(listed).decode())
        return
    for one in listed:
        said = " ".join(filter(None, (one.description, one.error)))
        typer.echo(f"{one.reference}  {one.time}  {one.status}  {one.score or '-'}  {said}".rstrip())
    if not listed:
        typer.echo(f"{competition}: no submissions")


def _connect(timeout_s: float, poll_s: float) -> "Kaggle":
    from arcpipe.kaggle_kernels.asking import Pace
    from arcpipe.kaggle_kernels.client import Kaggle
    from arcpipe.log import start_logging

    start_logging()
    return Kaggle(Pace(timeout_s, poll_s))


def _sent_kernel(bundle: Path) -> "tuple[Record, SentKernel]":
    """The record of a bundle, and the kernel that was pushed from it last."""
    from arcpipe.errors import ArcpipeError
    from arcpipe.kaggle_kernels.record import read_record

    record = read_record(bundle)
    if record.kernel is None:
        raise ArcpipeError(f"{bundle}: its kernel is not on Kaggle: arcpipe kaggle push {bundle}")
    return record, record.kernel


def _only_competition(competitions: tuple[str, ...], bundle: Path) -> str:
    from arcpipe.errors import ArcpipeError

    if len(competitions) != 1:
        found = ", ".join(competitions) or "none"
        raise ArcpipeError(f"{bundle}: its kernel mounts {found}: name a --competition")
    return competitions[0]


def _fetch_checked(connection: "Kaggle", kernel: "SentKernel", bundle: Path) -> Path:
    """The submission file of the ended run, in Kaggle's form as far as can be told without the tasks."""
    from arcpipe.errors import ArcpipeError
    from arcpipe.kaggle_kernels import follow
    from arcpipe.submissions.submission import read_submission

    state, reason = follow.state_now(connection, kernel)
    if not follow.is_over(state):
        raise ArcpipeError(f"{follow.name(kernel)}: {state}: wait with arcpipe kaggle status {bundle} --wait")
    where = f"its log (arcpipe kaggle status {bundle} --out DIR)"
    follow.refuse_failure(connection, kernel, state, reason, where)
    path = bundle / "outputs" / f"v{kernel.version}" / follow.OUTPUT_FILE
    follow.fetch_submission(connection, kernel, path)
    read_submission(path)
    return path


def _enter(ledger: Path, path: Path, competition: str, kernel: "SentKernel", scored: "Submission") -> None:
    from arcpipe.submissions.ledger import add_fact, enter_file, only_warning

    with only_warning():
        sha256 = enter_file(ledger, path)
        add_fact(
            ledger, sha256, "kaggle", competition=competition, reference=scored.reference,
            kernel=kernel.reference, kernel_version=kernel.version, score=scored.score,
        )  # fmt: skip
        typer.echo(f"{path} is {sha256[:8]} in {ledger}", err=True)
