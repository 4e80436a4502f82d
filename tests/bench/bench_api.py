"""POST /arrangements at a fixed rate against one API process, with PostgreSQL, Redis and an API key.

    python tests/bench/bench_api.py [--rate 50] [--seconds 60]

Prints one JSON object (stdout) and a table (stderr); exits 1 when a request was refused or lost, and says when the bar
of the design (p99 below 50 ms) is missed: how long an answer takes depends on what else the machine does.

- Open loop: request n is due at n / rate seconds, whatever became of those before it, and its time counts from then. A
  server that stands still for a second is charged for every request of that second.
- One uvicorn process as the containers start it (`--log-level warning`), with its sweeper, its key check and its
  metrics. PostgreSQL as the tests have it: on loopback, and no waiting for the disk.
- Bodies in turn: WSD, TMA and optimal transport, which wait for embeddings, and a random order, which may start now.
  Each with an Idempotency-Key of its own. No worker takes anything, so that the queue grows all the time.
- Afterwards every id that was answered must be in the registry, once, with its first event, and a repeated request must
  be answered with the same id.
"""

import argparse
import asyncio
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY))  # tests.support; a script has its own folder there alone

from tests.support.services import PostgresServer, RedisServer, free_port  # noqa: E402

from nearfirst.client.progress import progress_bar  # noqa: E402
from nearfirst.contracts.keys import Role  # noqa: E402
from nearfirst.contracts.runs import RunKind  # noqa: E402
from nearfirst.registry.api_keys import create_key  # noqa: E402
from nearfirst.registry.database import Database  # noqa: E402
from nearfirst.registry.migrate import upgrade  # noqa: E402
from nearfirst.registry.models import EventRow, RunRow  # noqa: E402

BAR_P99_MS = 50.0
NUM_TRAIN, NUM_TEST = 2000, 100
NUM_REPEATED = 20
WARM_UP_REQUESTS = 100
LEAD_S = 1.0
"""From the making of all requests to the first one's sending."""
START_TIMEOUT_S = 60.0

console = Console(stderr=True)
Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request."""

    due_s: float
    """When it was to be sent, from the start of the load."""
    waited_ms: float
    """From then until the answer was there."""
    status: int
    """0: no answer."""
    body: str

    @property
    def run_id(self) -> str | None:
        """The run that it was accepted as."""
        return str(json.loads(self.body)["id"]) if self.status == 202 else None


@contextmanager
def api_process(folder: Path, database_url: str, broker_url: str) -> Iterator[str]:
    """One API process as the containers start it; gives its URL once it is ready."""
    port = free_port()
    command = ["-m", "uvicorn", "nearfirst_arrangement.app:make_app", "--factory", "--port", str(port)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NEARFIRST_")} | {
        "NEARFIRST_HOME": str(folder / "home"),
        "NEARFIRST_DATABASE_URL": database_url,
        "NEARFIRST_BROKER_URL": broker_url,
        "NEARFIRST_REQUESTS_PER_S": "1000",
    }
    url = f"http://127.0.0.1:{port}"
    with (folder / "api.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *command, "--log-level", "warning"], stdout=log, stderr=log, env=environment
        )
    try:
        _wait_until_ready(process, url, folder / "api.log")
        yield url
    finally:
        process.terminate()
        process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    give_up_s = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        if process.poll() is not None or time.monotonic() > give_up_s:
            raise SystemExit(f"the API didn't start:\n{log.read_text(errors='replace')[-4000:]}")
        time.sleep(0.1)


def register(client: httpx.Client, name: str, num_rows: int) -> str:
    """Register a dataset of eight tasks; returns its id."""
    rows = (
        {
            "id": f"{name}/{row}",
            "task": f"task{row % 8}",
            "prompt": f"What is {row} + {row}?",
            "completion": f"{2 * row}",
        }
        for row in range(num_rows)
    )
    content = "".join(f"{json.dumps(row)}\n" for row in rows)
    answer = client.post("/datasets", files={"file": (f"{name}.jsonl", content)}, data={"name": name})
    answer.raise_for_status()
    return str(answer.json()["id"])


def bodies(train: str, test: str, number: int) -> Body:
    """The body of a request: four methods in turn, no two bodies alike."""
    methods: tuple[Body, ...] = (
        {"method": "wsd", "order": "nft"},
        {"method": "tma", "order": "nft", "limit": 500},
        {"method": "ot", "order": "fft"},
        {"method": "random"},
    )
    return {"train": train, "test": test, "seed": number, **methods[number % len(methods)]}


async def load(client: httpx.AsyncClient, requests: list[Body], rate: float, *, key_prefix: str) -> list[Answer]:
    """Send request n at n / rate seconds, whatever became of those before; the answers in that order."""
    started_s = time.perf_counter() + LEAD_S

    async def one(number: int, body: Body) -> Answer:
        due_s = number / rate
        await asyncio.sleep(max(0.0, started_s + due_s - time.perf_counter()))
        try:
            got = await client.post("/arrangements", json=body, headers={"Idempotency-Key": f"{key_prefix}{number}"})
            status, text = got.status_code, got.text
        except httpx.TransportError as error:
            status, text = 0, f"{type(error).__name__}: {error}"
        return Answer(due_s, (time.perf_counter() - started_s - due_s) * 1e3, status, text)

    gc.collect()
    gc.freeze()  # a collection of this process would be charged to the server
    with progress_bar("load") as progress:
        tasks = [asyncio.create_task(one(number, body)) for number, body in enumerate(requests)]
        for done, each in enumerate(asyncio.as_completed(tasks), start=1):
            await each
            if done % 50 == 0:
                progress(done, len(tasks), "requests")
    return [task.result() for task in tasks]


async def run_load(url: str, key: str, requests: list[Body], rate: float, *, key_prefix: str) -> list[Answer]:
    """`load`, over connections of its own that stay open."""
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=200)
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, limits=limits, timeout=30) as client:
        return await load(client, requests, rate, key_prefix=key_prefix)


def lost_runs(database: Database, ids: list[str]) -> list[str]:
    """Of the answered ids those that aren't in the registry with their first event, and those that came twice."""
    with database.read() as session:
        rows = session.execute(select(RunRow.id).where(RunRow.kind == RunKind.ARRANGEMENT)).scalars()
        known = set(rows)
        events = dict(session.execute(select(EventRow.run_id, func.count()).group_by(EventRow.run_id)).all())
    twice = {run_id for run_id in ids if ids.count(run_id) > 1} if len(set(ids)) < len(ids) else set()
    return sorted(twice | {run_id for run_id in ids if run_id not in known or not events.get(run_id)})


