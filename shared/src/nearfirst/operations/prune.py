"""What nothing needs any more: objects that no run refers to, state checkpoints of ended jobs, old events and lines.

Nothing that an unfinished run names is touched: neither its own checkpoints and lines, nor a checkpoint whose path or
digest is in its spec. An object may be one that a run has just stored and not yet reported; only those that were
written longer ago than a grace time go, and storing an object again makes it new.
"""

import json
import logging
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from nearfirst.contracts.progress import ProgressCallback, ignore_progress
from nearfirst.contracts.runs import RunKind, RunState
from nearfirst.contracts.training import CheckpointTier
from nearfirst.operations.backup import referenced
from nearfirst.registry.database import Database, utc_now
from nearfirst.registry.events import lock_events
from nearfirst.registry.models import CheckpointRecord, EventRow, LogRecord, RunRow
from nearfirst.store.artifacts import Store, aside_of, original_of

log = logging.getLogger(__name__)

ENDED = (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED)
OBJECT_GRACE = timedelta(days=1)
"""Least age of objects that go, whatever the policy says."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How old something must be to go; None: it stays."""

    objects: timedelta | None = None
    """Since it was stored; what no run and no dataset refers to."""
    checkpoints: timedelta | None = None
    """Since its job ended: state checkpoints, which a resume would go on from. Weights stay."""
    records: timedelta | None = None
    """Since it was written: events and log lines of runs that have ended."""


@dataclass(frozen=True, slots=True)
class OldObject:
    """An object that nothing refers to."""

    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class OldCheckpoint:
    """A state checkpoint of a job that has ended."""

    run_id: str
    step: int
    path: Path
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Prunable:
    """What a policy lets go."""

    objects: list[OldObject]
    checkpoints: list[OldCheckpoint]
    num_events: int
    num_log_lines: int

    @property
    def size_bytes(self) -> int:
        """Of files."""
        return sum(each.size_bytes for each in self.objects) + sum(each.size_bytes for each in self.checkpoints)


def find_prunable(database: Database, store: Store, runs_dir: Path, policy: Policy) -> Prunable:
    """What the policy lets go now; changes nothing."""
    # Objects are listed before the registry is asked: one that is stored and reported meanwhile is referred to by then.
    stored = _old_objects(store, policy.objects) if policy.objects is not None else []
    with database.read() as session:
        kept = _kept_objects(session, store) if stored else set()
        return Prunable(
            objects=[each for each in stored if each.digest not in kept],
            checkpoints=_old_checkpoints(session, runs_dir, policy.checkpoints),
            num_events=_count(session, EventRow, policy.records),
            num_log_lines=_count(session, LogRecord, policy.records),
        )


def prune(
    database: Database, store: Store, runs_dir: Path, policy: Policy, *, progress: ProgressCallback = ignore_progress
) -> Prunable:
    """Delete what the policy lets go; returns what that was.

    Files and folders are set aside first, so that nobody finds half of one; then the registry is asked again, in the
    transaction that forgets them; they are deleted after its commit. What a prune that was killed has left aside is put
    back, or deleted where the registry has forgotten it.
    """
    store.put_all_back()
    found = find_prunable(database, store, runs_dir, policy)
    objects = _delete_objects(database, store, found.objects, policy, progress)
    with database.write() as session:
        _end_earlier(session, runs_dir)
        for table in (EventRow, LogRecord):
            if policy.records is not None:
                session.execute(delete(table).where(*_is_old_record(session, table, policy.records)))
    checkpoints = _delete_checkpoints(database, runs_dir, policy, progress)
    return Prunable(objects, checkpoints, found.num_events, found.num_log_lines)


def _delete_objects(
    database: Database, store: Store, found: list[OldObject], policy: Policy, progress: ProgressCallback
) -> list[OldObject]:
    """Delete those of some objects that are still old and that nothing refers to; which they were."""
    if policy.objects is None:
        return []
    before = _stored_before(policy.objects)
    aside = [each for each in found if store.set_aside(each.digest, before)]
    with database.write() as session:
        lock_events(session)  # no run ends meanwhile
        named = referenced(session) & {each.digest for each in aside}
        for digest in named:
            store.put_back(digest)  # an artifact's manifest, to be read for its files
        kept = _kept_objects(session, store)
        for each in aside:
            if each.digest in kept:
                store.put_back(each.digest)
    gone = [each for each in aside if each.digest not in kept]
    for done, each in enumerate(gone, start=1):
        store.delete_aside(each.digest, before)
        progress(done, len(gone), "objects")
    return gone


