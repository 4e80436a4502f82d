"""What the sweeper decides: which runs to send again, which leases are lost, which runs can never start.

Any number of sweepers may run: each decision is a compare-and-set on the row that it is about.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, or_, select, update
from sqlalchemy.orm import Session

from nearfirst.contracts.problems import Problem
from nearfirst.contracts.runs import SHARED_KINDS, RunKind, RunState
from nearfirst.registry.database import utc_now
from nearfirst.registry.dependencies import is_ready
from nearfirst.registry.events import lock_events
from nearfirst.registry.models import DependencyRow, RunRow
from nearfirst.registry.runs import transition

_MAX_BACKOFF_DOUBLINGS = 6


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message to send."""

    run_id: str
    kind: RunKind


def take_deliveries(session: Session, redeliver_s: float, *, only: Sequence[str] | None = None) -> list[Delivery]:
    """Queued runs that may start and whose message is due, marked as sent now.

    The first message is due at once; each further one twice as long after the last (from `redeliver_s`, doubled at
    most six times), so that a long queue doesn't fill the broker with duplicates.

    Args:
        session: open transaction.
        redeliver_s: seconds after which an unclaimed run is sent for the second time.
        only: consider these runs alone.
    """
    lock_events(session)  # as whoever changes states does, so that rows are never locked in two orders
    now = utc_now(session)
    query = select(RunRow.id, RunRow.kind, RunRow.dispatched_at, RunRow.num_dispatches).where(
        RunRow.state == RunState.QUEUED, is_ready()
    )
    if only is not None:
        query = query.where(RunRow.id.in_(only))
    deliveries = []
    for run_id, kind, dispatched_at, num_dispatches in session.execute(query.order_by(RunRow.seq)).all():
        if dispatched_at is not None and now < dispatched_at + _backoff(redeliver_s, num_dispatches):
            continue
        taken = session.execute(
            update(RunRow)
            .where(
                RunRow.id == run_id,
                RunRow.state == RunState.QUEUED,
                RunRow.dispatched_at.is_not_distinct_from(dispatched_at),
            )
            .values(dispatched_at=now, num_dispatches=num_dispatches + 1)
            .returning(RunRow.id)
            .execution_options(synchronize_session=False)
        ).scalar_one_or_none()
        if taken is not None:
            deliveries.append(Delivery(run_id, RunKind(kind)))
    return deliveries


def _backoff(redeliver_s: float, num_dispatches: int) -> timedelta:
    return timedelta(seconds=redeliver_s * 2 ** min(max(num_dispatches - 1, 0), _MAX_BACKOFF_DOUBLINGS))


def recover_lost_leases(session: Session, max_lost_leases: int) -> list[str]:
    """Queue the runs again whose lease ran out; end those being cancelled, and those that lost too many.

    Returns:
        Ids of the runs that changed.
    """
    now = utc_now(session)
    expired = select(RunRow.id, RunRow.state, RunRow.attempt, RunRow.num_lost_leases, RunRow.lease_owner).where(
        RunRow.state.in_([RunState.RUNNING, RunState.CANCELLING]), RunRow.lease_expires_at < now
    )
    changed = []
    for run_id, state, attempt, num_lost, owner in session.execute(expired).all():
        if _recover(session, run_id, RunState(state), attempt, num_lost + 1, owner, max_lost_leases, now):
            changed.append(run_id)
    return changed


def _recover(
    session: Session,
    run_id: str,
    state: RunState,
    attempt: int,
    num_lost: int,
    owner: str | None,
    max_lost_leases: int,
    now: datetime,
) -> bool:
    still_expired = [RunRow.lease_expires_at < now]
    free: dict[str, Any] = {"lease_owner": None, "lease_expires_at": None, "num_lost_leases": num_lost}
    if state is RunState.CANCELLING:
        row = transition(
            session, run_id, RunState.CANCELLED, fence=attempt, where=still_expired, finished_at=now, **free
        )
    elif num_lost > max_lost_leases:
        problem = Problem(
            title="Worker lost",
            status=500,
            code="lease_lost",
            detail=f"its worker vanished {num_lost} times (last: {owner}); the limit is {max_lost_leases}",
        )
        row = transition(
            session,
            run_id,
            RunState.FAILED,
            fence=attempt,
            where=still_expired,
            finished_at=now,
            error=problem.model_dump(mode="json", exclude={"type"}),
            **free,
        )
    else:
        row = transition(
            session,
            run_id,
            RunState.QUEUED,
            fence=attempt,
            only_from=RunState.RUNNING,
            where=still_expired,
            dispatched_at=None,
            num_dispatches=0,
            **free,
        )
    return row is not None


def fail_orphans(session: Session) -> list[str]:
    """Fail queued runs that depend on a failed or cancelled one; returns their ids.

    Not those that depend on a cancelled run of a shared kind, which `cancellation.revive_needed` queues again.
    """
    other = RunRow.__table__.alias("other")
    is_cancelled = and_(other.c.state == RunState.CANCELLED, other.c.kind.not_in(SHARED_KINDS))
    query = (
        select(RunRow.id, other.c.id, other.c.state, other.c.error)
        .join(DependencyRow, DependencyRow.run_id == RunRow.id)
        .join(other, other.c.id == DependencyRow.depends_on)
        .where(RunRow.state == RunState.QUEUED, or_(other.c.state == RunState.FAILED, is_cancelled))
    )
    failed = []
    for run_id, other_id, other_state, other_error in session.execute(query).all():
        reason = f": {other_error['detail']}" if other_error else ""
        problem = Problem(
            title="Dependency failed",
            status=409,
            code="dependency_failed",
            detail=f"it waits for {other_id}, which has {other_state}{reason}",
        )
        if transition(
            session,
            run_id,
            RunState.FAILED,
            only_from=RunState.QUEUED,
            finished_at=utc_now(session),
            error=problem.model_dump(mode="json", exclude={"type"}),
        ):
            failed.append(run_id)
    return failed
