"""Runs of a registry as its tests make, claim and end them."""

from datetime import timedelta

from sqlalchemy import update

from nearfirst.contracts.problems import Problem
from nearfirst.contracts.runs import RunKind, RunState
from nearfirst.registry import runs
from nearfirst.registry.database import Database, utc_now
from nearfirst.registry.models import RunRow
from nearfirst.registry.runs import Claim

ARRANGEMENT = RunKind.ARRANGEMENT
PROBLEM = Problem(title="Broken", status=500, code="broken", detail="it broke")


def new_run(database: Database, *, key: str | None = None, depends_on: tuple[str, ...] = ()) -> str:
    with database.write() as session:
        row, _ = runs.create(session, ARRANGEMENT, {"n": 1}, idempotency_key=key, depends_on=depends_on)
        return row.id


def state_of(database: Database, run_id: str) -> str:
    with database.read() as session:
        return runs.get(session, run_id).state


def claim(database: Database, run_id: str, owner: str = "w1", lease_s: float = 30) -> Claim | None:
    with database.write() as session:
        return runs.claim(session, run_id, owner, lease_s)


def claimed(database: Database, run_id: str) -> Claim:
    taken = claim(database, run_id)
    assert taken is not None
    return taken


def expire_lease(database: Database, run_id: str) -> None:
    with database.write() as session:
        past = utc_now(session) - timedelta(seconds=1)
        session.execute(update(RunRow).where(RunRow.id == run_id).values(lease_expires_at=past))


def finish(database: Database, claimed_run: Claim) -> RunState:
    with database.write() as session:
        return runs.finish(session, claimed_run, result={"ok": True}, artifact="sha256:00")
