"""The report: one HTML page, complete in itself, of a run's numbers and curves and of each of its tasks."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from arcpipe import __version__
from arcpipe.codec import family_of
from arcpipe.errors import DataError
from arcpipe.grid import PALETTE, Grid
from arcpipe.infer.puzzles import board_scores, choose_boards, read_board_votes
from arcpipe.infer.vote import RULES, Ranking, Votes, by_count, rank, ranked_grids
from arcpipe.infer.vote_files import read_arc_votes
from arcpipe.predictions import read_candidates
from arcpipe.puzzleset import read_puzzle_set, read_test_outputs
from arcpipe.runs import file_hash, read_manifest, refuse_existing, write_bytes
from arcpipe.submissions.compare import oracle
from arcpipe.submissions.figures import Records, chart_svg, charts, column, without_unfinished, write_figures
from arcpipe.submissions.merge import distinct_attempts, known_manifest
from arcpipe.submissions.results import (
    NEARLY,
    OUTCOMES,
    Result,
    read_moves,
    sample_boards,
    with_votes,
)
from arcpipe.submissions.score import Part, PassAtK, Score, breakdown, score_submission, size_rule
from arcpipe.submissions.submission import build_submission, read_made_by, read_submission
from arcpipe.sudoku_rules import BOXES
from arcpipe.task import Pair, read_challenges, read_solutions, with_solutions

_METRICS_FILE = "metrics.jsonl"
_SCRIPTS = ("grids.js", "detail.js", "page.js")
_SHOWN_ENTRIES = 8

Tile = tuple[str, str, str]
"""A score on the page: its name, value and detail."""


@dataclass(frozen=True)
class Sources:
    """The parts of a report; None for one that there is not.

    title: what is reported on.
    manifest: of the run folder `run`.
    data: a dataset folder.
    challenges, solutions: files of ARC tasks.
    family: of the puzzles.
    """

    title: str
    run: Path | None = None
    manifest: dict[str, Any] | None = None
    predictions: Path | None = None
    submission: Path | None = None
    data: Path | None = None
    challenges: Path | None = None
    solutions: Path | None = None
    family: str = "arc"

    def missing(self) -> list[str]:
        """Return a sentence for each part that the page has to do without."""
        is_arc = self.family == "arc"
        known = self.challenges if is_arc else self.data
        lacks = {
            "There is no run folder yet, so no curves.": self.run is None,
            "Nothing says what the test inputs are, so none are shown: give --challenges, "
            "a challenges file or the dataset folder.": known is None,
            "There are no predictions, so no votes: give --predictions.": self.predictions is None,
            "There is no submission: the attempts are what a vote by count would submit.": is_arc
            and self.submission is None
            and self.predictions is not None,
            "The right outputs are not known, so nothing says which attempts are right: give --solutions.": (
                is_arc and self.challenges is not None and self.solutions is None
            ),
        }
        return [sentence for sentence, is_lacking in lacks.items() if is_lacking]


def find_sources(
    folder: Path,
    predictions: Path | None = None,
    submission: Path | None = None,
    challenges: Path | None = None,
    solutions: Path | None = None,
) -> Sources:
    """Find the parts of the report on a run or a quickstart; what is given goes before what is found.

    Args:    challenges: a challenges file or a dataset folder.
    Raises:  DataError if `folder` is neither, or `predictions` or `challenges` is a folder of another kind.
    """
    found = _beside(folder)
    data = found.data
    if challenges is not None:
        data = challenges if challenges.is_dir() else None
    elif predictions is not None and predictions.is_dir():
        made_for = read_manifest(predictions, "predictions")
        data = _same_dataset(made_for.get("data"), made_for.get("dataset")) or data
    found = replace(
        found,
        data=data,
        predictions=predictions or found.predictions,
        submission=submission or found.submission,
    )
    if data is None:
        if challenges is not None:
            sibling = challenges.with_name(challenges.name.replace("challenges", "solutions"))
            solutions = solutions or _existing(sibling)
        return replace(found, challenges=challenges, solutions=solutions)
    family = str(read_manifest(data, "dataset")["family"])
    if family == "arc":
        solutions = solutions or _existing(data / "solutions.json")
        return replace(found, challenges=data / "challenges.json", solutions=solutions)
    for name, path in (("submission", submission), ("solutions", solutions)):
        if path is not None:
            raise DataError(f"--{name} {path}: is for ARC tasks; {data} is of {family} boards")
    return replace(found, family=family)


def _beside(folder: Path) -> Sources:
    """Find what lies in the folder of a quickstart, or the dataset of a run."""
    title = folder.resolve().name
    if known_manifest(folder, "quickstart"):
        run = _existing(folder / "run")
        return Sources(
            title=title,
            run=run,
            manifest=read_manifest(run, "run") if run else None,
            predictions=_existing(folder / "predictions"),
            submission=_existing(folder / "submission.json"),
            data=_existing(folder / "data"),
        )
    manifest = read_manifest(folder, "run")
    dataset = manifest.get("dataset") or {}
    data = _same_dataset(dataset.get("path"), dataset.get("fingerprint"))
    return Sources(title=title, run=folder, manifest=manifest, data=data)


def _same_dataset(path: str | None, fingerprint: str | None) -> Path | None:
    """Return the dataset folder that a manifest names, if it is there and still the same."""
    known = None if path is None else known_manifest(Path(path), "dataset")
    return Path(path) if path and known and known.get("fingerprint") == fingerprint else None


def _existing(path: Path) -> Path | None:
    return path if path.exists() else None


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the records of a metrics.jsonl, by step; a last line that is still being written is left out.

    Raises:  DataError naming the line if it cannot be read or holds something else.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            record = None
        if not isinstance(record, dict) or type(record.get("step")) is not int:
            raise DataError(f"{path}: line {number} is no record of a training; mend the file or remove it")
        records.append(record)
    return sorted(records, key=lambda record: int(record["step"]))


def training_facts(records: Records) -> list[tuple[str, str]]:
    """Return what the records say of the training as a whole, in words."""
    trained = [without_unfinished(record) for record in records if "train/loss_answer" in record]
    if not trained:
        return []
    last = trained[-1]
    facts = [("steps", f"{last['step']:,}")]
    if "seconds" in last:
        facts.append(("time", duration(float(last["seconds"]))))
    speeds = column(trained, "samples_per_second")[1]
    if len(speeds):
        facts.append(("samples a second", f"{np.median(speeds):,.0f}"))
    facts.append(("loss at the end", f"{last['train/loss_answer']:.3g}"))
    right = column(trained, "train/exact_accuracy")[1]
    if len(right):
        facts.append(("whole grids right in training", f"{right[-1]:.1%}"))
    return facts


def duration(seconds: float) -> str:
    """Return a time in words: its two largest units."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    hours = round(minutes / 60)
    return f"{minutes // 60} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


