"""A report as a sequence of headings, sentences, tables and figures: what HTML and Markdown both show.

Every number is formatted here, so that the two can't differ.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from nearfirst.contracts.evaluations import MetricName
from nearfirst.contracts.study_reports import (
    ClearSteps,
    Difference,
    EffectSummary,
    Outcome,
    RunSummary,
    StepsTo,
    StudyReport,
)
from nearfirst_arrangement.studies.figures.layouts import METRIC_NAMES

NONE = "–"
_DIGEST_LENGTH = 19
"""`sha256:` and twelve digits."""


_MAX_STRETCHES = 4
"""More of them are noise, and can be seen in the figure."""


@dataclass(frozen=True)
class Heading:
    """The title of a section."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """One or a few sentences; `is_quiet`: an explanation under a table."""

    text: str
    is_quiet: bool = False


@dataclass(frozen=True)
class Warnings:
    """Sentences that a reader must see."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table; all columns from `first_number` on are numbers."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    first_number: int = 1


@dataclass(frozen=True)
class Picture:
    """A figure, by the name of its files."""

    name: str
    description: str


@dataclass(frozen=True)
class Code:
    """Text as it is, folded away where that can be done."""

    summary: str
    text: str


Block: TypeAlias = Heading | Paragraph | Warnings | Table | Picture | Code


def compose(report: StudyReport, figures: Sequence[str] = ()) -> list[Block]:
    """The blocks of a report, in the order in which they are read.

    Args:
        report: what is said.
        figures: names of the figures, the most important first.
    """
    return [
        Paragraph(report.question),
        *([Warnings(tuple(warning.detail for warning in report.warnings))] if report.warnings else []),
        *_answer(report),
        *(Picture(name, _described(report, name)) for name in figures),
        *_effects(report),
        *_outcomes(report),
        *_drops(report),
        *_design(report),
        *_proof(report),
        *_leaks(report),
        *_versions(report),
    ]


def _answer(report: StudyReport) -> Iterator[Block]:
    metric = report.design.metrics[0]
    found = [effect for effect in report.effects if effect.metric is metric]
    yield Heading("Answer")
    if not found:
        yield Paragraph("Nothing could be compared.")
    for effect in found:
        yield Paragraph(_sentence(effect))
    if found:
        yield Paragraph(
            "In brackets: 95 % intervals, explained below the effects. Step by step: where the interval of that step "
            "leaves 0 out.",
            is_quiet=True,
        )


def _sentence(effect: EffectSummary) -> str:
    judged = {"better": "better", "worse": "worse", "not clear": "not clearly different"}
    parts = [
        f"{when} {judged[found.verdict]}, {signed(found.mean, effect.metric)} "
        f"{_interval(found.low, found.high, effect.metric)}"
        for when, found in (("over all steps", effect.area), (f"at step {effect.end_step:,}", effect.end))
    ]
    if 0 < len(effect.clear) <= _MAX_STRETCHES:
        parts.append("step by step " + ", ".join(_stretch(clear) for clear in effect.clear))
    name = METRIC_NAMES[effect.metric].lower() if effect.metric is MetricName.LOSS else METRIC_NAMES[effect.metric]
    return f"{effect.arrangement} against {effect.reference}, {name}: {'; '.join(parts)}."


def _stretch(clear: ClearSteps) -> str:
    if clear.first == clear.last:
        return f"{clear.verdict} at {clear.first:,}"
    return f"{clear.verdict} from {clear.first:,} to {clear.last:,}"


