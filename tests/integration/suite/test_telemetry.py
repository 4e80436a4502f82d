"""What real processes tell of a run on its way from a request to a worker: spans to a collector, numbers on a port."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.suite import RunningSuite, free_port

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
TIMEOUT_S = 240


class Collector(ThreadingHTTPServer):
    """As much of a collector as receives traces by OTLP over HTTP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receiver)
        self.spans: list[Any] = []

    def wait_for(self, attribute: str, value: str) -> Any:
        """The span that has this attribute, once it has come."""
        give_up = time.monotonic() + TIMEOUT_S
        while time.monotonic() < give_up:
            for span in list(self.spans):
                if attributes_of(span).get(attribute) == value:
                    return span
            time.sleep(0.1)
        raise AssertionError([span.name for span in self.spans])


class _Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/v1/traces":
            request = ExportTraceServiceRequest.FromString(body)
            self.server.spans += [
                span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans
            ]
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


def attributes_of(span: Any) -> dict[str, str]:
    return {each.key: each.value.string_value for each in span.attributes}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="wants pip install nearfirst[otel]")
    with Collector() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def metrics_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def suite(make_suite: Callable[..., RunningSuite], collector: Collector, metrics_port: int) -> RunningSuite:
    suite = make_suite(
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.server_port}",
        OTEL_EXPORTER_OTLP_COMPRESSION="none",
        OTEL_BSP_SCHEDULE_DELAY="200",
    )
    suite.start_worker("training", NEARFIRST_WORKER_METRICS_PORT=str(metrics_port))
    suite.start_api()
    return suite


@pytest.fixture(scope="module")
def job(suite: RunningSuite, data_files: dict[str, Path]) -> str:
    """A training that has succeeded, of a request with a trace."""
    dataset = suite.upload(data_files["train"])["id"]
    model = {"name_or_path": str(suite.home / "models" / "tiny"), "init": "random"}
    body = {"dataset": dataset, "model": model, "global_batch_size": 8, "max_length": 64, "max_steps": 4}
    answer = suite.client.post("/train-jobs", json=body, headers={"traceparent": TRACEPARENT})
    job_id = str(answer.raise_for_status().json()["id"])
    done = suite.wait(f"/train-jobs/{job_id}", timeout_s=TIMEOUT_S)
    assert done["state"] == "succeeded", (done["error"], suite.log("training"))
    return job_id


def test_the_request_and_its_run_are_spans_of_one_trace(collector: Collector, job: str) -> None:
    run = collector.wait_for("nearfirst.run_id", job)
    request = collector.wait_for("http.route", "/train-jobs")
    assert (run.name, request.name) == ("run train_job", "POST /train-jobs")
    assert {run.trace_id.hex(), request.trace_id.hex()} == {TRACE_ID}
    assert run.parent_span_id == request.span_id
    assert attributes_of(run)["nearfirst.attempt"] == "1"


def test_a_worker_s_port_tells_how_long_its_runs_and_steps_took_and_how_fast_they_were(
    metrics_port: int, job: str
) -> None:
    give_up = time.monotonic() + TIMEOUT_S
    while True:  # the run is counted right after the registry has heard of its end
        text = httpx.get(f"http://127.0.0.1:{metrics_port}/metrics", timeout=TIMEOUT_S).text
        found = dict(re.findall(r"^(\S+) ([-+.0-9e]+)$", text, re.MULTILINE))
        if 'nearfirst_run_seconds_count{kind="train_job",state="succeeded"}' in found:
            break
        assert time.monotonic() < give_up, text
        time.sleep(0.1)
    numbers = {name: float(value) for name, value in found.items()}
    assert numbers['nearfirst_run_seconds_count{kind="train_job",state="succeeded"}'] == 1
    run_s = numbers['nearfirst_run_seconds_sum{kind="train_job",state="succeeded"}']
    num_steps = numbers['nearfirst_worker_step_seconds_count{kind="train_job"}']
    assert 1 <= num_steps <= 4
    assert 0 < numbers['nearfirst_worker_step_seconds_sum{kind="train_job"}'] < run_s
    assert numbers['nearfirst_worker_tokens_per_second{kind="train_job"}'] > 0
    assert numbers['nearfirst_runs_in_progress{kind="train_job"}'] == 0
    assert job not in text
