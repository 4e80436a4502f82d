"""The training worker with a small program in the place of training: all of the queue is real, and needs no GPU."""

import json
import sys

from tests.support import scripted_training

from nearfirst.queue.context import RunContext, RunResult
from nearfirst.queue.process import make_training_app
from nearfirst.settings import get_settings
from nearfirst_training.tasks import run_process


def train(context: RunContext) -> RunResult:
    out = context.worker.settings.runs_dir / context.run_id
    out.mkdir(parents=True, exist_ok=True)
    return RunResult(run_process(context, [sys.executable, scripted_training.__file__, json.dumps(context.spec)], out))


app = make_training_app(get_settings(), train)
