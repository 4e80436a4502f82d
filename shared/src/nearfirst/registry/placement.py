"""Which queued runs can start where: a pure function of the queue and of what workers have free.

A run without GPUs takes one of a worker's places for CPU jobs; a run with GPUs takes so many of them, of one worker.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum


class Resource(Enum):
    """What a run takes of a worker."""

    CPU_JOBS = "cpu_jobs"
    GPUS = "gpus"


@dataclass(frozen=True, slots=True)
class Need:
    """A queued run and what it asks for."""

    run_id: str
    num_gpus: int
    priority: int = 0

    @property
    def resource(self) -> Resource:
        """What it takes."""
        return Resource.GPUS if self.num_gpus else Resource.CPU_JOBS

    @property
    def amount(self) -> int:
        """How much of that."""
        return self.num_gpus or 1


@dataclass(frozen=True, slots=True)
class Place:
    """A worker: what it has, and what of that is free."""

    worker: str
    total: dict[Resource, int]
    free: dict[Resource, int]

    def could_serve(self, need: Need) -> bool:
        """Whether the run fits when nothing else runs there."""
        return self.total[need.resource] >= need.amount


def startable(
    queue: Iterable[Need], places: Sequence[Place], *, prefer: str | None = None
) -> Iterator[tuple[Need, str]]:
    """The runs that can start now, each with its worker, in the order of the queue.

    A run that fits nowhere now holds back the worker that has the most free for it: later runs get nothing of what is
    free there, so that it fills up with free GPUs until the run fits. So no run waits for ever behind smaller ones,
    and all other workers go on. What no worker could ever serve holds back nothing.

    Args:
        queue: runs that may start, first those to be served first.
        places: workers that are alive.
        prefer: this worker takes whatever it has room for. None, or no room: the worker that has the least to spare.

    Yields:
        A run and a worker. Ties between workers go to the lower id.
    """
    free = {(place.worker, resource): place.free[resource] for place in places for resource in Resource}
    for need in queue:
        room = {place.worker: free[place.worker, need.resource] for place in places if place.could_serve(need)}
        fitting = [worker for worker in room if room[worker] >= need.amount]
        if fitting:
            chosen = prefer if prefer in fitting else min(fitting, key=lambda worker: (room[worker], worker))
            assert chosen is not None
            free[chosen, need.resource] -= need.amount
            yield need, chosen
        elif room:
            held = min(room, key=lambda worker: (-room[worker], worker))
            free[held, need.resource] = 0


def next_run(queue: Iterable[Need], places: Sequence[Place], worker: str) -> Need | None:
    """The run that a worker is to start now; None when it has no room for one, or keeps its room for a larger one."""
    return next((need for need, chosen in startable(queue, places, prefer=worker) if chosen == worker), None)
