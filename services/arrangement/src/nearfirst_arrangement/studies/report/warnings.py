"""What a reader must know before trusting a study's numbers."""

from collections import Counter
from collections.abc import Iterator, Sequence

from nearfirst.contracts.study_reports import EffectSummary, ReportWarning
from nearfirst_arrangement.studies.results import ArrangementResults, StudyResults
from nearfirst_arrangement.studies.statistics.bootstrap import MIN_EXAMPLES

FEW_SEEDS = 3
"""Below it, intervals over seeds are very wide, or aren't over seeds at all."""
FEW_EXAMPLES = 50
"""Below it, intervals over examples cover less than they say when differences are skewed."""


def find_warnings(study: StudyResults, effects: Sequence[EffectSummary]) -> list[ReportWarning]:
    """All warnings, those about the whole study first."""
    found = [*_of_design(study)]
    for arrangement in study.arrangements:
        found += _of_runs(arrangement)
        found += _of_steps(arrangement)
        found += _of_leaks(arrangement)
    return [*found, *_of_measurements(study, effects)]


def _of_design(study: StudyResults) -> Iterator[ReportWarning]:
    if study.baseline is None and len(study.arrangements) > 1:
        detail = f"No baseline was given: the others are compared with the first arrangement, {study.reference}."
        yield ReportWarning(code="no_baseline", detail=detail)
    fewest = min(len(arrangement.usable_runs) for arrangement in study.arrangements)
    if fewest == 1:
        detail = (
            "An arrangement has one seed: its intervals are over test examples only, and say nothing of other seeds."
        )
        yield ReportWarning(code="few_seeds", detail=detail)
    elif 1 < fewest < FEW_SEEDS:
        yield ReportWarning(code="few_seeds", detail="An arrangement has two seeds: its intervals are very wide.")
    if len(study.examples) < FEW_EXAMPLES:
        detail = f"There are {len(study.examples)} test examples; intervals are reliable from about {FEW_EXAMPLES}."
        if len(study.examples) < MIN_EXAMPLES:
            detail = f"There are {len(study.examples)} test examples: too few for intervals, which take {MIN_EXAMPLES}."
        yield ReportWarning(code="few_examples", detail=detail)


def _of_runs(arrangement: ArrangementResults) -> Iterator[ReportWarning]:
    label = arrangement.label
    for seed, times in Counter(run.seed for run in arrangement.runs).items():
        if times > 1:
            detail = f"{label}: seed {seed} was used {times} times; the first run that didn't fail counts."
            yield ReportWarning(code="seed_used_twice", detail=detail)
    for run in arrangement.runs:
        if run.failure is not None:
            detail = f"{label}, seed {run.seed}: the run failed and is left out: {run.failure}"
            yield ReportWarning(code="failed_run", detail=detail)
        elif run.receipt is not None and not run.receipt.verified:
            detail = f"{label}, seed {run.seed}: the receipt isn't verified; the order may not have been kept."
            yield ReportWarning(code="receipt_not_verified", detail=detail)


def _of_steps(arrangement: ArrangementResults) -> Iterator[ReportWarning]:
    ends = {run.seed: int(run.steps[-1]) for run in arrangement.usable_runs if len(run.steps)}
    if len(set(ends.values())) > 1:
        listed = ", ".join(f"seed {seed} at step {step:,}" for seed, step in sorted(ends.items()))
        detail = f"{arrangement.label}: runs end at different steps ({listed}); those that all measured are used."
        yield ReportWarning(code="different_steps", detail=detail)


def _of_leaks(arrangement: ArrangementResults) -> Iterator[ReportWarning]:
    if arrangement.report is None:
        return
    leaks = arrangement.report.leaks
    if leaks.text.num_rows or leaks.instruction.num_rows:
        detail = (
            f"{arrangement.label}: {leaks.text.num_rows:,} of {arrangement.report.num_rows:,} rows have a test row's "
            f"text, {leaks.instruction.num_rows:,} a test row's instruction."
        )
        yield ReportWarning(code="leaks", detail=detail)


def _of_measurements(study: StudyResults, effects: Sequence[EffectSummary]) -> Iterator[ReportWarning]:
    compared = {(effect.metric, effect.arrangement) for effect in effects}
    ends = {}
    for metric in study.metrics:
        for label in study.labels:
            values = study.run_values(label, metric)
            if values is None:
                detail = f"{label}: {metric} was not measured at a step that all its runs have."
                yield ReportWarning(code="not_measured", detail=detail)
                continue
            ends[label] = int(values.steps[-1])
            reference = study.reference_of(label)
            if label != reference and (metric, label) not in compared:
                detail = f"{label}: {metric} can't be compared with {reference}; they share no seed or no step."
                yield ReportWarning(code="not_comparable", detail=detail)
        if len(set(ends.values())) > 1:
            listed = ", ".join(f"{label} at step {step:,}" for label, step in ends.items())
            detail = f"{metric}: arrangements end at different steps ({listed}); differences end at the earlier one."
            yield ReportWarning(code="different_steps", detail=detail)
        ends.clear()
