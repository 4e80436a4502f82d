"""A process and all that it starts: ended to the last of them."""

import os
import subprocess
import sys

import psutil

from nearfirst_training.family import ProcessFamily

CHILD = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
LEADER = f"""
import signal, subprocess, sys, time
signal.signal(15, signal.SIG_IGN)
for new_session in (False, True):
    child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], start_new_session=new_session, stdout=subprocess.PIPE)
    child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


def start():
    family = ProcessFamily()
    leader = subprocess.Popen(
        [sys.executable, "-c", LEADER], stdout=subprocess.PIPE, start_new_session=True, env=os.environ | family.mark()
    )
    family.leader = leader.pid
    leader.stdout.readline()
    return family, leader


def test_children_in_sessions_of_their_own_that_ignore_sigterm_are_ended_too():
    family, leader = start()
    members = [psutil.Process(process_id) for process_id in family.members()]
    assert len(members) == 3
    family.end()
    leader.wait(5)
    leader.stdout.close()
    assert psutil.wait_procs(members, timeout=5)[1] == []
    assert family.members() == []


def test_children_whose_leader_is_gone_are_found():
    family, leader = start()
    leader.kill()
    leader.wait(5)
    leader.stdout.close()
    orphans = [psutil.Process(process_id) for process_id in family.members()]
    assert len(orphans) == 2
    family.end()
    assert psutil.wait_procs(orphans, timeout=5)[1] == []


def test_other_processes_are_left_alone():
    families = [start() for _ in range(2)]
    families[0][0].end()
    assert len(families[1][0].members()) == 3
    families[1][0].end()
    for _, leader in families:
        leader.wait(5)
        leader.stdout.close()
