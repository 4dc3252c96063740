"""The report: a self-contained HTML page with the scores, curves and tasks of a run."""

import base64
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd

from arcpipe import __version__, runs
from arcpipe.boards import BOXES
from arcpipe.codec import family_of
from arcpipe.errors import DataError
from arcpipe.grid import PALETTE, Grid
from arcpipe.infer.vote import RULES, rank, ranked_grids, read_arc_votes, read_boards, voted_grids
from arcpipe.log import METRICS_FILE, counted
from arcpipe.predictions import read_candidates
from arcpipe.puzzleset import read_puzzle_set, read_test_outputs
from arcpipe.submissions.compare import oracle
from arcpipe.submissions.figures import chart_svg, write_figures
from arcpipe.submissions.results import (
    NEAR_TIE,
    NEARLY,
    OUTCOMES,
    Chart,
    Result,
    charts,
    read_metrics,
    read_moves,
    spread,
    training_facts,
)
from arcpipe.submissions.score import Part, breakdown, score_submission, size_rule
from arcpipe.submissions.submission import (
    build_submission,
    distinct_attempts,
    labeled_path,
    read_made_by,
    read_results,
)
from arcpipe.task import Pair, read_challenges, read_solutions, solutions_beside, with_solutions

_SHOWN_GRIDS = 8
_MOST_WRONG_BOARDS, _MOST_RIGHT_BOARDS = 150, 50

Tile = tuple[str, str, str]
"""A score on the page: name, value and detail."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The sources of a report; None for a missing one.

    title: the title of the page.
    manifest: the manifest of the run folder `run`.
    data: the dataset folder.
    challenges, solutions: files of ARC tasks.
    family: the family of the puzzles.
    """

    title: str
    run: Path | None
    manifest: dict[str, Any]
    predictions: Path | None
    submission: Path | None
    data: Path | None
    challenges: Path | None
    solutions: Path | None
    family: str

    def missing(self) -> list[str]:
        """Return a sentence for each missing source."""
        is_arc = self.family == "arc"
        tests = self.challenges if is_arc else self.data
        notes = {
            "There is no run folder yet, so no curves.": not self.run,
            "Nothing says what the test inputs are, so none are shown: give --challenges, "
            "a challenges file or the dataset folder.": not tests,
            "There are no predictions, so no votes: give --predictions.": not self.predictions,
            "There is no submission: the attempts are what a vote by count would submit.": (
                is_arc and self.predictions and not self.submission
            ),
            "The right outputs are not known, so nothing says which attempts are right: give --solutions.": (
                is_arc and tests and not self.solutions
            ),
        }
        return [sentence for sentence, is_missing in notes.items() if is_missing]


def find_sources(
    folder: Path,
    predictions: Path | None = None,
    submission: Path | None = None,
    challenges: Path | None = None,
    solutions: Path | None = None,
) -> Sources:
    """Find the sources of the report on a run, a quickstart or an evaluation; arguments take precedence.

    Args:    challenges: a challenges file or a dataset folder.
    Raises:  DataError if `folder`, `predictions` or `challenges` is a folder of another kind.
    """
    is_whole = any(runs.known_manifest(folder, kind) for kind in ("quickstart", "evaluation"))
    run = _existing(folder / "run") if is_whole else folder
    manifest = runs.read_manifest(run, "run") if run else {}
    if is_whole:
        data = _existing(folder / "data")
        predictions = predictions or _existing(folder / "predictions")
    else:
        dataset = manifest.get("dataset") or {}
        data = _same_dataset(dataset.get("path"), dataset.get("fingerprint"), folder)
        predictions = predictions or _predictions_of(folder)
    if challenges is not None:
        data = challenges if challenges.is_dir() else None
    elif predictions is not None and predictions.is_dir():
        origin = runs.read_manifest(predictions, "predictions")
        data = _same_dataset(origin.get("data"), origin.get("dataset"), predictions) or data
    family = "arc" if data is None else str(runs.read_manifest(data, "dataset")["family"])
    if family != "arc":
        for name, path in (("submission", submission), ("solutions", solutions)):
            if path is not None:
                raise DataError(f"--{name} {path}: is for ARC tasks; {data} is of {family} boards")
    elif data is not None:
        challenges, solutions = data / "challenges.json", solutions or _existing(data / "solutions.json")
    elif challenges is not None:
        solutions = solutions or _existing(solutions_beside(challenges))
    if is_whole:
        submission = submission or _existing(folder / "submission.json")
    elif submission is None and predictions is not None and family == "arc":
        submission = _submission_of(predictions)
    return Sources(
        title=folder.resolve().name, run=run, manifest=manifest, predictions=predictions,
        submission=submission, data=data, challenges=challenges if family == "arc" else None,
        solutions=solutions, family=family,
    )  # fmt: skip


