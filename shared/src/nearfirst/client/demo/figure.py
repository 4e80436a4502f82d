"""The demo's figure: test loss against optimizer steps, a line per order and a band over seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nearfirst.client.demo.report import RunResult
from nearfirst.contracts.arrangements import Method, Order

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH_IN, HEIGHT_IN = 8.0, 4.7
PNG_DPI = 200
"""1600 pixels wide."""
INK, QUIET = "#1f2328", "#59636e"
MIN_LABEL_GAP = 0.052
"""Least distance between two line labels, as a share of the axis's height."""
HEADROOM = 0.06
"""Room for the mark's label above the lines, as a share of their height."""


class Style(NamedTuple):
    """How one line is drawn; colours from Okabe and Ito's palette, safe for colour-blind readers."""

    label: str
    colour: str
    dashes: str | tuple[int, tuple[float, ...]]


STYLES = {
    (Method.TMA, Order.NFT): Style("TMA nearest first", "#0072B2", "-"),
    (Method.WSD, Order.NFT): Style("WSD nearest first", "#009E73", (0, (7, 2))),
    (Method.TMA, Order.RT): Style("TMA random", "#6e7681", (0, (2, 1.5))),
    (Method.TMA, Order.FFT): Style("TMA farthest first", "#D55E00", (0, (7, 2, 1.5, 2))),
}


def draw_figure(runs: Sequence[RunResult], title: str, subtitle: str, paths: Sequence[Path]) -> None:
    """Draw the runs' test loss and write it to each of `paths`, whose suffix says the format.

    A line is the mean over seeds, its band runs from the lowest to the highest seed.

    Args:
        runs: of one line all measured at the same steps.
        title: what is shown.
        subtitle: on which data and model, in two lines.
        paths: .svg and .png.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "nearfirst", "axes.edgecolor": QUIET, "text.color": INK}):
        figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), dpi=PNG_DPI, layout="constrained")
        axes = figure.add_subplot()
        ends = [_draw_line(axes, runs, line) for line in STYLES if any((r.method, r.order) == line for r in runs)]
        steps = max(run.steps for run in runs)
        _finish_axes(axes, steps)
        _label_ends(axes, ends, steps)
        _write_titles(axes, title, subtitle, len({run.seed for run in runs}))
        for path in paths:
            figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _draw_line(axes: "Axes", runs: Sequence[RunResult], line: tuple[Method, Order]) -> tuple[Style, float]:
    """Draw a line and its band; returns its style and where it ends."""
    style = STYLES[line]
    losses_ST = np.array([[loss for _, loss in run.test_loss] for run in runs if (run.method, run.order) == line])
    steps_T = [step for step, _ in next(run for run in runs if (run.method, run.order) == line).test_loss]
    mean_T = losses_ST.mean(axis=0)
    axes.fill_between(
        steps_T, losses_ST.min(axis=0), losses_ST.max(axis=0), color=style.colour, alpha=0.16, linewidth=0
    )
    axes.plot(steps_T, mean_T, color=style.colour, linestyle=style.dashes, linewidth=2.0, solid_capstyle="round")
    return style, float(mean_T[-1])


def _finish_axes(axes: "Axes", steps: int) -> None:
    low, high = axes.get_ylim()
    axes.set(xlim=(0, steps), ylim=(low, high + HEADROOM * (high - low)))
    axes.set_xlabel("optimizer step", color=INK)
    axes.set_ylabel("mean test loss (nats per token)", color=INK)
    axes.tick_params(colors=QUIET, labelcolor=INK)
    axes.grid(axis="y", color="#d8dee4", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.axvline(steps / 4, color=QUIET, linewidth=0.8, linestyle=(0, (1, 2)))
    axes.annotate(
        "1/4 of the steps",
        (steps / 4, 1),
        xycoords=("data", "axes fraction"),
        xytext=(4, -2),
        textcoords="offset points",
        va="top",
        fontsize=8.5,
        color=QUIET,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
    )


def _label_ends(axes: "Axes", ends: Sequence[tuple[Style, float]], steps: int) -> None:
    """Write each line's name beside its end, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    ordered = sorted(ends, key=lambda end: end[1])
    heights = spread([(value - low) / (high - low) for _, value in ordered], MIN_LABEL_GAP)
    for (style, value), height in zip(ordered, heights, strict=True):
        axes.annotate(
            f"{style.label}  {value:.2f}",
            (steps, value),
            xytext=(1.035, height),
            textcoords="axes fraction",
            va="center",
            fontsize=9.5,
            color=style.colour,
            fontweight="bold",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": style.colour,
                "lw": 0.8,
                "relpos": (0, 0.5),
                "shrinkA": 1,
                "shrinkB": 0,
            },
        )


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Ascending heights moved apart to at least `gap`, their mean kept as it is within each group that moves.

    >>> [round(height, 3) for height in spread([0.1, 0.5, 0.52], 0.1)]
    [0.1, 0.46, 0.56]
    """
    groups: list[list[float]] = []
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and _bottom(groups[-1], gap) - _top(groups[-2], gap) < gap:
            groups[-2:] = [groups[-2] + groups[-1]]
    return [_bottom(group, gap) + index * gap for group in groups for index in range(len(group))]


def _bottom(group: Sequence[float], gap: float) -> float:
    return sum(group) / len(group) - gap * (len(group) - 1) / 2


def _top(group: Sequence[float], gap: float) -> float:
    return _bottom(group, gap) + gap * (len(group) - 1)


def _write_titles(axes: "Axes", title: str, subtitle: str, num_seeds: int) -> None:
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold", pad=38)
    bands = f"mean over {num_seeds} seeds; bands: lowest to highest seed" if num_seeds > 1 else "one seed"
    for text, corner, offset in (
        (subtitle, (0, 1), (0, 12)),
        (f"Lines: {bands}. Lower is better. At the right: loss after the last step.", (0, 0), (0, -46)),
    ):
        axes.annotate(
            text, corner, xycoords="axes fraction", xytext=offset, textcoords="offset points", fontsize=9, color=QUIET
        )
