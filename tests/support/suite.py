"""A whole suite as the containers run it: API and Celery workers as processes, on PostgreSQL and Redis."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

WORKERS = {
    "embedding": "nearfirst_embedding.worker:app",
    "arrangement": "nearfirst_arrangement.worker:app",
    "training": "nearfirst_training.worker:app",
}
REPOSITORY = Path(__file__).parents[2]
TERMINAL = ("succeeded", "failed", "cancelled")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RunningSuite:
    """Starts what it is told to, and ends all of it on `close`."""

    def __init__(self, home: Path, database_url: str, broker_url: str, **settings: str) -> None:
        self.home = home
        self.url = f"http://127.0.0.1:{free_port()}"
        self.client = httpx.Client(base_url=self.url, timeout=30)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ports: dict[str, int] = {}
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("NEARFIRST_")},
            "NEARFIRST_HOME": str(home),
            "NEARFIRST_DATABASE_URL": database_url,
            "NEARFIRST_BROKER_URL": broker_url,
            "NEARFIRST_LEASE_S": "3",
            "NEARFIRST_HEARTBEAT_S": "0.5",
            "NEARFIRST_SWEEP_S": "0.5",
            "NEARFIRST_REDELIVER_S": "3",
            "NEARFIRST_GPUS": "",  # those of this machine, if it has any, are none of the tests'
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": ":".join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")])),
            "PYTHONWARNINGS": "error::RuntimeWarning",
            **settings,
        }
        for folder in ("data", "models", "logs"):
            (home / folder).mkdir(parents=True, exist_ok=True)

    def start_api(self) -> None:
        self.start_server("api", "nearfirst_arrangement.app:make_app", int(self.url.rsplit(":", 1)[1]), until="/readyz")

    def start_server(self, name: str, factory: str, port: int, *, until: str = "/healthz") -> None:
        """Start an ASGI application; returns when it answers at `until`."""
        command = f"-m uvicorn {factory} --factory --host 127.0.0.1 --timeout-graceful-shutdown 1 --log-level warning"
        self._start(name, [*command.split(), "--port", str(port)])
        self._ports[name] = port
        give_up = time.monotonic() + 60
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}{until}").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            assert self._processes[name].poll() is None, self.log(name)
            assert time.monotonic() < give_up, self.log(name)
            time.sleep(0.1)

    def start_worker(self, service: str, name: str | None = None, **settings: str) -> None:
        """Start a worker of a service, or of another Celery application by its place; `settings` are of it alone."""
        command = ["-m", "celery", "-A", WORKERS.get(service, service), "worker", "--loglevel", "INFO"]
        options = ["--without-gossip", "--without-mingle", "-n", f"{name or service}@%h"]
        self._start(name or service, [*command, *options], settings)

    def start_node(self, name: str, index: int, **settings: str) -> None:
        """Start a machine of a node group of training workers, which `settings` describe."""
        options = ["--loglevel", "INFO", "--without-gossip", "--without-mingle", "-n", f"{name}@%h"]
        of_node = {"NEARFIRST_NODE_INDEX": str(index), **settings}
        self._start(name, ["-m", "nearfirst_training.node", *options], of_node)

    def start(self) -> None:
        for service in WORKERS:
            self.start_worker(service)
        self.start_api()

    def signal(self, name: str, number: signal.Signals) -> int:
        """Send a signal to one process and wait for its end; returns its process id."""
        process = self._processes[name]
        process.send_signal(number)
        process.wait(60)
        return process.pid

    def stop(self, name: str) -> None:
        """End one process in order, if it still runs."""
        if self._processes[name].poll() is None:
            self.signal(name, signal.SIGTERM)

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def is_running(self, name: str) -> bool:
        return self._processes[name].poll() is None

    def settings(self) -> dict[str, str]:
        """Where this suite keeps things."""
        return {"database_url": self._environment["NEARFIRST_DATABASE_URL"], "store_url": str(self.home / "store")}

    def log(self, name: str) -> str:
        return (self.home / "logs" / f"{name}.log").read_text(errors="replace")

    def close(self) -> None:
        self.client.close()
        for process in self._processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self._processes.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, name: str, arguments: list[str], settings: Mapping[str, str] | None = None) -> None:
        environment = {**self._environment, **(settings or {})}
        with (self.home / "logs" / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, *arguments], stdout=log, stderr=log, env=environment, start_new_session=True
            )

    # What tests ask of the API.

    def upload(self, path: Path, **form: str) -> dict[str, Any]:
        with path.open("rb") as file:
            answer = self.client.post("/datasets", files={"file": (path.name, file)}, data=form)
        assert answer.status_code in (200, 201), answer.text
        return dict(answer.json())

    def post(self, path: str, body: dict[str, Any], key: str | None = None) -> str:
        """Queue a run; returns its id, after a GET has found it."""
        answer = self.client.post(path, json=body, headers={"Idempotency-Key": key} if key else {})
        assert answer.status_code == 202, answer.text
        run_id = str(answer.json()["id"])
        assert self.client.get(answer.headers["location"]).status_code == 200
        return run_id

    def get(self, path: str) -> dict[str, Any]:
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def get_from(self, server: str, path: str) -> dict[str, Any]:
        """As `get`, from another server than the API."""
        answer = httpx.get(f"http://127.0.0.1:{self._ports[server]}{path}", timeout=30)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def wait(self, path: str, until: tuple[str, ...] = TERMINAL, timeout_s: float = 120) -> dict[str, Any]:
        """Poll a run until its state is one of these."""
        give_up = time.monotonic() + timeout_s
        while True:
            run = self.get(path)
            if run["state"] in until:
                return run
            assert time.monotonic() < give_up, run
            time.sleep(0.1)

    def wait_for_metric(self, job_id: str, name: str, step: int, timeout_s: float = 120) -> None:
        """Poll until a job has measured this at this step."""
        give_up = time.monotonic() + timeout_s
        while not any(row["step"] >= step for row in self.get(f"/train-jobs/{job_id}/metrics?name={name}")["items"]):
            assert time.monotonic() < give_up, self.get(f"/train-jobs/{job_id}")
            time.sleep(0.05)
