"""The training worker: `celery -A nearfirst_training.worker worker`."""

from nearfirst.queue.process import make_training_app
from nearfirst.settings import get_settings
from nearfirst_training.tasks import train

app = make_training_app(get_settings(), train)
