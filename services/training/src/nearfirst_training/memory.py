"""Memory: how much a process uses, and what to say when there isn't enough."""

import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from nearfirst.contracts.problems import OutOfMemory
from nearfirst_training.batches import MicroBatch

_KIB, _GIB = 2**10, 2**30
_CPU_ALLOCATOR = "DefaultCPUAllocator"


def peak_memory_gib(device: torch.device) -> float:
    """The most that this process has had so far: on a GPU what torch allocated, else resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / _GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB / _GIB


@contextmanager
def explained_memory_errors(step: int, micro_batches: Sequence[MicroBatch]) -> Iterator[None]:
    """Say what a step asked for when memory runs out in it.

    Raises:
        OutOfMemory: in place of torch's or Python's own error.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if type(error) is RuntimeError and _CPU_ALLOCATOR not in str(error):
            raise
        largest = max((tuple(each.input_ids.shape) for each in micro_batches), key=lambda shape: shape[0] * shape[1])
        raise OutOfMemory(
            f"step {step}: {str(error).splitlines()[0]}; its largest forward pass has {largest[0]} rows of "
            f"{largest[1]} tokens: a smaller micro_batch_size or micro_batch_tokens, activation_checkpointing or more "
            "GPUs need less"
        ) from error
