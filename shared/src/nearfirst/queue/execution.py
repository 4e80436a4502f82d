"""Claim, work, report: what every Celery task of the suite does around its science.

    claim(run_id)  ->  work(context)  ->  finish | fail | confirm cancelled | release | nothing (fenced)

A heartbeat thread renews the lease meanwhile. It tells the work through `RunContext.check` that somebody cancelled it,
that the worker shuts down, or that the lease is lost; work calls `check` (or `progress`, which does) often.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

from celery import Celery
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from nearfirst.contracts.problems import NearfirstError
from nearfirst.contracts.progress import Cancelled, Fenced, Interrupted
from nearfirst.contracts.runs import RunState
from nearfirst.contracts.training import Checkpoint, MetricRow
from nearfirst.queue.app import send
from nearfirst.registry import records, runs
from nearfirst.registry.database import Database
from nearfirst.registry.runs import Claim
from nearfirst.registry.sweep import take_deliveries
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store

log = logging.getLogger(__name__)

T = TypeVar("T")

_PROGRESS_EVERY_S = 0.5
_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class RunResult:
    """What work hands over when it succeeds."""

    result: dict[str, Any]
    artifact: str | None = None


@dataclass(slots=True)
class Worker:
    """What a worker process has: its connections, and whether it is being shut down."""

    settings: Settings
    database: Database
    store: Store
    app: Celery
    shutting_down: threading.Event
    owner: str = ""

    def __post_init__(self) -> None:
        self.owner = self.owner or f"{socket.gethostname()}/{os.getpid()}"


class RunContext:
    """A claimed run, as its work sees it."""

    def __init__(self, worker: Worker, claimed: Claim, *, asked_s: float) -> None:
        """`asked_s`: when the claim was asked for (monotonic)."""
        self.worker = worker
        self.claim = claimed
        self.spec = claimed.spec
        self._cancelled = threading.Event()
        self._fenced = threading.Event()
        self._lease_ends_s = 0.0
        self.lease_renewed(asked_s)
        self._started_s = time.monotonic()
        self._reported_s = 0.0
        self._reported_unit = ""

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.claim.run_id

    def check(self) -> None:
        """Raise when the work must end.

        Raises:
            Fenced: another worker has the run; write nothing more.
            Cancelled: somebody asked for its end.
            Interrupted: this worker shuts down.
        """
        if self._fenced.is_set() or time.monotonic() > self._lease_ends_s:
            raise Fenced(f"{self.run_id}: the lease is lost")
        if self._cancelled.is_set():
            raise Cancelled(f"{self.run_id} was cancelled")
        if self.worker.shutting_down.is_set():
            raise Interrupted("the worker shuts down")

    def progress(self, done: int, total: int | None, unit: str) -> None:
        """Say how far the work is (a ProgressCallback); kept at most twice a second, but always the last of a unit."""
        self.check()
        now = time.monotonic()
        if unit != self._reported_unit:
            self._reported_unit, self._started_s, self._reported_s = unit, now, 0.0
        if done != total and now - self._reported_s < _PROGRESS_EVERY_S:
            return
        self._reported_s = now
        eta_s = (now - self._started_s) / done * (total - done) if done and total else None
        self._write(
            lambda session: runs.record_progress(session, self.claim, done=done, total=total, unit=unit, eta_s=eta_s)
        )

    def metrics(self, rows: Sequence[MetricRow]) -> None:
        """Keep measurements."""
        if rows:
            self._write(lambda session: records.record_metrics(session, self.claim, rows))

    def log(self, lines: Sequence[str]) -> None:
        """Keep lines that the work printed."""
        if lines:
            self._write(lambda session: records.append_log(session, self.claim, lines))

    def checkpoint(self, checkpoint: Checkpoint, gone: Sequence[int] = ()) -> None:
        """Keep a complete checkpoint; forget those of the steps in `gone`, whose files were deleted."""
        self._write(lambda session: records.record_checkpoint(session, self.claim, checkpoint, gone))

    def forget_after(self, step: int) -> None:
        """Drop the measurements of later steps, and all checkpoints: the work tells again of those that it kept."""
        self._write(lambda session: records.forget_after(session, self.claim, step))

    def read(self, query: Callable[[Session], T]) -> T:
        """Ask the registry something."""
        return self._patiently(self.worker.database.read, query)

    def _write(self, write: Callable[[Session], object]) -> None:
        """Write in a transaction of its own."""
        self._patiently(self.worker.database.write, write)

    def _patiently(self, transaction: Callable[[], AbstractContextManager[Session]], use: Callable[[Session], T]) -> T:
        """Use a session; a registry that is away is tried again while the lease lasts."""
        while True:
            try:
                with transaction() as session:
                    return use(session)
            except OperationalError as error:
                log.warning("%s: registry not reached, trying again: %s", self.run_id, error)
                time.sleep(_RETRY_S)
                self.check()

    def lease_renewed(self, asked_s: float) -> None:
        """The lease was granted anew at some time after `asked_s` (monotonic).

        It counts as lost one heartbeat before others may take it, so that this worker's work has ended by then whatever
        keeps the heartbeat from getting through.
        """
        settings = self.worker.settings
        self._lease_ends_s = asked_s + settings.lease_s - min(settings.heartbeat_s, settings.lease_s / 4)

    def cancel(self) -> None:
        """Make `check` raise Cancelled."""
        self._cancelled.set()

    def fence(self) -> None:
        """Make `check` raise Fenced."""
        self._fenced.set()


class Heartbeat(threading.Thread):
    """Renews a lease until stopped, and passes on what the registry says."""

    def __init__(self, context: RunContext) -> None:
        super().__init__(name=f"heartbeat {context.run_id}", daemon=True)
        self._context = context
        self._stopped = threading.Event()

    def run(self) -> None:
        """Renew every `heartbeat_s`; while that doesn't get through, the context's own clock ends the lease."""
        settings = self._context.worker.settings
        while not self._stopped.wait(settings.heartbeat_s):
            asked_s = time.monotonic()
            try:
                with self._context.worker.database.write() as session:
                    state = runs.renew(session, self._context.claim, settings.lease_s)
            except Fenced:
                self._context.fence()
                return
            except SQLAlchemyError as error:
                log.warning("%s: lease not renewed: %s", self._context.run_id, error)
                continue
            self._context.lease_renewed(asked_s)
            if state is RunState.CANCELLING:
                self._context.cancel()

    def stop(self) -> None:
        """End the thread; returns when it has ended."""
        self._stopped.set()
        self.join()


def execute(worker: Worker, run_id: str, work: Callable[[RunContext], RunResult]) -> None:
    """Claim a run, do its work, and report how it ended. A lost claim is a duplicate message: dropped.

    Args:
        worker: this process.
        run_id: what the message named.
        work: the science; it raises NearfirstError for the user's errors.
    """
    asked_s = time.monotonic()
    with worker.database.write() as session:
        claimed = runs.claim(session, run_id, worker.owner, worker.settings.lease_s)
    if claimed is None:
        log.info("%s is not to be had: dropped", run_id)
        return
    log.info("%s claimed, attempt %d", run_id, claimed.attempt)
    context = RunContext(worker, claimed, asked_s=asked_s)
    heartbeat = Heartbeat(context)
    heartbeat.start()
    try:
        conclude = _outcome(context, work)
    finally:
        heartbeat.stop()
    _report(worker, claimed, conclude)


Conclusion = Callable[[Session], object]


def _outcome(context: RunContext, work: Callable[[RunContext], RunResult]) -> Conclusion | None:
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
    except NearfirstError as error:
        problem = error.problem()
    except Exception as error:  # whatever it is, the run must say so
        log.exception("%s failed", claimed.run_id)
        problem = NearfirstError(f"{type(error).__name__}: {error}").problem()
    else:
        return lambda session: runs.finish(session, claimed, result=done.result, artifact=done.artifact)
    return lambda session: runs.fail(session, claimed, problem)


def _report(worker: Worker, claimed: Claim, conclude: Conclusion | None) -> None:
    """Write the outcome, however long the registry is away while the lease lasts, and start what waited for it."""
    give_up_s = time.monotonic() + worker.settings.lease_s
    while conclude is not None:
        try:
            with worker.database.write() as session:
                conclude(session)
                deliveries = take_deliveries(session, worker.settings.redeliver_s)
            send(worker.app, deliveries)
            log.info("%s ended", claimed.run_id)
            return
        except Fenced as error:
            log.warning("%s", error)
            return
        except SQLAlchemyError as error:
            if time.monotonic() > give_up_s:
                raise
            log.warning("%s: outcome not written, trying again: %s", claimed.run_id, error)
            time.sleep(_RETRY_S)
