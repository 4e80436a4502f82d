"""Jobs of two processes (gloo) on PostgreSQL, Redis and Celery workers: cancelled, taken over, and robbed of both."""

import time
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL
from typing import Any

import psutil
import pytest
from tests.integration.suite.test_kills import dataset_body
from tests.support.services import PostgresServer, RedisServer
from tests.support.suite import RunningSuite
from tests.support.tiny import make_tiny_llama
from tests.support.trainers import family_of, wait_for_ranks

from nearfirst.registry.migrate import upgrade

pytestmark = pytest.mark.slow

LEASE_S = 4.0
WORKERS = ("first", "second")


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """A server of this module's own: it is killed."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="module")
def suite(
    tmp_path_factory: pytest.TempPathFactory,
    postgres: PostgresServer,
    redis_server: RedisServer,
    data_files: dict[str, Path],
) -> Iterator[RunningSuite]:
    """API and two training workers."""
    database_url = postgres.create_database()
    upgrade(database_url)
    home = tmp_path_factory.mktemp("home")
    running = RunningSuite(home, database_url, redis_server.url(1), NEARFIRST_LEASE_S=str(LEASE_S))
    texts = data_files["train"].read_text().splitlines()
    make_tiny_llama(home / "models" / "tiny", texts, vocab_size=400, hidden_size=32, layers=1, heads=2)
    for name in WORKERS:
        running.start_worker("training", name)
    running.start_api()
    yield running
    running.close()


@pytest.fixture(scope="module")
def datasets(suite: RunningSuite, data_files: dict[str, Path]) -> dict[str, str]:
    return {split: suite.upload(path)["id"] for split, path in data_files.items()}


def submit(suite: RunningSuite, datasets: dict[str, str], **changes: Any) -> str:
    """Queue a job of two processes; returns its id once it makes steps."""
    body = dataset_body(suite, datasets, processes=2, evaluate=None, **changes)
    job_id = suite.post("/train-jobs", body)
    suite.wait_for_metric(job_id, "train_loss", step=3)
    return job_id


def worker_of(suite: RunningSuite, job_id: str) -> str:
    """The name of the worker that has a running job."""
    running = {run["id"]: run["worker"] for kind in suite.get("/queue")["kinds"] for run in kind["running"]}
    return next(name for name in WORKERS if f"/{suite.pid(name)}/" in running[job_id])


def check_right_end(suite: RunningSuite, job_id: str, num_steps: int) -> dict[str, Any]:
    """Wait for a job's end: it has succeeded, its receipt is verified, and each of its steps is measured once."""
    done = suite.wait(f"/train-jobs/{job_id}")
    assert done["state"] == "succeeded", (done["error"], *map(suite.log, WORKERS))
    receipt = suite.get(f"/train-jobs/{job_id}/receipt")
    assert (receipt["steps"], receipt["verified"], receipt["head"]) == (num_steps, True, done["receipt_head"])
    losses = suite.get(f"/train-jobs/{job_id}/metrics?name=train_loss&limit=1000")["items"]
    assert [row["step"] for row in losses] == list(range(1, num_steps + 1))
    return done


def test_a_job_of_two_processes_is_cancelled_with_all_its_children(
    suite: RunningSuite, datasets: dict[str, str]
) -> None:
    job_id = submit(suite, datasets, epochs=1000)
    worker = suite.pid(worker_of(suite, job_id))
    family = family_of(worker)
    assert len(wait_for_ranks(worker, 2)) == 2
    assert len(family) >= 3  # torchrun and its ranks
    asked = time.monotonic()
    assert suite.client.post(f"/train-jobs/{job_id}/cancel").status_code == 202
    assert suite.wait(f"/train-jobs/{job_id}", timeout_s=10)["state"] == "cancelled"
    assert psutil.wait_procs(family, timeout=max(0.0, 10 - (time.monotonic() - asked)))[1] == []
    assert family_of(worker) == []


def test_a_job_goes_on_while_redis_is_flushed_and_postgres_crashes(
    suite: RunningSuite, datasets: dict[str, str], postgres: PostgresServer, redis_server: RedisServer
) -> None:
    epochs = 60
    job_id = submit(suite, datasets, epochs=epochs, checkpoint={"state_every": 100})
    redis_server.flush()
    postgres.kill()
    postgres.start()
    state = suite.get(f"/train-jobs/{job_id}")
    assert (state["state"], state["progress"]["unit"]) == ("running", "steps")  # it was in the middle
    check_right_end(suite, job_id, num_steps=-(-60 * epochs // 8))


def test_a_job_of_a_vanished_worker_is_taken_over_by_another_within_two_lease_times(
    suite: RunningSuite, datasets: dict[str, str]
) -> None:
    epochs = 40
    job_id = submit(suite, datasets, epochs=epochs, checkpoint={"state_every": 10})
    suite.wait_for_metric(job_id, "train_loss", step=20)
    worker = worker_of(suite, job_id)
    family = family_of(suite.pid(worker))
    suite.signal(worker, SIGKILL)
    killed = time.monotonic()
    while suite.get(f"/train-jobs/{job_id}")["attempt"] != 2:
        assert time.monotonic() < killed + 2 * LEASE_S
        time.sleep(0.05)
    assert psutil.wait_procs(family, timeout=1)[1] == []
    done = check_right_end(suite, job_id, num_steps=-(-60 * epochs // 8))
    assert done["attempt"] == 2
    assert done["result"]["resumed_from"] >= 20
