"""Jobs on a node group of two "machines" of this one (gloo over the loopback): as on one machine, whatever is killed.

Each machine is a process of its own with its own torchrun; they share the registry, the store and the runs' folder.
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

import psutil
import pytest
from tests.integration.suite.test_kills import dataset_body
from tests.support.services import PostgresServer, RedisServer
from tests.support.suite import RunningSuite, free_port
from tests.support.tiny import make_tiny_llama
from tests.support.trainers import family_of, ranks_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LEASE_S = 8.0
REAPED_S = 5.0
"""A process that has ended is a zombie until its parent looks; a rank that trained on would take far longer."""
EPOCHS, NUM_STEPS = 24, 180
"""60 rows, 8 a step."""
WAIT_S = 300


@pytest.fixture(scope="module")
def suite(
    tmp_path_factory: pytest.TempPathFactory,
    postgres_server: PostgresServer,
    migrated_template: str,
    redis_server: RedisServer,
    data_files: dict[str, Path],
) -> Iterator[RunningSuite]:
    """The API; the workers come with the tests."""
    home = tmp_path_factory.mktemp("home")
    database_url = postgres_server.create_database(template=migrated_template)
    running = RunningSuite(home, database_url, redis_server.url(1), NEARFIRST_LEASE_S=str(LEASE_S))
    texts = data_files["train"].read_text().splitlines()
    make_tiny_llama(home / "models" / "tiny", texts, vocab_size=400, hidden_size=32, layers=1, heads=2)
    running.start_api()
    yield running
    running.close()
    postgres_server.drop_database(database_url)


@pytest.fixture(scope="module")
def datasets(suite: RunningSuite, data_files: dict[str, Path]) -> dict[str, str]:
    return {split: suite.upload(path)["id"] for split, path in data_files.items()}


class Group:
    """A leader and a follower, each of which can be started anew."""

    def __init__(self, suite: RunningSuite) -> None:
        self._suite = suite
        self._settings = {
            "NEARFIRST_NODES": "2",
            "NEARFIRST_NODE_GROUP": "pair",
            "NEARFIRST_RENDEZVOUS": f"127.0.0.1:{free_port()}",
        }
        self._started = 0
        self.names: dict[int, str] = {}

    def start(self, index: int, **settings: str) -> None:
        self._started += 1
        self.names[index] = f"node-{index}-{self._started}"
        self._suite.start_node(self.names[index], index, **self._settings, **settings)

    def start_what_is_missing(self) -> None:
        for index in (0, 1):
            if index not in self.names or not self._suite.is_running(self.names[index]):
                self.start(index)

    def pid(self, index: int) -> int:
        return self._suite.pid(self.names[index])

    def signal(self, index: int, number: Any) -> None:
        self._suite.signal(self.names[index], number)

    def logs(self) -> str:
        return "".join(map(self._suite.log, self.names.values()))


@pytest.fixture(scope="module")
def undisturbed(suite: RunningSuite, datasets: dict[str, str]) -> dict[int, str]:
    """Ids of jobs of 2 and 3 processes that one machine has done."""
    suite.start_worker("training")
    jobs = {processes: submit(suite, datasets, processes) for processes in (2, 3)}
    for job_id in jobs.values():
        assert suite.wait(f"/train-jobs/{job_id}", timeout_s=WAIT_S)["state"] == "succeeded", suite.log("training")
    suite.stop("training")
    return jobs


@pytest.fixture(scope="module")
def pair(suite: RunningSuite, undisturbed: dict[int, str]) -> Group:
    """Two machines that nobody has started yet."""
    return Group(suite)


@pytest.fixture
def group(pair: Group) -> Group:
    """Two machines."""
    pair.start_what_is_missing()
    return pair


def submit(suite: RunningSuite, datasets: dict[str, str], processes: int = 2, **changes: Any) -> str:
    checkpoint = {"weights_every": 50, "state_every": 5}
    body = {"processes": processes, "epochs": EPOCHS, "evaluate": None, "checkpoint": checkpoint, **changes}
    return suite.post("/train-jobs", dataset_body(suite, datasets, **body))


def submit_and_wait_for_steps(suite: RunningSuite, datasets: dict[str, str], step: int, **changes: Any) -> str:
    job_id = submit(suite, datasets, **changes)
    suite.wait_for_metric(job_id, "train_loss", step, WAIT_S)
    return job_id


def wait_for(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def traces(suite: RunningSuite, job_id: str) -> dict[str, Any]:
    """Everything that a job's weights and logs are told by: equal traces are equal bytes."""
    folder = suite.home / "runs" / job_id
    manifests = {path.parent: json.loads(path.read_text()) for path in folder.glob("checkpoints/*/*/manifest.json")}
    return {
        "receipt": suite.get(f"/train-jobs/{job_id}/receipt"),
        "consumed": (folder / "consumed.jsonl").read_text(),
        "losses": suite.get(f"/train-jobs/{job_id}/metrics?name=train_loss&limit=1000")["items"],
        "identity": (folder / "spec.json").read_text(),
        "files": {str(path.relative_to(folder)): manifest["files"] for path, manifest in manifests.items()},
    }


