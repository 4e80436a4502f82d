"""Claim, work, report, on a SQLite registry; workers as processes are in tests/integration."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from nearfirst.contracts.problems import Crashed, InvalidInput
from nearfirst.contracts.progress import Fenced
from nearfirst.contracts.runs import RunKind, RunState
from nearfirst.contracts.workers import Gpu, WorkerAnnouncement
from nearfirst.queue.announcer import Announcer
from nearfirst.queue.app import make_celery
from nearfirst.queue.capacity import Capacity
from nearfirst.queue.context import RunContext, RunResult, Worker
from nearfirst.queue.execution import execute, execute_queue
from nearfirst.queue.sweeper import Sweeper
from nearfirst.registry import runs
from nearfirst.registry.database import Database
from nearfirst.registry.events import list_events
from nearfirst.registry.migrate import upgrade
from nearfirst.registry.models import RunRow
from nearfirst.registry.workers import list_workers
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    settings = Settings(home=tmp_path, lease_s=0.6, heartbeat_s=0.1, sweep_s=0.05)
    upgrade(settings.database_url)
    database = Database(settings.database_url)
    yield Worker(
        settings, database, Store(settings.store_url, tmp_path / "cache"), make_celery(settings), threading.Event()
    )
    database.close()


def new_run(worker: Worker) -> str:
    with worker.database.write() as session:
        return runs.create(session, RunKind.ARRANGEMENT, {})[0].id


def row_of(worker: Worker, run_id: str) -> RunRow:
    with worker.database.read() as session:
        return runs.get(session, run_id)


def run(worker: Worker, work: Callable[[RunContext], RunResult]) -> RunRow:
    run_id = new_run(worker)
    execute(worker, run_id, work)
    return row_of(worker, run_id)


def test_work_that_succeeds_leaves_its_result(worker: Worker) -> None:
    row = run(worker, lambda context: RunResult({"rows": 3}, "sha256:00"))
    assert (row.state, row.result, row.artifact) == ("succeeded", {"rows": 3}, "sha256:00")


def test_a_users_error_ends_the_run_with_its_code_and_detail(worker: Worker) -> None:
    def work(context: RunContext) -> RunResult:
        raise InvalidInput("limit: got 9, wanted at most 3")

    row = run(worker, work)
    assert row.state == "failed"
    assert row.error is not None
    assert (row.error["code"], row.error["detail"]) == ("invalid_input", "limit: got 9, wanted at most 3")


def test_an_unexpected_error_ends_the_run_and_says_what_it_was(worker: Worker) -> None:
    def work(context: RunContext) -> RunResult:
        raise ZeroDivisionError("no rows")

    row = run(worker, work)
    assert row.error is not None
    assert (row.error["code"], row.error["detail"]) == ("internal_error", "ZeroDivisionError: no rows")


def test_work_that_outlasts_its_lease_keeps_it(worker: Worker) -> None:
    def work(context: RunContext) -> RunResult:
        for _ in range(15):
            time.sleep(0.1)
            context.check()
        return RunResult({})

    row = run(worker, work)
    assert (row.state, row.attempt, row.num_lost_leases) == ("succeeded", 1, 0)


def test_cancelled_work_hears_of_it_and_ends_as_cancelled(worker: Worker) -> None:
    def work(context: RunContext) -> RunResult:
        with worker.database.write() as session:
            runs.request_cancel(session, context.run_id, RunKind.ARRANGEMENT)
        for _ in range(100):
            time.sleep(0.05)
            context.check()
        raise AssertionError("never told")

    assert run(worker, work).state == "cancelled"


def test_a_worker_that_shuts_down_puts_its_run_back(worker: Worker) -> None:
    def work(context: RunContext) -> RunResult:
        worker.shutting_down.set()
        context.check()
        raise AssertionError("never told")

    assert run(worker, work).state == "queued"


def test_work_whose_heartbeat_does_not_get_through_stops_before_others_may_take_the_run(worker: Worker) -> None:
    stopped_after: list[float] = []

    def work(context: RunContext) -> RunResult:
        started = time.monotonic()
        # Another connection holds SQLite's write lock: renewals wait, as behind a broken network.
        with worker.database.engine.connect() as connection:
            connection.execute(text("SELECT 1"))
            try:
                while True:
                    time.sleep(0.01)
                    context.check()
            except Fenced:
                stopped_after.append(time.monotonic() - started)
                raise

    row = run(worker, work)
    assert 0.3 < stopped_after[0] < worker.settings.lease_s
    assert (row.state, row.attempt) == ("running", 1)


def test_a_second_message_for_a_run_is_dropped(worker: Worker) -> None:
    run_id = new_run(worker)
    calls: list[int] = []

    def work(context: RunContext) -> RunResult:
        calls.append(context.claim.attempt)
        execute(worker, run_id, work)
        return RunResult({})

    execute(worker, run_id, work)
    execute(worker, run_id, work)
    assert calls == [1]
    assert row_of(worker, run_id).state == "succeeded"


def test_progress_is_kept_seldom_but_the_last_of_it_always(worker: Worker) -> None:
    def work(context: RunContext) -> RunResult:
        for done in range(1, 1001):
            context.progress(done, 1000, "rows")
        return RunResult({})

    row = run(worker, work)
    assert (row.progress_done, row.progress_total, row.progress_unit) == (1000, 1000, "rows")
    with worker.database.read() as session:
        events = [event for event in list_events(session, 0, row.id) if event.type == "progress"]
    assert 1 <= len(events) < 20


def test_a_sweep_that_fails_does_not_end_the_sweeper(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    sweeper = Sweeper(worker.database, worker.store, worker.app, worker.settings)
    failures = iter([RuntimeError("out of luck")])
    swept = threading.Event()

    def sweep() -> None:
        for failure in failures:
            raise failure
        swept.set()

    sweeper.sweep = sweep  # type: ignore[method-assign]
    sweeper.start()
    assert swept.wait(5)
    sweeper.stop()
    assert "out of luck" in caplog.text


def test_the_sweeper_queues_a_lost_run_again_and_another_claim_fences_the_first(worker: Worker) -> None:
    run_id = new_run(worker)
    with worker.database.write() as session:
        lost = runs.claim(session, run_id, "lost", lease_s=0.01)
    assert lost is not None
    time.sleep(0.05)
    Sweeper(worker.database, worker.store, worker.app, worker.settings).sweep()
    execute(worker, run_id, lambda context: RunResult({"attempt": context.claim.attempt}))
    assert row_of(worker, run_id).result == {"attempt": 2}
    with pytest.raises(Fenced), worker.database.write() as session:
        runs.finish(session, lost, result={}, artifact=None)
    assert row_of(worker, run_id).state == RunState.SUCCEEDED


def new_job(worker: Worker, num_gpus: int, priority: int = 0) -> str:
    with worker.database.write() as session:
        return runs.create(session, RunKind.TRAIN_JOB, {}, num_gpus=num_gpus, priority=priority)[0].id


def test_the_queue_is_worked_off_by_priority_and_what_does_not_fit_is_left(worker: Worker) -> None:
    worker.capacity = Capacity([Gpu(id="3"), Gpu(id="5")], cpu_jobs=0)
    jobs = {name: new_job(worker, gpus, priority) for name, gpus, priority in [("a", 1, 0), ("b", 2, 5), ("c", 4, 9)]}
    new_job(worker, num_gpus=0, priority=9)
    done: list[tuple[str, tuple[str, ...]]] = []

    def work(context: RunContext) -> RunResult:
        done.append((context.run_id, context.gpus))
        return RunResult({})

    execute_queue(worker, RunKind.TRAIN_JOB, work)
    assert done == [(jobs["b"], ("3", "5")), (jobs["a"], ("3",))]
    assert worker.capacity.in_use() == []


def test_threads_that_look_at_once_take_different_runs_and_gpus(worker: Worker) -> None:
    worker.capacity = Capacity([Gpu(id=str(number)) for number in range(3)], cpu_jobs=0)
    jobs = {new_job(worker, num_gpus=1) for _ in range(6)}
    together = threading.Barrier(3)
    done: list[tuple[str, tuple[str, ...]]] = []

    def work(context: RunContext) -> RunResult:
        done.append((context.run_id, context.gpus))
        together.wait(10)
        return RunResult({})

    threads = [threading.Thread(target=execute_queue, args=(worker, RunKind.TRAIN_JOB, work)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {run_id for run_id, _ in done} == jobs
    assert len(done) == 6
    assert {gpus for _, gpus in done[:3]} == {("0",), ("1",), ("2",)}


def test_work_whose_process_crashed_is_tried_again_until_it_crashed_too_often(worker: Worker) -> None:
    worker.settings = worker.settings.model_copy(update={"max_crashes": 2})
    run_id = new_job(worker, num_gpus=0)

    def work(context: RunContext) -> RunResult:
        raise Crashed(f"crash {context.claim.attempt}")

    execute_queue(worker, RunKind.TRAIN_JOB, work)
    row = row_of(worker, run_id)
    assert (row.state, row.attempt) == ("failed", 3)
    assert row.error is not None
    assert row.error["detail"].endswith("attempt 1: crash 1; attempt 2: crash 2; attempt 3: crash 3")


def test_a_worker_that_shuts_down_takes_nothing_from_the_queue(worker: Worker) -> None:
    run_id = new_job(worker, num_gpus=0)
    worker.shutting_down.set()
    execute_queue(worker, RunKind.TRAIN_JOB, lambda context: RunResult({}))
    assert row_of(worker, run_id).state == "queued"


def test_a_worker_is_listed_while_it_lives_idle_or_busy_and_not_after(worker: Worker) -> None:
    worker.capacity = Capacity([Gpu(id="0")], cpu_jobs=0)
    announcement = WorkerAnnouncement(
        id=worker.owner,
        host="host",
        kinds=[RunKind.TRAIN_JOB],
        queues=["q"],
        gpus=list(worker.capacity.gpus),
        num_cpus=1,
        cpu_jobs=0,
    )
    announcer = Announcer(worker, announcement)

    def listed() -> list[list[list[str]]]:
        with worker.database.read() as session:
            return [[run.gpus for run in found.runs] for found in list_workers(session, 0, 10, 5.0)[0]]

    def until(wanted: list[list[list[str]]]) -> None:
        give_up = time.monotonic() + 5
        while listed() != wanted:
            assert time.monotonic() < give_up, listed()
            time.sleep(0.01)

    announcer.start()
    until([[]])
    new_job(worker, num_gpus=1)
    busy: list[list[list[list[str]]]] = []

    def work(context: RunContext) -> RunResult:
        busy.append(listed())  # noted together with the claim
        return RunResult({})

    execute_queue(worker, RunKind.TRAIN_JOB, work)
    assert busy == [[[["0"]]]]
    until([[]])
    announcer.stop()
    assert listed() == []
