"""`arcpipe submissions list`, `show` and `compare`: the ledger."""

from pathlib import Path
from typing import Annotated

import typer

from arcpipe.submissions.commands import LEDGER

app = typer.Typer(rich_markup_mode=None)

_Ledger = Annotated[Path, typer.Option(help="The ledger to read.")]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]
_WANTED = "A submission file, or the beginning of its hash."


@app.callback(invoke_without_command=True)
def submissions(context: typer.Context) -> None:
    """The ledger: what each submission file was made from, and what it scored."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(name="list")
def list_submissions(ledger: _Ledger = LEDGER, as_json: _Json = False) -> None:
    """One line per submission: hash, date, pass@2 at home (over tasks) and on Kaggle, checkpoint, file.

    Example: arcpipe submissions list
    """
    import orjson

    from arcpipe.log import start_logging
    from arcpipe.submissions.ledger import read_ledger
    from arcpipe.submissions.ledger_text import entry_facts, list_text

    start_logging()
    entries = read_ledger(ledger)
    document = [entry_facts(entry) for entry in entries]
    typer.echo(orjson.dumps(document).decode() if as_json else list_text(entries))


@app.command()
def show(
    submission: Annotated[str, typer.Argument(help=_WANTED)],
    ledger: _Ledger = LEDGER,
    as_json: _Json = False,
) -> None:
    """All that the ledger knows of one submission.

    Example: arcpipe submissions show 3f2a91c4
    """
    import orjson

    from arcpipe.log import start_logging
    from arcpipe.submissions.ledger import find_entry, read_ledger
    from arcpipe.submissions.ledger_text import entry_facts, entry_text

    start_logging()
    entry = find_entry(read_ledger(ledger), submission, ledger)
    typer.echo(orjson.dumps(entry_facts(entry)).decode() if as_json else entry_text(entry))


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help=_WANTED)],
    second: Annotated[str, typer.Argument(help=_WANTED)],
    ledger: _Ledger = LEDGER,
    as_json: _Json = False,
) -> None:
    """What differs between two submissions: recipe, checkpoint, data, versions, scores.

    Example: arcpipe submissions compare 3f2a91c4 b07d11e2
    """
    import orjson

    from arcpipe.log import start_logging
    from arcpipe.submissions.ledger import find_entry, read_ledger
    from arcpipe.submissions.ledger_text import compare_text, differences

    start_logging()
    entries = read_ledger(ledger)
    one, other = (find_entry(entries, wanted, ledger) for wanted in (first, second))
    if as_json:
        changes = differences(one, other)
        typer.echo(orjson.dumps({"first": one.sha256, "second": other.sha256, "changes": changes}).decode())
    else:
        typer.echo(compare_text(one, other))
