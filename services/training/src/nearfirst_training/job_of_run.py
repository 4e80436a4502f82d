"""From a train job in the registry to the process that does it, on any machine that has the store."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy.orm import Session

from nearfirst.contracts.runs import RunKind
from nearfirst.contracts.training import TrainSettings, TrainSpec
from nearfirst.registry import records, runs
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store
from nearfirst_training.job import TrainingJob

T = TypeVar("T")

JOB_FILE = "launch.json"
"""In the run's folder: the job as the worker that claimed the run starts it."""


class Read(Protocol):
    """Asks the registry something."""

    def __call__(self, query: Callable[[Session], T], /) -> T:
        """What the query returns."""


def job_of_run(spec_of_run: dict[str, Any], read: Read, store: Store, out: Path) -> TrainingJob:
    """The job that a run's spec describes, with files that this machine can read in place of ids."""
    spec = TrainSpec.model_validate(spec_of_run)
    train_id, order, digest = _source(spec, read, store)
    dataset = read(lambda session: records.get_dataset(session, train_id))
    test: dict[str, Any] = {}
    if spec.evaluate is not None:
        selection = spec.evaluate.test
        test_set = read(lambda session: records.get_dataset(session, selection.dataset))
        test = {
            "test_examples": str(store.local_path(test_set.digest)),
            "test_format": "examples",
            "test_tasks": selection.tasks,
            "evaluate_every": spec.evaluate.every,
        }
    settings = {field: getattr(spec, field) for field in TrainSettings.model_fields}
    return TrainingJob(
        settings=TrainSettings(**settings),
        train_examples=str(store.local_path(dataset.digest)),
        train_format="examples",
        dataset_digest=dataset.digest,
        order=order,
        arrangement_digest=digest,
        out=str(out),
        resume=True,
        **test,
    )


def _source(spec: TrainSpec, read: Read, store: Store) -> tuple[str, str | None, str | None]:
    """Dataset id, order file and order digest of what the spec trains on."""
    if spec.arrangement is None:
        assert spec.dataset is not None
        return spec.dataset, None, None
    arrangement = spec.arrangement
    row = read(lambda session: runs.get(session, arrangement, RunKind.ARRANGEMENT))
    assert row.artifact is not None
    assert row.result is not None
    # Not verified by the store: the training process checks every row, and so can name the step that was changed.
    order = store.artifact_file(row.artifact, "order.jsonl", verify=False)
    return row.spec["train"]["dataset"], str(order), row.result["digest"]


def write_job(job: TrainingJob, path: Path) -> Path:
    """Write a job file; returns its path."""
    path.write_text(job.model_dump_json(indent=2))
    return path


def launch_command(job_file: Path) -> list[str]:
    """The program that does the job of a file, or this machine's part of it."""
    return [sys.executable, "-m", "nearfirst_training.launch", str(job_file)]


def environment_of(settings: Settings, gpus: Sequence[str]) -> dict[str, str]:
    """The environment of a training process that has these GPUs of this machine to itself."""
    # By bus, as nvidia-smi counts them; CUDA's own order begins with the fastest.
    return settings.as_environment() | {
        "CUDA_VISIBLE_DEVICES": ",".join(gpus),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }
