import threading
from datetime import timedelta

import pytest
from sqlalchemy import update

from nearfirst.contracts.problems import IdempotencyConflict, NotFound, Problem, StateConflict
from nearfirst.contracts.progress import Fenced
from nearfirst.contracts.runs import RunKind, RunState
from nearfirst.contracts.training import Checkpoint, CheckpointTier, MetricRow
from nearfirst.registry import records, runs, sweep
from nearfirst.registry.database import Database, utc_now
from nearfirst.registry.dependencies import unfinished_dependencies
from nearfirst.registry.events import list_events
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


def test_a_lease_that_is_renewed_is_not_taken_over(database: Database) -> None:
    run_id = new_run(database)
    held = claimed(database, run_id)
    expire_lease(database, run_id)
    with database.write() as session:
        assert runs.renew(session, held, 30) is RunState.RUNNING
        assert sweep.recover_lost_leases(session, max_lost_leases=3) == []


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


def test_a_cancelled_run_whose_worker_vanished_ends_as_cancelled(database: Database) -> None:
    run_id = new_run(database)
    claimed(database, run_id)
    with database.write() as session:
        runs.request_cancel(session, run_id, ARRANGEMENT)
    expire_lease(database, run_id)
    with database.write() as session:
        sweep.recover_lost_leases(session, max_lost_leases=3)
    assert state_of(database, run_id) == "cancelled"


def test_what_has_ended_can_not_be_cancelled_and_what_runs_can_not_be_resumed(database: Database) -> None:
    run_id = new_run(database)
    held = claimed(database, run_id)
    with database.write() as session, pytest.raises(StateConflict, match="running"):
        runs.requeue(session, run_id, ARRANGEMENT)
    finish(database, held)
    with database.write() as session, pytest.raises(StateConflict, match="succeeded"):
        runs.request_cancel(session, run_id, ARRANGEMENT)


def test_a_failed_run_can_be_queued_again_and_forgets_its_error(database: Database) -> None:
    run_id = new_run(database)
    held = claimed(database, run_id)
    with database.write() as session:
        runs.fail(session, held, PROBLEM)
    with database.write() as session:
        runs.requeue(session, run_id, ARRANGEMENT)
    again = claimed(database, run_id)
    assert again.attempt == 2
    with database.read() as session:
        assert runs.get(session, run_id).error is None


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


def test_events_tell_each_change_once_and_in_order(database: Database) -> None:
    run_id = new_run(database)
    held = claimed(database, run_id)
    with database.write() as session:
        runs.record_progress(session, held, done=1, total=4, unit="rows", eta_s=3.0)
    finish(database, held)
    with database.read() as session:
        events = list_events(session, 0, run_id)
    seen = [(event.type, event.data.get("state"), event.data.get("done")) for event in events]
    assert seen == [
        ("state", "queued", None),
        ("state", "running", None),
        ("progress", None, 1),
        ("state", "succeeded", None),
    ]
    with database.read() as session:
        assert list_events(session, events[1].seq, run_id) == events[2:]


def test_a_reader_that_follows_sequence_numbers_misses_no_event_of_concurrent_writers(database: Database) -> None:
    ids = [new_run(database) for _ in range(4)]
    claims = [claimed(database, run_id) for run_id in ids]
    writing = threading.Event()
    writing.set()
    seen: list[int] = []

    def follow() -> None:
        after = 0
        while True:
            was_writing = writing.is_set()
            with database.read() as session:
                fresh = list_events(session, after, None)
            if fresh:
                after = fresh[-1].seq
                seen.extend(event.seq for event in fresh)
            elif not was_writing:
                return

    def write(held: Claim) -> None:
        for done in range(25):
            with database.write() as session:
                runs.record_progress(session, held, done=done, total=25, unit="rows", eta_s=None)

    reader = threading.Thread(target=follow)
    writers = [threading.Thread(target=write, args=(held,)) for held in claims]
    for thread in [reader, *writers]:
        thread.start()
    for thread in writers:
        thread.join()
    writing.clear()
    reader.join()
    assert len(seen) == len(set(seen)) == 4 + 4 + 100


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


def test_metrics_page_by_step_and_name_and_a_repeated_step_replaces_its_value(database: Database) -> None:
    run_id = new_run(database)
    held = claimed(database, run_id)
    rows = [MetricRow(step=s, name=n, value=float(s)) for s in (2, 1) for n in ("b", "a")]
    with database.write() as session:
        records.record_metrics(session, held, rows)
        records.record_metrics(session, held, [MetricRow(step=1, name="a", value=9.0)])
    found: list[MetricRow] = []
    after: tuple[int, str] | None = None
    with database.read() as session:
        while True:
            page, after = records.list_metrics(session, run_id, None, after, 3)
            found += page
            if after is None:
                break
    assert [(row.step, row.name, row.value) for row in found] == [
        (1, "a", 9.0),
        (1, "b", 1.0),
        (2, "a", 2.0),
        (2, "b", 2.0),
    ]


def checkpoint(step: int, tier: CheckpointTier) -> Checkpoint:
    return Checkpoint(step=step, tier=tier, path="p", size_bytes=1, digest="sha256:00", receipt_head="00")


def test_a_deleted_checkpoint_is_forgotten_and_the_other_of_its_step_is_kept(database: Database) -> None:
    run_id = new_run(database)
    held = claimed(database, run_id)
    with database.write() as session:
        for step, tier in ((1, CheckpointTier.STATE), (1, CheckpointTier.WEIGHTS), (2, CheckpointTier.STATE)):
            records.record_checkpoint(session, held, checkpoint(step, tier), is_progress=True)
        records.forget_checkpoint(session, held, 1, CheckpointTier.STATE)
        found = [(c.step, c.tier.value) for c in records.list_checkpoints(session, run_id)]
    assert found == [(1, "weights"), (2, "state")]


def test_an_attempt_that_begins_earlier_forgets_what_came_after(database: Database) -> None:
    run_id = new_run(database)
    held = claimed(database, run_id)
    with database.write() as session:
        records.record_metrics(session, held, [MetricRow(step=s, name="loss", value=1.0) for s in range(6)])
        records.record_checkpoint(session, held, checkpoint(4, CheckpointTier.WEIGHTS), is_progress=False)
        records.forget_after(session, held, 3)
    with database.read() as session:
        assert [row.step for row in records.list_metrics(session, run_id, None, None, 10)[0]] == [0, 1, 2, 3]
        assert records.list_checkpoints(session, run_id) == []


def test_an_id_of_another_kind_is_not_found(database: Database) -> None:
    run_id = new_run(database)
    with database.read() as session, pytest.raises(NotFound, match=run_id):
        runs.get(session, run_id, RunKind.TRAIN_JOB)
