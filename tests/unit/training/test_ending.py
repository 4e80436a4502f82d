"""How a training ended, in words; torchrun is the real one."""

import os
import signal
import sys

import pytest

from nearfirst_training.ending import Exit, exit_of
from nearfirst_training.process import TrainingProcess

RANKS = """
import json, os, signal, sys, time
from pathlib import Path
rank = int(os.environ["RANK"])
say = lambda **message: print(json.dumps(message), flush=True)
if rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
say(type="error", code="internal_error", detail="RuntimeError: connection closed by peer")
time.sleep(60)
"""


def ended(process):
    while process.messages(wait_s=0.2) is not None:
        pass
    return process.how_it_ended()


def test_torchrun_names_the_rank_that_was_killed(tmp_path):
    (tmp_path / "ranks.py").write_text(RANKS)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    stderr = tmp_path / "stderr.log"
    with TrainingProcess([*command, str(tmp_path / "ranks.py")], stderr, environment=environment) as process:
        ending = ended(process)
    assert ending == Exit(-9, rank=1)
    assert ending.in_words() == "rank 1 was killed by SIGKILL (signal 9), probably because memory ran out"


def test_what_an_earlier_process_left_in_the_log_is_not_this_ones(tmp_path):
    report = "Root Cause (first observed failure):\n[0]:\n  rank      : 3 (local_rank: 3)\n  exitcode  : -9 (pid: 7)\n"
    (tmp_path / "stderr.log").write_text(report)
    with TrainingProcess(
        [sys.executable, "-c", "import sys; sys.exit(7)"], tmp_path / "stderr.log", environment=os.environ
    ) as process:
        assert ended(process) == Exit(7)
    assert exit_of(1, report) == Exit(-9, rank=3)


@pytest.mark.parametrize(
    ("code", "words", "was_killed"),
    [
        (1, "the training process ended with code 1", False),
        (-signal.SIGTERM, "the training process was killed by SIGTERM (signal 15)", False),
        (-signal.SIGSEGV, "the training process was killed by SIGSEGV (signal 11)", True),
        (
            -signal.SIGKILL,
            "the training process was killed by SIGKILL (signal 9), probably because memory ran out",
            True,
        ),
    ],
)
def test_an_exit_is_told_in_words(code, words, was_killed):
    ending = exit_of(code, "Traceback ...")
    assert (ending.in_words(), ending.was_killed) == (words, was_killed)
