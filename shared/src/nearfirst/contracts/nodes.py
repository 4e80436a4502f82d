"""A training on several machines: what each of them is to do, and what came of it."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from pydantic import Field

from nearfirst.contracts.base import Contract


class NodePart(Contract):
    """What one machine starts of an attempt: a torchrun agent with so many ranks."""

    index: int = Field(ge=0)
    """Of the machine among those of this attempt; 0 has the main rank."""
    num_nodes: int = Field(ge=2)
    num_ranks: int = Field(ge=1)
    """On this machine."""
    endpoint: str
    """`host:port` at which node 0 waits for the others."""
    rendezvous_id: str
    """`RUN.ATTEMPT`: agents of another attempt never meet."""
    timeout_s: int = Field(ge=1)
    """How long the machines wait for each other."""


class PartState(StrEnum):
    """How a follower's part of an attempt ended."""

    ENDED = "ended"
    """In order, or by a kill because the registry said that the attempt is over."""
    INTERRUPTED = "interrupted"
    """Its machine is being shut down."""
    FAILED = "failed"
    """A rank said what was wrong."""
    DIED = "died"
    """Its processes vanished, or had to be killed because the registry didn't answer while the lease lasted."""


class PartOutcome(Contract):
    """What a follower reports when the last process of its part is gone."""

    state: PartState
    code: str | None = None
    """Of a problem: with FAILED."""
    detail: str = ""


class FollowerPart(Contract):
    """A part that a follower has to do."""

    run_id: str
    attempt: int
    spec: dict[str, Any]
    part: NodePart
    job_digest: str
    """sha256 of the job file that the leader has written into the run's folder."""
    lease_left_s: float
    """Of the run's lease, at the moment of asking; negative: it ran out, and its leader may yet renew it."""


class FollowerStatus(Contract):
    """A follower in an attempt, as its leader sees it."""

    index: int
    host: str
    is_alive: bool
    outcome: PartOutcome | None = None


def ranks_by_node(num_processes: int, num_nodes: int, gpus_per_node: int) -> list[int]:
    """How many ranks each machine of a group starts; machines without one are left out.

    GPUs are filled up machine by machine, because those of one machine are joined best. Processes on the CPU
    (`gpus_per_node` 0) are shared out evenly.

    >>> ranks_by_node(12, 3, 8), ranks_by_node(8, 3, 8), ranks_by_node(5, 3, 0), ranks_by_node(1, 3, 0)
    ([8, 4], [8], [2, 2, 1], [1])
    """
    if gpus_per_node:
        ranks = [min(gpus_per_node, num_processes - node * gpus_per_node) for node in range(num_nodes)]
    else:
        ranks = [num_processes // num_nodes + (node < num_processes % num_nodes) for node in range(num_nodes)]
    return [count for count in ranks if count > 0]


def gpu_of_group(node: int, gpu_id: str) -> str:
    """What a GPU of a machine is called in its group.

    >>> gpu_of_group(1, "3")
    '1:3'
    """
    return f"{node}:{gpu_id}"


def gpus_of_node(gpu_ids: Sequence[str], node: int) -> tuple[str, ...]:
    """Those of a group's GPUs that a machine has, as CUDA_VISIBLE_DEVICES takes them there.

    >>> gpus_of_node(["0:2", "0:3", "1:2"], 0)
    ('2', '3')
    """
    split = (gpu.split(":", 1) for gpu in gpu_ids)
    return tuple(gpu_id for place, gpu_id in split if place == str(node))
