"""A worker says again and again that it is alive, and what it has under way."""

import logging
import threading

from sqlalchemy.exc import SQLAlchemyError

from nearfirst.contracts.workers import WorkerAnnouncement
from nearfirst.queue.context import Worker
from nearfirst.registry.workers import announce, forget

log = logging.getLogger(__name__)


class Announcer(threading.Thread):
    """Announces a worker at each heartbeat, busy or not, and sooner when something changed."""

    def __init__(self, worker: Worker, announcement: WorkerAnnouncement) -> None:
        """Doesn't start yet: call `start`."""
        super().__init__(name="announcer", daemon=True)
        self._worker = worker
        self._announcement = announcement
        self._stopped = threading.Event()

    def run(self) -> None:
        """Announce until stopped; a registry that is away is tried again."""
        worker = self._worker
        while not self._stopped.is_set():
            worker.changed.clear()
            try:
                with worker.noting, worker.database.write() as session:
                    stopping = worker.shutting_down.is_set()
                    announce(session, self._announcement, worker.capacity.in_use(), is_stopping=stopping)
            except SQLAlchemyError as error:
                log.warning("worker not announced: %s", error)
            worker.changed.wait(worker.settings.heartbeat_s)

    def stop(self) -> None:
        """End the thread and take the worker off the list."""
        self._stopped.set()
        self._worker.changed.set()
        if self.is_alive():
            self.join()
        try:
            with self._worker.database.write() as session:
                forget(session, self._worker.owner)
        except SQLAlchemyError as error:
            log.warning("worker not taken off the list, it will be when it isn't seen any more: %s", error)
