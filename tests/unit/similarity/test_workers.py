"""Blocks on several threads: results in order, errors at their item, torch's setting as it was."""

import threading

import pytest
import torch

from nearfirst.similarity.workers import Aside, in_order, num_workers


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


@pytest.mark.parametrize("workers", [1, 2])
def test_work_aside_is_done_in_its_order_and_may_use_what_was_started_before(workers):
    done = []
    with Aside(workers) as aside:
        first = aside.start(lambda: done.append("first") or 2)
        second = aside.start(lambda: done.append("second") or 3 * first())
        assert (second(), first(), second()) == (6, 2, 6)
    assert done == ["first", "second"]


def test_work_aside_has_one_torch_thread_and_the_caller_keeps_its_own(threads):
    with threads(3):
        with Aside(2) as aside:
            assert aside.start(torch.get_num_threads)() == 1
            assert torch.get_num_threads() == 3
        assert torch.get_num_threads() == 3


def test_failing_work_aside_raises_where_its_result_is_wanted():
    with Aside(2) as aside:
        failed = aside.start(lambda: 1 // 0)
        fine = aside.start(lambda: 1)
        assert fine() == 1
        with pytest.raises(ZeroDivisionError):
            failed()


def test_leaving_work_aside_drops_what_has_not_started():
    is_running, may_end, done = threading.Event(), threading.Event(), []
    with Aside(2) as aside:
        aside.start(lambda: (is_running.set(), may_end.wait(10)))
        aside.start(lambda: done.append("late"))
        is_running.wait(10)
        threading.Timer(0.1, may_end.set).start()
    assert not done
    assert not any(thread.name.startswith("nearfirst-aside") for thread in threading.enumerate())
