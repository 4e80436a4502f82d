"""What a study has found so far: its report's numbers as tables."""

from collections.abc import Iterator
from html import escape

from nearfirst.client.display import html_card, html_table
from nearfirst.client.rows import Rows
from nearfirst.client.shown import ShownStudy
from nearfirst.contracts.base import Contract
from nearfirst.contracts.evaluations import MetricName
from nearfirst.contracts.study_reports import Difference, RunSummary, StudyReport


class EffectRow(Contract):
    """One arrangement minus the reference, with its 95 % interval (contracts/study_reports.py: Difference)."""

    metric: MetricName
    arrangement: str
    reference: str
    of: str
    """`area`: mean over steps; `end`: after the last step that both have."""
    step: int | None
    """Of `end`."""
    mean: float | None
    low: float | None
    high: float | None
    num_seeds: int
    num_examples: int
    verdict: str


class StudyCurveRow(Contract):
    """One arrangement's mean over seeds after some steps, and its lowest and highest seed."""

    metric: MetricName
    arrangement: str
    step: int
    mean: float | None
    low: float | None
    high: float | None
    num_seeds: int


class StudyResults:
    """A study and its report.

    Args:
        study: the study as it was asked for last.
        report: the report so far.
    """

    def __init__(self, study: ShownStudy, report: StudyReport) -> None:
        self.study = study
        self.report = report

    @property
    def effects(self) -> Rows[EffectRow]:
        """Each arrangement minus the reference: two rows for each metric, `area` first."""
        return Rows(_effects(self.report), EffectRow)

    @property
    def curves(self) -> Rows[StudyCurveRow]:
        """Each arrangement's mean curve, a row for each measured step."""
        return Rows(_curves(self.report), StudyCurveRow)

    @property
    def runs(self) -> Rows[RunSummary]:
        """Each run with its receipt and its cost."""
        return Rows(self.report.runs, RunSummary)

    def __repr__(self) -> str:
        found = [
            f"{row.arrangement} against {row.reference}: {row.verdict} ({row.metric})"
            for row in self.effects
            if row.of == "area"
        ]
        return f"<results of {self.study.id} {self.study.state}; {'; '.join(found) or 'nothing to compare yet'}>"

    def _repr_html_(self) -> str:
        columns = ["metric", "arrangement", "minus", "of", "mean", "95 % interval", "verdict"]
        lines = [
            [row.metric, row.arrangement, row.reference, row.of, row.mean, _interval(row), row.verdict]
            for row in self.effects
        ]
        warnings = "".join(f"<li>{escape(warning.detail)}</li>" for warning in self.report.warnings)
        table = html_table(columns, lines, "better and worse: the interval leaves 0 out") if lines else ""
        return f"<div>{html_card(self.study.card())}{table}{f'<ul>{warnings}</ul>' if warnings else ''}</div>"


def _effects(report: StudyReport) -> Iterator[EffectRow]:
    for effect in report.effects:
        found: tuple[tuple[str, int | None, Difference], ...] = (
            ("area", None, effect.area),
            ("end", effect.end_step, effect.end),
        )
        for of, step, difference in found:
            yield EffectRow(
                metric=effect.metric,
                arrangement=effect.arrangement,
                reference=effect.reference,
                of=of,
                step=step,
                mean=difference.mean,
                low=difference.low,
                high=difference.high,
                num_seeds=len(effect.seeds),
                num_examples=difference.num_examples,
                verdict=difference.verdict,
            )


def _curves(report: StudyReport) -> Iterator[StudyCurveRow]:
    for outcome in report.outcomes:
        for step, mean, low, high in zip(outcome.steps, outcome.mean, outcome.low, outcome.high, strict=True):
            yield StudyCurveRow(
                metric=outcome.metric,
                arrangement=outcome.arrangement,
                step=step,
                mean=mean,
                low=low,
                high=high,
                num_seeds=outcome.num_seeds,
            )


def _interval(row: EffectRow) -> str:
    return "" if row.low is None or row.high is None else f"{row.low:+.4f} to {row.high:+.4f}"
