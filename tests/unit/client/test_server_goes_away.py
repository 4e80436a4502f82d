"""The server goes away while a run is followed: the client waits for it, says so, and gives up after a time."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response, StreamingResponse
from rich.console import Console

from nearfirst.client import Client, ServerUnreachable
from nearfirst.client import events as client_events
from nearfirst.client.watch import connection_teller
from nearfirst.contracts.runs import RunState

JOB = {"id": "job_1", "spec": {"dataset": "ds_1", "model": {"name_or_path": "m"}}}


def job_app(followed: threading.Event, last_state: str = "running") -> FastAPI:
    """A job that runs until its events are asked for, which are none, and is then in its last state."""
    app = FastAPI()
    app.add_api_route("/train-jobs/job_1", lambda: JOB | {"state": last_state if followed.is_set() else "running"})

    @app.get("/events")
    def events() -> Response:
        followed.set()
        return StreamingResponse(iter([": ping\n\n"]), media_type="text/event-stream")

    return app


def waiter_whose_server_is_gone(port: int) -> "Waiter":
    """A waiter whose server was there, and was followed."""
    followed = threading.Event()
    with serving(job_app(followed), port):
        waiter = Waiter(port)
        assert followed.wait(60), waiter.ended
    return waiter


@contextmanager
def serving(app: FastAPI, port: int) -> Iterator[None]:
    config = uvicorn.Config(app, port=port, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Waiter:
    """`Client.wait` in a thread."""

    def __init__(self, port: int) -> None:
        self.told: list[bool] = []
        self.ended: Any = None
        self._port = port
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with Client(f"http://127.0.0.1:{self._port}") as client:
            try:
                self.ended = client.wait("job_1", on_connection=self.told.append)
            except Exception as error:  # noqa: BLE001  (whatever it is, the test looks at it)
                self.ended = error

    def wait_until_told(self, is_there: bool) -> None:
        deadline = time.monotonic() + 60
        while is_there not in self.told:
            assert time.monotonic() < deadline, self.ended
            time.sleep(0.02)

    def result(self) -> Any:
        self._thread.join(60)
        return self.ended


def test_a_server_that_is_away_for_a_while_is_waited_for_and_its_return_is_told(port: int) -> None:
    waiter = waiter_whose_server_is_gone(port)
    waiter.wait_until_told(is_there=False)
    with serving(job_app(threading.Event(), "succeeded"), port):
        run = waiter.result()
    assert getattr(run, "state", run) is RunState.SUCCEEDED
    assert waiter.told == [False, True]


def test_a_proxy_without_its_server_is_waited_for_too(port: int) -> None:
    away = FastAPI()

    @away.get("/{path:path}")
    def answer(path: str) -> Response:
        return JSONResponse({"detail": path}, status_code=502)

    waiter = waiter_whose_server_is_gone(port)
    with serving(away, port):
        waiter.wait_until_told(is_there=False)
    with serving(job_app(threading.Event(), "succeeded"), port):
        run = waiter.result()
    assert getattr(run, "state", run) is RunState.SUCCEEDED


def test_a_server_that_stays_away_is_given_up_and_the_message_says_what_goes_on(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_events, "GIVE_UP_S", 1.0)
    waiter = waiter_whose_server_is_gone(port)
    error = waiter.result()
    assert isinstance(error, ServerUnreachable)
    assert "has not answered for 1 s" in error.detail
    assert "follows it again" in error.detail


def test_the_command_line_says_that_the_server_is_away_and_that_it_is_back(capsys: pytest.CaptureFixture[str]) -> None:
    tell = connection_teller(Console(stderr=True))
    tell(False)
    tell(True)
    said = capsys.readouterr().err.splitlines()
    assert said == ["the server doesn't answer; trying for 60 s", "the server answers again"]
