"""Figures of results: SVG for the report, SVG and PNG for a paper."""

import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, PercentFormatter

from arcpipe.codec import ARC, Family
from arcpipe.errors import printable
from arcpipe.grid import Grid
from arcpipe.runs import make_manifest, new_folder, writing
from arcpipe.submissions.results import OUTCOMES, Chart, Result
from arcpipe.task import Task

# Okabe and Ito's palette, safe for color blindness; the dashes work without color.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
_DASHES = ("-", "--", ":", "-.")
_FILLS = {
    "solved": ("#009e73", ""), "nearly": ("#e69f00", "//"), "cells": ("#d55e00", "xx"),
    "size": ("#cc79a7", ".."), "none": ("#bbbbbb", ""), "unknown": ("#0072b2", ""),
}  # fmt: skip
_STYLE: dict[Any, Any] = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.color": "#e2e2e2", "axes.axisbelow": True, "svg.fonttype": "none", "text.parse_math": False,
}  # fmt: skip
_DPI = 200
_SHOWN_TESTS = 8
_SIDE_POINTS = 90


def chart_svg(chart: Chart) -> bytes:
    """Draw a chart as SVG."""
    with mpl.rc_context(_STYLE):
        return _render(_curves(chart), "svg")


def write_figures(
    folder: Path, title: str, curves: Iterable[Chart], results: Sequence[Result], family: Family
) -> None:
    """Write a folder of figures: each chart, the outcomes, and examples of test inputs with their attempts.

    Args:    title: goes into the manifest. family: the family of the test inputs.
    Raises:  OutputError if the folder exists or cannot be written.
    """
    with mpl.rc_context(_STYLE), new_folder(folder, make_manifest("figures", title=title)) as new:
        figures = {chart.title.lower().replace(" ", "-").replace("'", ""): _curves(chart) for chart in curves}
        if results:
            figures |= {"outcomes": _outcomes(results), "examples": _examples(results, family)}
        for name, figure in figures.items():
            for suffix in ("png", "svg"):
                with writing(new / name):
                    (new / f"{name}.{suffix}").write_bytes(_render(figure, suffix))


def task_image(task: Task, suffix: str) -> bytes:
    """Draw a task as svg or png: a column per pair, the input above the output."""
    pairs = [*task.demonstrations, *task.tests]
    figure = Figure(figsize=(1.6 * len(pairs), 3.8), layout="constrained")
    figure.suptitle(task.id, fontsize=9)
    for number, (pair, column) in enumerate(
        zip(pairs, figure.subplots(2, len(pairs), squeeze=False).T, strict=True), 1
    ):
        test = number - len(task.demonstrations)
        title = f"test {test}" if test > 0 else f"demonstration {number}"
        for axes, grid, name in zip(column, (pair.input, pair.output), (title, "output"), strict=True):
            axes.set_axis_off()
            axes.set_title(name if grid is not None else "output hidden", fontsize=7)
            if grid is not None:
                _draw(axes, grid, ARC, None)
    return _render(figure, suffix)


def _render(figure: Figure, suffix: str) -> bytes:
    """Render a figure; the same figure gives the same bytes."""
    content = io.BytesIO()
    omitted = {"png": {"Software": None}, "svg": {"Date": None}}[suffix]
    # Without a salt the ids in an SVG are random.
    with mpl.rc_context({"svg.hashsalt": "arcpipe"}):
        figure.savefig(content, format=suffix, dpi=_DPI, metadata=omitted, transparent=suffix == "svg")
    return content.getvalue()


