"""One puzzle: read from a file, solved like a whole dataset, shown as text or SVG."""

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from math import isqrt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from arcpipe.augmentation import PuzzleTable
from arcpipe.boards import BOXES, CHARACTERS, GOAL, PATH, START, at, cells_of, distances, is_valid, repeats
from arcpipe.checkpoint import Checkpoint
from arcpipe.codec import Family, GridTable, family_of
from arcpipe.documents import read_json, read_text
from arcpipe.errors import CheckpointError, DataError, one_line
from arcpipe.grid import MAX_SIDE, NUM_COLORS, Grid, draw
from arcpipe.infer.config import InferSettings
from arcpipe.infer.items import Schedule
from arcpipe.infer.predict import predict
from arcpipe.infer.vote import VotedGrid, rank, read_votes, voted_grids
from arcpipe.log import counted
from arcpipe.puzzleset import PuzzleSet, Variants
from arcpipe.task import Pair, Task, parse_task

_MAX_BYTES = 10**6
_BOARDS = {side * side for side in BOXES}
_FRAME = str.maketrans("", "", " \t|+-")
_TYPED = {*".0123456789 |+-\n"}
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


def read_puzzle(path: Path, family: str, canvas: int) -> Task:
    """Read the puzzle of a file; a Sudoku or maze becomes a task, named by its family, with one test input.

    A Sudoku is S x S characters in one line or S lines, `.` or 0 for an empty cell; frames of |, + and - are
    ignored. A maze is `#`, space, S and G in one line or S lines. Either may be in the column `question` of a
    CSV file with one row. An ARC task is a task file, or a challenges file with one task.

    Args:    path: a file, `-` for stdin, or the characters of a Sudoku instead of a file.
             family: the kind of puzzle to read.
             canvas: the side of a Sudoku or maze; the maximum side of an ARC test input.
    Raises:  DataError naming the place in the file.
    """
    path = Path("/dev/stdin") if str(path) == "-" else path
    if family == "arc":
        return _read_task(path, canvas)
    # Not by Path.exists, which raises OSError for a text that is too long for a name.
    is_missing, is_typed = not os.path.exists(path), not {*str(path)} - _TYPED
    if is_missing and not is_typed and family == "sudoku":
        counts = "16, 36 or 81 digits, with . for an empty cell"
        raise DataError(f"{path}: no such file; instead of one, a Sudoku can be typed: {counts}")
    rows = str(path).splitlines() if is_missing and is_typed else _read_lines(path)
    board = _maze(rows, path) if family == "maze" else _sudoku(rows, path)
    if len(board) != canvas:
        raise DataError(
            f"{path}: a {family} of {len(board)} x {len(board)}, but the checkpoint solves those of "
            f"{canvas} x {canvas}: choose another checkpoint"
        )
    return Task(family, (), (Pair(board, None),))


def _read_task(path: Path, canvas: int) -> Task:
    try:
        name, value = path.stem, read_json(path)
    except DataError as error:
        raise DataError(f"{error}; the checkpoint answers ARC tasks, each in a JSON file") from None
    if isinstance(value, dict) and not {"train", "test"} <= value.keys():
        if len(value) != 1:
            raise DataError(f"{path}: holds {len(value)} tasks, solve takes a file of one")
        ((name, value),) = value.items()
    task = parse_task(name, value, str(path))
    for index, pair in enumerate(task.tests):
        height, width = pair.input.shape
        if max(height, width) > canvas:
            raise DataError(
                f"{path}: task {name}, test[{index}].input: {height} x {width} cells, "
                f"the checkpoint's canvas is {canvas} x {canvas}"
            )
    return task


def _read_lines(path: Path) -> list[str]:
    """Return the lines of a text file, without empty ones at its ends; for a CSV file the field of the column
    question or, without that column, the longest field."""
    text = read_text(path, _MAX_BYTES, ": solve takes a file of one puzzle")
    if not text.strip():
        raise DataError(f"{path}: is empty, expected a puzzle")
    lines = text.strip("\r\n").splitlines()
    if "," not in text:
        return lines
    try:
        rows = [row for row in csv.reader(lines) if row]
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV file that can be read ({one_line(error)})") from None
    header = [name.strip().lower() for name in rows[0]]
    body = rows[1:] if "question" in header else rows
    if len(body) != 1:
        raise DataError(f"{path}: {len(body)} rows of puzzles, solve takes a file of one")
    if "question" not in header:
        return [max(body[0], key=len)]
    place = header.index("question")
    if place >= len(body[0]):
        raise DataError(f"{path}: its row has no field for the column question")
    return [body[0][place]]


