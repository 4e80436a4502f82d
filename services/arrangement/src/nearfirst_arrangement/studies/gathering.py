"""A study's results from the registry and the store, as far as they are there: what its statistics take."""

import json
import logging
import platform
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from sqlalchemy.orm import Session

from nearfirst.contracts.evaluations import TEXT_METRICS, MetricName, TestRows
from nearfirst.contracts.problems import CorruptArtifact, NotFound
from nearfirst.contracts.receipts import Receipt
from nearfirst.contracts.reports import ArrangementReport
from nearfirst.contracts.runs import RunKind, RunState
from nearfirst.contracts.studies import StudyArrangement, StudySpec
from nearfirst.data.test_rows import read_test_rows
from nearfirst.registry.models import RunRow
from nearfirst.store.artifacts import Store
from nearfirst_arrangement.arrangements.service import report_of
from nearfirst_arrangement.evaluations.examples import FILES
from nearfirst_arrangement.evaluations.repository import artifacts_of_steps
from nearfirst_arrangement.evaluations.service import resolved
from nearfirst_arrangement.studies import repository
from nearfirst_arrangement.studies.results import (
    ArrangementResults,
    Floats,
    RunCost,
    StudyResults,
    StudyRun,
    TestExamples,
)

log = logging.getLogger(__name__)

_METRICS_OF = {
    RunKind.LOSS: (MetricName.LOSS,),
    RunKind.TEXT_METRICS: TEXT_METRICS,
    RunKind.REWARD: (MetricName.REWARD,),
}
_ENDED_BADLY = (RunState.FAILED, RunState.CANCELLED)
_PACKAGES = ("nearfirst", "nearfirst-arrangement", "numpy", "torch", "transformers", "sentence-transformers")

Nodes = Mapping[RunKind, RunRow]
"""The runs of one arrangement and seed."""


def gather(session: Session, row: RunRow, store: Store) -> StudyResults:
    """What a study has measured so far.

    Args:
        session: open transaction.
        row: the study.
        store: has the artifacts of its runs; one that is lost or damaged is left out and logged.

    Raises:
        NotFound, CorruptArtifact: the test set's rows are lost or damaged.
    """
    spec = StudySpec.model_validate(row.spec)
    nodes = repository.all_nodes(session, row.id)
    test = resolved(next(iter(nodes.values()))[RunKind.EVALUATION]).test
    examples = _examples(store.local_path(test.dataset_digest, verify=False), test.model_dump_json())
    return StudyResults(
        name=spec.name,
        question=spec.question,
        examples=examples,
        arrangements=tuple(
            _arrangement(session, store, spec, arrangement, nodes, len(examples)) for arrangement in spec.arrangements
        ),
        metrics=tuple(spec.evaluation.metrics),
        baseline=spec.baseline,
        spec=row.spec,
        versions=_versions(),
    )


def _arrangement(
    session: Session,
    store: Store,
    spec: StudySpec,
    arrangement: StudyArrangement,
    nodes: Mapping[tuple[str, int], Nodes],
    num_examples: int,
) -> ArrangementResults:
    of_seed = {seed: nodes[arrangement.label, seed] for seed in spec.seeds}
    orders = [found[RunKind.ARRANGEMENT] for found in of_seed.values()]
    return ArrangementResults(
        label=arrangement.label,
        digest=_digests(orders),
        runs=tuple(_run(session, store, spec, seed, found, num_examples) for seed, found in of_seed.items()),
        report=_report(orders[0], store),
        baseline=arrangement.baseline,
        spec=arrangement.model_dump(mode="json", exclude_defaults=True),
    )


def _digests(orders: list[RunRow]) -> str:
    """The orders that an arrangement has: one, or one for each seed; empty before there is any."""
    digests = dict.fromkeys(str(order.result["digest"]) for order in orders if order.result is not None)
    return ", ".join(digests)


def _report(order: RunRow, store: Store) -> ArrangementReport | None:
    if order.state != RunState.SUCCEEDED:
        return None
    try:
        return report_of(order, store)
    except (NotFound, CorruptArtifact) as error:
        log.warning("the report of %s can't be read: %s", order.id, error)
        return None


def _run(session: Session, store: Store, spec: StudySpec, seed: int, nodes: Nodes, num_examples: int) -> StudyRun:
    job = nodes[RunKind.TRAIN_JOB]
    artifacts = artifacts_of_steps(session, nodes[RunKind.EVALUATION].id)
    steps = sorted(step for step, kinds in artifacts.items() if set(kinds) & set(_METRICS_OF))
    values = {metric: np.full((len(steps), num_examples), np.nan) for metric in spec.evaluation.metrics}
    for place, step in enumerate(steps):
        for kind, artifact in artifacts[step].items():
            for metric, values_M in _measured(store, artifact, kind, num_examples).items():
                if metric in values:
                    values[metric][place] = values_M
    result = job.result or {}
    return StudyRun(
        seed=seed,
        steps=np.array(steps, np.int64),
        values=values,
        failure=_failure(job),
        receipt=Receipt.model_validate(result["receipt"]) if "receipt" in result else None,
        cost=RunCost(seconds=_seconds(job), tokens=result.get("num_tokens")),
        id=job.id,
    )


def _failure(job: RunRow) -> str | None:
    if job.state not in _ENDED_BADLY:
        return None
    return str((job.error or {}).get("detail") or "it was cancelled")


def _seconds(job: RunRow) -> float | None:
    """From its first start to its end, pauses included."""
    if job.started_at is None or job.finished_at is None:
        return None
    return (job.finished_at - job.started_at).total_seconds()


def _measured(store: Store, artifact: str, kind: RunKind, num_examples: int) -> dict[MetricName, Floats]:
    """A unit's values of every test example, by metric; none where its file is lost or damaged."""
    if kind not in _METRICS_OF:
        return {}
    try:
        found = _values(store, artifact, kind)
    except (NotFound, CorruptArtifact) as error:
        log.warning("%s of artifact %s can't be read: %s", FILES[kind], artifact, error)
        return {}
    return {metric: values_M for metric, values_M in found.items() if len(values_M) == num_examples}


@lru_cache(maxsize=4096)
def _values(store: Store, artifact: str, kind: RunKind) -> dict[MetricName, Floats]:
    """The numbers of a unit's file, in the test set's order. Kept: an artifact never changes, and each page of a study
    under way asks for the same."""
    with store.artifact_file(artifact, FILES[kind]).open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return {metric: np.array([row[metric] for row in rows], np.float64) for metric in _METRICS_OF[kind]}


@lru_cache(maxsize=8)
def _examples(path: Path, test: str) -> TestExamples:
    """Kept as `_values`. The path is the store's, which names it by its digest."""
    rows = [row.example for row in read_test_rows(path, TestRows.model_validate_json(test))]
    categories = tuple(_category(row.meta) for row in rows)
    return TestExamples(
        ids=tuple(row.id for row in rows),
        tasks=tuple(row.task for row in rows),
        categories=categories if any(categories) else None,
    )


def _category(meta: Mapping[str, object]) -> str | None:
    category = meta.get("category")
    return category if isinstance(category, str) else None


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
