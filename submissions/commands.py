"""The commands `arcpipe check` and `arcpipe score`."""

from pathlib import Path
from typing import Annotated

import typer

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
    from arcpipe.task import read_challenges

    tasks = read_challenges(challenges)
    problems = check_submission(submission, tasks)
    errors = [problem for problem in problems if problem.severity == "error"]
    warnings = [problem for problem in problems if problem.severity == "warning"]
    facts = {
        "valid": not errors,
        "num_tasks": len(tasks),
        "num_outputs": sum(len(task.tests) for task in tasks),
        "num_no_candidate": sum(problem.kind == "no_candidate" for problem in warnings),
        "num_identical_attempts": sum(problem.kind == "identical_attempts" for problem in warnings),
    }
    for problem in errors[:_MAX_LINES]:
        typer.echo(problem.message, err=True)
    if len(errors) > _MAX_LINES:
        typer.echo(f"... and {len(errors) - _MAX_LINES} more", err=True)
    if as_json:
        document = {"submission": str(submission), **facts, "errors": errors, "warnings": warnings}
        typer.echo(orjson.dumps(document).decode())
    elif not errors:
        typer.echo(
            f"{submission}: valid, {facts['num_tasks']} tasks, {facts['num_outputs']} test outputs, "
            f"{facts['num_no_candidate']} without a candidate, "
            f"{facts['num_identical_attempts']} with identical attempts"
        )
    if errors:
        raise typer.Exit(2)


def score(
    submission: Annotated[Path, typer.Argument(help="The submission.json to score.")],
    solutions: Annotated[Path, typer.Argument(help="The solutions file of its set.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")] = False,
    per_task: Annotated[
        Path | None, typer.Option(help="Write a row per test output to this .csv or .parquet file.")
    ] = None,
) -> None:
    """Score a submission: pass@1 and pass@2, as means over test outputs and over tasks.

    What the submission leaves out counts as wrong.

    Example: arcpipe score submission.json arc-agi_evaluation_solutions.json --per-task tasks.csv
    """
    import orjson

    from arcpipe.submissions.format import read_submission
    from arcpipe.submissions.score import score_submission, score_text, write_per_task
    from arcpipe.task import read_solutions

    result = score_submission(read_submission(submission), read_solutions(solutions), where=str(submission))
    if per_task is not None:
        write_per_task(result, per_task)
    if as_json:
        document = {"submission": str(submission), "solutions": str(solutions), **vars(result)}
        typer.echo(orjson.dumps(document).decode())
    else:
        typer.echo(score_text(result))
