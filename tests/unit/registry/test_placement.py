"""Who starts where, against what was worked out by hand, and for any queue and any workers."""

from hypothesis import given
from hypothesis import strategies as st

from nearfirst.registry.placement import Need, Place, Resource, next_run, startable


def place(name: str, gpus: int, free: int | None = None, cpu_jobs: int = 0, free_cpu_jobs: int | None = None) -> Place:
    return Place(
        name,
        {Resource.GPUS: gpus, Resource.CPU_JOBS: cpu_jobs},
        {
            Resource.GPUS: gpus if free is None else free,
            Resource.CPU_JOBS: cpu_jobs if free_cpu_jobs is None else free_cpu_jobs,
        },
    )


def queue(*num_gpus: int) -> list[Need]:
    return [Need(f"{index}:{count}", count) for index, count in enumerate(num_gpus)]


def starts(needs: list[Need], *places: Place) -> dict[str, str]:
    return {need.run_id: worker for need, worker in startable(needs, places)}


def test_two_jobs_share_a_worker_that_has_a_gpu_for_each() -> None:
    assert starts(queue(1, 1, 1), place("w", 2)) == {"0:1": "w", "1:1": "w"}


def test_a_job_goes_to_the_worker_that_has_the_least_to_spare() -> None:
    assert starts(queue(1, 4), place("a", 4), place("b", 2)) == {"0:1": "b", "1:4": "a"}


def test_a_large_job_that_waits_holds_back_one_worker_and_no_other() -> None:
    places = [place("a", 2, free=1), place("b", 2, free=0), place("c", 1)]
    assert starts(queue(2, 1, 1), *places) == {"1:1": "c"}


def test_a_job_that_no_worker_could_serve_holds_back_nothing() -> None:
    assert starts(queue(3, 2), place("a", 2)) == {"1:2": "a"}


def test_cpu_jobs_and_gpu_jobs_do_not_wait_for_each_other() -> None:
    assert starts(queue(2, 0, 0), place("a", 2, free=1, cpu_jobs=1)) == {"1:0": "a"}
    assert starts(queue(0), place("a", 2)) == {}


def test_a_worker_takes_what_it_has_room_for_whoever_else_has() -> None:
    places = [place("a", 4), place("b", 1)]
    assert next_run(queue(1), places, "a") == Need("0:1", 1)
    assert next_run(queue(1), places, "b") == Need("0:1", 1)


def test_a_worker_whose_room_is_kept_for_a_larger_job_takes_nothing() -> None:
    assert next_run(queue(2, 1), [place("a", 2, free=1)], "a") is None


places = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 2)), max_size=4).map(
    lambda drawn: [place(f"w{i}", max(g, f), min(g, f), cpu_jobs=c) for i, (g, f, c) in enumerate(drawn)]
)


@given(st.lists(st.integers(0, 5), max_size=12).map(lambda counts: queue(*counts)), places)
def test_no_worker_gives_more_than_it_has_free(needs: list[Need], workers: list[Place]) -> None:
    given_away = list(startable(needs, workers))
    for worker in workers:
        for resource in Resource:
            amount = sum(n.amount for n, name in given_away if name == worker.worker and n.resource is resource)
            assert amount <= worker.free[resource]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12).map(lambda counts: queue(*counts)), places)
def test_the_first_job_that_can_be_served_starts_in_the_end_although_small_ones_keep_coming(
    needs: list[Need], workers: list[Place]
) -> None:
    """One job ends at a time, and each time somebody asks for one more GPU."""
    first = next((need for need in needs if any(worker.could_serve(need) for worker in workers)), None)
    if first is None:
        return
    free = {worker.worker: dict(worker.free) for worker in workers}
    running = [
        (worker.worker, resource, 1)
        for worker in workers
        for resource in Resource
        for _ in range(worker.total[resource] - worker.free[resource])
    ]
    waiting = list(needs)
    for turn in range(60):
        now = [Place(worker.worker, worker.total, free[worker.worker]) for worker in workers]
        for need, name in list(startable(waiting, now)):
            waiting.remove(need)
            free[name][need.resource] -= need.amount
            running.append((name, need.resource, need.amount))
        if first not in waiting:
            return
        waiting.append(Need(f"small {turn}", 1))  # somebody always wants one GPU
        name, resource, amount = running.pop(0)
        free[name][resource] += amount
    raise AssertionError(f"{first} never started")
