"""A witness of training that none of the suite's code knows of: torch itself tells it of each optimizer step.

Python imports this module at its start in every process that has this folder on its path. A training (it imports its
loop) then appends a line for each update to the file WITNESS_FILE, with the run and attempt that its worker was given
(WITNESS_RUN, WITNESS_ATTEMPT; tests/support/witnessed_worker.py) and with the number of the update, which the optimizer
keeps in its own state.
"""

import json
import os
import sys
import time
from typing import Any

_watched: list[str] = []


def _watch_imports(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "import" and arguments[0] == "nearfirst_training.loop" and not _watched:
        _watched.append(arguments[0])
        _note_updates()


def _note_updates() -> None:
    from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

    file = os.open(os.environ["WITNESS_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    who = {
        "run": os.environ["WITNESS_RUN"],
        "attempt": int(os.environ["WITNESS_ATTEMPT"]),
        "rank": int(os.environ.get("RANK", "0")),
    }
    began_s = 0.0

    def before(*_: object) -> None:
        nonlocal began_s
        began_s = time.time()

    def after(optimizer: Any, *_: object) -> None:
        update = int(next(iter(optimizer.state.values()))["step"])
        line = json.dumps({**who, "update": update, "began_s": began_s, "ended_s": time.time()}) + "\n"
        os.write(file, line.encode())  # one call: lines of several ranks don't mix

    register_optimizer_step_pre_hook(before)
    register_optimizer_step_post_hook(after)


if "WITNESS_FILE" in os.environ:
    sys.addaudithook(_watch_imports)
