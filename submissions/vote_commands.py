"""`arcpipe vote`: predictions -> submission.json, or the answers to Sudokus and mazes."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer


def vote(
    predictions: Annotated[list[Path], typer.Argument(help="Folders or Parquet files of predictions.")],
    challenges: Annotated[
        Path, typer.Option(help="What to answer: a challenges file, or the dataset folder of any puzzles.")
    ],
    out: Annotated[
        Path, typer.Option(help="The file to make: submission.json, or answers.csv of Sudokus and mazes.")
    ],
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
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")] = False,
) -> None:
    """Rank the candidates of each test input; the best two distinct ones are its attempts.

    Candidates of several runs, checkpoints or machines vote together; ties keep the first seen. Of a Sudoku
    or maze the best one is its answer, and a Sudoku that breaks a rule never wins over one that does not.

    Example: arcpipe vote runs/predictions --challenges runs/data/challenges.json --out submission.json
    """
    import orjson

    from arcpipe.infer.vote_files import dataset_family
    from arcpipe.runs import refuse_existing

    refuse_existing(out)
    family = dataset_family(challenges)
    if family == "arc":
        facts, text = _vote_arc(predictions, challenges, out, rule, compare)
    else:
        facts, text = _vote_boards(predictions, challenges, out, rule, compare)
    if as_json:
        typer.echo(orjson.dumps({"out": str(out), "rule": rule, **facts}).decode())
    else:
        typer.echo(f"{out}: {text}")


def _vote_arc(
    predictions: list[Path], challenges: Path, out: Path, rule: str, solutions: Path | None
) -> tuple[dict[str, Any], str]:
    """Write the submission; what there is to say, as a document and as text."""
    from arcpipe.infer.compare import compare_rules, comparison_text
    from arcpipe.infer.vote import RULES, best_two, rank
    from arcpipe.infer.vote_files import read_arc_votes, read_tasks
    from arcpipe.submissions.format import build_submission, write_submission
    from arcpipe.submissions.intervals import resample_tasks
    from arcpipe.submissions.merge import describe_source
    from arcpipe.task import read_solutions, with_solutions

    tasks = read_tasks(challenges)
    outputs = None if solutions is None else read_solutions(solutions)
    if outputs is not None:
        with_solutions(tasks, outputs, str(solutions))
    votes = read_arc_votes(predictions, tasks, challenges)
    answered = bool(votes.candidates.any())
    compared = None if outputs is None or not answered else compare_rules(votes, outputs, resample_tasks)
    submission = build_submission(tasks, best_two(votes, rank(votes, RULES[rule])))
    sources = [describe_source(path) for path in predictions]
    write_submission(submission, out, {"rule": rule, "challenges": str(challenges), "sources": sources})
    facts, text = votes.summary()
    if outputs is not None and not answered:
        text += "\nno score, no test input has a candidate"
    if compared is None:
        return facts, text
    return facts | {"comparison": compared}, f"{text}\n\n{comparison_text(compared)}"


def _vote_boards(
    predictions: list[Path], dataset: Path, out: Path, rule: str, solutions: Path | None
) -> tuple[dict[str, Any], str]:
    """Write the answers to Sudokus or mazes; what there is to say, as a document and as text."""
    from arcpipe.errors import DataError
    from arcpipe.infer.puzzles import board_scores, choose_boards, read_board_votes, write_answers
    from arcpipe.infer.vote import RULES
    from arcpipe.puzzleset import read_puzzle_set, read_test_outputs

    if solutions is not None:
        raise DataError(f"--compare {solutions}: is for ARC tasks; {dataset} knows its own answers")
    puzzles = read_puzzle_set(dataset)
    votes = read_board_votes(predictions, puzzles, dataset)
    answers = choose_boards(puzzles, votes, RULES[rule])
    outputs = read_test_outputs(dataset)
    write_answers(out, puzzles, answers)
    facts, text = votes.summary()
    if not answers.answered.any():
        return facts, f"{text}\nno score, no test input has an answer"
    scores = {"valid": float(answers.valid.mean())} if outputs is None else board_scores(answers, outputs)
    shown = ", ".join(f"{name.replace('_', ' ')} {value:.2%}" for name, value in scores.items())
    wrong = "" if answers.answered.all() else "; what is not answered counts as wrong"
    return facts | scores, f"{text}\n{shown}{wrong}"
