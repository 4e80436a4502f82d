"""A cancelled run takes along what was made for it alone, and leaves what others need."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.runs import claimed, finish, new_run, state_of

from nearfirst.contracts.arrangements import ArrangementSpec
from nearfirst.contracts.runs import RunKind, RunState
from nearfirst.registry import records, runs, sweep
from nearfirst.registry.cancellation import cancel, revive_needed
from nearfirst.registry.content_runs import keep_requested
from nearfirst.registry.database import Database
from nearfirst.registry.dependencies import all_unfinished_dependencies, dependencies
from nearfirst.registry.events import list_events
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store
from nearfirst_arrangement.arrangements import service

POOL_ROWS, SHARDS = 25, 3
Arrange = Callable[..., str]


@pytest.fixture
def arrange(database: Database, tmp_path: Path) -> Arrange:
    """Asks for an arrangement of a pool of three shards for one of two test sets, as POST /arrangements does."""
    settings = Settings(home=tmp_path / "home", embedding_shard_rows=10, candidate_shard_rows=10)
    store = Store(settings.store_url, cache=settings.home / "cache")
    fields = {"format": "p3", "split": None, "num_tasks": 1}
    sizes = {"pool": POOL_ROWS, "test": 5, "other test": 5}
    with database.write() as session:
        ids = {
            name: records.register_dataset(session, name=name, digest=f"sha256:{name}", num_examples=size, **fields)[
                0
            ].id
            for name, size in sizes.items()
        }

    def asking(test: str = "test", **rules: str | int) -> str:
        body = {"train": ids["pool"], "test": ids[test], "method": "wsd", "order": "nft", **rules}
        with database.write() as session:
            return service.create(session, ArrangementSpec.model_validate(body), None, settings, store).id

    return asking


def cancelled(database: Database, run_id: str, kind: RunKind = RunKind.ARRANGEMENT) -> None:
    with database.write() as session:
        cancel(session, run_id, kind)


def needed_by(database: Database, run_id: str) -> list[str]:
    """All runs that a run waits for, whatever became of them."""
    with database.read() as session:
        return all_unfinished_dependencies(session, run_id)


def embeddings_of(database: Database, run_id: str) -> list[str]:
    """The embedding runs of an arrangement's pool and of its test set."""
    with database.read() as session:
        return [row.id for row in dependencies(session, run_id, RunKind.EMBEDDING)]


def shards_of(database: Database, embedding: str) -> list[str]:
    with database.read() as session:
        return [row.id for row in dependencies(session, embedding)]


def states(database: Database, run_ids: list[str]) -> set[str]:
    return {state_of(database, run_id) for run_id in run_ids}


def swept(database: Database) -> None:
    """What a sweep does about runs that wait."""
    with database.write() as session:
        revive_needed(session)
        sweep.fail_orphans(session)


def test_what_only_the_cancelled_arrangement_waited_for_ends_with_it(database: Database, arrange: Arrange) -> None:
    arrangement = arrange()
    needed = needed_by(database, arrangement)
    assert len(needed) == 2 + SHARDS + SHARDS  # embeddings, shards of the pool's, comparisons
    cancelled(database, arrangement)
    assert states(database, [arrangement, *needed]) == {"cancelled"}
    with database.write() as session:
        assert sweep.take_deliveries(session, 10) == []
        for run_id in needed:
            assert [event.data["state"] for event in list_events(session, 0, run_id)] == ["queued", "cancelled"]


def test_an_embedding_that_another_arrangement_needs_survives_with_its_shards(
    database: Database, arrange: Arrange
) -> None:
    first, second = arrange("test"), arrange("other test")
    pool, test = embeddings_of(database, first)
    assert embeddings_of(database, second)[0] == pool
    shared = [pool, *shards_of(database, pool)]
    alone = set(needed_by(database, first)) - set(shared)
    assert len(alone) == 1 + SHARDS
    cancelled(database, first)
    assert states(database, sorted(alone)) == {"cancelled"}
    assert test in alone
    assert states(database, needed_by(database, second)) == {"queued"}
    assert set(shared) <= set(needed_by(database, second))
    for run_id in [*shards_of(database, pool), pool]:
        finish(database, claimed(database, run_id))
    cancelled(database, second)
    assert states(database, shared) == {"succeeded"}
    assert states(database, needed_by(database, second)) == {"cancelled"}


def test_arrangements_that_share_everything_end_it_with_the_last(database: Database, arrange: Arrange) -> None:
    first, second = arrange(order="nft"), arrange(order="fft")
    needed = needed_by(database, first)
    assert needed == needed_by(database, second)
    cancelled(database, first)
    assert states(database, needed) == {"queued"}
    cancelled(database, second)
    assert states(database, needed) == {"cancelled"}


