"""`arcpipe check`, `arcpipe score`, `arcpipe merge` and `arcpipe report`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from arcpipe.grid import Grid
    from arcpipe.infer.vote import Rule, Votes
    from arcpipe.submissions.check import Findings
    from arcpipe.submissions.compare import Oracle
    from arcpipe.submissions.merge import Ranked
    from arcpipe.submissions.report import Voting
    from arcpipe.submissions.score import Score
    from arcpipe.task import Task

LEDGER = Path("runs/ledger.jsonl")
_MAX_LINES = 20


def check(
    submission: Annotated[Path, typer.Argument(help="The submission.json to check.")],
    challenges: Annotated[Path, typer.Option(help="The challenges file that it answers.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")] = False,
) -> None:
    """Check that a submission is complete and in Kaggle's form; exit code 2 if it is not.

    Example: arcpipe check submission.json --challenges arc-agi_evaluation_challenges.json
    """
    import orjson

    from arcpipe.submissions.check import check_submission
    from arcpipe.submissions.sets import task_set
    from arcpipe.task import read_challenges

    tasks = read_challenges(challenges)
    findings = check_submission(submission, tasks)
    answered = task_set({task.id: len(task.tests) for task in tasks})
    facts = {
        "valid": not findings.errors,
        "set": answered.name,
        "num_tasks": answered.num_tasks,
        "num_outputs": answered.num_outputs,
        "num_no_candidate": findings.counts.get("no_candidate", 0),
        "num_identical_attempts": findings.counts.get("identical_attempts", 0),
    }
    _print_errors(findings)
    if as_json:
        problems = {"counts": findings.counts, "errors": findings.errors, "warnings": findings.warnings}
        typer.echo(orjson.dumps({"submission": str(submission), **facts, **problems}).decode())
    elif not findings.errors:
        typer.echo(
            f"{submission}: valid, {facts['num_tasks']} tasks, {facts['num_outputs']} test outputs, "
            f"{facts['num_no_candidate']} without a candidate, "
            f"{facts['num_identical_attempts']} with identical attempts"
        )
    if findings.errors:
        raise typer.Exit(2)


def _print_errors(findings: "Findings") -> None:
    """The first errors of each kind on stderr, and how many more there are of it."""
    from arcpipe.submissions.check import NAMES

    for kind, count in findings.counts.items():
        of_kind = [problem for problem in findings.errors if problem.kind == kind]
        for problem in of_kind[:_MAX_LINES]:
            typer.echo(problem.message, err=True)
        if of_kind and count > _MAX_LINES:
            typer.echo(f"... and {count - _MAX_LINES} more {NAMES[kind]}", err=True)


def score(
    submission: Annotated[Path, typer.Argument(help="The submission.json to score.")],
    solutions: Annotated[Path, typer.Argument(help="The solutions file of its set.")],
    others: Annotated[
        list[Path] | None,
        typer.Option("--with", metavar="OTHER", help="A submission to compare it with; may be repeated."),
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
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")] = False,
    ledger: Annotated[Path, typer.Option(help="The ledger to enter the file and its score in.")] = LEDGER,
    no_ledger: Annotated[bool, typer.Option("--no-ledger", help="Enter nothing.")] = False,
) -> None:
    """Score a submission: pass@1 and pass@2, as means over tasks (Kaggle, ARC Prize) and over test outputs.

    What it leaves out counts as wrong. File and score are entered in the ledger, or a warning says why not.

    Example: arcpipe score submission.json arc-agi_evaluation_solutions.json --with other.json
    """
    import orjson

    from arcpipe.log import start_logging
    from arcpipe.submissions.compare import compare_scores, comparison_text, oracle_text
    from arcpipe.submissions.score import write_per_task
    from arcpipe.submissions.tables import breakdown, score_text, size_rules
    from arcpipe.task import read_challenges, read_solutions

    start_logging()
    grids = read_solutions(solutions)
    scores = _score_files([submission, *(others or [])], grids)
    result = scores[str(submission)]
    rules = size_rules(read_challenges(challenges), result, challenges) if challenges else None
    compared = compare_scores(scores) if others else None
    best = _oracle(candidates, grids, solutions) if candidates else None
    if per_task is not None:
        write_per_task(result, per_task, rules)
    parts = breakdown(result, rules)
    if as_json:
        document = {
            "submission": str(submission), "solutions": str(solutions), **vars(result), "breakdown": parts,
            "comparison": compared, "oracle": best,
        }  # fmt: skip
        typer.echo(orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS).decode())
    else:
        typer.echo(score_text(result, parts))
        for text in (compared and comparison_text(compared), best and oracle_text(best)):
            if text:
                typer.echo(f"\n{text}")
    if not no_ledger:
        _enter(ledger, scores, solutions)


def _score_files(paths: Sequence[Path], solutions: Any) -> "dict[str, Score]":
    """The scores of submission files, by path."""
    from arcpipe.errors import DataError
    from arcpipe.submissions.format import read_submission
    from arcpipe.submissions.score import score_submission

    num_outputs = sum(map(len, solutions.values()))
    scores: dict[str, Score] = {}
    for path in paths:
        if str(path) in scores:
            raise DataError(f"{path}: given twice: name another submission with --with")
        scores[str(path)] = score_submission(read_submission(path, num_outputs), solutions, str(path))
    return scores


def _oracle(candidates: Sequence[Path], grids: Any, solutions: Path) -> "Oracle":
    from arcpipe.submissions.compare import oracle

    num_tests = {task_id: len(outputs) for task_id, outputs in grids.items()}
    return oracle(_ranked_predictions(candidates, num_tests, solutions), grids)


def _ranked_predictions(paths: Sequence[Path], num_tests: dict[str, int], where: Path) -> "Ranked":
    """All candidates of predictions, ranked by count, for the tasks of `where`.

    Raises:  DataError if there is none.
    """
    from arcpipe.errors import DataError
    from arcpipe.infer.vote import by_count, rank, read_votes
    from arcpipe.predictions import read_candidates

    votes = read_votes(read_candidates(paths), num_tests)
    keys = [(task_id, index) for task_id, count in num_tests.items() for index in range(count)]
    ranked: dict[tuple[str, int], list[Grid]] = {}
    for entry in rank(votes, by_count).entries:
        ranked.setdefault(keys[votes.tests[entry]], []).append(votes.grid(entry))
    if not ranked:
        names = ", ".join(map(str, paths))
        raise DataError(f"{names}: no candidate for a task of {where}: are these predictions of another set?")
    return ranked


def _enter(ledger: Path, scores: "dict[str, Score]", solutions: Path) -> None:
    from arcpipe.submissions.ledger import enter_file, enter_score, only_warning

    with only_warning():
        for path, result in scores.items():
            sha256 = enter_file(ledger, Path(path))
            enter_score(ledger, sha256, result, solutions)
            typer.echo(f"{path} is {sha256[:8]} in {ledger}", err=True)


def merge(
    sources: Annotated[
        list[Path], typer.Argument(help="Submission files, folders or Parquet files of predictions.")
    ],
    challenges: Annotated[Path, typer.Option(help="The challenges file to answer.")],
    out: Annotated[Path, typer.Option(help="The submission file to make.")],
    rule: Annotated[
        Literal["order", "count"],
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
    from arcpipe.runs import refuse_existing
    from arcpipe.submissions.format import write_submission
    from arcpipe.submissions.merge import Source, contributions_text, describe_source
    from arcpipe.submissions.merge import merge as merge_sources
    from arcpipe.task import read_challenges

    refuse_existing(out)
    _refuse_twice(sources)
    tasks = read_challenges(challenges)
    read = [Source(path, _candidates(path, tasks, challenges)) for path in sources]
    merged, contributions = merge_sources(read, tasks, rule)
    made_by = {
        "rule": rule, "challenges": str(challenges), "sources": [describe_source(path) for path in sources],
    }  # fmt: skip
    write_submission(merged, out, made_by)
    typer.echo(f"{contributions_text(contributions)}\n{out}: {len(tasks)} tasks")


def _refuse_twice(sources: Sequence[Path]) -> None:
    from arcpipe.errors import DataError

    resolved = [path.resolve() for path in sources]
    twice = next((path for path in sources if resolved.count(path.resolve()) > 1), None)
    if twice is not None:
        raise DataError(f"{twice}: given twice, it would count twice")


def _candidates(path: Path, tasks: "Sequence[Task]", challenges: Path) -> "Ranked":
    """The candidates of a source for these tasks: the attempts of a submission, or ranked predictions."""
    from arcpipe.submissions.format import read_submission
    from arcpipe.submissions.merge import submission_candidates

    num_tests = {task.id: len(task.tests) for task in tasks}
    if path.is_dir() or path.suffix == ".parquet":
        return _ranked_predictions([path], num_tests, challenges)
    submission = read_submission(path, sum(num_tests.values()))
    return submission_candidates(submission, tasks, path)


def report(
    run: Annotated[Path, typer.Argument(help="A run folder, or the folder of a quickstart.")],
    predictions: Annotated[
        Path | None, typer.Option(help="Predictions to show the votes of, a folder or a Parquet file.")
    ] = None,
    submission: Annotated[
        Path | None, typer.Option(help="The submission.json whose attempts to show, of ARC tasks.")
    ] = None,
    challenges: Annotated[
        Path | None, typer.Option(help="What was answered: a challenges file, or a dataset folder.")
    ] = None,
    solutions: Annotated[Path | None, typer.Option(help="The solutions file, of ARC tasks.")] = None,
    out: Annotated[Path | None, typer.Option(help="The page to make. Default: report.html in RUN.")] = None,
    figures: Annotated[
        Path | None, typer.Option(help="A folder to make, of the figures as PNG and SVG.")
    ] = None,
) -> None:
    """Make one HTML page of a run: its scores and curves, and every task with its votes and errors.

    The page needs no network and no other file. What lies beside the run is found by itself.

    Example: arcpipe report runs/first --predictions runs/first-predictions
    """
    from arcpipe.submissions.report import write_report
    from arcpipe.submissions.report_sources import find_sources

    sources = find_sources(run, predictions, submission, challenges, solutions)
    typer.echo(write_report(sources, _voting(), out or run / "report.html", figures))


def _voting() -> "Voting":
    from arcpipe.infer.puzzles import choose_boards, read_board_votes
    from arcpipe.infer.vote import RULES, by_count, rank
    from arcpipe.infer.vote_files import read_arc_votes
    from arcpipe.submissions.report import Voting
    from arcpipe.submissions.report_boards import BoardVotes
    from arcpipe.submissions.report_votes import Ballot

    def ballot(votes: "Votes", rule: "Rule") -> Ballot:
        ranked, counts = rank(votes, rule).entries, votes.count()
        halts = votes.total(votes.halt) / counts.clip(min=1)
        grids = (ranked, votes.grid)
        return Ballot(votes.tests[ranked], counts[ranked], halts[ranked], *grids, votes.candidates)

    def arc(predictions: Path, tasks: "Sequence[Task]", where: Path, rule: str) -> Ballot:
        return ballot(read_arc_votes([predictions], tasks, where), RULES.get(rule, by_count))

    def boards(predictions: Path, puzzles: Any, data: Path) -> BoardVotes:
        votes = read_board_votes([predictions], puzzles, data)
        answers = choose_boards(puzzles, votes, by_count)
        return BoardVotes(ballot(votes, by_count), answers.boards, answers.answered, answers.valid)

    return Voting(arc, boards)
