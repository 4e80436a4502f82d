"""Every HTTP service of the suite, as a real server on a registry with something in it."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import delete
from tests.support.served import START_TIMEOUT_S, served
from tests.support.tiny import make_tiny_llama, write_reward_weights, write_weights

from nearfirst.checkpoint_folder import open_checkpoint
from nearfirst.contracts.keys import Role
from nearfirst.contracts.runs import RunKind
from nearfirst.queue.app import make_celery
from nearfirst.queue.context import RunContext, Worker
from nearfirst.registry import records, runs
from nearfirst.registry.api_keys import create_key
from nearfirst.registry.database import Database
from nearfirst.registry.models import ApiKeyRow
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store
from nearfirst_arrangement.tasks import arrange_datasets

TEXTS = ["Say one.", "It is one."]
CHAT_TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
ROWS = b"".join(b'{"instruction": "Say %d.", "output": "It is %d."}\n' % (n, n) for n in range(8))


@dataclass(frozen=True)
class Service:
    """A running service and its keys."""

    url: str
    ids: dict[str, str]
    """Values of path parameters that name something."""
    bodies: dict[str, dict[str, Any]]
    """By `METHOD /path`, a body that is taken."""
    keys: dict[Role, str] = field(default_factory=dict)
    """Empty: it asks for none."""


def make_api(settings: Settings) -> FastAPI:
    from nearfirst_arrangement.app import make_app

    return make_app(settings)


def make_embedding_server(settings: Settings) -> FastAPI:
    from nearfirst_embedding.app import make_app
    from nearfirst_embedding.settings import EmbeddingSettings

    return make_app(settings, EmbeddingSettings(model="package:all-MiniLM-L6-v2", max_batch_tokens=2000))


def make_generation_server(settings: Settings) -> FastAPI:
    from nearfirst_generation.app import make_app
    from nearfirst_generation.settings import GenerationServerSettings

    served = GenerationServerSettings(
        generation_engine="transformers", generation_model=str(settings.home / "models" / "written")
    )
    return make_app(settings, served)


def make_scoring_server(settings: Settings) -> FastAPI:
    from nearfirst_scoring.app import make_app
    from nearfirst_scoring.settings import ScoringSettings

    model = str(settings.home / "models" / "reward")
    return make_app(settings, ScoringSettings(model=model, max_length=64, precision="fp32", max_request_tokens=2000))


APP_FACTORIES: dict[str, Callable[[Settings], FastAPI]] = {
    "api": make_api,
    "embedding": make_embedding_server,
    "generation": make_generation_server,
    "scoring": make_scoring_server,
}
"""Of each HTTP service: a new one is tested as soon as it stands here."""


@pytest.fixture(scope="module", params=APP_FACTORIES)
def factory(request: pytest.FixtureRequest) -> Callable[[Settings], FastAPI]:
    return APP_FACTORIES[request.param]


@pytest.fixture(scope="module", autouse=True)
def root_logging() -> Iterator[None]:
    """The services configure the root logger of this process."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level


