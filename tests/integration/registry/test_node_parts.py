"""Parts of a run on several machines: who has which, for how long, and how they ended."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from nearfirst.contracts.nodes import NodePart, PartOutcome, PartState
from nearfirst.contracts.progress import Fenced
from nearfirst.contracts.runs import RunKind
from nearfirst.contracts.workers import GroupNode, WorkerAnnouncement
from nearfirst.registry import node_parts, runs, sweep, workers
from nearfirst.registry.database import Database, utc_now
from nearfirst.registry.models import RunRow, WorkerRow
from nearfirst.registry.node_parts import NodeLost
from nearfirst.registry.runs import Claim

LEASE_S = 30.0
DIGEST = f"sha256:{'0' * 64}"


def follower(database: Database, worker_id: str, index: int, group: str = "big") -> None:
    announcement = WorkerAnnouncement(
        id=worker_id,
        host=worker_id.split("/")[0],
        kinds=[],
        queues=[],
        num_cpus=1,
        cpu_jobs=0,
        node=GroupNode(group=group, index=index, num_nodes=3, num_gpus=0),
    )
    with database.write() as session:
        workers.announce(session, announcement, [])


def part(index: int) -> NodePart:
    return NodePart(index=index, num_nodes=3, num_ranks=1, endpoint="a:1", rendezvous_id="job.1", timeout_s=60)


def claim(database: Database, run_id: str | None = None) -> Claim:
    with database.write() as session:
        if run_id is None:
            run_id = runs.create(session, RunKind.TRAIN_JOB, {"seed": 7})[0].id
        claimed = runs.claim(session, run_id, "leader", LEASE_S)
    assert claimed is not None
    return claimed


def ask(database: Database, claimed: Claim) -> None:
    with database.write() as session:
        node_parts.ask_followers(session, claimed, "big", [part(1), part(2)], DIGEST, LEASE_S)


def part_of(database: Database, worker_id: str) -> tuple[str, int, int] | None:
    with database.read() as session:
        found = node_parts.part_of_follower(session, worker_id)
    return None if found is None else (found.run_id, found.attempt, found.part.index)


@pytest.fixture
def claimed(database: Database) -> Claim:
    """A run on three machines whose followers `one` and `two` have been asked."""
    follower(database, "one/1", 1)
    follower(database, "two/1", 2)
    claimed = claim(database)
    ask(database, claimed)
    return claimed


def test_each_follower_finds_its_own_part_with_all_that_it_needs(database: Database, claimed: Claim) -> None:
    with database.read() as session:
        found = node_parts.part_of_follower(session, "two/1")
    assert found is not None
    assert (found.run_id, found.attempt, found.spec) == (claimed.run_id, 1, {"seed": 7})
    assert (found.part, found.job_digest) == (part(2), DIGEST)
    assert 0 < found.lease_left_s <= LEASE_S
    assert part_of(database, "three/1") is None


def test_the_newest_follower_of_a_machine_is_asked_and_those_of_other_groups_are_not(database: Database) -> None:
    for worker_id, index, group in (("one/1", 1, "big"), ("one/2", 1, "big"), ("two/1", 2, "big"), ("x/1", 1, "x")):
        follower(database, worker_id, index, group)
    ask(database, claim(database))
    assert part_of(database, "one/2") is not None
    assert part_of(database, "one/1") is None
    assert part_of(database, "x/1") is None


def test_a_group_without_a_machine_is_not_asked(database: Database) -> None:
    follower(database, "one/1", 1)
    claimed = claim(database)
    with pytest.raises(NodeLost, match="node 2 of group big isn't there"):
        ask(database, claimed)
    assert part_of(database, "one/1") is None


def test_a_follower_hears_of_a_lease_that_ran_out_and_may_yet_be_renewed(database: Database, claimed: Claim) -> None:
    with database.write() as session:
        past = utc_now(session) - timedelta(seconds=1)
        session.execute(update(RunRow).where(RunRow.id == claimed.run_id).values(lease_expires_at=past))
    with database.write() as session:
        found = node_parts.part_of_follower(session, "one/1")
        assert found is not None
        assert -10 < found.lease_left_s < 0
        runs.renew(session, claimed, LEASE_S)
        renewed = node_parts.part_of_follower(session, "one/1")
        assert renewed is not None
        assert 0 < renewed.lease_left_s <= LEASE_S


def test_a_part_is_over_when_the_run_is_cancelled_claimed_again_or_the_leader_says_so(
    database: Database, claimed: Claim
) -> None:
    with database.write() as session:
        runs.release(session, claimed)
    assert part_of(database, "one/1") is None
    second = claim(database, claimed.run_id)
    assert part_of(database, "one/1") is None
    ask(database, second)
    assert part_of(database, "one/1") == (claimed.run_id, 2, 1)
    with database.write() as session:
        node_parts.ask_for_the_end(session, claimed)  # of the first attempt
    assert part_of(database, "one/1") is not None
    with database.write() as session:
        node_parts.ask_for_the_end(session, second)
    assert part_of(database, "one/1") is None
    with database.write() as session:
        past = utc_now(session) - timedelta(seconds=1)
        session.execute(update(RunRow).where(RunRow.id == second.run_id).values(lease_expires_at=past))
        assert sweep.recover_lost_leases(session, max_lost_leases=9) == [second.run_id]
    assert part_of(database, "one/1") is None
    third = claim(database)
    ask(database, third)
    with database.write() as session:
        runs.request_cancel(session, third.run_id, RunKind.TRAIN_JOB)
    assert part_of(database, "one/1") is None


def test_a_leader_that_lost_its_lease_asks_nobody(database: Database, claimed: Claim) -> None:
    with database.write() as session:
        runs.release(session, claimed)
    claim(database, claimed.run_id)
    with pytest.raises(Fenced):
        ask(database, claimed)


def test_the_leader_sees_who_has_reported_and_who_vanished(database: Database, claimed: Claim) -> None:
    outcome = PartOutcome(state=PartState.FAILED, code="out_of_memory", detail="step 3")
    with database.write() as session:
        found = node_parts.part_of_follower(session, "one/1")
        assert found is not None
        node_parts.report_part(session, "one/1", found, outcome)
        past = utc_now(session) - timedelta(seconds=LEASE_S + 1)
        session.execute(update(WorkerRow).where(WorkerRow.id == "two/1").values(last_seen_at=past))
    assert part_of(database, "one/1") is None
    with database.read() as session:
        statuses = node_parts.followers_of(session, claimed, LEASE_S)
    assert [(s.index, s.host, s.is_alive, s.outcome) for s in statuses] == [
        (1, "one", True, outcome),
        (2, "two", False, None),
    ]
    with database.write() as session:
        workers.forget(session, "one/1")
        assert [s.is_alive for s in node_parts.followers_of(session, claimed, LEASE_S)] == [False, False]
        node_parts.forget_parts(session, claimed)
        assert node_parts.followers_of(session, claimed, LEASE_S) == []


def test_a_report_of_an_earlier_attempt_changes_nothing(database: Database, claimed: Claim) -> None:
    with database.read() as session:
        earlier = node_parts.part_of_follower(session, "one/1")
    assert earlier is not None
    with database.write() as session:
        runs.release(session, claimed)
    second = claim(database, claimed.run_id)
    ask(database, second)
    with database.write() as session:
        node_parts.report_part(session, "one/1", earlier, PartOutcome(state=PartState.DIED))
        assert [s.outcome for s in node_parts.followers_of(session, second, LEASE_S)] == [None, None]
