"""Studies through the real API, queue, registry and arrangement worker, with a count in the place of training."""

import io
import json
import signal
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from tests.support.suite import RunningSuite

from nearfirst.client.api import Client
from nearfirst.contracts.studies import StudySpec
from nearfirst.registry.database import Database
from nearfirst.registry.models import EventRow

pytestmark = pytest.mark.slow

TRAINING = "tests.support.scripted_checkpoints:app"
UNITS = "tests.support.scripted_units:app"


@pytest.fixture
def suite(make_suite: Callable[..., RunningSuite]) -> Iterator[RunningSuite]:
    """The API and an arrangement worker; tests start the other workers."""
    running = make_suite()
    running.start_worker("arrangement")
    running.start_api()
    yield running
    running.close()


@pytest.fixture(scope="module")
def shared(make_suite: Callable[..., RunningSuite]) -> RunningSuite:
    """One with all workers, for tests that don't mind what others do there."""
    running = make_suite()
    running.start_worker("arrangement")
    start_workers(running)
    running.start_api()
    return running


@pytest.fixture
def body(suite: RunningSuite, data_files: dict[str, Path]) -> dict[str, Any]:
    return body_of(suite, data_files)


@pytest.fixture
def shared_body(shared: RunningSuite, data_files: dict[str, Path]) -> dict[str, Any]:
    return body_of(shared, data_files)


def body_of(suite: RunningSuite, data_files: dict[str, Path]) -> dict[str, Any]:
    """Three orders, one of them of few rows, each with two seeds."""
    ids = {split: suite.upload(path)["id"] for split, path in data_files.items()}
    return {
        "name": "Which Order",
        "question": "Do a few rows do?",
        "train": ids["train"],
        "test": ids["test"],
        "arrangements": [
            {"label": "as it is", "method": "as_is"},
            {"label": "shuffled", "method": "random"},
            {"label": "few", "method": "round_robin", "limit": 12},
        ],
        "baseline": "shuffled",
        "seeds": [0, 1],
        "training": {
            "model": {"name_or_path": str(suite.home / "models" / "tiny"), "init": "random"},
            "global_batch_size": 4,
            "max_length": 64,
            "max_steps": 20,
            "checkpoint": {"weights_every": 10},
        },
    }


def start_workers(suite: RunningSuite, step_s: float = 0.01) -> None:
    suite.start_worker(TRAINING, "training", SCRIPT_STEP_S=str(step_s))
    suite.start_worker(UNITS, "units")


def nodes_of(suite: RunningSuite, study: str) -> dict[tuple[str, int, str], dict[str, Any]]:
    items = suite.get(f"/studies/{study}/nodes")["items"]
    return {(node["arrangement"], node["seed"], node["kind"]): node for node in items}


def num_successes(suite: RunningSuite, run_ids: set[str]) -> Counter[str]:
    """How often each run has told that it succeeded."""
    database = Database(suite.settings()["database_url"])
    query = select(EventRow).where(EventRow.run_id.in_(run_ids), EventRow.type == "state")
    with database.read() as session:
        told = Counter(row.run_id for row in session.execute(query).scalars() if row.data["state"] == "succeeded")
    database.close()
    return told


def num_runs(suite: RunningSuite) -> dict[str, int]:
    return {path: len(suite.get(f"/{path}?limit=1000")["items"]) for path in ("studies", "train-jobs", "arrangements")}


def report_of(suite: RunningSuite, study: str) -> dict[str, Any]:
    return suite.get(f"/studies/{study}/report")


def wait_until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    give_up = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.1)


