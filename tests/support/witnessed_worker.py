"""The training worker, which tells the witness in its trainings (witness/sitecustomize.py) whom they work for."""

import os

from nearfirst.queue.context import RunContext, RunResult
from nearfirst.queue.process import make_training_app
from nearfirst.settings import get_settings
from nearfirst_training import tasks


def train(context: RunContext) -> RunResult:
    os.environ.update(WITNESS_RUN=context.run_id, WITNESS_ATTEMPT=str(context.claim.attempt))
    return tasks.train(context)


app = make_training_app(get_settings(), train)
