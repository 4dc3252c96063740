"""The `arcpipe` command line: load only the module of the given command, run it, print errors."""

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

# Newer versions of typer contain their own copy of click: this class is from the copy in use.
ClickException: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)

# What newer versions of typer return, without a message, after Ctrl-C.
INTERRUPTED = 130
# Widths of a summary and of a line of an example, for a terminal of 80 columns.
_SUMMARY, _LINE = 62, 72
# A path in the home folder, alone or after its option.
_HOME = re.compile(r"^(|--[a-z-]+=)~(?=/|$)")
# Longest error message, in characters.
_LONGEST = 20_000
# Options with a folder that must exist, whatever the command.
_FOLDERS = ("--data", "--checkpoint", "--init")


class _LazyGroup(typer.core.TyperGroup):
    """The commands of COMMANDS; a module is imported when its command is named."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        # Typer lists these, in the order of the pipe, and compares a misspelled name with them.
        self.commands = dict.fromkeys(COMMANDS)  # type: ignore[assignment]
        self._completing = False

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of this name, None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        if self._completing:
            return typer.core.TyperCommand(cmd_name, short_help=COMMANDS[cmd_name][1])
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(f"arcpipe.{module}"), name)
        if isinstance(command, typer.Typer):
            return _format_help(typer.main.get_group(command))
        single = typer.Typer(rich_markup_mode=None, add_completion=False)
        single.command(cmd_name)(command)
        return _format_help(typer.main.get_command(single))

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Return the names of commands that begin with `incomplete`, without loading any."""
        self._completing = True
        try:
            return super().shell_complete(ctx, incomplete)
        finally:
            self._completing = False

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands in a help text, without loading any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


app = typer.Typer(
    name="arcpipe", cls=_LazyGroup, pretty_exceptions_enable=False,
    rich_markup_mode=None,
)  # fmt: skip


def _format_help(command: Any) -> Any:
    """Shorten summaries to one line, and wrap examples so that they can be pasted; return the command."""
    for one in (command, *getattr(command, "commands", {}).values()):
        text, _, example = (one.help or "").partition("Example: ")
        summary = " ".join(text.partition("\n\n")[0].split()).partition(". ")[0].removesuffix(".")
        if len(summary) > _SUMMARY:
            summary = re.split("[:;]", summary)[0]
        while len(summary) > _SUMMARY and "," in summary:
            summary = summary.rpartition(",")[0]
        one.short_help = f"{summary}."
        if example:
            words = f"Example: {' '.join(example.split())}"
            lines = wrap(words, _LINE, subsequent_indent=" " * 4, break_on_hyphens=False)
            # \b keeps click from rewrapping the lines.
            one.help = f"{text}\b\n" + " \\\n".join(lines)
    return command


def _refuse_missing_folders(words: list[str]) -> None:
    """Raise DataError for a missing folder, before a command takes seconds to load torch."""
    parts = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]
    for option, value in pairwise(parts):
        if option in _FOLDERS and "--help" not in words:
            try:
                Path(value).stat()
            except FileNotFoundError:
                # Not at the top: most calls need none of it.
                from arcpipe.runs import similar

                is_on_hub = value.startswith("hf:")
                advice = ": get it with arcpipe checkpoint import" if is_on_hub else similar(Path(value))
                raise DataError(f"{value}: no such folder{advice}") from None
            except OSError:
                # The command itself reports why it cannot be read.
                pass


def _print_version(is_set: bool) -> None:
    if is_set:
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
    """A stream that escapes terminal controls in what is written to it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write the text."""
        self._stream.write(printable(text))
        return len(text)


def main() -> None:
    """Run the command line. Exit codes: 0 success, 2 an error the user can fix, 1 a bug, with a traceback."""
    # Shells do not expand the ~ of --out=~/runs.
    sys.argv[1:] = [_HOME.sub(lambda match: f"{match[1]}{Path.home()}", word) for word in sys.argv[1:]]
    try:
        _refuse_missing_folders(sys.argv[1:])
        with redirect_stdout(cast(Any, _Printable(sys.stdout))):
            code = app(prog_name="arcpipe", standalone_mode=False)
    except ClickException as error:
        _fail(usage_text(error))
    except ArcpipeError as error:
        _fail(str(error))
    except PermissionError as error:
        # Before Python 3.14, Path.exists() raises this in a folder without permission to search it.
        if error.filename is None:
            raise
        _fail(f"{error.filename}: cannot be read ({error.strerror})")
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:
        _fail("interrupted")
    sys.exit(code if isinstance(code, int) else 0)


def usage_text(error: Any) -> str:
    """Return what is wrong with a command line, and which --help to read."""
    context, text = getattr(error, "ctx", None), str(error.format_message())
    # A wrong value is named with what it should be.
    if context is None or type(error).__name__ == "BadParameter":
        return text
    return f"{text.rstrip('.')}; see {context.command_path} --help"


def _fail(message: str) -> None:
    text = printable(" ".join(message.split()))
    sys.stderr.write(f"arcpipe: {text[:_LONGEST]}{' ...' if len(text) > _LONGEST else ''}\n")
    sys.exit(2)