def test_a_study_arranges_trains_and_measures_and_says_what_helped(suite: RunningSuite, body: dict[str, Any]) -> None:
    study = suite.post("/studies", body, key="k")
    assert suite.post("/studies", body, key="k") == study
    early = report_of(suite, study)
    assert early["outcomes"] == []
    assert {warning["code"] for warning in early["warnings"]} >= {"not_measured"}
    assert suite.client.get(f"/studies/{study}/figure.svg").status_code == 200
    start_workers(suite)
    done = suite.wait(f"/studies/{study}")
    assert (done["state"], done["progress"]["done"], done["is_paused"]) == ("succeeded", 16, False)
    nodes = nodes_of(suite, study)
    orders = {(label, seed): node["run"] for (label, seed, kind), node in nodes.items() if kind == "arrangement"}
    # A shuffle for each seed; the other orders don't depend on it.
    assert orders["as it is", 0] == orders["as it is", 1]
    assert orders["shuffled", 0] != orders["shuffled", 1]
    assert set(num_successes(suite, {node["run"] for node in nodes.values()}).values()) == {1}

    report = report_of(suite, study)
    outcomes = {outcome["arrangement"]: outcome for outcome in report["outcomes"]}
    # Row i of nine adds i/100 to the checkpoint's number: 0.04 on average; seeds add 0 and 0.1.
    assert outcomes["shuffled"]["steps"] == [10, 20]
    assert outcomes["shuffled"]["mean"] == pytest.approx([0.99, 0.89])
    assert outcomes["few"]["mean"] == pytest.approx([5.99, 5.89])
    effects = {effect["arrangement"]: effect["end"]["mean"] for effect in report["effects"]}
    assert effects == {"as it is": pytest.approx(0.0, abs=1e-9), "few": pytest.approx(5.0)}
    assert {(run["arrangement"], run["seed"], run["tokens"]) for run in report["runs"]} == {
        (label, seed, 2000) for label in ("as it is", "shuffled", "few") for seed in (0, 1)
    }
    assert all(run["receipt_verified"] for run in report["runs"])


def test_the_report_comes_in_every_format_and_the_figure_with_its_numbers(
    shared: RunningSuite, shared_body: dict[str, Any], tmp_path: Path
) -> None:
    panels = [["Similarity"], [], ["Granularity"]]
    for arrangement, shown in zip(shared_body["arrangements"], panels, strict=True):
        arrangement["panels"] = shown
    study = shared.post("/studies", shared_body | {"figure": "similarity"})
    shared.wait(f"/studies/{study}")
    for format, start in {"html": b"<!doctype html>", "md": b"# Which Order", "json": b"{"}.items():
        answer = shared.client.get(f"/studies/{study}/report?format={format}")
        assert answer.status_code == 200
        assert answer.content.startswith(start)
    for format, start in {"svg": b"<?xml", "png": b"\x89PNG", "csv": b"panel,", "json": b"{"}.items():
        answer = shared.client.get(f"/studies/{study}/figure.{format}")
        assert answer.status_code == 200
        assert answer.content.startswith(start), answer.content[:40]
    shown = {panel["title"]: panel["study"] for panel in shared.get(f"/studies/{study}/figure.json")["panels"]}
    assert shown == {"Similarity": "Similarity", "Granularity": "Granularity"}
    archive = shared.client.get(f"/studies/{study}/report?format=zip").content
    names = zipfile.ZipFile(io.BytesIO(archive)).namelist()
    assert names[:3] == ["report.html", "report.md", "report.json"]
    with Client(shared.url) as client:
        written = client.download_study(study, tmp_path / "out")
        assert [path.name for path in written] == names
        assert json.loads((tmp_path / "out" / "report.json").read_text()) == report_of(shared, study)
        assert client.study_report(study, "md").startswith("# Which Order")