def _effects(report: StudyReport) -> Iterator[Block]:
    if not report.effects:
        return
    yield Heading("Effects")
    rows = tuple(
        (
            METRIC_NAMES[effect.metric],
            effect.arrangement,
            effect.reference,
            what,
            found.verdict,
            signed(found.mean, effect.metric),
            _interval(found.low, found.high, effect.metric),
            _interval(found.low_examples, found.high_examples, effect.metric),
            _by_seed(effect, found),
        )
        for effect in report.effects
        for what, found in (("all steps", effect.area), (f"step {effect.end_step:,}", effect.end))
    )
    columns = (
        "metric", "arrangement", "minus", "at", "verdict", "difference", "95 % interval", "seeds as they are",
        "by seed",
    )  # fmt: skip
    yield Table("Each arrangement minus its baseline", columns, rows, first_number=5)
    yield Paragraph(
        "Differences are paired by seed and test example. All steps: the area between the curves over the number of "
        "steps. 95 % intervals are over test examples and seeds, with one seed over test examples; those for the seeds "
        f"as they are, over test examples alone ({report.method.num_resamples:,} resamples). Each holds by itself, "
        "not for all of the table at once. Loss in nats per token; ROUGE and exact match in percent points.",
        is_quiet=True,
    )


def _by_seed(effect: EffectSummary, found: Difference) -> str:
    pairs = zip(effect.seeds, found.by_seed, strict=True)
    return ", ".join(f"{seed}: {signed(value, effect.metric)}" for seed, value in pairs)


def _outcomes(report: StudyReport) -> Iterator[Block]:
    if not report.outcomes:
        return
    yield Heading("Curves in numbers")
    rows = tuple(
        (
            METRIC_NAMES[each.metric],
            each.arrangement,
            str(each.num_seeds),
            value(each.mean[0], each.metric),
            value(each.mean[-1], each.metric),
            NONE if each.num_seeds == 1 else _range(each),
            value(each.area, each.metric),
            _steps(each),
        )
        for each in report.outcomes
    )
    columns = (
        "metric", "arrangement", "seeds", "first", "last", "last, by seed", "mean over steps", "steps to level",
    )  # fmt: skip
    yield Table("Means over seeds", columns, rows, first_number=2)
    levels = ", ".join(dict.fromkeys(_level(each.steps_to, each.metric) for each in report.outcomes if each.steps_to))
    yield Paragraph(
        "Steps to level: until the mean curve first reaches the level at which its baseline ends "
        f"({levels}), interpolated between measurements; in brackets the 95 % interval over test examples, in which "
        "curve and level vary together.",
        is_quiet=True,
    )


def _range(outcome: Outcome) -> str:
    return f"{value(outcome.low[-1], outcome.metric)} to {value(outcome.high[-1], outcome.metric)}"


def _level(found: StepsTo, metric: MetricName) -> str:
    return f"{METRIC_NAMES[metric]} {value(found.threshold, metric)}"


def _steps(outcome: Outcome) -> str:
    found = outcome.steps_to
    if found is None:
        return NONE
    reached, low, high = ("never" if step is None else f"{step:,.0f}" for step in (found.steps, found.low, found.high))
    return reached if reached == low == high else f"{reached} [{low}, {high}]"


def _drops(report: StudyReport) -> Iterator[Block]:
    if not report.drops:
        return
    yield Heading("Sudden drops")
    rows = tuple(
        (drop.arrangement, drop.task, f"{drop.step:,.0f}", value(drop.size, MetricName.LOSS), f"{drop.p_value:.3f}")
        for drop in report.drops
    )
    yield Table("Where the loss of a task falls at once", ("arrangement", "task", "step", "size", "p"), rows, 2)
    yield Paragraph(
        f"Looked for in the {report.drops_of_tasks} tasks with the most test examples; p is of one place, not of all.",
        is_quiet=True,
    )


def _design(report: StudyReport) -> Iterator[Block]:
    design = report.design
    yield Heading("Design")
    seeds = f"seed{'' if len(design.seeds) == 1 else 's'} {', '.join(map(str, design.seeds))}"
    yield Paragraph(
        f"{len(report.arrangements)} arrangements, {seeds}, {design.num_runs} runs, "
        f"{design.num_test_examples:,} test examples of {design.num_tasks:,} tasks. "
        f"Baseline: {design.baseline or 'none'}. Metrics: "
        f"{', '.join(METRIC_NAMES[metric] for metric in design.metrics)}."
    )
    rows = tuple(
        (each.label, each.digest[:_DIGEST_LENGTH], ", ".join(map(str, each.seeds)) or NONE)
        for each in report.arrangements
    )
    yield Table("Arrangements", ("arrangement", "digest", "seeds that count"), rows, first_number=3)
    if design.spec is not None:
        yield Code("Spec of the study", json.dumps(design.spec, indent=2, ensure_ascii=False))
    for each in report.arrangements:
        if each.spec is not None:
            yield Code(f"Spec of {each.label}", json.dumps(each.spec, indent=2, ensure_ascii=False))


