"""Lists of runs, their filters, and curves, as a page asks for them."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from tests.support import page_registry
from tests.support.page_registry import PageRegistry
from tests.support.served import served

from nearfirst.contracts.runs import RunKind
from nearfirst.registry import records, runs
from nearfirst.registry.database import Database
from nearfirst.registry.migrate import upgrade
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store
from nearfirst_arrangement.app import make_app

IN_ORDER = ["succeeded", "other", "running", "failed", "cancelled", "empty", "queued"]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    found = Settings(home=tmp_path_factory.mktemp("home"), lease_s=3600)
    upgrade(found.database_url)
    return found


@pytest.fixture(scope="module")
def registry(settings: Settings) -> Iterator[PageRegistry]:
    database = Database(settings.database_url)
    yield page_registry.fill(database, Store(settings.store_url, cache=settings.home / "cache"))
    database.close()


@pytest.fixture(scope="module")
def client(settings: Settings, registry: PageRegistry) -> Iterator[TestClient]:
    with TestClient(make_app(settings)) as opened:
        yield opened


def names(client: TestClient, registry: PageRegistry, **query: Any) -> list[str]:
    """What a list has, by the names of the registry, page by page."""
    by_id = {job_id: name for name, job_id in registry.jobs.items()}
    found: list[str] = []
    cursor = None
    while True:
        page = (
            client.get("/train-jobs", params=query | ({"cursor": cursor} if cursor else {})).raise_for_status().json()
        )
        found += [by_id[job["id"]] for job in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


@pytest.mark.parametrize("limit", [1, 3, 7, 100])
def test_the_newest_come_first_when_asked_for_and_pages_fit_together(
    client: TestClient, registry: PageRegistry, limit: int
) -> None:
    assert names(client, registry, limit=limit) == IN_ORDER
    assert names(client, registry, limit=limit, order="newest") == IN_ORDER[::-1]


def test_a_state_and_a_text_choose_among_them(client: TestClient, registry: PageRegistry) -> None:
    assert names(client, registry, state="succeeded", limit=1) == ["succeeded", "other"]
    assert names(client, registry, text=registry.jobs["failed"][4:].upper()) == ["failed"]
    assert names(client, registry, text="TINY-llama", state="queued") == ["queued"]
    assert names(client, registry, text="100%") == []
    assert names(client, registry, text="tiny_llama") == [], "an underscore stands for itself"


def test_a_text_beyond_ascii_is_found_in_a_spec(settings: Settings, registry: PageRegistry) -> None:
    with registry.database.write() as session:
        made, _ = runs.create(session, RunKind.LOSS, {"label": 'Übung "日本"'})
    with registry.database.read() as session:
        for text in ("Übung", '"日本"', "本"):
            found, _ = records.list_runs(session, RunKind.LOSS, 0, 10, text=text)
            assert [row.id for row in found] == [made.id], text


def test_an_unknown_order_or_state_is_refused(client: TestClient) -> None:
    assert client.get("/train-jobs?order=random").status_code == 422
    assert client.get("/train-jobs?state=done").status_code == 422


def test_datasets_are_found_by_name_the_newest_first(client: TestClient) -> None:
    for name in ("alpha_1", "Beta", "alphaX1"):
        rows = f'{{"instruction": "Say {name}.", "output": "{name}"}}\n'.encode()
        client.post("/datasets", files={"file": ("rows.jsonl", rows)}, data={"name": name}).raise_for_status()
    found = client.get("/datasets?order=newest").json()["items"]
    assert [dataset["name"] for dataset in found] == ["alphaX1", "Beta", "alpha_1"]
    assert [each["name"] for each in client.get("/datasets?text=BETA").json()["items"]] == ["Beta"]
    assert [each["name"] for each in client.get("/datasets?text=a_1").json()["items"]] == ["alpha_1"]


def test_a_job_says_when_it_was_submitted_begun_and_ended(client: TestClient, registry: PageRegistry) -> None:
    done = client.get(f"/train-jobs/{registry.jobs['succeeded']}").json()
    assert done["created_at"] <= done["started_at"] <= done["finished_at"]
    waits = client.get(f"/train-jobs/{registry.jobs['queued']}").json()
    assert (waits["started_at"], waits["finished_at"]) == (None, None)


def test_several_metrics_are_asked_for_at_once(client: TestClient, registry: PageRegistry) -> None:
    path = f"/train-jobs/{registry.jobs['succeeded']}/metrics"
    both = client.get(path, params={"name": ["test_loss", "lr"], "limit": 10_000}).json()["items"]
    assert {row["name"] for row in both} == {"test_loss", "lr"}
    assert len(both) == 200 + 21
    assert {row["name"] for row in client.get(path, params={"name": "lr"}).json()["items"]} == {"lr"}


def test_a_thinned_curve_is_part_of_the_whole_with_its_ends_and_extremes(
    client: TestClient, registry: PageRegistry
) -> None:
    path = f"/train-jobs/{registry.jobs['succeeded']}/metrics"
    whole = client.get(path, params={"name": "grad_norm", "limit": 10_000}).json()["items"]
    thinned = client.get(path, params={"name": ["grad_norm", "test_loss"], "points": 40}).json()
    curve = [row for row in thinned["items"] if row["name"] == "grad_norm"]
    assert thinned["next_cursor"] is None
    assert thinned["items"] == sorted(thinned["items"], key=lambda row: (row["step"], row["name"]))
    assert len(curve) <= 40
    assert all(row in whole for row in curve)
    assert (curve[0], curve[-1]) == (whole[0], whole[-1])
    for extreme in (min, max):
        assert extreme(row["value"] for row in curve) == extreme(row["value"] for row in whole)
    assert sum(row["name"] == "test_loss" for row in thinned["items"]) == 21, "what is short stays whole"


def test_points_and_a_cursor_exclude_each_other(client: TestClient, registry: PageRegistry) -> None:
    path = f"/train-jobs/{registry.jobs['succeeded']}/metrics"
    cursor = client.get(path, params={"limit": 1}).json()["next_cursor"]
    answer = client.get(path, params={"points": 10, "cursor": cursor})
    assert answer.status_code == 422
    assert "points" in answer.json()["detail"]
    assert client.get(path, params={"points": 3}).status_code == 422


def test_events_begin_with_the_newest_when_asked_for(settings: Settings, registry: PageRegistry) -> None:
    with served(make_app(settings)) as url:
        everything = _first_events(f"{url}/events", 20)
        last = _first_events(f"{url}/events?recent=1", 1)
        whole = _first_events(f"{url}/events?recent=500", 20)
        resumed = _first_events(f"{url}/events?recent=1", 1, {"Last-Event-ID": everything[3]})
    assert whole == everything
    assert resumed == [everything[4]]
    assert int(last[0]) >= max(map(int, everything))


def _first_events(url: str, count: int, headers: dict[str, str] | None = None) -> list[str]:
    """Ids of the first events of a stream."""
    found: list[str] = []
    with httpx.stream("GET", url, headers=headers, timeout=30) as stream:
        for line in stream.iter_lines():
            if line.startswith("id:"):
                found.append(line.removeprefix("id:").strip())
                if len(found) == count:
                    return found
    return found
