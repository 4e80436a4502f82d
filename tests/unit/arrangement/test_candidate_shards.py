"""Arrangements from candidate shards, against the same arrangements without any; tasks run in this process."""

import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfirst.contracts.arrangements import ArrangementSpec, Representation
from nearfirst.contracts.candidates import CandidateKind, CandidatesSpec
from nearfirst.contracts.datasets import Dataset
from nearfirst.contracts.runs import RunKind
from nearfirst.data.dataset import write_canonical
from nearfirst.data.example import Example, Message
from nearfirst.queue.app import make_celery
from nearfirst.queue.context import Worker
from nearfirst.queue.execution import execute
from nearfirst.registry import records, runs
from nearfirst.registry.database import Database
from nearfirst.registry.dependencies import dependencies
from nearfirst.registry.embedding_runs import embedding_run
from nearfirst.registry.migrate import upgrade
from nearfirst.registry.models import RunRow
from nearfirst.registry.requeueing import requeue
from nearfirst.settings import Settings
from nearfirst.similarity.embeddings import normalise
from nearfirst.store.artifacts import Store
from nearfirst_arrangement.arrangements import service
from nearfirst_arrangement.candidates import find_candidates
from nearfirst_arrangement.shards import candidate_specs
from nearfirst_arrangement.tasks import arrange_datasets

NUM_TRAIN, NUM_TEST, DIMENSIONS = 97, 11, 6
REPRESENTATION = Representation(model="owner/encoder")


class InProcess:
    """A registry, a store and a worker, all in this process."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home, memory_budget_bytes=200_000)
        upgrade(self.settings.database_url)
        self.database = Database(self.settings.database_url)
        self.store = Store(self.settings.store_url, cache=home / "cache")
        self._worker = Worker(self.settings, self.database, self.store, make_celery(self.settings), threading.Event())

    def register(self, name: str, tasks: list[str]) -> Dataset:
        turns = (Message("user", "ask"), Message("assistant", "say"))
        examples = [Example(f"{name}-{n}", task, turns, ("say",)) for n, task in enumerate(tasks)]
        content = io.BytesIO()
        digest = write_canonical(examples, content)
        self.store.put_bytes(content.getvalue())
        fields = {"format": "examples", "split": None, "num_examples": len(examples), "num_tasks": len(set(tasks))}
        with self.database.write() as session:
            return records.register_dataset(session, digest=digest, name=name, **fields)[0]

    def embed(self, dataset: Dataset, vectors: np.ndarray, folder: Path) -> None:
        """Finish the dataset's embedding run with these vectors."""
        arrays = {"embeddings.npy": vectors, "truncated.npy": np.zeros(len(vectors), dtype=np.bool_)}
        for name, array in arrays.items():
            np.save(folder / name, array)
        artifact = self.store.put_artifact({name: folder / name for name in arrays})
        with self.database.write() as session:
            row = embedding_run(session, dataset, REPRESENTATION, self.store, self.settings)
            claim = runs.claim(session, row.id, "test", 30)
            assert claim is not None
            runs.finish(session, claim, result={}, artifact=artifact)

    def arrange(self, spec: ArrangementSpec, shard_rows: int) -> RunRow:
        """Queue an arrangement, do its shards and then the arrangement itself."""
        settings = self.settings.model_copy(update={"candidate_shard_rows": shard_rows})
        with self.database.write() as session:
            row = service.create(session, spec, None, settings, self.store)
        for shard in self.shards_of(row.id):
            execute(self._worker, shard.id, find_candidates)
        execute(self._worker, row.id, arrange_datasets)
        with self.database.read() as session:
            return runs.get(session, row.id)

    def shards_of(self, run_id: str) -> list[RunRow]:
        with self.database.read() as session:
            return dependencies(session, run_id, RunKind.CANDIDATES)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    suite = InProcess(tmp_path_factory.mktemp("home"))
    yield suite
    suite.database.close()


