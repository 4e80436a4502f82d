"""Attempts that came to nothing are counted, and the run that has too many says what happened each time."""

from nearfirst.contracts.problems import Problem
from nearfirst.contracts.runs import RunKind, RunState
from nearfirst.contracts.training import Checkpoint, CheckpointTier
from nearfirst.registry import records, runs, setbacks, sweep
from nearfirst.registry.database import Database
from nearfirst.registry.models import RunRow
from nearfirst.registry.requeueing import requeue
from nearfirst.registry.runs import Claim

JOB = RunKind.TRAIN_JOB
STATE = Checkpoint(step=4, tier=CheckpointTier.STATE, path="p", size_bytes=1, digest="sha256:00", receipt_head="00")


def new_job(database: Database) -> str:
    with database.write() as session:
        return runs.create(session, JOB, {})[0].id


def take(database: Database, run_id: str, lease_s: float = 30) -> Claim:
    with database.write() as session:
        taken = runs.claim(session, run_id, "w1", lease_s)
    assert taken is not None
    return taken


def crash(database: Database, held: Claim, what: str, max_crashes: int = 2) -> RunState:
    problem = Problem(title="Hung", status=500, code="training_hung", detail=what)
    with database.write() as session:
        return setbacks.crashed(session, held, problem, max_crashes)


def row_of(database: Database, run_id: str) -> RunRow:
    with database.read() as session:
        return runs.get(session, run_id)


def test_a_crashed_run_is_queued_again_and_due_at_once(database: Database) -> None:
    run_id = new_job(database)
    with database.write() as session:
        sweep.take_deliveries(session, 10)
    assert crash(database, take(database, run_id), "it hung") is RunState.QUEUED
    with database.write() as session:
        assert [delivery.run_id for delivery in sweep.take_deliveries(session, 10)] == [run_id]
    assert take(database, run_id).attempt == 2


def test_a_run_that_crashes_too_often_fails_and_names_what_happened_each_time(database: Database) -> None:
    run_id = new_job(database)
    assert crash(database, take(database, run_id), "it hung") is RunState.QUEUED
    take(database, run_id, lease_s=-1)
    with database.write() as session:
        assert sweep.recover_lost_leases(session, max_lost_leases=3) == [run_id]
    assert crash(database, take(database, run_id), "rank 1 was killed") is RunState.QUEUED
    assert crash(database, take(database, run_id), "it hung again") is RunState.FAILED
    error = row_of(database, run_id).error
    assert error is not None
    assert error["code"] == "training_hung"
    assert error["detail"] == (
        "its process hung or vanished 3 times, the limit is 2: attempt 1: it hung; attempt 2: its worker w1 vanished; "
        "attempt 3: rank 1 was killed; attempt 4: it hung again"
    )


def test_a_new_state_checkpoint_starts_the_count_again_and_one_that_was_known_does_not(database: Database) -> None:
    run_id = new_job(database)
    crash(database, take(database, run_id), "it hung")
    held = take(database, run_id)
    with database.write() as session:
        records.record_checkpoint(session, held, STATE, is_progress=False)
    assert row_of(database, run_id).num_crashes == 1
    with database.write() as session:
        records.record_checkpoint(session, held, STATE, is_progress=True)
    row = row_of(database, run_id)
    assert (row.num_crashes, row.num_lost_leases, row.setbacks) == (0, 0, [])


def test_a_run_that_crashes_while_it_is_being_cancelled_ends_as_cancelled(database: Database) -> None:
    run_id = new_job(database)
    held = take(database, run_id)
    with database.write() as session:
        runs.request_cancel(session, run_id, JOB)
    assert crash(database, held, "it hung") is RunState.CANCELLED


def test_a_run_that_is_resumed_by_its_user_begins_without_setbacks(database: Database) -> None:
    run_id = new_job(database)
    assert crash(database, take(database, run_id), "it hung", max_crashes=0) is RunState.FAILED
    with database.write() as session:
        requeue(session, run_id, JOB)
    row = row_of(database, run_id)
    assert (row.num_crashes, row.setbacks, row.error) == (0, [], None)
