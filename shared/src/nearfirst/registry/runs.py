"""Runs: creating, claiming, renewing, finishing. `transition_all` is the one place where states change.

Every function takes a session and leaves committing to its caller. A worker's writes name the attempt that it claimed
(the fencing token); when another worker has claimed since, they change nothing and raise `Fenced`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from nearfirst.contracts.problems import IdempotencyConflict, NotFound, Problem, StateConflict
from nearfirst.contracts.progress import Fenced
from nearfirst.contracts.queues import ROUTES
from nearfirst.contracts.runs import ALLOWED_TRANSITIONS, RunKind, RunState
from nearfirst.registry.database import utc_now
from nearfirst.registry.dependencies import is_ready
from nearfirst.registry.events import append_event, append_events, lock_events
from nearfirst.registry.models import DependencyRow, RunRow
from nearfirst.registry.names import new_run_id, request_digest
from nearfirst.telemetry.tracing import current_traceparent


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's right to a run, until its lease runs out."""

    run_id: str
    kind: RunKind
    attempt: int
    spec: dict[str, Any]
    traceparent: str | None = None
    """Of the request that queued it."""


def create(
    session: Session,
    kind: RunKind,
    spec: dict[str, Any],
    *,
    request: dict[str, Any] | None = None,
    idempotency_key: str | None = None,
    depends_on: Sequence[str] = (),
    priority: int = 0,
    num_gpus: int = 0,
) -> tuple[RunRow, bool]:
    """Insert a queued run, or get the one that has this idempotency key.

    Args:
        session: open transaction.
        kind: what it produces.
        spec: the validated request, JSON types only.
        request: what the user sent, when the spec is that with more filled in; what a repeated key is compared with.
        idempotency_key: at most one run of a kind has it.
        depends_on: ids of runs that must succeed first.
        priority: of queued runs of a kind, the higher goes first.
        num_gpus: what a worker must have free for it.

    Returns:
        The row, and whether it was inserted now.

    Raises:
        IdempotencyConflict: the key was used with another spec.
    """
    lock_events(session)
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    now = utc_now(session)
    inserted = session.execute(
        insert(RunRow)
        .values(
            id=new_run_id(kind),
            kind=kind,
            state=RunState.QUEUED,
            spec=spec,
            request_digest=request_digest(request or spec),
            idempotency_key=idempotency_key,
            attempt=0,
            priority=priority,
            num_gpus=num_gpus,
            num_lost_leases=0,
            num_crashes=0,
            setbacks=[],
            num_dispatches=0,
            traceparent=current_traceparent(),
            created_at=now,
        )
        .on_conflict_do_nothing(index_elements=["kind", "idempotency_key"])
        .returning(RunRow)
    ).scalar_one_or_none()
    if inserted is None:
        found = find_by_key(session, kind, idempotency_key, request or spec)
        assert found is not None
        return found, False
    session.add_all(DependencyRow(run_id=inserted.id, depends_on=other) for other in dict.fromkeys(depends_on))
    append_event(session, inserted, "state", {"state": RunState.QUEUED}, at=now)
    return inserted, True


def find_by_key(session: Session, kind: RunKind, idempotency_key: str | None, request: dict[str, Any]) -> RunRow | None:
    """The run of a kind that was created under this key; None without a key or a run.

    Raises:
        IdempotencyConflict: the key was used with another request.
    """
    if idempotency_key is None:
        return None
    query = select(RunRow).where(RunRow.kind == kind, RunRow.idempotency_key == idempotency_key)
    row = session.execute(query).scalar_one_or_none()
    if row is not None and row.request_digest != request_digest(request):
        shown = idempotency_key.split(":", 1)[-1]  # without its owner
        raise IdempotencyConflict(f"Idempotency-Key {shown!r} was used for {row.id} with another body; use a new key")
    return row


def get(session: Session, run_id: str, kind: RunKind | None = None) -> RunRow:
    """The run with this id (and kind), as it is in the database now.

    Raises:
        NotFound: there is none.
    """
    query = select(RunRow).where(RunRow.id == run_id).execution_options(populate_existing=True)
    row = session.execute(query).scalar_one_or_none()
    if row is None or (kind is not None and row.kind != kind):
        raise NotFound(f"no {kind or 'run'} has the id {run_id!r}")
    return row


