"""What a study measured: the input of its statistics, figures and report. Arrays in memory, no I/O.

Shapes: R runs (one a seed), S measured steps, M test examples.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from nearfirst.contracts.evaluations import MetricName
from nearfirst.contracts.problems import InvalidInput
from nearfirst.contracts.receipts import Receipt
from nearfirst.contracts.reports import ArrangementReport

Floats = npt.NDArray[np.float64]
Steps = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class TestExamples:
    """The test set, in the order of the last axis of every array of values."""

    __test__ = False  # no test class, whatever pytest takes its name for

    ids: tuple[str, ...]
    tasks: tuple[str, ...]
    categories: tuple[str | None, ...] | None = None
    """None: the data has no categories."""

    def __len__(self) -> int:
        return len(self.ids)

    def of_task(self, task: str) -> Bools:
        """(M,) which examples are of a task.

        Raises:
            InvalidInput: none is.
        """
        mask_M = np.array([each == task for each in self.tasks], bool)
        if not mask_M.any():
            known = ", ".join(sorted(set(self.tasks))[:10])
            raise InvalidInput(f"task: no test example is of {task!r}; there are {known}")
        return mask_M


@dataclass(frozen=True)
class RunCost:
    """What a run took, its evaluations included; None: not known."""

    seconds: float | None = None
    tokens: int | None = None
    """Trained on, padding left out."""


@dataclass(frozen=True, eq=False)
class StudyRun:
    """One training of one arrangement, and what was measured of it."""

    seed: int
    steps: Steps
    """(S,) optimizer steps at which something was measured, ascending. A run that failed has fewer."""
    values: Mapping[MetricName, Floats]
    """Of each metric (S, M): NaN where an example isn't counted; a row of NaN where the step was not measured."""
    failure: str | None = None
    """Why it failed; None: it didn't."""
    receipt: Receipt | None = None
    cost: RunCost = RunCost()
    id: str | None = None
    """Of the train job."""

    def measured(self, metric: MetricName) -> tuple[Steps, Floats]:
        """The steps at which a metric was measured, and its values there: (S',), (S', M)."""
        values_SM = self.values.get(metric)
        if values_SM is None:
            return self.steps[:0], np.empty((0, 0))
        is_measured_S = ~np.isnan(values_SM).all(axis=1)
        return self.steps[is_measured_S], values_SM[is_measured_S]


@dataclass(frozen=True, eq=False)
class ArrangementResults:
    """One arrangement of a study and its runs."""

    label: str
    """What figures and tables call it."""
    digest: str
    runs: tuple[StudyRun, ...]
    report: ArrangementReport | None = None
    """Leaks and the like; None: not measured."""
    spec: JsonValue = None
    baseline: str | None = None
    """Label of the arrangement that this one is compared with; None: the study's reference."""

    @property
    def usable_runs(self) -> tuple[StudyRun, ...]:
        """Those that count: runs that didn't fail, of each seed the first."""
        first: dict[int, StudyRun] = {}
        for run in self.runs:
            if run.failure is None:
                first.setdefault(run.seed, run)
        return tuple(first.values())


@dataclass(frozen=True, eq=False)
class RunValues:
    """A metric of several runs at the steps that all of them measured."""

    steps: Steps
    """(S,) ascending."""
    seeds: tuple[int, ...]
    """R, in ascending order."""
    values: Floats
    """(R, S, M); NaN where an example isn't counted."""

    def of_examples(self, mask_M: Bools) -> "RunValues":
        """Only some of the examples."""
        return replace(self, values=self.values[:, :, mask_M])


