"""The figures of a report for a paper, each as PNG and SVG."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from arcpipe.grid import Grid, Palette
from arcpipe.runs import make_manifest, new_folder, writing
from arcpipe.submissions.report_curves import Chart
from arcpipe.submissions.report_tasks import OUTCOMES, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colors, told apart by color-blind readers too; the dashes do without any color.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
_DASHES = ("-", "--", ":", "-.")
_HATCHES = {"solved": "", "nearly": "//", "cells": "xx", "size": "..", "none": "", "unknown": ""}
_FILLS = {
    "solved": "#009e73", "nearly": "#e69f00", "cells": "#d55e00", "size": "#cc79a7", "none": "#bbbbbb",
    "unknown": "#0072b2",
}  # fmt: skip
_STYLE: dict[Any, Any] = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.color": "#e2e2e2", "axes.axisbelow": True, "svg.hashsalt": "arcpipe", "svg.fonttype": "none",
}  # fmt: skip
_DPI = 200
_SHOWN_TESTS = 8
_SIDE_POINTS = 90


def write_figures(
    folder: Path, title: str, charts: Sequence[Chart], tests: Sequence[Result], look: Any
) -> None:
    """Write a folder of figures: a file per chart, the outcomes, and tests with their attempts.

    Args:    title: what they are of. look: the family of the tests: its symbols and palette.
    Raises:  OutputError if the folder exists or cannot be written.
    """
    import matplotlib as mpl

    with mpl.rc_context(_STYLE), new_folder(folder, make_manifest("figures", title=title)) as made:
        for chart in charts:
            _save(_curves(chart), made / chart.title.lower().replace(" ", "-").replace("'", ""))
        if tests:
            _save(_outcomes(tests), made / "outcomes")
            _save(_examples(tests, look.symbols, look.palette), made / "examples")


def _save(figure: "Figure", path: Path) -> None:
    """Write a figure under a name without suffix, the same bytes for the same figure."""
    for suffix, nothing in ((".png", {"Software": None}), (".svg", {"Date": None})):
        with writing(path):
            figure.savefig(
                path.with_name(path.name + suffix), dpi=_DPI, bbox_inches="tight", metadata=nothing
            )


def _curves(chart: Chart) -> "Figure":
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(4.2, 2.6))
    axes = figure.subplots()
    for number, line in enumerate(chart.lines):
        color, dash = _COLORS[number % len(_COLORS)], _DASHES[number % len(_DASHES)]
        marker = "o" if len(line.steps) < 10 else ""
        axes.plot(
            line.steps, line.values, label=line.name, color=color, linestyle=dash, linewidth=1.3,
            marker=marker, markersize=3,
        )  # fmt: skip
    if chart.scale == "log" and all(min(line.values) > 0 for line in chart.lines):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    if chart.scale == "share":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("step")
    axes.set_title(chart.title, loc="left", fontsize=10)
    if len(chart.lines) > 1:
        axes.legend(frameon=False)
    return figure


def _outcomes(tests: Sequence[Result]) -> "Figure":
    """How many tests came out how, as bars that differ in color and hatch."""
    from matplotlib.figure import Figure

    counts = Counter(test.outcome for test in tests)
    shown = [outcome for outcome in OUTCOMES if counts[outcome]]
    figure = Figure(figsize=(4.2, 0.5 + 0.35 * len(shown)))
    axes = figure.subplots()
    bars = axes.barh(
        [OUTCOMES[outcome] for outcome in shown], [counts[outcome] for outcome in shown],
        color=[_FILLS[outcome] for outcome in shown], hatch=[_HATCHES[outcome] for outcome in shown],
        edgecolor="#333333", linewidth=0.6,
    )  # fmt: skip
    axes.bar_label(bars, padding=3)
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.set_xlabel("test inputs")
    return figure


def _examples(tests: Sequence[Result], symbols: str, palette: Palette | None) -> "Figure":
    """Up to eight tests, of each outcome in turn: input, right output, attempts, wrong cells crossed."""
    from matplotlib.figure import Figure

    rows = _of_each_outcome(tests)
    columns = 2 + max(len(test.attempts) for test in rows)
    figure = Figure(figsize=(1.5 * columns, 1.9 * len(rows)), layout="constrained")
    for place, axes in zip(rows, figure.subplots(len(rows), columns, squeeze=False), strict=True):
        pair = place.pair
        named = [("input", pair.input), ("right output", pair.output)]
        named += [(f"attempt {number}", grid) for number, grid in enumerate(place.attempts, 1)]
        for axis in axes:
            axis.set_axis_off()
        for axis, (name, grid) in zip(axes, named, strict=False):
            if grid is not None:
                title = f"{place.task}\n{name}" if name == "input" else name
                _draw(axis, grid, title, symbols, palette)
                if name.startswith("attempt") and pair.output is not None:
                    _cross(axis, grid, pair.output)
    return figure


def _of_each_outcome(tests: Sequence[Result]) -> list[Result]:
    """Up to eight tests: the first of each outcome, the second of each, and so on; by outcome."""
    groups = [[test for test in tests if test.outcome == outcome] for outcome in OUTCOMES]
    in_turn = [group[number] for number in range(_SHOWN_TESTS) for group in groups if number < len(group)]
    order = list(OUTCOMES)
    return sorted(in_turn[:_SHOWN_TESTS], key=lambda test: order.index(test.outcome))


def _draw(axis: "Axes", grid: Grid, title: str, symbols: str, palette: Palette | None) -> None:
    height, width = grid.shape
    colors = np.full((height, width, 3), 255) if palette is None else np.array(palette)[grid]
    axis.imshow(colors, interpolation="nearest")
    for at in range(max(height, width) + 1):
        if at <= width:
            axis.plot([at - 0.5, at - 0.5], [-0.5, height - 0.5], color="#777777", linewidth=0.4)
        if at <= height:
            axis.plot([-0.5, width - 0.5], [at - 0.5, at - 0.5], color="#777777", linewidth=0.4)
    if palette is None:
        for (row, column), value in np.ndenumerate(grid):
            if value:
                axis.text(column, row, symbols[value], ha="center", va="center", fontsize=6)
    axis.set_title(title, fontsize=7)


def _cross(axis: "Axes", grid: Grid, truth: Grid) -> None:
    """Cross the wrong cells, white on black, if the sizes are the same."""
    if grid.shape != truth.shape:
        return
    rows, columns = np.nonzero(grid != truth)
    # The area of a mark in square points, half as wide as a cell.
    area = (_SIDE_POINTS / max(grid.shape) / 2) ** 2
    for color, width in (("#000000", 2.2), ("#ffffff", 1.0)):
        axis.scatter(columns, rows, marker="x", s=area, color=color, linewidths=width)