def transition(
    session: Session,
    run_id: str,
    to: RunState,
    *,
    fence: int | None = None,
    only_from: RunState | None = None,
    where: Sequence[ColumnElement[bool]] = (),
    **values: Any,
) -> RunRow | None:
    """Change a run's state if the rules allow it.

    Args:
        session: open transaction.
        run_id: the run.
        to: the new state; `ALLOWED_TRANSITIONS` says from which states.
        fence: the run must be under way, and still at this attempt (a worker's fencing token). A run whose lease was
            taken back is queued at the attempt that has lost it.
        only_from: the run must be in this state, where several would be allowed.
        where: further conditions, checked in the same statement.
        values: further columns to set.

    Returns:
        The row afterwards, or None when a condition didn't hold; then nothing changed.
    """
    conditions = [RunRow.id == run_id, *where]
    if fence is not None:
        conditions += [RunRow.attempt == fence, _is_under_way()]
    changed = transition_all(session, to, conditions, only_from=only_from, **values)
    return changed[0] if changed else None


def transition_all(
    session: Session,
    to: RunState,
    where: Sequence[ColumnElement[bool]],
    *,
    only_from: RunState | None = None,
    **values: Any,
) -> list[RunRow]:
    """As `transition`, for all runs that the conditions hold for, in one statement; the rows that changed."""
    lock_events(session)
    sources = [only_from] if only_from else [s for s, targets in ALLOWED_TRANSITIONS.items() if to in targets]
    assert all(to in ALLOWED_TRANSITIONS[source] for source in sources)
    changed = session.execute(
        update(RunRow)
        .where(RunRow.state.in_(sources), *where)
        .values(state=to, **values)
        .returning(RunRow)
        .execution_options(synchronize_session=False, populate_existing=True)
    ).scalars()
    rows = sorted(changed, key=lambda row: row.seq)
    append_events(session, "state", [(row.id, row.kind, _told(row)) for row in rows])
    return rows


def _is_under_way() -> ColumnElement[bool]:
    return RunRow.state.in_([RunState.RUNNING, RunState.CANCELLING])


def _told(row: RunRow) -> dict[str, Any]:
    """What an event says of a state."""
    data: dict[str, Any] = {"state": row.state, "attempt": row.attempt}
    return data | {"error": row.error} if row.error is not None and row.state == RunState.FAILED else data


def claim(session: Session, run_id: str, owner: str, lease_s: float) -> Claim | None:
    """Take a queued run whose dependencies have succeeded; None when somebody else has it, or nobody may yet."""
    now = utc_now(session)
    row = transition(
        session,
        run_id,
        RunState.RUNNING,
        where=[RunRow.kind.in_(ROUTES), is_ready()],
        attempt=RunRow.attempt + 1,
        lease_owner=owner,
        lease_expires_at=now + timedelta(seconds=lease_s),
        started_at=func.coalesce(RunRow.started_at, now),
        unservable_since=None,
        error=None,
    )
    if row is None:
        return None
    return Claim(run_id=row.id, kind=RunKind(row.kind), attempt=row.attempt, spec=row.spec, traceparent=row.traceparent)


