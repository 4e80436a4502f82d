"""The embedding worker: `celery -A nearfirst_embedding.worker worker`."""

from nearfirst.contracts.queues import Queue, TaskName
from nearfirst.queue.process import make_worker_app
from nearfirst.settings import get_settings
from nearfirst_embedding.tasks import embed, embed_shard

app = make_worker_app(get_settings(), Queue.EMBEDDING, {TaskName.EMBED: embed, TaskName.EMBED_SHARD: embed_shard})
