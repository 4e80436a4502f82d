"""The numbers of a figure: every line that it draws, and the same as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nearfirst.contracts.evaluations import MetricName
from nearfirst.contracts.problems import InvalidInput
from nearfirst_arrangement.measures.rounding import rounded
from nearfirst_arrangement.studies.figures.spec import FigureSpec, Panel
from nearfirst_arrangement.studies.results import Floats, Steps, StudyResults
from nearfirst_arrangement.studies.statistics.change_points import Drop, find_drops
from nearfirst_arrangement.studies.statistics.curves import mean_curve
from nearfirst_arrangement.studies.statistics.effects import compare

CSV_COLUMNS = (
    "panel", "title", "metric", "task", "show", "arrangement", "step", "mean", "low", "high", "band", "num_seeds",
    "num_examples", "drop_size", "drop_p_value",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Line:
    """One line with its band; S steps."""

    label: str
    steps: Steps
    mean: Floats
    """(S,)"""
    low: Floats
    """(S,) NaN where there is no band."""
    high: Floats
    num_seeds: int
    num_examples: int
    drops: tuple[Drop, ...] = ()


@dataclass(frozen=True, eq=False)
class PanelLines:
    """What one panel draws."""

    panel: Panel
    lines: tuple[Line, ...]
    band: str
    """What the bands are; empty: there are none."""
    reference: str
    """What differences are to: an arrangement's label, or `its baseline` where not all have the same."""


def figure_lines(spec: FigureSpec, studies: Mapping[str, StudyResults]) -> list[PanelLines]:
    """The lines of each panel. Arrangements without usable measurements have none.

    Args:
        spec: of the figure.
        studies: by name.

    Raises:
        InvalidInput: the spec names a study, arrangement or task that there isn't.
    """
    return [_panel_lines(panel, _study_of(panel, studies), spec.seed) for panel in spec.panels]


def lines_csv(panels: Sequence[PanelLines]) -> bytes:
    """A row for each step of each line, and one for each sudden drop: `step` is where, `mean` the level before it."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for number, found in enumerate(panels, start=1):
        panel = found.panel
        for line in found.lines:
            head = (number, panel.title, panel.metric, panel.task or "", panel.show, line.label)
            for step, *values in zip(line.steps.tolist(), line.mean, line.low, line.high, strict=True):
                row = [_cell(value) for value in values]
                writer.writerow([*head, step, *row, found.band, line.num_seeds, line.num_examples, "", ""])
            for drop in line.drops:
                values = [_cell(drop.before), "", "", "", line.num_seeds, line.num_examples]
                writer.writerow([*head, f"{drop.step:g}", *values, _cell(drop.size), _cell(drop.p_value)])
    return file.getvalue().encode()


def _cell(value: float) -> str:
    return "" if np.isnan(value) else repr(rounded(value))


def _study_of(panel: Panel, studies: Mapping[str, StudyResults]) -> StudyResults:
    if panel.study not in studies:
        raise InvalidInput(f"panel {panel.title!r}: no study {panel.study!r} among {sorted(studies)}")
    return studies[panel.study]


def _panel_lines(panel: Panel, study: StudyResults, seed: int) -> PanelLines:
    labels = panel.arrangements if panel.arrangements is not None else list(study.labels)
    if panel.show == "mean":
        found = [_mean_line(panel, study, label, seed) for label in labels]
        most = max((line.num_seeds for line in found if line is not None), default=0)
        band = "lowest to highest seed" if most > 1 else ""
    else:
        compared = [label for label in labels if label != study.reference_of(label)]
        found = [_difference_line(panel, study, label, seed) for label in compared]
        most = max((line.num_seeds for line in found if line is not None), default=0)
        over = "test examples and seeds" if most > 1 else "test examples (one seed)"
        band = f"pointwise 95\u00a0% intervals over {over}"
    reference = study.common_reference or "its baseline"
    return PanelLines(panel, tuple(line for line in found if line is not None), band, reference)


def _mean_line(panel: Panel, study: StudyResults, label: str, seed: int) -> Line | None:
    values = study.run_values(label, panel.metric)
    if values is None:
        return None
    if panel.task is not None:
        values = values.of_examples(study.examples.of_task(panel.task))
    curve = mean_curve(values)
    is_counted = bool(np.isfinite(curve.mean).all())
    drops = find_drops(curve.steps, curve.mean, seed=seed) if panel.mark_drops and is_counted else []
    no_band = np.full(len(curve.steps), np.nan)
    low, high = (curve.low, curve.high) if len(curve.seeds) > 1 else (no_band, no_band)
    return Line(label, curve.steps, curve.mean, low, high, len(curve.seeds), curve.num_examples, tuple(drops))


def _difference_line(panel: Panel, study: StudyResults, label: str, seed: int) -> Line | None:
    examples = None if panel.task is None else study.examples.of_task(panel.task)
    comparison = compare(study, label, study.reference_of(label), panel.metric, examples=examples, seed=seed)
    if comparison is None:
        return None
    found = comparison.at_steps
    num_examples = int(found.num_examples.min())
    return Line(label, comparison.steps, found.mean, found.low, found.high, len(comparison.seeds), num_examples)


def axis_unit(panel: Panel, reference: str) -> str:
    """What the panel's values are, and which are the better ones."""
    unit = {MetricName.LOSS: "nats per token", MetricName.REWARD: "score"}.get(panel.metric, "%")
    if panel.show == "mean":
        return unit
    side = "below" if panel.metric is MetricName.LOSS else "above"
    return f"{unit}; {side} 0: better than {reference}"
