"""A registry with something in it for every state that the page shows, written as workers write it; no worker runs."""

import json
import math
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nearfirst.contracts.problems import Problem
from nearfirst.contracts.receipts import Receipt, order_digest, planned_steps
from nearfirst.contracts.runs import RunKind
from nearfirst.contracts.training import Checkpoint, CheckpointTier, MetricRow, TrainSpec
from nearfirst.contracts.workers import Gpu, RunOnWorker, WorkerAnnouncement
from nearfirst.registry import records, runs
from nearfirst.registry.database import Database
from nearfirst.registry.models import MetricRecord
from nearfirst.registry.runs import Claim
from nearfirst.registry.workers import announce
from nearfirst.store.artifacts import Store

WORKER = "gpu-node-1:4242"
LEASE_S = 600.0
TASKS = ("entailment", "question answering", "summarisation")
DATASET_DIGEST = "sha256:" + "ab" * 32
_ROWS_BATCH = 5_000


@dataclass(frozen=True)
class PageRegistry:
    """Where it is, and the ids of its train jobs by what they are."""

    database: Database
    store: Store
    jobs: dict[str, str]


def fill(database: Database, store: Store) -> PageRegistry:
    """A job in each state: `succeeded`, `other` (succeeded too), `running`, `empty` (running), `failed`, and so on."""
    jobs = {name: new_job(database, seed) for seed, name in enumerate(("succeeded", "other", "running", "failed"))}
    jobs["cancelled"] = new_job(database, 4)
    jobs["empty"] = new_job(database, 5)
    for name, height in (("succeeded", 1.0), ("other", 1.15)):
        claimed = take(database, jobs[name])
        train(database, claimed, last_step=200, height=height)
        _finish(database, store, claimed)
    running = take(database, jobs["running"])
    train(database, running, last_step=120, height=0.9)
    _announce(database, jobs["running"])
    _fail(database, take(database, jobs["failed"]))
    with database.write() as session:
        runs.request_cancel(session, jobs["cancelled"], RunKind.TRAIN_JOB)
    take(database, jobs["empty"])
    jobs["queued"] = new_job(database, 6, num_gpus=4)
    return PageRegistry(database, store, jobs)


def new_job(database: Database, seed: int, *, num_gpus: int = 0, model: str = "models/tiny-llama") -> str:
    """Queue a job; returns its id."""
    spec = TrainSpec.model_validate(
        {
            "dataset": "ds_0123456789abcdef",
            "model": {"name_or_path": model, "init": "random"},
            "global_batch_size": 16,
            "max_steps": 200,
            "seed": seed,
            "gpus": num_gpus,
            "evaluate": {"test": {"dataset": "ds_fedcba9876543210"}, "every": 10},
        }
    )
    with database.write() as session:
        row, _ = runs.create(session, RunKind.TRAIN_JOB, spec.model_dump(mode="json"), num_gpus=num_gpus)
        return row.id


def take(database: Database, job_id: str) -> Claim:
    """Claim a job as the worker does."""
    with database.write() as session:
        claimed = runs.claim(session, job_id, WORKER, LEASE_S)
    assert claimed is not None
    return claimed


