"""A worker that makes up the attempt that it claimed, or comes with one that was taken from it, changes nothing."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from nearfirst.contracts.problems import Problem
from nearfirst.contracts.progress import Fenced
from nearfirst.contracts.runs import RunKind
from nearfirst.contracts.training import Checkpoint, CheckpointTier, MetricRow
from nearfirst.registry import records, runs, setbacks
from nearfirst.registry.database import Database, utc_now
from nearfirst.registry.models import Base, RunRow
from nearfirst.registry.runs import Claim
from nearfirst.registry.sweep import recover_lost_leases

PROBLEM = Problem(title="Forged", status=500, detail="forged", code="forged")
KEPT = Checkpoint(
    step=1,
    tier=CheckpointTier.STATE,
    path="/runs/of-the-holder/state-1",
    size_bytes=1,
    digest="sha256:1",
    receipt_head="sha256:2",
)
FORGED = KEPT.model_copy(update={"step": 2, "path": "/runs/forged"})
WRITES: dict[str, Callable[[Session, Claim], object]] = {
    "heartbeat": lambda session, claim: runs.renew(session, claim, 3600),
    "finish": lambda session, claim: runs.finish(session, claim, result={"forged": True}, artifact="sha256:0"),
    "fail": lambda session, claim: runs.fail(session, claim, PROBLEM),
    "crash": lambda session, claim: setbacks.crashed(session, claim, PROBLEM, max_crashes=3),
    "last crash": lambda session, claim: setbacks.crashed(session, claim, PROBLEM, max_crashes=0),
    "confirm cancelled": runs.confirm_cancelled,
    "progress": lambda session, claim: runs.record_progress(session, claim, done=1, total=2, unit="steps", eta_s=None),
    "metrics": lambda session, claim: records.record_metrics(
        session, claim, [MetricRow(step=1, name="test_loss", value=0.0)]
    ),
    "checkpoint": lambda session, claim: records.record_checkpoint(session, claim, FORGED, is_progress=True),
    "another's checkpoint": lambda session, claim: records.record_checkpoint(
        session, claim, KEPT.model_copy(update={"path": "/runs/forged"}), is_progress=False
    ),
    "forget a checkpoint": lambda session, claim: records.forget_checkpoint(session, claim, 1, CheckpointTier.STATE),
    "forget later steps": lambda session, claim: records.forget_after(session, claim, 0),
    "log lines": lambda session, claim: records.append_log(session, claim, ["forged"]),
}


def held_at_second_attempt(database: Database, kind: RunKind) -> Claim:
    """A run that its second holder has told something of."""
    with database.write() as session:
        row, _ = runs.create(session, kind, {"a": 1})
    for _ in range(2):
        with database.write() as session:
            claim = runs.claim(session, row.id, "somebody", lease_s=60)
            assert claim is not None
            if claim.attempt == 1:
                runs.release(session, claim)
    with database.write() as session:
        records.record_checkpoint(session, claim, KEPT, is_progress=False)
        records.record_metrics(session, claim, [MetricRow(step=1, name="test_loss", value=2.5)])
    return claim


@pytest.mark.parametrize("forged_by", [-1, 1_000_000], ids=["stale", "invented"])
@pytest.mark.parametrize("kind", [RunKind.TRAIN_JOB, RunKind.REWARD], ids=["a training", "a unit of an evaluation"])
def test_a_forged_fencing_token_writes_nothing(
    database: Database, kind: RunKind, forged_by: int, subtests: pytest.Subtests
) -> None:
    claim = held_at_second_attempt(database, kind)
    forged = replace(claim, attempt=claim.attempt + forged_by)
    before = _everything(database)
    for name, write in WRITES.items():
        with subtests.test(name):
            with pytest.raises(Fenced), database.write() as session:
                write(session, forged)
            assert _everything(database) == before


def test_a_token_whose_lease_was_taken_back_writes_nothing_though_nobody_has_claimed_since(
    database: Database, subtests: pytest.Subtests
) -> None:
    claim = held_at_second_attempt(database, RunKind.TRAIN_JOB)
    with database.write() as session:
        past = utc_now(session) - timedelta(seconds=1)
        session.execute(update(RunRow).where(RunRow.id == claim.run_id).values(lease_expires_at=past))
        assert recover_lost_leases(session, max_lost_leases=3) == [claim.run_id]
    before = _everything(database)
    for name, write in WRITES.items():
        with subtests.test(name):
            with pytest.raises(Fenced), database.write() as session:
                write(session, claim)
            assert _everything(database) == before


def test_a_made_up_fencing_token_gives_nothing_back(database: Database) -> None:
    claim = held_at_second_attempt(database, RunKind.TRAIN_JOB)
    before = _everything(database)
    with database.write() as session:
        runs.release(session, replace(claim, attempt=claim.attempt + 1))
    assert _everything(database) == before


def _everything(database: Database) -> dict[str, list[object]]:
    with database.read() as session:
        return {name: list(session.execute(select(table)).all()) for name, table in Base.metadata.tables.items()}
