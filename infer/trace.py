"""Showing how a puzzle was solved: the input beside the attempts, step by step, and as an animated SVG."""

from collections.abc import Iterator, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from arcpipe.codec import Family
from arcpipe.grid import Grid, draw
from arcpipe.infer.solve import Solved, Step
from arcpipe.sudoku_rules import BOXES
from arcpipe.task import Pair

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


def solved_text(solved: Solved, family: Family, color: int) -> str:
    """Return the input and the attempts side by side, then whether they are right."""
    titles = ["input", "attempt 1", "attempt 2"] if family.with_eos else ["input", "answer"]
    grids = [solved.question, *(attempt.grid for attempt in solved.attempts)]
    drawing = draw(grids, titles[: len(grids)], color, family.symbols, family.palette)
    return "\n".join([drawing, "", *_verdict(solved, family)])


def _verdict(solved: Solved, family: Family) -> Iterator[str]:
    last = solved.steps[-1]
    if not family.with_eos:
        yield _VERDICTS[family.name, bool(solved.right)]
        yield f"halt probability {last.halt_probability:.3f} after {last.number} steps"
        return
    if not solved.attempts:
        yield f"no answer: none of {solved.candidates} candidates held a grid"
    for number, attempt in enumerate(solved.attempts, 1):
        yield (
            f"attempt {number}: {attempt.votes} of {solved.candidates} votes, "
            f"mean halt probability {attempt.halt_probability:.3f} after {last.number} steps"
        )
    if solved.right is None:
        yield "whether one is right cannot be checked: the file does not tell the output"
    else:
        yield f"{'an attempt' if solved.right else 'no attempt'} is the output that the file tells"


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
    top, right = _GAP, _GAP
    bottom = top
    for number, pair in enumerate(demonstrations, 1):
        grids = {f"demonstration {number}": pair.input, "output": pair.output}
        place, widest = top, right
        for title, grid in grids.items():
            if grid is not None:
                parts += [_title(right, place, title), *_still(grid, family, right, place + _TITLE, _SMALL)]
                place += _TITLE + len(grid) * _SMALL + _SMALL
                widest = max(widest, right + max(grid.shape[1] * _SMALL, 7 * _CELL))
        bottom, right = max(bottom, place + _GAP), widest + _GAP
    top = bottom
    for one in solved:
        sides = [one.question.shape, *(step.grid.shape for step in one.steps if step.grid is not None)]
        height, width = np.max(sides, axis=0) * _CELL
        left = _GAP + one.question.shape[1] * _CELL + _GAP
        parts.append(_title(_GAP, top, "input"))
        parts += _still(one.question, family, _GAP, top + _TITLE, _CELL)
        parts += _frames(one, family, left, top)
        if family.name == "sudoku":
            parts += [_boxes(len(one.question), x, top + _TITLE) for x in (_GAP, left)]
        end = left + max(int(width), 12 * _CELL) + _GAP
        for number, attempt in enumerate(one.attempts if family.with_eos else (), 1):
            title = f"attempt {number}: {attempt.votes} of {one.candidates} votes"
            parts += [_title(end, top, title), *_still(attempt.grid, family, end, top + _TITLE, _CELL)]
            height = np.maximum(height, len(attempt.grid) * _CELL)
            end += max(attempt.grid.shape[1] * _CELL, 14 * _CELL) + _GAP
        top += _TITLE + int(height) + _GAP
        right = max(right, end)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {right} {top}" width="{right}" height="{top}" '
        'font-family="monospace" font-size="12">\n'
        f'<rect width="{right}" height="{top}" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _still(grid: Grid, family: Family, left: int, top: int, side: int) -> Iterator[str]:
    """Yield the cells of a grid that does not change."""
    for (row, column), value in np.ndenumerate(grid):
        yield _cell(int(value), family, left + column * side, top + row * side, given=True, side=side)


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
                yield _shown(_mark(x, y), start, start + 1, count)


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
    fill = "#ffffff"
    if family.palette is not None:
        red, green, blue = family.palette[value]
        fill = f"#{red:02x}{green:02x}{blue:02x}"
    square = f'<rect x="{x}" y="{y}" width="{side}" height="{side}" fill="{fill}" stroke="#999999"/>'
    if family.palette is not None:
        return square
    color = "#000000" if given else "#0060c0"
    text = escape(family.symbols[value].replace(".", " "))
    place = f'x="{x + _CELL // 2}" y="{y + 12}" text-anchor="middle"'
    return f'<g>{square}<text {place} fill="{color}">{text}</text></g>'


def _mark(x: int, y: int) -> str:
    return (
        f'<rect x="{x + 1}" y="{y + 1}" width="{_CELL - 2}" height="{_CELL - 2}" fill="none" '
        'stroke="#ff4136" stroke-width="2"/>'
    )


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