def _sudoku(lines: list[str], path: Path) -> Grid:
    rows = [row for row in (line.translate(_FRAME) for line in lines) if row]
    if len(rows) > 1 and all(len(row) in _BOARDS for row in rows):
        raise DataError(f"{path}: {len(rows)} Sudokus, solve takes a file of one")
    cells = "".join(rows)
    side = isqrt(len(cells))
    in_lines = len(rows) == 1 or all(len(row) == side for row in rows)
    if len(cells) not in _BOARDS or not in_lines:
        raise DataError(
            f"{path}: no Sudoku: expected 81, 36 or 16 characters in one line, or 9, 6 or 4 lines of as many "
            f"characters; found {len(cells)} characters in {counted(len(rows), 'line')}"
        )
    allowed = ".123456789"[: side + 1]
    board = _board(cells.replace("0", "."), allowed, path, "a Sudoku of this size is made of")
    if repeats(board[None])[0]:
        raise DataError(f"{path}: a digit stands twice in a row, column or box: it has no solution")
    return board


def _maze(lines: list[str], path: Path) -> Grid:
    cells, side = lines[0], isqrt(len(lines[0]))
    if len(lines) > 1:
        side = len(lines)
        for number, line in enumerate(lines, 1):
            if len(line) > side:
                raise DataError(f"{path}: line {number} has {len(line)} characters, a square maze of {side}")
        # Editors strip trailing spaces, which are free cells.
        cells = "".join(line.ljust(side) for line in lines)
    if len(cells) != side * side:
        raise DataError(f"{path}: {len(cells)} characters in one line are no square maze")
    # Ignore the path of a solution in the file.
    board = _board(cells.replace("o", " "), CHARACTERS[:PATH], path, "a maze is made of")
    for value, name in ((START, "start 'S'"), (GOAL, "goal 'G'")):
        if (count := int((board == value).sum())) != 1:
            raise DataError(f"{path}: {count} cells are the {name}, a maze has one")
    if at(distances(board[None]), cells_of(board[None], GOAL))[0] < 0:
        raise DataError(f"{path}: there is no way from the start to the goal")
    return board


def _board(cells: str, allowed: str, path: Path, what: str) -> NDArray[np.uint8]:
    """Return the values (S, S) of characters; a character's value is its index in `allowed`."""
    side = isqrt(len(cells))
    for place, cell in enumerate(cells):
        if cell not in allowed:
            row, column = divmod(place, side)
            raise DataError(f"{path}: {cell!a} in row {row + 1}, column {column + 1}; {what} {allowed!r}")
    return np.array([allowed.index(cell) for cell in cells], np.uint8).reshape(side, side)


@dataclass(frozen=True, eq=False)
class Step:
    """The answer after supervision step `number`, from 1; its grid is None if the answer holds none."""

    number: int
    grid: Grid | None
    halt_probability: float


@dataclass(frozen=True, eq=False)
class Solved:
    """The result for one test input.

    question: the test input.
    attempts: the best first; up to two for ARC, one for a Sudoku or maze; none if no candidate held a grid.
    candidates: how many candidates there were.
    steps: the steps of the candidate without augmentation; without a trace, only the last one.
    right: whether an attempt solves it; None if that is not known.
    """

    question: Grid
    attempts: list[VotedGrid]
    candidates: int
    steps: list[Step]
    right: bool | None


