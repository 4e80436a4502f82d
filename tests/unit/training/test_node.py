"""A machine of a node group as a process."""

import os
import signal
import subprocess
import sys
import time

import pytest

from nearfirst.registry.database import Database
from nearfirst.registry.migrate import upgrade
from nearfirst.registry.workers import live_workers
from nearfirst.settings import Settings

GROUP = {"NEARFIRST_NODES": "2", "NEARFIRST_NODE_GROUP": "pair", "NEARFIRST_RENDEZVOUS": "127.0.0.1:1"}


@pytest.mark.parametrize(("index", "kinds"), [(0, ["train_job"]), (1, [])], ids=["leader", "follower"])
def test_a_machine_that_is_told_to_end_asks_to_be_started_again(tmp_path, index, kinds):
    settings = Settings(home=tmp_path)
    upgrade(settings.database_url)
    database = Database(settings.database_url)
    variables = GROUP | {"NEARFIRST_HOME": str(tmp_path), "NEARFIRST_GPUS": "", "JOB_COMPLETION_INDEX": str(index)}
    command = [sys.executable, "-m", "nearfirst_training.node", "--loglevel", "INFO"]
    output = tmp_path / "output.log"
    with output.open("wb") as log, subprocess.Popen(command, env=os.environ | variables, stderr=log) as process:
        try:
            announced = wait_for(lambda: live(database))
            wait_for(lambda: index > 0 or " ready" in output.read_text())  # Celery listens to signals last
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 75  # 0 would tell an indexed Job that its index is complete
        finally:
            process.kill()
    (worker,) = announced
    assert (worker.kinds, worker.node.index, worker.node.num_nodes) == (kinds, index, 2)
    assert live(database) == []
    database.close()


def live(database):
    with database.read() as session:
        return live_workers(session, 60)


def wait_for(condition):
    give_up_s = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < give_up_s
        time.sleep(0.1)
    return found
