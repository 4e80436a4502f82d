"""The GPU queue on PostgreSQL, Redis and Celery worker processes. The GPUs are names; what a job does with them isn't
looked at, so a small program stands in for training (tests/support/scripted_training.py)."""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support.scripted_training import DYING, HANGING, STEPS, STUBBORN
from tests.support.suite import RunningSuite

from nearfirst.registry import runs
from nearfirst.registry.database import Database

LEASE_S = 3.0
LONG = 6000
"""Steps of a job that doesn't end by itself."""


@pytest.fixture(scope="module")
def suite(make_suite: Callable[..., RunningSuite]) -> RunningSuite:
    """The API alone, with short limits."""
    running = make_suite(
        NEARFIRST_STEP_TIMEOUT_S="1.5",
        NEARFIRST_START_TIMEOUT_S="20",
        NEARFIRST_MAX_CRASHES="1",
        NEARFIRST_UNSERVABLE_S="2",
        NEARFIRST_FORGET_WORKERS_S="4",
        NEARFIRST_REDELIVER_S="1",
    )
    running.start_api()
    return running


StartWorker = Callable[[str, str], None]


@pytest.fixture
def start_worker(suite: RunningSuite) -> Iterator[StartWorker]:
    """Start a worker with GPUs; it is listed on return, and ends with the test."""
    names: list[str] = []

    def start(name: str, gpus: str) -> None:
        suite.start_worker("tests.support.scripted_worker:app", name, NEARFIRST_GPUS=gpus)
        names.append(name)
        give_up = time.monotonic() + 60
        while f"/{suite.pid(name)}/" not in str([worker["id"] for worker in workers(suite)]):
            assert time.monotonic() < give_up, suite.log(name)
            time.sleep(0.1)

    yield start
    for job in suite.get("/train-jobs")["items"]:
        if job["state"] in ("queued", "running"):
            suite.client.post(f"/train-jobs/{job['id']}/cancel")
    for name in names:
        suite.stop(name)


@pytest.fixture(scope="module")
def dataset(suite: RunningSuite, data_files: dict[str, Path]) -> str:
    return str(suite.upload(data_files["train"])["id"])


@pytest.fixture
def submit(suite: RunningSuite, dataset: str) -> Callable[..., str]:
    """Queue a job that does what its seed says; returns its id."""

    def post(does: int = STEPS, steps: int = LONG, **fields: Any) -> str:
        model = {"name_or_path": str(suite.home / "models" / "tiny"), "init": "random"}
        return suite.post(
            "/train-jobs", {"dataset": dataset, "model": model, "seed": does, "max_steps": steps, **fields}
        )

    return post


def workers(suite: RunningSuite) -> list[dict[str, Any]]:
    return [worker for worker in suite.get("/workers")["items"] if worker["is_alive"]]


def job(suite: RunningSuite, job_id: str) -> dict[str, Any]:
    return suite.get(f"/train-jobs/{job_id}")


def ended(suite: RunningSuite, job_id: str) -> dict[str, Any]:
    return suite.wait(f"/train-jobs/{job_id}", timeout_s=60)


def wait_until_under_way(suite: RunningSuite, *job_ids: str, attempt: int = 1) -> None:
    """Until the process of each of these jobs has said what it was given."""
    give_up = time.monotonic() + 60
    for job_id in job_ids:
        while len(visible_devices(suite, job_id)) < attempt:
            assert time.monotonic() < give_up, job(suite, job_id)
            time.sleep(0.05)


def wait_for_reason(suite: RunningSuite, job_id: str, reason: str) -> None:
    give_up = time.monotonic() + 10
    while (because := job(suite, job_id)["waits_because"]) != reason:
        assert time.monotonic() < give_up, because
        time.sleep(0.05)


def visible_devices(suite: RunningSuite, job_id: str) -> list[str]:
    lines = [row["line"] for row in suite.get(f"/train-jobs/{job_id}/logs")["items"]]
    return [line.removeprefix("CUDA_VISIBLE_DEVICES=") for line in lines if line.startswith("CUDA_VISIBLE_DEVICES=")]


def processes_of(suite: RunningSuite, name: str) -> list[psutil.Process]:
    return psutil.Process(suite.pid(name)).children(recursive=True)


def test_jobs_get_gpus_of_their_own_on_workers_that_have_enough(
    suite: RunningSuite, start_worker: StartWorker, submit: Callable[..., str]
) -> None:
    waiting = submit(gpus=1)
    assert job(suite, waiting)["waits_because"] == "no training worker is known"
    start_worker("large", "0,1")
    start_worker("small", "7")
    both = submit(gpus=1)
    third = submit(gpus=1)
    wait_until_under_way(suite, waiting, both, third)
    devices = [visible_devices(suite, job_id) for job_id in (waiting, both, third)]
    assert sorted(devices) == [["0"], ["1"], ["7"]]
    two, three = submit(gpus=2), submit(gpus=3)
    doing = sorted(j for j, seen in zip((waiting, both, third), devices, strict=True) if seen != ["7"])
    wait_for_reason(suite, two, f"needs 2 GPUs; the one worker with 2 is busy with {doing[0]}, {doing[1]}")
    wait_for_reason(suite, three, "asks for 3 GPUs, the largest worker has 2")
    listed = suite.get("/queue")["kinds"]
    assert [queue["kind"] for queue in listed] == ["train_job"]
    running = {run["id"]: run for run in listed[0]["running"]}
    assert [running[j]["gpus"] for j in (waiting, both, third)] == devices
    assert {run["worker"] for run in running.values()} == {worker["id"] for worker in workers(suite)}
    assert [run["id"] for run in listed[0]["waiting"]] == [two, three]
    refused = ended(suite, three)
    assert (refused["state"], refused["error"]["code"]) == ("failed", "no_such_worker")
    assert refused["error"]["detail"] == "asks for 3 GPUs, the largest worker has 2"
    for job_id in doing:
        suite.client.post(f"/train-jobs/{job_id}/cancel")
    wait_until_under_way(suite, two)
    assert visible_devices(suite, two) == ["0,1"]


