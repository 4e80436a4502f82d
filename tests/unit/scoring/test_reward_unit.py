"""The reward unit of a checkpoint: claimed, judged and reported on a SQLite registry and a real store."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from nearfirst.checkpoint_folder import open_checkpoint
from nearfirst.contracts.evaluations import CheckpointRef, GenerationUnit, RewardRow, RewardUnit, TestRows, UnitResult
from nearfirst.contracts.generation import GeneratedRow, GenerationSettings
from nearfirst.contracts.runs import RunKind
from nearfirst.data.canonical import write_canonical
from nearfirst.data.example import Example, Message
from nearfirst.queue.app import make_celery
from nearfirst.queue.context import Worker
from nearfirst.queue.execution import execute
from nearfirst.registry import runs
from nearfirst.registry.database import Database
from nearfirst.registry.migrate import upgrade
from nearfirst.registry.models import RunRow
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store
from nearfirst_scoring import opening, patient_client, tasks
from nearfirst_scoring.answers import summarize
from nearfirst_scoring.app import make_app
from nearfirst_scoring.resident import ResidentModel
from nearfirst_scoring.settings import ScoringSettings

DIGEST = f"sha256:{'1' * 64}"
QUESTIONS = ["What is 2 + 2?", "Say it", "Translate to French: the cat sits", "Summarize the river", "Say nothing"]
TASKS = ["sums", "words", "words", "words", "words"]
CATEGORIES = ["maths", None, "language", "language", None]
ANSWERS = ["4", "", "le chat est assis", "", "river " * 90]
TOO_LONG = 3


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    settings = Settings(home=tmp_path)
    upgrade(settings.database_url)
    database = Database(settings.database_url)
    store = Store(settings.store_url, tmp_path / "cache")
    yield Worker(settings, database, store, make_celery(settings), threading.Event())
    database.close()


@pytest.fixture
def resident(monkeypatch: pytest.MonkeyPatch) -> Callable[[ScoringSettings], ResidentModel]:
    """Give the task a resident model of the test's own."""

    def use(settings: ScoringSettings) -> ResidentModel:
        model = ResidentModel(settings)
        monkeypatch.setattr(tasks, "resident_model", lambda: model)
        return model

    use(ScoringSettings())
    return use


def example(row: int) -> Example:
    turns = (Message("system", "Be brief."), Message("user", QUESTIONS[row]), Message("assistant", "right"))
    meta = {} if CATEGORIES[row] is None else {"category": CATEGORIES[row]}
    return Example(f"x{row}", TASKS[row], turns, ("right",), meta)


def stored_dataset(worker: Worker, folder: Path) -> str:
    path = folder / "test.jsonl"
    with path.open("wb") as file:
        write_canonical([example(row) for row in range(len(QUESTIONS))], file)
    return worker.store.put_file(path).digest


def generation_run(worker: Worker, folder: Path, unit: GenerationUnit, rows: list[int]) -> str:
    """A generation unit that has ended, with the answers of these rows."""
    lines = [
        GeneratedRow(
            index=row,
            id=f"x{row}",
            task=TASKS[row],
            weight_version="job/step-10",
            weight_digest=DIGEST,
            completion=ANSWERS[row],
            num_tokens=len(ANSWERS[row]),
            finish_reason="prompt_too_long" if row == TOO_LONG else "stop",
        ).model_dump_json()
        for row in rows
    ]
    path = folder / "predictions.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines))
    artifact = worker.store.put_artifact({"predictions.jsonl": path})
    with worker.database.write() as session:
        row, _ = runs.create(session, RunKind.GENERATION, unit.model_dump(mode="json"))
        claimed = runs.claim(session, row.id, "w", 30)
        assert claimed is not None
        runs.finish(session, claimed, result={}, artifact=artifact)
        return row.id


