"""The `arcpipe` command: assembles the stages' commands and renders errors."""

import sys

import typer

from arcpipe import __version__
from arcpipe.augment import commands as augment_commands
from arcpipe.commands import checkpoint as checkpoint_commands
from arcpipe.commands import recipe as recipe_commands
from arcpipe.commands.doctor import doctor
from arcpipe.commands.quickstart import quickstart
from arcpipe.errors import ArcpipeError
from arcpipe.infer import commands as infer_commands
from arcpipe.kaggle_kernels import commands as kaggle_commands
from arcpipe.submissions import commands as submissions_commands
from arcpipe.submissions import ledger_commands, vote_commands
from arcpipe.train import commands as train_commands

# typer brings its own copy of click in its newer versions: this is that copy's, whichever it is.
_ClickException: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)

# What typer's newer versions return, without a word, where Ctrl-C ended a command.
_INTERRUPTED = 130

app = typer.Typer(
    name="arcpipe",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"arcpipe {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def arcpipe(
    context: typer.Context,
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Train, run and submit Tiny Recursive Models: augment -> train -> infer -> vote -> score."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.command()(quickstart)
app.add_typer(augment_commands.app, name="augment")
app.command()(train_commands.train)
app.command()(train_commands.adapt)
app.command()(infer_commands.infer)
app.command()(vote_commands.vote)
app.command()(infer_commands.solve)
app.add_typer(checkpoint_commands.app, name="checkpoint")
app.command()(submissions_commands.check)
app.command()(submissions_commands.score)
app.command()(submissions_commands.merge)
app.command()(submissions_commands.report)
app.add_typer(ledger_commands.app, name="submissions")
app.add_typer(kaggle_commands.app, name="kaggle")
app.command()(augment_commands.show)
app.add_typer(recipe_commands.app, name="recipe")
app.command()(doctor)


def main() -> None:
    """Run the command line: exit code 0 done, 2 the user's input, 1 a bug (with its traceback)."""
    try:
        code = app(standalone_mode=False)
    except _ClickException as error:
        _fail(error.format_message())  # type: ignore[attr-defined]
    except ArcpipeError as error:
        _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    if code == _INTERRUPTED:
        _fail("interrupted")
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> None:
    sys.stderr.write(f"arcpipe: {' '.join(message.split())}\n")
    sys.exit(2)