def check_as_undisturbed(suite: RunningSuite, group: Group, job_id: str, reference: str) -> dict[str, Any]:
    done = suite.wait(f"/train-jobs/{job_id}", timeout_s=WAIT_S)
    assert done["state"] == "succeeded", (done["error"], group.logs())
    found, wanted = traces(suite, job_id), traces(suite, reference)
    assert (found["receipt"]["steps"], found["receipt"]["verified"]) == (NUM_STEPS, True)
    assert len(wanted["files"]) >= 5  # weights of four steps and the last states
    assert found == wanted
    return done


@pytest.mark.parametrize("processes", [2, 3])
def test_two_machines_write_the_same_bytes_as_one_with_as_many_ranks(
    suite: RunningSuite, datasets: dict[str, str], group: Group, undisturbed: dict[int, str], processes: int
) -> None:
    job_id = submit(suite, datasets, processes)
    wait_for(lambda: ranks_of(group.pid(0)).keys() == set(range(processes - 1)))
    wait_for(lambda: ranks_of(group.pid(1)).keys() == {processes - 1})
    done = check_as_undisturbed(suite, group, job_id, undisturbed[processes])
    assert done["attempt"] == 1


def test_a_vanished_follower_ends_the_attempt_and_the_next_one_goes_on_from_its_state(
    suite: RunningSuite, datasets: dict[str, str], group: Group, undisturbed: dict[int, str]
) -> None:
    job_id = submit_and_wait_for_steps(suite, datasets, step=25)
    ranks = family_of(group.pid(0)) + family_of(group.pid(1))
    group.signal(1, SIGKILL)
    state = suite.wait(f"/train-jobs/{job_id}", until=("queued",), timeout_s=5 * LEASE_S)
    assert psutil.wait_procs(ranks, timeout=REAPED_S)[1] == []
    assert state["waits_because"] == "group pair waits for its node 1"
    assert "node 1 " in suite.log(group.names[0])
    group.start(1)
    done = check_as_undisturbed(suite, group, job_id, undisturbed[2])
    assert done["attempt"] == 2
    assert done["result"]["resumed_from"] >= 20


def test_a_killed_leader_leaves_no_rank_behind_and_another_one_goes_on(
    suite: RunningSuite, datasets: dict[str, str], group: Group, undisturbed: dict[int, str]
) -> None:
    job_id = submit_and_wait_for_steps(suite, datasets, step=25)
    ranks = family_of(group.pid(0)) + family_of(group.pid(1))
    group.signal(0, SIGKILL)
    assert psutil.wait_procs(ranks, timeout=2 * LEASE_S)[1] == []
    assert suite.get(f"/train-jobs/{job_id}")["attempt"] == 1
    group.start(0)
    done = check_as_undisturbed(suite, group, job_id, undisturbed[2])
    assert done["attempt"] == 2
    assert done["result"]["resumed_from"] >= 20


def test_a_follower_that_is_told_to_end_has_all_ranks_save_the_state_of_one_step(
    suite: RunningSuite, datasets: dict[str, str], group: Group, undisturbed: dict[int, str]
) -> None:
    checkpoint = {"weights_every": 50, "state_every": 50}
    job_id = submit_and_wait_for_steps(suite, datasets, step=12, checkpoint=checkpoint)
    group.signal(1, SIGTERM)
    state = suite.wait(f"/train-jobs/{job_id}", until=("queued",), timeout_s=5 * LEASE_S)
    assert state["attempt"] == 1
    group.start(1)
    done = suite.wait(f"/train-jobs/{job_id}", timeout_s=WAIT_S)
    assert (done["state"], done["attempt"]) == ("succeeded", 2), (done, group.logs())
    assert 12 <= done["result"]["resumed_from"] < 50
    assert traces(suite, job_id)["consumed"] == traces(suite, undisturbed[2])["consumed"]


def test_a_cancelled_job_ends_on_all_machines(suite: RunningSuite, datasets: dict[str, str], group: Group) -> None:
    job_id = submit_and_wait_for_steps(suite, datasets, step=3, epochs=1000)
    ranks = family_of(group.pid(0)) + family_of(group.pid(1))
    assert len(ranks) >= 4
    assert suite.client.post(f"/train-jobs/{job_id}/cancel").status_code == 202
    assert suite.wait(f"/train-jobs/{job_id}", timeout_s=10)["state"] == "cancelled"
    assert psutil.wait_procs(ranks, timeout=REAPED_S)[1] == []


def test_a_follower_that_does_not_see_the_runs_folder_is_named(
    suite: RunningSuite, datasets: dict[str, str], group: Group, tmp_path: Path
) -> None:
    for index in (0, 1):
        group.signal(index, SIGTERM)
    group.start(0, NEARFIRST_RENDEZVOUS_TIMEOUT_S="6")
    group.start(1, NEARFIRST_RUNS_DIR=str(tmp_path))
    job_id = submit(suite, datasets)
    done = suite.wait(f"/train-jobs/{job_id}", timeout_s=WAIT_S)
    assert (done["state"], done["error"]["code"]) == ("failed", "invalid_input"), (done, group.logs())
    assert "NEARFIRST_RUNS_DIR" in done["error"]["detail"]
    assert "node 1" in done["error"]["detail"]
    for index in (0, 1):
        group.signal(index, SIGTERM)
