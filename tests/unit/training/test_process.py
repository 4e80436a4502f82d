"""A training process as its worker sees it; here a few lines of Python stand in for training."""

import os
import sys
import time

import psutil
import pytest

from nearfirst_training.folder import FolderBusy, RunFolder
from nearfirst_training.process import TrainingProcess


def run(tmp_path, code, **options):
    return TrainingProcess([sys.executable, "-c", code], tmp_path / "stderr.log", environment=os.environ, **options)


def all_messages(process):
    found = []
    while (messages := process.messages(wait_s=0.2)) is not None:
        found += messages
    return found


def test_messages_and_the_result_come_through(tmp_path):
    code = 'print(\'{"type": "log", "message": "a"}\'); print(\'{"type": "result", "result": {"steps": 3}}\')'
    with run(tmp_path, code) as process:
        assert [message["type"] for message in all_messages(process)] == ["log", "result"]
    assert (process.result, process.exit_code) == ({"steps": 3}, 0)


@pytest.mark.parametrize("garbage", ['{"type": "log", "mess', "Segmentation fault", "\\xff"])
def test_a_line_that_is_no_message_does_not_keep_the_worker_waiting(tmp_path, garbage):
    code = f"import sys, os; sys.stdout.write('{garbage}'); sys.stdout.flush(); os.kill(os.getpid(), 9)"
    with run(tmp_path, code) as process:
        assert all_messages(process) == []
        assert process.exit_code == -9


def test_the_last_words_are_what_it_wrote_to_stderr(tmp_path):
    with run(tmp_path, "import sys; sys.exit('out of memory')") as process:
        all_messages(process)
    assert process.last_words() == "out of memory"
    assert process.exit_code == 1


def test_leaving_the_block_ends_the_whole_group(tmp_path):
    code = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
    with run(tmp_path, code + 'print(\'{"type": "log"}\', flush=True); time.sleep(60)') as process:
        while not process.messages(wait_s=5):
            pass
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children()]
        assert len(family) == 2
    assert psutil.wait_procs(family, timeout=5)[1] == []


def test_a_process_that_ignores_sigterm_is_killed_in_time(tmp_path):
    code = (
        'import signal, time; signal.signal(15, signal.SIG_IGN); print(\'{"type": "log"}\', flush=True); time.sleep(60)'
    )
    with run(tmp_path, code, grace_s=0.3) as process:
        while not process.messages(wait_s=5):
            pass
        started = time.monotonic()
        process.interrupt()
        assert time.monotonic() - started < 5
        assert process.exit_code == -9


def test_a_folder_has_one_process_at_a_time(tmp_path):
    folder = RunFolder(tmp_path / "out")
    with folder.locked(0), pytest.raises(FolderBusy, match="out"), RunFolder(tmp_path / "out").locked(0.2):
        pass
    with folder.locked(0):
        pass
