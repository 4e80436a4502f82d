"""A similarity curve as a figure."""

from typing import TYPE_CHECKING, Any

import numpy as np

from nearfirst.contracts.arrangements import Fidelity
from nearfirst.contracts.reports import PairMeasures, SimilarityCurve
from nearfirst_arrangement.measures import figure_style as style
from nearfirst_arrangement.measures.figure_style import FigureFormat

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE_IN = (11.0, 4.3)
_LEFT_EDGES = (0.065, 0.4, 0.725)
_BOX = (0.21, 0.255, 0.55)
"""Bottom, width and height of a panel; like `_LEFT_EDGES` as shares of the page (report_figure.py says why fixed)."""
_LINES = (
    ("max", "farthest pair", style.ORANGE, (0, (7, 2, 1.5, 2))),
    ("avg", "mean of pairs", style.BLUE, "-"),
    ("centroid", "centroids", style.GREEN, (0, (7, 2))),
    ("min", "nearest pair", style.GREY, (0, (2, 1.5))),
)


def draw_curve(curve: SimilarityCurve, *, format: FigureFormat) -> bytes:
    """Draw the nine measures: four cosine distances, four euclidean ones, and the KL divergence.

    Args:
        curve: measures that are None leave an empty panel that says why.
        format: svg or png.

    Returns:
        The file. The same curve gives the same bytes with one version of matplotlib.
    """
    from matplotlib.figure import Figure

    with style.figure_style():
        figure = Figure(figsize=_SIZE_IN)
        cosine, euclidean, kl = (figure.add_axes((left, *_BOX)) for left in _LEFT_EDGES)
        _draw_pair_measures(cosine, curve, curve.cosine, "Cosine distance", "−cosine")
        _draw_pair_measures(euclidean, curve, curve.euclidean, "Euclidean distance", "euclidean distance")
        _draw_kl(kl, curve)
        handles, labels = cosine.get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="lower left", ncols=len(handles), columnspacing=2.5)
        title = f"Distance of training prefixes from the {style.with_thousands(curve.num_test)} test rows"
        figure.suptitle(title, x=0.01, y=0.985, ha="left", va="top", fontsize=13, fontweight="bold")
        return style.figure_bytes(figure, format)


def draw_lines(axes: "Axes", steps: list[int], measures: PairMeasures) -> None:
    """Four distances against training steps, named for a legend."""
    for field, label, colour, dashes in _LINES:
        values = getattr(measures, field)
        axes.plot(steps, values, color=colour, linestyle=dashes, label=label, **_line_look(steps))
    axes.set_xlabel("training step")
    finish_steps(axes, steps)


def _line_look(steps: list[int]) -> dict[str, Any]:
    """A curve of one point has a mark instead of a line."""
    return {"linewidth": 1.8, "marker": "o" if len(steps) == 1 else None, "clip_on": False}


def finish_steps(axes: "Axes", steps: list[int]) -> None:
    """An axis of training steps that begins at 0."""
    axes.set_xlim(0, steps[-1])
    style.count_axis(axes.xaxis, 5)
    style.quiet_axes(axes)


def _draw_pair_measures(
    axes: "Axes", curve: SimilarityCurve, measures: PairMeasures | None, title: str, unit: str
) -> None:
    axes.set_title(title)
    if measures is None:
        style.empty_axes(axes, "no embeddings: not measured")
        return
    draw_lines(axes, curve.steps, measures)
    axes.set_ylabel(unit)
    _add_rows_axis(axes, curve)


def _draw_kl(axes: "Axes", curve: SimilarityCurve) -> None:
    axes.set_title("KL divergence of bigrams")
    if curve.kl is None:
        style.empty_axes(axes, "no test text has two words")
        return
    values = np.array([np.nan if value is None else value for value in curve.kl])
    axes.plot(curve.steps, values, color=style.BLUE, **_line_look(curve.steps))
    weighed = ", by occurrence (paper)" if curve.fidelity is Fidelity.PAPER else ""
    axes.set_ylabel(f"KL(prefix ‖ test) in nats{weighed}")
    axes.set_xlabel("training step")
    finish_steps(axes, curve.steps)
    _add_rows_axis(axes, curve)


def _add_rows_axis(axes: "Axes", curve: SimilarityCurve) -> None:
    """Rows above the steps."""
    per_step = float(curve.rows_per_step)
    above = axes.secondary_xaxis(
        "top",
        functions=(lambda step: np.multiply(step, per_step), lambda row: np.divide(row, per_step)),
    )
    style.count_axis(above.xaxis, 5)
    above.set_xlabel("rows", color=style.QUIET, fontsize=8.5)
    above.tick_params(colors=style.QUIET, labelcolor=style.QUIET, labelsize=8)
    above.spines["top"].set_visible(False)