@pytest.fixture(scope="module")
def datasets(suite: InProcess, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    """A pool whose rows are often equal, and test rows; the pool's task `rare` has rows 60 and above only."""
    random = np.random.default_rng(5)
    distinct = random.normal(size=(NUM_TRAIN // 3, DIMENSIONS))
    train = normalise(distinct[random.integers(len(distinct), size=NUM_TRAIN)])
    test = normalise(random.normal(size=(NUM_TEST, DIMENSIONS)))
    tasks = {
        "train": ["rare" if n >= 60 and n % 5 == 0 else f"task {n % 3}" for n in range(NUM_TRAIN)],
        "test": [f"test {n % 2}" for n in range(NUM_TEST)],
    }
    found = {name: suite.register(name, of_rows) for name, of_rows in tasks.items()}
    for name, vectors in {"train": train, "test": test}.items():
        suite.embed(found[name], vectors, tmp_path_factory.mktemp(name))
    return found


def spec_of(datasets: dict[str, Dataset], **rules: Any) -> ArrangementSpec:
    selected = {
        side: {"dataset": dataset.id, "tasks": rules.pop(f"{side}_tasks", None)} for side, dataset in datasets.items()
    }
    return ArrangementSpec.model_validate({**selected, "representation": REPRESENTATION, **rules})


RULES: dict[str, dict[str, Any]] = {
    "tma nft": {"method": "tma", "order": "nft"},
    "tma fft to a limit": {"method": "tma", "order": "fft", "limit": 50},
    "tma min": {"method": "tma", "order": "min", "limit": 40},
    "tma max": {"method": "tma", "order": "max", "limit": 40},
    "tma max of the whole pool": {"method": "tma", "order": "max", "limit": NUM_TRAIN},
    "tma rounds": {"method": "tma", "order": "nft", "rounds": [1, 3]},
    "tma as the paper": {"method": "tma", "order": "nft", "limit": 30, "fidelity": "paper"},
    "tma euclidean": {"method": "tma", "order": "nft", "similarity": "euclidean"},
    "tma for a specialist": {"method": "tma", "order": "nft", "test_tasks": ["test 1"]},
    "tma in a rare task": {"method": "tma", "order": "nft", "train_tasks": ["rare"]},
    "wsd nft": {"method": "wsd", "order": "nft"},
    "wsd rt": {"method": "wsd", "order": "rt", "seed": 3},
    "wsd euclidean": {"method": "wsd", "order": "fft", "similarity": "euclidean", "w_avg": 0.3},
    "wsd in a rare task": {"method": "wsd", "order": "nft", "train_tasks": ["rare"]},
}


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES.keys())
def test_shards_of_any_size_give_the_order_of_one_worker(
    suite: InProcess, datasets: dict[str, Dataset], rules: dict[str, Any]
) -> None:
    spec = spec_of(datasets, **rules)
    whole = suite.arrange(spec, shard_rows=NUM_TRAIN)
    assert (whole.state, suite.shards_of(whole.id)) == ("succeeded", []), whole.error
    for shard_rows in (9, 50):
        sharded = suite.arrange(spec, shard_rows)
        assert sharded.state == "succeeded", sharded.error
        assert len(suite.shards_of(sharded.id)) % -(-NUM_TRAIN // shard_rows) == 0 < len(suite.shards_of(sharded.id))
        assert (sharded.result, sharded.artifact) == (whole.result, whole.artifact)


def test_orders_of_one_pool_share_their_shards(suite: InProcess, datasets: dict[str, Dataset]) -> None:
    ids = [
        {shard.id for shard in suite.shards_of(suite.arrange(spec_of(datasets, method="tma", **rules), 30).id)}
        for rules in (
            {"order": "nft", "limit": 20},
            {"order": "fft", "limit": 40, "similarity": "euclidean"},
            {"order": "min", "limit": 5},
            {"order": "max", "limit": 5},
        )
    ]
    assert ids[0] == ids[1] == ids[2] | ids[3]
    assert ids[2].isdisjoint(ids[3])


def test_shards_of_other_vectors_are_not_used(
    suite: InProcess, datasets: dict[str, Dataset], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = spec_of(datasets, method="wsd", order="nft")
    before = suite.arrange(spec, 45)
    with suite.database.write() as session:
        row = embedding_run(session, datasets["train"], REPRESENTATION, suite.store, suite.settings)
        requeue(session, row.id, RunKind.EMBEDDING, is_lost=True)
    old = np.load(suite.store.artifact_file(str(row.artifact), "embeddings.npy"))
    try:
        suite.embed(datasets["train"], old[::-1].copy(), tmp_path)
        after = suite.arrange(spec, 45)
        fresh = suite.arrange(spec, NUM_TRAIN)
    finally:
        with suite.database.write() as session:
            requeue(session, row.id, RunKind.EMBEDDING, is_lost=True)
        suite.embed(datasets["train"], old, tmp_path)
    assert after.result == fresh.result != before.result
    assert "compared other vectors" in caplog.text


@pytest.mark.parametrize(
    ("rules", "kinds"),
    [
        ({"method": "wsd", "order": "nft"}, {CandidateKind.AGGREGATES}),
        ({"method": "wsd", "order": "nft", "granularity": "coarse"}, set()),
        ({"method": "wsd", "order": "nft", "select": {"per_task": 2, "how": "first"}}, set()),
        ({"method": "tma", "order": "nft", "test_per_task": 2}, set()),
        ({"method": "tma", "order": "min", "limit": 5}, {CandidateKind.NEAREST}),
        ({"method": "tma", "order": "max", "limit": 5}, {CandidateKind.FARTHEST}),
        ({"method": "tma", "order": "rt", "limit": 5}, {CandidateKind.NEAREST, CandidateKind.FARTHEST}),
        ({"method": "tma", "order": "nft"}, {CandidateKind.NEAREST, CandidateKind.AGGREGATES}),
        ({"method": "tma", "order": "nft", "rounds": [0, 2]}, {CandidateKind.NEAREST}),
        ({"method": "ot", "order": "nft"}, set()),
        ({"method": "random"}, set()),
    ],
)
def test_shards_find_what_the_order_needs_of_every_row_once(
    datasets: dict[str, Dataset], rules: dict[str, Any], kinds: set[CandidateKind]
) -> None:
    settings = Settings(candidate_shard_rows=20)
    specs = candidate_specs(spec_of(datasets, **rules), 97, "emb_train", "emb_test", settings)
    assert {spec.find for spec in specs} == kinds
    for kind in kinds:
        covered = [row for spec in specs if spec.find is kind for row in range(spec.start, spec.stop)]
        assert covered == list(range(97))
    assert all(isinstance(spec, CandidatesSpec) for spec in specs)
