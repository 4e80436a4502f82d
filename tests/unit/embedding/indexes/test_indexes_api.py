"""POST /indexes, GET /indexes and search, through the real application; the worker's task runs in this process."""

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from nearfirst.contracts.arrangements import Representation
from nearfirst.contracts.datasets import Dataset
from nearfirst.data.dataset import write_canonical
from nearfirst.data.example import Example, Message, embedded_text
from nearfirst.queue.app import make_celery
from nearfirst.queue.context import Worker
from nearfirst.queue.execution import execute
from nearfirst.registry import records
from nearfirst.registry.database import Database
from nearfirst.registry.embedding_runs import embedding_run
from nearfirst.registry.migrate import upgrade
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store
from nearfirst_embedding.app import make_app
from nearfirst_embedding.representations import embed_texts
from nearfirst_embedding.settings import EmbeddingSettings
from nearfirst_embedding.tasks import embed

NUM_ROWS = 40
SPLIT = {"format": "examples", "split": None, "num_tasks": 4}


@pytest.fixture
def examples(words: list[str]) -> list[Example]:
    """Short texts; rows 30 and above repeat rows 0 and above."""
    random = np.random.default_rng(3)
    texts = [" ".join(random.choice(words[:30], size=5)) for _ in range(30)]
    texts += texts[: NUM_ROWS - 30]
    return [
        Example(f"row-{n}", f"task-{n % 4}", (Message("user", text), Message("assistant", "yes")), ("yes",))
        for n, text in enumerate(texts)
    ]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings(home=tmp_path)
    upgrade(settings.database_url)
    return settings


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    database = Database(settings.database_url)
    yield database
    database.close()


@pytest.fixture
def store(settings: Settings) -> Store:
    return Store(settings.store_url, cache=settings.home / "cache")


@pytest.fixture
def dataset(examples: list[Example], database: Database, store: Store) -> Dataset:
    content = io.BytesIO()
    digest = write_canonical(examples, content)
    store.put_bytes(content.getvalue())
    with database.write() as session:
        return records.register_dataset(session, digest=digest, name="pool", num_examples=len(examples), **SPLIT)[0]


@pytest.fixture
def served(tiny_encoder: Path) -> EmbeddingSettings:
    return EmbeddingSettings(model=str(tiny_encoder), max_inputs=5, max_requests=2, max_hits=100)


@pytest.fixture
def client(settings: Settings, served: EmbeddingSettings) -> Iterator[TestClient]:
    with TestClient(make_app(settings, served)) as client:
        yield client


@pytest.fixture
def work(settings: Settings, database: Database, store: Store) -> Callable[[str], None]:
    """Does an index's work, as its worker would."""
    worker = Worker(settings, database, store, make_celery(settings), threading.Event())
    return lambda run_id: execute(worker, run_id, embed)


@pytest.fixture
def index(client: TestClient, dataset: Dataset, work: Callable[[str], None]) -> str:
    """An index of the dataset by the served encoder, built."""
    index_id = posted(client, dataset=dataset.id)
    work(index_id)
    return index_id


@pytest.fixture
def vectors(examples: list[Example], tiny_encoder: Path) -> np.ndarray:
    """(N, D) float64: the rows' vectors, computed beside the service."""
    representation = Representation(model=str(tiny_encoder))
    texts = [embedded_text(example, representation.text) for example in examples]
    return embed_texts(representation, texts).vectors.astype(np.float64)


def posted(client: TestClient, **body: Any) -> str:
    answer = client.post("/indexes", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/indexes/{answer.json()['id']}"
    return str(answer.json()["id"])


def search(client: TestClient, index_id: str, **body: Any) -> list[list[dict[str, Any]]]:
    answer = client.post(f"/indexes/{index_id}/search", json=body)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["results"])


def refused(answer: Any, status: int, code: str) -> str:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    return str(answer.json()["detail"])


def nearest_by_hand(vectors_ND: np.ndarray, query_D: np.ndarray, top_k: int) -> list[int]:
    """Rows by falling cosine in float64; of similarities that are equal but for rounding, the lower row."""
    similarity_N = np.round(vectors_ND @ (query_D / np.linalg.norm(query_D)), 10)
    return np.argsort(-similarity_N, kind="stable")[:top_k].tolist()