def judged(worker: Worker, folder: Path, model: Path, /, *, rows: list[int] | None = None, **fields: Any) -> RunRow:
    """The run of a reward unit, after a worker has taken it."""
    generation = GenerationUnit(
        checkpoint=CheckpointRef(step=10, path="/checkpoints/10", digest=DIGEST),
        test=TestRows(dataset_digest=stored_dataset(worker, folder)),
        template="paper",
        settings=GenerationSettings(),
    )
    wanted = {"template": "card", "max_length": 64, "precision": "fp32"} | fields
    wanted = {"model": str(model), "model_fingerprint": open_checkpoint(model).digest} | wanted
    unit = RewardUnit.model_validate({"generation": generation} | wanted)
    needed = generation_run(worker, folder, generation, list(range(len(QUESTIONS))) if rows is None else rows)
    with worker.database.write() as session:
        row, _ = runs.create(session, RunKind.REWARD, unit.model_dump(mode="json"), depends_on=[needed])
    execute(worker, row.id, tasks.score)
    with worker.database.read() as session:
        return runs.get(session, row.id)


def rows_of(worker: Worker, run: RunRow) -> list[RewardRow]:
    assert run.artifact is not None
    lines = worker.store.artifact_file(run.artifact, "rewards.jsonl").read_text().splitlines()
    return [RewardRow.model_validate_json(line) for line in lines]


def expected_rewards(judge: Callable[..., list[float]]) -> list[float]:
    return judge([f"Human: {one}\n\nAssistant: {two}" for one, two in zip(QUESTIONS, ANSWERS, strict=True)], 64)


def test_each_answer_gets_the_reward_of_its_first_user_turn(
    worker: Worker, resident: object, reward_folder: Path, tmp_path: Path, judge: Callable[..., list[float]]
) -> None:
    run = judged(worker, tmp_path, reward_folder)
    assert run.state == "succeeded", run.error
    rewards = expected_rewards(judge)
    found = rows_of(worker, run)
    assert [(row.index, row.id, row.task) for row in found] == [(n, f"x{n}", TASKS[n]) for n in range(5)]
    assert [row.is_truncated for row in found] == [False, False, False, False, True]
    assert found[TOO_LONG].reward is None
    for n in (0, 1, 2, 4):
        assert found[n].reward == pytest.approx(rewards[n], abs=1e-4)
    (summary,) = UnitResult.model_validate(run.result).metrics
    assert (summary.metric, summary.num_examples, summary.num_left_out) == ("reward", 4, 1)
    assert summary.value == pytest.approx(sum(rewards[n] for n in (0, 1, 2, 4)) / 4, abs=1e-4)
    assert summary.by_task == pytest.approx(
        {"sums": rewards[0], "words": (rewards[1] + rewards[2] + rewards[4]) / 3}, abs=1e-4
    )
    assert summary.by_category == pytest.approx({"maths": rewards[0], "language": rewards[2]}, abs=1e-4)


def test_what_judged_is_recorded_with_the_unit(
    worker: Worker, resident: object, reward_folder: Path, tmp_path: Path
) -> None:
    run = judged(worker, tmp_path, reward_folder, template="paper")
    details = UnitResult.model_validate(run.result).details
    assert (details["model"], details["template"], details["max_length"]) == (str(reward_folder), "paper", 64)
    assert (details["adds_bos"], details["adds_eos"], details["truncation_side"]) == (True, False, "right")
    assert (details["trunk_precision"], details["engine"], details["num_truncated"]) == ("fp32", "transformers", 1)
    assert str(details["weights_digest"]).startswith("sha256:")