def test_the_higher_priority_goes_first_and_then_the_older(
    suite: RunningSuite, start_worker: StartWorker, submit: Callable[..., str]
) -> None:
    first = submit(gpus=1, priority=10)
    start_worker("worker", "0")
    wait_until_under_way(suite, first)
    low, old, young, high = (submit(gpus=1, steps=1, priority=priority) for priority in (-1, 0, 0, 5))
    assert job(suite, young)["waits_because"] == "1 job of higher priority and 1 older are ahead"
    suite.client.post(f"/train-jobs/{first}/cancel")
    assert {ended(suite, job_id)["state"] for job_id in (low, old, young, high)} == {"succeeded"}
    database = Database(suite.settings()["database_url"])
    with database.read() as session:
        started = {job_id: runs.get(session, job_id).started_at for job_id in (low, old, young, high)}
    database.close()
    assert sorted(started, key=lambda job_id: str(started[job_id])) == [high, old, young, low]


def test_cancelling_ends_processes_that_ignore_sigterm_and_frees_their_gpus(
    suite: RunningSuite, start_worker: StartWorker, submit: Callable[..., str]
) -> None:
    start_worker("worker", "0,1")
    stubborn, next_one = submit(STUBBORN, gpus=2), submit(steps=2, gpus=2)
    wait_until_under_way(suite, stubborn)
    processes = processes_of(suite, "worker")
    assert len(processes) == 3
    asked = time.monotonic()
    assert suite.client.post(f"/train-jobs/{stubborn}/cancel").status_code == 202
    assert suite.wait(f"/train-jobs/{stubborn}", timeout_s=10)["state"] == "cancelled"
    assert psutil.wait_procs(processes, timeout=max(0.0, 10 - (time.monotonic() - asked)))[1] == []
    assert ended(suite, next_one)["state"] == "succeeded"
    assert visible_devices(suite, next_one) == ["0,1"]


def test_jobs_that_hang_or_die_are_tried_again_and_then_fail_with_what_happened_each_time(
    suite: RunningSuite, start_worker: StartWorker, submit: Callable[..., str]
) -> None:
    start_worker("worker", "0,1")
    hanging, dying = submit(HANGING, gpus=1), submit(DYING, gpus=1)
    hung, died = ended(suite, hanging), ended(suite, dying)
    assert (hung["state"], hung["attempt"], hung["error"]["code"]) == ("failed", 2, "training_hung")
    said = "training hung: no progress for 1.5 s after a step"
    assert hung["error"]["detail"] == (
        f"its process hung or vanished 2 times, the limit is 1: attempt 1: {said}; attempt 2: {said}"
    )
    lines = [row["line"] for row in suite.get(f"/train-jobs/{hanging}/logs")["items"]]
    assert lines.count(f"{said}; its processes are killed") == 2
    assert (died["state"], died["attempt"], died["error"]["code"]) == ("failed", 2, "training_process_died")
    said = "was killed by SIGKILL (signal 9), probably because memory ran out; its last words: no memory is left"
    assert died["error"]["detail"].count(said) == 2
    assert processes_of(suite, "worker") == []


def test_the_jobs_of_a_killed_worker_are_taken_over_within_two_lease_times(
    suite: RunningSuite, start_worker: StartWorker, submit: Callable[..., str]
) -> None:
    start_worker("first", "0,1")
    jobs = [submit(gpus=1), submit(STUBBORN, gpus=1)]
    wait_until_under_way(suite, *jobs)
    start_worker("second", "4,5")
    processes = processes_of(suite, "first")
    suite.signal("first", signal.SIGKILL)
    killed = time.monotonic()
    for job_id in jobs:
        while job(suite, job_id)["attempt"] != 2:
            assert time.monotonic() < killed + 2 * LEASE_S
            time.sleep(0.05)
    wait_until_under_way(suite, *jobs, attempt=2)
    assert sorted(visible_devices(suite, job_id)[-1] for job_id in jobs) == ["4", "5"]
    assert psutil.wait_procs(processes, timeout=1)[1] == []


def test_a_worker_that_is_told_to_end_puts_all_its_jobs_back(
    suite: RunningSuite, start_worker: StartWorker, submit: Callable[..., str]
) -> None:
    start_worker("first", "0,1,2")
    jobs = [submit(gpus=2), submit(gpus=1)]
    wait_until_under_way(suite, *jobs)
    suite.signal("first", signal.SIGTERM)
    assert [job(suite, job_id)["state"] for job_id in jobs] == ["queued", "queued"]
    assert workers(suite) == []
    start_worker("second", "0,1,2")
    wait_until_under_way(suite, *jobs, attempt=2)
    assert [visible_devices(suite, job_id)[-1] for job_id in jobs] == ["0,1", "2"]
