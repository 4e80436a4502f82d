"""`nearfirst up`: one command, one terminal, clean shutdown."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from tests.support.suite import free_port

Up = Callable[..., tuple[subprocess.Popen[bytes], httpx.Client]]


def command(home: Path, port: int, *options: str) -> list[str]:
    return [sys.executable, "-m", "nearfirst.client", "up", "--home", str(home), "--port", str(port), *options]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    started: list[subprocess.Popen[bytes]] = []
    clients: list[httpx.Client] = []

    def start(*options: str) -> tuple[subprocess.Popen[bytes], httpx.Client]:
        port = free_port()
        with (tmp_path / "up.log").open("ab") as log:
            process = subprocess.Popen(command(tmp_path / "home", port, *options), stdout=log, stderr=log)
        started.append(process)
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)
        clients.append(client)
        give_up = time.monotonic() + 90
        while True:
            assert process.poll() is None, (tmp_path / "up.log").read_text()
            assert time.monotonic() < give_up, (tmp_path / "up.log").read_text()
            try:
                if client.get("/readyz").status_code == 200:
                    return process, client
            except httpx.TransportError:
                time.sleep(0.2)

    yield start
    for client in clients:
        client.close()
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.wait(60)


def upload(client: httpx.Client) -> str:
    rows = "".join(json.dumps({"prompt": f"Say {n}.", "completion": f"{n}"}) + "\n" for n in range(20))
    answer = client.post("/datasets", files={"file": ("rows.jsonl", rows.encode())})
    assert answer.status_code in (200, 201), answer.text
    return str(answer.json()["id"])


def state(client: httpx.Client, run_id: str, *wanted: str) -> str:
    give_up = time.monotonic() + 60
    while True:
        found = str(client.get(f"/arrangements/{run_id}").json()["state"])
        if found in wanted or time.monotonic() > give_up:
            return found
        time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_every_process_and_the_next_start_goes_on_where_it_was(up: Up, number: signal.Signals) -> None:
    process, client = up()
    dataset = upload(client)
    body = {"train": dataset, "test": dataset, "method": "random"}
    first = client.post("/arrangements", json=body).json()["id"]
    assert state(client, first, "succeeded", "failed") == "succeeded"
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 4  # the API and three workers
    process.send_signal(number)
    assert process.wait(40) == 0
    assert psutil.wait_procs(family, timeout=1)[1] == []

    _, client = up()
    assert state(client, first, "succeeded") == "succeeded"
    second = client.post("/arrangements", json={**body, "seed": 1}).json()["id"]
    assert state(client, second, "succeeded", "failed") == "succeeded"


def test_a_worker_that_is_killed_is_started_again(up: Up) -> None:
    process, client = up()
    dataset = upload(client)
    worker = next(
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "nearfirst_arrangement.worker:app" in child.cmdline()
    )
    worker.send_signal(signal.SIGKILL)
    run_id = client.post("/arrangements", json={"train": dataset, "test": dataset, "method": "random"}).json()["id"]
    assert state(client, run_id, "succeeded", "failed") == "succeeded"


def vector_of(port: int, text: str) -> list[float]:
    """What the embedding server answers, once it does."""
    give_up = time.monotonic() + 60
    while True:
        try:
            body = {"input": text, "model": "package:all-MiniLM-L6-v2"}
            answer = httpx.post(f"http://127.0.0.1:{port}/v1/embeddings", json=body, timeout=30)
            assert answer.status_code == 200, answer.text
            vector: list[float] = answer.json()["data"][0]["embedding"]
            return vector
        except httpx.TransportError:
            assert time.monotonic() < give_up
            time.sleep(0.2)


def test_an_embedding_server_runs_on_request_and_is_started_again_when_it_is_killed(
    up: Up, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEARFIRST_EMBEDDING_MODEL", "package:all-MiniLM-L6-v2")
    port = free_port()
    process, _ = up("--embedding-port", str(port))
    vector = vector_of(port, "near first")
    assert len(vector) == 384
    server = next(
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "nearfirst_embedding.app:make_app" in child.cmdline()
    )
    server.send_signal(signal.SIGKILL)
    server.wait(10)
    assert vector_of(port, "near first") == vector
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    assert process.wait(40) == 0
    assert psutil.wait_procs(family, timeout=1)[1] == []


def test_killing_the_supervisor_ends_the_suite_and_the_next_start_goes_on(up: Up) -> None:
    process, client = up()
    dataset = upload(client)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert psutil.wait_procs(family, timeout=30)[1] == []
    _, client = up()
    run_id = client.post("/arrangements", json={"train": dataset, "test": dataset, "method": "random"}).json()["id"]
    assert state(client, run_id, "succeeded", "failed") == "succeeded"


def test_a_second_suite_on_the_same_home_is_refused(up: Up, tmp_path: Path) -> None:
    up()
    second = subprocess.run(command(tmp_path / "home", free_port()), capture_output=True, text=True, timeout=60)
    assert second.returncode == 2
    assert "another `nearfirst up`" in second.stderr


def test_a_port_that_is_taken_is_told(up: Up, tmp_path: Path) -> None:
    _, client = up()
    port = int(str(client.base_url).rstrip("/").rsplit(":", 1)[1])
    second = subprocess.run(
        command(tmp_path / "other", port), capture_output=True, text=True, timeout=90, env={**os.environ}
    )
    assert second.returncode == 2
    assert "in use" in second.stderr
