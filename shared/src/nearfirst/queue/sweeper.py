"""The sweeper: a thread that finds what lost messages and lost workers left behind.

Every API and worker process has one. Its decisions are compare-and-sets, so any number of them agree.
"""

import logging
import threading
import time

from celery import Celery
from sqlalchemy.exc import OperationalError

from nearfirst.queue.app import send
from nearfirst.registry import evaluations, study_states
from nearfirst.registry.cancellation import revive_needed
from nearfirst.registry.database import Database
from nearfirst.registry.holding import release_needed
from nearfirst.registry.sweep import Delivery, fail_orphans, recover_lost_leases, take_deliveries
from nearfirst.registry.unservable import fail_unservable
from nearfirst.registry.workers import forget_unseen
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store

log = logging.getLogger(__name__)

_PAUSE_S = 0.002
"""Between messages that are sent again: 500 a second at most."""


class Sweeper(threading.Thread):
    """Sweeps until `stop` is called."""

    def __init__(self, database: Database, store: Store, app: Celery, settings: Settings) -> None:
        """Doesn't start yet: call `start`."""
        super().__init__(name="sweeper", daemon=True)
        self._database = database
        self._store = store
        self._app = app
        self._settings = settings
        self._stopped = threading.Event()

    def run(self) -> None:
        """Sweep every `sweep_s` seconds until stopped, whatever a sweep raises."""
        while not self._stopped.wait(self._settings.sweep_s):
            try:
                self.sweep()
            except OperationalError as error:
                log.warning("registry not reached, sweeping again in %s s: %s", self._settings.sweep_s, error)
            except Exception:
                # Without its sweeper a process would leave lost runs lying, and nothing would tell.
                log.exception("a sweep failed, sweeping again in %s s", self._settings.sweep_s)

    def sweep(self) -> None:
        """Once: recover lost leases, revive what is needed, fail what can't start, forget workers, send what is due.

        Last, evaluations and studies are brought up to date; units that this adds are sent by the next sweep.
        """
        settings = self._settings
        with self._database.write() as session:
            for run_id in recover_lost_leases(session, settings.max_lost_leases):
                log.warning("%s: its lease ran out", run_id)
            revive_needed(session)
            release_needed(session)
            fail_orphans(session)
            fail_unservable(session, settings.lease_s, settings.unservable_s)
            forget_unseen(session, settings.forget_workers_s)
            deliveries = take_deliveries(session, settings.redeliver_s, alive_s=settings.lease_s)
        self._send_slowly(deliveries)
        with self._database.write() as session:  # of its own: it begins without a lock
            for run_id in evaluations.settle(session, self._store):
                log.info("%s ended", run_id)
        with self._database.write() as session:
            for run_id in study_states.settle(session):
                log.info("%s ended", run_id)

    def _send_slowly(self, deliveries: list[Delivery]) -> None:
        """Send with a pause after each message: hundreds at once would hold up the requests of an API process."""
        for delivery in deliveries:
            send(self._app, [delivery])
            time.sleep(_PAUSE_S)

    def stop(self) -> None:
        """End the thread; returns when it has ended."""
        self._stopped.set()
        if self.is_alive():
            self.join()