def test_a_paused_study_saves_its_training_and_goes_on_from_there(suite: RunningSuite, body: dict[str, Any]) -> None:
    body["training"]["max_steps"] = 60
    body |= {"arrangements": body["arrangements"][:1], "baseline": None}
    study = suite.post("/studies", body)
    start_workers(suite, step_s=0.1)
    job = nodes_of(suite, study)["as it is", 0, "train_job"]["run"]
    wait_until(lambda: ((suite.get(f"/train-jobs/{job}")["progress"] or {}).get("done") or 0) > 5)
    assert suite.client.post(f"/studies/{study}/pause").status_code == 202
    wait_until(lambda: suite.get(f"/train-jobs/{job}")["state"] == "queued")
    held = suite.get(f"/train-jobs/{job}")
    assert held["waits_because"] == "its study is paused"
    time.sleep(2)
    assert suite.get(f"/train-jobs/{job}")["attempt"] == held["attempt"]
    assert suite.get(f"/studies/{study}")["is_paused"]
    assert {node["is_held"] for (_, _, kind), node in nodes_of(suite, study).items() if kind == "train_job"} == {True}
    assert suite.client.post(f"/studies/{study}/resume").status_code == 202
    assert suite.wait(f"/studies/{study}")["state"] == "succeeded"
    begun = [line["line"] for line in suite.get(f"/train-jobs/{job}/logs")["items"]]
    assert begun[0] == "from step 0"
    assert len(begun) == 2
    assert int(begun[1].split()[-1]) > 5


def test_killed_workers_delay_a_study_and_nothing_is_done_twice(suite: RunningSuite, body: dict[str, Any]) -> None:
    study = suite.post("/studies", body)
    start_workers(suite, step_s=0.05)
    wait_until(lambda: suite.get(f"/studies/{study}")["state"] == "running")
    for _ in range(2):
        time.sleep(1)
        for name, place in (("training", TRAINING), ("units", UNITS)):
            suite.signal(name, signal.SIGKILL)
            suite.start_worker(place, name, SCRIPT_STEP_S="0.05")
    done = suite.wait(f"/studies/{study}")
    assert done["state"] == "succeeded", done["error"]
    runs = {node["run"] for node in nodes_of(suite, study).values()}
    assert num_successes(suite, runs) == Counter(runs)


def test_a_seed_is_added_to_a_finished_study(shared: RunningSuite, shared_body: dict[str, Any]) -> None:
    study = shared.post("/studies", shared_body)
    shared.wait(f"/studies/{study}")
    before = {node["run"] for node in nodes_of(shared, study).values()}
    with Client(shared.url) as client:
        client.add_seeds(study, [5])
        assert client.wait(study, timeout_s=60).state == "succeeded"
        assert client.study(study).spec.seeds == [0, 1, 5]
    nodes = nodes_of(shared, study)
    assert set(num_successes(shared, before).values()) == {1}
    assert nodes["as it is", 5, "arrangement"]["run"] == nodes["as it is", 0, "arrangement"]["run"]
    assert report_of(shared, study)["design"]["seeds"] == [0, 1, 5]
    again = shared.client.post(f"/studies/{study}/seeds", json={"seeds": [5]})
    assert again.status_code == 422
    assert "seeds: 5 is one of" in again.json()["detail"]


def test_studies_are_listed_by_state_and_name(shared: RunningSuite, shared_body: dict[str, Any]) -> None:
    shared_body["training"]["max_steps"] = 10_000
    first = shared.post("/studies", shared_body | {"name": "Listed first"})
    second = shared.post("/studies", shared_body | {"name": "100% listed"})
    shared.client.post(f"/studies/{first}/cancel")
    with Client(shared.url) as client:
        assert [study.id for study in client.studies()][-2:] == [first, second]
        assert [study.id for study in client.studies(state="cancelled")] == [first]
        assert [study.id for study in client.studies(name="LISTED f")] == [first]
        assert [study.id for study in client.studies(name="0%")] == [second]
        assert [study.id for study in client.studies(name="_")] == []
        client.cancel(second)
    ended = {node["state"] for (_, _, kind), node in nodes_of(shared, first).items() if kind == "evaluation"}
    assert ended == {"cancelled"}


def test_what_a_study_would_take_is_told_without_queueing_it(shared: RunningSuite, shared_body: dict[str, Any]) -> None:
    before = num_runs(shared)
    with Client(shared.url) as client:
        estimate = client.estimate_study(StudySpec.model_validate(shared_body))
    assert num_runs(shared) == before
    assert (estimate.num_orders, estimate.num_train_jobs, estimate.num_checkpoints) == (4, 6, 12)
    assert (estimate.train_job.steps, estimate.steps) == (20, 120)


