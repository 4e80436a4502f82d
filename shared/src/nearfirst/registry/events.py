"""Events: what GET /events tells, in an order that a reader can follow without missing any."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, text
from sqlalchemy.orm import Session

from nearfirst.contracts.runs import RunEvent, RunKind
from nearfirst.registry.database import utc_now
from nearfirst.registry.models import EventRow, RunRow

_EVENT_LOCK = 0x6E656172  # any constant: the advisory lock that events are appended under
_LOCKED_BY = "events_locked_by"  # of session.info: the transaction that has the lock


def lock_events(session: Session) -> None:
    """Be the only one who appends events until the commit. Taken before any row is locked.

    A reader asks for `seq` above the last that it saw, so events must become visible in the order of `seq`. PostgreSQL
    hands out sequence numbers before the commit; this lock makes both orders the same. Two transactions that took it
    after row locks, in different orders, would wait for each other for ever. SQLite has one writer at a time anyway.
    The server isn't asked again by a transaction that has the lock; savepoints, which could lose it, aren't used.
    """
    if session.get_bind().dialect.name != "postgresql":
        return
    if (holder := session.get_transaction()) is None or session.info.get(_LOCKED_BY) is not holder:
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _EVENT_LOCK})
        session.info[_LOCKED_BY] = session.get_transaction()


def append_event(
    session: Session, row: RunRow, kind_of_event: str, data: dict[str, Any], *, at: datetime | None = None
) -> None:
    """Record a change of a run for GET /events. The caller has the event lock. `at`: when; None: now."""
    append_events(session, kind_of_event, [(row.id, row.kind, data)], at=at)


def append_events(
    session: Session,
    kind_of_event: str,
    changes: Sequence[tuple[str, str, dict[str, Any]]],
    *,
    at: datetime | None = None,
) -> None:
    """The same of many runs: the id, the kind and what to tell of each."""
    if not changes:
        return
    common = {"type": kind_of_event, "created_at": at or utc_now(session)}
    rows = [common | {"run_id": run_id, "kind": kind, "data": data} for run_id, kind, data in changes]
    session.execute(insert(EventRow), rows)


def list_events(session: Session, after: int, run_id: str | None, limit: int = 500) -> list[RunEvent]:
    """Events after `seq` in their order."""
    query = select(EventRow).where(EventRow.seq > after).order_by(EventRow.seq).limit(limit)
    if run_id is not None:
        query = query.where(EventRow.run_id == run_id)
    return [
        RunEvent(
            seq=row.seq,
            run_id=row.run_id,
            kind=RunKind(row.kind),
            type=row.type,
            data=row.data,
            created_at=row.created_at,
        )
        for row in session.execute(query).scalars()
    ]


def seq_before_newest(session: Session, count: int, run_id: str | None) -> int:
    """The `seq` after which there are `count` events, of one run if it is named; 0 when there are no more than that."""
    query = select(EventRow.seq).order_by(EventRow.seq.desc()).offset(count).limit(1)
    if run_id is not None:
        query = query.where(EventRow.run_id == run_id)
    return session.execute(query).scalar_one_or_none() or 0
