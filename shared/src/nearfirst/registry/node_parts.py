"""Runs on several machines: what a leader asks of its followers, and what they answer.

A follower holds no lease of its own: its part is good for as long as the leader's lease on the attempt. So whoever
takes the run over never meets a process of the attempt before.
"""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import ColumnElement, and_, delete, select, update
from sqlalchemy.orm import Session

from nearfirst.contracts.nodes import FollowerPart, FollowerStatus, NodePart, PartOutcome
from nearfirst.contracts.problems import Crashed
from nearfirst.contracts.runs import RunState
from nearfirst.contracts.workers import Worker
from nearfirst.registry.database import utc_now
from nearfirst.registry.models import NodePartRow, RunRow, WorkerRow
from nearfirst.registry.runs import Claim, assert_held
from nearfirst.registry.workers import live_workers


class NodeLost(Crashed):
    """A machine of a run's group vanished, or couldn't do its part."""

    code = "node_lost"
    title = "Machine lost"


def ask_followers(
    session: Session, claimed: Claim, group: str, parts: Sequence[NodePart], job_digest: str, alive_s: float
) -> None:
    """Ask the live followers of a group for their parts of a claimed run.

    Raises:
        Fenced: the run belongs to somebody else now.
        NodeLost: a machine has no live follower.
    """
    assert_held(session, claimed)
    session.execute(delete(NodePartRow).where(NodePartRow.run_id == claimed.run_id))  # of earlier attempts
    followers = _followers(live_workers(session, alive_s), group)
    for part in parts:
        follower = followers.get(part.index)
        if follower is None:
            raise NodeLost(f"node {part.index} of group {group} isn't there")
        session.add(
            NodePartRow(
                run_id=claimed.run_id,
                node=part.index,
                attempt=claimed.attempt,
                worker_id=follower.id,
                host=follower.host,
                part=part.model_dump(mode="json"),
                job_digest=job_digest,
            )
        )


def _followers(live: Sequence[Worker], group: str) -> dict[int, Worker]:
    """The newest of each machine."""
    return {worker.node.index: worker for worker in live if worker.node is not None and worker.node.group == group}


def followers_of(session: Session, claimed: Claim, alive_s: float) -> list[FollowerStatus]:
    """How the followers of an attempt are, by machine."""
    seen_since = utc_now(session) - timedelta(seconds=alive_s)
    query = (
        select(NodePartRow, WorkerRow.last_seen_at)
        .outerjoin(WorkerRow, WorkerRow.id == NodePartRow.worker_id)
        .where(NodePartRow.run_id == claimed.run_id, NodePartRow.attempt == claimed.attempt)
        .order_by(NodePartRow.node)
    )
    return [
        FollowerStatus(
            index=row.node,
            host=row.host,
            is_alive=last_seen_at is not None and last_seen_at >= seen_since,
            outcome=None if row.outcome is None else PartOutcome.model_validate(row.outcome),
        )
        for row, last_seen_at in session.execute(query).all()
    ]


def ask_for_the_end(session: Session, claimed: Claim) -> None:
    """Ask the followers of an attempt to end what they still have of it."""
    session.execute(update(NodePartRow).where(*_of_attempt(claimed)).values(is_over=True))


def forget_parts(session: Session, claimed: Claim) -> None:
    """The attempt is over, and its followers have nothing left of it."""
    session.execute(delete(NodePartRow).where(*_of_attempt(claimed)))


def _of_attempt(claimed: Claim) -> list[ColumnElement[bool]]:
    return [NodePartRow.run_id == claimed.run_id, NodePartRow.attempt == claimed.attempt]


def part_of_follower(session: Session, worker_id: str) -> FollowerPart | None:
    """What a follower has to do now; None: nothing, or what it did is over.

    A part is over when its leader says so, when the run was cancelled, and when the run was taken from its leader.
    """
    good = and_(
        RunRow.id == NodePartRow.run_id,
        RunRow.attempt == NodePartRow.attempt,
        RunRow.state == RunState.RUNNING,
        RunRow.lease_expires_at.is_not(None),
    )
    query = (
        select(NodePartRow, RunRow.spec, RunRow.lease_expires_at)
        .join(RunRow, good)
        .where(NodePartRow.worker_id == worker_id, NodePartRow.is_over.is_(False), NodePartRow.outcome.is_(None))
        .limit(1)
    )
    found = session.execute(query).first()
    if found is None:
        return None
    row, spec, expires_at = found
    return FollowerPart(
        run_id=row.run_id,
        attempt=row.attempt,
        spec=spec,
        part=NodePart.model_validate(row.part),
        job_digest=row.job_digest,
        lease_left_s=(expires_at - utc_now(session)).total_seconds(),
    )


def report_part(session: Session, worker_id: str, part: FollowerPart, outcome: PartOutcome) -> None:
    """Say how a part ended, all of whose processes are gone; nothing when nobody waits for it any more."""
    session.execute(
        update(NodePartRow)
        .where(
            NodePartRow.run_id == part.run_id,
            NodePartRow.attempt == part.attempt,
            NodePartRow.worker_id == worker_id,
        )
        .values(outcome=outcome.model_dump(mode="json"))
    )