@pytest.fixture(scope="module")
def settings(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Where everything lies, and no limit on how often one may ask."""
    home = tmp_path_factory.mktemp("home")
    (home / "data").mkdir()
    for name in ("tiny", "written", "reward"):
        make_tiny_llama(home / "models" / name, TEXTS, vocab_size=300, hidden_size=32, layers=1, max_length=64)
    (write_weights(home / "models" / "written", seed=1) / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    write_reward_weights(home / "models" / "reward", seed=2)
    return {
        "home": home,
        "database_url": module_database_url,
        "key_cache_s": 60.0,
        "requests_per_s": 1e6,
        "request_burst": 10**6,
        "refusals_per_minute": 10**6,
    }


@pytest.fixture(scope="module")
def seeded_ids(settings: dict[str, Any]) -> dict[str, str]:
    """What the registry holds, by the name of the path parameter: a dataset, an arrangement that has succeeded, an
    index and a train job that wait, a key."""
    given = Settings(**settings)
    with served(make_api(given)) as url:
        return _seed(url, given)


@pytest.fixture(scope="module")
def open_service(
    factory: Callable[[Settings], FastAPI], settings: dict[str, Any], seeded_ids: dict[str, str]
) -> Iterator[Service]:
    """Asks for no key."""
    with served(factory(Settings(**settings))) as url:
        yield Service(url, seeded_ids, good_bodies(settings["home"], seeded_ids))


def good_bodies(home: Path, ids: dict[str, str]) -> dict[str, dict[str, Any]]:
    """What every service would take, by `METHOD /path`."""
    written = home / "models" / "written"
    queued = _runs_of(home, ids["dataset_id"])
    return {f"POST /{path}": body for path, body in queued.items()} | {
        "POST /evaluations": {"train_job": ids["job_id"], "test": ids["dataset_id"], "metrics": ["loss"]},
        "POST /indexes": {"dataset": ids["dataset_id"]},
        "POST /v1/embeddings": {"input": TEXTS, "model": "package:all-MiniLM-L6-v2"},
        "POST /weights": {"path": str(written), "version": "again", "digest": open_checkpoint(written).digest},
        "POST /v1/completions": {"prompt": [[3, 9, 12], [7]], "temperature": 0, "max_tokens": 3},
        "POST /v1/chat/completions": {"messages": [{"role": "user", "content": TEXTS[0]}], "seed": 1},
        "POST /score": {"pairs": [{"instruction": TEXTS[0], "completion": TEXTS[1]}]},
    }


def _runs_of(home: Path, dataset: str) -> dict[str, dict[str, Any]]:
    """The spec of a run of each kind that is made of datasets alone, by collection."""
    sides = {"train": {"dataset": dataset}, "test": {"dataset": dataset}}
    model = {"name_or_path": str(home / "models" / "tiny"), "init": "random"}
    studied = {"name": "seeded", "arrangements": [{"label": "as it is", "method": "as_is"}]}
    return {
        "arrangements": sides | {"method": "random"},
        "train-jobs": {"dataset": dataset, "model": model, "epochs": 1, "precision": "fp32"},
        "studies": sides | studied | {"training": {"model": model}},
    }


def _seed(url: str, settings: Settings) -> dict[str, str]:
    with httpx.Client(base_url=url, timeout=START_TIMEOUT_S) as client:
        uploaded = client.post("/datasets", files={"file": ("pool.jsonl", ROWS)})
        dataset = uploaded.raise_for_status().json()["id"]
        bodies = _runs_of(settings.home, dataset)
        posted = {path: client.post(f"/{path}", json=body) for path, body in bodies.items()}
        ids = {path: str(answer.raise_for_status().json()["id"]) for path, answer in posted.items()}
        embedded = bodies["arrangements"] | {"method": "wsd", "order": "nft"}
        client.post("/arrangements", json=embedded).raise_for_status()
    database = Database(settings.database_url)
    try:
        _arrange_here(ids["arrangements"], settings, database)
        with database.read() as session:
            (index,), _ = records.list_runs(session, RunKind.EMBEDDING, 0, 1)
    finally:
        database.close()
    return {
        "dataset_id": dataset,
        "arrangement_id": ids["arrangements"],
        "other_id": ids["arrangements"],
        "job_id": ids["train-jobs"],
        "index_id": index.id,
        "study_id": ids["studies"],
        "format": "svg",
    }


def _arrange_here(run_id: str, settings: Settings, database: Database) -> None:
    """Do what a worker does with an arrangement, in this process."""
    store = Store(settings.store_url, cache=settings.home / "cache")
    worker = Worker(settings, database, store, make_celery(settings), threading.Event())
    with database.write() as session:
        claimed = runs.claim(session, run_id, "this test", lease_s=60)
    assert claimed is not None
    done = arrange_datasets(RunContext(worker, claimed, asked_s=time.monotonic()))
    with database.write() as session:
        runs.finish(session, claimed, result=done.result, artifact=done.artifact)


@pytest.fixture(scope="module")
def closed_service(
    factory: Callable[[Settings], FastAPI], settings: dict[str, Any], seeded_ids: dict[str, str]
) -> Iterator[Service]:
    """The same, asking for keys."""
    database = Database(settings["database_url"])
    with database.write() as session:
        keys = {role: create_key(session, role, role).key for role in Role}
        spare = create_key(session, "to be revoked", Role.READ).id
    with served(factory(Settings(**settings))) as url:
        yield Service(url, seeded_ids | {"key_id": spare}, good_bodies(settings["home"], seeded_ids), keys)
    with database.write() as session:  # the next service begins without keys again
        session.execute(delete(ApiKeyRow))
    database.close()
