"""The loss worker's task on a real registry (SQLite) and store, with checkpoints of a real training run."""

import json
import math
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nearfirst.checkpoint_folder import open_checkpoint
from nearfirst.contracts.evaluations import CheckpointRef, LossRow, LossUnit, TestRows, UnitResult
from nearfirst.contracts.runs import RunKind
from nearfirst.contracts.training import CheckpointSpec, CheckpointTier
from nearfirst.data.dataset import load_dataset, write_canonical
from nearfirst.queue.app import make_celery
from nearfirst.queue.context import RunContext, Worker
from nearfirst.queue.execution import execute
from nearfirst.registry import runs
from nearfirst.registry.database import Database
from nearfirst.registry.migrate import upgrade
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store
from nearfirst_training import loss_tasks
from nearfirst_training.checkpoints import list_checkpoints
from nearfirst_training.loop import train
from nearfirst_training.loss_tasks import measure_loss


@pytest.fixture(autouse=True)
def _a_process_of_its_own():
    loss_tasks._resident.cache_clear()
    loss_tasks._test_rows.cache_clear()


@pytest.fixture
def worker(tmp_path):
    settings = Settings(home=tmp_path / "home", lease_s=60, heartbeat_s=5)
    upgrade(settings.database_url)
    database = Database(settings.database_url)
    store = Store(settings.store_url, tmp_path / "cache")
    yield Worker(settings, database, store, make_celery(settings), threading.Event())
    database.close()


@pytest.fixture
def trained(make_job, test_file):
    """Checkpoints of a run, and its own test losses by step."""
    job = make_job(
        test_examples=str(test_file),
        evaluate_every=2,
        checkpoint=CheckpointSpec(weights_every=2, state_every=None),
    )
    train(job)
    lines = [json.loads(line) for line in (Path(job.out) / "metrics.jsonl").read_text().splitlines()]
    by_step = {}
    for line in lines:
        by_step.setdefault(line["step"], {})[line["name"]] = line["value"]
    return list_checkpoints(Path(job.out) / "checkpoints", CheckpointTier.WEIGHTS), by_step


@pytest.fixture
def make_unit(worker, tmp_path):
    """A unit over a dataset that is put into the store; keywords are fields of LossUnit or of TestRows."""

    def make(checkpoint, data, **fields):
        stored = tmp_path / "canonical.jsonl"
        with stored.open("wb") as file:
            write_canonical(load_dataset(data).examples, file)
        rows = {name: fields.pop(name) for name in list(fields) if name in TestRows.model_fields}
        return LossUnit(
            checkpoint=CheckpointRef(step=checkpoint.step, path=checkpoint.path, digest=checkpoint.digest),
            test=TestRows(dataset_digest=worker.store.put_file(stored).digest, **rows),
            **{"template": "paper", "max_length": 64, "precision": "fp32", "fidelity": "corrected"} | fields,
        )

    return make


@pytest.fixture
def do(worker):
    def run(unit, work=measure_loss):
        with worker.database.write() as session:
            run_id = runs.create(session, RunKind.LOSS, unit.model_dump(mode="json"))[0].id
        execute(worker, run_id, work)
        with worker.database.read() as session:
            return runs.get(session, run_id)

    return run


@pytest.fixture
def read_rows(worker):
    def read(row):
        lines = worker.store.artifact_file(row.artifact, "losses.jsonl").read_text().splitlines()
        return [LossRow.model_validate_json(line) for line in lines]

    return read


def test_a_unit_has_the_loss_that_training_measured_itself(trained, make_unit, do, read_rows, test_file):
    checkpoints, by_step = trained
    for checkpoint in checkpoints:
        row = do(make_unit(checkpoint, test_file))
        assert row.state == "succeeded", row.error
        summary = UnitResult.model_validate(row.result).metrics[0]
        assert summary.value == by_step[checkpoint.step]["test_loss"]
        assert summary.by_task == {
            f"task{number}": by_step[checkpoint.step][f"test_loss/task{number}"] for number in range(3)
        }
        assert (summary.num_examples, summary.num_left_out) == (13, 0)
        losses = read_rows(row)
        assert [each.id for each in losses] == [f"test-{number}" for number in range(13)]
        assert [each.index for each in losses] == list(range(13))
        assert math.fsum(each.loss for each in losses) / 13 == pytest.approx(summary.value, abs=1e-12)
    assert loss_tasks._resident().resident.num_builds == 1


def test_the_details_say_what_else_decides_the_numbers(trained, make_unit, do, test_file):
    import torch
    import transformers

    details = do(make_unit(trained[0][0], test_file, max_length=16)).result["details"]
    assert details["device"] == "cpu"
    assert details["precision"] == "fp32"
    assert (details["torch"], details["transformers"]) == (torch.__version__, transformers.__version__)
    assert details["num_tokens"] == 13 * 16
    assert details["num_truncated"] == 13


