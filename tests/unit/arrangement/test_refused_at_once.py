"""POST /arrangements answers 422 for what the registry knows can't be done, and queues nothing."""

import json
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update

from nearfirst import encoders
from nearfirst.registry import records
from nearfirst.registry.database import Database
from nearfirst.registry.migrate import upgrade
from nearfirst.registry.models import DatasetRow, RunRow
from nearfirst.settings import Settings
from nearfirst_arrangement.app import make_app
from nearfirst_arrangement.datasets import service

POOL = ["a"] * 5 + ["b"] * 3 + ["c"]
Refused = Callable[..., str]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    url = Settings(home=tmp_path).database_url
    upgrade(url)
    database = Database(url)
    yield database
    database.close()


@pytest.fixture
def client(database: Database, tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(make_app(Settings(home=tmp_path))) as client:
        yield client


def register(client: TestClient, name: str, tasks: list[str]) -> str:
    rows = ({"id": f"{name}-{n}", "prompt": "p", "completion": "c", "task": task} for n, task in enumerate(tasks))
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    answer = client.post("/datasets", files={"file": (f"{name}.jsonl", content)})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


@pytest.fixture
def datasets(client: TestClient) -> dict[str, str]:
    return {
        "pool": register(client, "pool", POOL),
        "test": register(client, "test", ["x", "x", "y"]),
        "no tasks": register(client, "no tasks", [""] * 4),
    }


def body_of(datasets: dict[str, str], train: str = "pool", test: str = "test", **changes: Any) -> dict[str, Any]:
    return {"train": datasets[train], "test": datasets[test], "method": "wsd", "order": "nft", **changes}


def num_runs(database: Database) -> int:
    with database.read() as session:
        return session.execute(select(func.count()).select_from(RunRow)).scalar_one()


@pytest.fixture
def refused(client: TestClient, database: Database) -> Refused:
    def asking(body: dict[str, Any]) -> str:
        answer = client.post("/arrangements", json=body)
        assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json"), answer.text
        assert answer.json()["code"] == "invalid_input"
        assert num_runs(database) == 0
        return str(answer.json()["detail"])

    return asking


def of_tasks(dataset: str, *tasks: str) -> dict[str, Any]:
    return {"dataset": dataset, "tasks": list(tasks)}


def test_a_limit_above_the_rows_that_take_part(refused: Refused, datasets: dict[str, str]) -> None:
    two_each = {"per_task": 2, "how": "polar"}  # 2 of a, 2 of b, 1 of c
    filtered = of_tasks(datasets["pool"], "b", "c")
    for changes, num_rows in [
        ({}, 9),
        ({"select": two_each}, 5),
        ({"train": filtered}, 4),
        ({"train": filtered, "select": two_each}, 3),
    ]:
        body = {**body_of(datasets), **changes, "limit": num_rows + 1}
        assert refused(body) == f"limit: got {num_rows + 1}, wanted at most {num_rows}, the rows in the pool"


def test_a_limit_that_the_rows_just_reach_is_taken(client: TestClient, datasets: dict[str, str]) -> None:
    body = body_of(datasets, select={"per_task": 2, "how": "polar"}, limit=5)
    assert client.post("/arrangements", json=body).status_code == 202


def test_tasks_that_are_missing_or_unknown(refused: Refused, datasets: dict[str, str]) -> None:
    body = body_of(datasets, train="no tasks", granularity="coarse")
    assert "train_tasks: got none; granularity coarse wants the task of each train row" in refused(body)
    body = body_of(datasets, test="no tasks", test_per_task=5)
    assert "test_tasks: got none; test_per_task 5 wants the task of each test row" in refused(body)
    body = {**body_of(datasets), "test": of_tasks(datasets["test"], "x", "golf")}
    assert refused(body) == "tasks: the dataset has no task 'golf'; it has 2, such as 'x'"


def test_transport_above_its_size(
    refused: Refused, client: TestClient, database: Database, datasets: dict[str, str]
) -> None:
    fields = {"format": "p3", "split": None, "num_tasks": 2, "task_sizes": {"a": 50_000, "b": 50_000}}
    with database.write() as session:
        large, _ = records.register_dataset(session, name="large", digest="sha256:aa", num_examples=100_000, **fields)
    both = {**datasets, "large": large.id}
    detail = refused(body_of(both, train="large", test="large", method="ot"))
    assert "method ot: got 100000 train x 100000 test rows, 10000000000 pairs" in detail
    assert f"wanted at most {2**26} pairs" in detail
    body = body_of(both, train="large", test="large", method="ot", test_per_task=300)
    assert client.post("/arrangements", json=body).status_code == 202  # 100,000 x 600


def test_a_kind_that_no_plug_in_has(
    refused: Refused, client: TestClient, datasets: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    body = body_of(datasets, representation={"kind": "letter-counts"})
    assert "representation.kind: no encoder of kind 'letter-counts' is installed; wanted one of:" in refused(body)
    plug_ins = [EntryPoint("letter-counts", "letters:load", encoders.ENCODER_GROUP)]
    monkeypatch.setattr(encoders, "entry_points", lambda **_: plug_ins)
    assert client.post("/arrangements", json=body).status_code == 202


def test_an_api_without_any_encoder_leaves_kinds_to_the_worker(
    client: TestClient, datasets: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoders, "entry_points", lambda **_: [])
    body = body_of(datasets, representation={"kind": "letter-counts"})
    assert client.post("/arrangements", json=body).status_code == 202


def test_a_dataset_whose_tasks_were_not_counted_is_left_to_the_worker(
    client: TestClient, database: Database, datasets: dict[str, str]
) -> None:
    with database.write() as session:
        session.execute(update(DatasetRow).values(task_sizes=None))
    for changes in ({"train": of_tasks(datasets["pool"], "golf")}, {"select": {"per_task": 1, "how": "first"}}):
        answer = client.post("/arrangements", json={**body_of(datasets, limit=9), **changes})
        assert answer.status_code == 202, answer.text


def test_tasks_are_counted_unless_they_are_very_many(
    client: TestClient, database: Database, datasets: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_MAX_TASKS_KEPT", 2)
    many = register(client, "many", POOL)
    with database.read() as session:
        assert records.task_sizes(session, datasets["pool"]) == {"a": 5, "b": 3, "c": 1}
        assert records.task_sizes(session, datasets["no tasks"]) == {"": 4}
        assert records.task_sizes(session, many) is None
