"""A worker that is told to end doesn't wait for the generation server."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

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
