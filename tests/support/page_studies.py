"""Studies and evaluations in a registry, as far as a test wants them: what workers would write, written directly.

Losses are invented: they fall with the step to a level of each arrangement's own.
"""

import json
import math
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tests.support.page_registry import LEASE_S, WORKER

from nearfirst.checkpoint_folder import open_checkpoint
from nearfirst.contracts.evaluations import UNIT_OF_KIND, MetricName, MetricSummary, UnitResult, checkpoint_of
from nearfirst.contracts.problems import Problem
from nearfirst.contracts.receipts import Receipt
from nearfirst.contracts.runs import RunKind
from nearfirst.contracts.studies import StudyNode, StudySpec
from nearfirst.contracts.training import Checkpoint, CheckpointTier, MetricRow
from nearfirst.data.test_rows import TestRow, read_test_rows
from nearfirst.queue.app import make_celery
from nearfirst.queue.context import RunContext, Worker
from nearfirst.registry import evaluations, records, runs, study_states
from nearfirst.registry.database import Database
from nearfirst.registry.models import RunRow
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store
from nearfirst_arrangement.datasets import service as datasets
from nearfirst_arrangement.evaluations import repository as evaluation_queries
from nearfirst_arrangement.evaluations.examples import FILES
from nearfirst_arrangement.studies import service
from nearfirst_arrangement.tasks import arrange_datasets

ENDS = {"nearest first": 1.72, "random": 1.94, "farthest first": 2.11}
"""Where the loss of each arrangement ends."""
_METHODS = {"nearest first": "as_is", "random": "random", "farthest first": "round_robin"}
_TASKS = ("entailment", "question answering", "summarisation", "translation")
_WORDS = ("the", "mill", "stood", "by", "a", "slow", "river", "and", "its", "wheel", "had", "not", "turned")
_START = 6.4
_METRICS_OF = {
    RunKind.LOSS: [MetricName.LOSS],
    RunKind.GENERATION: [],
    RunKind.TEXT_METRICS: [MetricName.ROUGE1, MetricName.ROUGEL, MetricName.EXACT_MATCH],
}


