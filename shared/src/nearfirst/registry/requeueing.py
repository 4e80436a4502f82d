"""Queueing runs again that have ended: resumed, needed again, or with their artifact lost."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy.orm import Session

from nearfirst.contracts.problems import StateConflict
from nearfirst.contracts.runs import RunKind, RunState
from nearfirst.registry.database import in_parts
from nearfirst.registry.models import RunRow
from nearfirst.registry.runs import get, transition, transition_all

_AGAIN: dict[str, Any] = {
    "error": None,
    "finished_at": None,
    "num_lost_leases": 0,
    "num_crashes": 0,
    "setbacks": [],
    "dispatched_at": None,
    "num_dispatches": 0,
    "is_held": False,
}
"""Columns of a run that begins anew."""


def requeue(session: Session, run_id: str, kind: RunKind, *, is_lost: bool = False) -> RunRow:
    """Queue a failed or cancelled run again, or a succeeded one whose artifact is lost.

    Raises:
        NotFound: no such run.
        StateConflict: it is queued, running or has succeeded.
    """
    get(session, run_id, kind)
    lost = [RunState.SUCCEEDED] if is_lost else []
    for source in (RunState.FAILED, RunState.CANCELLED, *lost):
        row = transition(session, run_id, RunState.QUEUED, only_from=source, **_AGAIN)
        if row is not None:
            return row
    raise StateConflict(f"{run_id} can't be resumed: it is {get(session, run_id).state}, wanted failed or cancelled")


def requeue_all(session: Session, run_ids: Iterable[str], source: RunState) -> None:
    """Queue those of some runs again that are in a state: failed, cancelled, or succeeded with a lost artifact."""
    for part in in_parts(run_ids):
        transition_all(session, RunState.QUEUED, [RunRow.id.in_(part)], only_from=source, **_AGAIN)