def _proof(report: StudyReport) -> Iterator[Block]:
    yield Heading("Receipts and cost")
    rows = tuple(
        (
            run.arrangement,
            str(run.seed),
            _state(run),
            (run.receipt_head or NONE)[:12],
            NONE if run.last_step is None else f"{run.last_step:,}",
            duration(run.seconds),
            NONE if run.tokens is None else f"{run.tokens:,}",
        )
        for run in report.runs
    )
    yield Table("Runs", ("arrangement", "seed", "order", "receipt", "last step", "time", "tokens"), rows, 4)
    cost = report.cost
    unknown = f"; not counting runs whose time isn't known: {cost.num_unknown}" if cost.num_unknown else ""
    tokens = "" if cost.tokens is None else f", {cost.tokens:,} tokens"
    yield Paragraph(f"All runs together: {duration(cost.seconds)}{tokens}{unknown}.")


def _state(run: RunSummary) -> str:
    if run.failure is not None:
        return "failed"
    return {None: "no receipt", True: "verified", False: "NOT verified"}[run.receipt_verified]


def _leaks(report: StudyReport) -> Iterator[Block]:
    rows = tuple(
        (
            each.label,
            f"{leaks.num_rows:,}",
            f"{leaks.text_rows:,}",
            f"{leaks.instruction_rows:,}",
            NONE if leaks.near_duplicate_rows is None else f"{leaks.near_duplicate_rows:,}",
        )
        for each in report.arrangements
        if (leaks := each.leaks) is not None
    )
    if rows:
        yield Heading("Leaks")
        columns = ("arrangement", "rows", "with a test text", "with a test instruction", "near duplicates")
        yield Table("Rows that the test set also has", columns, rows)


def _versions(report: StudyReport) -> Iterator[Block]:
    if report.versions:
        yield Heading("Versions")
        rows = tuple((name, version or "not installed") for name, version in sorted(report.versions.items()))
        yield Table("Packages", ("package", "version"), rows, first_number=2)


def _described(report: StudyReport, name: str) -> str:
    """What a figure shows, for those who don't see it."""
    metric = report.design.metrics[0]
    ends = [
        f"{each.arrangement} ends at {value(each.mean[-1], metric)}"
        for each in report.outcomes
        if each.metric is metric and name == "figure"
    ]
    listed = f": {'; '.join(ends)}" if ends else ""
    return f"{METRIC_NAMES[metric]} over optimizer steps by arrangement{listed}." if name == "figure" else name


def value(number: float | None, metric: MetricName) -> str:
    """A metric as tables show it.

    >>> value(0.61234, MetricName.LOSS), value(41.239, MetricName.ROUGE1)
    ('0.6123', '41.24')
    """
    return NONE if number is None else f"{number:.{_decimals(metric)}f}".replace("-", "−")


def signed(number: float | None, metric: MetricName) -> str:
    """A difference as tables show it.

    >>> signed(-0.0451, MetricName.LOSS)
    '−0.0451'
    """
    return NONE if number is None else f"{number:+.{_decimals(metric)}f}".replace("-", "−")


def duration(seconds: float | None) -> str:
    """A time with its two largest units.

    >>> duration(3725.0), duration(12.34)
    ('1 h 2 min', '12 s')
    """
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"


def _interval(low: float | None, high: float | None, metric: MetricName) -> str:
    return NONE if low is None or high is None else f"[{signed(low, metric)}, {signed(high, metric)}]"


def _decimals(metric: MetricName) -> int:
    return 4 if metric is MetricName.LOSS else 2