def train(database: Database, claimed: Claim, *, last_step: int, height: float, first_step: int = 1) -> None:
    """Record what training records of these steps: losses that fall, logs, checkpoints, progress."""
    with database.write() as session:
        steps = range(first_step, last_step + 1)
        for start in range(0, len(steps), _ROWS_BATCH // 8):
            part = steps[start : start + _ROWS_BATCH // 8]
            records.record_metrics(session, claimed, [row for step in part for row in _measured(step, height)])
        lines = [f"step {step}: loss {_loss(step, height):.4f}" for step in steps if step % 5 == 0]
        records.append_log(session, claimed, [*(["torch 2.13, 1 process"] if first_step == 1 else []), *lines])
        for step in steps:
            if step % 50 == 0:
                checkpoint = Checkpoint(
                    step=step, tier=CheckpointTier.WEIGHTS, path=f"runs/{claimed.run_id}/weights/{step}",
                    size_bytes=1_234_567 + step, digest="sha256:" + f"{step:064x}", receipt_head=f"{step:064x}",
                )  # fmt: skip
                records.record_checkpoint(session, claimed, checkpoint, is_progress=True)
        eta_s = (200 - last_step) * 0.7
        runs.record_progress(session, claimed, done=last_step, total=200, unit="steps", eta_s=eta_s)


def record_long_curve(database: Database, num_steps: int) -> str:
    """A running job with one loss at each of so many steps; returns its id."""
    job_id = new_job(database, 7)
    take(database, job_id)
    random = np.random.default_rng(0)
    values = 2 + 8 * np.exp(-np.arange(num_steps) / (num_steps / 5)) + 0.3 * random.normal(size=num_steps)
    with database.write() as session:
        rows = (
            {"run_id": job_id, "step": n + 1, "name": "train_loss", "value": float(v)} for n, v in enumerate(values)
        )
        for batch in _batches(rows):
            session.execute(MetricRecord.__table__.insert(), batch)
    return job_id


def _batches(rows: Iterable[dict[str, Any]]) -> Iterable[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _ROWS_BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _loss(step: int, height: float) -> float:
    return height * (1.8 + 7 * math.exp(-step / 45)) + 0.15 * math.sin(step * 1.7)


def _measured(step: int, height: float) -> list[MetricRow]:
    values = {
        "train_loss": _loss(step, height),
        "lr": 1e-3 * (0.55 + 0.45 * math.cos(math.pi * step / 200)),
        "grad_norm": 1.5 + math.sin(step / 9) ** 2,
        "tokens_per_s": 15_000 + 900 * math.sin(step / 5),
        "step_s": 0.7,
    }
    if step == 1 or step % 10 == 0:
        values["test_loss"] = height * (2.1 + 6.5 * math.exp(-step / 50))
        values |= {f"test_loss/{task}": values["test_loss"] * (0.8 + 0.2 * n) for n, task in enumerate(TASKS)}
    return [MetricRow(step=step, name=name, value=value) for name, value in values.items()]


def _finish(database: Database, store: Store, claimed: Claim) -> None:
    ids = [f"example-{n}" for n in range(3_200)]
    arrangement = order_digest(DATASET_DIGEST, ids)
    head = [step.head for step in planned_steps(arrangement, ids, 16, len(ids))][-1]
    receipt = Receipt(
        arrangement_digest=arrangement, dataset_digest=DATASET_DIGEST, global_batch_size=16, num_rows=len(ids),
        steps=200, head=head, verified=True,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / name for name in ("receipt.json", "order.jsonl", "consumed.jsonl")}
        files["receipt.json"].write_text(receipt.model_dump_json())
        files["order.jsonl"].write_text("".join(json.dumps({"id": each}) + "\n" for each in ids))
        files["consumed.jsonl"].write_text("")
        artifact = store.put_artifact(files)
    result = {"receipt": receipt.model_dump(), "steps": 200, "tokens": 1_638_400}
    with database.write() as session:
        runs.finish(session, claimed, result=result, artifact=artifact)


def _fail(database: Database, claimed: Claim) -> None:
    train(database, claimed, last_step=40, height=1.3)
    problem = Problem(
        title="Training diverged", status=500, code="training_failed", detail="step 41: the loss is not a finite number"
    )
    with database.write() as session:
        runs.fail(session, claimed, problem)


def _announce(database: Database, job_id: str) -> None:
    card = {"name": "NVIDIA H100 80GB HBM3", "memory_bytes": 80 * 2**30}
    kinds = {WORKER: [RunKind.TRAIN_JOB], "cpu-node-7:17": [RunKind.ARRANGEMENT, RunKind.EMBEDDING]}
    with database.write() as session:
        for worker, does in kinds.items():
            has_gpus = worker == WORKER
            announcement = WorkerAnnouncement(
                id=worker, host=worker.split(":")[0], version="0.1.0", kinds=does, queues=["training"],
                gpus=[Gpu(id=str(n), **card) for n in range(2)] if has_gpus else [], num_cpus=16, cpu_jobs=1,
            )  # fmt: skip
            announce(session, announcement, [RunOnWorker(run_id=job_id, gpus=["0"])] if has_gpus else [])
