"""The main job through the HTTP API, on PostgreSQL, Redis and Celery worker processes."""

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from tests.support.suite import RunningSuite

ENCODER = "package:all-MiniLM-L6-v2"
BATCH_SIZE = 8


def arrangement_body(datasets: dict[str, str], **changes: Any) -> dict[str, Any]:
    return {
        "train": datasets["train"],
        "test": datasets["test"],
        "method": "tma",
        "order": "nft",
        "representation": {"model": ENCODER},
        **changes,
    }


def train_body(arrangement_id: str | None, test: str, home: Path, **changes: Any) -> dict[str, Any]:
    return {
        "arrangement": arrangement_id,
        "model": {"name_or_path": str(home / "models" / "tiny"), "init": "random"},
        "global_batch_size": BATCH_SIZE,
        "max_length": 64,
        "optimizer": {"lr": 1e-3},
        "checkpoint": {"weights_every": 4, "state_every": 4},
        "evaluate": {"test": test, "every": 4},
        **changes,
    }


@pytest.fixture(scope="module")
def arrangement(suite: RunningSuite, datasets: dict[str, str]) -> dict[str, Any]:
    run_id = suite.post("/arrangements", arrangement_body(datasets))
    done = suite.wait(f"/arrangements/{run_id}")
    assert done["state"] == "succeeded", done["error"]
    return done


@pytest.fixture(scope="module")
def job(suite: RunningSuite, arrangement: dict[str, Any], datasets: dict[str, str]) -> dict[str, Any]:
    run_id = suite.post("/train-jobs", train_body(arrangement["id"], datasets["test"], suite.home))
    done = suite.wait(f"/train-jobs/{run_id}")
    assert done["state"] == "succeeded", (done["error"], suite.log("training"))
    return done


def order_rows(suite: RunningSuite, arrangement_id: str) -> list[dict[str, Any]]:
    answer = suite.client.get(f"/arrangements/{arrangement_id}/order")
    assert answer.status_code == 200
    return [json.loads(line) for line in answer.text.splitlines()]


def test_an_arrangement_orders_every_row_once(suite: RunningSuite, arrangement: dict[str, Any]) -> None:
    rows = order_rows(suite, arrangement["id"])
    assert [row["position"] for row in rows] == list(range(60))
    assert sorted(row["index"] for row in rows) == list(range(60))
    assert arrangement["num_rows"] == 60
    assert arrangement["num_rounds"] == max(row["round"] for row in rows) + 1
    assert arrangement["digest"] == "sha256:" + rows[-1]["prefix_digest"]
    assert {row["task"].removeprefix("train_") for row in rows[:9]} <= {"bread", "rain", "chess"}


def test_the_order_is_the_same_as_parquet(suite: RunningSuite, arrangement: dict[str, Any], tmp_path: Path) -> None:
    answer = suite.client.get(f"/arrangements/{arrangement['id']}/order", params={"format": "parquet"})
    (tmp_path / "order.parquet").write_bytes(answer.content)
    assert pq.read_table(tmp_path / "order.parquet").to_pylist() == order_rows(suite, arrangement["id"])


def test_training_consumed_exactly_the_arranged_order(
    suite: RunningSuite, arrangement: dict[str, Any], job: dict[str, Any]
) -> None:
    consumed = suite.client.get(f"/train-jobs/{job['id']}/consumed").text.splitlines()
    steps = [json.loads(line) for line in consumed]
    ids = [row["id"] for row in order_rows(suite, arrangement["id"])]
    assert [example_id for step in steps for example_id in step["ids"]] == ids
    assert [len(step["ids"]) for step in steps] == [8, 8, 8, 8, 8, 8, 8, 4]


def test_the_receipt_equals_a_chain_computed_by_hand(
    suite: RunningSuite, arrangement: dict[str, Any], job: dict[str, Any]
) -> None:
    receipt = suite.get(f"/train-jobs/{job['id']}/receipt")
    ids = [row["id"].encode() for row in order_rows(suite, arrangement["id"])]
    head = hashlib.sha256(arrangement["digest"].encode()).digest()
    for step, start in enumerate(range(0, 60, BATCH_SIZE), start=1):
        framed = b"".join(len(i).to_bytes(8, "big") + i for i in ids[start : start + BATCH_SIZE])
        head = hashlib.sha256(head + step.to_bytes(8, "big") + framed).digest()
    assert receipt["head"] == head.hex() == job["receipt_head"]
    assert (receipt["steps"], receipt["verified"], receipt["num_rows"]) == (8, True, 60)


