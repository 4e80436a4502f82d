"""A machine of a node group that does its part of the runs that the group's leader claims (docs/adr/0013).

It claims nothing and listens to no queue. It announces itself, asks the registry for a part to do, does it with
processes of its own, and reports how they ended, when the last of them is gone.
"""

import hashlib
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from nearfirst import __version__
from nearfirst.contracts.nodes import FollowerPart, PartOutcome, PartState
from nearfirst.contracts.problems import InvalidInput, NearfirstError
from nearfirst.contracts.progress import Fenced, Interrupted
from nearfirst.contracts.workers import Gpu, WorkerAnnouncement
from nearfirst.logs import configure_logging
from nearfirst.queue.announcer import Announcer
from nearfirst.queue.app import make_celery
from nearfirst.queue.capacity import Capacity, find_gpus, group_node, num_usable_cpus
from nearfirst.queue.context import Worker
from nearfirst.registry import node_parts
from nearfirst.registry.database import Database
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store
from nearfirst_training.job_of_run import JOB_FILE, Read, environment_of, job_of_run, launch_command, write_job
from nearfirst_training.outcome import ProcessDied, outcome_of
from nearfirst_training.process import TrainingProcess
from nearfirst_training.tenure import LOOKS_PER_HEARTBEAT, Tenure

log = logging.getLogger(__name__)

T = TypeVar("T")

_POLL_S = 0.2
_RETRY_S = 1.0


class Follower:
    """Does one part after the other until its worker shuts down."""

    def __init__(self, worker: Worker, gpus: list[Gpu]) -> None:
        self._worker = worker
        self._gpus = gpus

    def run(self) -> None:
        """Ask for parts and do them. A registry that is away is asked again."""
        worker = self._worker
        while not worker.shutting_down.is_set():
            asked_s = time.monotonic()
            try:
                with worker.database.read() as session:
                    part = node_parts.part_of_follower(session, worker.owner)
            except SQLAlchemyError as error:
                log.warning("the registry wasn't asked for a part: %s", error)
                part = None
            if part is None:
                worker.shutting_down.wait(worker.settings.heartbeat_s / LOOKS_PER_HEARTBEAT)
            else:
                self.do(part, asked_s)

    def do(self, part: FollowerPart, asked_s: float) -> None:
        """Do a part, and report how it ended."""
        log.info("%s, attempt %d: %d ranks as node %d", part.run_id, part.attempt, part.part.num_ranks, part.part.index)
        tenure = Tenure(self._worker, part, asked_s)
        tenure.start()
        try:
            outcome = self._outcome(part, tenure)
        finally:
            tenure.stop()
        log.info("%s, attempt %d: %s %s", part.run_id, part.attempt, outcome.state, outcome.detail)
        self._report(part, outcome, tenure)

    def _outcome(self, part: FollowerPart, tenure: Tenure) -> PartOutcome:
        try:
            return self._done(part, tenure)
        except Fenced as error:
            state = PartState.ENDED if tenure.was_told else PartState.DIED
            return PartOutcome(state=state, detail=str(error))
        except Interrupted as error:
            return PartOutcome(state=PartState.INTERRUPTED, detail=str(error))
        except ProcessDied as error:
            return PartOutcome(state=PartState.DIED, detail=error.detail)
        except NearfirstError as error:
            return PartOutcome(state=PartState.FAILED, code=error.code, detail=error.detail)
        except Exception as error:
            log.exception("%s: the part failed", part.run_id)
            detail = f"{type(error).__name__}: {error}"
            return PartOutcome(state=PartState.FAILED, code=NearfirstError.code, detail=detail)

    def _done(self, part: FollowerPart, tenure: Tenure) -> PartOutcome:
        """Start this machine's ranks and wait for their end, however it comes."""
        settings = self._worker.settings
        out = settings.runs_dir / part.run_id
        wait_for_folder(out / JOB_FILE, part, tenure.check)
        job = job_of_run(part.spec, _patient_reader(self._worker.database, tenure), self._worker.store, out)
        job = job.model_copy(update={"node": part.part})
        name = f"node-{part.part.index}"
        job_file = write_job(job, out / f"launch-{name}.json")
        gpus = [gpu.id for gpu in self._gpus[: job.num_local_gpus]]
        with TrainingProcess(
            launch_command(job_file),
            out / f"stderr-{name}.log",
            environment=environment_of(settings, gpus),
            grace_s=settings.save_grace_s,
        ) as process:
            try:
                while process.messages(wait_s=_POLL_S) is not None:
                    tenure.check()
            except Interrupted:
                process.interrupt(tenure.is_over)  # all ranks of all machines save the state of the same step
                raise
        return outcome_of_part(process)

    def _report(self, part: FollowerPart, outcome: PartOutcome, tenure: Tenure) -> None:
        """Write the outcome; one that can't be written while the lease lasts interests nobody any more."""
        while True:
            try:
                with self._worker.database.write() as session:
                    node_parts.report_part(session, self._worker.owner, part, outcome)
                return
            except SQLAlchemyError as error:
                log.warning("%s: outcome not written: %s", part.run_id, error)
                if tenure.is_over():
                    return
                time.sleep(_RETRY_S)


