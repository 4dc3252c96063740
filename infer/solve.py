"""One puzzle: solved by the engine and the vote of whole datasets, and shown step by step in text and SVG."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from arcpipe.augmentation import IDENTITY, PuzzleTable
from arcpipe.boards import BOXES, is_valid
from arcpipe.checkpoint import Checkpoint
from arcpipe.codec import Family, GridTable, family_of
from arcpipe.errors import CheckpointError
from arcpipe.grid import MAX_SIDE, NUM_COLORS, Grid, draw
from arcpipe.infer.predict import InferSettings, predict, schedule_of
from arcpipe.infer.vote import by_count, rank, read_votes
from arcpipe.puzzleset import PuzzleSet, Variants
from arcpipe.task import Pair, Task

_MOST_ROWS = 64
_CELL, _SMALL = 16, 8
_GAP = 24
_TITLE = 20
_STEP_S = 0.7
_HOLD_STEPS = 3
_OUTSIDE = -1
_VERDICTS = {
    ("sudoku", True): "valid: each row, column and box holds each digit once, and the givens stand",
    ("sudoku", False): "not valid: a row, column or box lacks a digit, or a given was changed",
    ("maze", True): "valid: a shortest path from start to goal",
    ("maze", False): "not valid: no shortest path from start to goal, or another maze",
}


@dataclass(frozen=True, eq=False)
class Step:
    """The answer after a supervision step, which counts from 1; its grid is None where it held none."""

    number: int
    grid: Grid | None
    halt_probability: float


@dataclass(frozen=True, eq=False)
class Attempt:
    """One of the best grids: how many candidates are this grid, and their mean halt probability."""

    grid: Grid
    votes: int
    halt_probability: float


@dataclass(frozen=True, eq=False)
class Solved:
    """The result for one test input.

    question: the test input.
    attempts: the best first; up to two of ARC, one of a Sudoku or maze; none if no candidate held a grid.
    candidates: how many there were.
    steps: the steps of the candidate without augmentation; only the last one without a trace.
    right: whether an attempt solves it, None where that is not known.
    """

    question: Grid
    attempts: list[Attempt]
    candidates: int
    steps: list[Step]
    right: bool | None


def solve_puzzle(
    checkpoint: Checkpoint, task: Task, *, max_steps: int = 0, max_votes: int = 0, trace: bool = False
) -> list[Solved]:
    """Solve each test input of a task under the augmentations of it that the checkpoint knows, or, where that
    knows any coloring, under fresh ones.

    Args:    task: as `read_puzzle` gives it.
             max_steps: supervision steps, 0 for as many as in training.
             max_votes: the most candidates of each test input; 0 for all, of fresh colorings FRESH_VOTES.
             trace: keep every step.
    Raises:  CheckpointError if the checkpoint was not trained on the task.
    """
    steps = max_steps or checkpoint.config.max_steps
    puzzles = _puzzle_set(checkpoint, task, max_votes)
    settings = InferSettings(
        max_steps=steps, votes=max_votes, candidates_at=[*range(1, steps)] if trace else []
    )
    settings = replace(settings, batch_size=min(len(schedule_of(puzzles, settings)), _MOST_ROWS))
    table = pa.concat_tables(list(predict(checkpoint, puzzles, settings))).sort_by("order")
    return [
        _solved(puzzles, pair, table.filter(pc.equal(table["test_index"], index)))
        for index, pair in enumerate(task.tests)
    ]


def _puzzle_set(checkpoint: Checkpoint, task: Task, most: int) -> PuzzleSet:
    """Return the task as a dataset; one of ARC under the augmentations of it that the checkpoint knows, the
    identity first: `most` of them, 0 for all."""
    family, canvas = family_of(checkpoint.family, checkpoint.canvas), checkpoint.canvas
    table = PuzzleTable.of_groups([task.id], [[IDENTITY]])
    if family.with_eos:
        known = checkpoint.puzzles
        if task.id not in known.task_ids:
            raise CheckpointError(
                f"{checkpoint.path}: was not trained on task {task.id} and would answer noise: adapt it to "
                "the task with `arcpipe adapt --checkpoint C --challenges FILE`, or train on a dataset that "
                "holds it"
            )
        rows = known.of_task(known.task_ids.index(task.id))
        dihedrals, colors = known.dihedrals[rows], known.colors[rows]
        changed = (dihedrals != 0) | (colors != np.arange(NUM_COLORS)).any(axis=1)
        order = np.argsort(changed, kind="stable")[: most or None]
        table = PuzzleTable([task.id], np.zeros(len(order), np.int32), dihedrals[order], colors[order])
    pairs = [(pair.input, pair.output) for pair in task.demonstrations if pair.output is not None]
    examples = np.zeros(len(pairs), np.int32)
    return PuzzleSet(
        family=family,
        canvas=canvas,
        table=table,
        inputs=GridTable.pack([grid for grid, _ in pairs], MAX_SIDE),
        outputs=GridTable.pack([grid for _, grid in pairs], MAX_SIDE),
        example_tasks=examples,
        example_groups=examples,
        test_inputs=GridTable.pack([pair.input for pair in task.tests], canvas),
        test_tasks=np.zeros(len(task.tests), np.int32),
        variants=Variants(None, 0) if checkpoint.config.embedding == "task" else None,
    )


def _solved(puzzles: PuzzleSet, pair: Pair, candidates: pa.Table) -> Solved:
    """Return the result for one test input, from its candidates."""
    family, steps = puzzles.family, candidates["steps"]
    final = candidates.filter(pc.equal(steps, pc.max(steps)))
    votes = read_votes([final], {puzzles.table.task_ids[0]: len(puzzles.test_tasks)})
    ranking, (count, halt) = rank(votes), by_count(votes)
    best = ranking.entries[ranking.places < (2 if family.with_eos else 1)]
    attempts = [Attempt(votes.grid(entry), int(count[entry]), float(halt[entry])) for entry in best]
    right = None
    if not family.with_eos:
        right = bool(is_valid(family.name, pair.input[None], attempts[0].grid[None])[0])
    elif pair.output is not None:
        right = any(np.array_equal(attempt.grid, pair.output) for attempt in attempts)
    # The first item of a test input is the input as it is.
    first = candidates.slice(0, len(pc.unique(steps))).to_pylist()
    return Solved(
        question=pair.input,
        attempts=attempts,
        candidates=len(final),
        steps=[Step(row["steps"], _grid(row), row["halt_probability"]) for row in first],
        right=right,
    )


def _grid(row: dict[str, Any]) -> Grid | None:
    if not row["height"]:
        return None
    return np.frombuffer(row["cells"], np.uint8).reshape(row["height"], row["width"])


def solved_text(solved: Solved, family: Family, color: int) -> str:
    """Return the input and the attempts side by side, then whether they are right."""
    titles = ["input", "attempt 1", "attempt 2"] if family.with_eos else ["input", "answer"]
    grids = [solved.question, *(attempt.grid for attempt in solved.attempts)]
    lines = [draw(grids, titles[: len(grids)], color, family.symbols, family.palette), ""]
    last = solved.steps[-1]
    if not family.with_eos:
        lines.append(_VERDICTS[family.name, bool(solved.right)])
        lines.append(f"halt probability {last.halt_probability:.3f} after {last.number} steps")
        return "\n".join(lines)
    if not solved.attempts:
        lines.append(f"no answer: none of {solved.candidates} candidates held a grid")
    for number, attempt in enumerate(solved.attempts, 1):
        lines.append(
            f"attempt {number}: {attempt.votes} of {solved.candidates} votes, "
            f"mean halt probability {attempt.halt_probability:.3f} after {last.number} steps"
        )
    if solved.right is None:
        lines.append("whether one is right cannot be checked: the file does not tell the output")
    else:
        lines.append(f"{'an attempt' if solved.right else 'no attempt'} is the output that the file tells")
    return "\n".join(lines)


def trace_text(steps: Sequence[Step], family: Family) -> str:
    """Return each step's answer in characters, a `*` after each cell that differs from the step before."""
    blocks: list[str] = []
    layers = _stacked([step.grid for step in steps])
    for index, (step, layer) in enumerate(zip(steps, layers, strict=True)):
        changed = (layer != layers[index - 1]) & (layer != _OUTSIDE) & (index > 0)
        count = f", {int(changed.sum())} cells changed" if index else ""
        lines = [f"step {step.number}: halt probability {step.halt_probability:.3f}{count}"]
        height, width = (0, 0) if step.grid is None else step.grid.shape
        for row in range(height):
            marks = zip(layer[row, :width], changed[row, :width], strict=True)
            line = "".join(family.symbols[value] + ("*" if mark else " ") for value, mark in marks)
            lines.append(line.rstrip())
        lines += ["(no grid)"] if step.grid is None else []
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def animation(solved: Sequence[Solved], family: Family, demonstrations: Sequence[Pair] = ()) -> str:
    """Return an SVG document: each test input, and beside it its answer, animated step by step in a loop.

    Above are the demonstrations, at the right the attempts of ARC tasks with their votes. A cell is framed
    during the step in which it changed; thick lines are around the boxes of a Sudoku.
    """
    parts: list[str] = []
    top = right = bottom = _GAP
    for number, pair in enumerate(demonstrations, 1):
        grids = {f"demonstration {number}": pair.input, "output": pair.output}
        place, widest = top, right
        for title, grid in grids.items():
            if grid is not None:
                parts += _still(title, grid, family, right, place, _SMALL)
                place += _TITLE + len(grid) * _SMALL + _SMALL
                widest = max(widest, right + max(grid.shape[1] * _SMALL, 7 * _CELL))
        bottom, right = max(bottom, place + _GAP), widest + _GAP
    top = bottom
    for one in solved:
        sides = [one.question.shape, *(step.grid.shape for step in one.steps if step.grid is not None)]
        height, width = np.max(sides, axis=0) * _CELL
        left = _GAP + one.question.shape[1] * _CELL + _GAP
        parts += _still("input", one.question, family, _GAP, top)
        parts += _frames(one, family, left, top)
        if family.name == "sudoku":
            parts += [_boxes(len(one.question), x, top + _TITLE) for x in (_GAP, left)]
        end = left + max(int(width), 12 * _CELL) + _GAP
        for number, attempt in enumerate(one.attempts if family.with_eos else (), 1):
            title = f"attempt {number}: {attempt.votes} of {one.candidates} votes"
            parts += _still(title, attempt.grid, family, end, top)
            height = np.maximum(height, len(attempt.grid) * _CELL)
            end += max(attempt.grid.shape[1] * _CELL, 14 * _CELL) + _GAP
        top += _TITLE + int(height) + _GAP
        right = max(right, end)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {right} {top}" width="{right}" height="{top}" '
        'font-family="monospace" font-size="12">\n'
        f'<rect width="{right}" height="{top}" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _still(title: str, grid: Grid, family: Family, left: int, top: int, side: int = _CELL) -> Iterator[str]:
    """Yield a title and the cells of a grid that does not change."""
    yield _title(left, top, title)
    for (row, column), value in np.ndenumerate(grid):
        x, y = left + column * side, top + _TITLE + row * side
        yield _cell(int(value), family, x, y, given=True, side=side)


