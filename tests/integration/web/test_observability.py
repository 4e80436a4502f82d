"""What an API process tells: metrics of the suite, traces that go with runs, JSON logs; and bursts of requests."""

import asyncio
import io
import json
import logging
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from tests.support.services import PostgresServer
from tests.support.suite import RunningSuite

from nearfirst.contracts.runs import RunKind
from nearfirst.contracts.training import MetricRow
from nearfirst.queue.app import make_celery
from nearfirst.queue.context import RunContext, RunResult, Worker
from nearfirst.queue.execution import execute
from nearfirst.registry import records, runs
from nearfirst.registry.database import Database
from nearfirst.registry.migrate import upgrade
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store

MakeClient = Callable[..., TestClient]
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
NUM_AT_ONCE = 120
"""More than a process has threads (40) and connections (15)."""


def dataset(client: TestClient, name: str) -> str:
    rows = "".join(json.dumps({"prompt": f"{name} {n}?", "completion": str(n)}) + "\n" for n in range(5))
    answer = client.post("/datasets", files={"file": (f"{name}.jsonl", rows)}, data={"name": name})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def arrangement(client: TestClient, **headers: str) -> str:
    body = {"train": dataset(client, f"train{time.time_ns()}"), "test": dataset(client, f"test{time.time_ns()}")}
    answer = client.post("/arrangements", json={"method": "random", **body}, headers=headers)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def samples(client: TestClient) -> dict[str, float]:
    lines = client.get("/metrics").text.splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


@pytest.fixture
def worker(database_url: str, database: Database, tmp_path: Path) -> Worker:
    settings = Settings(home=tmp_path, database_url=database_url)
    store = Store(settings.store_url, tmp_path / "cache")
    return Worker(settings, database, store, make_celery(settings), threading.Event())


@contextmanager
def json_lines() -> Iterator[list[dict[str, Any]]]:
    """The lines that the process logs meanwhile, after `configure_logging` of a client has set the format."""
    (handler,) = logging.getLogger().handlers
    assert isinstance(handler, logging.StreamHandler)
    before, written, lines = handler.stream, io.StringIO(), []
    handler.setStream(written)
    try:
        yield lines
    finally:
        handler.setStream(before)
        lines += [json.loads(line) for line in written.getvalue().splitlines()]


def test_metrics_count_unfinished_runs_by_kind_and_state(make_client: MakeClient) -> None:
    client = make_client(metrics_max_age_s=0)
    arrangement(client)
    found = samples(client)
    assert found['nearfirst_queue_runs{kind="arrangement",state="queued"}'] == 1
    assert found['nearfirst_queue_runs{kind="arrangement",state="blocked"}'] == 0
    assert found['nearfirst_queue_runs{kind="reward",state="running"}'] == 0
    assert found['nearfirst_queue_oldest_seconds{kind="arrangement"}'] > 0
    assert found['nearfirst_workers{kind="train_job"}'] == 0


def test_a_run_that_waits_for_another_is_blocked(make_client: MakeClient, database: Database) -> None:
    client = make_client(metrics_max_age_s=0)
    with database.write() as session:
        first = runs.create(session, RunKind.EMBEDDING, {})[0].id
        runs.create(session, RunKind.ARRANGEMENT, {}, depends_on=[first])
    found = samples(client)
    assert found['nearfirst_queue_runs{kind="arrangement",state="blocked"}'] == 1
    assert found['nearfirst_queue_runs{kind="embedding",state="queued"}'] == 1


def test_metrics_have_the_speed_of_the_trainings_that_run(make_client: MakeClient, database: Database) -> None:
    client = make_client(metrics_max_age_s=0)
    with database.write() as session:
        for speed in (100.0, 50.0):
            run_id = runs.create(session, RunKind.TRAIN_JOB, {})[0].id
            held = runs.claim(session, run_id, "somebody", 30)
            assert held is not None
            rows = [(1, "tokens_per_s", 7.0), (2, "tokens_per_s", speed), (2, "step_s", 200 / speed)]
            records.record_metrics(session, held, [MetricRow(step=s, name=n, value=v) for s, n, v in rows])
    found = samples(client)
    assert found["nearfirst_training_tokens_per_second"] == 150
    assert found['nearfirst_training_step_seconds{of="slowest"}'] == 4
    assert found['nearfirst_training_step_seconds{of="mean"}'] == 3


def test_no_label_has_an_id(make_client: MakeClient) -> None:
    client = make_client(metrics_max_age_s=0)
    run_id = arrangement(client)
    client.get(f"/arrangements/{run_id}")
    assert run_id not in client.get("/metrics").text
    assert not re.search(r"(arr|ds)_[0-9a-f]{16}", client.get("/metrics").text)


