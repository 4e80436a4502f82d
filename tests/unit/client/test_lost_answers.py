"""The first answer to a POST is lost: the request is sent again under its key, and what it changes changes once."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nearfirst.client import ApiError, Client
from nearfirst.contracts.arrangements import ArrangementSpec
from nearfirst.contracts.datasets import DatasetSource
from nearfirst.contracts.evaluations import EvaluationSpec
from nearfirst.contracts.runs import RunState
from nearfirst.contracts.studies import StudySpec
from nearfirst.contracts.training import TrainSpec

ACCEPTED = {"id": "x", "state": "queued"}
DATASET = {
    "id": "ds_1", "name": "n", "digest": "sha256:00", "format": "p3", "split": None, "num_examples": 1, "num_tasks": 1,
    "created_at": "2026-01-01T00:00:00Z",
}  # fmt: skip
TRAIN = {"model": {"name_or_path": "m"}}
STUDY = {
    "name": "s",
    "train": "ds_1",
    "test": "ds_2",
    "arrangements": [{"label": "a", "method": "as_is"}],
    "training": TRAIN,
}
ESTIMATES = {"tokens": None, "parameters": None, "checkpoints": None, "memory": None, "time": None}


class LossyServer:
    """Answers requests in turn; where an answer is None the connection is closed after the request was read."""

    def __init__(self, answers: list[tuple[int, dict[str, Any]] | None]) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._thread.join(10)
        self._listener.close()
        assert not self._thread.is_alive()

    def _run(self) -> None:
        for answer in self._answers:
            connection, _ = self._listener.accept()
            with connection, connection.makefile("rb") as stream:
                line = stream.readline().decode().strip()
                headers = {}
                while (header := stream.readline().decode().strip()) != "":
                    name, _, value = header.partition(":")
                    headers[name.lower()] = value.strip()
                self.requests.append((line, headers, self._body(stream, headers)))
                if answer is not None:
                    status, fields = answer
                    body = json.dumps(fields).encode()
                    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                    connection.sendall(head.encode() + body)

    @staticmethod
    def _body(stream: Any, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return stream.read(int(headers.get("content-length", 0)))
        body = b""
        while size := int(stream.readline(), 16):
            body += stream.read(size)
            stream.readline()
        stream.readline()
        return body


@contextmanager
def lossy(*answers: tuple[int, dict[str, Any]] | None) -> Iterator[LossyServer]:
    server = LossyServer(list(answers))
    server.start()
    try:
        yield server
    finally:
        server.stop()


def upload(client: Client, folder: Path) -> Any:
    (folder / "rows.jsonl").write_text('{"a": 1}\n')
    return client.register_dataset(folder / "rows.jsonl")


SUBMISSIONS: dict[str, tuple[Callable[[Client], Any], dict[str, Any]]] = {
    "source": (lambda client: client.register_source(DatasetSource(source="data.jsonl")), DATASET),
    "arrange": (
        lambda client: client.arrange(
            ArrangementSpec.model_validate({"train": "ds_1", "test": "ds_2", "method": "as_is"})
        ),
        ACCEPTED,
    ),
    "train": (lambda client: client.train(TrainSpec.model_validate(TRAIN | {"dataset": "ds_1"})), ACCEPTED),
    "evaluate": (
        lambda client: client.evaluate(EvaluationSpec.model_validate({"train_job": "job_1", "test": "ds_2"})),
        ACCEPTED,
    ),
    "study": (lambda client: client.submit_study(StudySpec.model_validate(STUDY)), ACCEPTED),
    "seeds": (lambda client: client.add_seeds("std_1", [3, 4]), ACCEPTED),
    "pause": (lambda client: client.pause_study("std_1"), ACCEPTED),
    **{
        f"{action} {run_id[:3]}": (lambda client, a=action, i=run_id: getattr(client, a)(i), ACCEPTED)
        for action in ("cancel", "resume")
        for run_id in ("arr_1", "job_1", "evl_1", "std_1")
        if (action, run_id) != ("resume", "arr_1")
    },
}


@pytest.mark.parametrize("name", SUBMISSIONS)
def test_every_post_is_sent_again_as_it_was_and_under_the_same_key(name: str) -> None:
    call, answer = SUBMISSIONS[name]
    with lossy(None, (202, answer)) as server, Client(server.url) as client:
        assert call(client).id == answer["id"]
    (first, first_headers, first_body), (second, second_headers, second_body) = server.requests
    assert first.startswith("POST ")
    assert (first, first_body) == (second, second_body)
    assert first_headers["idempotency-key"] == second_headers["idempotency-key"] != ""


def test_an_upload_is_sent_again_whole(tmp_path: Path) -> None:
    with lossy(None, (201, DATASET)) as server, Client(server.url) as client:
        assert upload(client, tmp_path).id == "ds_1"
    bodies = [body for _, _, body in server.requests]
    assert all(b'{"a": 1}\n' in body for body in bodies)
    assert server.requests[0][1]["idempotency-key"] == server.requests[1][1]["idempotency-key"]


def refusal(detail: str, status: int = 409) -> tuple[int, dict[str, Any]]:
    return status, {"title": "T", "status": status, "detail": detail, "code": "state_conflict"}


def study(**fields: Any) -> tuple[int, dict[str, Any]]:
    return 200, {
        "id": "std_1", "state": "running", "is_paused": False, "spec": STUDY | {"seeds": fields.pop("seeds", [0])},
        "created_at": "2026-01-01T00:00:00Z", **fields,
    }  # fmt: skip


CHANGES: dict[str, tuple[Callable[[Client], Any], dict[str, Any], dict[str, Any]]] = {
    "seeds": (lambda client: client.add_seeds("std_1", [3, 4]), {"seeds": [0, 3, 4]}, {"seeds": [0, 3]}),
    "pause": (lambda client: client.pause_study("std_1"), {"is_paused": True}, {}),
    "resume": (lambda client: client.resume("std_1"), {}, {"is_paused": True}),
    "cancel": (lambda client: client.cancel("std_1"), {"state": "cancelled"}, {"state": "succeeded"}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_whose_answer_was_lost_is_known_by_the_run_when_the_second_send_is_refused(name: str) -> None:
    call, changed, _ = CHANGES[name]
    with lossy(None, refusal("it is so already"), study(**changed)) as server, Client(server.url) as client:
        accepted = call(client)
    assert (accepted.id, accepted.state) == ("std_1", RunState(changed.get("state", "running")))


@pytest.mark.parametrize("name", CHANGES)
def test_a_refusal_stays_one_when_the_run_is_not_changed(name: str) -> None:
    call, _, unchanged = CHANGES[name]
    with (
        lossy(None, refusal("can't be"), study(**unchanged)) as server,
        Client(server.url) as client,
        pytest.raises(ApiError, match="can't be"),
    ):
        call(client)


@pytest.mark.parametrize("name", CHANGES)
def test_a_refusal_of_the_only_send_is_one_without_a_look(name: str) -> None:
    with lossy(refusal("no")) as server, Client(server.url) as client, pytest.raises(ApiError, match="no"):
        CHANGES[name][0](client)
    assert len(server.requests) == 1