@dataclass(frozen=True, eq=False)
class StudyResults:
    """A study: A arrangements times R seeds, each run measured on the same test examples.

    Raises:
        InvalidInput: labels that are not distinct, an unknown baseline, or arrays whose shapes don't fit together; the
            detail names the run.
    """

    name: str
    question: str
    examples: TestExamples
    arrangements: tuple[ArrangementResults, ...]
    metrics: tuple[MetricName, ...]
    """The first is the one that the study is about."""
    baseline: str | None = None
    """Label of the arrangement that the others are compared with."""
    spec: JsonValue = None
    versions: Mapping[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_examples(self.examples)
        labels = self.labels
        if not labels or not all(label.strip() for label in labels) or len(set(labels)) != len(labels):
            raise InvalidInput(f"arrangements: labels must be distinct and not empty, got {list(labels)}")
        for baseline in (self.baseline, *(arrangement.baseline for arrangement in self.arrangements)):
            if baseline is not None and baseline not in labels:
                raise InvalidInput(f"baseline: {baseline!r} is none of the arrangements {list(labels)}")
        if not self.metrics or len(set(self.metrics)) != len(self.metrics):
            raise InvalidInput(f"metrics: at least one, none of them twice, got {[str(each) for each in self.metrics]}")
        for arrangement in self.arrangements:
            for run in arrangement.runs:
                _check_run(run, f"arrangement {arrangement.label!r}, seed {run.seed}", len(self.examples))

    @property
    def labels(self) -> tuple[str, ...]:
        """Of the arrangements, in their order."""
        return tuple(each.label for each in self.arrangements)

    @property
    def reference(self) -> str:
        """What the others are compared with: the baseline; without one, the first arrangement."""
        return self.baseline if self.baseline is not None else self.labels[0]

    def reference_of(self, label: str) -> str:
        """What an arrangement is compared with; itself: with nothing."""
        return self.arrangement(label).baseline or self.reference

    @property
    def common_reference(self) -> str | None:
        """What all others are compared with; None: not all with the same."""
        found = {self.reference_of(label) for label in self.labels}
        return self.reference if found == {self.reference} else None

    def arrangement(self, label: str) -> ArrangementResults:
        """The arrangement of that label.

        Raises:
            InvalidInput: there is none.
        """
        for each in self.arrangements:
            if each.label == label:
                return each
        raise InvalidInput(f"arrangement: {label!r} is none of {list(self.labels)}")

    def run_values(self, label: str, metric: MetricName) -> RunValues | None:
        """A metric of an arrangement's usable runs, at the steps that all of them measured.

        Runs that didn't measure the metric at all are left out. None: no run did, or they share no step.
        """
        return _stacked(self.arrangement(label).usable_runs, metric)


def paired(values: RunValues, reference: RunValues) -> tuple[RunValues, RunValues] | None:
    """Two arrangements at the seeds and steps that both have, in the same order.

    None: they share no seed or no step.
    """
    seeds = tuple(sorted(set(values.seeds) & set(reference.seeds)))
    steps = np.intersect1d(values.steps, reference.steps)
    if not seeds or not len(steps):
        return None
    return _cut(values, seeds, steps), _cut(reference, seeds, steps)


def lower_is_better(metric: MetricName) -> bool:
    """Whether a smaller value of the metric is the better one."""
    return metric is MetricName.LOSS


def _cut(values: RunValues, seeds: tuple[int, ...], steps: Steps) -> RunValues:
    rows = [values.seeds.index(seed) for seed in seeds]
    return RunValues(steps, seeds, values.values[rows][:, np.searchsorted(values.steps, steps)])


def _stacked(runs: Iterable[StudyRun], metric: MetricName) -> RunValues | None:
    measured = [(run.seed, *run.measured(metric)) for run in sorted(runs, key=lambda run: run.seed)]
    measured = [each for each in measured if len(each[1])]
    if not measured:
        return None
    steps: Steps = reduce(np.intersect1d, [steps_S for _, steps_S, _ in measured])
    if not len(steps):
        return None
    values = np.stack([values_SM[np.searchsorted(steps_S, steps)] for _, steps_S, values_SM in measured])
    return RunValues(steps, tuple(seed for seed, _, _ in measured), values)


def _check_examples(examples: TestExamples) -> None:
    num = len(examples)
    columns: dict[str, tuple[Any, ...] | None] = {"tasks": examples.tasks, "categories": examples.categories}
    for name, column in columns.items():
        if column is not None and len(column) != num:
            raise InvalidInput(f"examples.{name}: {len(column)} for {num} ids")
    num_repeated = num - len(set(examples.ids))
    if num == 0 or num_repeated:
        raise InvalidInput(f"examples.ids: at least one, each once; got {num}, of which {num_repeated} are repeated")


def _check_run(run: StudyRun, where: str, num_examples: int) -> None:
    if run.steps.ndim != 1 or any(right <= left for left, right in pairwise(run.steps.tolist())):
        raise InvalidInput(f"{where}: steps must be ascending, got {run.steps.tolist()[:10]}")
    if len(run.steps) and run.steps[0] < 0:
        raise InvalidInput(f"{where}: steps count from 0, got {run.steps[0]}")
    for metric, values_SM in run.values.items():
        wanted = (len(run.steps), num_examples)
        if values_SM.shape != wanted:
            raise InvalidInput(f"{where}: {metric} has shape {values_SM.shape}, wanted (steps, examples) = {wanted}")
        if np.isinf(values_SM).any():
            raise InvalidInput(f"{where}: {metric} has infinite values; an example that isn't counted is NaN")
