"""Embeddings and comparisons in shards on several workers: the bytes of one process, also when a worker is killed."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select
from tests.support.suite import RunningSuite

from nearfirst.contracts.arrangements import ArrangementRules, Representation
from nearfirst.contracts.runs import RunKind, RunState
from nearfirst.data.dataset import load_dataset
from nearfirst.data.example import embedded_text
from nearfirst.data.order import order_table
from nearfirst.registry.database import Database
from nearfirst.registry.models import RunRow
from nearfirst.similarity.embeddings import normalise
from nearfirst.store.artifacts import Store
from nearfirst_arrangement.methods import arrange
from nearfirst_embedding.artifacts import EmbeddingFiles, write_rows
from nearfirst_embedding.representations import embed_texts, load_representation

ENCODER = Representation(model="package:all-MiniLM-L6-v2")
EMBEDDING_SHARD_ROWS, CANDIDATE_SHARD_ROWS = 40, 4000
WORKERS = ("embedding", "arrangement")
NUM_TRAIN, NUM_TEST, DIMENSIONS = 18_000, 700, 48
SHARDED = {
    "NEARFIRST_EMBEDDING_SHARD_ROWS": str(EMBEDDING_SHARD_ROWS),
    "NEARFIRST_CANDIDATE_SHARD_ROWS": str(CANDIDATE_SHARD_ROWS),
}


@pytest.fixture(scope="module")
def suite_of_three(make_suite: Callable[..., RunningSuite]) -> RunningSuite:
    """Three embedding and three arrangement workers."""
    return started(make_suite(**SHARDED), num_workers=3)


def started(suite: RunningSuite, num_workers: int) -> RunningSuite:
    suite.start_api()
    for service in WORKERS:
        for number in range(num_workers):
            suite.start_worker(service, f"{service}-{number}")
    return suite


def write_dataset(path: Path, count: int, words: int = 1) -> Path:
    """Rows with texts of some words; every tenth repeats an earlier one."""
    texts = [f"{number} times {number} " + f"word{number % 97} " * words for number in range(count)]
    rows = (
        {"id": f"{path.stem}-{n}", "prompt": texts[n - 7 if n % 10 == 9 else n], "completion": f"is {n % 10}"}
        for n in range(count)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def registry(suite_of_three: RunningSuite) -> Iterator[Database]:
    database = Database(suite_of_three.settings()["database_url"])
    yield database
    database.close()


def runs_of(database: Database, kind: RunKind) -> list[RunRow]:
    with database.read() as session:
        return list(session.execute(select(RunRow).where(RunRow.kind == kind).order_by(RunRow.seq)).scalars())


def kill_the_worker_of(suite: RunningSuite, database: Database, kind: RunKind, known: set[str]) -> str:
    """SIGKILL the worker of some run of this kind while it works; returns the run's id."""
    names = {suite.pid(name): name for name in (f"{service}-{n}" for service in WORKERS for n in range(3))}
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        for row in runs_of(database, kind):
            if row.state == RunState.RUNNING and row.id not in known and row.lease_owner is not None:
                _host, pid, _token = row.lease_owner.split("/")
                suite.signal(names[int(pid)], signal.SIGKILL)
                return row.id
        time.sleep(0.005)
    raise AssertionError(f"no run of kind {kind} was seen running")


def artifact_of_one_process(path: Path, folder: Path) -> str:
    """The artifact that a dataset's embeddings have when one process embeds all rows at once."""
    loaded = load_dataset(path)
    texts = [embedded_text(example, ENCODER.text) for example in loaded.examples]
    encoded = embed_texts(ENCODER, texts)
    files = EmbeddingFiles.in_folder(folder)
    write_rows(
        files,
        encoded.vectors,
        encoded.truncated,
        encoder=load_representation(ENCODER).key,
        dataset_digest=loaded.digest,
    )
    return files.store(Store(str(folder / "store"), cache=folder / "cache"))


def embedding_body(train: str, test: str, **changes: Any) -> dict[str, Any]:
    representation = {"model": ENCODER.model}
    return {"train": train, "test": test, "method": "tma", "order": "nft", "representation": representation, **changes}


@pytest.mark.parametrize("num_workers", [1, 3])
def test_embeddings_in_shards_are_the_bytes_of_one_process(
    make_suite: Callable[..., RunningSuite],
    suite_of_three: RunningSuite,
    tmp_path: Path,
    num_workers: int,
) -> None:
    suite = suite_of_three if num_workers == 3 else started(make_suite(**SHARDED), num_workers)
    path = write_dataset(tmp_path / "pool.jsonl", 130)
    dataset = suite.upload(path)["id"]
    done = suite.wait(f"/arrangements/{suite.post('/arrangements', embedding_body(dataset, dataset))}")
    assert done["state"] == "succeeded", done["error"]
    database = Database(suite.settings()["database_url"])
    (embedding,) = runs_of(database, RunKind.EMBEDDING)
    shards = runs_of(database, RunKind.EMBEDDING_SHARD)
    database.close()
    assert [(row.spec["start"], row.spec["stop"]) for row in shards] == [(0, 40), (40, 80), (80, 120), (120, 130)]
    assert embedding.artifact == artifact_of_one_process(path, tmp_path)


