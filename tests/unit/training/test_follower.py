"""What a follower does before and after its processes; whole groups are in tests/integration/suite."""

import hashlib
import os
import sys

import pytest

from nearfirst.contracts.nodes import FollowerPart, NodePart, PartState
from nearfirst.contracts.problems import InvalidInput
from nearfirst.contracts.progress import Fenced
from nearfirst.settings import Settings
from nearfirst_training.follower import follow, outcome_of_part, wait_for_folder
from nearfirst_training.outcome import ProcessDied, TrainingFailed
from nearfirst_training.process import TrainingProcess

JOB = b'{"out": "/shared/runs/job_a"}'


def part_with(timeout_s):
    part = NodePart(index=1, num_nodes=2, num_ranks=1, endpoint="a:1", rendezvous_id="job_a.1", timeout_s=timeout_s)
    digest = f"sha256:{hashlib.sha256(JOB).hexdigest()}"
    return FollowerPart(run_id="job_a", attempt=1, spec={}, part=part, job_digest=digest, lease_left_s=30)


@pytest.mark.parametrize("found", [None, b"{}"], ids=["nothing", "the file of an earlier attempt"])
def test_a_follower_without_the_leaders_folder_says_which_setting_is_wrong(tmp_path, found):
    if found is not None:
        (tmp_path / "launch.json").write_bytes(found)
    with pytest.raises(InvalidInput, match=r"launch.json isn't there as node 0 has written it.*NEARFIRST_RUNS_DIR"):
        wait_for_folder(tmp_path / "launch.json", part_with(timeout_s=1), lambda: None)


def test_a_follower_waits_until_the_leaders_file_has_come(tmp_path):
    def comes_late():
        (tmp_path / "launch.json").write_bytes(JOB)

    wait_for_folder(tmp_path / "launch.json", part_with(timeout_s=60), comes_late)


def test_a_follower_that_waits_ends_with_its_attempt(tmp_path):
    def over():
        raise Fenced

    with pytest.raises(Fenced):
        wait_for_folder(tmp_path / "launch.json", part_with(timeout_s=60), over)


def ended(tmp_path, code):
    with TrainingProcess([sys.executable, "-c", code], tmp_path / "stderr.log", environment=os.environ) as process:
        while process.messages(wait_s=0.2) is not None:
            pass
    return process


def test_ranks_without_the_main_one_end_well_without_a_result(tmp_path):
    assert outcome_of_part(ended(tmp_path, "")).state is PartState.ENDED


def test_ranks_that_failed_or_vanished_are_told_apart(tmp_path):
    says = 'print(\'{"type": "error", "code": "invalid_model", "detail": "no weights"}\'); raise SystemExit(1)'
    with pytest.raises(TrainingFailed, match="no weights"):
        outcome_of_part(ended(tmp_path, says))
    with pytest.raises(ProcessDied, match="killed by SIGKILL"):
        outcome_of_part(ended(tmp_path, "import os; os.kill(os.getpid(), 9)"))


def test_only_a_further_machine_of_a_group_follows(tmp_path):
    group = {"nodes": 2, "node_group": "pair", "rendezvous": "a:1"}
    for settings in (Settings(home=tmp_path), Settings(home=tmp_path, node_index=0, **group)):
        with pytest.raises(InvalidInput, match="wants nodes above 1 and node_index above 0"):
            follow(settings)