@dataclass(frozen=True, eq=False)
class Shown:
    """The test inputs of a report.

    results: all of them, or a sample, as `sample` says.
    parts: test outputs by kind of task.
    side: of boards; 0 of ARC tasks.
    """

    tiles: Sequence[Tile] = ()
    results: Sequence[Result] = ()
    parts: Mapping[str, Sequence[Part]] = field(default_factory=dict)
    sample: str = ""
    side: int = 0


def write_report(sources: Sources, out: Path, figures: Path | None = None) -> str:
    """Write the page, and the figures to a folder if one is named; return what was made, in words.

    Raises:  OutputError if one of them exists or cannot be written; DataError if a part cannot be read or is
             of another set than the others, or if there is nothing to show.
    """
    refuse_existing(out)
    if figures is not None:
        refuse_existing(figures, "choose another --figures folder or remove it")
    records = read_metrics(sources.run / _METRICS_FILE) if sources.run else []
    curves = charts(records)
    if sources.family != "arc" and sources.data and sources.predictions:
        shown = _boards(sources.data, sources.predictions)
    elif sources.challenges and (sources.predictions or sources.submission):
        shown = _tasks(sources, sources.challenges)
    else:
        shown = Shown()
    if not curves and not shown.results:
        raise DataError(
            f"{sources.title}: nothing to report yet: no record in its {_METRICS_FILE}, "
            "and no predictions or submission with the tasks that they answer"
        )
    if figures is not None:
        family = family_of(sources.family, shown.side or 9)
        write_figures(figures, sources.title, curves, shown.results, family)
    tasks = _task_documents(shown.results)
    facts = training_facts(records)
    if sources.manifest and sources.manifest.get("created"):
        facts.append(("begun", str(sources.manifest["created"])[:10]))
    images = [(chart.title, base64.b64encode(chart_svg(chart)).decode()) for chart in curves]
    content = _page(_document(sources, shown) | {"facts": facts, "charts": images, "tasks": tasks})
    write_bytes(out, content)
    noun = "tasks" if sources.family == "arc" else "boards"
    return (
        f"{out}: {len(tasks)} {noun}, {len(curves)} charts, {len(content) / 1e6:.1f} MB; open it in a browser"
    )


