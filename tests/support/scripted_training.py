"""A program in the place of training: `python scripted_training.py SPEC_JSON`. It speaks the protocol of `launch`.

The spec's `seed` says what it does, once it has logged which GPUs it was given: STEPS makes `max_steps` steps,
STUBBORN ignores SIGTERM as its two children do (one in a session of its own), HANGING stops at step 2, and DYING kills
itself there.
"""

import json
import os
import signal
import subprocess
import sys
import time

from nearfirst.processes import die_with_parent

STEPS, STUBBORN, HANGING, DYING = range(4)
STEP_S = 0.1
_CHILD = """
import signal, time
from nearfirst.processes import die_with_parent
die_with_parent()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""


def say(kind: str, **fields: object) -> None:
    print(json.dumps({"type": kind, **fields}), flush=True)


def be_stubborn() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for is_apart in (False, True):
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD], start_new_session=is_apart, stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        child.stdout.readline()


def main(spec: dict[str, int]) -> int:
    die_with_parent()  # as training does
    step = 0

    def interrupt(*_: object) -> None:
        say("interrupted", step=step)
        sys.exit(75)

    signal.signal(signal.SIGTERM, interrupt)
    if spec["seed"] == STUBBORN:
        be_stubborn()
    say("log", message=f"CUDA_VISIBLE_DEVICES={os.environ['CUDA_VISIBLE_DEVICES']}")
    say("progress", done=0, total=spec["max_steps"], unit="steps")
    for step in range(1, spec["max_steps"] + 1):
        time.sleep(STEP_S)
        say("progress", done=step, total=spec["max_steps"], unit="steps")
        if step == 2 and spec["seed"] == HANGING:
            time.sleep(600)
        if step == 2 and spec["seed"] == DYING:
            print("no memory is left", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    say("result", result={"steps": step})
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