def _same_dataset(path: str | None, fingerprint: str | None, maker: Path) -> Path | None:
    """Return the folder of the dataset with this fingerprint: `path`, or a folder beside `maker`."""
    for folder in (Path(path or ""), *sorted(maker.resolve().parent.iterdir())):
        manifest = runs.known_manifest(folder, "dataset")
        if manifest and manifest.get("fingerprint") == fingerprint:
            return folder
    return None


def _predictions_of(run: Path) -> Path | None:
    """Return the newest predictions beside a run that were made from one of its checkpoints."""
    checkpoints = [
        runs.known_manifest(path, "checkpoint") for path in (run / runs.CHECKPOINTS).glob("step-*")
    ]
    weights = {manifest[runs.FILES][runs.WEIGHTS] for manifest in checkpoints if manifest.get(runs.FILES)}
    by_time, beside = {}, (run if run.name.strip(".") else run.resolve()).parent
    for path in run.resolve().parent.iterdir():
        manifest = runs.known_manifest(path, "predictions")
        # The run or one of its checkpoints, which may have been deleted since.
        maker = labeled_path(str(manifest.get("checkpoint"))).resolve()
        if manifest and (manifest.get("weights") in weights or run.resolve() in (maker, *maker.parents)):
            by_time[str(manifest.get("created")), path.name] = beside / path.name
    return by_time[max(by_time)] if by_time else None


def _submission_of(predictions: Path) -> Path | None:
    """Return the newest submission beside predictions that was voted from them."""
    own, by_time = runs.known_manifest(predictions, "predictions"), {}
    for file in predictions.resolve().parent.glob("*.manifest.json"):
        path = predictions.parent / f"{file.name.removesuffix('.manifest.json')}.json"
        manifest = (read_made_by(path, runs.file_hash(path)) if path.is_file() else None) or {}
        if own and own in [source.get("manifest") for source in manifest.get("sources", [])]:
            by_time[str(manifest.get("created")), path.name] = path
    return by_time[max(by_time)] if by_time else None


def _existing(path: Path) -> Path | None:
    return path if path.exists() else None


@dataclass(frozen=True, eq=False)
class TestInputs:
    """The test inputs of a report.

    results: the results of all test inputs, or of a sample.
    parts: test outputs by kind of task.
    sample: describes the sample; empty if there is none.
    side: the side of boards in cells; 0 for ARC tasks.
    """

    tiles: Sequence[Tile] = ()
    results: Sequence[Result] = ()
    parts: Mapping[str, Sequence[Part]] = field(default_factory=dict)
    sample: str = ""
    side: int = 0


def write_report(sources: Sources, out: Path, figures: Path | None = None, *, overwrite: bool = False) -> str:
    """Write the page, and the folder `figures` if given; return text on what was written and what is missing.

    Args:    overwrite: replace an existing page and folder of figures.
    Raises:  OutputError if one of them exists or cannot be written; DataError if a source cannot be read or
             does not match the others, or if there is nothing to show.
    """
    if not (overwrite and out.is_file()):
        runs.refuse_existing(out, "--overwrite replaces it, --out names another page")
    is_ours = figures is not None and bool(runs.known_manifest(figures, "figures"))
    if figures is not None and not (overwrite and is_ours):
        runs.refuse_existing(figures, "choose another --figures folder" + " or --overwrite it" * is_ours)
    metrics = read_metrics(sources.run)
    curves = charts(metrics)
    tests = TestInputs()
    if sources.family != "arc" and sources.data and sources.predictions:
        tests = _boards(sources.data, sources.predictions)
    elif sources.challenges and (sources.predictions or sources.submission):
        tests = _tasks(sources, sources.challenges)
    if not curves and not tests.results:
        raise DataError(
            f"{sources.title}: nothing to report yet: no record in its {METRICS_FILE}, "
            "and no predictions or submission with the tasks that they answer"
        )
    if figures is not None:
        if is_ours:
            shutil.rmtree(figures)
        family = family_of(sources.family, tests.side or 9)
        write_figures(figures, sources.title, curves, tests.results, family)
    content = _page(sources, tests, metrics, curves)
    runs.write_bytes(out, content)
    num_tasks = len({result.task for result in tests.results})
    noun = "task" if sources.family == "arc" else "board"
    counts = f"{counted(num_tasks, noun)}, {counted(len(curves), 'chart')}"
    summary = f"{out}: {counts}, {len(content) / 1e6:.1f} MB; in a browser: {out.resolve().as_uri()}"
    return "\n".join([summary, *sources.missing()])


