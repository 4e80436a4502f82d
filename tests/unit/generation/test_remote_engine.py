"""A generation server that ends is waited for, unless the worker itself is told to end."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from nearfirst.contracts.problems import Unavailable
from nearfirst.contracts.progress import Interrupted
from nearfirst_generation.remote_engine import RemoteEngine


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def assert_interrupted(port: int) -> None:
    stopping = threading.Event()
    engine = RemoteEngine(f"http://127.0.0.1:{port}", timeout_s=60, restart_s=60, stopping=stopping)
    threading.Timer(0.3, stopping.set).start()
    began_s = time.monotonic()
    with pytest.raises(Interrupted):
        engine.info()
    assert time.monotonic() - began_s < 20


def test_a_request_in_progress_is_left_to_itself(silent_port: int) -> None:
    assert_interrupted(silent_port)


def test_a_server_that_is_away_is_not_waited_for(closed_port: int) -> None:
    assert_interrupted(closed_port)


@pytest.fixture
def failing_server() -> Iterator[HTTPServer]:
    """Fails twice as its attribute `failure` says, a content type and a body, then answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            failures = self.server.failures  # type: ignore[attr-defined]
            status, content_type, body = (500, *failures.pop()) if failures else (200, "application/json", MODELS)
            self.send_response(status)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


MODELS = json.dumps({"data": [{"id": "default", "max_model_len": 64}]}).encode()


def test_a_request_that_an_ending_server_broke_off_is_sent_again(failing_server: HTTPServer) -> None:
    failing_server.failures = [("text/plain; charset=utf-8", b"Internal Server Error")] * 2  # type: ignore[attr-defined]
    engine = RemoteEngine(f"http://127.0.0.1:{failing_server.server_port}", restart_s=60)
    assert engine.max_length == 64
    engine.close()


def test_an_error_of_the_application_is_told_at_once(failing_server: HTTPServer) -> None:
    failing_server.failures = [("application/json", b'{"error": "scripted"}')] * 2  # type: ignore[attr-defined]
    engine = RemoteEngine(f"http://127.0.0.1:{failing_server.server_port}", restart_s=60)
    with pytest.raises(Unavailable, match="scripted"):
        assert engine.max_length
    assert len(failing_server.failures) == 1  # type: ignore[attr-defined]
    engine.close()