def _boxes(side: int, left: int, top: int) -> str:
    """Return thick lines around the boxes of a Sudoku."""
    height, width = (_CELL * lines for lines in BOXES[side])
    corners = [(x, y) for x in range(0, side * _CELL, width) for y in range(0, side * _CELL, height)]
    path = "".join(f"M{left + x} {top + y}h{width}v{height}h{-width}z" for x, y in corners)
    return f'<path d="{path}" fill="none" stroke="#000000" stroke-width="2"/>'


def _frames(one: Solved, family: Family, left: int, top: int) -> Iterator[str]:
    """Yield titles and cells of the answer; a cell once for each run of steps in which it is the same."""
    count = len(one.steps)
    for index, step in enumerate(one.steps):
        title = _title(left, top, f"step {step.number}, halt {step.halt_probability:.2f}")
        yield _shown(title, index, index + 1, count)
    values = _stacked([step.grid for step in one.steps])
    for row, column in np.ndindex(*values.shape[1:]):
        x, y = left + column * _CELL, top + _TITLE + row * _CELL
        runs = values[:, row, column]
        starts = [0, *(np.flatnonzero(np.diff(runs)) + 1).tolist()]
        for start, end in zip(starts, [*starts[1:], count], strict=True):
            value = int(runs[start])
            given = not family.with_eos and value == one.question[row, column]
            if value != _OUTSIDE:
                yield _shown(_cell(value, family, x, y, given=given), start, end, count)
            if start:
                frame = f'x="{x + 1}" y="{y + 1}" width="{_CELL - 2}" height="{_CELL - 2}" fill="none"'
                mark = f'<rect {frame} stroke="#ff4136" stroke-width="2"/>'
                yield _shown(mark, start, start + 1, count)


