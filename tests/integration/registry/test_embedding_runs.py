"""Embedding runs and their shards: made once for a content, queued again when they failed or lost what they made."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nearfirst.contracts.arrangements import Representation
from nearfirst.contracts.datasets import Dataset
from nearfirst.contracts.embeddings import EmbeddingShardSpec
from nearfirst.contracts.problems import CorruptArtifact, InvalidInput, PathNotAllowed, Problem
from nearfirst.contracts.runs import RunKind, RunState
from nearfirst.registry import records, runs, sweep
from nearfirst.registry.database import Database
from nearfirst.registry.dependencies import all_unfinished_dependencies, dependencies, unfinished_dependencies
from nearfirst.registry.embedding_runs import embedding_progress, embedding_run, resolve_representation
from nearfirst.registry.models import RunRow
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store

REPRESENTATION = Representation(model="owner/encoder")
BROKEN = Problem(title="Broken", status=422, code="invalid_input", detail="row 5: the text is ''")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings(home=tmp_path / "home", embedding_shard_rows=10)
    for root in settings.allowed_roots:
        root.mkdir(parents=True)
    return settings


@pytest.fixture
def store(settings: Settings) -> Store:
    return Store(settings.store_url, cache=settings.home / "cache")


@pytest.fixture
def dataset(database: Database) -> Dataset:
    """25 rows: three shards of at most ten."""
    fields = {"format": "p3", "split": None, "num_examples": 25, "num_tasks": 1}
    with database.write() as session:
        return records.register_dataset(session, digest="sha256:aa", name="pool", **fields)[0]


Ask = Callable[[], RunRow]


@pytest.fixture
def ask(database: Database, dataset: Dataset, store: Store, settings: Settings) -> Ask:
    """Asks for the dataset's embeddings, as an arrangement does."""

    def asking() -> RunRow:
        with database.write() as session:
            return embedding_run(session, dataset, REPRESENTATION, store, settings)

    return asking


def shards_of(database: Database, run_id: str) -> list[RunRow]:
    with database.read() as session:
        return dependencies(session, run_id, RunKind.EMBEDDING_SHARD)


def succeed(database: Database, store: Store, run_id: str) -> str:
    """Do a run's work: its artifact has one file, named after the run."""
    with database.write() as session:
        claim = runs.claim(session, run_id, "worker", 30)
        assert claim is not None, f"{run_id} can't be claimed"
        artifact = store.put_artifact({"made-by": put(store, run_id)})
        runs.finish(session, claim, result={}, artifact=artifact)
    return artifact


def put(store: Store, content: str) -> Path:
    return store.local_path(store.put_bytes(content.encode()).digest)


def fail(database: Database, run_id: str) -> None:
    with database.write() as session:
        claim = runs.claim(session, run_id, "worker", 30)
        assert claim is not None
        runs.fail(session, claim, BROKEN)


def lose(store: Store, run_id: str) -> None:
    put(store, run_id).unlink()


def states(database: Database, *run_ids: str) -> list[str]:
    with database.read() as session:
        return [runs.get(session, run_id).state for run_id in run_ids]


def test_a_large_dataset_waits_for_shards_that_cover_its_rows(database: Database, ask: Ask) -> None:
    row = ask()
    specs = [EmbeddingShardSpec.model_validate(shard.spec) for shard in shards_of(database, row.id)]
    assert [(spec.start, spec.stop) for spec in specs] == [(0, 10), (10, 20), (20, 25)]
    assert {spec.embedding.dataset_digest for spec in specs} == {"sha256:aa"}
    assert ask().id == row.id
    with database.write() as session:
        assert runs.claim(session, row.id, "worker", 30) is None
        deliveries = sweep.take_deliveries(session, 10)
        assert [delivery.run_id for delivery in deliveries] == unfinished_dependencies(session, row.id)


def test_a_dataset_of_one_shards_size_is_embedded_whole(
    database: Database, dataset: Dataset, store: Store, settings: Settings
) -> None:
    settings = settings.model_copy(update={"embedding_shard_rows": 25})
    with database.write() as session:
        row = embedding_run(session, dataset, REPRESENTATION, store, settings)
    assert shards_of(database, row.id) == []


def test_the_run_keeps_its_shards_when_their_size_is_set_anew(
    database: Database, dataset: Dataset, store: Store, settings: Settings, ask: Ask
) -> None:
    row = ask()
    with database.write() as session:
        other = settings.model_copy(update={"embedding_shard_rows": 7})
        assert embedding_run(session, dataset, REPRESENTATION, store, other).id == row.id
    assert len(shards_of(database, row.id)) == 3


def test_a_failed_shard_fails_the_run_with_its_reason_and_asking_again_starts_both_again(
    database: Database, store: Store, ask: Ask
) -> None:
    row = ask()
    first, second, third = (shard.id for shard in shards_of(database, row.id))
    succeed(database, store, first)
    fail(database, second)
    with database.write() as session:
        sweep.fail_orphans(session)
    with database.read() as session:
        error = runs.get(session, row.id).error
    assert error is not None
    assert error["code"] == "dependency_failed"
    assert f"{second}, which has failed: row 5: the text is ''" in error["detail"]
    assert states(database, row.id, first, second, third) == ["failed", "succeeded", "failed", "queued"]
    assert ask().state == "queued"
    assert states(database, row.id, first, second, third) == ["queued", "succeeded", "queued", "queued"]