def test_the_model_stays_loaded_between_units(
    worker: Worker,
    resident: object,
    reward_folder: Path,
    make_folder: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[str] = []
    open_model = opening.open_model

    def counted(model: str, **fields: Any) -> opening.OpenedModel:
        opened.append(model)
        return open_model(model, **fields)

    monkeypatch.setattr(opening, "open_model", counted)
    other = make_folder()
    for model in (reward_folder, reward_folder, other, reward_folder):
        run = judged(worker, tmp_path, model)
        assert run.state == "succeeded", run.error
    judged(worker, tmp_path, reward_folder, template="paper", max_length=32)
    assert opened == [str(reward_folder), str(other), str(reward_folder)]


def test_a_folder_that_has_changed_is_refused(
    worker: Worker, resident: object, make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_folder()
    assert judged(worker, tmp_path, folder).state == "succeeded"
    before = open_checkpoint(folder).digest
    (folder / "manifest.json").write_text(json.dumps({"files": {}}))
    run = judged(worker, tmp_path, folder, model_fingerprint=before)
    assert run.state == "failed"
    assert run.error is not None
    assert run.error["code"] == "invalid_model"
    assert "has changed since the evaluation was asked for" in run.error["detail"]


@pytest.mark.parametrize("rows", [[0, 2, 1], [], [0, 1, 2, 3]])
def test_answers_of_other_rows_are_refused(
    worker: Worker, resident: object, reward_folder: Path, tmp_path: Path, rows: list[int]
) -> None:
    run = judged(worker, tmp_path, reward_folder, rows=rows)
    assert run.error is not None
    assert run.error["code"] == "corrupt_artifact"
    assert f"{len(rows)} answers aren't those of the 5 test rows" in run.error["detail"]


def test_where_no_prompt_fits_there_is_no_mean() -> None:
    row = RewardRow(index=0, id="x0", task="sums", reward=None, is_truncated=False)
    summary = summarize([example(0)], [row])
    assert (summary.value, summary.num_examples, summary.num_left_out) == (None, 0, 1)
    assert (summary.by_task, summary.by_category) == ({}, {})


class TestThroughAServer:
    """NEARFIRST_SCORING_URL is set: the real application answers, in this process."""

    @pytest.fixture
    def server(self, reward_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
        served = ScoringSettings(model=str(reward_folder), max_length=64, precision="fp32")
        with TestClient(make_app(Settings(home=tmp_path / "server"), served)) as client:
            monkeypatch.setattr(patient_client.httpx, "Client", lambda **_: client)
            yield client

    @pytest.fixture
    def asks_server(self, resident: Callable[[ScoringSettings], ResidentModel]) -> None:
        resident(ScoringSettings(scoring_url="http://testserver", give_up_s=1))

    @pytest.mark.usefixtures("server", "asks_server")
    def test_its_rewards_are_the_same(
        self, worker: Worker, reward_folder: Path, tmp_path: Path, judge: Callable[..., list[float]]
    ) -> None:
        run = judged(worker, tmp_path, reward_folder)
        assert run.state == "succeeded", run.error
        rewards = expected_rewards(judge)
        found = rows_of(worker, run)
        assert [row.reward is None for row in found] == [False, False, False, True, False]
        assert [found[n].reward for n in (0, 1, 2, 4)] == pytest.approx([rewards[n] for n in (0, 1, 2, 4)], abs=1e-4)
        assert [row.is_truncated for row in found] == [False, False, False, False, True]

    @pytest.mark.usefixtures("server", "asks_server")
    @pytest.mark.parametrize(
        ("wanted", "message"),
        [
            ({"template": "paper"}, "its template is card, the unit wants paper"),
            ({"max_length": 32}, "its max_length is 64, the unit wants 32"),
            ({"precision": "bf16"}, "its precision is fp32, the unit wants bf16"),
            ({"model_fingerprint": DIGEST}, f"the unit wants {DIGEST}"),
            ({"model": "openbmb/UltraRM-13b", "model_fingerprint": None}, "the unit wants openbmb/UltraRM-13b"),
        ],
    )
    def test_a_server_that_judges_in_another_way_is_refused(
        self, worker: Worker, reward_folder: Path, tmp_path: Path, wanted: dict[str, Any], message: str
    ) -> None:
        run = judged(worker, tmp_path, reward_folder, **wanted)
        assert run.state == "failed"
        assert run.error is not None
        assert run.error["code"] == "state_conflict"
        assert message in run.error["detail"]

    @pytest.mark.usefixtures("asks_server")
    def test_a_server_that_is_not_there_is_named(self, worker: Worker, reward_folder: Path, tmp_path: Path) -> None:
        run = judged(worker, tmp_path, reward_folder)
        assert run.error is not None
        assert run.error["code"] == "unavailable"
        assert "scoring server at http://testserver can't be used" in run.error["detail"]