def _stacked(grids: Sequence[Grid | None]) -> NDArray[np.int16]:
    """Return the grids as one array (N, H, W) of the largest sides, -1 outside each."""
    height, width = np.max([(0, 0), *(grid.shape for grid in grids if grid is not None)], axis=0)
    stacked = np.full((len(grids), height, width), _OUTSIDE, np.int16)
    for layer, grid in zip(stacked, grids, strict=True):
        if grid is not None:
            layer[: grid.shape[0], : grid.shape[1]] = grid
    return stacked


def _title(x: int, y: int, text: str) -> str:
    return f'<text x="{x}" y="{y + 12}">{escape(text)}</text>'


def _cell(value: int, family: Family, x: int, y: int, *, given: bool, side: int = _CELL) -> str:
    """Return a colored square, or one with the value's character; givens are black."""
    fill = "#ffffff" if family.palette is None else f"#{bytes(family.palette[value]).hex()}"
    square = f'<rect x="{x}" y="{y}" width="{side}" height="{side}" fill="{fill}" stroke="#999999"/>'
    if family.palette is not None:
        return square
    color = "#000000" if given else "#0060c0"
    text = escape(family.symbols[value].replace(".", " "))
    place = f'x="{x + _CELL // 2}" y="{y + 12}" text-anchor="middle"'
    return f'<g>{square}<text {place} fill="{color}">{text}</text></g>'


def _shown(element: str, start: int, end: int, count: int) -> str:
    """Return the element, visible from step `start` up to step `end`; the last step is held a while."""
    if (start, end) == (0, count):
        return element
    total = count + _HOLD_STEPS
    moments = [("hidden", 0.0)] if start else []
    moments += [("visible", start / total)]
    moments += [("hidden", end / total)] if end < count else []
    values, keys = ";".join(state for state, _ in moments), ";".join(f"{time:.4g}" for _, time in moments)
    animate = (
        f'<animate attributeName="visibility" calcMode="discrete" dur="{total * _STEP_S:.4g}s" '
        f'repeatCount="indefinite" values="{values}" keyTimes="{keys}"/>'
    )
    # Without animation the last step is what one sees.
    hidden = "" if end == count else ' visibility="hidden"'
    return f"<g{hidden}>{element}{animate}</g>"
