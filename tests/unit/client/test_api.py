import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse

from nearfirst.client import ApiError, Client, ServerUnreachable, UnexpectedAnswer, WaitTimeout
from nearfirst.contracts.arrangements import ArrangementSpec
from nearfirst.contracts.problems import InvalidInput
from nearfirst.contracts.receipts import ConsumedStep
from nearfirst.contracts.runs import RunState
from nearfirst.contracts.training import ModelSpec, TrainSpec

SPEC = ArrangementSpec(train="ds_1", test="ds_2", method="tma", order="nft")
TRAIN_SPEC = TrainSpec(arrangement="arr_1", model=ModelSpec(name_or_path="/m", init="random"))


def problem(status: int, **fields: Any) -> JSONResponse:
    body = {"title": "T", "status": status, "detail": "d", "code": "c"} | fields
    return JSONResponse(body, status_code=status, media_type="application/problem+json")


def job(state: str, **fields: Any) -> dict[str, Any]:
    return {"id": "job_1", "state": state, "spec": TRAIN_SPEC.model_dump(mode="json")} | fields


def event(seq: int, kind: str = "progress", **data: Any) -> str:
    body = {
        "seq": seq,
        "run_id": "job_1",
        "kind": "train_job",
        "type": kind,
        "data": data,
        "created_at": "2026-01-01T00:00:00Z",
    }
    return f"id: {seq}\nevent: {kind}\ndata: {json.dumps(body)}\n\n"


def test_a_problem_answer_becomes_an_api_error_with_its_code_status_and_fields(serve):
    app = FastAPI()

    @app.post("/arrangements")
    def refuse() -> Response:
        errors = [{"field": "train", "got": "ds_9", "wanted": "a registered dataset"}]
        return problem(422, code="invalid_input", detail="train: no such dataset", errors=errors)

    with Client(serve(app)) as client, pytest.raises(ApiError, match="train: no such dataset") as caught:
        client.arrange(SPEC)
    answer = caught.value.problem()
    assert (answer.status, answer.code) == (422, "invalid_input")
    assert caught.value.errors[0].field == "train"
    assert caught.value.errors[0].wanted == "a registered dataset"


def test_a_proxys_html_error_is_an_api_error_too(serve):
    app = FastAPI()

    @app.get("/datasets/{name}")
    def fail(name: str) -> Response:
        return HTMLResponse("<h1>Bad Gateway</h1>", status_code=502)

    with Client(serve(app)) as client, pytest.raises(ApiError, match="Bad Gateway") as caught:
        client.dataset("ds_1")
    assert caught.value.problem().status == 502
    assert caught.value.problem().code == "http_error"


def test_a_refused_connection_names_the_url_and_the_command_that_starts_a_server(refused_url):
    with Client(refused_url) as client, pytest.raises(ServerUnreachable) as caught:
        client.dataset("ds_1")
    assert refused_url in caught.value.detail
    assert "nearfirst up" in caught.value.detail


def test_an_answer_of_another_shape_is_refused_with_its_source(serve):
    app = FastAPI()

    @app.get("/datasets/{name}")
    def answer(name: str) -> dict[str, str]:
        return {"id": name, "colour": "green"}

    with Client(serve(app)) as client, pytest.raises(UnexpectedAnswer, match="GET /datasets/ds_1"):
        client.dataset("ds_1")


def test_the_api_key_travels_as_a_bearer_token_and_defaults_come_from_the_environment(serve, monkeypatch):
    seen = []
    app = FastAPI()

    @app.get("/readyz")
    def ready(request: Request) -> None:
        seen.append(request.headers.get("authorization"))

    url = serve(app)
    with Client(url) as client:
        assert client.is_ready()
    monkeypatch.setenv("NEARFIRST_URL", url + "/")
    monkeypatch.setenv("NEARFIRST_API_KEY", "k")
    with Client.from_settings() as client:
        assert client.base_url == url
        assert client.is_ready()
    assert seen == [None, "Bearer k"]


def test_is_ready_is_false_when_nothing_answers(refused_url):
    with Client(refused_url) as client:
        assert not client.is_ready()


def test_register_dataset_sends_the_file_and_only_the_fields_that_are_given(serve, tmp_path):
    seen: dict[str, Any] = {}
    app = FastAPI()

    @app.post("/datasets", status_code=201)
    async def create(request: Request) -> dict[str, Any]:
        async with request.form() as form:
            seen.update({key: value for key, value in form.items() if key != "file"})
            seen["file"] = (form["file"].filename, await form["file"].read())
        return {
            "id": "ds_1",
            "name": "n",
            "digest": "sha256:0",
            "format": "p3",
            "split": "test",
            "num_examples": 1,
            "num_tasks": 1,
            "created_at": "2026-01-01T00:00:00Z",
        }

    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n')
    with Client(serve(app)) as client:
        dataset = client.register_dataset(path, split="test")
    assert dataset.id == "ds_1"
    assert seen == {"split": "test", "file": ("rows.jsonl", b'{"a": 1}\n')}