@dataclass
class StudyMaker:
    """Makes studies in a registry, and does their workers' work.

    Args:
        settings: of the suite whose registry it is.
        database: the registry.
        store: its artifacts.
        every: steps between checkpoints; a training has 60.
    """

    settings: Settings
    database: Database
    store: Store
    every: int = 10
    _datasets: dict[str, str] = field(default_factory=dict)

    def dataset(self, name: str, num_rows: int) -> str:
        """The id of a dataset of instructions and answers, made once."""
        if name not in self._datasets:
            rows = (json.dumps(_example(name, number)) + "\n" for number in range(num_rows))
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"{name}.jsonl"
                path.write_text("".join(rows))
                found = datasets.register_file(
                    path, split=None, name=name, settings=self.settings, database=self.database, store=self.store
                )
            self._datasets[name] = found.id
        return self._datasets[name]

    def spec(self, name: str, **fields: Any) -> StudySpec:
        """Three orders; `fields` replace those of the spec."""
        model = self.settings.home / "models" / "tiny-llama"
        if not model.exists():
            model.mkdir(parents=True)
            (model / "config.json").write_text(json.dumps({"model_type": "llama"}))
        given = {
            "name": name,
            "question": "Does training on the nearest examples first lower the loss on unseen tasks?",
            "train": {"dataset": self.dataset("instructions, train", 240)},
            "test": {"dataset": self.dataset("instructions, test", 40)},
            "arrangements": [{"label": label, "method": method} for label, method in _METHODS.items()],
            "baseline": "random",
            "seeds": [0, 1, 2],
            "training": {
                "model": {"name_or_path": str(model), "init": "random"},
                "global_batch_size": 4,
                "max_length": 64,
                "max_steps": 60,
                "checkpoint": {"weights_every": self.every},
            },
            "evaluation": {"metrics": ["loss", "rouge1", "rougeL", "exact_match"]},
        }
        return StudySpec.model_validate(given | fields)

    def submit(self, spec: StudySpec) -> str:
        """Queue a study; returns its id."""
        with self.database.write() as session:
            return service.create(session, spec, None, self.settings, self.store).id

    def nodes(self, study: str) -> list[StudyNode]:
        """All nodes of a study, seed by seed."""
        with self.database.read() as session:
            return service.nodes_page(session, study, 0, 1000)[0]

    def finish(self, study: str) -> None:
        """Do all that a study needs."""
        for node in self.nodes(study):
            if node.kind is RunKind.ARRANGEMENT:
                self.arrange(node.run)
        for node in self.nodes(study):
            if node.kind is RunKind.TRAIN_JOB:
                self.train(node, last_step=60)
        self.measure(study)

    def arrange(self, run_id: str) -> None:
        """Do what the arrangement worker does, once."""
        if (claimed := self._claim(run_id)) is None:
            return
        worker = Worker(self.settings, self.database, self.store, make_celery(self.settings), threading.Event())
        done = arrange_datasets(RunContext(worker, claimed, asked_s=time.monotonic()))
        with self.database.write() as session:
            runs.finish(session, claimed, result=done.result, artifact=done.artifact)

    def train(self, node: StudyNode, last_step: int) -> None:
        """Record a training up to a step, with its checkpoints; the 60th is its end."""
        claimed = self._claim(node.run)
        assert claimed is not None
        curve = [MetricRow(step=n, name="train_loss", value=_level(node, n) - 0.1) for n in range(1, last_step + 1)]
        with self.database.write() as session:
            records.record_metrics(session, claimed, curve)
            for step in range(self.every, last_step + 1, self.every):
                records.record_checkpoint(session, claimed, self._weights(node, step), is_progress=True)
            eta_s = 3.0 * (60 - last_step)
            runs.record_progress(session, claimed, done=last_step, total=60, unit="steps", eta_s=eta_s)
            if last_step == 60:
                receipt = Receipt(
                    arrangement_digest="sha256:" + "a" * 64, dataset_digest="sha256:" + "b" * 64, global_batch_size=4,
                    num_rows=240, steps=60, head=f"{node.seed:064x}", verified=True,
                )  # fmt: skip
                result = {"num_tokens": 12_000 + node.seed, "receipt": receipt.model_dump(mode="json")}
                runs.finish(session, claimed, result=result, artifact=None)

    def fail(self, run_id: str, detail: str) -> None:
        """A worker takes the run and fails."""
        claimed = self._claim(run_id)
        assert claimed is not None
        with self.database.write() as session:
            problem = Problem(title="Training failed", status=500, code="training_failed", detail=detail)
            runs.fail(session, claimed, problem)

    def measure(self, study: str, num_steps: int | None = None) -> None:
        """Measure the checkpoints that are there, of each evaluation the first `num_steps`, and settle the study."""
        with self.database.write() as session:
            evaluations.settle(session, self.store)
        for node in self.nodes(study):
            if node.kind is RunKind.EVALUATION:
                self._measure(node, num_steps)
        with self.database.write() as session:
            evaluations.settle(session, self.store)
            study_states.settle(session)

    def _measure(self, node: StudyNode, num_steps: int | None) -> None:
        with self.database.read() as session:
            units = [(unit.step, run) for unit, run in evaluation_queries.list_units(session, node.run, None, 1000)]
        steps = sorted({step for step, _ in units})[:num_steps]
        order = [RunKind.LOSS, RunKind.GENERATION, RunKind.TEXT_METRICS]
        for step, run in sorted(units, key=lambda unit: (unit[0], order.index(RunKind(unit[1].kind)))):
            if step in steps:
                self._measure_unit(node, run)

    def _measure_unit(self, node: StudyNode, run: RunRow) -> None:
        if (claimed := self._claim(run.id)) is None:
            return
        kind = RunKind(run.kind)
        unit = UNIT_OF_KIND[kind].model_validate(run.spec)
        test = getattr(unit, "test", None) or unit.generation.test  # type: ignore[union-attr]
        rows = read_test_rows(self.store.local_path(test.dataset_digest), test)
        step = checkpoint_of(unit).step
        measured = [_measured(kind, row, _level(node, step), step, node.seed) for row in rows]
        summaries = [_summary(metric, measured) for metric in _METRICS_OF[kind]]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / FILES[kind]
            path.write_text("".join(json.dumps(row) + "\n" for row in measured))
            artifact = self.store.put_artifact({FILES[kind]: path})
        result = UnitResult(metrics=summaries, details={"engine": "scripted"}).model_dump(mode="json")
        with self.database.write() as session:
            runs.finish(session, claimed, result=result, artifact=artifact)

    def _claim(self, run_id: str) -> runs.Claim | None:
        with self.database.write() as session:
            return runs.claim(session, run_id, WORKER, LEASE_S)

    def _weights(self, node: StudyNode, step: int) -> Checkpoint:
        folder = self.settings.runs_dir / node.run / f"step-{step:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text("{}")
        (folder / "number").write_text(f"{node.run} {step}")
        digest = open_checkpoint(folder).digest
        return Checkpoint(
            step=step, tier=CheckpointTier.WEIGHTS, path=str(folder), size_bytes=5_394_247, digest=digest,
            receipt_head=f"{step:064x}",
        )  # fmt: skip


