"""A claimed run as its work sees it, the worker that has claimed it, and the thread that keeps the claim alive."""

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from celery import Celery
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from nearfirst.contracts.progress import Cancelled, Fenced, Interrupted
from nearfirst.contracts.runs import RunState
from nearfirst.contracts.training import Checkpoint, CheckpointTier, MetricRow
from nearfirst.queue.capacity import Capacity
from nearfirst.registry import records, runs
from nearfirst.registry.database import Database
from nearfirst.registry.runs import Claim
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store

log = logging.getLogger(__name__)

T = TypeVar("T")

_PROGRESS_EVERY_S = 0.5
RETRY_S = 1.0
"""Between two tries to reach a registry that is away."""


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
    capacity: Capacity = field(default_factory=Capacity)
    owner: str = ""
    """Owner of its leases: host and process id, and a part that a process started later in the same place lacks."""
    changed: threading.Event = field(default_factory=threading.Event)
    """Set when what the worker has under way has changed, so that it is announced at once."""
    noting: threading.Lock = field(default_factory=threading.Lock)
    """Held from reading what the worker has under way until the registry has it, so that nothing older comes later."""

    def __post_init__(self) -> None:
        self.owner = self.owner or f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(3)}"


class RunContext:
    """A claimed run, as its work sees it."""

    def __init__(self, worker: Worker, claimed: Claim, *, asked_s: float, gpus: tuple[str, ...] = ()) -> None:
        """`asked_s`: when the claim was asked for (monotonic); `gpus`: ids of those that the run has to itself."""
        self.worker = worker
        self.claim = claimed
        self.spec = claimed.spec
        self.gpus = gpus
        self._cancelled = threading.Event()
        self._fenced = threading.Event()
        self._held = threading.Event()
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
            Interrupted: this worker shuts down, or the run's study was paused.
        """
        if self.is_lost():
            raise Fenced(f"{self.run_id}: the lease is lost")
        if self._cancelled.is_set():
            raise Cancelled(f"{self.run_id} was cancelled")
        if self.worker.shutting_down.is_set():
            raise Interrupted("the worker shuts down")
        if self._held.is_set():
            raise Interrupted(f"the study of {self.run_id} was paused")

    def is_over(self) -> bool:
        """Whether nothing that the work could still save is wanted: it was cancelled, or the lease is lost."""
        return self._cancelled.is_set() or self.is_lost()

    def is_lost(self) -> bool:
        """Whether another worker may have the run."""
        return self._fenced.is_set() or time.monotonic() > self._lease_ends_s

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
        self.write(
            lambda session: runs.record_progress(session, self.claim, done=done, total=total, unit=unit, eta_s=eta_s)
        )

    def metrics(self, rows: Sequence[MetricRow]) -> None:
        """Keep measurements."""
        if rows:
            self.write(lambda session: records.record_metrics(session, self.claim, rows))

    def log(self, lines: Sequence[str]) -> None:
        """Keep lines that the work printed."""
        if lines:
            self.write(lambda session: records.append_log(session, self.claim, lines))

    def checkpoint(self, checkpoint: Checkpoint, *, is_progress: bool) -> None:
        """Keep a complete checkpoint; `is_progress`: a later attempt goes on from it, and from further than before."""
        self.write(lambda session: records.record_checkpoint(session, self.claim, checkpoint, is_progress=is_progress))

    def checkpoint_gone(self, step: int, tier: CheckpointTier) -> None:
        """Forget a checkpoint whose files were deleted."""
        self.write(lambda session: records.forget_checkpoint(session, self.claim, step, tier))

    def forget_after(self, step: int) -> None:
        """Drop the measurements of later steps, and all checkpoints: the work tells again of those that it kept."""
        self.write(lambda session: records.forget_after(session, self.claim, step))

    def read(self, query: Callable[[Session], T]) -> T:
        """Ask the registry something."""
        return self._patiently(self.worker.database.read, query)

    def write(self, write: Callable[[Session], object]) -> None:
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
                time.sleep(RETRY_S)
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

    def hold(self) -> None:
        """Make `check` raise Interrupted."""
        self._held.set()

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
            elif state is RunState.QUEUED:
                self._context.hold()

    def stop(self) -> None:
        """End the thread; returns when it has ended."""
        self._stopped.set()
        self.join()
