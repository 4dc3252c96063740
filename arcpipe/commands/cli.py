"""The `arcpipe` command: finds the command that is named, loads its module alone, and renders errors."""

import re
import sys
from contextlib import redirect_stdout
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from textwrap import wrap
from typing import Any, cast

import typer
import typer.core
import typer.main

from arcpipe import __version__
from arcpipe.errors import ArcpipeError, DataError, printable

COMMANDS = {
    "quickstart": ("commands.quickstart:quickstart", "The whole pipe on 25 small ARC tasks, on a laptop."),
    "augment": ("augment.commands:app", "Raw puzzles -> a dataset folder."),
    "train": ("train.commands:train", "Train on a dataset folder, in one process or many."),
    "adapt": ("train.commands:adapt", "Train a checkpoint on the demonstrations of new ARC tasks."),
    "infer": ("infer.commands:infer", "Answer every test input under every augmentation."),
    "vote": ("submissions.commands:vote", "Predictions -> submission.json."),
    "evaluate": ("commands.quickstart:evaluate", "A checkpoint and a set of ARC tasks -> a score."),
    "solve": ("infer.commands:solve", "Answer one puzzle, drawn step by step."),
    "checkpoint": ("commands.checkpoint:app", "Import, export, show and verify checkpoints."),
    "check": ("submissions.commands:check", "Check that a submission is complete and in Kaggle's form."),
    "score": ("submissions.commands:score", "Score a submission: pass@1 and pass@2."),
    "merge": ("submissions.commands:merge", "Make one submission of several."),
    "report": ("submissions.commands:report", "Make one HTML page of a run."),
    "submissions": ("submissions.commands:app", "List and compare what was scored and sent."),
    "kaggle": ("kaggle_kernels.commands:app", "Bundle, rehearse, push and submit a notebook."),
    "show": ("commands.show:show", "Draw a task, list tasks, or say what a folder or file is."),
    "recipe": ("commands.recipe:app", "List, show, check and compare recipes."),
    "doctor": ("commands.doctor:doctor", "Say what this machine can run, and why."),
}
"""Each command: the module and the function or Typer application in it, and a line of help."""

# typer brings its own copy of click in its newer versions: this is that copy's, whichever it is.
_ClickException: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)

# What typer's newer versions return, without a word, where Ctrl-C ended a command.
INTERRUPTED = 130


# Of a screen of 80 columns, what a summary and a line of an example have.
_SUMMARY, _LINE = 62, 72
# A path below the home folder, alone or behind its option.
_HOME = re.compile(r"^(|--[a-z-]+=)~(?=/|$)")
# Of a message: what names all that is wrong at once ends somewhere.
_LONGEST = 20_000
# Options that name a folder which must be there, whatever the command.
_FOLDERS = ("--data", "--checkpoint", "--init")


class _LazyGroup(typer.core.TyperGroup):
    """The commands of COMMANDS; a module is imported when its command is named."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        # What a misspelled name is compared with.
        self.commands = dict.fromkeys(COMMANDS)  # type: ignore[assignment]
        self._completing = False

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands, in the order of the pipe."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, None if there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        if self._completing:
            return typer.core.TyperCommand(cmd_name, short_help=COMMANDS[cmd_name][1])
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(f"arcpipe.{module}"), name)
        if isinstance(command, typer.Typer):
            return _readable(typer.main.get_group(command))
        single = typer.Typer(rich_markup_mode=None, add_completion=False)
        single.command(cmd_name)(command)
        return _readable(typer.main.get_command(single))

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Return the names of commands that begin so, without loading any."""
        self._completing = True
        try:
            return super().shell_complete(ctx, incomplete)
        finally:
            self._completing = False

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands of a help text, without loading any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


app = typer.Typer(
    name="arcpipe", cls=_LazyGroup, pretty_exceptions_enable=False,
    rich_markup_mode=None,
)  # fmt: skip


def _readable(command: Any) -> Any:
    """Make summaries fit their line, and examples such that they can be pasted; return the command."""
    for one in (command, *getattr(command, "commands", {}).values()):
        text, _, example = (one.help or "").partition("Example: ")
        summary = re.split(r"[.]?(?:\n\n|$)|[.] ", " ".join(text.partition("\n\n")[0].split()))[0]
        if len(summary) > _SUMMARY:
            summary = re.split("[:;]", summary)[0]
        while len(summary) > _SUMMARY and "," in summary:
            summary = summary.rpartition(",")[0]
        one.short_help = f"{summary}."
        if example:
            words = f"Example: {' '.join(example.split())}"
            lines = wrap(words, _LINE, subsequent_indent=" " * 4, break_on_hyphens=False)
            # Without this mark, lines are filled anew.
            one.help = f"{text}\b\n" + " \\\n".join(lines)
    return command


def _refuse_missing_folders(words: list[str]) -> None:
    """Raise DataError for a folder that is not there, before a command takes seconds to load torch."""
    parts = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]
    for option, value in pairwise(parts):
        if option in _FOLDERS and "--help" not in words:
            try:
                Path(value).stat()
            except FileNotFoundError:
                raise DataError(f"{value}: no such folder") from None
            except OSError:
                # The command says why it cannot be read.
                pass


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


class _Printable:
    """A stream on which nothing that is written acts on a terminal."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write the text."""
        self._stream.write(printable(text))
        return len(text)


def main() -> None:
    """Run the command line: exit code 0 done, 2 the user's input, 1 a bug (with its traceback)."""
    # A shell leaves the ~ of --out=~/runs alone.
    sys.argv[1:] = [_HOME.sub(lambda match: f"{match[1]}{Path.home()}", word) for word in sys.argv[1:]]
    try:
        _refuse_missing_folders(sys.argv[1:])
        with redirect_stdout(cast(Any, _Printable(sys.stdout))):
            code = app(prog_name="arcpipe", standalone_mode=False)
    except _ClickException as error:
        _fail(error.format_message())  # type: ignore[attr-defined]
    except ArcpipeError as error:
        _fail(str(error))
    except PermissionError as error:
        # Before Python 3.14, so does asking whether there is something in a folder that may not be searched.
        if error.filename is None:
            raise
        _fail(f"{error.filename}: cannot be read ({error.strerror})")
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:
        _fail("interrupted")
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> None:
    text = printable(" ".join(message.split()))
    sys.stderr.write(f"arcpipe: {text[:_LONGEST]}{' ...' if len(text) > _LONGEST else ''}\n")
    sys.exit(2)