def renew(session: Session, claimed: Claim, lease_s: float) -> RunState:
    """Prolong the lease.

    Returns:
        RUNNING; CANCELLING when the work should end; QUEUED when it should save what it has and go back to the queue.

    Raises:
        Fenced: the run belongs to somebody else now, or has ended.
    """
    renewed = session.execute(
        update(RunRow)
        .where(
            RunRow.id == claimed.run_id,
            RunRow.attempt == claimed.attempt,
            _is_under_way(),
        )
        .values(lease_expires_at=utc_now(session) + timedelta(seconds=lease_s))
        .returning(RunRow.state, RunRow.is_held)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if renewed is None:
        raise Fenced(f"{claimed.run_id} is no longer at attempt {claimed.attempt}")
    state, is_held = RunState(renewed.state), renewed.is_held
    return RunState.QUEUED if is_held and state is RunState.RUNNING else state


def finish(session: Session, claimed: Claim, *, result: dict[str, Any], artifact: str | None) -> RunState:
    """End a run well; one that was being cancelled ends as cancelled.

    Raises:
        Fenced: the run belongs to somebody else now.
    """
    done = transition(
        session,
        claimed.run_id,
        RunState.SUCCEEDED,
        fence=claimed.attempt,
        result=result,
        artifact=artifact,
        **_ended(session),
    )
    return RunState.SUCCEEDED if done else confirm_cancelled(session, claimed)


def fail(session: Session, claimed: Claim, problem: Problem) -> None:
    """End a run with the reason.

    Raises:
        Fenced: the run belongs to somebody else now.
    """
    error = problem.model_dump(mode="json", exclude={"type"})
    if not transition(session, claimed.run_id, RunState.FAILED, fence=claimed.attempt, error=error, **_ended(session)):
        raise Fenced(f"{claimed.run_id} is no longer at attempt {claimed.attempt}")


def confirm_cancelled(session: Session, claimed: Claim) -> RunState:
    """The worker says that its cancelled work has ended.

    Raises:
        Fenced: the run belongs to somebody else now.
    """
    if not transition(session, claimed.run_id, RunState.CANCELLED, fence=claimed.attempt, **_ended(session)):
        raise Fenced(f"{claimed.run_id} is no longer at attempt {claimed.attempt}")
    return RunState.CANCELLED


def release(session: Session, claimed: Claim) -> None:
    """Put a run back because its worker shuts down; it will be sent again at once. One being cancelled ends."""
    transition(
        session,
        claimed.run_id,
        RunState.QUEUED,
        fence=claimed.attempt,
        only_from=RunState.RUNNING,
        lease_owner=None,
        lease_expires_at=None,
        dispatched_at=None,
        num_dispatches=0,
    ) or transition(
        session,
        claimed.run_id,
        RunState.CANCELLED,
        fence=claimed.attempt,
        only_from=RunState.CANCELLING,
        **_ended(session),
    )


def request_cancel(session: Session, run_id: str, kind: RunKind) -> RunRow:
    """Cancel this run alone: `cancellation.cancel` ends what it waited for, too.

    Raises:
        NotFound: no such run.
        StateConflict: it has ended already.
    """
    get(session, run_id, kind)
    if changed := try_cancel_all(session, [RunRow.id == run_id]):
        return changed[0]
    row = get(session, run_id)
    if row.state not in (RunState.CANCELLING, RunState.CANCELLED):
        raise StateConflict(f"{run_id} can't be cancelled: it has {row.state}")
    return row


def try_cancel_all(session: Session, where: Sequence[ColumnElement[bool]]) -> list[RunRow]:
    """Of the runs that the conditions hold for, cancel the queued ones now and ask the workers of the running ones to
    end them; the rows that changed."""
    ended = _ended(session)
    cancelled = transition_all(session, RunState.CANCELLED, where, only_from=RunState.QUEUED, **ended)
    return cancelled + transition_all(session, RunState.CANCELLING, where)


def _ended(session: Session) -> dict[str, Any]:
    return {"finished_at": utc_now(session), "lease_owner": None, "lease_expires_at": None}


def record_progress(
    session: Session, claimed: Claim, *, done: int, total: int | None, unit: str, eta_s: float | None
) -> None:
    """Say how far a run is.

    Raises:
        Fenced: the run belongs to somebody else now.
    """
    lock_events(session)
    assert_held(
        session,
        claimed,
        progress_done=done,
        progress_total=total,
        progress_unit=unit,
        progress_eta_s=eta_s,
    )
    data = {"done": done, "total": total, "unit": unit, "eta_s": eta_s}
    append_event(session, get(session, claimed.run_id), "progress", data)


def assert_held(session: Session, claimed: Claim, **values: Any) -> None:
    """Check and, in the same statement, lock a claim, so that what the transaction writes next is fenced.

    Raises:
        Fenced: the run belongs to somebody else now, or has ended.
    """
    held = session.execute(
        update(RunRow)
        .where(
            RunRow.id == claimed.run_id,
            RunRow.attempt == claimed.attempt,
            _is_under_way(),
        )
        .values(**{"attempt": RunRow.attempt, **values})
        .returning(RunRow.id)
        .execution_options(synchronize_session=False)
    ).scalar_one_or_none()
    if held is None:
        raise Fenced(f"{claimed.run_id} is no longer at attempt {claimed.attempt}")
