"""For how long a follower works: never longer than its leader's lease may last."""

import threading
import time

import pytest
from sqlalchemy.exc import OperationalError

from nearfirst.contracts.nodes import NodePart
from nearfirst.contracts.progress import Fenced, Interrupted
from nearfirst.contracts.runs import RunKind
from nearfirst.contracts.workers import GroupNode, WorkerAnnouncement
from nearfirst.queue.app import make_celery
from nearfirst.queue.context import Worker
from nearfirst.registry import node_parts, runs, workers
from nearfirst.registry.database import Database
from nearfirst.registry.migrate import upgrade
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store
from nearfirst_training.tenure import Tenure

LEASE_S, HEARTBEAT_S = 3.0, 0.5


@pytest.fixture
def worker(tmp_path):
    settings = Settings(home=tmp_path, lease_s=LEASE_S, heartbeat_s=HEARTBEAT_S)
    upgrade(settings.database_url)
    store = Store(settings.store_url, tmp_path / "cache")
    worker = Worker(settings, Database(settings.database_url), store, make_celery(settings), threading.Event())
    yield worker
    worker.database.close()


@pytest.fixture
def claimed(worker):
    """A run that a leader has claimed, with a part for the worker."""
    node = GroupNode(group="pair", index=1, num_nodes=2, num_gpus=0)
    announcement = WorkerAnnouncement(id=worker.owner, host="h", kinds=[], queues=[], num_cpus=1, cpu_jobs=0, node=node)
    part = NodePart(index=1, num_nodes=2, num_ranks=1, endpoint="a:1", rendezvous_id="job.1", timeout_s=60)
    with worker.database.write() as session:
        workers.announce(session, announcement, [])
        row, _ = runs.create(session, RunKind.TRAIN_JOB, {})
        claimed = runs.claim(session, row.id, "leader", LEASE_S)
        node_parts.ask_followers(session, claimed, "pair", [part], "sha256:0", LEASE_S)
    return claimed


@pytest.fixture
def tenure(worker, claimed):
    asked_s = time.monotonic()
    with worker.database.read() as session:
        part = node_parts.part_of_follower(session, worker.owner)
    tenure = Tenure(worker, part, asked_s)
    yield tenure
    tenure.stop()


def wait_for_the_end(tenure):
    """Seconds until the tenure is over."""
    began_s = time.monotonic()
    while not tenure.is_over():
        assert time.monotonic() < began_s + 10 * LEASE_S
        time.sleep(0.01)
    return time.monotonic() - began_s


def test_it_ends_before_the_lease_when_no_news_of_it_come(tenure, worker, monkeypatch):
    monkeypatch.setattr(worker.database, "read", unreachable)
    tenure.start()
    assert wait_for_the_end(tenure) < LEASE_S
    assert not tenure.was_told
    with pytest.raises(Fenced, match="no news of the lease came in time"):
        tenure.check()


def unreachable():
    raise OperationalError("SELECT", {}, Exception("connection refused"))


def test_it_lasts_as_long_as_the_leader_renews_the_lease_and_ends_without_it(tenure, worker, claimed):
    tenure.start()
    give_up_s = time.monotonic() + 1.5 * LEASE_S
    while time.monotonic() < give_up_s:
        with worker.database.write() as session:
            runs.renew(session, claimed, LEASE_S)
        tenure.check()
        time.sleep(0.1)
    assert wait_for_the_end(tenure) < LEASE_S


def test_it_ends_at_once_when_the_leader_says_so(tenure, worker, claimed):
    tenure.start()
    with worker.database.write() as session:
        runs.renew(session, claimed, 100 * LEASE_S)
        node_parts.ask_for_the_end(session, claimed)
    wait_for_the_end(tenure)
    assert tenure.was_told
    with pytest.raises(Fenced, match="attempt 1 is over"):
        tenure.check()


def test_a_machine_that_is_shut_down_interrupts_it(tenure, worker):
    tenure.start()
    tenure.check()
    worker.shutting_down.set()
    with pytest.raises(Interrupted):
        tenure.check()
