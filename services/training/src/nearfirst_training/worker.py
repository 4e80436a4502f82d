"""The training worker: `celery -A nearfirst_training.worker worker`."""

from nearfirst.contracts.queues import Queue, TaskName
from nearfirst.queue.process import make_worker_app
from nearfirst.settings import get_settings
from nearfirst_training.tasks import train

app = make_worker_app(get_settings(), Queue.TRAINING, {TaskName.TRAIN: train})