def _boards(data: Path, predictions: Path) -> Shown:
    puzzles, outputs = read_puzzle_set(data), read_test_outputs(data)
    votes = read_board_votes([predictions], puzzles, data)
    answers = choose_boards(puzzles, votes, by_count)
    total, right, tiles = len(answers.valid), answers.valid, []
    if outputs is not None:
        right = (answers.boards == outputs.cells).all(axis=(1, 2)) & answers.answered
        cells = board_scores(answers, outputs)["cell_accuracy"]
        tiles = [
            ("solved exactly", f"{right.mean():.1%}", f"{int(right.sum()):,} of {total:,} boards"),
            ("cells right", f"{cells:.1%}", "of all boards"),
        ]
    valid = f"{int(answers.valid.sum()):,} of {total:,} boards"
    tiles.append(("follow the rules", f"{answers.valid.mean():.1%}", valid))
    chosen = sample_boards(right)
    boards = {
        board: Result(
            f"board-{board}",
            Pair(puzzles.test_inputs.grid(board), None if outputs is None else outputs.grid(board)),
            [answers.boards[board]] if answers.answered[board] else [],
        )
        for board in chosen.tolist()
    }
    moves = read_moves(read_candidates([predictions]), votes.num_tests, np.isin(np.arange(total), chosen))
    results = with_votes(boards, votes, rank(votes, by_count), moves)
    if puzzles.family.name == "maze":
        results = [
            replace(result, note="another shortest path")
            if is_valid and result.outcome not in ("solved", "unknown")
            else result
            for result, is_valid in zip(results, answers.valid[chosen], strict=True)
        ]
    sample = f"{len(results)} of {total:,} boards, wrong ones first" if len(results) < total else ""
    return Shown(tiles, results, sample=sample, side=puzzles.canvas)


def _tasks(sources: Sources, challenges: Path) -> Shown:
    tasks = read_challenges(challenges)
    if sources.solutions:
        tasks = with_solutions(tasks, read_solutions(sources.solutions), str(sources.solutions))
    num_tests = {task.id: len(task.tests) for task in tasks}
    voted = None
    if sources.predictions:
        votes = read_arc_votes([sources.predictions], num_tests, challenges)
        voted = votes, rank(votes, RULES.get(_rule(sources.submission), by_count))
    if sources.submission:
        submission = read_submission(sources.submission, sum(num_tests.values()))
    else:
        submission = build_submission(tasks, ranked_grids(*voted, 2) if voted else {})
    attempts = distinct_attempts(submission, tasks, sources.submission or Path("submission"))
    rules = {task.id: size_rule(task) for task in tasks}
    results = [
        Result(
            task.id,
            pair,
            attempts.get((task.id, index), ()),
            demonstrations=task.demonstrations,
            note=rules[task.id],
        )
        for task in tasks
        for index, pair in enumerate(task.tests)
    ]
    if sources.predictions and voted:
        everything = np.ones(len(results), bool)
        moves = read_moves(read_candidates([sources.predictions]), num_tests, everything)
        results = with_votes(dict(enumerate(results)), *voted, moves)
    if any(pair.output is None for task in tasks for pair in task.tests):
        return Shown((), results)
    outputs = {task.id: [pair.output for pair in task.tests if pair.output is not None] for task in tasks}
    score = score_submission(submission, outputs, str(sources.submission))
    return Shown(_tiles(score, outputs, voted), results, breakdown(score, rules))


def _rule(submission: Path | None) -> str:
    """Return the rule by which a submission was voted; count where its manifest does not say."""
    if submission is None or not submission.is_file():
        return "count"
    return str((read_made_by(submission, file_hash(submission)) or {}).get("rule", "count"))


