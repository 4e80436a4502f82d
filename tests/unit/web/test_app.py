"""The web kit, through an application made with it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import Request
from fastapi.testclient import TestClient

from nearfirst.contracts.problems import NotReady
from nearfirst.settings import Settings
from nearfirst.web.app import create_app
from nearfirst.web.dependencies import decode_cursor, encode_cursor

is_ready = True


def readiness() -> None:
    if not is_ready:
        raise NotReady("the registry is away")


@pytest.fixture
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = Settings(home=tmp_path_factory.mktemp("home"), max_body_bytes=10, max_upload_bytes=1000)
    app = create_app("Test", settings, readiness=readiness, upload_paths=frozenset({"/upload"}))

    @app.post("/echo")
    async def echo(request: Request) -> int:
        return len(await request.body())

    @app.post("/upload")
    async def upload(request: Request) -> int:
        return len(await request.body())

    @app.get("/items/{number}")
    def item(number: int, shown: bool = True) -> int:
        if number == 13:
            raise ValueError("a secret of the server")
        return number

    with TestClient(app, raise_server_exceptions=False) as opened:
        yield opened


@pytest.mark.parametrize(("size", "status"), [(10, 200), (11, 413)])
def test_a_body_may_be_as_large_as_the_limit_and_no_larger(client: TestClient, size: int, status: int) -> None:
    announced = client.post("/echo", content=b"x" * size)
    unannounced = client.post("/echo", content=iter([b"x"] * size))
    assert [announced.status_code, unannounced.status_code] == [status, status]
    if status == 413:
        assert announced.json()["code"] == unannounced.json()["code"] == "body_too_large"


def test_only_multipart_bodies_of_upload_paths_have_the_upload_limit(client: TestClient) -> None:
    multipart = {"Content-Type": "multipart/form-data; boundary=b"}
    assert client.post("/upload", content=b"x" * 500, headers=multipart).json() == 500
    assert client.post("/upload", content=b"x" * 1001, headers=multipart).status_code == 413
    assert client.post("/upload", content=b"x" * 500).status_code == 413
    assert client.post("/echo", content=b"x" * 500, headers=multipart).status_code == 413


def test_an_unexpected_error_is_a_problem_that_tells_nothing_of_the_inside(client: TestClient) -> None:
    answer = client.get("/items/13")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "secret" not in answer.text


def test_a_wrong_path_parameter_names_what_came_and_what_was_wanted(client: TestClient) -> None:
    answer = client.get("/items/seven")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "path.number"
    assert answer.json()["errors"][0]["got"] == "seven"


def test_an_unknown_query_parameter_is_refused(client: TestClient) -> None:
    assert client.get("/items/1?shown=false").status_code == 200
    answer = client.get("/items/1?show=false")
    assert answer.status_code == 422
    assert "'show'" in answer.json()["detail"]
    assert "shown" in answer.json()["detail"]


def test_a_wrong_method_is_a_problem_too(client: TestClient) -> None:
    answer = client.put("/echo")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["content-type"] == "application/problem+json"


def test_requests_are_counted_by_route_and_not_by_path(client: TestClient) -> None:
    client.get("/items/1")
    client.get("/items/2")
    text = client.get("/metrics").text
    assert 'nearfirst_http_requests_total{method="GET",route="/items/{number}",status="200"} 2.0' in text
    assert "/items/1" not in text


def test_readiness_says_why_not(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client.get("/readyz").status_code == 200
    monkeypatch.setitem(readiness.__globals__, "is_ready", False)
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["detail"]) == (503, "the registry is away")
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("key", [0, 41, [3, "test_loss/ä"]])
def test_a_cursor_gives_back_its_key(key: object) -> None:
    cursor = encode_cursor(key)
    assert cursor is not None
    assert decode_cursor(cursor) == key


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"numbers": [1], "name": "\xe9t\xe9"}', "byte 26 is 0xe9"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"numbers": [1,}', "at character 15: Expecting value"),
    ],
)
def test_a_body_that_is_no_json_is_told_where_and_why(tmp_path: Path, body: bytes, reason: str) -> None:
    answer = _numbers_client(tmp_path).post("/numbers", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert reason in answer.json()["detail"]


def test_of_very_many_wrong_values_the_first_are_told(tmp_path: Path) -> None:
    answer = _numbers_client(tmp_path).post("/numbers", json=["x"] * 10_000)
    fields = [problem["field"] for problem in answer.json()["errors"]]
    assert fields == [*(str(number) for number in range(20)), "(more)"]


def _numbers_client(home: Path) -> TestClient:
    app = create_app("Test", Settings(home=home))

    @app.post("/numbers")
    def numbers(body: list[float]) -> int:
        return len(body)

    return TestClient(app)