def test_progress_counts_examples(trained, make_unit, do, worker, test_file):
    row = do(make_unit(trained[0][0], test_file))
    assert (row.progress_done, row.progress_total, row.progress_unit) == (13, 13, "examples")


def test_rows_keep_their_index_in_the_whole_test_set(trained, make_unit, do, read_rows, test_file):
    whole = read_rows(do(make_unit(trained[0][0], test_file)))
    part = read_rows(do(make_unit(trained[0][0], test_file, tasks=["task1"], num_examples=2, seed=3)))
    assert len(part) == 2
    for row in part:
        assert row.task == "task1"
        assert (row.id, row.num_scored) == (whole[row.index].id, whole[row.index].num_scored)
        assert row.loss == pytest.approx(whole[row.index].loss, abs=1e-6)


def test_categories_are_summed_up_beside_tasks(trained, make_unit, do, read_rows, tmp_path):
    conversations = [
        {
            "prompt": f"river {word}",
            "messages": [{"role": "user", "content": f"river {word}"}, {"role": "assistant", "content": "stone"}],
            "category": category,
        }
        for word, category in [("red", "Coding"), ("green", "Chat"), ("blue", "Coding")]
    ]
    data = tmp_path / "robots.jsonl"
    data.write_text("".join(json.dumps(each) + "\n" for each in conversations))
    row = do(make_unit(trained[0][0], data))
    losses = [each.loss for each in read_rows(row)]
    found = row.result["metrics"][0]["by_category"]
    assert found == {"Chat": losses[1], "Coding": pytest.approx((losses[0] + losses[2]) / 2, abs=1e-12)}


@pytest.mark.parametrize(("fidelity", "num_left_out"), [("corrected", 1), ("paper", 0)])
def test_examples_without_labels_count_as_the_fidelity_says(
    trained, make_unit, do, read_rows, tmp_path, fidelity, num_left_out
):
    data = tmp_path / "long.jsonl"
    pairs = [("red", "blue"), ("river stone " * 60, "blue")]
    data.write_text("".join(json.dumps({"prompt": user, "completion": answer}) + "\n" for user, answer in pairs))
    row = do(make_unit(trained[0][0], data, fidelity=fidelity))
    first, second = read_rows(row)
    assert (second.loss, second.num_scored) == (None, 0)
    summary = row.result["metrics"][0]
    assert summary["num_left_out"] == num_left_out
    assert summary["num_examples"] == 2 - num_left_out
    assert summary["value"] == pytest.approx(first.loss / (2 - num_left_out), abs=1e-12)


def test_another_digest_is_refused(trained, make_unit, do, test_file):
    checkpoint = trained[0][0]
    unit = make_unit(checkpoint.model_copy(update={"digest": "sha256:" + "0" * 64}), test_file)
    row = do(unit)
    assert (row.state, row.error["code"]) == ("failed", "invalid_model")
    assert checkpoint.digest in row.error["detail"]
    assert "sha256:000" in row.error["detail"]


def test_a_deleted_checkpoint_fails_alone(trained, make_unit, do, test_file):
    first, second, third = trained[0]
    units = [make_unit(each, test_file) for each in (first, second, third)]
    shutil.rmtree(second.path)
    states = [do(unit) for unit in units]
    assert [row.state for row in states] == ["succeeded", "failed", "succeeded"]
    assert states[1].error["code"] == "invalid_model"
    assert "may have been deleted" in states[1].error["detail"]


def test_a_checkpoint_deleted_after_it_was_opened_fails_with_that_reason(
    trained, make_unit, do, test_file, monkeypatch
):
    first, second, _ = trained[0]

    def open_and_lose(path):
        found = open_checkpoint(path)
        if path == second.path:
            shutil.rmtree(path)
        return found

    monkeypatch.setattr(loss_tasks, "open_checkpoint", open_and_lose)
    rows = [do(make_unit(each, test_file)) for each in (first, second, first)]
    assert [row.state for row in rows] == ["succeeded", "failed", "succeeded"]
    assert "was deleted while it was being read" in rows[1].error["detail"]


def test_a_worker_that_shuts_down_gives_the_unit_back_and_the_next_one_finishes_it(
    trained, make_unit, do, worker, test_file
):
    unit = make_unit(trained[0][0], test_file)
    undisturbed = do(unit)

    def interrupted(context: RunContext):
        worker.shutting_down.set()
        return measure_loss(context)

    row = do(unit, interrupted)
    worker.shutting_down.clear()
    assert row.state == "queued"
    execute(worker, row.id, measure_loss)
    with worker.database.read() as session:
        again = runs.get(session, row.id)
        assert again.state == "succeeded"
        assert (again.result, again.artifact) == (undisturbed.result, undisturbed.artifact)


def test_an_idle_worker_has_not_imported_torch():
    code = (
        "import sys, nearfirst_training.loss_worker as worker; "
        "assert worker.app.tasks['nearfirst.measure_loss']; "
        "print([name for name in ('torch', 'transformers', 'peft') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
