"""One panel: axes, lines, bands and marks."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfirst_arrangement.measures import figure_style as style
from nearfirst_arrangement.studies.figures import geometry as place
from nearfirst_arrangement.studies.figures.lines import Line, PanelLines, axis_unit
from nearfirst_arrangement.studies.figures.look import Look
from nearfirst_arrangement.studies.figures.spec import FigureSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LINE_WIDTH = 1.3
_BAND_ALPHA = 0.18
_NOT_MEASURED = "not measured"
_TITLE_LINES = (17, 9)
"""Points above the axes at which title and unit stand."""
_LOG_TICKS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000)
_TICK_GAP = 0.07
"""Inches between the labels of a logarithmic axis."""


def draw_panel(
    axes: "Axes",
    found: PanelLines,
    spec: FigureSpec,
    looks: Mapping[str, Look],
    *,
    size: tuple[float, float],
    limits: tuple[float, float] | None,
    has_x_label: bool,
) -> None:
    """Draw one panel.

    Args:
        axes: that it is drawn on.
        found: its lines.
        spec: of the figure.
        looks: of its lines, by label.
        size: width and height of the axes in inches.
        limits: of the values; None: nothing was measured, and the panel says so.
        has_x_label: whether it stands in the bottom row.
    """
    _write_title(axes, found, size[0])
    if limits is None:
        style.empty_axes(axes, _NOT_MEASURED)
        return
    axes.set_ylim(*limits)
    _set_steps(axes, found, spec, size[0])
    if found.panel.show == "difference":
        axes.axhline(0, color=style.INK, linewidth=0.7)
    for line in found.lines:
        _draw_band(axes, line, looks[line.label])
    for line in found.lines:
        _draw_line(axes, line, looks[line.label])
    _finish(axes, size[1])
    if has_x_label:
        axes.set_xlabel("optimizer step", labelpad=1.5)


def _write_title(axes: "Axes", found: PanelLines, width: float) -> None:
    unit = axis_unit(found.panel, found.reference)
    title = style.shortened(found.panel.title, max(12, int(1.2 * width / place.text_width("n", 7.5, is_bold=True))))
    looks: tuple[dict[str, Any], ...] = (
        {"text": title, "xytext": (-4, _TITLE_LINES[0]), "fontsize": 7.5, "fontweight": "bold"},
        {"text": unit, "xytext": (-4, _TITLE_LINES[1]), "fontsize": place.NOTE_SIZE, "color": style.QUIET},
    )
    for look in looks:
        axes.annotate(xy=(0, 1), xycoords="axes fraction", textcoords="offset points", va="top", **look)


def _set_steps(axes: "Axes", found: PanelLines, spec: FigureSpec, width: float) -> None:
    """The axis of steps."""
    first = min(int(line.steps[0]) for line in found.lines)
    last = spec.max_step or max(int(line.steps[-1]) for line in found.lines)
    last = max(last, first + 1)
    if spec.x == "linear":
        axes.set_xlim(first, last)
        style.count_axis(axes.xaxis, 4)
        return
    positive = [int(step) for line in found.lines for step in line.steps if step > 0]
    start = min(positive, default=1)
    axes.set_xscale("symlog", linthresh=start, linscale=0.4, subs=[])
    axes.set_xlim(first, last)
    axes.set_xticks(_log_ticks(axes, first, start, last, width))
    axes.xaxis.set_major_formatter(style.with_thousands)
    axes.minorticks_off()


def _log_ticks(axes: "Axes", first: int, start: int, last: int, width: float) -> list[int]:
    """0 and powers of about 3, as many as can be read on so many inches."""
    wanted = [first, *(tick for tick in _LOG_TICKS if max(first + 1, start) <= tick <= last)]
    scaled = axes.transScale.transform([(tick, 0) for tick in [*wanted, last]])[:, 0]
    ticks, taken = [], -np.inf
    for tick, at in zip(wanted, width * (scaled - scaled[0]) / (scaled[-1] - scaled[0]), strict=False):
        half = place.text_width(style.with_thousands(tick)) / 2
        if at - half >= taken:
            ticks.append(tick)
            taken = at + half + _TICK_GAP
    return ticks


def _draw_band(axes: "Axes", line: Line, look: Look) -> None:
    if np.isfinite(line.low).any():
        axes.fill_between(line.steps, line.low, line.high, color=look.colour, alpha=_BAND_ALPHA, linewidth=0)


def _draw_line(axes: "Axes", line: Line, look: Look) -> None:
    axes.plot(
        line.steps,
        line.mean,
        color=look.colour,
        linestyle=look.dashes,
        linewidth=_LINE_WIDTH,
        marker="o" if len(line.steps) == 1 else None,
        markersize=3,
        dash_capstyle="butt",
    )
    for drop in line.drops:
        middle = (drop.before + drop.after) / 2
        axes.plot(
            [drop.step], [middle], marker="v", markersize=5, color=look.colour, markeredgecolor="white",
            markeredgewidth=0.6, linestyle="none", zorder=4,
        )  # fmt: skip
        axes.annotate(
            f"{drop.step:,.0f}", (drop.step, middle), xytext=(4, 0), textcoords="offset points", va="center",
            fontsize=place.NOTE_SIZE, color=style.QUIET, zorder=5,
            bbox={"facecolor": "white", "alpha": 0.75, "pad": 0.5, "edgecolor": "none"},  # the line goes on behind it
        )  # fmt: skip


def _finish(axes: "Axes", height: float) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(max(3, int(height / 0.26)), min_n_ticks=3, steps=[1, 2, 2.5, 5, 10]))
    style.quiet_axes(axes)
    axes.grid(axis="y", color=style.GRID, linewidth=0.4)
