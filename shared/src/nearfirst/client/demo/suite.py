"""An embedded suite (`nearfirst up`) as a subprocess that is always stopped."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from nearfirst.client.api import Client
from nearfirst.contracts.problems import NearfirstError
from nearfirst.processes import end_with_parent

READY_TIMEOUT_S = 90.0
POLL_S = 0.1
STOP_SIGNALS: tuple[tuple[signal.Signals, float], ...] = ((signal.SIGINT, 45.0), (signal.SIGTERM, 10.0))
"""What is sent to the suite in turn, and how long it may take to end (its own patience with its processes is 30 s);
SIGKILL comes last."""
MAX_TRAINING_WORKERS = 4
"""Each needs about 0.6 GB of memory."""
LOG_TAIL_LINES = 15


class SuiteFailed(NearfirstError):
    """The suite ended or did not become ready; the detail has the end of its log."""

    code = "suite_failed"
    title = "Suite failed"


def free_port() -> int:
    """A loopback port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def num_training_workers() -> int:
    """A training worker for each usable core, at most `MAX_TRAINING_WORKERS`.

    Several single-threaded trainings of a tiny model finish sooner than one after the other on all cores.
    """
    return min(len(os.sched_getaffinity(0)), MAX_TRAINING_WORKERS)


def up_command(home: Path, port: int) -> list[str]:
    """`nearfirst up` of this environment."""
    up = [sys.executable, "-m", "nearfirst.client", "up", "--training-workers", str(num_training_workers())]
    return [*up, "--home", str(home), "--port", str(port)]


class Suite:
    """A running suite: the process, in a group of its own, and its log."""

    def __init__(self, command: list[str], url: str, log: Path) -> None:
        self.url = url
        self.log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )

    def check_alive(self) -> None:
        """Raise `SuiteFailed` when the process has ended."""
        code = self._process.poll()
        if code is not None:
            raise SuiteFailed(f"`nearfirst up` ended with {_describe_exit(code)}; {self._log_tail()}")

    def wait_ready(self, timeout_s: float) -> None:
        """Return once the API says that it is ready; raise `SuiteFailed` when it ends or takes too long."""
        deadline = time.monotonic() + timeout_s
        with Client(self.url, timeout_s=5.0) as client:
            while not client.is_ready():
                self.check_alive()
                if time.monotonic() > deadline:
                    raise SuiteFailed(f"`nearfirst up` is not ready after {timeout_s:g} s; {self._log_tail()}")
                time.sleep(POLL_S)

    def stop(self, signals: tuple[tuple[signal.Signals, float], ...] = STOP_SIGNALS) -> None:
        """End the process, gently first, and whatever is left of its group."""
        for number, patience_s in signals:
            if self._process.poll() is not None:
                break
            self._process.send_signal(number)
            try:
                self._process.wait(patience_s)
            except subprocess.TimeoutExpired:
                continue
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        finally:
            self._process.wait()

    def _log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n".join([f"the end of {self.log}:", *lines])


@contextmanager
def running_suite(
    home: Path,
    *,
    command: Callable[[Path, int], list[str]] = up_command,
    ready_timeout_s: float = READY_TIMEOUT_S,
) -> Iterator[Suite]:
    """A suite in `home` on a free port, ready; stopped at the end however that comes, SIGTERM included.

    Args:
        home: the suite's folder; its log goes to `home`/up.log.
        command: from `home` and a port to what is run.
        ready_timeout_s: longest start, in seconds.

    Raises:
        SuiteFailed: it ended before it was ready, or was not ready in time.
    """
    home.mkdir(parents=True, exist_ok=True)
    port = free_port()
    with _sigterm_unwinds():
        suite = Suite(command(home, port), f"http://127.0.0.1:{port}", home / "up.log")
        try:
            suite.wait_ready(ready_timeout_s)
            yield suite
        finally:
            suite.stop()


@contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    """Inside, SIGTERM raises SystemExit, so that `finally` blocks run."""

    def unwind(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _describe_exit(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
