"""Workers as they announce themselves, and the queue: what runs where, and why the rest waits."""

from datetime import datetime

from pydantic import Field

from nearfirst.contracts.base import Contract
from nearfirst.contracts.runs import RunKind


class Gpu(Contract):
    """A GPU of a worker."""

    id: str
    """As CUDA_VISIBLE_DEVICES takes it: an index, or a UUID. Of a node group `NODE:ID`."""
    name: str | None = None
    """`NVIDIA H100 80GB HBM3`; None: the driver's tool isn't there to ask."""
    memory_bytes: int | None = None


class GroupNode(Contract):
    """Which machine of a node group a worker is: node 0 claims runs for all of them, the others follow it."""

    group: str
    index: int = Field(ge=0)
    num_nodes: int = Field(ge=2)
    """Of the whole group."""
    num_gpus: int = Field(ge=0)
    """Of this machine."""


class RunOnWorker(Contract):
    """A run that a worker has under way."""

    run_id: str
    gpus: list[str] = Field(default_factory=list)
    """Ids of the worker's GPUs that it has; free again when the last of its processes is gone."""


class WorkerAnnouncement(Contract):
    """What a worker says of itself when it starts."""

    id: str
    """Host and process id; also the owner of its leases."""
    host: str
    version: str | None = None
    """Of Nearfirst; None: one that didn't say."""
    kinds: list[RunKind]
    """What it can do."""
    queues: list[str]
    """Queues on the broker that it listens to."""
    gpus: list[Gpu] = Field(default_factory=list)
    num_cpus: int = Field(ge=1)
    """Cores that it may use."""
    cpu_jobs: int = Field(ge=0)
    """Runs without a GPU that it takes at a time."""
    node: GroupNode | None = None
    """Of a worker that spans several machines, which takes one run at a time; None: it is one machine."""


class Worker(WorkerAnnouncement):
    """GET /workers: an announcement, and what has become of the worker."""

    started_at: datetime
    last_seen_at: datetime
    is_alive: bool
    """It was seen within the last lease time."""
    is_stopping: bool
    """It takes nothing more, and puts back what it has."""
    runs: list[RunOnWorker] = Field(default_factory=list)


class WaitingRun(Contract):
    """A queued run."""

    id: str
    kind: RunKind
    priority: int
    num_gpus: int
    created_at: datetime
    waits_because: str


class RunningRun(Contract):
    """A run that a worker has claimed."""

    id: str
    kind: RunKind
    priority: int
    num_gpus: int
    worker: str | None
    """Id of the worker."""
    gpus: list[str]
    """Which of the worker's GPUs it has."""
    started_at: datetime | None


class QueueOfKind(Contract):
    """Runs of one kind."""

    kind: RunKind
    num_waiting: int
    num_running: int
    waiting: list[WaitingRun]
    """In the order in which they are taken; the first of them, when they are many."""
    running: list[RunningRun]
    """Longest under way first; the first of them, when they are many."""


class QueueState(Contract):
    """GET /queue."""

    kinds: list[QueueOfKind]
    """Of each kind that has a run waiting or running."""
