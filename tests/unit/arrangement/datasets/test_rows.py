"""Datasets to look at: rows by task and from any row on, and the sizes of tasks."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from nearfirst.registry.database import Database
from nearfirst.registry.models import DatasetRow
from nearfirst.settings import Settings

TASKS = ["sums", "Größe", 'with "quotes"', "sums", "", "Größe", "sums"]


@pytest.fixture(scope="module")
def dataset(client: TestClient) -> str:
    # Row 4 names no task, and has one in its text and its meta.
    rows = [{"id": f"row-{n}", "task": task, "prompt": f"p {n}", "completion": "c"} for n, task in enumerate(TASKS)]
    rows[4]["prompt"] = '"task":"sums"'
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    answer = client.post("/datasets", files={"file": ("rows.jsonl", content)})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def items(client: TestClient, path: str, **query: Any) -> list[dict[str, Any]]:
    """Of all pages."""
    found: list[dict[str, Any]] = []
    while True:
        page = client.get(path, params=query)
        assert page.status_code == 200, page.text
        found += page.json()["items"]
        if page.json()["next_cursor"] is None:
            return found
        query = {**query, "cursor": page.json()["next_cursor"]}
        query.pop("start", None)


SIZES = [("sums", 3), ("Größe", 2), ("", 1), ('with "quotes"', 1)]


@pytest.mark.parametrize("limit", [1, 3, 4, 100])
def test_tasks_come_with_their_rows_the_largest_first(client: TestClient, dataset: str, limit: int) -> None:
    found = items(client, f"/datasets/{dataset}/tasks", limit=limit)
    assert [(each["task"], each["num_rows"]) for each in found] == SIZES


def test_sizes_that_the_registry_does_not_keep_are_counted(
    client: TestClient, dataset: str, settings: Settings
) -> None:
    database = Database(settings.database_url)
    with database.write() as session:
        session.execute(update(DatasetRow).where(DatasetRow.id == dataset).values(task_sizes=None))
    database.close()
    found = items(client, f"/datasets/{dataset}/tasks")
    assert [(each["task"], each["num_rows"]) for each in found] == SIZES


def test_tasks_are_found_by_a_part_of_their_name(client: TestClient, dataset: str) -> None:
    assert [each["task"] for each in items(client, f"/datasets/{dataset}/tasks", text="größ")] == ["Größe"]
    assert items(client, f"/datasets/{dataset}/tasks", text="none") == []


@pytest.mark.parametrize("task", ["sums", "Größe", 'with "quotes"', "none"])
@pytest.mark.parametrize("limit", [1, 2, 100])
def test_examples_of_one_task_are_exactly_its_rows(client: TestClient, dataset: str, task: str, limit: int) -> None:
    found = items(client, f"/datasets/{dataset}/examples", task=task, limit=limit)
    assert [each["index"] for each in found] == [n for n, each in enumerate(TASKS) if each == task]


@pytest.mark.parametrize("start", [0, 3, 6, 7, 50])
def test_examples_begin_at_any_row(client: TestClient, dataset: str, start: int) -> None:
    found = items(client, f"/datasets/{dataset}/examples", start=start, limit=2)
    assert [each["index"] for each in found] == list(range(len(TASKS)))[start:]
    of_task = items(client, f"/datasets/{dataset}/examples", start=start, limit=1, task="sums")
    assert [each["index"] for each in of_task] == [n for n in (0, 3, 6) if n >= start]


def test_a_start_beside_a_cursor_is_refused(client: TestClient, dataset: str) -> None:
    cursor = client.get(f"/datasets/{dataset}/examples", params={"limit": 2}).json()["next_cursor"]
    answer = client.get(f"/datasets/{dataset}/examples", params={"cursor": cursor, "start": 1})
    assert (answer.status_code, answer.json()["detail"][:12]) == (422, "start: got 1")
