import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import uvicorn
from fastapi import FastAPI


@pytest.fixture
def serve() -> Iterator[Callable[[FastAPI], str]]:
    """Runs an app under uvicorn on a free loopback port until the test ends; returns its URL."""
    with contextlib.ExitStack() as stack:

        def start(app: FastAPI) -> str:
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            server = uvicorn.Server(
                uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
            )
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()

            def stop() -> None:
                server.should_exit = True
                thread.join(10)

            stack.callback(stop)
            while not server.started:
                time.sleep(0.01)
            return f"http://127.0.0.1:{listener.getsockname()[1]}"

        yield start


@pytest.fixture
def refused_url() -> str:
    """A loopback URL that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"