def solve_puzzle(
    checkpoint: Checkpoint, task: Task, *, max_steps: int = 0, max_votes: int = 0, trace: bool = False
) -> list[Solved]:
    """Solve each test input of a task under the augmentations that the checkpoint knows of it; with embedding
    task, under fresh colorings.

    Args:    task: from `read_puzzle`.
             max_steps: supervision steps; 0 for as many as in training.
             max_votes: the maximum of candidates of each test input; 0 for all, or FRESH_VOTES colorings.
             trace: keep every step.
    Raises:  CheckpointError if the checkpoint was not trained on the task.
    """
    puzzles = _puzzle_set(checkpoint, task, max_votes)
    family, last = puzzles.family, max_steps or checkpoint.config.max_steps
    marks = [*range(1, last)] if trace else []
    settings = InferSettings(max_steps=last, votes=max_votes, candidates_at=marks)
    settings = replace(settings, batch_size=min(len(Schedule(puzzles, settings)), _MOST_ROWS))
    table = pa.concat_tables(list(predict(checkpoint, puzzles, settings))).sort_by("order")
    votes = read_votes([table.filter(pc.equal(table["steps"], last))], {task.id: len(task.tests)})
    voted = voted_grids(votes, rank(votes), range(len(task.tests)))
    solved = []
    for index, (pair, grids) in enumerate(zip(task.tests, voted, strict=True)):
        attempts, right = grids[: 2 if family.with_eos else 1], None
        if not family.with_eos:
            # Without an attempt, no answer was finite.
            right = bool(attempts) and bool(is_valid(family.name, pair.input[None], grids[0].grid[None])[0])
        elif pair.output is not None:
            right = any(np.array_equal(attempt.grid, pair.output) for attempt in attempts)
        steps = []
        # The first item of a test input is the plain one, without augmentation.
        own = table.filter(pc.equal(table["test_index"], index))
        for row in own.slice(0, len(marks) + 1).to_pylist():
            cells = np.frombuffer(row["cells"], np.uint8)
            grid = cells.reshape(row["height"], row["width"]) if row["height"] else None
            steps.append(Step(row["steps"], grid, row["halt_probability"]))
        solved.append(Solved(
            question=pair.input, attempts=attempts, candidates=int(votes.candidates[index]), steps=steps,
            right=right,
        ))  # fmt: skip
    return solved


def _puzzle_set(checkpoint: Checkpoint, task: Task, most: int) -> PuzzleSet:
    """Return the task as a dataset. An ARC task gets the augmentations that the checkpoint knows of it, the
    identity first, up to `most` of them (0 for all)."""
    family, canvas = family_of(checkpoint.family, checkpoint.canvas), checkpoint.canvas
    table = PuzzleTable.uncolored([task.id])
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
        is_augmented = (dihedrals != 0) | (colors != np.arange(NUM_COLORS)).any(axis=1)
        order = np.argsort(is_augmented, kind="stable")[: most or None]
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


def solved_text(solved: Solved, family: Family, color: int) -> str:
    """Return the input and the attempts side by side, and whether they are right."""
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
    """Return each step's answer in characters, with a `*` after each cell that changed in the step."""
    blocks: list[str] = []
    layers = _stack([step.grid for step in steps])
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
    """Return an SVG document: the demonstrations, then each test input with its answer, animated by step.

    The attempts at ARC tasks are at the right, with their votes. A cell is framed during the step in which it
    changes; thick lines surround the boxes of a Sudoku.
    """
    parts: list[str] = []
    top = right = bottom = _GAP
    for number, pair in enumerate(demonstrations, 1):
        grids = {f"demonstration {number}": pair.input, "output": pair.output}
        place, widest = top, right
        for title, grid in grids.items():
            if grid is not None:
                parts += _grid_svg(title, grid, family, right, place, _SMALL)
                place += _TITLE + len(grid) * _SMALL + _SMALL
                widest = max(widest, right + max(grid.shape[1] * _SMALL, 7 * _CELL))
        bottom, right = max(bottom, place + _GAP), widest + _GAP
    top = bottom
    for one in solved:
        sides = [one.question.shape, *(step.grid.shape for step in one.steps if step.grid is not None)]
        height, width = np.max(sides, axis=0) * _CELL
        left = _GAP + one.question.shape[1] * _CELL + _GAP
        parts += _grid_svg("input", one.question, family, _GAP, top)
        parts += _steps_svg(one, family, left, top)
        if family.name == "sudoku":
            parts += [_boxes_svg(len(one.question), x, top + _TITLE) for x in (_GAP, left)]
        end = left + max(int(width), 12 * _CELL) + _GAP
        for number, attempt in enumerate(one.attempts if family.with_eos else (), 1):
            title = f"attempt {number}: {attempt.votes} of {one.candidates} votes"
            parts += _grid_svg(title, attempt.grid, family, end, top)
            height = np.maximum(height, len(attempt.grid) * _CELL)
            end += max(attempt.grid.shape[1] * _CELL, 14 * _CELL) + _GAP
        top += _TITLE + int(height) + _GAP
        right = max(right, end)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {right} {top}" width="{right}" height="{top}" '
        'font-family="monospace" font-size="12">\n'
        f'<rect width="{right}" height="{top}" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _grid_svg(
    title: str, grid: Grid, family: Family, left: int, top: int, side: int = _CELL
) -> Iterator[str]:
    """Yield a title and the cells of a grid."""
    yield _title_svg(left, top, title)
    for (row, column), value in np.ndenumerate(grid):
        x, y = left + column * side, top + _TITLE + row * side
        yield _cell_svg(int(value), family, x, y, given=True, side=side)


