"""POST /train-jobs?dry_run=true on a running suite."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.support.suite import RunningSuite

from nearfirst.client.api import Client
from nearfirst.contracts.runs import RunKind
from nearfirst.contracts.training import TrainSpec
from nearfirst.contracts.workers import Gpu, WorkerAnnouncement
from nearfirst.registry import workers
from nearfirst.registry.database import Database


@pytest.fixture(scope="module")
def body(suite: RunningSuite, datasets: dict[str, str]) -> dict[str, Any]:
    return {
        "dataset": datasets["train"],
        "model": {"name_or_path": str(suite.home / "models" / "tiny"), "init": "random"},
        "global_batch_size": 8,
        "max_length": 64,
        "checkpoint": {"weights_every": 2},
        "seed": 1,
    }


def dry_run(suite: RunningSuite, body: dict[str, Any], status: int = 200) -> dict[str, Any]:
    answer = suite.client.post("/train-jobs?dry_run=true", json=body)
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def test_nothing_is_created_and_the_training_takes_what_was_said(suite: RunningSuite, body: dict[str, Any]) -> None:
    before = suite.get("/train-jobs")["items"]
    found = dry_run(suite, body)
    assert suite.get("/train-jobs")["items"] == before
    job = suite.post("/train-jobs", body)
    ended = suite.wait(f"/train-jobs/{job}")
    assert ended["state"] == "succeeded", ended
    assert (found["steps"], found["tokens"]) == (ended["result"]["steps"], ended["result"]["num_tokens"])
    assert found["estimates"]["tokens"]["is_exact"]
    kept = sum(c["size_bytes"] for c in suite.get(f"/train-jobs/{job}/checkpoints")["items"])
    assert found["checkpoint_bytes"] == pytest.approx(kept, rel=0.02)
    assert found["gpu_memory_bytes"] is None

    # The next one knows how fast this one was.
    again = dry_run(suite, body | {"seed": 2})["estimates"]["time"]
    assert again["run"] == job
    rates = [row["value"] for row in suite.get(f"/train-jobs/{job}/metrics?name=tokens_per_s")["items"]]
    assert min(rates) <= again["tokens_per_s"] <= max(rates)
    assert again["seconds"] == pytest.approx(found["tokens"] / again["tokens_per_s"])
    other = body | {"precision": "bf16"}
    assert dry_run(suite, other)["estimates"]["time"] is None


def test_an_arrangement_is_estimated_before_and_after_it_is_there(
    suite: RunningSuite, body: dict[str, Any], datasets: dict[str, str]
) -> None:
    arrangement = suite.post(
        "/arrangements",
        {
            "train": {"dataset": datasets["train"]},
            "test": {"dataset": datasets["test"]},
            "method": "random",
            "limit": 20,
        },
    )
    spec = {name: value for name, value in body.items() if name != "dataset"} | {"arrangement": arrangement}
    early = dry_run(suite, spec)
    suite.wait(f"/arrangements/{arrangement}")
    late = dry_run(suite, spec)
    assert early["rows"] == late["rows"] == 20
    assert late["estimates"]["tokens"]["is_exact"]
    assert not any("isn't finished" in remark for remark in late["remarks"])


def test_the_client_reads_the_estimate(suite: RunningSuite, body: dict[str, Any]) -> None:
    with Client(suite.url) as client:
        found = client.estimate(TrainSpec.model_validate(body))
    assert found.steps == 8


def test_a_job_that_can_not_fit_on_the_disk_is_refused_on_dry_run_and_on_submit(
    suite: RunningSuite, body: dict[str, Any]
) -> None:
    huge = suite.home / "models" / "huge"
    huge.mkdir()
    sizes = {"vocab_size": 10**6, "hidden_size": 10**6, "intermediate_size": 10**7, "num_hidden_layers": 100}
    (huge / "config.json").write_text(json.dumps({"model_type": "llama", "num_attention_heads": 10, **sizes}))
    spec = body | {"model": {"name_or_path": str(huge), "init": "random"}}
    before = suite.get("/train-jobs")["items"]
    refused = dry_run(suite, spec, status=422)
    assert refused["code"] == "does_not_fit"
    assert "GB are free where they are written" in refused["detail"]
    answer = suite.client.post("/train-jobs", json=spec)
    assert (answer.status_code, answer.json()["code"]) == (422, "does_not_fit")
    assert suite.get("/train-jobs")["items"] == before


def test_what_a_submit_refuses_a_dry_run_refuses(suite: RunningSuite, body: dict[str, Any]) -> None:
    assert dry_run(suite, body | {"dataset": "ds_none"}, status=404)["code"] == "not_found"
    missing = body | {"model": {"name_or_path": str(suite.home / "models" / "none")}}
    assert dry_run(suite, missing, status=422)["code"] == "invalid_model"


GPU_GIB = {"small": [40, 16], "large": [24, 24, 24], "single": [80]}


@pytest.fixture
def announce(suite: RunningSuite) -> Iterator[Callable[[], None]]:
    """Says that GPU workers are there, which a suite of short leases forgets soon."""
    database = Database(suite.settings()["database_url"])

    def say() -> None:
        with database.write() as session:
            for name, memories in GPU_GIB.items():
                gpus = [Gpu(id=str(number), memory_bytes=gib * 2**30) for number, gib in enumerate(memories)]
                worker = WorkerAnnouncement(
                    id=name, host=name, kinds=[RunKind.TRAIN_JOB], queues=[], gpus=gpus, num_cpus=1, cpu_jobs=0
                )
                workers.announce(session, worker, [])

    yield say
    with database.write() as session:
        for name in GPU_GIB:
            workers.forget(session, name)
    database.close()


@pytest.mark.parametrize(("num_gpus", "room_gib"), [(1, 80), (2, 24), (3, 24), (4, None)])
def test_a_job_is_held_against_the_smallest_gpu_that_the_best_worker_would_give_it(
    suite: RunningSuite, body: dict[str, Any], announce: Callable[[], None], num_gpus: int, room_gib: int | None
) -> None:
    announce()
    available = dry_run(suite, body | {"gpus": num_gpus})["estimates"]["available"]
    assert available["gpu_memory_bytes"] == (None if room_gib is None else room_gib * 2**30)


def test_a_job_that_no_gpu_has_room_for_is_refused_on_submit(
    suite: RunningSuite, body: dict[str, Any], announce: Callable[[], None]
) -> None:
    model = llama_7b(suite)
    announce()
    answer = suite.client.post("/train-jobs", json=body | {"gpus": 1, "model": model})
    assert (answer.status_code, answer.json()["code"]) == (422, "does_not_fit")
    assert "take 107.8 GB of each GPU" in answer.json()["detail"]


def llama_7b(suite: RunningSuite) -> dict[str, str]:
    folder = suite.home / "models" / "llama-7b"
    folder.mkdir()
    sizes = {"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32}
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "num_attention_heads": 32, **sizes}))
    return {"name_or_path": str(folder), "init": "random"}
