"""Who is next, why the rest waits, and what is done about jobs that nobody can serve."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from nearfirst.contracts.runs import RunKind
from nearfirst.contracts.workers import Gpu, GroupNode, RunOnWorker, WorkerAnnouncement
from nearfirst.registry import runs, sweep, workers
from nearfirst.registry.database import Database, utc_now
from nearfirst.registry.models import RunRow, WorkerRow
from nearfirst.registry.unservable import fail_unservable
from nearfirst.registry.waiting import Queue

JOB = RunKind.TRAIN_JOB
ALIVE_S = 30.0


def new_job(database: Database, num_gpus: int = 0, priority: int = 0, depends_on: tuple[str, ...] = ()) -> str:
    with database.write() as session:
        row, _ = runs.create(session, JOB, {}, num_gpus=num_gpus, priority=priority, depends_on=depends_on)
        return row.id


def worker(database: Database, name: str, num_gpus: int, *in_use: RunOnWorker, cpu_jobs: int = 0) -> None:
    announcement = WorkerAnnouncement(
        id=name,
        host="host",
        kinds=[JOB],
        queues=[],
        gpus=[Gpu(id=str(number)) for number in range(num_gpus)],
        num_cpus=1,
        cpu_jobs=cpu_jobs,
    )
    with database.write() as session:
        workers.announce(session, announcement, in_use)


def unseen_for(database: Database, name: str, seconds: float) -> None:
    with database.write() as session:
        then = utc_now(session) - timedelta(seconds=seconds)
        session.execute(update(WorkerRow).where(WorkerRow.id == name).values(last_seen_at=then))


def why(database: Database, run_id: str) -> str:
    with database.read() as session:
        return Queue(session, JOB, ALIVE_S).why_waits(runs.get(session, run_id))


def test_the_queue_is_ordered_by_priority_and_then_by_age(database: Database) -> None:
    low, old, young, high = (new_job(database, priority=priority) for priority in (-1, 0, 0, 5))
    blocked = new_job(database, priority=9, depends_on=(low,))
    with database.read() as session:
        ready = [need.run_id for need in Queue(session, JOB, ALIVE_S).ready]
    assert ready == [high, old, young, low]
    assert why(database, blocked) == f"waits for {low}"


@pytest.mark.parametrize(
    ("asked", "gpus_of_workers", "reason"),
    [
        (1, [], "no training worker is known"),
        (3, [2, 1], "asks for 3 GPUs, the largest worker has 2"),
        (1, [0], "asks for 1 GPU, no worker has any"),
        (0, [2], "runs on the CPU, and no worker takes CPU jobs"),
        (2, [2], "a worker has room for it and is being told"),
    ],
)
def test_a_job_says_what_it_lacks(database: Database, asked: int, gpus_of_workers: list[int], reason: str) -> None:
    for number, num_gpus in enumerate(gpus_of_workers):
        worker(database, f"w{number}", num_gpus)
    assert why(database, new_job(database, asked)) == reason


def test_a_job_says_who_keeps_its_workers_busy(database: Database) -> None:
    worker(database, "small", 1)
    worker(database, "large", 2, RunOnWorker(run_id="job_x", gpus=["0"]))
    two = new_job(database, num_gpus=2)
    assert why(database, two) == "needs 2 GPUs; the one worker with 2 is busy with job_x"
    worker(database, "larger", 4, RunOnWorker(run_id="job_y", gpus=["0", "1", "2"]))
    assert why(database, two) == "needs 2 GPUs; the 2 workers with as many are busy with job_x, job_y"
    worker(database, "cpu", 0, RunOnWorker(run_id="job_z"), cpu_jobs=1)
    assert why(database, new_job(database)) == (
        "needs a worker for training on the CPU; the only one is busy with job_z"
    )


def test_a_job_counts_those_ahead_of_it_that_want_the_same_and_can_be_served(database: Database) -> None:
    worker(database, "w", 2, RunOnWorker(run_id="job_x", gpus=["0", "1"]))
    for num_gpus, priority in ((1, 3), (2, 3), (1, 0), (8, 9), (0, 9)):
        new_job(database, num_gpus, priority)
    assert why(database, new_job(database, 1, 5)) == "needs 1 GPU; the one worker with 2 is busy with job_x"
    assert why(database, new_job(database, 1, 1)) == "3 jobs of higher priority are ahead"
    assert why(database, new_job(database, 1, 0)) == "4 jobs of higher priority and 1 older are ahead"
    assert why(database, new_job(database, 1, 5)) == "1 older job is ahead"


def test_workers_that_were_not_seen_lately_count_for_nothing_and_are_forgotten_later(database: Database) -> None:
    worker(database, "w", 2)
    job = new_job(database, num_gpus=2)
    unseen_for(database, "w", ALIVE_S + 1)
    assert why(database, job) == "no training worker is known"
    with database.write() as session:
        assert [(w.id, w.is_alive) for w in workers.list_workers(session, 0, 10, ALIVE_S)[0]] == [("w", False)]
        assert workers.forget_unseen(session, 600) == []
    unseen_for(database, "w", 601)
    with database.write() as session:
        assert workers.forget_unseen(session, 600) == ["w"]


def test_a_job_that_no_worker_could_serve_fails_after_a_while_and_says_so(database: Database) -> None:
    jobs = {num_gpus: new_job(database, num_gpus) for num_gpus in (2, 3)}

    def sweep_after(seconds: float) -> list[str]:
        with database.write() as session:
            past = RunRow.unservable_since.is_not(None)
            then = utc_now(session) - timedelta(seconds=seconds)
            session.execute(update(RunRow).where(past).values(unservable_since=then))
            return fail_unservable(session, ALIVE_S, unservable_s=100)

    assert [sweep_after(101), sweep_after(101)] == [[], []]  # no worker at all: one may be started for it
    worker(database, "w", 2)
    assert [sweep_after(0), sweep_after(99)] == [[], []]
    unseen_for(database, "w", ALIVE_S + 1)
    assert [sweep_after(101), sweep_after(101)] == [[], []]
    worker(database, "w", 2)
    assert [sweep_after(101), sweep_after(101)] == [[], [jobs[3]]]
    with database.read() as session:
        row = runs.get(session, jobs[3])
        assert runs.get(session, jobs[2]).state == "queued"
    assert row.error is not None
    assert (row.error["code"], row.error["detail"]) == ("no_such_worker", "asks for 3 GPUs, the largest worker has 2")


def test_a_job_that_a_worker_has_room_for_is_sent_again_without_waiting_longer_each_time(database: Database) -> None:
    job, other = new_job(database, 1), new_job(database, 1)

    def sent_after(seconds: float) -> list[str]:
        with database.write() as session:
            then = utc_now(session) - timedelta(seconds=seconds)
            session.execute(update(RunRow).where(RunRow.num_dispatches > 0).values(dispatched_at=then))
            return [d.run_id for d in sweep.take_deliveries(session, redeliver_s=10, alive_s=ALIVE_S)]

    assert [sent_after(0), sent_after(11), sent_after(11)] == [[job, other], [job, other], []]
    worker(database, "w", 1)  # room for one of them
    assert [sent_after(9), sent_after(11), sent_after(11)] == [[], [job], [job]]


def node(database: Database, index: int, num_gpus: int, *in_use: RunOnWorker, group: str = "pair") -> str:
    """Announce a machine of a group of two; returns the worker's id."""
    name = f"{group}-{index}-{num_gpus}"
    announcement = WorkerAnnouncement(
        id=name,
        host="host",
        kinds=[JOB] if index == 0 else [],
        queues=[],
        gpus=[Gpu(id=f"{at}:{gpu}") for at in range(2) for gpu in range(num_gpus)] if index == 0 else [],
        num_cpus=1,
        cpu_jobs=0,
        node=GroupNode(group=group, index=index, num_nodes=2, num_gpus=num_gpus),
    )
    with database.write() as session:
        workers.announce(session, announcement, in_use)
    return name


def test_a_group_takes_a_run_only_as_a_whole(database: Database) -> None:
    node(database, 0, 4)
    job = new_job(database, num_gpus=6)
    assert why(database, job) == "group pair waits for its node 1"
    node(database, 1, 2)  # it has fewer GPUs than the leader counts on
    node(database, 1, 4, group="another")
    assert why(database, job) == "group pair waits for its node 1"
    follower = node(database, 1, 4)
    assert why(database, job) == "a worker has room for it and is being told"
    unseen_for(database, follower, ALIVE_S + 1)
    assert why(database, job) == "group pair waits for its node 1"


def test_a_group_takes_one_run_at_a_time_and_its_followers_none(database: Database) -> None:
    node(database, 1, 4)
    assert why(database, new_job(database, num_gpus=1)) == "no training worker is known"
    node(database, 0, 4, RunOnWorker(run_id="job_x", gpus=["0:0"]))
    with database.read() as session:
        assert Queue(session, JOB, ALIVE_S).startable() == set()
