import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nearfirst.contracts.training import Checkpoint, CheckpointSpec


@pytest.fixture
def start(tmp_path):
    """Start a job's process; it is killed at the end of the test."""
    started = []

    def start(job):
        path = tmp_path / "launch.json"
        path.write_text(job if isinstance(job, str) else job.model_dump_json())
        process = subprocess.Popen(
            [sys.executable, "-m", "nearfirst_training.launch", str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def finish(process):
    """Messages and exit status; every line of stdout must be a JSON object."""
    out, _ = process.communicate(timeout=120)
    return [json.loads(line) for line in out.splitlines()], process.returncode


def of_type(messages, kind):
    return [message for message in messages if message["type"] == kind]


def test_stdout_has_progress_metrics_checkpoints_and_the_result(start, make_job, test_file):
    job = make_job(test_examples=str(test_file), max_steps=3)
    messages, status = finish(start(job))
    assert status == 0
    steps = [(m["done"], m["total"]) for m in of_type(messages, "progress") if m["unit"] == "steps"]
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert [m["step"] for m in of_type(messages, "metric") if m["name"] == "train_loss"] == [1, 2, 3]
    checkpoints = [Checkpoint.model_validate(m["checkpoint"]) for m in of_type(messages, "checkpoint")]
    assert [(c.step, c.tier.value) for c in checkpoints] == [(3, "weights"), (3, "state")]
    assert messages[-1]["type"] == "result"
    assert messages[-1]["result"]["receipt"] == json.loads((Path(job.out) / "receipt.json").read_text())


def test_a_users_error_is_a_message_and_exit_2(start, make_job, tmp_path):
    model = {"name_or_path": str(tmp_path), "init": "random"}
    messages, status = finish(start(make_job(model=model)))
    assert status == 2
    assert messages[-1]["code"] == "invalid_model"
    assert "no config.json" in messages[-1]["detail"]


def test_an_unknown_field_of_the_job_is_named(start, make_job):
    job = json.loads(make_job().model_dump_json()) | {"colour": "red"}
    messages, status = finish(start(json.dumps(job)))
    assert (status, messages[-1]["code"]) == (2, "invalid_input")
    assert "colour" in messages[-1]["detail"]


def test_a_failure_of_ours_is_a_message_and_exit_1(start, make_job, tmp_path):
    (tmp_path / "file").write_text("")
    messages, status = finish(start(make_job(out=str(tmp_path / "file" / "out"))))
    assert (status, messages[-1]["type"], messages[-1]["code"]) == (1, "error", "internal_error")
    assert messages[-1]["detail"].startswith("NotADirectoryError")


def test_sigterm_saves_a_state_that_the_next_process_goes_on_from(start, make_job):
    job = make_job(epochs=24, checkpoint=CheckpointSpec())
    process = start(job)
    for line in process.stdout:
        message = json.loads(line)
        if message["type"] == "progress" and message["unit"] == "steps" and message["done"] == 2:
            process.send_signal(signal.SIGTERM)
            break
    messages, status = finish(process)
    assert status == 75
    assert messages[-1]["type"] == "interrupted"
    step = messages[-1]["step"]
    assert 2 <= step < 120
    assert messages[-2]["checkpoint"]["step"] == step
    resumed, _ = finish(start(job.model_copy(update={"resume": True})))
    result = resumed[-1]["result"]
    assert (result["resumed_from"], result["steps"], result["receipt"]["verified"]) == (step, 120, True)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_the_process_does_not_outlive_its_parent(make_job, tmp_path):
    path = tmp_path / "launch.json"
    path.write_text(make_job(epochs=10_000).model_dump_json())
    # Into a file: a pipe that nobody reads any more would end the child too.
    out = tmp_path / "stdout"
    parent_code = (
        "import subprocess, sys; child = subprocess.Popen(sys.argv[2:], stdout=open(sys.argv[1], 'w')); "
        "print(child.pid, flush=True); child.wait()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", parent_code, str(out), sys.executable, "-m", "nearfirst_training.launch", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    child = int(parent.stdout.readline())
    wait_until(lambda: out.stat().st_size > 0)
    parent.kill()
    parent.communicate()
    try:
        wait_until(lambda: not is_running(child))
    finally:
        if is_running(child):
            os.kill(child, signal.SIGKILL)


def wait_until(condition, limit_s=30.0):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not so within {limit_s} s"
        time.sleep(0.05)


def is_running(process_id):
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
