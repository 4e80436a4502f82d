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


def test_of_several_errors_the_first_with_a_reason_of_its_own_is_kept(tmp_path):
    codes = ["internal_error", "non_finite_loss", "order_mismatch", "internal_error"]
    lines = [f'{{"type": "error", "code": "{code}", "detail": "{number}"}}' for number, code in enumerate(codes)]
    with run(tmp_path, f"print({chr(10).join(lines)!r})") as process:
        all_messages(process)
    assert process.error["code"] == "non_finite_loss"
    with run(tmp_path, f"print({chr(10).join([lines[0], lines[3]])!r})") as process:
        all_messages(process)
    assert process.error["detail"] == "0"


def test_it_is_idle_while_its_progress_stands_still_and_its_first_number_of_steps_is_no_step(tmp_path):
    def steps(done):
        return f'print(\'{{"type": "progress", "unit": "steps", "done": {done}, "total": 9}}\', flush=True); '

    code = "import time; " + steps(3) + "time.sleep(0.5); " + steps(3) + "time.sleep(0.5); " + steps(4)
    with run(tmp_path, code + "time.sleep(60)") as process:
        seen = 0
        while seen < 2:
            seen += len(process.messages(wait_s=0.05))
        assert process.idle_s > 0.4
        assert not process.has_finished_step
        while seen < 3:
            seen += len(process.messages(wait_s=0.05))
        assert process.idle_s < 0.4
        assert process.has_finished_step


def test_a_child_that_outlives_it_does_not_keep_the_worker_waiting(tmp_path):
    code = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    started = time.monotonic()
    with run(tmp_path, code) as process:
        assert all_messages(process) == []
    assert time.monotonic() - started < 20
