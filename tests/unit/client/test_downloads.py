"""Files that the client fetches appear whole, under the name that was asked for, and agree with their manifest."""

import hashlib
import json
import socket
import threading
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from nearfirst.client import ApiError, Client, ServerUnreachable, UnexpectedAnswer
from nearfirst.contracts.exports import ExportFormat
from nearfirst.contracts.problems import InvalidInput
from nearfirst.contracts.reports import SimilarityCurve

ROWS = b'{"position": 0, "id": "a"}\n'


def manifest(content: bytes, **fields: Any) -> dict[str, Any]:
    return {
        "file": "arr_1.alpaca.jsonl",
        "file_digest": f"sha256:{hashlib.sha256(content).hexdigest()}",
        "size_bytes": len(content),
        "format": "alpaca",
        "file_type": "jsonl",
        "columns": ["position", "id"],
        "num_rows": 1,
        "arrangement_digest": "sha256:1",
        "dataset_digest": "sha256:2",
        "note": {"text": "t", "page": "p", "settings": {"trl": {"packing": False}}},
    } | fields


@pytest.fixture
def export_app():
    """Answers with ROWS, and with the manifest of `state["content"]`; notes the queries."""
    state: dict[str, Any] = {"content": ROWS, "queries": []}
    app = FastAPI()

    @app.get("/arrangements/arr_1/export")
    def export(format: str, file_type: str) -> Response:
        state["queries"].append((format, file_type))
        return Response(ROWS)

    @app.get("/arrangements/arr_1/export/manifest")
    def show(format: str, file_type: str) -> dict[str, Any]:
        state["queries"].append((format, file_type))
        return manifest(state["content"], file_type=file_type)

    return app, state


@pytest.mark.parametrize("file_type", ["jsonl", "parquet"])
def test_an_export_comes_with_its_manifest_beside_it(serve, tmp_path, export_app, file_type):
    app, state = export_app
    path = tmp_path / f"mine.{file_type}"
    with Client(serve(app)) as client:
        found = client.download_export("arr_1", path, ExportFormat.ALPACA)
    assert path.read_bytes() == ROWS
    assert (found.file, found.num_rows) == (path.name, 1)
    assert json.loads((tmp_path / f"{path.name}.manifest.json").read_text()) == manifest(
        ROWS, file=path.name, file_type=file_type
    )
    assert state["queries"] == [("alpaca", file_type)] * 2
    assert len(list(tmp_path.iterdir())) == 2


def test_an_export_that_is_not_what_its_manifest_says_is_not_kept(serve, tmp_path, export_app):
    app, state = export_app
    state["content"] = b"something else"
    with Client(serve(app)) as client, pytest.raises(UnexpectedAnswer, match="the server's manifest says"):
        client.download_export("arr_1", tmp_path / "mine.jsonl", "alpaca")
    assert list(tmp_path.iterdir()) == []


def test_a_refused_export_leaves_what_was_there(serve, tmp_path):
    app = FastAPI()

    @app.get("/arrangements/arr_1/export")
    def refuse() -> Response:
        body = {"title": "T", "status": 422, "detail": "example 'x' has the turns", "code": "invalid_input"}
        return JSONResponse(body, status_code=422, media_type="application/problem+json")

    path = tmp_path / "mine.jsonl"
    path.write_text("before")
    with Client(serve(app)) as client, pytest.raises(ApiError, match="example 'x'"):
        client.download_export("arr_1", path)
    assert path.read_text() == "before"


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_figures_come_in_the_format_of_the_files_name(serve, tmp_path, suffix):
    app = FastAPI()

    @app.get("/{path:path}")
    def figure(path: str) -> Response:
        return PlainTextResponse(path)

    report, curve = tmp_path / f"report{suffix}", tmp_path / f"curve{suffix}"
    with Client(serve(app)) as client:
        client.report_figure("arr_1", report)
        client.curve_figure("arr_1", curve)
    assert report.read_text() == f"arrangements/arr_1/figure{suffix}"
    assert curve.read_text() == f"arrangements/arr_1/similarity-curve/figure{suffix}"


@pytest.mark.parametrize("name", ["report.pdf", "report"])
def test_a_figure_of_another_format_is_refused_before_anything_is_sent(refused_url, tmp_path, name):
    with Client(refused_url) as client:
        for download in (client.report_figure, client.curve_figure):
            with pytest.raises(InvalidInput, match=r"\.svg or \.png"):
                download("arr_1", tmp_path / name)


def test_an_unknown_layout_is_refused_before_anything_is_sent(refused_url, tmp_path):
    with Client(refused_url) as client, pytest.raises(InvalidInput, match="format: got 'csv', wanted one of messages"):
        client.download_export("arr_1", tmp_path / "mine.jsonl", "csv")


def test_a_figure_whose_connection_breaks_leaves_no_file(tmp_path):
    def cut_short(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=cut_short, args=(listener,))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with Client(url) as client, pytest.raises(ServerUnreachable, match=r"while report\.svg came"):
            client.report_figure("arr_1", tmp_path / "report.svg")
        thread.join(10)
    assert list(tmp_path.iterdir()) == []


def test_the_similarity_curve_is_read_as_the_contract_says(serve):
    measures = {name: [0.5, 0.25] for name in ("avg", "min", "max", "centroid")}
    curve = {
        "rows": [16, 20],
        "steps": [1, 2],
        "rows_per_step": 16,
        "every_steps": 1,
        "num_test": 3,
        "fidelity": "corrected",
        "cosine": measures,
        "euclidean": None,
        "kl": [None, 1.5],
        "by_task": [],
    }
    app = FastAPI()

    @app.get("/arrangements/arr_1/similarity-curve")
    def show() -> dict[str, Any]:
        return curve

    with Client(serve(app)) as client:
        found = client.similarity_curve("arr_1")
    assert isinstance(found, SimilarityCurve)
    assert found.model_dump(mode="json") == curve