def _boards(data: Path, predictions: Path) -> TestInputs:
    puzzles, outputs = read_puzzle_set(data), read_test_outputs(data)
    answers = read_boards([predictions], puzzles, data)
    total, answered = len(answers.valid), int(answers.answered.sum())
    boards = f"{answered:,} {'boards' if answered == total else f'answered boards, of {total:,}'}"
    right, scores = answers.valid, answers.scores(outputs) if answered else {}
    if outputs is not None:
        right = (answers.boards == outputs.cells).all(axis=(1, 2)) & answers.answered
    details = {
        "exact_accuracy": ("solved exactly", f"{int(right.sum()):,} of {boards}"),
        "cell_accuracy": ("cells right", f"of {boards}"),
        "valid": ("follow the rules", f"{int(answers.valid.sum()):,} of {boards}"),
    }
    tiles = [(details[name][0], f"{share:.1%}", details[name][1]) for name, share in scores.items()]
    samples = ((~right, _MOST_WRONG_BOARDS), (right, _MOST_RIGHT_BOARDS))
    numbers = [board for mask, most in samples for board in spread(np.flatnonzero(mask), most).tolist()]
    name = puzzles.table.task_ids[0]
    moves = read_moves(read_candidates(predictions), [(name, board) for board in numbers])
    voted = voted_grids(answers.votes, rank(answers.votes), numbers)
    # The dataset records one shortest path of a maze; there may be others.
    others = answers.valid & ~right & (puzzles.family.name == "maze")
    results = [
        Result(
            task=f"board-{board}", voted=grids, candidates=int(answers.votes.candidates[board]),
            pair=Pair(puzzles.test_inputs.grid(board), None if outputs is None else outputs.grid(board)),
            attempts=[answers.boards[board]] if answers.answered[board] else [],
            moves=moves.get((name, board), ()), note="another shortest path" if others[board] else None,
        )
        for board, grids in zip(numbers, voted, strict=True)
    ]  # fmt: skip
    sample = f"{len(results)} of {total:,} boards, wrong ones first" if len(results) < total else ""
    return TestInputs(tiles, results, sample=sample, side=puzzles.canvas)


def _tasks(sources: Sources, challenges: Path) -> TestInputs:
    tasks = read_challenges(challenges)
    if sources.solutions:
        tasks = with_solutions(tasks, read_solutions(sources.solutions), str(sources.solutions))
    tests = [(task, index) for task in tasks for index in range(len(task.tests))]
    predictions = [sources.predictions] if sources.predictions else []
    rule, submission = "count", None
    if sources.submission:
        submission = read_results(sources.submission, len(tests))
        made_by = read_made_by(sources.submission, runs.file_hash(sources.submission)) or {}
        rule = str(made_by.get("rule", rule))
    num_tests = {task.id: len(task.tests) for task in tasks}
    votes = read_arc_votes(predictions, num_tests, challenges, tasks)
    ranking = rank(votes, RULES.get(rule, RULES["count"]))
    submission = submission or build_submission(tasks, ranked_grids(votes, ranking, 2))
    attempts = distinct_attempts(submission, tasks, sources.submission or Path("submission"))
    candidates = read_candidates(sources.predictions) if sources.predictions else ()
    moves = read_moves(candidates, [(task.id, index) for task, index in tests])
    rules = {task.id: size_rule(task) for task in tasks}
    voted = voted_grids(votes, ranking, range(len(tests)))
    results = [
        Result(
            task=task.id, pair=task.tests[index], attempts=attempts.get((task.id, index), ()),
            voted=grids, candidates=int(count), moves=moves.get((task.id, index), ()),
            demonstrations=task.demonstrations, note=rules[task.id],
        )
        for (task, index), grids, count in zip(tests, voted, votes.candidates, strict=True)
    ]  # fmt: skip
    if any(result.pair.output is None for result in results):
        return TestInputs(results=results)
    outputs = {task.id: [pair.output for pair in task.tests if pair.output is not None] for task in tasks}
    score = score_submission(submission, outputs, str(sources.submission))
    tiles, two = [], score.pass_at_2
    for name, at_k in (("pass@2", two), ("pass@1", score.pass_at_1)):
        low, high = at_k.interval_over_tasks
        detail = (
            f"mean over tasks (Kaggle, ARC Prize), 95% interval {100 * low:.1f} to {high:.1%}; "
            f"{at_k.solved_tasks} of {score.num_tasks} tasks solved wholly"
        )
        tiles.append((name, f"{at_k.mean_over_tasks:.1%}", detail))
    solved = f"{two.solved_outputs} of {score.num_outputs} test outputs"
    if score.num_answered < score.num_outputs:
        solved += f"; {score.num_answered} are answered, the others count as wrong"
    tiles.append(("mean over test outputs, pass@2", f"{two.mean_over_outputs:.1%}", solved))
    if len(ranking.choices):
        best = max(oracle(votes, ranking, outputs).at.items())[1]
        among = f"{best.solved_outputs} of {score.num_outputs} right outputs are among the candidates"
        tiles.append(("oracle, no score", f"{best.mean_over_tasks:.1%}", f"mean over tasks; {among}"))
    return TestInputs(tiles, results, breakdown(score, rules))


