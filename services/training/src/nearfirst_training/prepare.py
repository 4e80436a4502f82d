"""From a job to what the loop needs: data, plan, model, and a run folder that fits them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nearfirst.contracts.problems import CorruptArtifact, InvalidInput, OrderMismatch
from nearfirst.contracts.progress import ProgressCallback
from nearfirst.contracts.training import TrainSettings
from nearfirst.data.dataset import LoadedDataset, load_dataset
from nearfirst.data.example import Example
from nearfirst.data.order import OrderTable, order_table, read_order, write_order
from nearfirst.data.steps import rows_to_consume
from nearfirst_training.folder import RunFolder, write_json
from nearfirst_training.job import TrainingJob
from nearfirst_training.plan import Plan
from nearfirst_training.provenance import refuse_other_identity

_WITHOUT_EFFECT = {"checkpoint", "log_every", "preset"}


@dataclass(frozen=True)
class JobData:
    """What a job trains on and measures."""

    train: LoadedDataset
    order: OrderTable
    plan: Plan
    test: list[Example] | None
    test_digest: str | None


def load_data(job: TrainingJob, progress: ProgressCallback) -> JobData:
    """Read the training rows, their order and the test rows.

    Raises:
        InvalidDataset: a file can't be read.
        CorruptArtifact: the training rows aren't those of `job.dataset_digest`.
        OrderMismatch: the order isn't whole, or isn't `job.arrangement_digest`; the detail names the step.
    """
    train = load_dataset(Path(job.train_examples), format=job.train_format, split=job.train_split, progress=progress)
    if job.dataset_digest not in (None, train.digest):
        raise CorruptArtifact(f"training rows {job.train_examples} are {train.digest}, not {job.dataset_digest}")
    order = _order_of(job, train)
    plan = _plan_of(order, job.settings, train.digest)
    if job.test_examples is None:
        return JobData(train, order, plan, test=None, test_digest=None)
    test = load_dataset(Path(job.test_examples), format=job.test_format, split=job.test_split, progress=progress)
    return JobData(train, order, plan, test=_of_tasks(test.examples, job.test_tasks), test_digest=test.digest)


def _of_tasks(examples: list[Example], tasks: list[str] | None) -> list[Example]:
    """The examples of some tasks.

    Raises:
        InvalidInput: a task has no example.
    """
    if tasks is None:
        return examples
    unknown = sorted(set(tasks) - {example.task for example in examples})
    if unknown:
        raise InvalidInput(f"test tasks: no example of {', '.join(unknown)}")
    return [example for example in examples if example.task in set(tasks)]


def _order_of(job: TrainingJob, train: LoadedDataset) -> OrderTable:
    """The job's order, or the dataset's own.

    Raises:
        OrderMismatch: the order isn't whole, or isn't `job.arrangement_digest`.
    """
    ids = [example.id for example in train.examples]
    if job.order is not None:
        return read_order(
            Path(job.order),
            dataset_digest=train.digest,
            expected_digest=job.arrangement_digest,
            ids=ids,
            global_batch_size=job.settings.global_batch_size,
        )
    tasks = [example.task for example in train.examples]
    own = order_table(train.digest, np.arange(len(ids), dtype=np.int64), ids=ids, tasks=tasks)
    if job.arrangement_digest not in (None, own.digest):
        raise OrderMismatch(f"step 1: the dataset's own order is {own.digest}, not {job.arrangement_digest}")
    return own


def _plan_of(order: OrderTable, settings: TrainSettings, dataset_digest: str) -> Plan:
    """Cut an order into steps."""
    return Plan(
        dataset_digest=dataset_digest,
        arrangement_digest=order.digest,
        index=order.index,
        ids=order.ids,
        batch_size=settings.global_batch_size,
        num_rows=rows_to_consume(len(order), settings),
    )


def run_identity(job: TrainingJob, data: JobData, model: Any) -> dict[str, Any]:
    """Everything that the weights of a run depend on, and what its test loss is measured on, as JSON.

    What is written or looked at when (`settings.checkpoint`, `log_every`) is no part of it, and neither is the name of
    a preset, whose fields are.
    """
    config = json.loads(model.config.to_json_string(use_diff=False))
    for name in ("transformers_version", "_name_or_path"):
        config.pop(name, None)
    return {
        "dataset_digest": data.plan.dataset_digest,
        "arrangement_digest": data.plan.arrangement_digest,
        "test": {"digest": data.test_digest, "tasks": job.test_tasks},
        "settings": job.settings.model_dump(mode="json", exclude=_WITHOUT_EFFECT),
        "model_config": config,
        "model_commit": getattr(model.config, "_commit_hash", None),
    }


def begin_folder(folder: RunFolder, job: TrainingJob, data: JobData, identity: dict[str, Any]) -> None:
    """Write what describes the run, or check that the run in the folder is this one.

    Raises:
        StateConflict: the folder's run has another order, model or settings; the detail names what differs.
    """
    if folder.spec.is_file():
        refuse_other_identity(json.loads(folder.spec.read_text()), identity)
    folder.path.mkdir(parents=True, exist_ok=True)
    write_json(folder.spec, identity)
    write_json(folder.job, job.model_dump(mode="json"))
    write_json(
        folder.dataset,
        {
            "digest": data.train.digest,
            "format": data.train.format.value,
            "num_examples": len(data.train.examples),
            "num_tasks": data.train.num_tasks,
        },
    )
    write_order(folder.order, data.order)
    folder.receipt.unlink(missing_ok=True)
