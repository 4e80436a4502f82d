"""What a study's report says. Its JSON is stable: fields are added, not changed, within one `schema_version`."""

from typing import Literal

from pydantic import Field, JsonValue

from nearfirst.contracts.base import Contract
from nearfirst.contracts.evaluations import MetricName


class Design(Contract):
    """What was run."""

    metrics: list[MetricName]
    """The first is the one that the study is about."""
    baseline: str | None
    reference: str
    """What the others are compared with: the baseline; without one, the first arrangement. An arrangement may have a
    baseline of its own: `EffectSummary.reference`."""
    seeds: list[int]
    num_runs: int
    """Trainings; arrangements that give the same order share theirs."""
    num_test_examples: int
    num_tasks: int
    spec: JsonValue = None


class LeakSummary(Contract):
    """Test texts among an arrangement's rows (contracts/reports.py)."""

    num_rows: int
    text_rows: int
    """Rows whose whole text also is a test row's."""
    instruction_rows: int
    near_duplicate_rows: int | None
    """None: no embeddings."""


class ArrangementSummary(Contract):
    """One arrangement."""

    label: str
    digest: str
    seeds: list[int]
    """Of the runs that count."""
    leaks: LeakSummary | None
    """None: not measured."""
    spec: JsonValue = None


class RunSummary(Contract):
    """One run: its proof and its cost."""

    arrangement: str
    seed: int
    id: str | None
    failure: str | None
    last_step: int | None
    receipt_head: str | None
    receipt_verified: bool | None
    """None: there is no receipt."""
    seconds: float | None
    tokens: int | None


class StepsTo(Contract):
    """Steps until a level is first reached, interpolated; None: never within the measured steps."""

    threshold: float
    steps: float | None
    low: float | None
    high: float | None
    """95 % interval over test examples; None: not reached in so many resamples."""
    by_seed: list[float | None]


class Outcome(Contract):
    """One metric of one arrangement: means over seeds of means over counted test examples."""

    metric: MetricName
    arrangement: str
    num_seeds: int
    num_examples: int
    steps: list[int]
    mean: list[float | None]
    low: list[float | None]
    """Lowest seed."""
    high: list[float | None]
    area: float | None
    """Normalised area under the mean curve: a mean over steps."""
    steps_to: StepsTo | None
    """Until the level at which the reference ends. None: no example is counted throughout."""


class Difference(Contract):
    """One paired difference with 95 % intervals; None: too few test examples for one."""

    mean: float | None
    low: float | None
    high: float | None
    """Over test examples and seeds; with one seed, over test examples."""
    low_examples: float | None
    high_examples: float | None
    """Over test examples, for the seeds at hand."""
    by_seed: list[float | None]
    num_examples: int
    verdict: Literal["better", "worse", "not clear"]
    """better and worse: the interval leaves 0 out."""


class ClearSteps(Contract):
    """Measured steps in a row at each of which the pointwise interval leaves 0 out, on the same side."""

    first: int
    last: int
    verdict: Literal["better", "worse"]


class EffectSummary(Contract):
    """An arrangement minus its reference, paired by seed and test example."""

    metric: MetricName
    arrangement: str
    reference: str
    seeds: list[int]
    """That both have."""
    end_step: int
    end: Difference
    area: Difference
    steps: list[int]
    mean: list[float | None]
    low: list[float | None]
    """Pointwise, over examples and seeds."""
    high: list[float | None]
    clear: list[ClearSteps]
    """In order."""


class DropSummary(Contract):
    """A task's loss that falls suddenly (statistics/change_points.py)."""

    arrangement: str
    task: str
    step: float
    size: float
    p_value: float


class Cost(Contract):
    """Of all runs together, failed ones included; None: of no run is it known."""

    seconds: float | None
    tokens: int | None
    num_unknown: int
    """Runs whose seconds aren't known."""


class ReportWarning(Contract):
    """Something that a reader must know before trusting the numbers."""

    code: Literal[
        "no_baseline",
        "seed_used_twice",
        "failed_run",
        "different_steps",
        "leaks",
        "few_seeds",
        "few_examples",
        "not_measured",
        "not_comparable",
        "receipt_not_verified",
    ]
    detail: str


class Method(Contract):
    """How the intervals were made (statistics/bootstrap.py)."""

    level: float
    num_resamples: int
    seed: int


class StudyReport(Contract):
    """The whole report."""

    schema_version: Literal[1] = 1
    name: str
    question: str
    warnings: list[ReportWarning]
    design: Design
    arrangements: list[ArrangementSummary]
    outcomes: list[Outcome]
    effects: list[EffectSummary]
    drops: list[DropSummary]
    drops_of_tasks: int = Field(ge=0)
    """Tasks that were looked at for drops: those with the most test examples."""
    runs: list[RunSummary]
    cost: Cost
    versions: dict[str, str | None]
    method: Method