def _page(sources: Sources, tests: TestInputs, metrics: pd.DataFrame, curves: Sequence[Chart]) -> bytes:
    """Return the HTML page, with style, script and data inline."""
    family = family_of(sources.family, tests.side or 9)
    names = ("run", "data", "predictions", "submission", "challenges", "solutions")
    facts = training_facts(metrics)
    if created := sources.manifest.get("created"):
        facts.append(("begun", str(created)[:10]))
    tasks: dict[str, dict[str, Any]] = {}
    for result in tests.results:
        train = [(pair.input, pair.output) for pair in result.demonstrations]
        task = {"id": result.task, "rule": result.note, "train": train, "tests": []}
        truth = result.pair.output
        tasks.setdefault(result.task, task)["tests"].append({
            "input": result.pair.input, "truth": truth, "attempts": result.attempts,
            "outcome": result.outcome, "wrong": result.wrong_cells, "candidates": result.candidates,
            "gridless": result.candidates - sum(one.votes for one in result.voted),
            "distinct": len(result.voted),
            # The best grids, and the right one at any rank.
            "ranked": [
                (place, one.grid, one.votes, round(one.halt_probability, 4))
                for place, one in enumerate(result.voted)
                if place < _SHOWN_GRIDS or (truth is not None and np.array_equal(one.grid, truth))
            ],
            "moves": [
                (move.step, move.grid, round(move.halt_probability, 4), move.agreeing, move.total)
                for move in result.moves
            ],
        })  # fmt: skip
    document = {
        "title": sources.title, "version": __version__, "notes": sources.missing(), "facts": facts,
        "files": [(name, str(path)) for name in names if (path := getattr(sources, name)) is not None],
        "charts": [(chart.title, base64.b64encode(chart_svg(chart)).decode()) for chart in curves],
        "recipe": sources.manifest.get("recipe"), "tiles": tests.tiles, "parts": tests.parts,
        "family": family.name, "symbols": family.symbols, "box": BOXES.get(tests.side),
        "palette": [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in family.palette or PALETTE],
        "outcomes": OUTCOMES, "nearly": NEARLY, "tie": NEAR_TIE, "sample": tests.sample,
        "tasks": list(tasks.values()),
    }  # fmt: skip
    # A "<" could end the script element that contains the data.
    data = orjson.dumps(document, default=_text).replace(b"<", b"\\u003c")
    folder = resources.files("arcpipe.submissions") / "templates"
    html = (folder / "report.html").read_bytes()
    for mark, name in ((b"@style@", "report.css"), (b"@script@", "report.js")):
        html = html.replace(mark, (folder / name).read_bytes())
    return html.replace(b"@data@", data)


def _text(grid: Grid) -> str:
    """Return the digits of a grid, with "/" between rows."""
    return "/".join((row + ord("0")).tobytes().decode() for row in grid)
