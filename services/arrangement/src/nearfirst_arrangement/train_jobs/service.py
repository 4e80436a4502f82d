"""Rules of train jobs: what a request must fit, why a job waits, whether its receipt holds."""

import json
from functools import cached_property
from pathlib import Path

from sqlalchemy.orm import Session

from nearfirst.contracts.estimates import TrainEstimate
from nearfirst.contracts.problems import InvalidModel, NotReady, OrderMismatch, StateConflict
from nearfirst.contracts.receipts import Receipt, planned_steps
from nearfirst.contracts.runs import RunKind, RunState
from nearfirst.contracts.training import TrainJob, TrainSpec
from nearfirst.estimates.estimate import refuse_what_does_not_fit
from nearfirst.model_names import is_folder, resolve_model
from nearfirst.registry import records, runs
from nearfirst.registry.dependencies import unfinished_dependencies
from nearfirst.registry.models import RunRow
from nearfirst.registry.results import artifact_of, progress_of
from nearfirst.registry.waiting import Queue
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store
from nearfirst_arrangement.train_jobs import estimates

_MODEL_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def create(session: Session, spec: TrainSpec, idempotency_key: str | None, settings: Settings) -> RunRow:
    """Queue a job behind its arrangement, or get the one that has this key.

    Raises:
        NotFound: no such arrangement or dataset.
        StateConflict: the arrangement has failed or was cancelled.
        PathNotAllowed, InvalidModel: the model's folder.
        DoesNotFit: it needs more memory or disk than there is.
        IdempotencyConflict: the key was used with another body.
    """
    request = spec.model_dump(mode="json")
    if (found := runs.find_by_key(session, RunKind.TRAIN_JOB, idempotency_key, request)) is not None:
        return found
    spec = _checked(session, spec, settings)
    estimates.refuse(session, spec, settings)
    row, _ = runs.create(
        session,
        RunKind.TRAIN_JOB,
        spec.model_dump(mode="json"),
        request=request,
        idempotency_key=idempotency_key,
        depends_on=[] if spec.arrangement is None else [spec.arrangement],
        priority=spec.priority,
        num_gpus=spec.gpus,
    )
    return row


def estimate(session: Session, spec: TrainSpec, settings: Settings, store: Store) -> TrainEstimate:
    """What a job would take; nothing is queued. Raises what `create` raises of the spec."""
    found = measure(session, spec, settings, store)
    refuse_what_does_not_fit(spec, found.estimates)
    return found


def measure(session: Session, spec: TrainSpec, settings: Settings, store: Store) -> TrainEstimate:
    """What a job would take, whether there is room for it or not; else raises what `create` raises of the spec."""
    return estimates.estimate(session, _checked(session, spec, settings), settings, store)


def _checked(session: Session, spec: TrainSpec, settings: Settings) -> TrainSpec:
    """The spec with its model's folder resolved, when all that it names is there."""
    if spec.arrangement is not None:
        arrangement = runs.get(session, spec.arrangement, RunKind.ARRANGEMENT)
        if arrangement.state in (RunState.FAILED, RunState.CANCELLING, RunState.CANCELLED):
            raise StateConflict(f"arrangement {arrangement.id} is {arrangement.state}: there is no order to train on")
    else:
        assert spec.dataset is not None
        records.get_dataset(session, spec.dataset)
    if spec.evaluate is not None:
        records.get_dataset(session, spec.evaluate.test.dataset)
    name = resolve_model(spec.model.name_or_path, settings)
    if is_folder(name) and spec.model.init == "pretrained":
        _require_weights(name)
    return spec.model_copy(update={"model": spec.model.model_copy(update={"name_or_path": name})})


def _require_weights(folder: str) -> None:
    if not any((Path(folder) / name).is_file() for name in _MODEL_WEIGHTS):
        raise InvalidModel(
            f"model folder {folder!r} has no weights: wanted {' or '.join(_MODEL_WEIGHTS)}; "
            "with `init: random` none are needed"
        )


class Shower:
    """Shows jobs; the queue is looked at once, when the first queued job asks why it waits."""

    def __init__(self, session: Session, settings: Settings) -> None:
        self._session = session
        self._settings = settings

    @cached_property
    def _queue(self) -> Queue:
        return Queue(self._session, RunKind.TRAIN_JOB, self._settings.lease_s)

    def show(self, row: RunRow) -> TrainJob:
        """A run row as GET /train-jobs/{id} answers."""
        is_queued = row.state == RunState.QUEUED
        result = row.result or {}
        return TrainJob(
            id=row.id,
            state=RunState(row.state),
            progress=progress_of(row),
            spec=TrainSpec.model_validate(row.spec),
            receipt_head=(result.get("receipt") or {}).get("head"),
            result=row.result,
            error=row.error,
            attempt=row.attempt,
            waits_for=unfinished_dependencies(self._session, row.id) if is_queued else [],
            waits_because=self._queue.why_waits(row) if is_queued else None,
            created_at=row.created_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
        )


def verified_receipt(row: RunRow, order_artifact: str | None, store: Store) -> Receipt:
    """The receipt of a finished job, verified now: its chain is computed again from the order alone.

    Args:
        row: the job.
        order_artifact: artifact of the arrangement that it trained on; None when it trained on a dataset as it is.
        store: has the order and the job's own log.

    Raises:
        NotReady: the job hasn't succeeded.
        OrderMismatch: the order doesn't give the head that training recorded.
    """
    receipt = Receipt.model_validate_json(store.artifact_file(artifact_of(row), "receipt.json").read_bytes())
    path = store.artifact_file(order_artifact or artifact_of(row), "order.jsonl")
    with path.open(encoding="utf-8") as lines:
        ids = [json.loads(line)["id"] for line in lines]
    head = ""
    for step in planned_steps(receipt.arrangement_digest, ids, receipt.global_batch_size, receipt.num_rows):
        head = step.head
    if head != receipt.head:
        raise OrderMismatch(f"{row.id}: the order gives the head {head}, training recorded {receipt.head}")
    return receipt


def order_artifact_of(session: Session, row: RunRow) -> str | None:
    """The artifact of the arrangement that a job trains on; None without one."""
    arrangement_id = row.spec.get("arrangement")
    if arrangement_id is None:
        return None
    return artifact_of(runs.get(session, arrangement_id, RunKind.ARRANGEMENT))


def consumed_artifact(row: RunRow) -> str:
    """The artifact with the job's own log of ids.

    Raises:
        NotReady: the job hasn't succeeded.
    """
    if row.state != RunState.SUCCEEDED:
        raise NotReady(f"{row.id} has no log of ids yet: it is {row.state}")
    return artifact_of(row)
