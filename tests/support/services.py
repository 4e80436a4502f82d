"""Real PostgreSQL and Redis servers of a test's own: free loopback ports, temporary folders, no durability.

    with PostgresServer() as postgres:
        url = postgres.create_database()
        postgres.kill()      # SIGKILL, as in a crash
        postgres.start()     # same port, same data

Only processes that these objects started are ever signalled.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
import redis
from tests.support.binaries import find_postgres_bin, find_redis_server

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
_POLL_S = 0.02
_LOG_TAIL_CHARS = 2000
_PROVIDE = "`make test` provides it, and so does `python -m tests.support.provide`"


class ServerUnavailable(RuntimeError):
    """The program isn't on this machine, or didn't start; the message has the end of its log."""


def free_port() -> int:
    """A loopback port that nothing listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server(ABC):
    """A child process that listens on one port, and its folder."""

    stop_signal = signal.SIGTERM

    def __init__(self, name: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"nearfirst-{name}-"))
        self.port = free_port()
        self.user: str | None = None
        """Who the process runs as; None: whoever runs the tests."""
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """The command line of the server, in the foreground."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it answers."""

    @property
    def pid(self) -> int:
        """The running server's process."""
        if self._process is None:
            raise ServerUnavailable(f"{type(self).__name__} is not running")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start on the same port and data as before; returns once it answers."""
        if self.is_running:
            return self
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, user=self.user
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                log_tail = (self.folder / "server.log").read_text(errors="replace")[-_LOG_TAIL_CHARS:]
                raise ServerUnavailable(f"{type(self).__name__} didn't start on port {self.port}:\n{log_tail}")
            time.sleep(_POLL_S)
        return self

    def stop(self) -> None:
        """Ask it to end, and wait; SIGKILL when it takes too long."""
        if self._process is None:
            return
        if self.is_running:
            self._process.send_signal(self.stop_signal)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._process = None

    def kill(self) -> None:
        """SIGKILL the server and its children at once, as a power cut would: a busy backend must not live on alone."""
        if self._process is None:
            return
        if self.is_running:
            self._process.send_signal(signal.SIGSTOP)  # so that it can't start another child meanwhile
            for child in _children(self._process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            self._process.kill()
        self._process.wait()
        self._process = None

    def restart(self) -> None:
        """Stop, then start on the same port and data."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop, and remove the folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class PostgresServer(Server):
    """PostgreSQL with the superuser `postgres` and no password. As root it runs as a user without rights."""

    stop_signal = signal.SIGINT  # fast shutdown: open connections are ended, nothing is lost

    def __init__(self) -> None:
        binaries = find_postgres_bin()
        if binaries is None:
            raise ServerUnavailable(f"PostgreSQL (initdb, postgres) isn't on this machine; {_PROVIDE}")
        super().__init__("postgres")
        self._data = self.folder / "data"
        if os.geteuid() == 0:
            self.user = _unprivileged_user()
            shutil.chown(self.folder, self.user)
        self._bin = self._usable_binaries(binaries)
        self._initialise()

    def command(self) -> list[str]:
        """Loopback only. No waiting for the disk: a commit survives the death of the processes, not of the machine."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
            "max_connections": "200",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self._bin / "postgres"), "-D", str(self._data), *options]

    def is_ready(self) -> bool:
        """Whether it takes connections."""
        try:
            psycopg.connect(self._conninfo("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def url(self, database: str = "postgres") -> str:
        """SQLAlchemy's URL of one of its databases."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{database}"

    def create_database(self, *, name: str | None = None, template: str = "template0") -> str:
        """A new database, the same as `template` (which nobody may be connected to); returns its URL."""
        name = name or f"test_{uuid.uuid4().hex[:12]}"
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Remove a database of `create_database`, whoever is connected to it."""
        name = url.rpartition("/")[2]
        self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _conninfo(self, database: str) -> str:
        return f"host=127.0.0.1 port={self.port} user=postgres dbname={database}"

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self._conninfo("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def _usable_binaries(self, binaries: Path) -> Path:
        """`binaries`, or a copy where the server's user can reach it: a virtual environment may lie in root's home."""
        try:
            subprocess.run([binaries / "postgres", "--version"], check=True, capture_output=True, user=self.user)
        except PermissionError:
            return _copy_packaged_postgres(binaries, self.folder)
        return binaries

    def _initialise(self) -> None:
        command = [str(self._bin / "initdb"), "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        made = subprocess.run(
            [*command, "--no-locale", "--no-sync"], capture_output=True, text=True, user=self.user, cwd=self.folder
        )
        if made.returncode != 0:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise ServerUnavailable(f"initdb failed: {made.stderr.strip()}")


class RedisServer(Server):
    """Redis that keeps nothing: after a restart it is empty."""

    def __init__(self) -> None:
        program = find_redis_server()
        if program is None:
            raise ServerUnavailable(f"redis-server isn't on this machine; {_PROVIDE}")
        super().__init__("redis")
        self._program = program

    def command(self) -> list[str]:
        """Loopback only; no snapshots and no log of commands."""
        options = {"port": str(self.port), "bind": "127.0.0.1", "dir": str(self.folder), "save": "", "appendonly": "no"}
        return [str(self._program), *(part for name, value in options.items() for part in (f"--{name}", value))]

    def is_ready(self) -> bool:
        """Whether it answers PING."""
        try:
            with redis.Redis(port=self.port, socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def url(self, database: int = 0) -> str:
        """URL of one of its numbered databases."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    def flush(self) -> None:
        """Forget everything, in all databases."""
        with redis.Redis(port=self.port) as client:
            client.flushall()


def _copy_packaged_postgres(binaries: Path, folder: Path) -> Path:
    """Copy SITE/pgserver/pginstall, and the libraries that it looks for in SITE/pgserver.libs; returns the new bin."""
    package = binaries.parent.parent
    shutil.copytree(binaries.parent, folder / "site" / package.name / binaries.parent.name)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / "site" / libraries.name)
    return folder / "site" / package.name / binaries.parent.name / binaries.name


def _children(pid: int) -> list[int]:
    """Child processes of a process of ours; empty where there is no /proc."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _unprivileged_user() -> str:
    """PostgreSQL refuses to run as root: its own user where there is one, else `nobody`."""
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"
