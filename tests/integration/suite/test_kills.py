"""Workers killed, messages lost: every run ends, once, with the same result."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from tests.integration.suite.test_main_job import ENCODER, arrangement_body, train_body
from tests.support.services import RedisServer
from tests.support.suite import RunningSuite

from nearfirst.contracts.arrangements import Representation
from nearfirst.contracts.datasets import Dataset
from nearfirst.contracts.runs import RunKind
from nearfirst.registry import runs
from nearfirst.registry.content_runs import content_key
from nearfirst.registry.database import Database
from nearfirst.registry.embedding_runs import embedding_spec
from nearfirst.store.artifacts import Store

NUM_TRAIN, NUM_TEST, DIMENSIONS = 12_000, 600, 64


@pytest.fixture
def suite(make_suite: Callable[..., RunningSuite]) -> Iterator[RunningSuite]:
    """The API alone; tests start the workers that they kill."""
    running = make_suite()
    running.start_api()
    yield running
    running.close()


def write_rows(path: Path, count: int) -> Path:
    rows = ({"id": f"r{n}", "prompt": f"Say {n}.", "completion": f"{n}"} for n in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def embed_at_random(suite: RunningSuite, dataset: dict[str, Any], seed: int, folder: Path) -> None:
    """Put an embedding run with random vectors in the registry, as if a worker had finished it."""
    settings = suite.settings()
    vectors = np.random.default_rng(seed).normal(size=(dataset["num_examples"], DIMENSIONS)).astype(np.float32)
    arrays = {"embeddings.npy": vectors, "truncated.npy": np.zeros(len(vectors), dtype=np.bool_)}
    for name, array in arrays.items():
        np.save(folder / name, array)
    store = Store(settings["store_url"], cache=folder / "cache")
    artifact = store.put_artifact({name: folder / name for name in arrays})
    spec = embedding_spec(Dataset.model_validate(dataset), Representation(model=ENCODER))
    database = Database(settings["database_url"])
    with database.write() as session:
        row, _ = runs.create(
            session, RunKind.EMBEDDING, spec.model_dump(mode="json"), idempotency_key=content_key(spec)
        )
        claimed = runs.claim(session, row.id, "test", 30)
        assert claimed is not None
        runs.finish(session, claimed, result={}, artifact=artifact)
    database.close()


def test_an_arrangement_survives_the_kill_of_its_worker(suite: RunningSuite, tmp_path: Path) -> None:
    datasets = {}
    for split, count in (("train", NUM_TRAIN), ("test", NUM_TEST)):
        dataset = suite.upload(write_rows(tmp_path / f"{split}.jsonl", count))
        embed_at_random(suite, dataset, seed=count, folder=tmp_path)
        datasets[split] = dataset["id"]
    suite.start_worker("arrangement")
    run_id = suite.post("/arrangements", arrangement_body(datasets))
    suite.wait(f"/arrangements/{run_id}", until=("running",))
    suite.signal("arrangement", signal.SIGKILL)
    assert suite.get(f"/arrangements/{run_id}")["state"] == "running"  # nobody has noticed yet
    suite.start_worker("arrangement", "arrangement-2")
    done = suite.wait(f"/arrangements/{run_id}")
    assert (done["state"], done["attempt"]) == ("succeeded", 2)
    undisturbed = suite.wait(f"/arrangements/{suite.post('/arrangements', arrangement_body(datasets))}")
    assert undisturbed["attempt"] == 1
    assert undisturbed["digest"] == done["digest"]


def test_training_survives_the_kill_of_its_worker_and_leaves_no_process_behind(
    suite: RunningSuite, data_files: dict[str, Path]
) -> None:
    datasets = {split: suite.upload(path)["id"] for split, path in data_files.items()}
    for service in ("arrangement", "training"):
        suite.start_worker(service)
    arrangement = suite.post(
        "/arrangements", arrangement_body(datasets, method="random", order=None, representation=None)
    )
    body = train_body(arrangement, datasets["test"], suite.home, epochs=12, checkpoint={"state_every": 5})
    run_id = suite.post("/train-jobs", body)
    suite.wait_for_metric(run_id, "train_loss", step=12)
    trainers = psutil.Process(suite.pid("training")).children(recursive=True)
    assert trainers
    suite.signal("training", signal.SIGKILL)
    assert psutil.wait_procs(trainers, timeout=10)[1] == []
    suite.start_worker("training", "training-2")
    done = suite.wait(f"/train-jobs/{run_id}")
    assert (done["state"], done["attempt"]) == ("succeeded", 2), (done, suite.log("training-2"))
    assert done["result"]["resumed_from"] >= 10
    undisturbed_id = suite.post("/train-jobs", body)
    undisturbed = suite.wait(f"/train-jobs/{undisturbed_id}")
    assert undisturbed["receipt_head"] == done["receipt_head"]
    logs = [suite.client.get(f"/train-jobs/{i}/consumed").text for i in (run_id, undisturbed_id)]
    assert logs[0] == logs[1]
    losses = [suite.get(f"/train-jobs/{i}/metrics?name=train_loss")["items"] for i in (run_id, undisturbed_id)]
    assert losses[0] == losses[1]


def test_a_worker_that_is_asked_to_stop_puts_its_run_back(suite: RunningSuite, data_files: dict[str, Path]) -> None:
    datasets = {split: suite.upload(path)["id"] for split, path in data_files.items()}
    suite.start_worker("training")
    run_id = suite.post("/train-jobs", dataset_body(suite, datasets, epochs=30))
    suite.wait_for_metric(run_id, "train_loss", step=3)
    suite.signal("training", signal.SIGTERM)
    assert suite.get(f"/train-jobs/{run_id}")["state"] == "queued"
    suite.start_worker("training", "training-2")
    done = suite.wait(f"/train-jobs/{run_id}")
    assert done["state"] == "succeeded"
    assert done["result"]["resumed_from"] >= 3
    losses = suite.get(f"/train-jobs/{run_id}/metrics?name=train_loss")["items"]
    assert [row["step"] for row in losses] == list(range(1, done["result"]["steps"] + 1))
    listed = suite.get(f"/train-jobs/{run_id}/checkpoints")["items"]
    assert all(Path(checkpoint["path"]).is_dir() for checkpoint in listed)


def dataset_body(suite: RunningSuite, datasets: dict[str, str], **changes: Any) -> dict[str, Any]:
    """A job on the training pool in its own order."""
    return train_body(None, datasets["test"], suite.home, dataset=datasets["train"], **changes)


def test_a_cancelled_job_ends_soon_and_can_be_resumed(suite: RunningSuite, data_files: dict[str, Path]) -> None:
    datasets = {split: suite.upload(path)["id"] for split, path in data_files.items()}
    suite.start_worker("training")
    run_id = suite.post("/train-jobs", dataset_body(suite, datasets, epochs=15, checkpoint={"state_every": 5}))
    suite.wait_for_metric(run_id, "train_loss", step=8)
    assert suite.client.post(f"/train-jobs/{run_id}/cancel").status_code == 202
    assert suite.wait(f"/train-jobs/{run_id}", timeout_s=10)["state"] == "cancelled"
    assert psutil.Process(suite.pid("training")).children(recursive=True) == []
    assert suite.client.post(f"/train-jobs/{run_id}/resume").status_code == 202
    done = suite.wait(f"/train-jobs/{run_id}")
    assert (done["state"], done["attempt"]) == ("succeeded", 2), done
    assert done["result"]["resumed_from"] >= 5


def test_a_job_that_begins_anew_tells_nothing_of_its_first_attempt(
    suite: RunningSuite, data_files: dict[str, Path]
) -> None:
    datasets = {split: suite.upload(path)["id"] for split, path in data_files.items()}
    suite.start_worker("training")
    run_id = suite.post("/train-jobs", dataset_body(suite, datasets, epochs=25, checkpoint={"weights_every": 5}))
    suite.wait_for_metric(run_id, "train_loss", step=20)
    suite.client.post(f"/train-jobs/{run_id}/cancel")
    assert suite.wait(f"/train-jobs/{run_id}", timeout_s=10)["state"] == "cancelled"
    suite.client.post(f"/train-jobs/{run_id}/resume")
    suite.wait_for_metric(run_id, "train_loss", step=1)
    done = suite.wait(f"/train-jobs/{run_id}")
    assert (done["state"], done["result"]["resumed_from"]) == ("succeeded", None)
    listed = suite.get(f"/train-jobs/{run_id}/checkpoints")["items"]
    assert all(Path(checkpoint["path"]).is_dir() for checkpoint in listed)


def test_messages_lost_in_a_flush_of_redis_are_sent_again(
    suite: RunningSuite, data_files: dict[str, Path], redis_server: RedisServer
) -> None:
    datasets = {split: suite.upload(path)["id"] for split, path in data_files.items()}
    run_ids = [
        suite.post(
            "/arrangements", arrangement_body(datasets, method="random", order=None, representation=None, seed=seed)
        )
        for seed in range(3)
    ]
    redis_server.flush()
    suite.start_worker("arrangement")
    for run_id in run_ids:
        assert suite.wait(f"/arrangements/{run_id}")["attempt"] == 1
