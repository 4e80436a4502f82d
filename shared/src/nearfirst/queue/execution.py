"""Claim, work, report: what every Celery task of the suite does around its science.

    claim  ->  work(context)  ->  finish | fail | confirm cancelled | release | nothing (fenced)

A heartbeat thread renews the lease meanwhile. It tells the work through `RunContext.check` that somebody cancelled it,
that the worker shuts down, or that the lease is lost; work calls `check` (or `progress`, which does) often.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from opentelemetry.trace import SpanKind
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from nearfirst.contracts.problems import Crashed, NearfirstError
from nearfirst.contracts.progress import Cancelled, Fenced, Interrupted
from nearfirst.contracts.runs import RunKind
from nearfirst.queue.app import send
from nearfirst.queue.capacity import Allocation
from nearfirst.queue.context import RETRY_S, Heartbeat, RunContext, RunResult, Worker
from nearfirst.registry import runs, setbacks
from nearfirst.registry.events import lock_events
from nearfirst.registry.placement import Need, next_run
from nearfirst.registry.runs import Claim
from nearfirst.registry.sweep import take_deliveries
from nearfirst.registry.waiting import Queue
from nearfirst.registry.workers import note_runs
from nearfirst.telemetry.counters import RUN_SECONDS, RUNS_IN_PROGRESS
from nearfirst.telemetry.tracing import span

log = logging.getLogger(__name__)

_FENCED = "fenced"

Work = Callable[[RunContext], RunResult]


def execute(worker: Worker, run_id: str, work: Work) -> None:
    """Claim a run, do its work, and report how it ended. A lost claim is a duplicate message: dropped.

    Args:
        worker: this process.
        run_id: what the message named.
        work: the science; it raises NearfirstError for the user's errors.
    """
    taken = _take(worker, lambda _session: Need(run_id, num_gpus=0))
    if taken is None:
        log.info("%s is not to be had: dropped", run_id)
        return
    _carry_out(worker, taken, work)


def execute_queue(worker: Worker, kind: RunKind, work: Work) -> None:
    """Do the runs of a kind that this worker has room for, one after the other, until there is none.

    Each time the best of them is taken, whatever message came: higher priority first, then the older, and none at all
    while the room is being kept for a run that needs more of it (`placement.startable`).
    """
    while not worker.shutting_down.is_set() and execute_next(worker, kind, work):
        pass


def execute_next(worker: Worker, kind: RunKind, work: Work) -> bool:
    """Do the best run of a kind that this worker has room for, as `execute_queue`; False when there is none."""
    taken = _take(worker, lambda session: _choose(worker, kind, session))
    if taken is not None:
        _carry_out(worker, taken, work)
    return taken is not None


@dataclass(frozen=True, slots=True)
class _Taken:
    """A claimed run and what it has of the worker."""

    claim: Claim
    allocation: Allocation
    asked_s: float


def _choose(worker: Worker, kind: RunKind, session: Session) -> Need | None:
    lock_events(session)  # no other worker chooses meanwhile
    queue = Queue(session, kind, worker.settings.lease_s)
    capacity = worker.capacity
    own = queue.place(worker.owner, len(capacity.gpus), capacity.cpu_jobs, capacity.in_use(), capacity.node)
    return next_run(queue.ready, [own, *(p for p in queue.places if p.worker != worker.owner)], worker.owner)


def _take(worker: Worker, choose: Callable[[Session], Need | None]) -> _Taken | None:
    """Claim the chosen run and give it what it needs, both or neither; None: no room, or it isn't to be had."""
    asked_s = time.monotonic()
    allocation = claimed = None
    with worker.noting:
        try:
            with worker.database.write() as session:
                need = choose(session)
                if need is not None:
                    allocation = worker.capacity.allocate(need.run_id, need.num_gpus)
                if allocation is not None:
                    claimed = runs.claim(session, allocation.run_id, worker.owner, worker.settings.lease_s)
                if claimed is not None:
                    note_runs(session, worker.owner, worker.capacity.in_use())
        except BaseException:
            claimed = None
            raise
        finally:
            if claimed is None and allocation is not None:
                allocation.give_back()
    return _Taken(claimed, allocation, asked_s) if claimed is not None and allocation is not None else None


def _carry_out(worker: Worker, taken: _Taken, work: Work) -> None:
    """Do a claimed run as a part of the trace that queued it, and count it."""
    claimed, began_s = taken.claim, time.monotonic()
    bound = {"run_id": claimed.run_id, "attempt": str(claimed.attempt)}
    with (
        span(f"run {claimed.kind}", claimed.traceparent, SpanKind.CONSUMER, **bound),
        RUNS_IN_PROGRESS.labels(claimed.kind).track_inprogress(),
    ):
        state = _worked(worker, taken, work)
    RUN_SECONDS.labels(claimed.kind, state).observe(time.monotonic() - began_s)


def _worked(worker: Worker, taken: _Taken, work: Work) -> str:
    """Work, report, and how the run was left: its state, or `fenced`."""
    claimed, allocation = taken.claim, taken.allocation
    log.info("%s claimed, attempt %d%s", claimed.run_id, claimed.attempt, _on_gpus(allocation))
    context = RunContext(worker, claimed, asked_s=taken.asked_s, gpus=allocation.gpus)
    heartbeat = Heartbeat(context)
    heartbeat.start()
    try:
        conclude = _outcome(context, work)
    finally:
        heartbeat.stop()
        allocation.give_back()
        worker.changed.set()
    return _report(worker, claimed, conclude)


def _on_gpus(allocation: Allocation) -> str:
    return f", on GPU {', '.join(allocation.gpus)}" if allocation.gpus else ""


Conclusion = Callable[[Session], object]


def _outcome(context: RunContext, work: Work) -> Conclusion | None:
    """Do the work; returns what to write in the registry about it, None when it isn't ours to write."""
    claimed = context.claim
    try:
        done = work(context)
    except Fenced as error:
        log.warning("%s", error)
        return None
    except Cancelled:
        return lambda session: runs.confirm_cancelled(session, claimed)
    except Interrupted:
        return lambda session: runs.release(session, claimed)
    except Crashed as error:
        log.warning("%s: %s", claimed.run_id, error)
        problem, limit = error.problem(), context.worker.settings.max_crashes
        return lambda session: setbacks.crashed(session, claimed, problem, limit)
    except NearfirstError as error:
        problem = error.problem()
    except Exception as error:  # whatever it is, the run must say so
        log.exception("%s failed", claimed.run_id)
        problem = NearfirstError(f"{type(error).__name__}: {error}").problem()
    else:
        return lambda session: runs.finish(session, claimed, result=done.result, artifact=done.artifact)
    return lambda session: runs.fail(session, claimed, problem)


def _report(worker: Worker, claimed: Claim, conclude: Conclusion | None) -> str:
    """Write the outcome, however long the registry is away while the lease lasts, and start what waited for it.

    Returns:
        The state that the run was left in, or `fenced`.
    """
    give_up_s = time.monotonic() + worker.settings.lease_s
    while conclude is not None:
        try:
            with worker.database.write() as session:
                conclude(session)
                state = runs.get(session, claimed.run_id).state
                deliveries = take_deliveries(session, worker.settings.redeliver_s, alive_s=worker.settings.lease_s)
            send(worker.app, deliveries)
            log.info("%s ended", claimed.run_id)
            return state
        except Fenced as error:
            log.warning("%s", error)
            break
        except SQLAlchemyError as error:
            if time.monotonic() > give_up_s:
                raise
            log.warning("%s: outcome not written, trying again: %s", claimed.run_id, error)
            time.sleep(RETRY_S)
    return _FENCED
