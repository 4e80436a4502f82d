"""Blocks on all cores: one thread a block, instead of all threads inside every operation.

The work on a block is one large product and many small operations. Threads that meet after each small one wait for each
other more than they work, above all when other programs want the cores too; blocks are independent, so they needn't.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def num_workers(device: torch.device) -> int:
    """Blocks that are worked on at a time: as many as torch has threads; on a GPU, one."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def in_order(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Results of `work` in the order of `items`, computed `workers` at a time with one torch thread each.

    Args:
        work: must not depend on other items.
        items: consumed a few ahead of what was yielded.
        workers: 1: in the calling thread, as it is set up.

    Raises:
        whatever `work` raises, at its item. Closing the iterator waits for what is in progress and drops the rest.
    """
    if workers == 1:
        yield from map(work, items)
        return
    pending: deque[Future[Result]] = deque()
    num_threads = torch.get_num_threads()
    with ThreadPoolExecutor(workers, "nearfirst-block", initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
            # The last call decides for threads that start later; those of the pool keep their 1.
            torch.set_num_threads(num_threads)
