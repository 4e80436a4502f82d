"""The Celery application of a worker, and sending run ids to workers.

The broker carries ids and nothing else, results are ignored, and messages are acknowledged early: what a lost message
or a lost worker left behind is found in the registry by the sweeper.
"""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import urlparse

from celery import Celery
from kombu import Exchange
from kombu import Queue as KombuQueue
from kombu.exceptions import OperationalError

from nearfirst.contracts.queues import ROUTES, queue_of
from nearfirst.registry.sweep import Delivery
from nearfirst.settings import Settings

log = logging.getLogger(__name__)


def make_celery(settings: Settings, queues: Sequence[str] = (), *, num_threads: int | None = None) -> Celery:
    """A Celery application on the suite's broker.

    Args:
        settings: `broker_url` is `redis://...` or `filesystem:///folder`.
        queues: what a worker listens to; none for senders.
        num_threads: runs that a worker does at a time, when their work is done by processes of their own. None: one,
            in the worker's main thread; CUDA and OpenMP don't survive a fork, and more workers are more processes.
    """
    scheme = urlparse(settings.broker_url).scheme
    folder = Path(urlparse(settings.broker_url).path)
    app = Celery("nearfirst")
    app.conf.update(
        broker_url="filesystem://" if scheme == "filesystem" else settings.broker_url,
        broker_transport_options=_file_transport(folder) if scheme == "filesystem" else _REDIS_TRANSPORT,
        broker_connection_retry_on_startup=True,
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=False,
        task_queues=[KombuQueue(name, Exchange(name), routing_key=name) for name in queues] or None,
        task_default_queue=queues[0] if queues else "nearfirst.unrouted",
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=scheme != "filesystem",
        worker_pool="solo" if num_threads is None else "threads",
        worker_concurrency=num_threads,
        worker_hijack_root_logger=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
    )
    return app


_REDIS_TRANSPORT = {"socket_connect_timeout": 2, "socket_timeout": 30, "retry_on_timeout": True}


def _file_transport(folder: Path) -> dict[str, str]:
    messages, control = folder / "messages", folder / "control"
    for path in (messages, control):
        path.mkdir(parents=True, exist_ok=True)
    return {"data_folder_in": str(messages), "data_folder_out": str(messages), "control_folder": str(control)}


def send(app: Celery, deliveries: Iterable[Delivery]) -> None:
    """Send run ids to the workers of their kind; a broker that is away is logged, and the sweeper tries again."""
    for delivery in deliveries:
        task, _ = ROUTES[delivery.kind]
        queue = queue_of(delivery.kind, delivery.num_gpus)
        try:
            app.send_task(task, args=[delivery.run_id], queue=queue, retry=False)
        except (OperationalError, OSError) as error:
            log.warning("message for %s not sent, the sweeper will: %s", delivery.run_id, error)
