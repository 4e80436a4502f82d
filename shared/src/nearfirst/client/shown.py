"""The contracts' runs and datasets as the client answers with them: the same fields, and they show themselves."""

from typing import TYPE_CHECKING, Any

from nearfirst.client.display import Card, cell, html_card, text_card
from nearfirst.client.frames import to_frame
from nearfirst.client.rows import Rows
from nearfirst.contracts.arrangements import Arrangement, ArrangementRules
from nearfirst.contracts.base import Contract
from nearfirst.contracts.datasets import Dataset
from nearfirst.contracts.evaluations import Evaluation
from nearfirst.contracts.reports import PairMeasures, ReportedArrangement, SimilarityCurve
from nearfirst.contracts.studies import Study
from nearfirst.contracts.training import TrainJob

if TYPE_CHECKING:
    from pandas import DataFrame

_DIGEST_LENGTH = len("sha256:") + 12


class Shown:
    """Shows itself in consoles and notebooks by what `card` says."""

    def card(self) -> Card:
        """What there is to say."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return text_card(self.card())

    def __str__(self) -> str:
        return repr(self)

    def _repr_html_(self) -> str:
        return html_card(self.card())


class ShownDataset(Shown, Dataset):
    """A dataset that shows itself."""

    def card(self) -> Card:
        """Its size and digest."""
        facts = [
            ("name", self.name),
            ("examples", f"{self.num_examples:,}"),
            ("tasks", f"{self.num_tasks:,}"),
            ("format", self.format.value),
            ("split", self.split or ""),
            ("digest", _shortened(self.digest)),
        ]
        return Card(self.id, facts=facts)


class ShownArrangement(Shown, Arrangement):
    """An arrangement of a list, that shows itself."""

    def card(self) -> Card:
        """Its rules, and the order that came out of them."""
        return Card(self.id, self.state, self.progress, _arrangement_facts(self))


class ShownReportedArrangement(Shown, ReportedArrangement):
    """An arrangement with its report, that shows itself."""

    def card(self) -> Card:
        """Its rules, the order that came out of them, and what is wrong with it."""
        facts = _arrangement_facts(self)
        if self.report is not None:
            leaks, near = self.report.leaks, self.report.near_duplicates
            facts.append(("leaks", f"{leaks.text.num_rows} texts, {leaks.instruction.num_rows} instructions"))
            facts.append(("near duplicates", "" if near is None else f"{near.num_rows} rows"))
        return Card(self.id, self.state, self.progress, facts)


class ShownTrainJob(Shown, TrainJob):
    """A train job that shows itself."""

    def card(self) -> Card:
        """What it trains on what, its last numbers, and why it waits or failed."""
        result = self.result or {}
        facts = [
            ("model", self.spec.model.name_or_path),
            ("data", self.spec.arrangement or self.spec.dataset or ""),
            *((name.replace("_", " "), _number(result.get(name))) for name in ("steps", "train_loss", "test_loss")),
            ("receipt head", self.receipt_head[:12] if self.receipt_head else ""),
            ("waits because", self.waits_because or ""),
            ("error", _reason(self.error)),
        ]
        return Card(self.id, self.state, self.progress, facts)


class ShownEvaluation(Shown, Evaluation):
    """An evaluation that shows itself."""

    def card(self) -> Card:
        """What is measured of which checkpoints, and why it waits or failed."""
        facts = [
            ("metrics", ", ".join(self.spec.metrics)),
            ("train job", self.spec.train_job or ""),
            ("checkpoints", f"{self.num_checkpoints:,}"),
            ("failed units", f"{self.num_failed:,}" if self.num_failed else ""),
            ("note", self.note or ""),
            ("waits because", self.waits_because or ""),
            ("error", _reason(self.error)),
        ]
        return Card(self.id, self.state, self.progress, facts)


class ShownStudy(Shown, Study):
    """A study that shows itself; its effects are in `Client.study_results`."""

    def card(self) -> Card:
        """Its design, and what to mend before trusting its answer."""
        labels = [arrangement.label for arrangement in self.spec.arrangements]
        facts = [
            ("name", self.spec.name),
            ("question", self.spec.question),
            ("arrangements", ", ".join(labels)),
            ("baseline", self.spec.baseline or f"none given; the first, {labels[0]}"),
            ("seeds", ", ".join(map(str, self.spec.seeds))),
            ("warnings", "; ".join(self.warnings)),
            ("error", _reason(self.error)),
        ]
        return Card(self.id, "paused" if self.is_paused else self.state, self.progress, facts)


class CurveRow(Contract):
    """A similarity curve's point as a line of a table."""

    rows: int
    step: int
    cosine_avg: float | None = None
    cosine_min: float | None = None
    cosine_max: float | None = None
    cosine_centroid: float | None = None
    euclidean_avg: float | None = None
    euclidean_min: float | None = None
    euclidean_max: float | None = None
    euclidean_centroid: float | None = None
    kl: float | None = None


class ShownCurve(Shown, SimilarityCurve):
    """A similarity curve that shows itself."""

    def points(self) -> Rows[CurveRow]:
        """A row for each measured prefix with all nine measures; those by task stay in `by_task`."""
        columns: dict[str, list[Any]] = {"rows": self.rows, "step": self.steps}
        for name, measures in (("cosine", self.cosine), ("euclidean", self.euclidean)):
            for field in () if measures is None else PairMeasures.model_fields:
                columns[f"{name}_{field}"] = getattr(measures, field)
        if self.kl is not None:
            columns["kl"] = self.kl
        lines = zip(*columns.values(), strict=True)
        return Rows((CurveRow(**dict(zip(columns, line, strict=True))) for line in lines), CurveRow)

    def to_pandas(self) -> "DataFrame":
        """`points` as a frame.

        Raises:
            NotInstalled: pandas is missing.
        """
        return to_frame(self.points(), CurveRow)

    def card(self) -> Card:
        """How many points of how many rows."""
        facts = [("points", str(len(self.rows))), ("rows", f"{self.rows[-1]:,}"), ("test rows", f"{self.num_test:,}")]
        return Card("similarity curve", facts=facts)

    def _repr_html_(self) -> str:
        return self.points()._repr_html_()


def _arrangement_facts(run: Arrangement) -> list[tuple[str, str]]:
    return [
        ("rules", rules_in_words(run.spec)),
        ("rows", "" if run.num_rows is None else f"{run.num_rows:,}"),
        ("rounds", "" if run.num_rounds is None else f"{run.num_rounds:,}"),
        ("digest", _shortened(run.digest) if run.digest else ""),
        ("error", _reason(run.error)),
    ]


def rules_in_words(rules: ArrangementRules) -> str:
    """Method and order, and what isn't the default: `tma nft, limit 30000`."""
    parts = [f"{rules.method} {rules.order or ''}".strip()]
    for name in ("granularity", "similarity", "limit", "rounds", "fidelity"):
        value = getattr(rules, name)
        if value != type(rules).model_fields[name].default:
            parts.append(f"{name} {value}")
    return ", ".join(parts)


def _shortened(digest: str) -> str:
    return f"{digest[:_DIGEST_LENGTH]}…"


def _number(value: object) -> str:
    return cell(value) if isinstance(value, int | float) else ""


def _reason(error: dict[str, Any] | None) -> str:
    return "" if error is None else str(error.get("detail") or error)