def test_a_study_is_estimated_by_the_rows_of_each_order_and_equal_ones_once(
    shared: RunningSuite, shared_body: dict[str, Any]
) -> None:
    num_rows, tasks = shared.get(f"/datasets/{shared_body['train']}")["num_examples"], 6
    shared_body["training"] |= {"max_steps": None, "checkpoint": {"weights_every": 2, "initial_weights": True}}
    shared_body["arrangements"] = [
        {"label": "all", "method": "as_is"},
        {"label": "all again", "method": "as_is"},
        {"label": "few", "method": "random", "limit": 12},
        {"label": "two a task", "method": "as_is", "select": {"per_task": 2, "how": "first"}},
    ]
    found = shared.client.post("/studies?dry_run=true", json=shared_body | {"baseline": None}).json()
    rows = {each["arrangement"]: (each["rows"], each["steps"]) for each in found["arrangements"]}
    steps = -(-num_rows // 4)
    assert rows == {
        "all": (num_rows, steps),
        "all again": (num_rows, steps),
        "few": (12, 3),
        "two a task": (2 * tasks, -(-2 * tasks // 4)),
    }
    assert found["num_train_jobs"] == 6
    assert found["steps"] == 2 * (steps + 3 + 3)
    assert found["train_job"]["steps"] == steps
    assert found["num_checkpoints"] == 2 * (1 + -(-steps // 2) + 1 + 2 + 1 + 2)  # the first, each second, the last
    assert found["obstacles"] == []


def test_what_there_is_no_room_for_is_part_of_a_study_s_estimate(
    shared: RunningSuite, shared_body: dict[str, Any]
) -> None:
    huge = shared.home / "models" / "huge"
    huge.mkdir()
    sizes = {"vocab_size": 10**6, "hidden_size": 10**6, "intermediate_size": 10**7, "num_hidden_layers": 100}
    (huge / "config.json").write_text(json.dumps({"model_type": "llama", "num_attention_heads": 10, **sizes}))
    shared_body["training"]["model"] = {"name_or_path": str(huge), "init": "random"}
    found = shared.client.post("/studies?dry_run=true", json=shared_body)
    assert found.status_code == 200, found.text
    assert "GB are free where they are written" in found.json()["obstacles"][0]
    assert found.json()["checkpoint_bytes"] > 10**12


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"seeds": [1, 1]}, 422, "seeds: 1 is used twice"),
        ({"sedes": [1]}, 422, "sedes"),
        ({"baseline": "none such"}, 422, "wanted one of the labels"),
        ({"train": "ds_none"}, 404, "ds_none"),
        ({"arrangements": [{"label": "too many", "method": "as_is", "limit": 1000}]}, 422, "arrangement 'too many': "),
        ({"figure": "tasks", "figure_tasks": ["no such task"]}, 422, "figure_tasks: the dataset has no task"),
        ({"figure": "tasks"}, 422, "figure_tasks go with figure: tasks"),
    ],
)
def test_a_study_that_can_not_be_is_refused_and_leaves_nothing(
    shared: RunningSuite, shared_body: dict[str, Any], changes: dict[str, Any], status: int, words: str
) -> None:
    if "arrangements" in changes:
        shared_body["baseline"] = None
    before = num_runs(shared)
    answer = shared.client.post("/studies", json=shared_body | changes)
    assert answer.status_code == status, answer.text
    assert words in answer.text
    assert num_runs(shared) == before


def test_a_study_without_a_baseline_is_warned(shared: RunningSuite, shared_body: dict[str, Any]) -> None:
    study = shared.post("/studies", shared_body | {"baseline": None})
    warnings = shared.get(f"/studies/{study}")["warnings"]
    assert any(warning.startswith("baseline: none is given") for warning in warnings)
