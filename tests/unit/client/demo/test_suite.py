import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import httpx
import pytest

from nearfirst.client.demo.suite import Suite, SuiteFailed, free_port, running_suite

SERVER = """
import http.server, pathlib, signal, subprocess, sys
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *arguments):
        pass
home, port = pathlib.Path(sys.argv[1]), int(sys.argv[2])
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
(home / "child").write_text(str(child.pid))
if "stubborn" in sys.argv:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
try:
    http.server.HTTPServer(("127.0.0.1", port), Ready).serve_forever()
except KeyboardInterrupt:
    (home / "stopped_by").write_text("SIGINT")
"""


def server(*flags: str):
    """Stands in for `nearfirst up`: answers every GET with 200, and has a child that outlives it."""
    return lambda home, port: [sys.executable, "-c", SERVER, str(home), str(port), *flags]


def wait_until_gone(pid: int) -> None:
    """Return when no such process runs (a zombie waiting for its reaper does not run)."""
    deadline = time.monotonic() + 10
    status = Path(f"/proc/{pid}/status")
    while status.exists() and "State:\tZ" not in status.read_text():
        assert time.monotonic() < deadline, f"process {pid} still runs"
        time.sleep(0.02)


def test_the_suite_serves_inside_the_context_and_is_gone_after_it_with_its_children(tmp_path):
    with running_suite(tmp_path, command=server()) as suite:
        assert httpx.get(suite.url + "/readyz").status_code == 200
        suite.check_alive()
    with pytest.raises(httpx.ConnectError):
        httpx.get(suite.url + "/readyz")
    assert (tmp_path / "stopped_by").read_text() == "SIGINT"
    wait_until_gone(int((tmp_path / "child").read_text()))


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_the_suite_is_stopped_when_the_context_fails(tmp_path, error):
    with pytest.raises(error), running_suite(tmp_path, command=server()) as suite:
        raise error
    with pytest.raises(SuiteFailed, match="exit code 0"):
        suite.check_alive()


def test_a_suite_that_ignores_signals_is_killed(tmp_path):
    suite = Suite(server("stubborn")(tmp_path, free_port()), "http://127.0.0.1:1", tmp_path / "log")
    deadline = time.monotonic() + 10
    while not (tmp_path / "child").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    suite.stop(((signal.SIGINT, 0.1), (signal.SIGTERM, 0.1)))
    with pytest.raises(SuiteFailed, match="SIGKILL"):
        suite.check_alive()
    wait_until_gone(int((tmp_path / "child").read_text()))


def test_a_suite_that_ends_at_once_is_an_error_with_the_end_of_its_log(tmp_path):
    command = [sys.executable, "-c", "print('port taken'); raise SystemExit(3)"]
    with (
        pytest.raises(SuiteFailed, match=r"(?s)exit code 3.*up\.log.*port taken"),
        running_suite(tmp_path, command=lambda home, port: command),
    ):
        pytest.fail("the context must not be entered")


def test_a_suite_that_never_becomes_ready_is_an_error_and_is_stopped(tmp_path):
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with (
        pytest.raises(SuiteFailed, match=r"not ready after 0\.3 s"),
        running_suite(tmp_path, command=lambda home, port: command, ready_timeout_s=0.3),
    ):
        pytest.fail("the context must not be entered")


def test_sigterm_to_the_demo_stops_the_suite_too(tmp_path):
    (tmp_path / "server.py").write_text(SERVER)
    script = textwrap.dedent("""
        import pathlib, sys, time
        from nearfirst.client.demo.suite import running_suite
        home = pathlib.Path(sys.argv[1])
        command = lambda home, port: [sys.executable, str(home / "server.py"), str(home), str(port)]
        with running_suite(home, command=command):
            print("ready", flush=True)
            while True:
                time.sleep(0.05)
    """)
    demo = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with demo:
        try:
            assert demo.stdout is not None
            assert demo.stdout.readline() == "ready\n"
            os.kill(demo.pid, signal.SIGTERM)
            assert demo.wait(30) == 128 + signal.SIGTERM
        finally:
            demo.kill()
    assert (tmp_path / "stopped_by").read_text() == "SIGINT"
    wait_until_gone(int((tmp_path / "child").read_text()))