def _boxes_svg(side: int, left: int, top: int) -> str:
    """Return thick lines around the boxes of a Sudoku."""
    height, width = (_CELL * lines for lines in BOXES[side])
    corners = [(x, y) for x in range(0, side * _CELL, width) for y in range(0, side * _CELL, height)]
    path = "".join(f"M{left + x} {top + y}h{width}v{height}h{-width}z" for x, y in corners)
    return f'<path d="{path}" fill="none" stroke="#000000" stroke-width="2"/>'


def _steps_svg(one: Solved, family: Family, left: int, top: int) -> Iterator[str]:
    """Yield the animated titles and cells of the answer: one element for each value that a cell takes on."""
    count = len(one.steps)
    for index, step in enumerate(one.steps):
        title = _title_svg(left, top, f"step {step.number}, halt {step.halt_probability:.2f}")
        yield _visible(title, index, index + 1, count)
    values = _stack([step.grid for step in one.steps])
    for row, column in np.ndindex(*values.shape[1:]):
        x, y = left + column * _CELL, top + _TITLE + row * _CELL
        runs = values[:, row, column]
        starts = [0, *(np.flatnonzero(np.diff(runs)) + 1).tolist()]
        for start, end in zip(starts, [*starts[1:], count], strict=True):
            value = int(runs[start])
            given = not family.with_eos and value == one.question[row, column]
            if value != _OUTSIDE:
                yield _visible(_cell_svg(value, family, x, y, given=given), start, end, count)
            if start:
                frame = f'x="{x + 1}" y="{y + 1}" width="{_CELL - 2}" height="{_CELL - 2}" fill="none"'
                mark = f'<rect {frame} stroke="#ff4136" stroke-width="2"/>'
                yield _visible(mark, start, start + 1, count)


def _stack(grids: Sequence[Grid | None]) -> NDArray[np.int16]:
    """Return the grids as one array (N, H, W) of the largest sides, -1 outside each grid."""
    height, width = np.max([(0, 0), *(grid.shape for grid in grids if grid is not None)], axis=0)
    layers = np.full((len(grids), height, width), _OUTSIDE, np.int16)
    for layer, grid in zip(layers, grids, strict=True):
        if grid is not None:
            layer[: grid.shape[0], : grid.shape[1]] = grid
    return layers


def _title_svg(x: int, y: int, text: str) -> str:
    return f'<text x="{x}" y="{y + 12}">{escape(text)}</text>'


def _cell_svg(value: int, family: Family, x: int, y: int, *, given: bool, side: int = _CELL) -> str:
    """Return a square in the value's color, or with its character: black if given, else blue."""
    fill = "#ffffff" if family.palette is None else f"#{bytes(family.palette[value]).hex()}"
    square = f'<rect x="{x}" y="{y}" width="{side}" height="{side}" fill="{fill}" stroke="#999999"/>'
    if family.palette is not None:
        return square
    color = "#000000" if given else "#0060c0"
    text = escape(family.symbols[value].replace(".", " "))
    place = f'x="{x + _CELL // 2}" y="{y + 12}" text-anchor="middle"'
    return f'<g>{square}<text {place} fill="{color}">{text}</text></g>'


def _visible(element: str, start: int, end: int, count: int) -> str:
    """Return the element, visible from step `start` until step `end`; the last step is shown longer."""
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
    # A viewer without animation shows the last step.
    hidden = "" if end == count else ' visibility="hidden"'
    return f"<g{hidden}>{element}{animate}</g>"