def summarized(answers: list[Answer], options: argparse.Namespace) -> Body:
    """Times in milliseconds, and what went wrong."""
    waited = np.array([answer.waited_ms for answer in answers])
    percentiles = {f"p{p:g}": round(float(np.percentile(waited, p)), 1) for p in (50, 90, 99, 99.9)}
    slow_s = [round(answer.due_s, 1) for answer in answers if answer.waited_ms > BAR_P99_MS]
    return {
        "rate": options.rate,
        "seconds": options.seconds,
        "requests": len(answers),
        "ms": {**percentiles, "max": round(float(waited.max()), 1)},
        "above_bar": {"requests": len(slow_s), "at_s": slow_s[:50]},
        "refused": [answer.body for answer in answers if answer.status != 202][:5],
        "num_refused": sum(answer.status != 202 for answer in answers),
    }


def machine() -> Body:
    """What the times were measured on."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": names[0].partition(":")[2].strip() if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "niceness": os.nice(0),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: version(name) for name in ("fastapi", "uvicorn", "sqlalchemy", "psycopg")},
    }


def measure(options: argparse.Namespace) -> Body:
    """Start everything, send the load, look into the registry."""
    found_machine = machine()
    with tempfile.TemporaryDirectory() as folder, PostgresServer() as postgres, RedisServer() as redis:
        database_url = postgres.create_database()
        upgrade(database_url)
        database = Database(database_url)
        with database.write() as session:
            key = create_key(session, "bench", Role.SUBMIT).key
        with api_process(Path(folder), database_url, redis.url()) as url:
            with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
                train, test = register(client, "train", NUM_TRAIN), register(client, "test", NUM_TEST)
            warm = [bodies(train, test, number) for number in range(WARM_UP_REQUESTS)]
            asyncio.run(run_load(url, key, warm, options.rate, key_prefix="warm"))
            requests = [bodies(train, test, number) for number in range(round(options.rate * options.seconds))]
            answers = asyncio.run(run_load(url, key, requests, options.rate, key_prefix="load"))
            repeated = asyncio.run(run_load(url, key, requests[:NUM_REPEATED], options.rate, key_prefix="load"))
        ids = [answer.run_id for answer in answers if answer.run_id is not None]
        lost = lost_runs(database, ids)
        database.close()
        result = summarized(answers, options)
    return result | {
        "lost": lost[:5],
        "num_lost": len(lost),
        "repeated_the_same": [a.run_id for a in repeated] == [a.run_id for a in answers[:NUM_REPEATED]],
        "machine": found_machine,
    }


def print_table(result: Body) -> None:
    """The result for a person, on stderr: stdout is JSON alone."""
    table = Table(title=f"{result['requests']} POST /arrangements, {result['rate']:g} a second")
    for column in (*result["ms"], "refused", "lost"):
        table.add_column(column, justify="right")
    table.add_row(
        *(f"{ms:.1f} ms" for ms in result["ms"].values()), str(result["num_refused"]), str(result["num_lost"])
    )
    console.print(table)
    if result["ms"]["p99"] >= BAR_P99_MS:
        console.print(f"p99 is {result['ms']['p99']} ms, bar {BAR_P99_MS:g} ms")


def main() -> int:
    """Measure and print; 1 when a run was refused or lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the load")
    result = measure(parser.parse_args())
    print(json.dumps(result, indent=2))
    print_table(result)
    return int(bool(result["num_refused"] or result["num_lost"] or not result["repeated_the_same"]))


if __name__ == "__main__":
    sys.exit(main())
