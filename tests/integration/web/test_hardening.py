"""What every answer carries, what no log, event, row or document holds, and bodies that are made to do harm."""

import gzip
import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from fastapi.testclient import TestClient
from sqlalchemy import MetaData, select
from structlog.stdlib import ProcessorFormatter
from tests.support.tiny import make_tiny_llama

from nearfirst.contracts.keys import Role
from nearfirst.registry.database import Database

MakeClient = Callable[..., TestClient]
ROWS = b'{"instruction": "Say hi.", "output": "Hi."}\n{"instruction": "Say ho.", "output": "Ho."}\n'
JSON = {"Content-Type": "application/json"}


def test_every_answer_tells_the_browser_to_keep_to_this_origin(
    make_client: MakeClient, new_key: Callable[[Role], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, key = make_client(max_body_bytes=100), new_key(Role.SUBMIT)
    monkeypatch.setattr("nearfirst_arrangement.queue.service.queue_state", _broken)
    unsafe = TestClient(client.app, raise_server_exceptions=False)
    answers = {
        200: client.get("/datasets", headers=key),
        401: client.get("/datasets"),
        403: client.get("/keys", headers=key),
        404: client.get("/nothing", headers=key),
        405: client.put("/datasets", headers=key),
        413: client.post("/arrangements", content=b" " * 101, headers=key | JSON),
        422: client.post("/arrangements", content=b"{", headers=key | JSON),
        500: unsafe.get("/queue", headers=key),
    }
    assert {status: answer.status_code for status, answer in answers.items()} == {status: status for status in answers}
    for answer in [*answers.values(), client.get("/healthz"), client.get("/metrics")]:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


def _broken(*_: object) -> None:
    raise RuntimeError("something of the inside")


@pytest.fixture
def dataset(client: TestClient) -> str:
    return str(client.post("/datasets", files={"file": ("pool.jsonl", ROWS)}).json()["id"])


@pytest.fixture
def tiny_model(tmp_path: Path) -> Path:
    return make_tiny_llama(tmp_path / "models" / "tiny", ["Say hi."], vocab_size=300, hidden_size=32, layers=1)


@pytest.mark.parametrize("depth", [10, 31, 32, 200, 255, 300, 900, 950, 970, 980, 990, 3000, 100_000])
@pytest.mark.parametrize("brackets", ["[]", '{"a":}'], ids=["lists", "objects"])
def test_deeply_nested_json_is_refused_cleanly(
    client: TestClient, dataset: str, tiny_model: Path, depth: int, brackets: str
) -> None:
    opening, closing = brackets[:-1], brackets[-1]
    nested = opening * depth + "0" + closing * depth
    job = {
        "dataset": dataset,
        "model": {"name_or_path": str(tiny_model), "init": "random", "config": "NESTED"},
        "precision": "fp32",
        "epochs": 1,
    }
    bodies = {
        "/train-jobs": json.dumps(job).replace('"NESTED"', f'{{"a": {nested}}}'),
        "/arrangements": f'{{"train": {nested}}}',
        "/datasets": f'{{"source": {nested}}}',
        "/train-jobs?dry_run=true": nested,
    }
    for path, body in bodies.items():
        answer = client.post(path, content=body, headers=JSON)
        assert answer.status_code in (202, 422), (path, answer.status_code, answer.text[:300])
        assert len(answer.content) < 10_000
    num_queued = len(client.get("/train-jobs").raise_for_status().json()["items"])
    assert num_queued == (depth < 31)


def test_weights_that_are_a_pickle_are_refused_and_never_opened(
    client: TestClient, dataset: str, tiny_model: Path, tmp_path: Path
) -> None:
    (tiny_model / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch " + bytes(tmp_path / "run") + b"'\ntR.")
    body: dict[str, Any] = {"dataset": dataset, "model": {"name_or_path": str(tiny_model)}, "epochs": 1}
    answer = client.post("/train-jobs", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_model")
    assert "model.safetensors" in answer.json()["detail"]
    assert not (tmp_path / "run").exists()


def test_an_upload_that_expands_beyond_the_limits_is_refused_and_leaves_nothing(make_client: MakeClient) -> None:
    client = make_client(max_row_bytes=1000, max_document_bytes=2000, max_expanded_bytes=10_000)
    rows = b"".join(b'{"instruction": "Say %d.", "output": "%d."}\n' % (n, n) for n in range(500))
    line = b'{"instruction": "' + b"x" * 2000 + b'", "output": "Hi."}\n'
    uploads = {
        "rows.jsonl": rows,
        "rows.jsonl.gz": gzip.compress(rows),
        "rows.jsonl.zst": zstandard.compress(rows),
        "line.jsonl": line,
        "line.jsonl.gz": gzip.compress(line),
        "document.json": b"[" + b",".join(rows.split(b"\n")[:100]) + b"]",
    }
    for name, content in uploads.items():
        answer = client.post("/datasets", files={"file": (name, content)})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_dataset"), name
    assert client.get("/datasets").json()["items"] == []


@pytest.mark.parametrize("name", ["bomb.jsonl.zst", "bomb.json.zst", "bomb.zst"])
def test_a_gigabyte_in_one_line_of_a_small_upload_is_refused_under_the_default_limits(
    client: TestClient, tmp_path: Path, name: str
) -> None:
    bomb = zstandard.compress(b" " * 64 * 2**20, level=1) * 16
    assert len(bomb) < 50_000
    answer = client.post("/datasets", files={"file": (name, bomb)})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_dataset"), answer.text
    assert client.get("/datasets").json()["items"] == []
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > 2**20]


@pytest.mark.parametrize("name", ["../../climbed.jsonl", "/climbed.jsonl", "..\\climbed.jsonl", "a/../climbed.jsonl"])
def test_the_name_of_an_upload_is_no_path(client: TestClient, tmp_path: Path, name: str) -> None:
    answer = client.post("/datasets", files={"file": (name, ROWS)})
    assert answer.status_code == 201, answer.text
    assert not [*tmp_path.rglob("*climbed*"), *Path("/").glob("climbed*"), *Path.cwd().glob("climbed*")]


def test_no_key_is_in_a_log_a_row_a_document_or_an_error(
    client: TestClient, database: Database, new_key: Callable[[Role], dict[str, str]]
) -> None:
    ours = [handler for handler in logging.getLogger().handlers if isinstance(handler.formatter, ProcessorFormatter)]
    (handler,) = ours
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(written := io.StringIO())
    headers = new_key(Role.ADMIN)
    mine = headers["Authorization"].removeprefix("Bearer ")
    made = client.post("/keys", json={"name": "second", "role": "submit"}, headers=headers).json()["key"]
    theirs = {"Authorization": f"Bearer {made}"}
    answers = [
        client.post("/datasets", files={"file": ("pool.jsonl", ROWS)}, headers=theirs),
        client.get("/keys", headers=theirs),
        client.get("/keys", headers=headers),
        client.get("/openapi.json", headers=theirs),
        client.get("/datasets", headers={"Authorization": f"Basic {made}"}),
        client.get("/datasets", headers={"Authorization": f"Bearer {made}0"}),
        client.get(f"/datasets?api_key={made}", headers=theirs),
        client.get(f"/no-route/{made}"),
        client.get(f"/keys/{made}/revoke", headers=headers),
    ]
    answers += [client.get("/events?after=x", headers=headers), client.get("/metrics")]
    log = written.getvalue()
    text = "\n".join(answer.text for answer in answers) + log + _all_rows(database)
    assert "refused GET" in log
    for key in (mine, made):
        assert key.split("_")[2] not in text
        assert key.split("_")[1] in text


def _all_rows(database: Database) -> str:
    tables = MetaData()
    tables.reflect(database.engine)
    with database.read() as session:
        return "\n".join(str(session.execute(select(table)).all()) for table in tables.tables.values())
