import io
import json
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, Response
from rich.console import Console

from nearfirst.client import Client
from nearfirst.client.demo.follow import Follower, RunFailed, progress_bars, track

LABELS = {"emb_1": "embed", "arr_1": "arrange tma nft", "job_1": "train seed 0", "job_2": "train seed 1"}


class SuiteGone(Exception):
    pass


def event_app(changes: list[tuple[str, str, dict[str, Any]]], states: dict[str, str]) -> FastAPI:
    """Sends the changes once and then closes every stream; `states` is what GET /train-jobs/{id} says."""
    app = FastAPI()

    @app.get("/events")
    def events(after: int) -> Response:
        texts = []
        for seq, (run_id, kind, data) in enumerate(changes, start=1):
            body = {"seq": seq, "run_id": run_id, "kind": "train_job", "type": kind, "data": data}
            body["created_at"] = "2026-01-01T00:00:00Z"
            texts.append(f"id: {seq}\ndata: {json.dumps(body)}\n\n")
        return PlainTextResponse("".join(texts[after:]), media_type="text/event-stream")

    @app.get("/train-jobs/{job_id}")
    def show(job_id: str) -> dict[str, Any]:
        spec = {"arrangement": "arr_1", "model": {"name_or_path": "m"}}
        error = {"detail": "loss is nan at step 3"} if states[job_id] == "failed" else None
        return {"id": job_id, "state": states[job_id], "spec": spec, "error": error}

    return app


def state(run_id: str, value: str, **more: Any) -> tuple[str, str, dict[str, Any]]:
    return run_id, "state", {"state": value, "attempt": 1} | more


def progress(run_id: str, done: int, total: int = 8, unit: str = "steps") -> tuple[str, str, dict[str, Any]]:
    return run_id, "progress", {"done": done, "total": total, "unit": unit, "eta_s": None}


def run_follower(url: str, check_server: Any = lambda: None) -> str:
    output = io.StringIO()
    with Client(url) as client, progress_bars(Console(file=output, width=120)) as bars:
        Follower(client, LABELS, {"job_1": 8, "job_2": 8}, bars).follow(check_server)
    return output.getvalue()


def test_following_ends_when_every_job_has_succeeded_and_counts_all_steps(serve):
    changes = [
        state("emb_1", "succeeded"),
        state("arr_1", "running"),
        state("arr_1", "succeeded"),
        state("stranger", "failed"),
        progress("job_1", 3),
        state("job_1", "succeeded"),
        progress("job_2", 8),
        state("job_2", "succeeded"),
    ]
    output = run_follower(serve(event_app(changes, {})))
    assert "train seed 0: succeeded" in output
    assert "16/16" in output
    assert "2/2 runs" in output


@pytest.mark.parametrize("run_id", ["arr_1", "job_2"])
def test_a_failed_run_ends_it_with_the_runs_name_and_reason(serve, run_id):
    changes = [state("job_1", "succeeded"), state(run_id, "failed", error={"detail": "no space left"})]
    with pytest.raises(RunFailed, match=rf"{LABELS[run_id]} \({run_id}\) failed \(no space left\)"):
        run_follower(serve(event_app(changes, {"job_1": "succeeded", "job_2": "running"})))


def test_a_cancelled_job_ends_it_too(serve):
    with pytest.raises(RunFailed, match=r"job_1.* cancelled"):
        run_follower(serve(event_app([state("job_1", "cancelled")], {"job_1": "cancelled", "job_2": "queued"})))


def test_jobs_whose_events_never_came_are_asked(serve):
    run_follower(serve(event_app([], {"job_1": "succeeded", "job_2": "succeeded"})))
    with pytest.raises(RunFailed, match="loss is nan at step 3"):
        run_follower(serve(event_app([], {"job_1": "succeeded", "job_2": "failed"})))


def test_rows_that_a_job_reads_first_do_not_count_as_steps(serve):
    app = event_app([progress("job_1", 1000, 1000, "rows"), progress("job_2", 3), state("job_2", "failed")], {})
    output = io.StringIO()
    with (
        Client(serve(app)) as client,
        pytest.raises(RunFailed),
        progress_bars(Console(file=output, width=120)) as bars,
    ):
        Follower(client, LABELS, {"job_1": 8, "job_2": 8}, bars).follow(lambda: None)
    assert "3/16" in output.getvalue()


def test_a_server_that_is_gone_ends_it(serve):
    def gone() -> None:
        raise SuiteGone

    with pytest.raises(SuiteGone):
        run_follower(serve(event_app([], {"job_1": "running", "job_2": "running"})), gone)


def test_track_shows_how_many_items_were_taken():
    output = io.StringIO()
    with progress_bars(Console(file=output, width=120)) as bars:
        assert list(track(bars, "abc", "receipts")) == ["a", "b", "c"]
    assert "3/3" in output.getvalue()
