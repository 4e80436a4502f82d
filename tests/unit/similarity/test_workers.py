"""Blocks on several threads: results in order, errors at their item, torch's setting as it was."""

import threading

import pytest
import torch

from nearfirst.similarity.workers import in_order, num_workers


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_results_come_in_the_order_of_the_items(workers):
    assert list(in_order(lambda item: item * item, range(50), workers)) == [item * item for item in range(50)]


def test_each_worker_has_one_torch_thread_and_the_caller_keeps_its_own(threads):
    with threads(3):
        seen = set(in_order(lambda _: (threading.get_ident(), torch.get_num_threads()), range(30), 2))
        assert {count for _, count in seen} == {1}
        assert threading.get_ident() not in {thread for thread, _ in seen}
        assert torch.get_num_threads() == num_workers(torch.device("cpu")) == 3


def test_a_failing_item_raises_at_its_place():
    def work(item):
        if item == 3:
            raise ValueError("three")
        return item

    results = in_order(work, range(10), 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)


def test_a_consumer_that_stops_leaves_nothing_running():
    started = []
    results = in_order(started.append, range(1000), 2)
    next(results)
    results.close()
    assert len(started) < 10
    assert not any(thread.name.startswith("nearfirst-block") for thread in threading.enumerate())


def test_a_gpu_works_on_one_block_at_a_time():
    assert num_workers(torch.device("cuda")) == 1
