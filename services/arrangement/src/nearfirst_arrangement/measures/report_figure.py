"""An arrangement's report on one page."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.arrangements import Similarity
from nearfirst.contracts.reports import ArrangementReport, CutTexts, SimilarityCurve, TaskMix
from nearfirst_arrangement.measures import figure_style as style
from nearfirst_arrangement.measures.curve_figure import draw_lines
from nearfirst_arrangement.measures.figure_style import FigureFormat

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZE_IN = (11.0, 9.2)
# Left, bottom, width and height as shares of the page. With matplotlib's constrained layout the same report was seen to
# give other bytes now and then.
_DISTANCE_BOX = (0.07, 0.49, 0.315, 0.315)
_TASK_MIX_BOX = (0.47, 0.49, 0.305, 0.315)
_COVERAGE_BOX = (0.07, 0.055, 0.405, 0.315)
_CURVE_BOX = (0.57, 0.055, 0.405, 0.315)
_KEY_NUMBER_Y, _KEY_LABEL_Y = 0.953, 0.938
_NUM_TENTHS = 10
_MARGIN = 0.03
_HEADROOM = 0.04
"""Room above and below what is drawn, as a share of its height."""
_TITLE_PAD = 22
"""Points between a title and its panel, with a line between them."""
_NO_EMBEDDINGS = "no embeddings: not measured"
_MAX_TASK_NAME = 30
_DISTANCE_NAMES = {Similarity.COSINE: "−cosine", Similarity.EUCLIDEAN: "euclidean"}


class _KeyNumber(NamedTuple):
    """One number of the strip at the top."""

    value: str
    label: str
    is_warning: bool = False


def draw_report(report: ArrangementReport, curve: SimilarityCurve | None, *, format: FigureFormat) -> bytes:
    """Draw key numbers, distances, task mix, coverage and the curve's cosine distances.

    Args:
        report: parts that are None leave an empty panel that says why.
        curve: of the same order; None leaves its panel empty.
        format: svg or png.

    Returns:
        The file. The same arguments give the same bytes with one version of matplotlib.
    """
    from matplotlib.figure import Figure

    with style.figure_style():
        figure = Figure(figsize=_SIZE_IN)
        _draw_key_numbers(figure, report)
        _draw_distance(figure.add_axes(_DISTANCE_BOX), report)
        _draw_task_mix(figure.add_axes(_TASK_MIX_BOX), report)
        _draw_coverage(figure.add_axes(_COVERAGE_BOX), report)
        _draw_curve(figure.add_axes(_CURVE_BOX), curve)
        return style.figure_bytes(figure, format)


def _draw_key_numbers(figure: "Figure", report: ArrangementReport) -> None:
    numbers = _key_numbers(report)
    for place, number in enumerate(numbers):
        x = _MARGIN + (1 - _MARGIN) * place / len(numbers)
        colour = style.ORANGE if number.is_warning else style.INK
        figure.text(x, _KEY_NUMBER_Y, number.value, fontsize=17, fontweight="bold", color=colour)
        figure.text(x, _KEY_LABEL_Y, number.label, fontsize=8.5, va="top", color=style.QUIET, linespacing=1.35)


def _key_numbers(report: ArrangementReport) -> list[_KeyNumber]:
    leaks, near, truncation = report.leaks, report.near_duplicates, report.truncation
    return [
        _KeyNumber(style.with_thousands(report.num_rows), "train rows\nin the order"),
        _KeyNumber(style.with_thousands(report.num_test), "test rows"),
        _counted("leaked texts:\nin the test set", leaks.text.num_rows, leaks.text.share),
        _counted("leaked instructions:\nin the test set", leaks.instruction.num_rows, leaks.instruction.share),
        _KeyNumber("–", "near duplicates:\nno embeddings")
        if near is None
        else _counted(f"near duplicates:\ncosine above {near.threshold:g}", near.num_rows, near.share),
        _cut("train rows cut at\nthe encoder's limit", truncation.train),
        _cut("test rows cut at\nthe encoder's limit", truncation.test),
    ]


def _counted(label: str, num_rows: int, share: float) -> _KeyNumber:
    """A number of rows that should be 0."""
    return _KeyNumber(style.with_thousands(num_rows), f"{label}\n{share:.2%} of the rows", is_warning=num_rows > 0)


def _cut(label: str, cut: CutTexts | None) -> _KeyNumber:
    if cut is None:
        return _KeyNumber("–", f"{label}:\nnot known")
    return _KeyNumber(f"{cut.share:.1%}", f"{label}\n{style.with_thousands(cut.num_rows)} rows")


def _draw_distance(axes: "Axes", report: ArrangementReport) -> None:
    axes.set_title("Distance to the nearest test row")
    found = report.distance
    if found is None:
        style.empty_axes(axes, _NO_EMBEDDINGS)
        return
    edges = np.array(found.bounds)
    for low, high, alpha, label in (
        (found.min, found.max, 0.16, "lowest to highest"),
        (found.lower_quartile, found.upper_quartile, 0.36, "middle half"),
    ):
        axes.stairs(high, edges, baseline=low, fill=True, color=style.BLUE, alpha=alpha, linewidth=0, label=label)
    axes.stairs(found.mean, edges, baseline=None, color=style.BLUE, linewidth=1.8, label="mean")
    nearest, farthest = min(found.min), max(found.max)
    margin = _HEADROOM * (farthest - nearest) or _HEADROOM
    axes.set(xlim=(0, report.num_rows), ylim=(nearest - margin, farthest + margin))
    style.count_axis(axes.xaxis, 6)
    axes.set_xlabel("position in the order (row)")
    axes.set_ylabel(f"distance ({_DISTANCE_NAMES[found.similarity]}), lower is nearer")
    style.quiet_axes(axes)
    _legend_above(axes, 3)


def _draw_task_mix(axes: "Axes", report: ArrangementReport) -> None:
    axes.set_title("Task mix by tenth of the order")
    mix = report.task_mix
    if mix is None:
        style.empty_axes(axes, "the rows have no tasks")
        return
    size_T = np.diff(mix.bounds)
    tenths = range(len(size_T))
    bottom_T = np.zeros(len(size_T))
    handles = []
    layers = _task_layers(mix)
    for layer in layers:
        share_T = 100 * layer.counts / size_T
        handles.append(axes.bar(tenths, share_T, bottom=bottom_T, width=0.86, color=layer.colour, linewidth=0))
        bottom_T += share_T
    axes.set_title(axes.get_title(loc="left"), pad=_TITLE_PAD)
    axes.text(0, 1.02, "above the bars: distinct tasks", transform=axes.transAxes, fontsize=8.5)
    for tenth, number in enumerate(mix.num_tasks):
        axes.text(tenth, 101, str(number), ha="center", va="bottom", fontsize=8, color=style.QUIET)
    axes.set(ylim=(0, 108), yticks=range(0, 101, 25))
    axes.set_xticks(tenths, [str(tenth + 1) for tenth in tenths])
    axes.set_xlabel("tenth of the order" if len(size_T) == _NUM_TENTHS else "row of the order")
    axes.set_ylabel("share of rows (%)")
    style.quiet_axes(axes)
    names = [layer.label for layer in layers]
    beside = (1.0, 0.5)
    axes.legend(handles, names, loc="center left", bbox_to_anchor=beside, fontsize=7.5, reverse=True, handlelength=1.0)


class _TaskLayer(NamedTuple):
    """A colour of the stacked bars."""

    label: str
    colour: str
    counts: npt.NDArray[np.int64]
    """(T,) rows in each tenth."""


def _task_layers(mix: TaskMix) -> list[_TaskLayer]:
    """As many tasks as there are colours, then all others where there are any."""
    count_TK = np.array(mix.counts)
    names = mix.tasks[: len(style.TASK_COLOURS)]
    layers = [
        _TaskLayer(style.shortened(name, _MAX_TASK_NAME), style.TASK_COLOURS[k], count_TK[:, k])
        for k, name in enumerate(names)
    ]
    num_others = mix.num_tasks_total - len(names)
    if num_others:
        label = f"{style.with_thousands(num_others)} other task{'s' if num_others > 1 else ''}"
        layers.append(_TaskLayer(label, style.OTHERS_COLOUR, count_TK[:, len(names) :].sum(axis=1)))
    return layers


def _draw_coverage(axes: "Axes", report: ArrangementReport) -> None:
    axes.set_title("Coverage of the test rows")
    found = report.coverage
    if found is None:
        style.empty_axes(axes, _NO_EMBEDDINGS)
        return
    styles = ((style.ORANGE, (0, (2, 1.5))), (style.GREEN, (0, (7, 2))), (style.BLUE, "-"))
    for share, (colour, dashes) in zip(found.shares, styles, strict=True):
        whole = share.share == 1
        label = "the whole order" if whole else f"the first {share.share:.0%}"
        axes.plot(
            range(len(share.percentiles)), share.percentiles, color=colour, linestyle=dashes, linewidth=1.8, label=label
        )
    lowest = min(0.0, *(share.percentiles[0] for share in found.shares))
    axes.set(xlim=(0, 100), ylim=(lowest, 1.02))
    axes.set_xlabel("test rows, worst covered first (%)")
    axes.set_ylabel("cosine to the most similar train row")
    style.quiet_axes(axes)
    _legend_above(axes, 3)


def _draw_curve(axes: "Axes", curve: SimilarityCurve | None) -> None:
    axes.set_title("Cosine distance of training prefixes")
    if curve is None or curve.cosine is None:
        style.empty_axes(axes, _NO_EMBEDDINGS if curve is not None else "no similarity curve")
        return
    draw_lines(axes, curve.steps, curve.cosine)
    axes.set_ylabel("distance from the test set (−cosine)")
    _legend_above(axes, 4)


def _legend_above(axes: "Axes", num_columns: int) -> None:
    """Between title and panel."""
    axes.set_title(axes.get_title(loc="left"), pad=_TITLE_PAD)
    axes.legend(
        loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=num_columns, borderaxespad=0.15, handlelength=1.8,
        columnspacing=1.2, borderpad=0.1, handletextpad=0.5,
    )  # fmt: skip