def _patient_reader(database: Database, tenure: Tenure) -> Read:
    """Asks the registry; one that is away is asked again while the part is still to be done."""

    def read(query: Callable[[Session], T], /) -> T:
        while True:
            try:
                with database.read() as session:
                    return query(session)
            except OperationalError as error:
                log.warning("registry not reached, trying again: %s", error)
                time.sleep(_RETRY_S)
                tenure.check()

    return read


def wait_for_folder(job_file: Path, part: FollowerPart, check: Callable[[], None]) -> None:
    """Wait until this machine sees the leader's job file, byte for byte: for half of the time that the leader waits.

    Raises:
        InvalidInput: it doesn't; so what its ranks would write wouldn't be seen either.
        Stopped: as `check` raises it.
    """
    give_up_s = time.monotonic() + part.part.timeout_s / 2
    while not _has_digest(job_file, part.job_digest):
        check()
        if time.monotonic() > give_up_s:
            raise InvalidInput(
                f"{job_file} isn't there as node 0 has written it: runs_dir (NEARFIRST_RUNS_DIR) must be one folder "
                "that all machines of the group see"
            )
        time.sleep(_POLL_S)


def _has_digest(path: Path, digest: str) -> bool:
    try:
        return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" == digest
    except FileNotFoundError:
        return False


def outcome_of_part(process: TrainingProcess) -> PartOutcome:
    """What came of a machine's ranks, which have ended; without the main rank they have no result to tell.

    Raises:
        TrainingFailed, ProcessDied, Interrupted: as `outcome.outcome_of`.
    """
    if process.exit_code != 0 or process.error is not None:
        outcome_of(process)
    return PartOutcome(state=PartState.ENDED)


def follow(settings: Settings) -> None:
    """Be a follower until SIGTERM or SIGINT.

    Raises:
        InvalidInput: this machine isn't one of a node group, or leads it.
    """
    if settings.nodes == 1 or settings.node_index == 0:
        raise InvalidInput(
            f"a follower wants nodes above 1 and node_index above 0, got {settings.nodes} and {settings.node_index}"
        )
    configure_logging(settings)
    gpus = find_gpus(settings)
    store = Store(settings.store_url, cache=settings.home / "cache")
    worker = Worker(
        settings, Database(settings.database_url), store, make_celery(settings), threading.Event(), Capacity(cpu_jobs=0)
    )
    announcement = WorkerAnnouncement(
        id=worker.owner,
        host=socket.gethostname(),
        version=__version__,
        kinds=[],
        queues=[],
        num_cpus=num_usable_cpus(),
        cpu_jobs=0,
        node=group_node(settings, len(gpus)),
    )

    def stop(*_: object) -> None:
        worker.shutting_down.set()
        worker.changed.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    announcer = Announcer(worker, announcement)
    announcer.start()
    try:
        Follower(worker, gpus).run()
    finally:
        announcer.stop()
        worker.database.close()
