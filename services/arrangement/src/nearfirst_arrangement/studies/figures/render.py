"""A figure as files: SVG and PNG, its numbers as CSV and its spec as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfirst_arrangement.measures import figure_style as style
from nearfirst_arrangement.studies.figures import geometry as place
from nearfirst_arrangement.studies.figures.axes import draw_panel
from nearfirst_arrangement.studies.figures.geometry import Box, Geometry
from nearfirst_arrangement.studies.figures.lines import PanelLines, figure_lines, lines_csv
from nearfirst_arrangement.studies.figures.look import Look, looks_of
from nearfirst_arrangement.studies.figures.spec import FigureSpec
from nearfirst_arrangement.studies.results import StudyResults
from nearfirst_arrangement.studies.statistics.change_points import MAX_P_VALUE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class FigureFiles:
    """One figure as the bytes of its four files."""

    name: str
    svg: bytes
    png: bytes
    csv: bytes
    json: bytes

    def write(self, folder: Path) -> list[Path]:
        """Write NAME.svg, .png, .csv and .json into a folder that exists; returns the paths."""
        contents = {"svg": self.svg, "png": self.png, "csv": self.csv, "json": self.json}
        paths = [folder / f"{self.name}.{suffix}" for suffix in contents]
        for path, content in zip(paths, contents.values(), strict=True):
            path.write_bytes(content)
        return paths


def render(spec: FigureSpec, studies: Sequence[StudyResults]) -> FigureFiles:
    """Draw a figure.

    Args:
        spec: what it shows.
        studies: those that it names, perhaps others.

    Returns:
        The files. The same arguments give the same bytes with one version of matplotlib. An SVG's text is text; a PNG
        has 200 dots an inch, twice a screen's.

    Raises:
        InvalidInput: the spec names a study, arrangement or task that there isn't.
    """
    by_name: Mapping[str, StudyResults] = {study.name: study for study in studies}
    panels = figure_lines(spec, by_name)
    with style.figure_style(is_small=True):
        figure = _drawn(spec, panels)
        svg, png = style.figure_bytes(figure, "svg"), style.figure_bytes(figure, "png")
    return FigureFiles(
        name=spec.name,
        svg=svg,
        png=png,
        csv=lines_csv(panels),
        json=spec.model_dump_json(indent=2).encode() + b"\n",
    )


def figure_note(panels: Sequence[PanelLines]) -> str:
    """What lines and bands are, in one or a few sentences."""
    sentences = []
    for show, subject in (("mean", "Lines"), ("difference", "Differences")):
        shown = [found for found in panels if found.panel.show == show and found.lines]
        if not shown:
            continue
        seeds = sorted({line.num_seeds for found in shown for line in found.lines})
        counted = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        lines = f"{subject}: one seed" if seeds == [1] else f"{subject}: mean over {counted} seeds"
        bands = list(dict.fromkeys(found.band for found in shown if found.band))
        sentences.append(f"{lines}; bands: {' or '.join(bands)}." if bands else f"{lines}.")
    marked = [found for found in panels if found.panel.mark_drops]
    if any(line.drops for found in marked for line in found.lines):
        sentences.append(f"Triangles: sudden drops and their steps (permutation test, p\u00a0≤\u00a0{MAX_P_VALUE}).")
    elif marked:
        sentences.append("No sudden drops were found.")
    return " ".join(sentences)


def _drawn(spec: FigureSpec, panels: Sequence[PanelLines]) -> "Figure":
    from matplotlib.figure import Figure

    labels = [[line.label for line in found.lines] for found in panels]
    places = place.lay_out(spec, labels, figure_note(panels))
    figure = Figure(figsize=(places.width, places.height))
    looks = looks_of(panels)
    ranges = [_value_range(found, spec.max_step) for found in panels]
    if spec.share_y:
        known = [each for each in ranges if each is not None]
        ranges = [(min(low for low, _ in known), max(high for _, high in known)) if known else None for _ in ranges]
    for found, box, limits, is_bottom, look in zip(panels, places.axes, ranges, places.bottom_row, looks, strict=True):
        axes = figure.add_axes(_share(box, places))
        draw_panel(axes, found, spec, look, size=(box.width, box.height), limits=limits, has_x_label=is_bottom)
        if places.is_labelled and limits is not None:
            _label_ends(figure, axes, places, box, found, look)
    _write_around(figure, spec, places, {label: each for look in looks for label, each in look.items()})
    return figure


def _value_range(found: PanelLines, max_step: int | None) -> tuple[float, float] | None:
    """Lowest and highest value that is drawn, with room; None: nothing is."""
    values = [np.array([0.0])] if found.panel.show == "difference" else []
    for line in found.lines:
        shown_S = np.full(len(line.steps), True) if max_step is None else line.steps <= max_step
        values += [column[shown_S] for column in (line.mean, line.low, line.high)]
    finite = np.concatenate(values)[np.isfinite(np.concatenate(values))] if found.lines else np.empty(0)
    if not len(finite):
        return None
    low, high = float(finite.min()), float(finite.max())
    if low == high == 0:
        return -0.05, 1.0  # a score that never rises from 0, which has no digits to show
    room = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    return low - room, high + room


def _label_ends(
    figure: "Figure", axes: "Axes", places: Geometry, box: Box, found: PanelLines, looks: Mapping[str, Look]
) -> None:
    """Each line's name beside its end, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    last = axes.get_xlim()[1]
    ends = []
    for line in found.lines:
        shown = np.flatnonzero((line.steps <= last) & np.isfinite(line.mean))
        if len(shown):
            end = shown[-1]
            height = box.bottom + (float(line.mean[end]) - low) / (high - low) * box.height
            across = float(axes.transLimits.transform(axes.transScale.transform((line.steps[end], low)))[0])
            ends.append((min(max(height, box.bottom), box.top), box.left + across * box.width, line.label))
    ends.sort()
    heights = place.spread([end[0] for end in ends], place.LINE_HEIGHT, box.bottom, box.top)
    for (end, x, label), height in zip(ends, heights, strict=True):
        look = looks[label]
        key = box.right + place.LABEL_OFFSET
        _line(figure, places, [x, key], [end, height], color=look.colour, linewidth=0.5, alpha=0.7)
        _key(figure, places, key, height, look)
        _text(figure, places, key + place.KEY_LENGTH + place.KEY_GAP, height, label, va="center_baseline")