def _delete_checkpoints(
    database: Database, runs_dir: Path, policy: Policy, progress: ProgressCallback
) -> list[OldCheckpoint]:
    """Delete the checkpoints that the policy lets go; which they were."""
    with ExitStack() as undone:
        with database.write() as session:
            # Asked again under the writer's transaction: a job may have been resumed, or an evaluation asked for.
            gone = _old_checkpoints(session, runs_dir, policy.checkpoints, lock=True)
            for old in gone:
                if old.path.exists():
                    undone.callback(old.path.rename(aside_of(old.path)).rename, old.path)
                key = (CheckpointRecord.run_id == old.run_id, CheckpointRecord.step == old.step)
                session.execute(delete(CheckpointRecord).where(*key, CheckpointRecord.tier == CheckpointTier.STATE))
        undone.pop_all()  # they are forgotten: nothing is put back
    for done, old in enumerate(gone, start=1):
        shutil.rmtree(aside_of(old.path), ignore_errors=True)
        progress(done, len(gone), "checkpoints")
    return gone


def _end_earlier(session: Session, runs_dir: Path) -> None:
    """Checkpoints that an earlier prune left aside: put back those that the registry knows, delete the others."""
    known = set(session.execute(select(CheckpointRecord.path)).scalars())
    for aside in runs_dir.glob(f"*/checkpoints/**/{aside_of(Path('*')).name}"):
        original = original_of(aside)
        if str(original) in known and not original.exists():
            aside.rename(original)
        else:
            shutil.rmtree(aside, ignore_errors=True)


def _stored_before(age: timedelta) -> datetime:
    return datetime.now(UTC) - max(age, OBJECT_GRACE)


def _old_objects(store: Store, age: timedelta) -> list[OldObject]:
    before = _stored_before(age)
    return [OldObject(each.digest, each.size_bytes) for each in store.objects() if each.stored_at < before]


def _kept_objects(session: Session, store: Store) -> set[str]:
    """What the registry refers to, artifacts with their files."""
    roots = referenced(session)
    return roots | {member for root in roots for member in store.members(root)}


def _old_checkpoints(
    session: Session, runs_dir: Path, age: timedelta | None, *, lock: bool = False
) -> list[OldCheckpoint]:
    if age is None:
        return []
    jobs = select(RunRow.id).where(
        RunRow.kind == RunKind.TRAIN_JOB, RunRow.state.in_(ENDED), RunRow.finished_at < utc_now(session) - age
    )
    ended = list(session.execute(jobs.with_for_update() if lock else jobs).scalars())
    query = select(CheckpointRecord).where(CheckpointRecord.tier == CheckpointTier.STATE)
    needed = _specs_of_unfinished(session)
    return [
        OldCheckpoint(row.run_id, row.step, Path(row.path), row.size_bytes)
        for row in session.execute(query.order_by(CheckpointRecord.run_id, CheckpointRecord.step)).scalars()
        if row.run_id in ended
        and Path(row.path).is_relative_to(runs_dir)
        and row.path not in needed
        and row.digest not in needed
        and row.run_id not in needed
    ]


def _specs_of_unfinished(session: Session) -> str:
    """All that unfinished runs name, as one text to look into."""
    specs = session.execute(select(RunRow.spec).where(RunRow.state.not_in(ENDED))).scalars()
    return "\n".join(json.dumps(spec, ensure_ascii=False) for spec in specs)


def _is_old_record(
    session: Session, table: type[EventRow | LogRecord], age: timedelta
) -> tuple[ColumnElement[bool], ...]:
    ended = select(RunRow.id).where(RunRow.state.in_(ENDED))
    return table.created_at < utc_now(session) - age, table.run_id.in_(ended)


def _count(session: Session, table: type[EventRow | LogRecord], age: timedelta | None) -> int:
    if age is None:
        return 0
    query = select(func.count()).select_from(table).where(*_is_old_record(session, table, age))
    return session.execute(query).scalar_one()
