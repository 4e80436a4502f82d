"""Backup, restore, prune and doctor, on SQLite and on a real PostgreSQL."""

import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import event, insert, select, update
from sqlalchemy.engine import make_url

from nearfirst.contracts.problems import CorruptArtifact, NotFound, StateConflict
from nearfirst.contracts.progress import ignore_progress
from nearfirst.contracts.runs import RunKind
from nearfirst.contracts.workers import WorkerAnnouncement
from nearfirst.operations import prune as prune_module
from nearfirst.operations.backup import create_backup, restore_backup
from nearfirst.operations.doctor import Health, examine
from nearfirst.operations.prune import Policy, find_prunable, prune
from nearfirst.queue.alive import reason_not_alive
from nearfirst.registry import records, runs
from nearfirst.registry.database import Database, utc_now
from nearfirst.registry.migrate import upgrade
from nearfirst.registry.models import CheckpointRecord, EventRow, LogRecord, RunRow, WorkerRow
from nearfirst.registry.workers import announce
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store, aside_of

DAY = timedelta(days=1)


class Suite:
    """A registry, a store and a runs folder."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.settings = Settings(home=folder, database_url=database_url)
        self.database = Database(self.settings.database_url)
        self.store = Store(self.settings.store_url, folder / "cache")
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def artifact(self, **files: str) -> str:
        paths = {}
        for name, content in files.items():
            paths[name] = self.folder / f"{name}-{time.time_ns()}"
            paths[name].write_text(content)
        return self.store.put_artifact(paths)

    def ended_run(self, kind: RunKind, artifact: str | None = None, *, days_ago: float = 0) -> str:
        with self.database.write() as session:
            row, _ = runs.create(session, kind, {"of": kind})
            held = runs.claim(session, row.id, "somebody", 30)
            assert held is not None
            records.append_log(session, held, ["a line with \u2603"])
            runs.finish(session, held, result={"rows": 3}, artifact=artifact)
            then = utc_now(session) - timedelta(days=days_ago)
            session.execute(update(RunRow).where(RunRow.id == row.id).values(finished_at=then))
            for table in (EventRow, LogRecord):
                session.execute(update(table).where(table.run_id == row.id).values(created_at=then))
        return row.id

    def state_checkpoint(self, run_id: str, step: int = 10) -> Path:
        path = self.settings.runs_dir / run_id / "checkpoints" / f"state-{step}"
        path.mkdir(parents=True)
        (path / "optimizer.bin").write_bytes(b"0" * 100)
        with self.database.write() as session:
            values = {"size_bytes": 100, "digest": f"sha256:{run_id}", "receipt_head": "sha256:0"}
            for tier in ("state", "weights"):
                row = {"run_id": run_id, "step": step, "tier": tier, "path": str(path), **values}
                session.execute(insert(CheckpointRecord).values(**row))
        return path

    def runs(self) -> list[RunRow]:
        with self.database.read() as session:
            return list(session.execute(select(RunRow)).scalars())

    def age_objects(self, days: float) -> None:
        for path in (self.folder / "store" / "objects").rglob("*"):
            if path.is_file():
                os.utime(path, (time.time() - days * 86400,) * 2)


@pytest.fixture(params=["sqlite", "postgresql"])
def suite(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Suite]:
    suite = Suite(tmp_path / "suite", _url(request, tmp_path / "suite", "database_url"))
    yield suite
    suite.database.close()


@pytest.fixture
def other(suite: Suite, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Suite]:
    """An empty suite on the other kind of database."""
    is_sqlite = suite.database.is_sqlite
    url = request.getfixturevalue("empty_database_url") if is_sqlite else f"sqlite:///{tmp_path / 'other.sqlite'}"
    upgrade(url)
    other = Suite(tmp_path / "other", url)
    yield other
    other.database.close()


def _url(request: pytest.FixtureRequest, folder: Path, fixture: str) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue(fixture))
    url = f"sqlite:///{folder / 'registry.sqlite'}"
    upgrade(url)
    return url


def everything(suite: Suite) -> list[object]:
    with suite.database.read() as session:
        rows, _ = records.list_runs(session, RunKind.ARRANGEMENT, 0, 100)
        lines = {row.id: [line.line for line in records.list_logs(session, row.id, 0, 10)[0]] for row in rows}
        return [
            (row.id, row.state, row.spec, row.result, row.artifact, row.created_at, row.finished_at, lines[row.id])
            for row in rows
        ]


def test_a_backup_restores_rows_and_objects_on_the_other_kind_of_database(
    suite: Suite, other: Suite, tmp_path: Path
) -> None:
    artifact = suite.artifact(order="row 1\n", report="{}")
    suite.ended_run(RunKind.ARRANGEMENT, artifact)
    with suite.database.write() as session:
        queued = runs.create(session, RunKind.ARRANGEMENT, {"text": "caf\u00e9"})[0].id
    saved = create_backup(suite.database, suite.store, tmp_path / "backup")
    assert (saved.tables["runs"].num_rows, len(saved.objects), saved.lost) == (2, 3, [])
    restore_backup(tmp_path / "backup", other.database, other.store)
    assert everything(other) == everything(suite)
    assert other.store.artifact_file(artifact, "order").read_text() == "row 1\n"
    with other.database.write() as session:  # the sequences go on behind what was restored
        fresh = runs.create(session, RunKind.ARRANGEMENT, {})[0]
        assert fresh.seq > runs.get(session, queued).seq
        assert runs.claim(session, queued, "a worker", 30) is not None


def test_a_damaged_backup_and_a_filled_suite_are_refused_and_nothing_is_written(
    suite: Suite, other: Suite, tmp_path: Path
) -> None:
    folder = tmp_path / "backup"
    suite.ended_run(RunKind.ARRANGEMENT, suite.artifact(order="row 1\n"))
    create_backup(suite.database, suite.store, folder)
    with pytest.raises(StateConflict, match="isn't empty"):
        create_backup(suite.database, suite.store, folder)
    with pytest.raises(StateConflict, match="empty suite"):
        restore_backup(folder, suite.database, suite.store)
    table = folder / "tables" / "runs.jsonl"
    table.write_text(table.read_text().replace('"rows": 3', '"rows": 4'))
    with pytest.raises(CorruptArtifact, match=r"runs\.jsonl"):
        restore_backup(folder, other.database, other.store)
    (folder / "manifest.json").unlink()
    with pytest.raises(NotFound, match="no backup"):
        restore_backup(folder, other.database, other.store)
    assert everything(other) == []


def test_an_object_that_the_store_has_lost_is_named_in_the_backup(suite: Suite, tmp_path: Path) -> None:
    artifact = suite.artifact(order="row 1\n")
    suite.ended_run(RunKind.ARRANGEMENT, artifact)
    digest = suite.store.files(artifact)["order"].digest
    suite.store.local_path(digest).unlink()
    assert create_backup(suite.database, suite.store, tmp_path / "backup").lost == [digest]


def test_only_old_objects_that_nothing_refers_to_are_pruned(suite: Suite) -> None:
    kept = suite.artifact(order="kept")
    suite.ended_run(RunKind.ARRANGEMENT, kept)
    unneeded = suite.artifact(order="unneeded")
    suite.age_objects(days=10)
    fresh, again = suite.artifact(order="fresh"), suite.store.put_bytes(b"stored again").digest
    suite.age_objects(days=0)
    for digest in (kept, unneeded):
        for member in (digest, *suite.store.members(digest)):
            name = member.removeprefix("sha256:")
            path = suite.folder / "store" / "objects" / name[:2] / name
            os.utime(path, (time.time() - 10 * 86400,) * 2)
    policy = Policy(objects=5 * DAY)
    found = find_prunable(suite.database, suite.store, suite.settings.runs_dir, policy)
    assert {each.digest for each in found.objects} == {unneeded, *suite.store.members(unneeded)}
    assert suite.store.has_artifact(unneeded), "a dry run changes nothing"
    prune(suite.database, suite.store, suite.settings.runs_dir, policy)
    assert [suite.store.has_artifact(digest) for digest in (kept, unneeded, fresh)] == [True, False, True]
    assert suite.store.local_path(again).read_bytes() == b"stored again"


def test_storing_an_object_again_makes_it_new(suite: Suite) -> None:
    suite.store.put_bytes(b"wanted again")
    suite.age_objects(days=10)
    suite.store.put_bytes(b"wanted again")
    policy = Policy(objects=5 * DAY)
    assert find_prunable(suite.database, suite.store, suite.settings.runs_dir, policy).objects == []


def delete_slowly(suite: Suite, monkeypatch: pytest.MonkeyPatch, at: str, meanwhile: Callable[[], object]) -> None:
    """Prune objects, and let something happen right before a step of it, once."""
    step, waiting = getattr(suite.store, at), [meanwhile]

    def interleaved(*given: object) -> object:
        while waiting:
            waiting.pop()()
        return step(*given)

    monkeypatch.setattr(suite.store, at, interleaved)
    prune(suite.database, suite.store, suite.settings.runs_dir, Policy(objects=5 * DAY))
    assert not waiting


@pytest.mark.parametrize("at", ["set_aside", "delete_aside"])
def test_an_object_that_is_stored_again_while_objects_are_pruned_stays(
    suite: Suite, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    wanted, old = (suite.store.put_bytes(content).digest for content in (b"wanted again", b"old"))
    suite.age_objects(days=10)
    elsewhere = Store(suite.settings.store_url, suite.folder / "cache")
    delete_slowly(suite, monkeypatch, at, lambda: elsewhere.put_bytes(b"wanted again"))
    assert suite.store.local_path(wanted).read_bytes() == b"wanted again"
    with pytest.raises(NotFound):
        suite.store.local_path(old)


def test_an_artifact_that_a_run_comes_to_refer_to_while_objects_are_pruned_stays(
    suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = suite.artifact(order="reported late", report="{}")
    suite.age_objects(days=10)
    delete_slowly(suite, monkeypatch, "set_aside", lambda: suite.ended_run(RunKind.ARRANGEMENT, artifact))
    assert suite.store.artifact_file(artifact, "order").read_text() == "reported late"
    assert suite.store.has_artifact(artifact)


def test_storing_and_pruning_at_once_never_loses_an_object(tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    storing, pruning = Store(url, tmp_path), Store(url, tmp_path)
    digest, long_ago = storing.put_bytes(b"contended").digest, time.time() - 10 * 86400
    with ThreadPoolExecutor(1) as thread:
        for number in range(300):
            os.utime(storing.local_path(digest), (long_ago, long_ago))
            before = datetime.now(UTC) - DAY
            stored = thread.submit(storing.put_bytes, b"contended")
            time.sleep(number % 10 / 10_000)
            if pruning.set_aside(digest, before):
                pruning.delete_aside(digest, before)
            stored.result()
            assert storing.local_path(digest).read_bytes() == b"contended", number


def test_what_a_killed_prune_left_aside_comes_back(suite: Suite) -> None:
    run_id = suite.ended_run(RunKind.TRAIN_JOB, suite.artifact(order="kept"), days_ago=9)
    kept, forgotten = suite.state_checkpoint(run_id), suite.settings.runs_dir / run_id / "checkpoints" / "state-20"
    (artifact,) = [row.artifact for row in suite.runs()]
    aside_of(forgotten).mkdir(parents=True)
    kept.rename(aside_of(kept))
    assert suite.store.set_aside(artifact, datetime.now(UTC) + DAY)
    assert not suite.store.has_artifact(artifact)
    prune(suite.database, suite.store, suite.settings.runs_dir, Policy(records=DAY))
    assert suite.store.has_artifact(artifact)
    assert kept.is_dir()
    assert [*kept.parent.iterdir()] == [kept]


def test_checkpoints_stay_where_they_are_when_forgetting_them_fails(
    suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = suite.state_checkpoint(suite.ended_run(RunKind.TRAIN_JOB, days_ago=9))

    def broken(*_: object) -> None:
        raise OSError("the connection broke")

    event.listen(suite.database.engine, "commit", broken)
    with pytest.raises(OSError, match="broke"):
        prune_module._delete_checkpoints(
            suite.database, suite.settings.runs_dir, Policy(checkpoints=5 * DAY), ignore_progress
        )
    event.remove(suite.database.engine, "commit", broken)
    assert (path / "optimizer.bin").is_file()
    assert prune(suite.database, suite.store, suite.settings.runs_dir, Policy(checkpoints=5 * DAY)).checkpoints
    assert [*path.parent.iterdir()] == []


def test_state_checkpoints_of_old_jobs_go_and_those_that_a_live_run_needs_stay(suite: Suite) -> None:
    old, recent, needed = (suite.ended_run(RunKind.TRAIN_JOB, days_ago=days) for days in (9, 1, 9))
    paths = [suite.state_checkpoint(run_id) for run_id in (old, recent, needed)]
    with suite.database.write() as session:
        live = runs.create(session, RunKind.TRAIN_JOB, {"resume_from": str(paths[2])})[0].id
    own = suite.state_checkpoint(live)
    gone = prune(suite.database, suite.store, suite.settings.runs_dir, Policy(checkpoints=5 * DAY)).checkpoints
    assert [each.run_id for each in gone] == [old]
    assert [path.exists() for path in (*paths, own)] == [False, True, True, True]
    with suite.database.read() as session:
        assert [each.tier for each in records.list_checkpoints(session, old)] == ["weights"]


def test_old_events_and_lines_of_ended_runs_go(suite: Suite) -> None:
    old, recent = (suite.ended_run(RunKind.ARRANGEMENT, days_ago=days) for days in (9, 1))
    with suite.database.write() as session:
        live = runs.create(session, RunKind.ARRANGEMENT, {})[0].id
        session.execute(update(EventRow).where(EventRow.run_id == live).values(created_at=utc_now(session) - 9 * DAY))
    policy = Policy(records=5 * DAY)
    found = prune(suite.database, suite.store, suite.settings.runs_dir, policy)
    assert (found.num_events, found.num_log_lines) == (3, 1)
    with suite.database.read() as session:
        assert [len(records.list_logs(session, run_id, 0, 10)[0]) for run_id in (old, recent)] == [0, 1]
        assert session.query(EventRow).filter(EventRow.run_id == live).count() == 1


def findings(suite: Suite) -> dict[str, tuple[Health, str]]:
    return {finding.check: (finding.health, finding.detail + finding.remedy) for finding in examine(suite.settings)}


def test_doctor_says_what_is_missing_and_how_to_mend_it(suite: Suite) -> None:
    with suite.database.write() as session:
        runs.create(session, RunKind.ARRANGEMENT, {})
        kinds = [RunKind.EMBEDDING]
        announce(
            session,
            WorkerAnnouncement(
                id="pod/1/a", host="pod", version="0.0.1", kinds=kinds, queues=[], num_cpus=1, cpu_jobs=1
            ),
            [],
        )
    found = findings(suite)
    assert found["database"][0] is found["store"][0] is found["broker"][0] is found["clock"][0] is Health.OK
    assert found["workers for arrangement"][0] is Health.ERROR
    assert "1 runs wait" in found["workers for arrangement"][1]
    assert found["workers for embedding"][0] is Health.OK
    assert found["workers for reward"][0] is Health.WARNING
    assert "0.0.1" in found["worker versions"][1]
    assert "nearfirst key create" in found["keys"][1]


def test_doctor_finds_checkpoints_that_it_cannot_see(suite: Suite) -> None:
    path = suite.state_checkpoint(suite.ended_run(RunKind.TRAIN_JOB))
    assert findings(suite)["checkpoints"][0] is Health.OK
    path.rename(path.with_name("elsewhere"))
    health, said = findings(suite)["checkpoints"]
    assert health is Health.ERROR
    assert str(path) in said


def test_doctor_tells_a_missing_migration_and_a_database_that_is_away(empty_database_url: str, tmp_path: Path) -> None:
    found = findings(Suite(tmp_path, empty_database_url))
    assert found["database"][0] is Health.ERROR
    assert "nearfirst.registry.migrate" in found["database"][1]
    away = make_url(empty_database_url).set(port=1, password="hidden").render_as_string(hide_password=False)
    found = findings(Suite(tmp_path, away))
    assert found["database"][0] is Health.ERROR
    assert "hidden" not in json.dumps(found)


def test_a_host_is_alive_by_its_newest_worker(suite: Suite) -> None:
    def reason(host: str) -> str | None:
        with suite.database.read() as session:
            return reason_not_alive(session, host, alive_s=30)

    def announced(worker_id: str, seen_s_ago: float) -> None:
        with suite.database.write() as session:
            common = {"host": worker_id.split("/")[0], "kinds": [], "queues": [], "num_cpus": 1, "cpu_jobs": 1}
            announce(session, WorkerAnnouncement(id=worker_id, **common), [])
            seen = utc_now(session) - timedelta(seconds=seen_s_ago)
            session.execute(update(WorkerRow).where(WorkerRow.id == worker_id).values(last_seen_at=seen))

    assert reason("pod") == "no worker of pod is in the registry"
    announced("pod-2/1/a", 0)
    assert reason("pod") is not None, "another pod's name may begin with this one's"
    announced("pod/1/before", 40)
    assert "40 s ago" in str(reason("pod"))
    announced("pod/1/after", 1)
    assert reason("pod") is None