def _tiles(
    score: Score, outputs: Mapping[str, Sequence[Grid]], voted: tuple[Votes, Ranking] | None
) -> list[Tile]:
    def over_tasks(name: str, at_k: PassAtK) -> Tile:
        low, high = at_k.interval_over_tasks
        solved = f"{at_k.solved_tasks} of {score.num_tasks} tasks solved wholly"
        interval = f"95% interval {100 * low:.1f} to {high:.1%}"
        detail = f"mean over tasks (Kaggle, ARC Prize), {interval}; {solved}"
        return name, f"{at_k.mean_over_tasks:.1%}", detail

    two = score.pass_at_2
    solved = f"{two.solved_outputs} of {score.num_outputs} test outputs"
    tiles = [over_tasks("pass@2", two), over_tasks("pass@1", score.pass_at_1)]
    tiles.append(("mean over test outputs, pass@2", f"{two.mean_over_outputs:.1%}", solved))
    if voted and len(voted[1].entries):
        best = max(oracle(*voted, outputs).at.items())[1]
        among = f"{best.solved_outputs} of {score.num_outputs} right outputs are among the candidates"
        tiles.append(("oracle, no score", f"{best.mean_over_tasks:.1%}", f"mean over tasks; {among}"))
    return tiles


def _document(sources: Sources, shown: Shown) -> dict[str, Any]:
    """Return what the page's script reads of the report as a whole."""
    family = family_of(sources.family, shown.side or 9)
    names = ("run", "data", "predictions", "submission", "challenges", "solutions")
    files = [(name, str(path)) for name in names if (path := getattr(sources, name)) is not None]
    return {
        "title": sources.title, "version": __version__, "notes": sources.missing(), "files": files,
        "recipe": (sources.manifest or {}).get("recipe"), "tiles": shown.tiles,
        "parts": {name: [asdict(part) for part in parts] for name, parts in shown.parts.items()},
        "family": family.name, "symbols": family.symbols, "side": shown.side, "box": BOXES.get(shown.side),
        "palette": [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in family.palette or PALETTE],
        "outcomes": OUTCOMES, "nearly": NEARLY, "sample": shown.sample,
    }  # fmt: skip


def _task_documents(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return each task as the page's script reads it."""
    by_task: dict[str, list[Result]] = {}
    for result in results:
        by_task.setdefault(result.task, []).append(result)
    return [
        {
            "id": task,
            "rule": tests[0].note,
            "train": [
                [_text(pair.input), _text(pair.output)]
                for pair in tests[0].demonstrations
                if pair.output is not None
            ],
            "tests": [_test_document(test) for test in tests],
        }
        for task, tests in by_task.items()
    ]


def _test_document(result: Result) -> dict[str, Any]:
    """Return a test input as the page's script reads it; a grid is meant by its number in `grids`."""
    grids: dict[str, int] = {}

    def number(grid: Grid | None) -> int | None:
        return None if grid is None else grids.setdefault(_text(grid), len(grids))

    return {
        "input": number(result.pair.input),
        "truth": number(result.pair.output),
        "attempts": [number(grid) for grid in result.attempts],
        "outcome": result.outcome,
        "wrong": result.wrong_cells,
        "rank": result.rank,
        "candidates": result.candidates,
        "gridless": result.candidates - sum(entry.candidates for entry in result.entries),
        "distinct": len(result.entries),
        # The best, and the right one wherever it stands.
        "ranked": [
            [place, number(entry.grid), entry.candidates, round(entry.halt_probability, 4)]
            for place, entry in enumerate(result.entries)
            if place < _SHOWN_ENTRIES or place == result.rank
        ],
        "moves": [
            [move.step, number(move.grid), round(move.halt_probability, 4), move.agreeing, move.total]
            for move in result.moves
        ],
        "grids": list(grids),
    }


def _text(grid: Grid) -> str:
    """Return the digits of a grid's rows, "/" between them."""
    return "/".join((row + ord("0")).tobytes().decode() for row in grid)


def _page(document: dict[str, Any]) -> bytes:
    """Return the HTML page: style, scripts and data in one file, which loads nothing."""
    # "<" could end the script element that holds the data.
    data = orjson.dumps(document).replace(b"<", b"\\u003c")
    folder = resources.files("arcpipe.submissions") / "templates"
    scripts = b"\n".join((folder / name).read_bytes() for name in _SCRIPTS)
    html = (folder / "report.html").read_bytes()
    parts = {b"@style@": (folder / "report.css").read_bytes(), b"@script@": scripts, b"@data@": data}
    for mark, content in parts.items():
        html = html.replace(mark, content)
    return html