def test_an_index_is_queued_then_built(client: TestClient, dataset: Dataset, work: Callable[[str], None]) -> None:
    index_id = posted(client, dataset=dataset.id)
    waiting = client.get(f"/indexes/{index_id}").json()
    assert (waiting["state"], waiting["dataset"], waiting["encoder"]) == ("queued", dataset.id, None)
    work(index_id)
    built = client.get(f"/indexes/{index_id}").json()
    assert (built["state"], built["num_rows"], built["dimensions"]) == ("succeeded", NUM_ROWS, 32)
    assert built["dataset_digest"] == dataset.digest
    assert "text=first_turn" in built["encoder"]
    assert posted(client, dataset=dataset.id) == index_id


@pytest.mark.parametrize("top_k", [1, 7, 39, 40, 1000])
def test_search_by_vectors_finds_what_comparing_all_rows_by_hand_finds(
    client: TestClient, index: str, vectors: np.ndarray, top_k: int
) -> None:
    queries = np.random.default_rng(8).normal(size=(2, vectors.shape[1])) * 17
    results = search(client, index, vectors=queries.tolist(), top_k=top_k)
    for hits, query in zip(results, queries, strict=True):
        assert [hit["index"] for hit in hits] == nearest_by_hand(vectors, query, top_k)
        expected = vectors[[hit["index"] for hit in hits]] @ (query / np.linalg.norm(query))
        assert [hit["similarity"] for hit in hits] == pytest.approx(expected, abs=1e-7)


def test_search_by_text_names_the_rows_and_their_tasks_and_puts_the_lower_copy_first(
    client: TestClient, index: str, examples: list[Example]
) -> None:
    text = embedded_text(examples[3], Representation().text)
    ((first, second),) = search(client, index, texts=[text], top_k=2)
    assert (first["index"], first["id"], first["task"]) == (3, "row-3", "task-3")
    assert (second["index"], second["id"], second["task"]) == (33, "row-33", "task-1")
    assert first["similarity"] == second["similarity"] == pytest.approx(1, abs=1e-6)


def test_ten_rows_are_found_when_nothing_else_is_asked_for(client: TestClient, index: str) -> None:
    assert [len(hits) for hits in search(client, index, texts=["a cat", "a dog"])] == [10, 10]


def test_an_arrangements_embeddings_are_the_same_index(
    client: TestClient, dataset: Dataset, served: EmbeddingSettings, database: Database, store: Store
) -> None:
    with database.write() as session:
        row = embedding_run(session, dataset, served.representation, store, Settings())
    assert posted(client, dataset=dataset.id) == row.id


def test_indexes_are_listed_in_pages(client: TestClient, dataset: Dataset) -> None:
    package = {"model": "package:all-MiniLM-L6-v2"}
    wanted = [posted(client, dataset=dataset.id)]
    wanted += [
        posted(client, dataset=dataset.id, representation={**package, "max_length": length}) for length in (8, 9)
    ]
    page = client.get("/indexes?limit=2").json()
    rest = client.get(f"/indexes?limit=2&cursor={page['next_cursor']}").json()
    assert [item["id"] for item in page["items"] + rest["items"]] == wanted
    assert rest["next_cursor"] is None
    assert rest["items"][0]["representation"]["max_length"] == 9


def test_text_search_in_an_index_of_another_encoder_is_refused_with_both_and_vector_search_works(
    client: TestClient, dataset: Dataset, settings: Settings, work: Callable[[str], None]
) -> None:
    file = settings.home / "data" / "pool.npy"
    file.parent.mkdir()
    np.save(file, np.eye(NUM_ROWS)[:, ::-1] * 3)
    representation = {"kind": "precomputed", "vectors": {dataset.id: "pool.npy"}}
    index_id = posted(client, dataset=dataset.id, representation=representation)
    work(index_id)
    detail = refused(client.post(f"/indexes/{index_id}/search", json={"texts": ["a cat"]}), 422, "invalid_input")
    assert "precomputed file=sha256:" in detail
    assert "sentence-transformer model=" in detail
    ((hit,),) = search(client, index_id, vectors=[[0.0] * 39 + [2.5]], top_k=1)
    assert (hit["index"], hit["similarity"]) == (0, 1.0)


