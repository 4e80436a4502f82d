"""A study's results as a report: every number in it is computed here, once."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, groupby
from typing import Literal

import numpy as np

from nearfirst.contracts.evaluations import MetricName
from nearfirst.contracts.progress import ProgressCallback, ignore_progress
from nearfirst.contracts.reports import ArrangementReport
from nearfirst.contracts.study_reports import (
    ArrangementSummary,
    ClearSteps,
    Cost,
    Design,
    Difference,
    DropSummary,
    EffectSummary,
    LeakSummary,
    Method,
    Outcome,
    RunSummary,
    StepsTo,
    StudyReport,
)
from nearfirst_arrangement.measures.rounding import rounded
from nearfirst_arrangement.studies.report.warnings import find_warnings
from nearfirst_arrangement.studies.results import (
    Floats,
    RunValues,
    StudyResults,
    StudyRun,
    lower_is_better,
)
from nearfirst_arrangement.studies.statistics.area import area_weights
from nearfirst_arrangement.studies.statistics.bootstrap import LEVEL, NUM_RESAMPLES
from nearfirst_arrangement.studies.statistics.change_points import find_drops
from nearfirst_arrangement.studies.statistics.curves import mean_curve
from nearfirst_arrangement.studies.statistics.effects import Comparison, Effect, compare
from nearfirst_arrangement.studies.statistics.thresholds import end_values, steps_to_threshold

MAX_TASKS = 20
"""Tasks that are looked at for sudden drops."""


def build_report(
    study: StudyResults,
    *,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
    progress: ProgressCallback = ignore_progress,
) -> StudyReport:
    """Compute a study's report.

    Args:
        study: what was measured.
        seed: of the resampling; the same arguments give the same report.
        num_resamples: of each interval.
        progress: told after each arrangement and metric; may raise to stop.
    """
    outcomes: list[Outcome] = []
    effects: list[EffectSummary] = []
    done, total = 0, len(study.metrics) * len(study.arrangements)
    for metric in study.metrics:
        for label in study.labels:
            reference_label = study.reference_of(label)
            reference = study.run_values(reference_label, metric)
            values = study.run_values(label, metric)
            if values is not None:
                outcomes.append(_outcome(label, metric, values, reference, seed, num_resamples))
            if label != reference_label:
                effects += _effect(study, label, reference_label, metric, seed, num_resamples)
            done += 1
            progress(done, total, "curves")
    tasks = _largest_tasks(study.examples.tasks)
    return StudyReport(
        name=study.name,
        question=study.question,
        warnings=find_warnings(study, effects),
        design=_design(study),
        arrangements=[
            ArrangementSummary(
                label=each.label,
                digest=each.digest,
                seeds=[run.seed for run in each.usable_runs],
                leaks=None if each.report is None else _leaks(each.report),
                spec=each.spec,
            )
            for each in study.arrangements
        ],
        outcomes=outcomes,
        effects=effects,
        drops=_drops(study, tasks, seed),
        drops_of_tasks=len(tasks) if MetricName.LOSS in study.metrics else 0,
        runs=_runs(study),
        cost=_cost(study),
        versions=dict(study.versions),
        method=Method(level=LEVEL, num_resamples=num_resamples, seed=seed),
    )


def _design(study: StudyResults) -> Design:
    return Design(
        metrics=list(study.metrics),
        baseline=study.baseline,
        reference=study.reference,
        seeds=sorted({run.seed for each in study.arrangements for run in each.runs}),
        num_runs=len(_trainings(study)),
        num_test_examples=len(study.examples),
        num_tasks=len(set(study.examples.tasks)),
        spec=study.spec,
    )


def _leaks(report: ArrangementReport) -> LeakSummary:
    return LeakSummary(
        num_rows=report.num_rows,
        text_rows=report.leaks.text.num_rows,
        instruction_rows=report.leaks.instruction.num_rows,
        near_duplicate_rows=None if report.near_duplicates is None else report.near_duplicates.num_rows,
    )


def _outcome(
    label: str, metric: MetricName, values: RunValues, reference: RunValues | None, seed: int, num_resamples: int
) -> Outcome:
    curve = mean_curve(values)
    return Outcome(
        metric=metric,
        arrangement=label,
        num_seeds=len(curve.seeds),
        num_examples=curve.num_examples,
        steps=curve.steps.tolist(),
        mean=_numbers(curve.mean),
        low=_numbers(curve.low),
        high=_numbers(curve.high),
        area=_number(float(area_weights(curve.steps) @ curve.mean)),
        steps_to=None if reference is None else _steps_to(values, reference, metric, seed, num_resamples),
    )


def _steps_to(
    values: RunValues, reference: RunValues, metric: MetricName, seed: int, num_resamples: int
) -> StepsTo | None:
    threshold_M = end_values(reference)
    if (np.isnan(threshold_M) | np.isnan(values.values).any(axis=(0, 1))).all():
        return None
    found = steps_to_threshold(
        values, threshold_M, is_lower_better=lower_is_better(metric), seed=seed, num_resamples=num_resamples
    )
    return StepsTo(
        threshold=rounded(found.threshold),
        steps=_number(found.steps),
        low=_number(found.low),
        high=_number(found.high),
        by_seed=[_number(each) for each in found.by_seed],
    )


def _effect(
    study: StudyResults, label: str, reference: str, metric: MetricName, seed: int, num_resamples: int
) -> list[EffectSummary]:
    """One, or none where the two have no seed and step in common."""
    found = compare(study, label, reference, metric, seed=seed, num_resamples=num_resamples)
    if found is None:
        return []
    return [
        EffectSummary(
            metric=metric,
            arrangement=label,
            reference=reference,
            seeds=list(found.seeds),
            end_step=int(found.steps[-1]),
            end=_difference(found.end, metric),
            area=_difference(found.area, metric),
            steps=found.steps.tolist(),
            mean=_numbers(found.at_steps.mean),
            low=_numbers(found.at_steps.low),
            high=_numbers(found.at_steps.high),
            clear=_clear_steps(found, metric),
        )
    ]


def _clear_steps(found: Comparison, metric: MetricName) -> list[ClearSteps]:
    side_S = np.where(found.at_steps.low > 0, 1, np.where(found.at_steps.high < 0, -1, 0))
    good = -1 if lower_is_better(metric) else 1
    clear = []
    for side, group in groupby(zip(side_S, found.steps.tolist(), strict=True), key=lambda each: each[0]):
        steps = [step for _, step in group]
        if side:
            clear.append(ClearSteps(first=steps[0], last=steps[-1], verdict="better" if side == good else "worse"))
    return clear


def _difference(effect: Effect, metric: MetricName) -> Difference:
    verdict: Literal["better", "worse", "not clear"] = "not clear"
    if effect.is_clear:
        verdict = "better" if (effect.mean < 0) == lower_is_better(metric) else "worse"
    return Difference(
        mean=_number(effect.mean),
        low=_number(effect.low),
        high=_number(effect.high),
        low_examples=_number(effect.low_examples),
        high_examples=_number(effect.high_examples),
        by_seed=_numbers(effect.by_seed),
        num_examples=effect.num_examples,
        verdict=verdict,
    )


def _largest_tasks(tasks: Sequence[str]) -> list[str]:
    """The tasks with the most test examples; on a tie the one that comes first."""
    return [task for task, _ in Counter(tasks).most_common(MAX_TASKS)]


def _drops(study: StudyResults, tasks: Sequence[str], seed: int) -> list[DropSummary]:
    found: list[DropSummary] = []
    for label in study.labels if MetricName.LOSS in study.metrics else ():
        values = study.run_values(label, MetricName.LOSS)
        if values is None:
            continue
        for task in tasks:
            curve = mean_curve(values.of_examples(study.examples.of_task(task)))
            if np.isfinite(curve.mean).all():
                found += [
                    DropSummary(
                        arrangement=label,
                        task=task,
                        step=drop.step,
                        size=rounded(drop.size),
                        p_value=rounded(drop.p_value),
                    )
                    for drop in find_drops(curve.steps, curve.mean, seed=seed)
                ]
    return found


def _runs(study: StudyResults) -> list[RunSummary]:
    return [
        RunSummary(
            arrangement=each.label,
            seed=run.seed,
            id=run.id,
            failure=run.failure,
            last_step=int(run.steps[-1]) if len(run.steps) else None,
            receipt_head=None if run.receipt is None else run.receipt.head,
            receipt_verified=None if run.receipt is None else run.receipt.verified,
            seconds=run.cost.seconds,
            tokens=run.cost.tokens,
        )
        for each in study.arrangements
        for run in each.runs
    ]


def _cost(study: StudyResults) -> Cost:
    costs = [run.cost for run in _trainings(study)]
    seconds = [cost.seconds for cost in costs if cost.seconds is not None]
    tokens = [cost.tokens for cost in costs if cost.tokens is not None]
    return Cost(
        seconds=sum(seconds) if seconds else None,
        tokens=sum(tokens) if tokens else None,
        num_unknown=len(costs) - len(seconds),
    )


def _trainings(study: StudyResults) -> list[StudyRun]:
    """Every training once: arrangements that give the same order share theirs."""
    runs = list(chain.from_iterable(each.runs for each in study.arrangements))
    return [run for place, run in enumerate(runs) if run.id is None or run.id not in {each.id for each in runs[:place]}]


def _number(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else rounded(value)


def _numbers(values: Floats | Iterable[float]) -> list[float | None]:
    return [_number(float(value)) for value in values]