def _write_around(figure: "Figure", spec: FigureSpec, places: Geometry, looks: Mapping[str, Look]) -> None:
    """Title, legend and notes."""
    left = 0.04
    if spec.title:
        _text(figure, places, left, places.title_top, spec.title, va="top", fontsize=place.TITLE_SIZE, weight="bold")
    for label, x, middle in places.legend:
        _key(figure, places, x, middle, looks[label])
        _text(figure, places, x + place.KEY_LENGTH + place.KEY_GAP, middle, label, va="center_baseline")
    for number, line in enumerate(reversed(places.notes)):
        y = 0.05 + number * place.LINE_HEIGHT
        _text(figure, places, left, y, line, va="bottom", fontsize=place.NOTE_SIZE, color=style.QUIET)


def _key(figure: "Figure", places: Geometry, left: float, middle: float, look: Look) -> None:
    xs = [left, left + place.KEY_LENGTH]
    _line(figure, places, xs, [middle, middle], color=look.colour, linestyle=look.dashes, linewidth=1.4)


def _line(figure: "Figure", places: Geometry, xs: Sequence[float], ys: Sequence[float], **kwargs: Any) -> None:
    from matplotlib.lines import Line2D

    xs, ys = [x / places.width for x in xs], [y / places.height for y in ys]
    figure.add_artist(Line2D(xs, ys, transform=figure.transFigure, solid_capstyle="butt", **kwargs))


def _text(figure: "Figure", places: Geometry, x: float, y: float, text: str, **kwargs: Any) -> None:
    figure.text(x / places.width, y / places.height, text, **{"fontsize": place.LABEL_SIZE, **kwargs})


def _share(box: Box, places: Geometry) -> tuple[float, float, float, float]:
    """A box as shares of the figure."""
    return (
        box.left / places.width,
        box.bottom / places.height,
        box.width / places.width,
        box.height / places.height,
    )
