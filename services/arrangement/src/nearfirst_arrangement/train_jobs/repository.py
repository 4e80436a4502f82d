"""Queries of train jobs: what earlier ones have measured."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from nearfirst.contracts.runs import RunKind, RunState
from nearfirst.registry.models import MetricRecord, RunRow

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