def test_asking_before_the_sweeper_noticed_a_failed_shard_starts_it_again(database: Database, ask: Ask) -> None:
    row = ask()
    shard = shards_of(database, row.id)[0].id
    fail(database, shard)
    assert ask().state == "queued"
    assert states(database, shard) == ["queued"]


def test_lost_vectors_are_merged_again_and_only_lost_shards_are_embedded_again(
    database: Database, store: Store, ask: Ask
) -> None:
    row = ask()
    first, second, third = (shard.id for shard in shards_of(database, row.id))
    for run_id in (first, second, third, row.id):
        succeed(database, store, run_id)
    assert ask().state == "succeeded"
    lose(store, second)
    assert ask().state == "succeeded"
    lose(store, row.id)
    assert ask().state == "queued"
    assert states(database, first, second, third) == ["succeeded", "queued", "succeeded"]


def test_vectors_that_a_reader_found_damaged_are_made_again(database: Database, store: Store, ask: Ask) -> None:
    row = ask()
    for run_id in (*(shard.id for shard in shards_of(database, row.id)), row.id):
        artifact = succeed(database, store, run_id)
    file = store.artifact_file(artifact, "made-by")
    file.write_bytes(b"damaged")
    with pytest.raises(CorruptArtifact):
        store.artifact_file(artifact, "made-by")
    assert ask().state == "queued"
    assert succeed(database, store, row.id) == artifact
    assert store.artifact_file(artifact, "made-by").read_text() == row.id
    assert ask().state == "succeeded"


def test_progress_of_a_waiting_run_is_that_of_its_shards(database: Database, store: Store, ask: Ask) -> None:
    row = ask()
    first, second, _ = (shard.id for shard in shards_of(database, row.id))
    succeed(database, store, first)
    with database.write() as session:
        claim = runs.claim(session, second, "worker", 30)
        assert claim is not None
        runs.record_progress(session, claim, done=4, total=10, unit="texts", eta_s=None)
    with database.read() as session:
        progress = embedding_progress(session, runs.get(session, row.id))
    assert progress is not None
    assert (progress.done, progress.total, progress.unit) == (14, 25, "texts")


def test_what_waits_for_the_run_waits_for_its_shards_too(database: Database, store: Store, ask: Ask) -> None:
    row = ask()
    shards = [shard.id for shard in shards_of(database, row.id)]
    with database.write() as session:
        arrangement, _ = runs.create(session, RunKind.ARRANGEMENT, {}, depends_on=[row.id])
        job, _ = runs.create(session, RunKind.TRAIN_JOB, {}, depends_on=[arrangement.id])
        assert all_unfinished_dependencies(session, job.id) == [*shards, row.id, arrangement.id]
        assert unfinished_dependencies(session, job.id) == [arrangement.id]
    succeed(database, store, shards[0])
    with database.read() as session:
        assert all_unfinished_dependencies(session, arrangement.id) == [*shards[1:], row.id]


def test_files_of_vectors_are_keyed_by_dataset_and_file_and_have_no_shards(
    database: Database, dataset: Dataset, store: Store, settings: Settings
) -> None:
    file = settings.home / "data" / "pool.npy"
    np.save(file, np.eye(25))

    def asked(**fields: str) -> RunRow:
        given = Representation(kind="precomputed", vectors={dataset.id: "pool.npy", "ds_other": "pool.npy"}, **fields)
        with database.write() as session:
            return embedding_run(session, dataset, resolve_representation(given, settings), store, settings)

    row = asked()
    assert row.spec["representation"]["vectors"] == {"sha256:aa": str(file)}
    assert shards_of(database, row.id) == []
    assert asked(text="all_turns", model="owner/other").id == row.id
    np.save(file, np.ones((25, 3)))
    assert asked().id != row.id


def test_bad_files_of_vectors_are_refused(
    database: Database, dataset: Dataset, store: Store, settings: Settings, tmp_path: Path
) -> None:
    def resolved(vectors: dict[str, str]) -> Representation:
        return resolve_representation(Representation(kind="precomputed", vectors=vectors), settings)

    np.save(tmp_path / "outside.npy", np.eye(25))
    np.save(settings.home / "data" / "pool.npy", np.eye(25))
    with pytest.raises(PathNotAllowed, match=r"outside\.npy"):
        resolved({dataset.id: str(tmp_path / "outside.npy")})
    with pytest.raises(InvalidInput, match=r"absent\.npy"):
        resolved({dataset.id: "absent.npy"})
    with database.write() as session, pytest.raises(InvalidInput, match=f"no file for dataset {dataset.id}.*ds_other"):
        embedding_run(session, dataset, resolved({"ds_other": "pool.npy"}), store, settings)


def test_a_run_that_works_is_left_alone(database: Database, store: Store, ask: Ask) -> None:
    row = ask()
    for shard in shards_of(database, row.id):
        succeed(database, store, shard.id)
    with database.write() as session:
        assert runs.claim(session, row.id, "worker", 30) is not None
    assert ask().state == RunState.RUNNING
