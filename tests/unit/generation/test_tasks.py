"""The generation worker's tasks as runs of a registry: claimed, done, their artifacts stored."""

import json
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from nearfirst.checkpoint_folder import open_checkpoint
from nearfirst.contracts.arrangements import Fidelity
from nearfirst.contracts.evaluations import CheckpointRef, GenerationUnit, TestRows, TextMetricsUnit, UnitResult
from nearfirst.contracts.generation import GenerationSettings
from nearfirst.contracts.runs import RunKind
from nearfirst.data.canonical import write_canonical
from nearfirst.data.example import Example, Message
from nearfirst.queue.app import make_celery
from nearfirst.queue.context import Worker
from nearfirst.queue.execution import execute
from nearfirst.registry import runs
from nearfirst.registry.content_runs import content_run
from nearfirst.registry.database import Database
from nearfirst.registry.migrate import upgrade
from nearfirst.registry.models import RunRow
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store
from nearfirst_generation import tasks
from nearfirst_generation.generate import Generator
from nearfirst_generation.transformers_engine import TransformersEngine


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    settings = Settings(home=tmp_path / "home")
    upgrade(settings.database_url)
    database = Database(settings.database_url)
    store = Store(settings.store_url, tmp_path / "cache")
    yield Worker(settings, database, store, make_celery(settings), threading.Event())
    database.close()


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator(TransformersEngine([Path("/")], device="cpu"))


@pytest.fixture(autouse=True)
def _in_process_engine(monkeypatch: pytest.MonkeyPatch, generator: Generator) -> None:
    monkeypatch.setattr(tasks, "resident_generator", lambda _stopping: generator)


def make_dataset(worker: Worker, folder: Path, words: list[str], *, target: str | None = None) -> str:
    """Nine examples of three tasks in the store; returns their digest."""
    chance = random.Random(8)
    examples = []
    for number in range(9):
        right = chance.choice(words) if target is None else target
        turns = (Message("user", " ".join(chance.choices(words, k=5))), Message("assistant", right))
        examples.append(Example(f"x{number}", f"task{number % 3}", turns, (right,), {"category": f"c{number % 2}"}))
    path = folder / "test.jsonl"
    with path.open("wb") as file:
        digest = write_canonical(examples, file)
    worker.store.put_file(path)
    return digest


def unit_of(folder: Path, dataset: str, **test: Any) -> GenerationUnit:
    return GenerationUnit(
        checkpoint=CheckpointRef(step=4, path=str(folder), digest=open_checkpoint(folder).digest),
        test=TestRows(dataset_digest=dataset, **test),
        template="paper",
        settings=GenerationSettings(max_new_tokens=6, batch_size=4),
    )


def generation_run(worker: Worker, unit: GenerationUnit) -> str:
    with worker.database.write() as session:
        return content_run(session, RunKind.GENERATION, unit, worker.store).id


def metrics_run(worker: Worker, unit: TextMetricsUnit) -> str:
    with worker.database.write() as session:
        needed = content_run(session, RunKind.GENERATION, unit.generation, worker.store).id
        return content_run(session, RunKind.TEXT_METRICS, unit, worker.store, depends_on=lambda: [needed]).id


def ended(worker: Worker, run_id: str) -> RunRow:
    with worker.database.read() as session:
        return runs.get(session, run_id)


def lines_of(worker: Worker, row: RunRow, name: str) -> list[dict[str, Any]]:
    assert row.artifact is not None
    path = worker.store.artifact_file(row.artifact, name)
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_generation_unit_stores_the_answers_of_transformers(
    worker: Worker, tmp_path: Path, checkpoints: list[Path], words: list[str]
) -> None:
    dataset = make_dataset(worker, tmp_path, words)
    run_id = generation_run(worker, unit_of(checkpoints[1], dataset, tasks=["task0", "task2"]))
    execute(worker, run_id, tasks.generate)
    row = ended(worker, run_id)
    assert row.state == "succeeded", row.error
    answers = lines_of(worker, row, "predictions.jsonl")
    assert [(answer["index"], answer["id"]) for answer in answers] == [
        (index, f"x{index}") for index in (0, 2, 3, 5, 6, 8)
    ]
    assert {answer["weight_version"] for answer in answers} == {"step-000002/step-4"}
    assert {answer["weight_digest"] for answer in answers} == {open_checkpoint(checkpoints[1]).digest}
    model = AutoModelForCausalLM.from_pretrained(checkpoints[1])
    tokenizer = AutoTokenizer.from_pretrained(checkpoints[1])
    examples = [json.loads(line) for line in worker.store.local_path(dataset).read_text().splitlines()]
    for answer in answers:
        asked = examples[answer["index"]]["turns"][0]["content"]
        ids = tokenizer(f"<s>User: {asked}\nAssistant: ", add_special_tokens=False, return_tensors="pt").input_ids
        written = model.generate(ids, max_new_tokens=6, do_sample=False, pad_token_id=1)[0, ids.shape[1] :]
        assert answer["completion"] == tokenizer.decode(written, skip_special_tokens=True)
    result = UnitResult.model_validate(row.result)
    assert result.metrics == []
    assert result.details["engine"] == "transformers"
    assert (result.details["device"], result.details["precision"]) == ("cpu", "float32")
    assert (row.progress_done, row.progress_total, row.progress_unit) == (6, 6, "examples")


