"""`nearfirst up`: the whole suite on one machine, in one terminal.

Processes: the API and one Celery worker for each installed service that has one (entry points `nearfirst.workers`), on
SQLite, a folder as broker and a folder as store; on request the embedding server too (entry point group
`nearfirst.servers`). Ctrl-C or SIGTERM ends them all; work in progress goes back to the
queue and continues with the next `nearfirst up`.
"""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console

from nearfirst.client.errors import NotInstalled
from nearfirst.client.output import AsJson, print_json
from nearfirst.contracts.problems import InvalidInput, NearfirstError, StateConflict
from nearfirst.processes import end_with_parent
from nearfirst.settings import Settings

_READY_S = 60.0
_GRACE_S = 30.0
_POLL_S = 0.2
_MAX_RESTARTS = 5
_HEALTHY_S = 60.0
_API = "api"
_EMBEDDING = "embedding"

console = Console(stderr=True)


def up(
    home: Annotated[
        Path | None, typer.Option(help="Folder with everything that the suite keeps; by default .nearfirst.")
    ] = None,
    port: Annotated[int, typer.Option(help="Port of the API.", min=1, max=65535)] = 8000,
    host: Annotated[str, typer.Option(help="Address of the API.")] = "127.0.0.1",
    embedding_port: Annotated[
        int | None,
        typer.Option(help="Port of /v1/embeddings and /indexes; without it they aren't served.", min=1, max=65535),
    ] = None,
    training_workers: Annotated[
        int, typer.Option(help="Jobs that train on the CPU at the same time, besides those on GPUs.", min=1, max=64)
    ] = 1,
    data_root: Annotated[
        list[Path] | None,
        typer.Option(help="Folder that requests may name files in, besides HOME/data and HOME/models."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the API and all workers on this machine until Ctrl-C; with --json, print their addresses once it is ready."""
    from nearfirst.registry.migrate import upgrade

    given: dict[str, Any] = {"home": home, "data_roots": data_root, "cpu_jobs": training_workers}
    settings = Settings(**{name: value for name, value in given.items() if value is not None})
    for folder in (settings.home, *settings.allowed_roots, settings.runs_dir):
        folder.mkdir(parents=True, exist_ok=True)
    servers = _servers(port, embedding_port)
    with _only_one(settings.home):
        for server in servers:
            _refuse_taken_port(host, server.port)
        upgrade(settings.database_url)
        suite = _Suite(settings, host, servers, training_workers, as_json=as_json)
        try:
            suite.run()
        finally:
            suite.stop()


@dataclass(frozen=True, slots=True)
class _Server:
    """An ASGI application of the suite and where it listens."""

    name: str
    title: str
    factory: str
    port: int


def _servers(port: int, embedding_port: int | None) -> list[_Server]:
    """The API, and the embedding server when it has a port.

    Raises:
        InvalidInput: both ports are one.
        NotInstalled: the embedding service is missing.
    """
    servers = [_Server(_API, "Nearfirst is up", "nearfirst_arrangement.app:make_app", port)]
    if embedding_port is None:
        return servers
    if embedding_port == port:
        raise InvalidInput(f"--embedding-port: got {embedding_port}, which is the API's own port (--port)")
    factory = next((entry.value for entry in entry_points(group="nearfirst.servers", name="embedding")), None)
    if factory is None:
        raise NotInstalled("--embedding-port wants the embedding service, which isn't installed: nearfirst-embedding")
    return [*servers, _Server("embedding-server", "embedding server", factory, embedding_port)]


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """Refuse a second suite on the same home."""
    with (home / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StateConflict(f"another `nearfirst up` runs on {home}") from error
        yield


def _refuse_taken_port(host: str, port: int) -> None:
    """Refuse a port that another program listens on: its answers would be taken for this suite's.

    Raises:
        StateConflict: it is taken, or the host isn't an address of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise StateConflict(f"can't listen on {host}, port {port}: {error}") from error


def thread_limit(process: str, training_workers: int) -> dict[str, str]:
    """Environment variables that keep a process of the suite to its share of the cores.

    Several trainings at a time share the cores with what is measured meanwhile; left alone, each process would start a
    thread for every core. The embedding worker may: what trains on its vectors waits for it. Its threads sleep while
    they wait for one another: where others had the cores too, spinning took five times the processor time.
    """
    if process == _EMBEDDING:
        return {"OMP_WAIT_POLICY": "PASSIVE"}
    if training_workers == 1:
        return {}
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // training_workers))}


class _Suite:
    """The processes of one `nearfirst up`."""

    def __init__(
        self, settings: Settings, host: str, servers: list[_Server], training_workers: int, *, as_json: bool
    ) -> None:
        self._settings = settings
        self._announcement = {
            "home": str(settings.home.resolve()),
            **{server.name: f"http://{host}:{server.port}" for server in servers},
        }
        self._as_json = as_json
        self._urls = {server.title: f"http://{host}:{server.port}" for server in servers}
        self._url = f"http://{host}:{servers[0].port}"
        self._stop_requested = False
        self._num_restarts: Counter[str] = Counter()
        self._started_s: dict[str, float] = {}
        self._training_workers = training_workers
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._commands = {
            server.name: [
                sys.executable, "-m", "uvicorn", server.factory, "--factory", "--host", host,
                "--port", str(server.port), "--timeout-graceful-shutdown", "2", "--log-level", "warning",
            ]
            for server in servers
        }  # fmt: skip
        for entry in entry_points(group="nearfirst.workers"):
            self._commands[entry.name] = [
                sys.executable, "-m", "celery", "-A", entry.value, "worker",
                "--hostname", f"{entry.name}@%h", "--loglevel", "INFO", "--without-gossip", "--without-mingle",
            ]  # fmt: skip

    def run(self) -> None:
        """Start everything and watch it until a signal comes.

        Raises:
            NearfirstError: a process ended by itself.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # SIGHUP: the terminal was closed
            signal.signal(number, self._request_stop)
        for name in self._commands:
            self._start(name)
        with console.status("starting"):
            self._wait_until_ready()
        if not self._stop_requested:
            urls = ", ".join(f"{title}: {url}" for title, url in self._urls.items())
            console.print(f"{urls} (home {self._settings.home}; Ctrl-C ends it)", highlight=False)
            if self._as_json:
                print_json(self._announcement)
                sys.stdout.flush()
        while not self._stop_requested:
            self._check_alive()
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """End what runs: SIGTERM, then after a time SIGKILL. Workers put their runs back meanwhile."""
        console.print("Stopping; work in progress goes back to the queue.")
        for process in self._processes.values():
            process.terminate()
        deadline_s = time.monotonic() + _GRACE_S
        for process in self._processes.values():
            try:
                process.wait(max(deadline_s - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, name: str) -> None:
        log = self._settings.home / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        self._started_s[name] = time.monotonic()
        with log.open("ab") as output:
            # A session of its own: Ctrl-C reaches this process alone, which ends the others in order.
            self._processes[name] = subprocess.Popen(
                self._commands[name],
                stdout=output,
                stderr=output,
                env=self._settings.as_environment() | thread_limit(name, self._training_workers),
                start_new_session=True,
                preexec_fn=end_with_parent,
            )

    def _wait_until_ready(self) -> None:
        give_up_s = time.monotonic() + _READY_S
        while not self._stop_requested:
            self._check_alive()
            try:
                if httpx.get(f"{self._url}/readyz", timeout=2).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            if time.monotonic() > give_up_s:
                raise NearfirstError(f"the API isn't ready after {_READY_S:.0f} s; see {self._settings.home / 'logs'}")
            time.sleep(_POLL_S)

    def _check_alive(self) -> None:
        """Start a worker again that was killed; its run is not lost.

        Raises:
            NearfirstError: the API ended, or a worker that soon ended each time it was started.
        """
        for name, process in list(self._processes.items()):
            if process.poll() is None or self._stop_requested:
                continue
            lived_s = time.monotonic() - self._started_s[name]
            self._num_restarts[name] = 1 if lived_s > _HEALTHY_S else self._num_restarts[name] + 1
            log = self._settings.home / "logs" / f"{name}.log"
            if name == _API or self._num_restarts[name] > _MAX_RESTARTS:
                tail = log.read_text(errors="replace").strip().splitlines()[-1:]
                raise NearfirstError(f"{name} ended with code {process.returncode}; see {log}: {' '.join(tail)}")
            console.print(f"{name} ended with code {process.returncode}; starting it again (log: {log})")
            self._start(name)

    def _request_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stop_requested = True