def test_a_running_shard_is_told_and_those_that_wait_for_it_end_now(database: Database, arrange: Arrange) -> None:
    arrangement = arrange()
    pool = embeddings_of(database, arrangement)[0]
    running, *others = shards_of(database, pool)
    held = claimed(database, running)
    cancelled(database, arrangement)
    assert states(database, [pool, *others]) == {"cancelled"}
    with database.write() as session:
        assert runs.renew(session, held, 30) is RunState.CANCELLING
        runs.confirm_cancelled(session, held)
    swept(database)
    assert state_of(database, running) == "cancelled"


def test_an_embedding_that_somebody_asked_for_by_itself_goes_on(database: Database, arrange: Arrange) -> None:
    arrangement = arrange()
    pool, test = embeddings_of(database, arrangement)
    with database.write() as session:
        keep_requested(session, runs.get(session, pool))
    cancelled(database, arrangement)
    assert states(database, [pool, *shards_of(database, pool)]) == {"queued"}
    assert state_of(database, test) == "cancelled"


def test_asking_again_queues_what_a_cancel_ended(database: Database, arrange: Arrange) -> None:
    first = arrange()
    needed = needed_by(database, first)
    cancelled(database, first)
    assert needed_by(database, arrange()) == needed
    assert states(database, needed) == {"queued"}


def test_what_is_needed_again_while_it_ends_is_queued_again_and_fails_nobody(
    database: Database, arrange: Arrange
) -> None:
    first = arrange()
    pool = embeddings_of(database, first)[0]
    running = shards_of(database, pool)[0]
    held = claimed(database, running)
    cancelled(database, first)
    second = arrange()
    assert state_of(database, running) == "cancelling"
    swept(database)
    with database.write() as session:
        runs.confirm_cancelled(session, held)
        assert sweep.fail_orphans(session) == []
    swept(database)
    assert states(database, [second, *needed_by(database, second)]) == {"queued"}


def test_an_embedding_that_was_asked_for_while_it_ended_is_queued_again(database: Database, arrange: Arrange) -> None:
    arrangement = arrange()
    test = embeddings_of(database, arrangement)[1]
    cancelled(database, arrangement)
    with database.write() as session:
        keep_requested(session, runs.get(session, test))
    swept(database)
    assert state_of(database, test) == "queued"


def test_a_cancelled_job_leaves_its_arrangement(database: Database, arrange: Arrange) -> None:
    arrangement = arrange()
    with database.write() as session:
        job, _ = runs.create(session, RunKind.TRAIN_JOB, {}, depends_on=[arrangement])
    cancelled(database, job.id, RunKind.TRAIN_JOB)
    assert states(database, [arrangement, *needed_by(database, arrangement)]) == {"queued"}


def test_what_waits_for_a_cancelled_arrangement_still_fails(database: Database) -> None:
    arrangement = new_run(database)
    with database.write() as session:
        job, _ = runs.create(session, RunKind.TRAIN_JOB, {}, depends_on=[arrangement])
    cancelled(database, arrangement)
    swept(database)
    assert state_of(database, job.id) == "failed"


def test_cancels_at_the_same_time_leave_nothing_going(database: Database, arrange: Arrange) -> None:
    arrangements = [arrange(seed=seed) for seed in range(6)]
    needed = needed_by(database, arrangements[0])
    together = threading.Barrier(len(arrangements))

    def end(run_id: str) -> None:
        together.wait()
        cancelled(database, run_id)

    threads = [threading.Thread(target=end, args=(run_id,)) for run_id in arrangements]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert states(database, [*arrangements, *needed]) == {"cancelled"}


def test_an_arrangement_that_is_asked_for_during_a_cancel_has_all_that_it_needs(
    database: Database, arrange: Arrange
) -> None:
    for turn in range(8):
        first = arrange(seed=turn)
        asked: list[str] = []
        together = threading.Barrier(2)

        def ask(turn: int = turn, asked: list[str] = asked, together: threading.Barrier = together) -> None:
            together.wait()
            asked.append(arrange(seed=100 + turn))

        thread = threading.Thread(target=ask)
        thread.start()
        together.wait()
        cancelled(database, first)
        thread.join()
        for _ in range(3):  # an embedding, then its shards
            swept(database)
        assert states(database, [*asked, *needed_by(database, asked[0])]) == {"queued"}
        cancelled(database, asked[0])