def test_metrics_have_the_loss_of_every_step_and_the_test_loss_when_asked(
    suite: RunningSuite, job: dict[str, Any]
) -> None:
    def values(name: str) -> dict[int, float]:
        items = suite.get(f"/train-jobs/{job['id']}/metrics?name={name}")["items"]
        return {row["step"]: row["value"] for row in items}

    assert list(values("train_loss")) == list(range(1, 9))
    assert list(values("test_loss")) == [0, 4, 8]
    assert list(values("test_loss/test_bread")) == [0, 4, 8]
    assert values("test_loss")[8] < values("test_loss")[0]


def test_metrics_page_without_gaps(suite: RunningSuite, job: dict[str, Any]) -> None:
    whole = suite.get(f"/train-jobs/{job['id']}/metrics")["items"]
    paged, cursor = [], ""
    while cursor is not None:
        page = suite.get(f"/train-jobs/{job['id']}/metrics?limit=7" + (f"&cursor={cursor}" if cursor else ""))
        paged += page["items"]
        cursor = page["next_cursor"]
    assert paged == whole


def test_checkpoints_are_complete_and_carry_the_receipt(suite: RunningSuite, job: dict[str, Any]) -> None:
    checkpoints = suite.get(f"/train-jobs/{job['id']}/checkpoints")["items"]
    assert {(c["step"], c["tier"]) for c in checkpoints} == {
        (step, tier) for step in (4, 8) for tier in ("weights", "state")
    }
    last = [c for c in checkpoints if c["step"] == 8]
    assert {c["receipt_head"] for c in last} == {job["receipt_head"]}


def test_events_tell_the_run_from_queued_to_succeeded(suite: RunningSuite, job: dict[str, Any]) -> None:
    seen: list[tuple[int, dict[str, Any]]] = []
    with httpx.stream("GET", f"{suite.url}/events", params={"run": job["id"]}, timeout=20) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data:"):
                event = json.loads(line.removeprefix("data:"))
                seen.append((event["seq"], event))
                if event["data"].get("state") == "succeeded":
                    break
    assert [seq for seq, _ in seen] == sorted({seq for seq, _ in seen})
    states = [event["data"]["state"] for _, event in seen if event["type"] == "state"]
    assert states == ["queued", "running", "succeeded"]
    progress = [event["data"] for _, event in seen if event["type"] == "progress"]
    assert progress[-1]["done"] == progress[-1]["total"]
    with httpx.stream(
        "GET", f"{suite.url}/events", params={"run": job["id"]}, headers={"Last-Event-ID": str(seen[-2][0])}, timeout=20
    ) as answer:
        first = next(line for line in answer.iter_lines() if line.startswith("id:"))
    assert int(first.removeprefix("id:")) == seen[-1][0]


def test_a_train_job_may_be_submitted_before_its_arrangement_has_finished(
    suite: RunningSuite, datasets: dict[str, str]
) -> None:
    arrangement_id = suite.post("/arrangements", arrangement_body(datasets, order="fft"))
    job_id = suite.post("/train-jobs", train_body(arrangement_id, datasets["test"], suite.home, max_steps=2))
    done = suite.wait(f"/train-jobs/{job_id}")
    assert done["state"] == "succeeded", done["error"]
    assert suite.get(f"/train-jobs/{job_id}/receipt")["num_rows"] == 2 * BATCH_SIZE


def test_the_same_key_answers_with_the_same_id_and_another_body_with_409(
    suite: RunningSuite, datasets: dict[str, str]
) -> None:
    body = arrangement_body(datasets, method="random", order=None, representation=None, seed=5)
    first = suite.post("/arrangements", body, key="once")
    assert suite.post("/arrangements", body, key="once") == first
    other = suite.client.post("/arrangements", json={**body, "seed": 6}, headers={"Idempotency-Key": "once"})
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    assert first in other.json()["detail"]


