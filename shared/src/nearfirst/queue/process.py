"""A worker process: connections, the sweeper, and shutting down without losing a run."""

import logging
import threading
from collections.abc import Callable, Mapping

from celery import Celery
from celery.signals import worker_init, worker_shutdown, worker_shutting_down

from nearfirst.contracts.queues import Queue, TaskName
from nearfirst.logs import configure_logging
from nearfirst.queue.app import make_celery
from nearfirst.queue.execution import RunContext, RunResult, Worker, execute
from nearfirst.queue.sweeper import Sweeper
from nearfirst.registry.database import Database
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store

log = logging.getLogger(__name__)


Work = Callable[[RunContext], RunResult]


def make_worker_app(settings: Settings, queue: Queue, work_of_task: Mapping[TaskName, Work]) -> Celery:
    """The Celery application that a service's `worker.py` exposes: tasks that claim, work and report.

    On SIGTERM or SIGINT the work in progress is interrupted and its run goes back to the queue.
    """
    app = make_celery(settings, queue)
    database = Database(settings.database_url)
    store = Store(settings.store_url, cache=settings.home / "cache")
    worker = Worker(settings, database, store, app, shutting_down=threading.Event())
    sweeper = Sweeper(database, app, settings)

    def task(work: Work) -> Callable[[str], None]:
        def run(run_id: str) -> None:
            execute(worker, run_id, work)

        return run

    for name, work in work_of_task.items():
        app.task(name=name, ignore_result=True)(task(work))

    def start(**_: object) -> None:
        configure_logging(settings)
        sweeper.start()

    def interrupt(**_: object) -> None:
        worker.shutting_down.set()

    def stop(**_: object) -> None:
        sweeper.stop()
        database.close()

    # weak=False: Celery would forget receivers that nothing else holds.
    worker_init.connect(start, weak=False)
    worker_shutting_down.connect(interrupt, weak=False)
    worker_shutdown.connect(stop, weak=False)
    return app