def test_a_checkpoint_that_was_deleted_fails_its_unit_and_the_next_one_succeeds(
    worker: Worker, tmp_path: Path, checkpoints: list[Path], words: list[str]
) -> None:
    dataset = make_dataset(worker, tmp_path, words)
    doomed = tmp_path / "step-000009"
    shutil.copytree(checkpoints[0], doomed)
    ids = [generation_run(worker, unit_of(folder, dataset)) for folder in (doomed, checkpoints[1])]
    shutil.rmtree(doomed)
    for run_id in ids:
        execute(worker, run_id, tasks.generate)
    failed, succeeded = (ended(worker, run_id) for run_id in ids)
    assert failed.error is not None
    assert (failed.state, failed.error["code"]) == ("failed", "invalid_model")
    assert f"checkpoint {doomed} isn't there; it may have been deleted" in failed.error["detail"]
    assert succeeded.state == "succeeded"


def test_text_metrics_measure_the_answers_that_they_waited_for(
    worker: Worker, tmp_path: Path, checkpoints: list[Path], words: list[str]
) -> None:
    dataset = make_dataset(worker, tmp_path, words, target=" ".join(words))
    generation = unit_of(checkpoints[0], dataset)
    unit = TextMetricsUnit(generation=generation, tokenizer="rouge", fidelity=Fidelity.CORRECTED)
    run_id = metrics_run(worker, unit)
    execute(worker, run_id, tasks.measure_text)
    assert ended(worker, run_id).state == "queued"  # its answers aren't there yet
    execute(worker, generation_run(worker, generation), tasks.generate)
    execute(worker, run_id, tasks.measure_text)
    row = ended(worker, run_id)
    assert row.state == "succeeded", row.error
    rows = lines_of(worker, row, "text_metrics.jsonl")
    assert [each["index"] for each in rows] == list(range(9))
    result = UnitResult.model_validate(row.result)
    summaries = {summary.metric: summary for summary in result.metrics}
    assert set(summaries) == {"rouge1", "rougeL", "exact_match"}
    for metric, summary in summaries.items():
        values = [each[metric] for each in rows]
        assert summary.value == pytest.approx(sum(values) / 9)
        assert summary.by_task["task1"] == pytest.approx(sum(values[1::3]) / 3)
        assert summary.by_category["c1"] == pytest.approx(sum(values[1::2]) / 4)
    assert summaries["rouge1"].value > 0


def test_a_test_set_without_references_fails_its_unit_with_that_reason(
    worker: Worker, tmp_path: Path, checkpoints: list[Path], words: list[str]
) -> None:
    generation = unit_of(checkpoints[0], make_dataset(worker, tmp_path, words, target=" "))
    unit = TextMetricsUnit(generation=generation, tokenizer="rouge", fidelity=Fidelity.CORRECTED)
    run_id = metrics_run(worker, unit)
    execute(worker, generation_run(worker, generation), tasks.generate)
    execute(worker, run_id, tasks.measure_text)
    row = ended(worker, run_id)
    assert row.error is not None
    assert (row.state, row.error["code"]) == ("failed", "no_references")
    assert "of 9 examples 9 have no reference" in row.error["detail"]


def test_an_idle_worker_has_imported_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "import json, sys, nearfirst_generation.worker as worker;"
        "tasks = [name for name in worker.app.tasks if name.startswith('nearfirst')];"
        "print(json.dumps([sorted(sys.modules), sorted(tasks)]))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True)
    imported, known = json.loads(ended.stdout)
    assert not {"torch", "transformers", "peft", "nltk", "rouge_score", "scipy"} & set(imported)
    assert known == ["nearfirst.generate", "nearfirst.measure_text"]