def test_a_trace_goes_with_the_run_to_its_worker_and_into_its_log_lines(
    make_client: MakeClient, worker: Worker
) -> None:
    run_id = arrangement(make_client(log_format="json"), traceparent=TRACEPARENT)

    def work(_context: RunContext) -> RunResult:
        logging.getLogger("science").info("at work")
        return RunResult({})

    with json_lines() as lines:
        execute(worker, run_id, work)
        logging.getLogger("science").info("after it")
    (said,) = [line for line in lines if line["event"] == "at work"]
    assert (said["run_id"], said["trace_id"], said["attempt"]) == (run_id, TRACE_ID, "1")
    (after,) = [line for line in lines if line["event"] == "after it"]
    assert "run_id" not in after


@pytest.mark.parametrize("given", [None, "nonsense", f"00-{'0' * 32}-00f067aa0ba902b7-01", f"{TRACEPARENT}-more"])
def test_a_request_without_a_good_trace_begins_one(
    make_client: MakeClient, database: Database, given: str | None
) -> None:
    run_id = arrangement(make_client(), **({"traceparent": given} if given else {}))
    with database.read() as session:
        kept = runs.get(session, run_id).traceparent
    assert kept is not None
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", kept)
    assert set(kept.split("-")[1]) != {"0"}


def test_the_worker_counts_how_its_runs_were_left(make_client: MakeClient, worker: Worker) -> None:
    client = make_client(metrics_max_age_s=0)
    name = 'nearfirst_run_seconds_count{kind="arrangement",state="succeeded"}'
    before = samples(client).get(name, 0)
    execute(worker, arrangement(client), lambda _context: RunResult({}))
    assert samples(client)[name] == before + 1


def test_access_lines_are_json_with_the_trace_and_the_server_ends_in_order(database_url: str, tmp_path: Path) -> None:
    suite = RunningSuite(tmp_path, database_url, f"filesystem://{tmp_path / 'broker'}", NEARFIRST_LOG_FORMAT="json")
    command = [
        "-m",
        "uvicorn",
        "nearfirst_arrangement.app:make_app",
        "--factory",
        "--port",
        suite.url.rsplit(":", 1)[1],
    ]
    suite._start("api", command)
    try:
        give_up = time.monotonic() + 60
        while True:
            try:
                assert httpx.get(f"{suite.url}/readyz").status_code == 200
                break
            except httpx.TransportError:
                assert time.monotonic() < give_up, suite.log("api")
                time.sleep(0.2)
        suite.client.get("/datasets", headers={"traceparent": TRACEPARENT})
        suite.signal("api", signal.SIGTERM)
        assert suite._processes["api"].returncode in (0, -signal.SIGTERM)
    finally:
        suite.close()
    lines = [json.loads(line) for line in suite.log("api").splitlines()]
    (access,) = [line for line in lines if "GET /datasets" in line["event"]]
    assert (access["logger"], access["trace_id"]) == ("uvicorn.access", TRACE_ID)
    assert any("shutdown complete" in line["event"] for line in lines)


def test_readiness_fails_without_the_database_and_liveness_does_not(tmp_path: Path) -> None:
    with PostgresServer() as postgres:
        url = postgres.create_database()
        upgrade(url)
        from nearfirst_arrangement.app import make_app

        with TestClient(make_app(Settings(home=tmp_path, database_url=url, metrics_max_age_s=0))) as client:
            assert client.get("/readyz").status_code == 200
            postgres.kill()
            assert [client.get(path).status_code for path in ("/healthz", "/readyz")] == [200, 503]
            assert "nearfirst_queue_runs{" not in client.get("/metrics").text, "old numbers would hide it"
            postgres.start()
            assert client.get("/readyz").status_code == 200


def test_a_burst_of_more_posts_than_threads_and_connections_is_answered(
    make_client: MakeClient, database: Database
) -> None:
    """Each waits for the lock on events; whoever has it must still get a thread for its answer."""
    client = make_client()
    train, test = dataset(client, "train"), dataset(client, "test")
    transport = httpx.ASGITransport(client.app)  # type: ignore[arg-type]

    async def burst() -> list[int]:
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as together:
            bodies = ({"method": "random", "train": train, "test": test, "seed": n} for n in range(NUM_AT_ONCE))
            return [
                a.status_code for a in await asyncio.gather(*(together.post("/arrangements", json=b) for b in bodies))
            ]

    # A connection of another process has the lock for a moment, so that all of them are under way together.
    with database.engine.connect() as holder:
        holder.execute(text(f"SELECT pg_advisory_lock({0x6E656172})"))
        loop = asyncio.new_event_loop()

        async def both() -> list[int]:
            waiting = asyncio.create_task(burst())
            await asyncio.sleep(1.5)
            holder.execute(text(f"SELECT pg_advisory_unlock({0x6E656172})"))
            return await waiting

        try:
            statuses = loop.run_until_complete(both())
        finally:
            loop.close()
    assert statuses == [202] * NUM_AT_ONCE
