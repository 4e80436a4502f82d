"""For how long a follower's part of a run is to be done."""

import logging
import threading
import time

from sqlalchemy.exc import SQLAlchemyError

from nearfirst.contracts.nodes import FollowerPart
from nearfirst.contracts.progress import Fenced, Interrupted
from nearfirst.queue.context import Worker
from nearfirst.registry import node_parts

log = logging.getLogger(__name__)

LOOKS_PER_HEARTBEAT = 5
"""How often the machines of a group look in the registry for what the others say."""


class Tenure(threading.Thread):
    """Whether a part is still to be done, asked again and again; a registry that is away ends it with the lease."""

    def __init__(self, worker: Worker, part: FollowerPart, asked_s: float) -> None:
        """Doesn't start yet; `asked_s`: when the part was asked for (monotonic)."""
        super().__init__(name=f"tenure {part.run_id}", daemon=True)
        self._worker = worker
        self._part = part
        self._stopped = threading.Event()
        self._over = threading.Event()
        self._ends_s = self._end_of(part, asked_s)

    def _end_of(self, part: FollowerPart, asked_s: float) -> float:
        """A heartbeat before others may claim the run, as its leader counts."""
        settings = self._worker.settings
        return asked_s + part.lease_left_s - min(settings.heartbeat_s, settings.lease_s / 4)

    def run(self) -> None:
        """Ask until stopped, or until the part is over."""
        while not self._stopped.wait(self._worker.settings.heartbeat_s / LOOKS_PER_HEARTBEAT):
            asked_s = time.monotonic()
            try:
                with self._worker.database.read() as session:
                    part = node_parts.part_of_follower(session, self._worker.owner)
            except SQLAlchemyError as error:
                log.warning("%s: the registry wasn't asked: %s", self._part.run_id, error)
                continue
            if part is None or (part.run_id, part.attempt) != (self._part.run_id, self._part.attempt):
                self._over.set()
                return
            self._ends_s = self._end_of(part, asked_s)

    @property
    def was_told(self) -> bool:
        """Whether it is over because the registry said so."""
        return self._over.is_set()

    def is_over(self) -> bool:
        """Whether every process of the part must end now."""
        return self.was_told or time.monotonic() > self._ends_s

    def check(self) -> None:
        """Raise when the work must end.

        Raises:
            Fenced: the part is over.
            Interrupted: this machine is being shut down.
        """
        if self.was_told:
            raise Fenced(f"attempt {self._part.attempt} is over")
        if self.is_over():
            raise Fenced("no news of the lease came in time, so its processes were killed before it could run out")
        if self._worker.shutting_down.is_set():
            raise Interrupted("the follower shuts down")

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self.join()
