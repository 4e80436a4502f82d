"""Workers as they announced themselves: who is alive, and what each of them has free."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from nearfirst.contracts.runs import RunKind
from nearfirst.contracts.workers import GroupNode, RunOnWorker, Worker, WorkerAnnouncement
from nearfirst.registry.database import utc_now
from nearfirst.registry.models import WorkerRow
from nearfirst.registry.placement import Place, Resource


def announce(
    session: Session, announcement: WorkerAnnouncement, runs: Sequence[RunOnWorker], *, is_stopping: bool = False
) -> None:
    """Say that a worker is alive and what it has under way; the first time also what it is."""
    now = utc_now(session)
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    fresh = {"runs": _as_json(runs), "is_stopping": is_stopping, "last_seen_at": now}
    session.execute(
        insert(WorkerRow)
        .values(
            id=announcement.id,
            announcement=announcement.model_dump(mode="json", exclude={"id"}),
            started_at=now,
            **fresh,
        )
        .on_conflict_do_update(index_elements=["id"], set_=fresh)
    )


def note_runs(session: Session, worker_id: str, runs: Sequence[RunOnWorker]) -> None:
    """Say what a worker has under way, in the transaction that gives it a run."""
    session.execute(update(WorkerRow).where(WorkerRow.id == worker_id).values(runs=_as_json(runs)))


def _as_json(runs: Sequence[RunOnWorker]) -> list[dict[str, object]]:
    return [run.model_dump(mode="json") for run in runs]


def forget(session: Session, worker_id: str) -> None:
    """A worker has ended."""
    session.execute(delete(WorkerRow).where(WorkerRow.id == worker_id))


def forget_unseen(session: Session, forget_s: float) -> list[str]:
    """Delete workers that weren't seen for so long; returns their ids."""
    before = utc_now(session) - timedelta(seconds=forget_s)
    return list(
        session.execute(delete(WorkerRow).where(WorkerRow.last_seen_at < before).returning(WorkerRow.id)).scalars()
    )


def list_workers(session: Session, after: int, limit: int, alive_s: float) -> tuple[list[Worker], int | None]:
    """Workers in the order of their start, and the keyset of the next page."""
    query = select(WorkerRow).where(WorkerRow.seq > after).order_by(WorkerRow.seq).limit(limit + 1)
    rows = list(session.execute(query).scalars())
    now = utc_now(session)
    following = rows[limit - 1].seq if len(rows) > limit else None
    return [_worker(row, now, alive_s) for row in rows[:limit]], following


def live_workers(session: Session, alive_s: float, kind: RunKind | None = None) -> list[Worker]:
    """Workers that were seen within `alive_s` and take new runs (of a kind), in the order of their start."""
    now = utc_now(session)
    query = (
        select(WorkerRow)
        .where(WorkerRow.last_seen_at >= now - timedelta(seconds=alive_s), WorkerRow.is_stopping.is_(False))
        .order_by(WorkerRow.seq)
    )
    workers = [_worker(row, now, alive_s) for row in session.execute(query).scalars()]
    return [worker for worker in workers if kind is None or kind in worker.kinds]


def gpus_of_runs(session: Session) -> dict[tuple[str, str], list[str]]:
    """GPU ids by worker and run, of all runs that workers say they have under way."""
    rows = session.execute(select(WorkerRow.id, WorkerRow.runs)).all()
    return {(worker_id, run["run_id"]): run["gpus"] for worker_id, runs in rows for run in runs}


def missing_nodes(node: GroupNode | None, live: Iterable[Worker]) -> list[int]:
    """Machines of a leader's group that no live follower with as many GPUs stands for; none when it is no group."""
    if node is None:
        return []
    following = {
        worker.node.index
        for worker in live
        if worker.node is not None and worker.node.group == node.group and worker.node.num_gpus >= node.num_gpus
    }
    return [index for index in range(1, node.num_nodes) if index not in following]


def place_of(
    worker_id: str, num_gpus: int, cpu_jobs: int, runs: Sequence[RunOnWorker], *, is_open: bool = True
) -> Place:
    """What a worker with so many GPUs and places for CPU jobs has free while it has these runs under way.

    Nothing, unless `is_open`: a node group that isn't whole, or has a run.
    """
    total = {Resource.GPUS: num_gpus, Resource.CPU_JOBS: cpu_jobs}
    if not is_open:
        return Place(worker_id, total, dict.fromkeys(Resource, 0))
    taken = {
        Resource.GPUS: sum(len(run.gpus) for run in runs),
        Resource.CPU_JOBS: sum(not run.gpus for run in runs),
    }
    return Place(worker_id, total, {resource: total[resource] - taken[resource] for resource in Resource})


def _worker(row: WorkerRow, now: datetime, alive_s: float) -> Worker:
    return Worker(
        id=row.id,
        **row.announcement,
        started_at=row.started_at,
        last_seen_at=row.last_seen_at,
        is_alive=row.last_seen_at >= now - timedelta(seconds=alive_s),
        is_stopping=row.is_stopping,
        runs=[RunOnWorker.model_validate(run) for run in row.runs],
    )