def test_register_dataset_refuses_a_path_that_is_no_file(refused_url, tmp_path):
    with Client(refused_url) as client, pytest.raises(InvalidInput, match="no file"):
        client.register_dataset(tmp_path / "absent.jsonl")


def test_metrics_follow_the_cursor_and_pass_the_name_with_every_page(serve):
    rows = [{"step": step, "name": "test_loss", "value": step / 2} for step in range(7)]
    names = []
    app = FastAPI()

    @app.get("/train-jobs/{job_id}/metrics")
    def metrics(job_id: str, name: str | None = None, cursor: int = 0) -> dict[str, Any]:
        names.append(name)
        following = cursor + 3
        return {
            "items": rows[cursor:following],
            "next_cursor": str(following) if following < len(rows) else None,
        }

    with Client(serve(app)) as client:
        found = client.metrics("job_1", "test_loss")
    assert [(row.step, row.value) for row in found] == [(step, step / 2) for step in range(7)]
    assert names == ["test_loss"] * 3


def test_order_and_consumed_split_lines_at_newlines_only(serve):
    odd = "a\u2028b\u0085c"
    row = {"position": 0, "index": 0, "id": odd, "task": "t", "prefix_digest": "00"}
    app = FastAPI()

    @app.get("/arrangements/{run_id}/order")
    def order(run_id: str, format: str) -> Response:
        assert format == "jsonl"
        return PlainTextResponse("".join(json.dumps(row, ensure_ascii=False) + "\n" for _ in range(2)))

    @app.get("/train-jobs/{run_id}/consumed")
    def consumed(run_id: str) -> Response:
        return PlainTextResponse(json.dumps({"step": 1, "ids": [odd], "head": "00"}, ensure_ascii=False) + "\n")

    with Client(serve(app)) as client:
        assert [found.id for found in client.order("arr_1")] == [odd, odd]
        assert client.consumed("job_1") == [ConsumedStep(step=1, ids=[odd], head="00")]


