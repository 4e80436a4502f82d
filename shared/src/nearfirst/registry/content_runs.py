"""Runs named by what they compute: one for all who need it, computed again when it failed or its artifact is lost."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from nearfirst.contracts.base import Contract
from nearfirst.contracts.runs import RunKind, RunState
from nearfirst.registry import runs
from nearfirst.registry.database import in_parts, utc_now
from nearfirst.registry.dependencies import dependencies
from nearfirst.registry.events import append_events, lock_events
from nearfirst.registry.models import DependencyRow, RunRow
from nearfirst.registry.names import canonical_json, new_run_id, request_digest
from nearfirst.registry.requeueing import requeue, requeue_all
from nearfirst.store.artifacts import Store
from nearfirst.telemetry.counters import CONTENT_RUNS
from nearfirst.telemetry.tracing import current_traceparent

ENDED_BADLY = (RunState.FAILED, RunState.CANCELLED)
"""A run that is needed again begins anew from these states."""


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
    CONTENT_RUNS.labels(kind, "miss" if found is None else "hit").inc()
    if found is not None:
        return revive(session, found, store)
    row, _ = runs.create(session, kind, values, idempotency_key=key, depends_on=depends_on())
    return row


def lost_runs(session: Session, kind: RunKind, specs: Iterable[Contract], store: Store) -> set[str]:
    """Ids of the runs of these contents that have succeeded and whose artifact can't be read.

    What `content_runs` wants to know, asked before it: a look into the store takes time, in which no lock may be held.
    """
    return lost_among(session, [row.id for row in _rows_of(session, kind, map(content_key, specs))], store)


def lost_among(session: Session, run_ids: Iterable[str], store: Store) -> set[str]:
    """Those of some runs that have succeeded and whose artifact can't be read."""
    query = select(RunRow.id, RunRow.artifact).where(RunRow.state == RunState.SUCCEEDED)
    return {
        run_id
        for part in in_parts(run_ids)
        for run_id, artifact in session.execute(query.where(RunRow.id.in_(part))).all()
        if artifact is None or not store.has_artifact(artifact)
    }


def content_runs(
    session: Session,
    kind: RunKind,
    specs: Sequence[Contract],
    *,
    depends_on: Sequence[Sequence[str]] = (),
    lost: Set[str] = frozenset(),
    priority: int = 0,
) -> list[str]:
    """As `content_run`, for many contents of a kind by a few statements. Those that they wait for come first.

    Args:
        session: open transaction.
        kind: what they produce.
        specs: everything that decides each result.
        depends_on: for each spec the runs that must succeed first; none given: no run waits for another.
        lost: what `lost_runs` found; other succeeded runs are taken to have their artifacts.
        priority: of new runs; those that are there already are raised to it.

    Returns:
        Ids, in the order of the specs.
    """
    lock_events(session)  # nobody else inserts a run between the question and the answer
    keys = [content_key(spec) for spec in specs]
    found = {str(row.idempotency_key): row for row in _rows_of(session, kind, keys)}
    new = {key: place for place, key in enumerate(keys) if key not in found}
    CONTENT_RUNS.labels(kind, "miss").inc(len(new))
    CONTENT_RUNS.labels(kind, "hit").inc(len(keys) - len(new))
    ids = {key: row.id for key, row in found.items()}
    ids |= _insert(session, kind, {key: specs[place] for key, place in new.items()}, priority)
    if depends_on:
        _insert_dependencies(session, {ids[key]: depends_on[place] for key, place in new.items()})
    for state in (*ENDED_BADLY, RunState.SUCCEEDED):
        ended = [row.id for row in found.values() if row.state == state]
        requeue_all(session, ended if state in ENDED_BADLY else lost & set(ended), state)
    _raise_priority(session, [row.id for row in found.values() if row.priority < priority], priority)
    return [ids[key] for key in keys]


def _rows_of(session: Session, kind: RunKind, keys: Iterable[str]) -> list[RunRow]:
    """The runs that have these keys, as they are in the database now."""
    query = select(RunRow).where(RunRow.kind == kind).execution_options(populate_existing=True)
    return [
        row
        for some in in_parts(keys)
        for row in session.execute(query.where(RunRow.idempotency_key.in_(some))).scalars()
    ]


def _insert(session: Session, kind: RunKind, specs: Mapping[str, Contract], priority: int) -> dict[str, str]:
    """Queue a run for each spec under its key, and tell of it; the ids by key."""
    now = utc_now(session)
    common = {"kind": kind, "created_at": now, "traceparent": current_traceparent()}
    rows: list[dict[str, Any]] = []
    for key, spec in specs.items():
        values = spec.model_dump(mode="json")
        identity = {"id": new_run_id(kind), "idempotency_key": key, "request_digest": request_digest(values)}
        rows.append(common | identity | {"state": RunState.QUEUED, "spec": values, "priority": priority})
    if rows:
        session.execute(insert(RunRow), rows)
        append_events(session, "state", [(row["id"], kind, {"state": RunState.QUEUED}) for row in rows])
    return {row["idempotency_key"]: row["id"] for row in rows}


def _insert_dependencies(session: Session, needed_by: Mapping[str, Sequence[str]]) -> None:
    rows = [{"run_id": run_id, "depends_on": other} for run_id, others in needed_by.items() for other in others]
    if rows:
        session.execute(insert(DependencyRow), rows)


def _raise_priority(session: Session, run_ids: Iterable[str], priority: int) -> None:
    for some in in_parts(run_ids):
        session.execute(
            update(RunRow)
            .where(RunRow.id.in_(some))
            .values(priority=priority)
            .execution_options(synchronize_session=False)
        )


def keep_requested(session: Session, row: RunRow) -> RunRow:
    """Note that somebody asked for a shared run by itself: no cancel of a run that needs it ends it."""
    if not row.is_requested:
        lock_events(session)
        row.is_requested = True
        session.flush()
    return row


def revive(session: Session, row: RunRow, store: Store) -> RunRow:
    """Queue a run again that failed, was cancelled or lost its artifact, and what it depends on before it."""
    if row.state in (RunState.RUNNING, RunState.CANCELLING):
        return row
    if row.state == RunState.SUCCEEDED and row.artifact is not None and store.has_artifact(row.artifact):
        return row
    for needed in dependencies(session, row.id):
        # What a queued run reads is checked when it reads it; to look into the store here would hold locks meanwhile.
        if row.state != RunState.QUEUED or needed.state in ENDED_BADLY:
            revive(session, needed, store)
    if row.state == RunState.QUEUED:
        return row
    return requeue(session, row.id, RunKind(row.kind), is_lost=row.state == RunState.SUCCEEDED)
