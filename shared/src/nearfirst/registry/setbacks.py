"""Attempts that came to nothing: counted, remembered with what happened, and bounded."""

from typing import Any

from sqlalchemy.orm import Session

from nearfirst.contracts.problems import Problem
from nearfirst.contracts.runs import RunState
from nearfirst.registry.database import utc_now
from nearfirst.registry.models import RunRow
from nearfirst.registry.runs import Claim, confirm_cancelled, get, transition

NO_SETBACKS: dict[str, Any] = {"num_lost_leases": 0, "num_crashes": 0, "setbacks": []}
"""Columns of a run that has got somewhere."""
TRY_AGAIN: dict[str, Any] = {"lease_owner": None, "lease_expires_at": None, "dispatched_at": None, "num_dispatches": 0}
"""Columns of a run that goes back to the queue and is due at once."""


def with_setback(row: RunRow, what: str) -> list[str]:
    """A run's setbacks and what happened to its current attempt."""
    return [*row.setbacks, f"attempt {row.attempt}: {what}"]


def crashed(session: Session, claimed: Claim, problem: Problem, max_crashes: int) -> RunState:
    """The work of a claimed run hung or vanished: queue the run again, or fail it when that happened too often.

    Args:
        session: open transaction.
        claimed: the worker's claim.
        problem: what happened this time.
        max_crashes: how often it may happen without a new state checkpoint in between.

    Returns:
        The run's state now.

    Raises:
        Fenced: the run belongs to somebody else now.
    """
    row = get(session, claimed.run_id)
    num_crashes, setbacks = row.num_crashes + 1, with_setback(row, problem.detail)
    values: dict[str, Any] = {"num_crashes": num_crashes, "setbacks": setbacks}
    if num_crashes <= max_crashes:
        changed = transition(
            session,
            claimed.run_id,
            RunState.QUEUED,
            fence=claimed.attempt,
            only_from=RunState.RUNNING,
            **values,
            **TRY_AGAIN,
        )
        return RunState.QUEUED if changed else confirm_cancelled(session, claimed)
    detail = f"its process hung or vanished {num_crashes} times, the limit is {max_crashes}: {'; '.join(setbacks)}"
    changed = transition(
        session,
        claimed.run_id,
        RunState.FAILED,
        fence=claimed.attempt,
        only_from=RunState.RUNNING,
        finished_at=utc_now(session),
        error=problem.model_copy(update={"detail": detail}).model_dump(mode="json", exclude={"type"}),
        lease_owner=None,
        lease_expires_at=None,
        **values,
    )
    return RunState.FAILED if changed else confirm_cancelled(session, claimed)