def _curves(chart: Chart) -> Figure:
    figure = Figure(figsize=(3.1, 2.6), layout="constrained")
    axes = figure.subplots()
    for number, (name, (steps, values)) in enumerate(chart.lines.items()):
        end = f"{values[-1]:.1%}" if chart.scale == "share" else f"{values[-1]:.3g}"
        axes.plot(
            steps, values, label=f"{name}: {end} at the end", color=_COLORS[number % len(_COLORS)],
            linestyle=_DASHES[number % len(_DASHES)], linewidth=1.3, marker="o" if len(steps) < 10 else "",
            markersize=3,
        )  # fmt: skip
    if chart.scale == "log" and all(min(values) > 0 for _, values in chart.lines.values()):
        axes.set_yscale("log")
        # Powers of ten need math text, which is off.
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=0)
    if chart.scale == "share":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel(f"step (means of {chart.averaged} records)" if chart.averaged > 1 else "step")
    axes.set_title(chart.title, loc="left", fontsize=10)
    figure.legend(loc="outside lower left", frameon=False, fontsize=8)
    return figure


def _outcomes(results: Sequence[Result]) -> Figure:
    """Draw the number of test inputs by outcome, as bars that differ in color and hatch."""
    counts = Counter(result.outcome for result in results)
    shown = [outcome for outcome in OUTCOMES if counts[outcome]]
    figure = Figure(figsize=(4.2, 0.6 + 0.35 * len(shown)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(
        [OUTCOMES[outcome] for outcome in shown], [counts[outcome] for outcome in shown],
        color=[_FILLS[outcome][0] for outcome in shown], hatch=[_FILLS[outcome][1] for outcome in shown],
        edgecolor="#333333", linewidth=0.6,
    )  # fmt: skip
    axes.bar_label(bars, padding=3)
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.set_xlabel("test inputs")
    return figure


def _examples(results: Sequence[Result], family: Family) -> Figure:
    """Draw up to eight test inputs with their right output and attempts; crosses mark wrong cells."""
    # Take outcomes in turn, so that each is shown; then sort the rows by outcome.
    groups = [[result for result in results if result.outcome == outcome] for outcome in OUTCOMES]
    in_turn = [group[number] for number in range(_SHOWN_TESTS) for group in groups if number < len(group)]
    rows = sorted(in_turn[:_SHOWN_TESTS], key=lambda result: list(OUTCOMES).index(result.outcome))
    columns = 2 + max(len(result.attempts) for result in rows)
    figure = Figure(figsize=(1.5 * columns, 1.9 * len(rows)), layout="constrained")
    for result, row in zip(rows, figure.subplots(len(rows), columns, squeeze=False), strict=True):
        grids = {f"{printable(result.task)}\ninput": result.pair.input, "right output": result.pair.output}
        attempts = {f"attempt {number}": grid for number, grid in enumerate(result.attempts, 1)}
        for axes in row:
            axes.set_axis_off()
        for axes, (title, grid) in zip(row, (grids | attempts).items(), strict=False):
            if grid is not None:
                axes.set_title(title, fontsize=7)
                _draw(axes, grid, family, result.pair.output if title in attempts else None)
    return figure


def _draw(axes: Axes, grid: Grid, family: Family, truth: Grid | None) -> None:
    """Draw a grid; if `truth` has the same size, cross out the cells that differ, in white on black."""
    colors = [(255, 255, 255)] * family.num_values if family.palette is None else family.palette
    edges = [np.arange(side + 1) - 0.5 for side in grid.shape[::-1]]
    colormap = ListedColormap(np.array(colors) / 255)
    axes.pcolormesh(
        *edges, grid, vmin=0, vmax=len(colors) - 1, cmap=colormap, edgecolors="#777777", linewidth=0.4
    )
    axes.set_aspect("equal")
    axes.invert_yaxis()
    if family.palette is None:
        for (row, x), value in np.ndenumerate(grid):
            if value:
                axes.text(x, row, family.symbols[value], ha="center", va="center", fontsize=6)
    if truth is not None and truth.shape == grid.shape:
        rows, columns = np.nonzero(grid != truth)
        # A mark is half as wide as a cell; its area is in square points.
        area = (_SIDE_POINTS / max(grid.shape) / 2) ** 2
        for color, width in (("#000000", 2.2), ("#ffffff", 1.0)):
            axes.scatter(columns, rows, marker="x", s=area, color=color, linewidths=width)