def test_search_before_the_index_is_built_is_not_ready(client: TestClient, dataset: Dataset) -> None:
    index_id = posted(client, dataset=dataset.id)
    assert index_id in refused(client.post(f"/indexes/{index_id}/search", json={"texts": ["a"]}), 409, "not_ready")


@pytest.mark.parametrize(
    ("body", "words_of_detail"),
    [
        ({}, ["texts or vectors"]),
        ({"texts": ["a"], "vectors": [[1.0]]}, ["texts or vectors"]),
        ({"texts": []}, ["texts"]),
        ({"texts": ["a cat", "  "]}, ["row 1"]),
        ({"vectors": [[1.0] * 32, [1.0] * 31]}, ["vectors.1", "31", "32"]),
        ({"vectors": [[0.0] * 32]}, ["vectors", "row 0"]),
        ({"vectors": [[1e308] * 32]}, ["vectors", "row 0"]),
        ({"texts": ["a"], "top_k": 0}, ["top_k"]),
        ({"texts": ["a"], "top_k": 1001}, ["top_k"]),
        ({"text": "a"}, ["text"]),
    ],
)
def test_bad_searches_are_refused_with_the_reason(
    client: TestClient, index: str, body: dict[str, Any], words_of_detail: list[str]
) -> None:
    answer = client.post(f"/indexes/{index}/search", json=body)
    assert answer.status_code == 422, answer.text
    for word in words_of_detail:
        assert word in answer.json()["detail"]


def test_more_queries_than_the_limit_are_refused(client: TestClient, index: str) -> None:
    detail = refused(client.post(f"/indexes/{index}/search", json={"vectors": [[1.0] * 32] * 6}), 413, "body_too_large")
    assert "6" in detail
    assert "5" in detail


def test_more_rows_than_the_limit_are_refused(client: TestClient, index: str) -> None:
    body = {"vectors": [[1.0] * 32] * 3, "top_k": 34}
    assert "102" in refused(client.post(f"/indexes/{index}/search", json=body), 413, "body_too_large")
    assert client.post(f"/indexes/{index}/search", json={**body, "top_k": 33}).status_code == 200


def test_a_full_service_answers_429_with_a_time_to_come_back(client: TestClient, index: str) -> None:
    with ExitStack() as places:
        for _ in range(2):
            places.enter_context(client.app.state.embeddings.place())
        answer = client.post(f"/indexes/{index}/search", json={"texts": ["a cat"]})
    refused(answer, 429, "overloaded")
    assert int(answer.headers["retry-after"]) >= 1
    assert client.post(f"/indexes/{index}/search", json={"texts": ["a cat"]}).status_code == 200


def test_what_is_not_there_is_not_found(client: TestClient, dataset: Dataset) -> None:
    assert "ds_none" in refused(client.post("/indexes", json={"dataset": "ds_none"}), 404, "not_found")
    assert "emb_none" in refused(client.get("/indexes/emb_none"), 404, "not_found")
    refused(client.post("/indexes/emb_none/search", json={"texts": ["a"]}), 404, "not_found")


def test_models_outside_the_allowed_folders_are_refused(client: TestClient, dataset: Dataset) -> None:
    body = {"dataset": dataset.id, "representation": {"model": "/etc"}}
    refused(client.post("/indexes", json=body), 403, "path_not_allowed")


def test_without_a_registry_embeddings_are_served_and_indexes_are_unavailable(
    tmp_path: Path, served: EmbeddingSettings
) -> None:
    """One that can't be reached may hold keys: who has a key of the server's own settings is served all the same."""
    key = {"Authorization": "Bearer s3cret"}
    nowhere = "postgresql+psycopg://nobody@127.0.0.1:9/none"
    unreachable = Settings(home=tmp_path, database_url=nowhere, api_keys=[SecretStr("s3cret")])
    untouched = Settings(home=tmp_path / "untouched")
    for settings, reason in ((unreachable, "reached"), (untouched, "nearfirst.registry.migrate")):
        with TestClient(make_app(settings, served), headers=key) as client:
            assert client.get("/readyz").status_code == 200
            body = {"input": "a cat", "model": served.model}
            assert client.post("/v1/embeddings", json=body).status_code == 200
            assert not untouched.home.exists()
            assert reason in refused(client.get("/indexes"), 503, "unavailable")