def test_embeddings_are_the_same_when_a_worker_is_killed_in_the_middle_of_a_shard(
    suite_of_three: RunningSuite, registry: Database, tmp_path: Path
) -> None:
    suite = suite_of_three
    path = write_dataset(tmp_path / "long.jsonl", 160, words=60)
    dataset = suite.upload(path)["id"]
    known = {row.id for row in runs_of(registry, RunKind.EMBEDDING_SHARD)}
    run_id = suite.post("/arrangements", embedding_body(dataset, dataset))
    killed = kill_the_worker_of(suite, registry, RunKind.EMBEDDING_SHARD, known)
    waiting = suite.get(f"/arrangements/{run_id}")
    assert killed in waiting["waits_for"]
    done = suite.wait(f"/arrangements/{run_id}")
    assert done["state"] == "succeeded", done["error"]
    attempts = {row.id: row.attempt for row in runs_of(registry, RunKind.EMBEDDING_SHARD)}
    assert attempts[killed] == 2
    assert runs_of(registry, RunKind.EMBEDDING)[-1].artifact == artifact_of_one_process(path, tmp_path)


def vectors_body(suite: RunningSuite, folder: Path, **rules: Any) -> dict[str, Any]:
    """A pool and a test set with random vectors in files, every tenth of the pool's twice, registered and arranged."""
    random = np.random.default_rng(NUM_TRAIN)
    train = normalise(random.normal(size=(NUM_TRAIN, DIMENSIONS)))
    train[::10] = train[5::10]
    test = normalise(random.normal(size=(NUM_TEST, DIMENSIONS)))
    ids, files = {}, {}
    for name, vectors in {"train": train, "test": test}.items():
        np.save(suite.home / "data" / f"{name}.npy", vectors)
        ids[name] = suite.upload(write_dataset(folder / f"{name}.jsonl", len(vectors)))["id"]
        files[ids[name]] = f"{name}.npy"
    return {**ids, "representation": {"kind": "precomputed", "vectors": files}, **rules}


def digest_of_one_process(suite: RunningSuite, folder: Path, rules: dict[str, Any]) -> str:
    """The digest of the order that this process makes of the same files, without shards."""
    train = load_dataset(folder / "train.jsonl")
    arranged = arrange(
        ArrangementRules(**rules),
        *(np.load(suite.home / "data" / f"{name}.npy") for name in ("train", "test")),
        NUM_TRAIN,
    )
    return order_table(
        train.digest,
        arranged.index,
        ids=[example.id for example in train.examples],
        tasks=[example.task for example in train.examples],
    ).digest


@pytest.mark.parametrize(
    "rules",
    [
        {"method": "tma", "order": "fft", "limit": 900},
        {"method": "wsd", "order": "nft"},
    ],
    ids=["tma", "wsd"],
)
def test_comparisons_in_shards_give_the_order_of_one_process(
    suite_of_three: RunningSuite, registry: Database, tmp_path: Path, rules: dict[str, Any]
) -> None:
    suite = suite_of_three
    before = {row.id for row in runs_of(registry, RunKind.CANDIDATES)}
    run_id = suite.post("/arrangements", vectors_body(suite, tmp_path, **rules))
    done = suite.wait(f"/arrangements/{run_id}")
    assert done["state"] == "succeeded", done["error"]
    shards = [row for row in runs_of(registry, RunKind.CANDIDATES) if row.id not in before]
    assert len(shards) == 5 * (2 if rules["method"] == "tma" else 1)
    assert len({row.attempt for row in shards}) == 1
    assert done["digest"] == digest_of_one_process(suite, tmp_path, rules)


def test_comparisons_are_the_same_when_a_worker_is_killed_in_the_middle_of_a_shard(
    suite_of_three: RunningSuite, registry: Database, tmp_path: Path
) -> None:
    suite, rules = suite_of_three, {"method": "tma", "order": "nft", "limit": 900, "similarity": "euclidean"}
    # Files that are written again count as other vectors, so no shard is there already.
    body = vectors_body(suite, tmp_path, **rules)
    known = {row.id for row in runs_of(registry, RunKind.CANDIDATES)}
    run_id = suite.post("/arrangements", body)
    killed = kill_the_worker_of(suite, registry, RunKind.CANDIDATES, known)
    done = suite.wait(f"/arrangements/{run_id}")
    assert done["state"] == "succeeded", done["error"]
    assert {row.id: row.attempt for row in runs_of(registry, RunKind.CANDIDATES)}[killed] == 2
    assert done["digest"] == digest_of_one_process(suite, tmp_path, rules)
