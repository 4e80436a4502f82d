"""Runs named by what they compute: one for all who need it, computed again when it failed or its artifact is lost."""

import hashlib
from collections.abc import Callable, Sequence

from sqlalchemy.orm import Session

from nearfirst.contracts.base import Contract
from nearfirst.contracts.runs import RunKind, RunState
from nearfirst.registry import runs
from nearfirst.registry.dependencies import dependencies
from nearfirst.registry.events import lock_events
from nearfirst.registry.models import RunRow
from nearfirst.registry.names import canonical_json
from nearfirst.store.artifacts import Store

_ENDED_BADLY = (RunState.FAILED, RunState.CANCELLED)


def content_key(spec: Contract) -> str:
    """The idempotency key that the one run of this content has."""
    return f"content:{hashlib.sha256(canonical_json(spec.model_dump(mode='json')).encode()).hexdigest()}"


def content_run(
    session: Session,
    kind: RunKind,
    spec: Contract,
    store: Store,
    *,
    depends_on: Callable[[], Sequence[str]] = tuple,
) -> RunRow:
    """The run that computes this content, queued anew when it has no result that can be read.

    Args:
        session: open transaction.
        kind: what it produces.
        spec: everything that decides the result.
        store: has its artifact.
        depends_on: makes the runs that must succeed first, for a run that isn't there yet; one that is there keeps
            those that it was created with.
    """
    values, key = spec.model_dump(mode="json"), content_key(spec)
    found = runs.find_by_key(session, kind, key, values)
    if found is not None:
        return _revived(session, found, store)
    row, _ = runs.create(session, kind, values, idempotency_key=key, depends_on=depends_on())
    return row


def keep_requested(session: Session, row: RunRow) -> RunRow:
    """Note that somebody asked for a shared run by itself: no cancel of a run that needs it ends it."""
    if not row.is_requested:
        lock_events(session)
        row.is_requested = True
        session.flush()
    return row


def _revived(session: Session, row: RunRow, store: Store) -> RunRow:
    """Queue a run again that failed, was cancelled or lost its artifact, and what it depends on before it."""
    if row.state in (RunState.RUNNING, RunState.CANCELLING):
        return row
    if row.state == RunState.SUCCEEDED and row.artifact is not None and store.has_artifact(row.artifact):
        return row
    for needed in dependencies(session, row.id):
        # What a queued run reads is checked when it reads it; to look into the store here would hold locks meanwhile.
        if row.state != RunState.QUEUED or needed.state in _ENDED_BADLY:
            _revived(session, needed, store)
    if row.state == RunState.QUEUED:
        return row
    return runs.requeue(session, row.id, RunKind(row.kind), is_lost=row.state == RunState.SUCCEEDED)
