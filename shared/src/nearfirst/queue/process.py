"""A worker process: connections, the sweeper, and shutting down without losing a run."""

import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

from celery import Celery
from celery.signals import worker_init, worker_shutdown, worker_shutting_down

from nearfirst import __version__
from nearfirst.contracts.problems import InvalidInput
from nearfirst.contracts.queues import ROUTES, Queue, TaskName, training_queues
from nearfirst.contracts.runs import UNIT_KINDS, RunKind
from nearfirst.contracts.workers import WorkerAnnouncement
from nearfirst.logs import configure_logging
from nearfirst.queue.announcer import Announcer
from nearfirst.queue.app import make_celery
from nearfirst.queue.capacity import Capacity, num_usable_cpus, training_capacity
from nearfirst.queue.context import Worker
from nearfirst.queue.execution import Work, execute, execute_next, execute_queue
from nearfirst.queue.sweeper import Sweeper
from nearfirst.registry.database import Database
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store
from nearfirst.telemetry.counters import export
from nearfirst.telemetry.tracing import configure_tracing

_KIND_OF_TASK = {task: kind for kind, (task, _) in ROUTES.items()}


def make_worker_app(
    settings: Settings, queues: Queue | Sequence[Queue], work_of_task: Mapping[TaskName, Work]
) -> Celery:
    """The Celery application that a service's `worker.py` exposes: tasks that claim, work and report, one at a time.

    A message names the run to do. That of an evaluation's unit is a hint to look instead: many wait at a time, and the
    one of its kind that is next by priority is done.

    On SIGTERM or SIGINT the work in progress is interrupted and its run goes back to the queue.
    """
    listened_to = [queues] if isinstance(queues, Queue) else list(queues)
    app = make_celery(settings, listened_to)
    worker = _make_worker(settings, app, Capacity())

    def task(kind: RunKind, work: Work) -> Callable[[str], object]:
        def run(run_id: str) -> None:
            execute(worker, run_id, work)

        def run_next(_run_id: str) -> None:
            execute_next(worker, kind, work)

        return run_next if kind in UNIT_KINDS else run

    for name, work in work_of_task.items():
        app.task(name=name, ignore_result=True)(task(_KIND_OF_TASK[name], work))
    _connect_signals(worker, listened_to, work_of_task)
    return app


def make_training_app(settings: Settings, train: Work) -> Celery:
    """The same for training, whose work is done by processes of its own: several at a time, each on GPUs of its own.

    A message is a hint to look at the queue: the worker takes the best run that it has room for.
    """
    capacity = training_capacity(settings)
    queues = training_queues(len(capacity.gpus), takes_cpu_jobs=capacity.cpu_jobs > 0)
    if not queues:
        raise InvalidInput("cpu_jobs (NEARFIRST_CPU_JOBS) is 0 and there is no GPU: this worker could do nothing")
    app = make_celery(settings, queues, num_threads=capacity.num_threads)
    worker = _make_worker(settings, app, capacity)

    def look(_run_id: str) -> None:
        execute_queue(worker, RunKind.TRAIN_JOB, train)

    app.task(name=TaskName.TRAIN, ignore_result=True)(look)
    _connect_signals(worker, queues, [TaskName.TRAIN])
    return app


def _make_worker(settings: Settings, app: Celery, capacity: Capacity) -> Worker:
    store = Store(settings.store_url, cache=settings.home / "cache")
    return Worker(settings, Database(settings.database_url), store, app, threading.Event(), capacity)


def _connect_signals(worker: Worker, queues: Sequence[str], tasks: Iterable[TaskName]) -> None:
    """Announce, sweep, and interrupt the work when the process is told to end."""
    announcement = WorkerAnnouncement(
        id=worker.owner,
        host=socket.gethostname(),
        version=__version__,
        kinds=[_KIND_OF_TASK[task] for task in tasks],
        queues=list(queues),
        gpus=list(worker.capacity.gpus),
        num_cpus=num_usable_cpus(),
        cpu_jobs=worker.capacity.cpu_jobs,
        node=worker.capacity.node,
    )
    announcer = Announcer(worker, announcement)
    sweeper = Sweeper(worker.database, worker.store, worker.app, worker.settings)

    def start(**_: object) -> None:
        configure_logging(worker.settings)
        configure_tracing(worker.settings, f"nearfirst-{queues[0].split('.')[1]}-worker")
        if worker.settings.worker_metrics_port is not None:
            export(worker.settings.worker_metrics_port)
        announcer.start()
        sweeper.start()

    def interrupt(**_: object) -> None:
        worker.shutting_down.set()
        worker.changed.set()

    def stop(**_: object) -> None:
        announcer.stop()
        sweeper.stop()
        worker.database.close()

    # weak=False: Celery would forget receivers that nothing else holds.
    worker_init.connect(start, weak=False)
    worker_shutting_down.connect(interrupt, weak=False)
    worker_shutdown.connect(stop, weak=False)
