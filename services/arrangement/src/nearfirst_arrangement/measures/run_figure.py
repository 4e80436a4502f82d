"""Measurements of several runs over their steps as one figure."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfirst_arrangement.measures import figure_style as style
from nearfirst_arrangement.measures.figure_style import FigureFormat

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE_IN = (8.0, 4.3)
_BOX = (0.1, 0.13, 0.62, 0.75)
"""Left, bottom, width and height of the axes as shares of the page; the legend is at their right."""
CSV_COLUMNS = ("run", "metric", "step", "value")


@dataclass(frozen=True)
class RunCurve:
    """One metric of one run."""

    run: str
    metric: str
    steps: Sequence[int]
    """Ascending."""
    values: Sequence[float]


def draw_runs(curves: Sequence[RunCurve], *, format: FigureFormat) -> bytes:
    """Draw a line for each run, with the run's id and last value in the legend.

    Args:
        curves: at least one, all of one metric, none without a point.
        format: svg or png.

    Returns:
        The file. The same curves give the same bytes with one version of matplotlib.
    """
    from matplotlib.figure import Figure

    with style.figure_style():
        figure = Figure(figsize=_SIZE_IN)
        axes = figure.add_axes(_BOX)
        for number, curve in enumerate(curves):
            _draw(axes, curve, number)
        axes.set_title(curves[0].metric)
        axes.set_xlabel("optimizer step")
        axes.set_ylabel(curves[0].metric)
        axes.set_xlim(0, max(1, *(curve.steps[-1] for curve in curves)))
        style.count_axis(axes.xaxis, 6)
        style.quiet_axes(axes)
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0)
        return style.figure_bytes(figure, format)


def _draw(axes: "Axes", curve: RunCurve, number: int) -> None:
    axes.plot(
        curve.steps,
        curve.values,
        color=style.LINE_COLOURS[number % len(style.LINE_COLOURS)],
        linestyle=style.LINE_DASHES[number % len(style.LINE_DASHES)],
        linewidth=1.8,
        marker="o" if len(curve.steps) == 1 else None,
        label=f"{curve.run}\n{curve.values[-1]:.4g} after step {curve.steps[-1]}",
    )


def curves_csv(curves: Sequence[RunCurve]) -> bytes:
    """A row for each point."""
    return table_csv(
        CSV_COLUMNS,
        [
            (curve.run, curve.metric, step, repr(value))
            for curve in curves
            for step, value in zip(curve.steps, curve.values, strict=True)
        ],
    )


def table_csv(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> bytes:
    """Rows as CSV under their columns' names."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return file.getvalue().encode()
