"""The processes of one training run: which of them this one is, and what they tell each other."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

from nearfirst.contracts.problems import InvalidInput
from nearfirst_training.job import TrainingJob

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """One process among `size`. Every method that talks to the others is to be called by all of them."""

    device: torch.device
    rank: int = 0
    size: int = 1
    host_group: dist.ProcessGroup | None = None
    """For values in the CPU's memory, while training goes on; None in a world of one."""
    writer_group: dist.ProcessGroup | None = None
    """As `host_group`, for the threads that write checkpoints: two threads must not share a group."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run's files and speaks for the run."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """Every rank's value, by rank."""
        return _gathered(value, self.size, self.host_group)

    def gather_in_background(self, value: T) -> list[T]:
        """`gather`, for the threads that write checkpoints."""
        return _gathered(value, self.size, self.writer_group)

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values


def _gathered(value: T, size: int, group: dist.ProcessGroup | None) -> list[T]:
    if size == 1:
        return [value]
    found: list[T | None] = [None] * size
    dist.all_gather_object(found, value, group=group)
    return found  # type: ignore[return-value]  # every place is filled


@contextmanager
def joined(job: TrainingJob) -> Iterator[World]:
    """This process's place in the world that the job's settings ask for; several processes are started by torchrun.

    Raises:
        InvalidInput: more GPUs are asked for than torch sees, or another number of processes was started.
    """
    settings = job.settings
    _refuse_missing_gpus(job.num_local_gpus)
    if not settings.needs_torchrun:
        yield World(torch.device("cuda", 0) if settings.gpus else torch.device("cpu"))
        return
    # With both, FSDP can keep weights in the CPU's memory.
    dist.init_process_group("cpu:gloo,cuda:nccl" if settings.gpus else "gloo")
    try:
        if dist.get_world_size() != settings.num_processes:
            raise InvalidInput(f"{dist.get_world_size()} processes run, the job is for {settings.num_processes}")
        device = torch.device("cpu")
        if settings.gpus:
            device = torch.device("cuda", dist.get_node_local_rank())
            torch.cuda.set_device(device)
        host_group, writer_group = (dist.new_group(backend="gloo") for _ in range(2))
        yield World(device, dist.get_rank(), dist.get_world_size(), host_group, writer_group)
    finally:
        dist.destroy_process_group()


def _refuse_missing_gpus(num_wanted: int) -> None:
    if num_wanted == 0:
        return
    num_seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if num_seen == 0:
        raise InvalidInput(f"gpus: {num_wanted} asked for, torch sees none; 0 trains on the CPU")
    if num_seen < num_wanted:
        raise InvalidInput(f"gpus: {num_wanted} asked for, torch sees {num_seen}")