@dataclass(frozen=True)
class Seeded:
    """A registry with studies in several states."""

    maker: StudyMaker
    done: str
    """A study that has succeeded."""
    under_way: str
    """Without a baseline: one training has ended, one is under way, one waits."""
    failed: str
    sweeps: list[str]
    """Ten studies of twelve trainings; nothing of them has begun. The first is paused."""

    def run_of(self, study: str, kind: RunKind, arrangement: str) -> str:
        """The id of a study's run, with its first seed."""
        nodes = self.maker.nodes(study)
        return next(node.run for node in nodes if node.kind is kind and node.arrangement == arrangement)


def _example(name: str, number: int) -> dict[str, str]:
    task = _TASKS[number % len(_TASKS)]
    return {
        "task": task,
        "instruction": f"{task.capitalize()}, {name}, number {number}.\n\nSay in one sentence what the text is about.",
        "output": f"It is about {_TASKS[number % 3]} number {number}.",
    }


def _level(node: StudyNode, step: int) -> float:
    end = ENDS.get(node.arrangement, 2.0)
    return end + (_START - end) * math.exp(-step / 14) + 0.03 * node.seed * (1 - math.exp(-step / 14))


def _measured(kind: RunKind, row: TestRow, level: float, step: int, seed: int) -> dict[str, Any]:
    draws = np.random.default_rng([row.index, step, seed])
    loss = level * (0.8 + 0.4 * (row.index * 7 % 10) / 10) + 0.02 * float(draws.normal())
    quality = max(0.0, min(1.0, (_START - loss) / _START))
    fields = {"index": row.index, "id": row.example.id, "task": row.example.task}
    match kind:
        case RunKind.LOSS:
            return fields | {"loss": loss, "num_scored": 9}
        case RunKind.GENERATION:
            words = _answer(row, quality, draws)
            return fields | {
                "weight_version": f"step-{step}", "weight_digest": "sha256:" + "0" * 64, "completion": words,
                "num_tokens": len(words), "finish_reason": "stop" if quality > 0.4 else "length",
            }  # fmt: skip
    return fields | {"rouge1": 90 * quality, "rougeL": 80 * quality, "exact_match": 100.0 * (quality > 0.7)}


def _answer(row: TestRow, quality: float, draws: np.random.Generator) -> str:
    """More of the reference, and less of something else, the better the model."""
    reference = row.example.references[0].split()
    known = round(quality * len(reference))
    return " ".join([*reference[:known], *draws.choice(_WORDS, size=max(0, 9 - known))])


def _summary(metric: MetricName, rows: Sequence[Mapping[str, Any]]) -> MetricSummary:
    by_task: dict[str, list[float]] = {}
    for row in rows:
        by_task.setdefault(row["task"], []).append(row[metric])
    return MetricSummary(
        metric=metric,
        value=float(np.mean([row[metric] for row in rows])),
        by_task={task: float(np.mean(values)) for task, values in by_task.items()},
        num_examples=len(rows),
    )
