"""The processes of a training, found below their worker: to be killed by tests."""

import contextlib
import time

import psutil

_LAUNCH, _TORCHRUN = "nearfirst_training.launch", "torch.distributed.run"


def family_of(worker_pid: int) -> list[psutil.Process]:
    """Everything that a training worker has started, directly or not."""
    return psutil.Process(worker_pid).children(recursive=True)


def ranks_of(worker_pid: int) -> dict[int, psutil.Process]:
    """The processes that train, by rank; a job of one process is rank 0. Those that end meanwhile are left out."""
    found: dict[int, psutil.Process] = {}
    for process in family_of(worker_pid):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            words = process.cmdline()
            if _LAUNCH in words and _TORCHRUN not in words:
                found[int(process.environ().get("RANK", "0"))] = process
    return found


def wait_for_ranks(worker_pid: int, count: int, timeout_s: float = 60) -> dict[int, psutil.Process]:
    """`ranks_of` as soon as there are so many."""
    give_up = time.monotonic() + timeout_s
    while len(ranks := ranks_of(worker_pid)) < count:
        assert time.monotonic() < give_up, f"only ranks {sorted(ranks)} of {count} have started"
        time.sleep(0.02)
    return ranks