def test_a_repeated_key_gives_the_job_even_when_its_arrangement_can_not_be_trained_on_any_more(
    suite: RunningSuite, datasets: dict[str, str]
) -> None:
    arrangement_id = suite.post("/arrangements", arrangement_body(datasets, rounds=[900, 901]))
    body = train_body(arrangement_id, datasets["test"], suite.home)
    job_id = suite.post("/train-jobs", body, key="job")
    assert suite.wait(f"/train-jobs/{job_id}")["error"]["code"] == "dependency_failed"
    assert suite.post("/train-jobs", body, key="job") == job_id
    assert suite.client.post("/train-jobs", json=body).json()["code"] == "state_conflict"


def test_a_get_right_after_each_202_finds_the_run(suite: RunningSuite, datasets: dict[str, str]) -> None:
    # `post` reads the run as soon as it is accepted; many at once, so that a commit after the answer would show.
    failures: list[Exception] = []

    def submit(seed: int) -> None:
        try:
            for number in range(5):
                body = arrangement_body(
                    datasets, method="random", order=None, representation=None, seed=100 * seed + number
                )
                suite.post("/arrangements", body)
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=submit, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_second_arrangement_of_the_same_data_embeds_nothing(
    suite: RunningSuite, datasets: dict[str, str], arrangement: dict[str, Any]
) -> None:
    claimed_before = suite.log("embedding").count("claimed")
    run_id = suite.post("/arrangements", arrangement_body(datasets, method="wsd", order="nft"))
    assert suite.wait(f"/arrangements/{run_id}")["state"] == "succeeded"
    assert suite.log("embedding").count("claimed") == claimed_before == 2


def test_embeddings_that_are_lost_are_computed_again(suite: RunningSuite, data_files: dict[str, Path]) -> None:
    lost = {split: suite.upload(path, name=f"{split} again")["id"] for split, path in data_files.items()}
    first = suite.wait(f"/arrangements/{suite.post('/arrangements', arrangement_body(lost))}")
    objects = (path for path in (suite.home / "store" / "objects").rglob("*") if path.is_file())
    arrays = [path for path in objects if path.read_bytes().startswith(b"\x93NUMPY")]
    assert len(arrays) == 4  # vectors and truncation flags of two datasets
    for path in arrays:
        path.unlink()
    again = suite.wait(f"/arrangements/{suite.post('/arrangements', arrangement_body(lost))}")
    assert (again["state"], again["digest"]) == ("succeeded", first["digest"])


def test_task_filters_keep_the_rows_of_these_tasks(suite: RunningSuite, datasets: dict[str, str]) -> None:
    train = {"dataset": datasets["train"], "tasks": ["train_rain", "train_poems"]}
    test = {"dataset": datasets["test"], "tasks": ["test_rain"]}
    run_id = suite.post("/arrangements", arrangement_body(datasets, train=train, test=test))
    assert suite.wait(f"/arrangements/{run_id}")["state"] == "succeeded"
    rows = order_rows(suite, run_id)
    assert {row["task"] for row in rows} == {"train_rain", "train_poems"}
    assert len(rows) == 20
    assert {row["nearest_test_id"].rsplit("-", 1)[0] for row in rows} == {"test-rain"}
    all_ids = [row["id"] for row in suite.get(f"/datasets/{datasets['train']}/examples?limit=1000")["items"]]
    assert all(all_ids[row["index"]] == row["id"] for row in rows)


def test_a_tampered_order_fails_training_and_names_the_step(suite: RunningSuite, datasets: dict[str, str]) -> None:
    run_id = suite.post(
        "/arrangements", arrangement_body(datasets, method="random", order=None, representation=None, seed=77)
    )
    assert suite.wait(f"/arrangements/{run_id}")["state"] == "succeeded"
    original = suite.client.get(f"/arrangements/{run_id}/order").content
    stored = next(
        path
        for path in (suite.home / "store" / "objects").rglob("*")
        if path.is_file() and path.read_bytes() == original
    )
    lines = original.splitlines(keepends=True)
    lines[19], lines[20] = lines[20], lines[19]  # rows of step 3
    stored.write_bytes(b"".join(lines))
    job_id = suite.post("/train-jobs", train_body(run_id, datasets["test"], suite.home))
    done = suite.wait(f"/train-jobs/{job_id}")
    assert done["state"] == "failed"
    assert done["error"]["code"] == "order_mismatch"
    assert "step 3" in done["error"]["detail"]
