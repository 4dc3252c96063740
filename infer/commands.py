"""`arcpipe infer` and `arcpipe solve`."""

from pathlib import Path
from typing import Annotated

import typer

from arcpipe.codec import family_of
from arcpipe.errors import DataError, OutputError
from arcpipe.infer.config import InferResult, InferSettings
from arcpipe.log import color_bits, say_next, start_logging
from arcpipe.processes import with_processes
from arcpipe.puzzleset import dataset_family, has_tests
from arcpipe.recipe import with_settings
from arcpipe.runs import refuse_existing, write_bytes


@with_processes(together=False)
@with_settings("infer", InferSettings)
def infer(
    settings: InferSettings,
    checkpoint: Annotated[
        Path, typer.Option(help="A checkpoint folder, or a run folder for its best or newest one.")
    ],
    data: Annotated[Path, typer.Option(help="The dataset folder whose test inputs to answer.")],
    out: Annotated[Path, typer.Option(help="The folder of predictions to make, or to go on with.")],
    max_minutes: Annotated[
        float | None, typer.Option(min=0, help="End this command after this time; what is finished counts.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on in --out; any number of processes may.")
    ] = False,
) -> InferResult:
    """Answer every test input under every augmentation of its task.

    In rounds: each test input has its first answer before any has its second. Ctrl-C keeps what is finished.

    Example: arcpipe infer --checkpoint runs/first --data runs/data --out runs/predictions --max-minutes 60
    """
    if not has_tests(data):
        raise DataError(f"{data}: has no test inputs: build it with some, or choose another")
    # Here and below not at the top: they load torch, which takes seconds.
    from arcpipe.infer.evaluate import summary
    from arcpipe.infer.predict import infer_to_folder

    start_logging()
    result = infer_to_folder(checkpoint, data, out, settings, resume=resume, max_minutes=max_minutes)
    typer.echo(f"{out}: {summary(result, out, data)}")
    answers = "submission.json" if dataset_family(data) == "arc" else "answers.csv"
    say_next("vote", out, "--challenges", data, "--out", f"{out}-{answers}")
    return result


def solve(
    file: Annotated[
        Path,
        typer.Argument(
            help="A file: a Sudoku (81, 36 or 16 characters, or so many lines), a maze as text, a CSV row of "
            "one of them, or an ARC task as JSON; - for stdin; or the characters of a Sudoku themselves."
        ),
    ],
    checkpoint: Annotated[
        Path, typer.Option(help="A checkpoint folder, or a run folder for its best or newest one.")
    ],
    trace: Annotated[bool, typer.Option("--trace", help="Print the answer after every step.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Draw the steps as an animated SVG.")
    ] = None,
    max_steps: Annotated[
        int, typer.Option(min=0, max=10000, help="Supervision steps; 0 for as many as in training.")
    ] = 0,
    max_votes: Annotated[
        int,
        typer.Option(
            min=0, help="Of an ARC task, candidates to vote at most; 0: all, or 64 under fresh colorings."
        ),
    ] = 0,
    color: Annotated[
        bool | None, typer.Option(help="Colored blocks or characters. Default: color on a terminal.")
    ] = None,
) -> None:
    """Answer one puzzle and say whether the answer is valid.

    An ARC task must be one that the checkpoint was trained or adapted on, under its name there: that of the
    file without .json. Its two attempts are voted from all augmentations that the checkpoint knows.

    Example: arcpipe solve sudoku.txt --checkpoint runs/sudoku --trace --out sudoku.svg
    """
    if out is not None:
        if out.suffix != ".svg":
            raise OutputError(f"--out {out}: the name should end in .svg, the animation is drawn as one")
        refuse_existing(out)
    from arcpipe.checkpoint import load_checkpoint
    from arcpipe.infer.solve import animation, read_puzzle, solve_puzzle, solved_text, trace_text

    loaded = load_checkpoint(checkpoint)
    family = family_of(loaded.family, loaded.canvas)
    task = read_puzzle(file, loaded.family, loaded.canvas)
    steps = trace or out is not None
    solved = solve_puzzle(loaded, task, max_steps=max_steps, max_votes=max_votes, trace=steps)
    for number, one in enumerate(solved, 1):
        typer.echo(f"{task.id}, test {number}\n" if family.with_eos else f"{file}: {task.id}\n")
        if trace:
            typer.echo(f"{trace_text(one.steps, family)}\n")
        typer.echo(solved_text(one, family, color_bits(color)), color=True)
    if out is not None:
        write_bytes(out, animation(solved, family, task.demonstrations).encode())
        typer.echo(f"{out}: {len(solved[0].steps)} steps")