@pytest.mark.parametrize(("name", "wanted"), [("order.parquet", "parquet"), ("order.jsonl", "jsonl")])
def test_download_order_asks_for_the_format_of_the_files_name(serve, tmp_path, name, wanted):
    app = FastAPI()

    @app.get("/arrangements/{run_id}/order")
    def order(run_id: str, format: str) -> Response:
        return PlainTextResponse(format)

    with Client(serve(app)) as client:
        client.download_order("arr_1", tmp_path / name)
    assert (tmp_path / name).read_text() == wanted
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_refused_download_leaves_no_file(serve, tmp_path):
    app = FastAPI()

    @app.get("/arrangements/{run_id}/order")
    def order(run_id: str) -> Response:
        return problem(409, code="not_ready")

    with Client(serve(app)) as client, pytest.raises(ApiError):
        client.download_order("arr_1", tmp_path / "order.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_each_submission_has_a_key_of_its_own_unless_one_is_given(serve):
    keys, bodies = [], []
    app = FastAPI()

    @app.post("/arrangements", status_code=202)
    async def create(request: Request) -> dict[str, str]:
        keys.append(request.headers["idempotency-key"])
        bodies.append(ArrangementSpec.model_validate_json(await request.body()))
        return {"id": "arr_1", "state": "queued"}

    with Client(serve(app)) as client:
        for key in (None, None, "mine"):
            assert client.arrange(SPEC, key).state is RunState.QUEUED
    assert keys[2] == "mine"
    assert len(set(keys)) == 3
    assert bodies == [SPEC] * 3


@pytest.mark.parametrize("key", ["schlüssel", "two\nlines"])
def test_a_key_that_no_header_can_carry_is_refused_before_anything_is_sent(refused_url, key):
    with Client(refused_url) as client, pytest.raises(InvalidInput, match=r"idempotency_key: got .*printable ASCII"):
        client.arrange(SPEC, key)


def test_a_submission_whose_connection_breaks_is_sent_again_under_the_same_key():
    requests = []
    answer = b'{"id": "arr_1", "state": "queued"}'

    def serve_twice(listener: socket.socket) -> None:
        for attempt in range(2):
            connection, _ = listener.accept()
            with connection:
                raw = b""
                while b"\r\n\r\n" not in raw or not raw.rstrip().endswith(b"}"):
                    raw += connection.recv(65536)
                requests.append(raw)
                if attempt == 1:
                    head = f"HTTP/1.1 202 Accepted\r\nContent-Length: {len(answer)}\r\nConnection: close\r\n\r\n"
                    connection.sendall(head.encode() + answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve_twice, args=(listener,))
        thread.start()
        with Client(f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
            assert client.arrange(SPEC).id == "arr_1"
        thread.join(10)
    keys = {line for raw in requests for line in raw.split(b"\r\n") if line.lower().startswith(b"idempotency-key")}
    assert len(requests) == 2
    assert len(keys) == 1


def event_app(streams: list[list[str]], afters: list[int]) -> FastAPI:
    """Answers the n-th GET /events with the n-th stream, then closes it."""
    app = FastAPI()

    @app.get("/events")
    def events(after: int) -> Response:
        afters.append(after)
        chunks = streams[min(len(afters), len(streams)) - 1]
        return StreamingResponse(iter(chunks), media_type="text/event-stream")

    return app


def test_events_go_on_after_the_last_one_seen_when_the_stream_ends(serve):
    afters: list[int] = []
    whole = event(3)
    streams = [
        [": ping\n\n", event(1), event(2), whole[:20]],
        [event(2), whole[:40], whole[40:], event(4)],
    ]
    with Client(serve(event_app(streams, afters))) as client:
        events = client.events()
        assert [next(events).seq for _ in range(4)] == [1, 2, 3, 4]
        events.close()
    assert afters == [0, 2]


def test_events_of_an_unreachable_server_are_an_error_at_once(refused_url):
    with Client(refused_url) as client, pytest.raises(ServerUnreachable):
        next(client.events())


def test_events_of_a_server_that_refuses_are_an_error(serve):
    app = FastAPI()

    @app.get("/events")
    def events() -> Response:
        return problem(401, code="unauthorized")

    with Client(serve(app)) as client, pytest.raises(ApiError) as caught:
        next(client.events())
    assert caught.value.problem().code == "unauthorized"


def wait_app(states: list[str], stream: list[str]) -> FastAPI:
    """A job that is in the next of `states` at each look, the last for good."""
    app = event_app([stream], [])

    @app.get("/train-jobs/job_1")
    def show() -> dict[str, Any]:
        return job(states.pop(0) if len(states) > 1 else states[0])

    return app


def test_wait_follows_the_events_to_the_end_of_the_run(serve):
    seen = []
    stream = [event(1, "state", state="running"), event(2, done=1, total=2), event(3, "state", state="succeeded")]
    app = wait_app(["queued", "running", "succeeded"], stream)
    with Client(serve(app)) as client:
        run = client.wait("job_1", on_event=lambda event: seen.append(event.seq))
    assert run.state is RunState.SUCCEEDED
    assert seen == [1, 2, 3]


def test_wait_returns_a_run_that_has_ended_already(serve):
    with Client(serve(wait_app(["failed"], []))) as client:
        assert client.wait("job_1").state is RunState.FAILED


def test_wait_gives_up_after_its_time_and_says_the_state(serve):
    with Client(serve(wait_app(["running"], []))) as client, pytest.raises(WaitTimeout, match=r"still running .* 0.3"):
        client.wait("job_1", timeout_s=0.3)


@pytest.mark.parametrize("run_id", ["ds_1", "emb_1", "nonsense"])
def test_an_id_that_names_no_run_of_the_api_is_refused_before_anything_is_sent(refused_url, run_id):
    with Client(refused_url) as client:
        for method in (client.run, client.cancel):
            with pytest.raises(InvalidInput, match=run_id):
                method(run_id)


def test_cancel_and_resume_address_the_run_by_its_kind(serve):
    posted = []
    app = FastAPI()

    @app.post("/{path:path}", status_code=202)
    def accept(path: str) -> dict[str, str]:
        posted.append(path)
        return {"id": path.split("/")[1], "state": "cancelling"}

    with Client(serve(app)) as client:
        client.cancel("arr_1")
        client.cancel("job_1")
        client.resume("job_1")
    assert posted == ["arrangements/arr_1/cancel", "train-jobs/job_1/cancel", "train-jobs/job_1/resume"]


def test_the_queue_and_the_workers_are_the_contracts_own(serve):
    app = FastAPI()
    now = "2026-01-01T00:00:00Z"
    worker = {"id": "h/1", "host": "h", "kinds": ["train_job"], "queues": ["nearfirst.training.gpu1"], "num_cpus": 2}
    seen = {"started_at": now, "last_seen_at": now, "is_alive": True, "is_stopping": False, "cpu_jobs": 0}
    run = {"id": "job_1", "kind": "train_job", "priority": 0, "num_gpus": 1}
    running = {**run, "worker": "h/1", "gpus": ["0"], "started_at": now}
    waiting = {**run, "created_at": now, "waits_because": "1 older job is ahead"}

    @app.get("/workers")
    def workers() -> dict[str, Any]:
        return {"items": [{**worker, **seen, "gpus": [{"id": "0"}], "runs": [{"run_id": "job_1", "gpus": ["0"]}]}]}

    @app.get("/queue")
    def queue() -> dict[str, Any]:
        of_kind = {"kind": "train_job", "num_waiting": 1, "num_running": 1, "waiting": [waiting], "running": [running]}
        return {"kinds": [of_kind]}

    with Client(serve(app)) as client:
        assert [found.runs[0].gpus for found in client.workers()] == [["0"]]
        assert client.queue().kinds[0].waiting[0].waits_because == "1 older job is ahead"


def test_a_path_is_written_only_when_the_whole_order_came(tmp_path: Path):
    def cut_short(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=cut_short, args=(listener,))
        thread.start()
        with (
            Client(f"http://127.0.0.1:{listener.getsockname()[1]}") as client,
            pytest.raises(ServerUnreachable, match="broke"),
        ):
            client.download_order("arr_1", tmp_path / "order.jsonl")
        thread.join(10)
    assert list(tmp_path.iterdir()) == []
