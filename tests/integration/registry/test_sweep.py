"""What the sweeper decides: whose lease is lost, what is sent and sent again, what can never start."""

from datetime import timedelta

from tests.support.runs import ARRANGEMENT, PROBLEM, claim, claimed, expire_lease, finish, new_run, state_of

from nearfirst.contracts.runs import RunState
from nearfirst.registry import runs, sweep
from nearfirst.registry.database import Database, utc_now
from nearfirst.registry.dependencies import unfinished_dependencies


def test_a_run_that_loses_too_many_workers_fails_with_the_reason(database: Database) -> None:
    run_id = new_run(database)
    for _ in range(3):
        claimed(database, run_id)
        expire_lease(database, run_id)
        with database.write() as session:
            sweep.recover_lost_leases(session, max_lost_leases=2)
    with database.read() as session:
        row = runs.get(session, run_id)
    assert row.state == "failed"
    assert row.error is not None
    assert row.error["code"] == "lease_lost"
    assert "3 times" in row.error["detail"]


def test_a_cancelled_run_whose_worker_vanished_ends_as_cancelled(database: Database) -> None:
    run_id = new_run(database)
    claimed(database, run_id)
    with database.write() as session:
        runs.request_cancel(session, run_id, ARRANGEMENT)
    expire_lease(database, run_id)
    with database.write() as session:
        sweep.recover_lost_leases(session, max_lost_leases=3)
    assert state_of(database, run_id) == "cancelled"


def test_a_lease_that_is_renewed_is_not_taken_over(database: Database) -> None:
    run_id = new_run(database)
    held = claimed(database, run_id)
    expire_lease(database, run_id)
    with database.write() as session:
        assert runs.renew(session, held, 30) is RunState.RUNNING
        assert sweep.recover_lost_leases(session, max_lost_leases=3) == []


def test_a_run_waits_for_what_it_depends_on(database: Database) -> None:
    first = new_run(database)
    second = new_run(database, depends_on=(first,))
    assert claim(database, second) is None
    with database.write() as session:
        assert [d.run_id for d in sweep.take_deliveries(session, 10)] == [first]
        assert unfinished_dependencies(session, second) == [first]
    finish(database, claimed(database, first))
    with database.write() as session:
        assert [d.run_id for d in sweep.take_deliveries(session, 10)] == [second]
    assert claim(database, second) is not None


def test_a_run_whose_dependency_failed_fails_with_its_reason(database: Database) -> None:
    first = new_run(database)
    second = new_run(database, depends_on=(first,))
    held = claimed(database, first)
    with database.write() as session:
        runs.fail(session, held, PROBLEM)
        assert sweep.fail_orphans(session) == [second]
    with database.read() as session:
        row = runs.get(session, second)
    assert row.error is not None
    assert (row.error["code"], row.error["detail"]) == (
        "dependency_failed",
        f"it waits for {first}, which has failed: it broke",
    )


def test_an_unclaimed_run_is_sent_again_later_and_later(database: Database) -> None:
    run_id = new_run(database)

    def sent_after(seconds: float) -> bool:
        with database.write() as session:
            row = runs.get(session, run_id)
            if row.dispatched_at is not None:
                row.dispatched_at = utc_now(session) - timedelta(seconds=seconds)
            session.flush()
            return bool(sweep.take_deliveries(session, redeliver_s=10))

    assert sent_after(0)
    assert [sent_after(9), sent_after(11)] == [False, True]
    assert [sent_after(11), sent_after(21)] == [False, True]
    assert [sent_after(39), sent_after(41)] == [False, True]


def test_a_released_run_is_due_at_once(database: Database) -> None:
    run_id = new_run(database)
    with database.write() as session:
        sweep.take_deliveries(session, 10)
    held = claimed(database, run_id)
    with database.write() as session:
        runs.release(session, held)
        assert [d.run_id for d in sweep.take_deliveries(session, 10)] == [run_id]
    assert claimed(database, run_id).attempt == 2
