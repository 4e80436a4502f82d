"""Queries of train jobs: what they have measured."""

from collections.abc import Sequence

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from nearfirst.contracts.runs import RunKind, RunState
from nearfirst.contracts.training import MetricRow
from nearfirst.registry.models import MetricRecord, RunRow
from nearfirst_arrangement.train_jobs.thinning import rows_to_draw

_RATE = "tokens_per_s"


def recent_jobs(session: Session, limit: int) -> Sequence[RunRow]:
    """Jobs that have run or are running, the newest first."""
    query = (
        select(RunRow)
        .where(RunRow.kind == RunKind.TRAIN_JOB, RunRow.state.in_([RunState.RUNNING, RunState.SUCCEEDED]))
        .order_by(RunRow.seq.desc())
        .limit(limit)
    )
    return session.execute(query).scalars().all()


def latest_rates(session: Session, run_id: str, limit: int) -> Sequence[float]:
    """Tokens a second of a job's last steps."""
    query = (
        select(MetricRecord.value)
        .where(MetricRecord.run_id == run_id, MetricRecord.name == _RATE)
        .order_by(MetricRecord.step.desc())
        .limit(limit)
    )
    return session.execute(query).scalars().all()


def thinned_metrics(session: Session, run_id: str, names: Sequence[str] | None, num_points: int) -> list[MetricRow]:
    """A run's measurements by step, then name: of each name at most `num_points`, as `rows_to_draw` chooses them.

    Args:
        session: open transaction.
        run_id: the run.
        names: only these; None: all.
        num_points: at least 4.
    """
    query = select(MetricRecord.name, MetricRecord.step, MetricRecord.value).where(MetricRecord.run_id == run_id)
    if names is not None:
        query = query.where(MetricRecord.name.in_(names))
    found: dict[str, list[tuple[int, float]]] = {}
    for name, step, value in session.execute(query.order_by(MetricRecord.step)):
        found.setdefault(name, []).append((step, value))
    kept = [
        MetricRow(step=points[row][0], name=name, value=points[row][1])
        for name, points in found.items()
        for row in rows_to_draw(
            np.array([step for step, _ in points], dtype=np.int64),
            np.array([value for _, value in points], dtype=np.float64),
            num_points,
        )
    ]
    return sorted(kept, key=lambda row: (row.step, row.name))
