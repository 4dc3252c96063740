"""The report: one HTML page, complete in itself, of a run's numbers and curves and of each of its tasks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from arcpipe import __version__
from arcpipe.codec import family_of
from arcpipe.errors import DataError
from arcpipe.grid import PALETTE, Grid
from arcpipe.predictions import read_candidates
from arcpipe.puzzleset import read_puzzle_set, read_test_outputs
from arcpipe.runs import file_hash, refuse_existing, write_bytes
from arcpipe.submissions.compare import oracle
from arcpipe.submissions.figures import write_figures
from arcpipe.submissions.format import Submission, build_submission, read_made_by, read_submission
from arcpipe.submissions.merge import submission_candidates
from arcpipe.submissions.report_boards import (
    BoardVotes,
    board_scores,
    board_tests,
    right_boards,
    sample_boards,
)
from arcpipe.submissions.report_curves import (
    METRICS_FILE,
    Chart,
    Records,
    charts,
    read_metrics,
    training_facts,
)
from arcpipe.submissions.report_sources import Sources
from arcpipe.submissions.report_tasks import NEARLY, OUTCOMES, Result, arc_tests, task_documents
from arcpipe.submissions.report_votes import Ballot, read_moves
from arcpipe.submissions.score import PassAtK, Score, score_submission
from arcpipe.submissions.tables import breakdown, size_rule, size_rules
from arcpipe.sudoku_rules import BOXES
from arcpipe.task import Task, read_challenges, read_solutions, with_solutions

_SCRIPTS = ("grids.js", "charts.js", "detail.js", "page.js")


@dataclass(frozen=True)
class Voting:
    """The votes on predictions, which another stage counts.

    arc: of ARC tasks, by the rule of that name, or by count if there is none. boards: of a dataset folder.
    """

    arc: Callable[[Path, Sequence[Task], Path, str], Ballot]
    boards: Callable[[Path, Any, Path], BoardVotes]


@dataclass(frozen=True, eq=False)
class Report:
    """What the page and the figures show.

    tiles: name, value and detail of each score. tests: the test inputs, or a sample of them, as `sample`
    says. parts: test outputs by kind of task.
    """

    sources: Sources
    charts: Sequence[Chart]
    facts: Sequence[tuple[str, str]]
    tiles: Sequence[tuple[str, str, str]] = ()
    tests: Sequence[Result] = ()
    sample: str = ""
    tasks: Sequence[dict[str, Any]] = ()
    parts: Mapping[str, Sequence[Any]] | None = None
    side: int = 0


def make_report(sources: Sources, voting: Voting) -> Report:
    """The Report on everything that there is.

    Raises:  DataError if a part cannot be read or is of another set than the others.
    """
    records = read_metrics(sources.run / METRICS_FILE) if sources.run else []
    common: dict[str, Any] = {
        "sources": sources, "charts": charts(records), "facts": _facts(sources, records),
    }  # fmt: skip
    if sources.family != "arc" and sources.data and sources.predictions:
        return Report(**common, **_boards(sources.data, sources.predictions, voting))
    if sources.challenges and (sources.predictions or sources.submission):
        return Report(**common, **_arc(sources, sources.challenges, voting))
    return Report(**common)


def _facts(sources: Sources, records: Records) -> list[tuple[str, str]]:
    made = str((sources.manifest or {}).get("created", ""))[:10]
    return [*training_facts(records), *([("begun", made)] if made else [])]


def _boards(data: Path, predictions: Path, voting: Voting) -> dict[str, Any]:
    puzzles, outputs = read_puzzle_set(data), read_test_outputs(data)
    votes = voting.boards(predictions, puzzles, data)
    chosen = sample_boards(right_boards(votes, outputs))
    tests = board_tests(puzzles, outputs, votes, chosen.tolist())
    total = len(votes.valid)
    wanted = np.zeros(total, bool)
    wanted[chosen] = True
    moves = read_moves(read_candidates([predictions]), {puzzles.table.task_ids[0]: total}, wanted)
    for test, board in zip(tests, chosen.tolist(), strict=True):
        test.moves = moves.get(board, ())
    rules = {} if puzzles.family.name == "sudoku" else _maze_words(tests, votes, chosen.tolist())
    sample = f"{len(tests)} of {total:,} boards, wrong ones first" if len(tests) < total else ""
    return {
        "tiles": board_scores(votes, outputs), "tests": tests, "sample": sample,
        "tasks": task_documents({}, tests, rules), "side": puzzles.canvas,
    }  # fmt: skip


def _maze_words(tests: Sequence[Result], votes: BoardVotes, boards: Sequence[int]) -> dict[str, str]:
    """Which answers to mazes are another shortest path than the recorded one."""
    return {
        test.task: "another shortest path"
        for test, board in zip(tests, boards, strict=True)
        if votes.valid[board] and test.outcome not in ("solved", "unknown")
    }


def _arc(sources: Sources, challenges: Path, voting: Voting) -> dict[str, Any]:
    tasks = read_challenges(challenges)
    if sources.solutions:
        tasks = with_solutions(tasks, read_solutions(sources.solutions), str(sources.solutions))
    num_tests = {task.id: len(task.tests) for task in tasks}
    ballot, moves = None, {}
    if sources.predictions:
        ballot = voting.arc(sources.predictions, tasks, challenges, _rule(sources.submission))
        everything = np.ones(sum(num_tests.values()), bool)
        moves = read_moves(read_candidates([sources.predictions]), num_tests, everything)
    ranked = {} if ballot is None else _ranked(ballot, num_tests)
    if sources.submission:
        submission = read_submission(sources.submission, sum(num_tests.values()))
    else:
        submission = build_submission(tasks, ranked)
    attempts = submission_candidates(submission, tasks, sources.submission or Path("submission"))
    tests = arc_tests(tasks, attempts, ballot, moves)
    score = _score(submission, tasks, sources)
    rules = {task.id: size_rule(task) for task in tasks}
    return {
        "tiles": [] if score is None else _tiles(score, ranked, tasks),
        "tests": tests,
        "tasks": task_documents({task.id: task.demonstrations for task in tasks}, tests, rules),
        "parts": None if score is None else breakdown(score, size_rules(tasks, score, challenges)),
    }


def _rule(submission: Path | None) -> str:
    """The rule by which a submission was voted; count where its manifest does not say."""
    if submission is None or not submission.is_file():
        return "count"
    return str((read_made_by(submission, file_hash(submission)) or {}).get("rule", "count"))


def _ranked(ballot: Ballot, num_tests: Mapping[str, int]) -> dict[tuple[str, int], list[Grid]]:
    keys = [(task, index) for task, count in num_tests.items() for index in range(count)]
    return {key: [ballot.grid(entry) for entry in ballot.of(test)] for test, key in enumerate(keys)}


def _outputs(tasks: Sequence[Task]) -> dict[str, list[Grid]]:
    """The test outputs by task; nothing unless all are known."""
    known = {task.id: [pair.output for pair in task.tests if pair.output is not None] for task in tasks}
    return known if all(len(known[task.id]) == len(task.tests) for task in tasks) else {}


def _score(submission: Submission, tasks: Sequence[Task], sources: Sources) -> Score | None:
    outputs = _outputs(tasks)
    return score_submission(submission, outputs, str(sources.submission)) if outputs else None


def _tiles(
    score: Score, ranked: Mapping[tuple[str, int], Sequence[Grid]], tasks: Sequence[Task]
) -> list[tuple[str, str, str]]:
    one, two = score.pass_at_1, score.pass_at_2

    def detail(result: PassAtK) -> str:
        low, high = result.interval_over_tasks
        solved = f"{result.solved_tasks} of {score.num_tasks} tasks solved wholly"
        return f"mean over tasks (Kaggle, ARC Prize), 95% interval {100 * low:.1f} to {high:.1%}; {solved}"

    tiles = [
        ("pass@2", f"{two.mean_over_tasks:.1%}", detail(two)),
        ("pass@1", f"{one.mean_over_tasks:.1%}", detail(one)),
        (
            "mean over test outputs, pass@2", f"{two.mean_over_outputs:.1%}",
            f"{two.solved_outputs} of {score.num_outputs} test outputs",
        ),
    ]  # fmt: skip
    if ranked:
        best = max(oracle(ranked, _outputs(tasks)).at.items())[1]
        among = f"{best.solved_outputs} of {score.num_outputs} right outputs are among the candidates"
        tiles.append(("oracle, no score", f"{best.mean_over_tasks:.1%}", f"mean over tasks; {among}"))
    return tiles


def page(report: Report) -> bytes:
    """The HTML page: style, scripts and data in one file, which loads nothing."""
    sources, family = report.sources, family_of(report.sources.family, report.side or 9)
    palette = family.palette or PALETTE
    document = {
        "title": sources.title, "version": __version__, "notes": sources.missing(),
        "facts": report.facts, "files": _files(sources), "recipe": (sources.manifest or {}).get("recipe"),
        "tiles": report.tiles, "charts": [asdict(chart) for chart in report.charts],
        "parts": {name: [asdict(part) for part in parts] for name, parts in (report.parts or {}).items()},
        "family": family.name, "symbols": family.symbols, "side": report.side,
        "box": BOXES.get(report.side), "palette": [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in palette],
        "outcomes": OUTCOMES, "nearly": NEARLY, "sample": report.sample, "tasks": report.tasks,
    }  # fmt: skip
    # "<" could end the script element that holds the data.
    data = orjson.dumps(document).replace(b"<", b"\\u003c")
    folder = resources.files("arcpipe.submissions") / "templates"
    scripts = b"\n".join((folder / name).read_bytes() for name in _SCRIPTS)
    parts = {b"@style@": (folder / "report.css").read_bytes(), b"@script@": scripts, b"@data@": data}
    html = (folder / "report.html").read_bytes()
    for mark, content in parts.items():
        html = html.replace(mark, content)
    return html


def _files(sources: Sources) -> list[tuple[str, str]]:
    """Where each part lies."""
    names = ("run", "data", "predictions", "submission", "challenges", "solutions")
    return [(name, str(path)) for name in names if (path := getattr(sources, name)) is not None]


def write_report(sources: Sources, voting: Voting, out: Path, figures: Path | None = None) -> str:
    """Write the page, and the figures to a folder if one is named; what was made, in words.

    Raises:  OutputError if one of them exists or cannot be written; DataError as `make_report`, or if
             there is nothing to show.
    """
    refuse_existing(out)
    if figures is not None:
        refuse_existing(figures, "choose another --figures folder or remove it")
    report = make_report(sources, voting)
    if not report.charts and not report.tests:
        raise DataError(
            f"{sources.title}: nothing to report yet: no record in its {METRICS_FILE}, "
            "and no predictions or submission with the tasks that they answer"
        )
    if figures is not None:
        look = family_of(sources.family, report.side or 9)
        write_figures(figures, sources.title, report.charts, report.tests, look)
    content = page(report)
    write_bytes(out, content)
    tasks = "tasks" if sources.family == "arc" else "boards"
    return (
        f"{out}: {len(report.tasks)} {tasks}, {len(report.charts)} charts, {len(content) / 1e6:.1f} MB; "
        "open it in a browser"
    )
