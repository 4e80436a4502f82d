"""The arrangement worker: `celery -A nearfirst_arrangement.worker worker`."""

from nearfirst.contracts.queues import Queue, TaskName
from nearfirst.queue.process import make_worker_app
from nearfirst.settings import get_settings
from nearfirst_arrangement.candidates import find_candidates
from nearfirst_arrangement.tasks import arrange_datasets

app = make_worker_app(
    get_settings(), Queue.ARRANGEMENT, {TaskName.ARRANGE: arrange_datasets, TaskName.CANDIDATES: find_candidates}
)
