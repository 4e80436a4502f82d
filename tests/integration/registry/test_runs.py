"""The life of a run: made once for a key, claimed by one worker, ended once, and who is fenced from it."""

import threading

import pytest
from tests.support.runs import ARRANGEMENT, PROBLEM, claim, claimed, expire_lease, finish, new_run, state_of

from nearfirst.contracts.problems import IdempotencyConflict, NotFound, StateConflict
from nearfirst.contracts.progress import Fenced
from nearfirst.contracts.runs import RunKind, RunState
from nearfirst.contracts.training import MetricRow
from nearfirst.registry import records, runs, sweep
from nearfirst.registry.database import Database
from nearfirst.registry.requeueing import requeue
from nearfirst.registry.runs import Claim


def test_the_same_key_gives_the_same_run_and_another_body_under_it_is_refused(database: Database) -> None:
    first = new_run(database, key="k")
    assert new_run(database, key="k") == first
    with database.write() as session, pytest.raises(IdempotencyConflict, match="'k'"):
        runs.create(session, ARRANGEMENT, {"n": 2}, idempotency_key="k")


def test_runs_without_a_key_are_all_different(database: Database) -> None:
    assert new_run(database) != new_run(database)


def test_concurrent_creates_with_one_key_make_one_run(database: Database) -> None:
    ids: list[str] = []
    threads = [threading.Thread(target=lambda: ids.append(new_run(database, key="k"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8
    assert len(set(ids)) == 1


def test_of_many_concurrent_claims_one_wins(database: Database) -> None:
    run_id = new_run(database)
    won: list[Claim | None] = []
    threads = [threading.Thread(target=lambda: won.append(claim(database, run_id))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 8
    assert [c.attempt for c in won if c] == [1]


def test_a_finished_run_keeps_its_result_and_can_not_be_claimed_again(database: Database) -> None:
    run_id = new_run(database)
    assert finish(database, claimed(database, run_id)) is RunState.SUCCEEDED
    assert claim(database, run_id) is None
    with database.read() as session:
        row = runs.get(session, run_id)
    assert (row.state, row.result, row.artifact) == ("succeeded", {"ok": True}, "sha256:00")
    assert row.lease_owner is None
    assert row.finished_at is not None


def test_a_worker_that_lost_its_lease_is_fenced_from_every_write(database: Database) -> None:
    run_id = new_run(database)
    old = claimed(database, run_id)
    expire_lease(database, run_id)
    with database.write() as session:
        assert sweep.recover_lost_leases(session, max_lost_leases=3) == [run_id]
    new = claimed(database, run_id)
    assert new.attempt == old.attempt + 1
    writes = [
        lambda session: runs.renew(session, old, 30),
        lambda session: runs.finish(session, old, result={}, artifact=None),
        lambda session: runs.fail(session, old, PROBLEM),
        lambda session: runs.confirm_cancelled(session, old),
        lambda session: runs.record_progress(session, old, done=1, total=2, unit="rows", eta_s=None),
        lambda session: records.record_metrics(session, old, [MetricRow(step=1, name="loss", value=1.0)]),
        lambda session: records.append_log(session, old, ["line"]),
    ]
    for write in writes:
        with pytest.raises(Fenced), database.write() as session:
            write(session)
    with database.write() as session:
        runs.release(session, old)  # not an error, and without effect
    assert state_of(database, run_id) == "running"
    with database.read() as session:
        assert records.list_metrics(session, run_id, None, None, 10) == ([], None)
    assert finish(database, new) is RunState.SUCCEEDED


def test_cancelling_a_queued_run_ends_it_and_a_running_one_tells_its_worker(database: Database) -> None:
    queued, running = new_run(database), new_run(database)
    held = claimed(database, running)
    with database.write() as session:
        assert runs.request_cancel(session, queued, ARRANGEMENT).state == "cancelled"
        assert runs.request_cancel(session, running, ARRANGEMENT).state == "cancelling"
    with database.write() as session:
        assert runs.renew(session, held, 30) is RunState.CANCELLING
        assert runs.confirm_cancelled(session, held) is RunState.CANCELLED
    assert claim(database, queued) is None


def test_work_that_ends_while_it_is_being_cancelled_ends_as_cancelled(database: Database) -> None:
    run_id = new_run(database)
    held = claimed(database, run_id)
    with database.write() as session:
        runs.request_cancel(session, run_id, ARRANGEMENT)
    assert finish(database, held) is RunState.CANCELLED


def test_what_has_ended_can_not_be_cancelled_and_what_runs_can_not_be_resumed(database: Database) -> None:
    run_id = new_run(database)
    held = claimed(database, run_id)
    with database.write() as session, pytest.raises(StateConflict, match="running"):
        requeue(session, run_id, ARRANGEMENT)
    finish(database, held)
    with database.write() as session, pytest.raises(StateConflict, match="succeeded"):
        runs.request_cancel(session, run_id, ARRANGEMENT)


def test_a_failed_run_can_be_queued_again_and_forgets_its_error(database: Database) -> None:
    run_id = new_run(database)
    held = claimed(database, run_id)
    with database.write() as session:
        runs.fail(session, held, PROBLEM)
    with database.write() as session:
        requeue(session, run_id, ARRANGEMENT)
    again = claimed(database, run_id)
    assert again.attempt == 2
    with database.read() as session:
        assert runs.get(session, run_id).error is None


def test_transactions_that_change_several_runs_do_not_wait_for_each_other_for_ever(database: Database) -> None:
    failures: list[Exception] = []

    def work(number: int) -> None:
        try:
            for turn in range(15):
                with database.write() as session:
                    for key in ("a", "b") if number % 2 else ("b", "a"):
                        runs.create(session, ARRANGEMENT, {"n": turn}, idempotency_key=f"{key}{turn}")
                run_id = new_run(database)
                held = claimed(database, run_id)
                with database.write() as session:
                    runs.finish(session, held, result={}, artifact=None)
                    sweep.take_deliveries(session, 0)
                with database.write() as session:
                    sweep.recover_lost_leases(session, 3)
                    sweep.take_deliveries(session, 0)
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_an_id_of_another_kind_is_not_found(database: Database) -> None:
    run_id = new_run(database)
    with database.read() as session, pytest.raises(NotFound, match=run_id):
        runs.get(session, run_id, RunKind.TRAIN_JOB)
