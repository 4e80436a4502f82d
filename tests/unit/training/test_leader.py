"""Why an attempt on several machines ended: whose word counts."""

import pytest

from nearfirst.contracts.nodes import FollowerStatus, PartOutcome, PartState
from nearfirst.contracts.progress import Interrupted
from nearfirst.registry.node_parts import NodeLost
from nearfirst_training.leader import explained, knows_why, trouble_of, worst_of
from nearfirst_training.outcome import ProcessDied, TrainingFailed

LOST_A_RANK = TrainingFailed("internal_error", "RuntimeError: connection closed by peer")


def follower(state=None, *, index=1, is_alive=True, code=None, detail=""):
    outcome = None if state is None else PartOutcome(state=state, code=code, detail=detail)
    return FollowerStatus(index=index, host=f"host-{index}", is_alive=is_alive, outcome=outcome)


FINE = [follower(), follower(PartState.ENDED, is_alive=False)]
VANISHED = follower(is_alive=False, index=2)
KILLED = follower(PartState.DIED, detail="rank 1 was killed by SIGKILL (signal 9)", index=3)
OUT_OF_MEMORY = follower(PartState.FAILED, code="out_of_memory", detail="step 3", index=4)
MISSED_ANOTHER = follower(PartState.FAILED, code="internal_error", detail="RuntimeError: timed out", index=5)
STOPPED = follower(PartState.INTERRUPTED, index=6)


def test_followers_that_are_there_or_have_ended_in_order_are_no_trouble():
    assert [trouble_of(each) for each in FINE] == [None, None]
    assert worst_of(FINE) is None
    assert explained(LOST_A_RANK, FINE) is LOST_A_RANK


@pytest.mark.parametrize(
    ("followers", "kind", "told"),
    [
        ([VANISHED], NodeLost, "node 2 (host-2) vanished"),
        ([MISSED_ANOTHER, KILLED], NodeLost, "node 3 (host-3): rank 1 was killed by SIGKILL (signal 9)"),
        ([MISSED_ANOTHER, VANISHED, OUT_OF_MEMORY], TrainingFailed, "node 4 (host-4): step 3"),
        ([MISSED_ANOTHER, STOPPED], Interrupted, "node 6 (host-6) is being shut down"),
    ],
)
@pytest.mark.parametrize(
    "own", [LOST_A_RANK, ProcessDied("ended with code 1")], ids=["missed a rank", "without a word"]
)
def test_ranks_that_only_missed_others_are_explained_by_those(followers, kind, told, own):
    trouble = explained(own, [*FINE, *followers])
    assert type(trouble) is kind
    assert str(trouble) == told


def test_the_code_of_another_machines_error_is_kept():
    trouble = explained(LOST_A_RANK, [OUT_OF_MEMORY])
    assert isinstance(trouble, TrainingFailed)
    assert trouble.code == "out_of_memory"


def test_a_reason_of_this_machines_ranks_comes_before_all_others():
    own = TrainingFailed("order_mismatch", "step 4: ...")
    assert explained(own, [OUT_OF_MEMORY, VANISHED]) is own


def test_when_all_ranks_only_missed_another_each_machine_is_quoted():
    trouble = explained(LOST_A_RANK, [MISSED_ANOTHER])
    assert isinstance(trouble, TrainingFailed)
    assert not knows_why(trouble)
    assert trouble.detail == f"{LOST_A_RANK.detail}; node 5 (host-5): RuntimeError: timed out"
    killed = ProcessDied("rank 0 was killed by SIGKILL (signal 9)")
    assert explained(killed, [MISSED_ANOTHER]) is killed
