"""Cancelling: a run ends, and with it what was made for it alone and nobody else needs.

Embedding runs, their shards, candidate runs and units of evaluations are shared: they end when the last run that needs
them is cancelled. Somebody may come to need one while it ends; the sweeper queues it again then.
"""

from collections.abc import Iterable

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from nearfirst.contracts.runs import SHARED_KINDS, RunKind, RunState
from nearfirst.registry import runs
from nearfirst.registry.database import in_parts
from nearfirst.registry.dependencies import dependency_ids, is_needed
from nearfirst.registry.events import lock_events
from nearfirst.registry.models import RunRow
from nearfirst.registry.requeueing import requeue_all


def cancel(session: Session, run_id: str, kind: RunKind) -> RunRow:
    """Cancel a queued run now, or ask the worker of a running one to end it; the same for what only it needed.

    Raises:
        NotFound: no such run.
        StateConflict: it has ended already.
    """
    row = runs.request_cancel(session, run_id, kind)
    end_unneeded(session, dependency_ids(session, [run_id]))
    return row


def end_unneeded(session: Session, run_ids: Iterable[str]) -> None:
    """End those of some runs that nobody needs any more, and what only they waited for."""
    unneeded = (RunRow.kind.in_(SHARED_KINDS), RunRow.is_requested.is_(False), ~is_needed())
    candidates = list(run_ids)
    while candidates:
        ended: list[str] = []
        for part in in_parts(candidates):
            where = [RunRow.id.in_(part), *unneeded]
            ended += [row.id for row in runs.try_cancel_all(session, where)]
        candidates = dependency_ids(session, ended)


def revive_needed(session: Session) -> list[str]:
    """Queue shared runs again that were cancelled while somebody came to need them; returns their ids."""
    lock_events(session)  # so that no state changes between the question and the answer
    query = select(RunRow.id).where(
        RunRow.state == RunState.CANCELLED,
        RunRow.kind.in_(SHARED_KINDS),
        or_(RunRow.is_requested.is_(True), is_needed()),
    )
    revived = list(session.execute(query.order_by(RunRow.seq)).scalars())
    requeue_all(session, revived, RunState.CANCELLED)
    return revived
