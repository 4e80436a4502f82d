"""What a train job would take, from what the registry, the store and the model's folder say."""

import json
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sqlalchemy.orm import Session

from nearfirst.contracts.arrangements import ArrangementSpec
from nearfirst.contracts.estimates import Available, TokenEstimate, TrainEstimate
from nearfirst.contracts.runs import RunKind, RunState
from nearfirst.contracts.training import TrainSettings, TrainSpec
from nearfirst.data.row_file import RowFile
from nearfirst.data.steps import rows_to_consume
from nearfirst.estimates.estimate import MeasuredRate, estimate_training, refuse_what_does_not_fit
from nearfirst.estimates.model_files import ModelFolder, read_model_folder
from nearfirst.estimates.rows import count_tokens_of
from nearfirst.estimates.sizes import num_elements
from nearfirst.registry import records, runs
from nearfirst.registry.models import RunRow
from nearfirst.registry.results import artifact_of
from nearfirst.registry.workers import live_workers
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store
from nearfirst_arrangement.train_jobs import repository

_RECENT_JOBS = 100
"""Jobs among which one of the same size is looked for."""
_RATED_STEPS = 1000
_SAME = ("gpus", "processes", "precision", "tuning", "strategy", "activation_checkpointing", "offload_optimizer")
"""Settings that a job must share for its rate to tell anything."""


class _Order(NamedTuple):
    """What a job trains on, as far as it is known."""

    dataset: str
    """Id of the training dataset."""
    num_rows: int
    artifact: str | None
    """Has order.jsonl; None: there is none, or not yet."""
    is_known: bool
    """Whether `num_rows` is what it will be."""


def estimate(session: Session, spec: TrainSpec, settings: Settings, store: Store) -> TrainEstimate:
    """What a checked job would take, tokens counted.

    Args:
        session: reads only.
        spec: its model's folder is resolved.
        settings: of the suite.
        store: has dataset and order.

    Raises:
        NotFound, CorruptArtifact: the rows can't be read.
    """
    order = _order_of(session, spec)
    model = read_model_folder(spec.model)
    remarks = [] if order.is_known else [_unfinished(order)]
    tokens = _tokens(session, spec, order, store, remarks)
    return estimate_training(
        spec,
        order.num_rows,
        model,
        tokens=tokens,
        rate=_rate(session, spec, model),
        available=_available(session, spec, order, settings),
        remarks=remarks,
    )


def refuse(session: Session, spec: TrainSpec, settings: Settings) -> None:
    """Refuse what `estimate` refuses, without counting a token.

    Raises:
        DoesNotFit: memory or disk is too small, whatever its micro-batches.
    """
    order = _order_of(session, spec)
    found = estimate_training(
        spec,
        order.num_rows,
        read_model_folder(spec.model),
        tokens=None,
        rate=None,
        available=_available(session, spec, order, settings),
        remarks=[],
    )
    refuse_what_does_not_fit(spec, found.estimates)


def _order_of(session: Session, spec: TrainSpec) -> _Order:
    if spec.arrangement is None:
        assert spec.dataset is not None
        return _Order(spec.dataset, records.get_dataset(session, spec.dataset).num_examples, None, is_known=True)
    row = runs.get(session, spec.arrangement, RunKind.ARRANGEMENT)
    arrangement = ArrangementSpec.model_validate(row.spec)
    dataset = arrangement.train.dataset
    if row.state == RunState.SUCCEEDED and row.result is not None:
        return _Order(dataset, int(row.result["num_rows"]), artifact_of(row), is_known=True)
    pool = records.get_dataset(session, dataset).num_examples
    return _Order(dataset, min(pool, arrangement.limit or pool), None, is_known=False)


def _unfinished(order: _Order) -> str:
    return (
        f"the arrangement isn't finished: estimated for {order.num_rows} rows drawn from its dataset, which it may not "
        "keep all; checkpoints aren't held against the disk yet"
    )


def _available(session: Session, spec: TrainSpec, order: _Order, settings: Settings) -> Available:
    disk = _free_bytes(settings.runs_dir) if order.is_known else None
    return Available(gpu_memory_bytes=_gpu_memory(session, spec.gpus, settings), disk_bytes=disk)


def _gpu_memory(session: Session, num_gpus: int, settings: Settings) -> int | None:
    """Of the smallest GPU that a job would get on the worker that is best for it; None where no worker says."""
    rooms = []
    for worker in live_workers(session, settings.lease_s, RunKind.TRAIN_JOB):
        memories = sorted((gpu.memory_bytes for gpu in worker.gpus if gpu.memory_bytes is not None), reverse=True)
        if 0 < num_gpus <= len(memories):
            rooms.append(memories[num_gpus - 1])
    return max(rooms, default=None)


def _free_bytes(folder: Path) -> int:
    """Free where the folder is, or will be made."""
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    return shutil.disk_usage(existing).free


def _tokens(session: Session, spec: TrainSpec, order: _Order, store: Store, remarks: list[str]) -> TokenEstimate | None:
    """Count or measure; what is to be said of it goes to `remarks`."""
    dataset = records.get_dataset(session, order.dataset)
    num_rows = rows_to_consume(order.num_rows, spec)
    rows = RowFile(store.local_path(dataset.digest))
    return count_tokens_of(rows, _index(spec, order, len(rows), store), num_rows, spec, remarks)


def _index(spec: TrainSettings, order: _Order, num_examples: int, store: Store) -> npt.NDArray[np.int64]:
    """Rows of the dataset in the order of training; drawn at random while an arrangement hasn't chosen them."""
    if order.artifact is not None:
        with store.artifact_file(order.artifact, "order.jsonl").open(encoding="utf-8") as lines:
            return np.array([json.loads(line)["index"] for line in lines], dtype=np.int64)
    if order.is_known:
        return np.arange(num_examples, dtype=np.int64)
    return np.random.default_rng(spec.seed).permutation(num_examples)[: order.num_rows].astype(np.int64)


def _rate(session: Session, spec: TrainSpec, model: ModelFolder) -> MeasuredRate | None:
    """What the newest job of the same size on as many devices has measured."""
    if model.tensors is None:
        return None
    num_parameters = num_elements(model.tensors)
    for row in repository.recent_jobs(session, _RECENT_JOBS):
        if not _is_alike(row, spec, num_parameters):
            continue
        rates: Sequence[float] = repository.latest_rates(session, row.id, _RATED_STEPS)
        if rates:
            return MeasuredRate(row.id, statistics.median(rates), len(rates))
    return None


def _is_alike(row: RunRow, spec: TrainSpec, num_parameters: int) -> bool:
    earlier: dict[str, Any] = row.spec
    if any(earlier.get(name) != getattr(spec, name) for name in _SAME):
        return False
    tensors = read_model_folder(TrainSpec.model_validate(earlier).model).tensors
    return tensors is not None and num_elements(tensors) == num_parameters
