"""Rules of arrangements: what a request must fit, which embeddings it needs, how a run is shown."""

import hashlib

from sqlalchemy.orm import Session

from nearfirst.contracts.arrangements import Arrangement, ArrangementSpec, Method, Representation
from nearfirst.contracts.datasets import Dataset
from nearfirst.contracts.embeddings import EmbeddingSpec
from nearfirst.contracts.problems import InvalidInput, NotReady
from nearfirst.contracts.runs import Progress, RunKind, RunState
from nearfirst.registry import records, runs
from nearfirst.registry.models import RunRow
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store
from nearfirst_arrangement.models import fingerprint, resolve_model

NEEDS_EMBEDDINGS = (Method.WSD, Method.TMA)
"""Methods that rank by similarity."""


def create(
    session: Session, spec: ArrangementSpec, idempotency_key: str | None, settings: Settings, store: Store
) -> RunRow:
    """Queue an arrangement behind the embeddings that it needs, or get the one that has this key.

    Raises:
        NotFound: no such dataset.
        InvalidInput: the limit is above the pool.
        PathNotAllowed, InvalidModel: the encoder's folder.
        IdempotencyConflict: the key was used with another body.
    """
    request = spec.model_dump(mode="json")
    if (found := runs.find_by_key(session, RunKind.ARRANGEMENT, idempotency_key, request)) is not None:
        return found
    train = records.get_dataset(session, spec.train.dataset)
    test = records.get_dataset(session, spec.test.dataset)
    if spec.limit is not None and spec.limit > train.num_examples:
        raise InvalidInput(f"limit: got {spec.limit}, wanted at most the pool's {train.num_examples} rows")
    model = resolve_model(spec.representation.model, settings)
    spec = spec.model_copy(update={"representation": spec.representation.model_copy(update={"model": model})})
    needed = [train, test] if spec.method in NEEDS_EMBEDDINGS else []
    depends_on = [_embedding_run(session, dataset, spec.representation, store).id for dataset in needed]
    row, _ = runs.create(
        session,
        RunKind.ARRANGEMENT,
        spec.model_dump(mode="json"),
        request=request,
        idempotency_key=idempotency_key,
        depends_on=depends_on,
    )
    return row


def embedding_spec(dataset: Dataset, representation: Representation) -> EmbeddingSpec:
    """What embeds a dataset under a representation; also the key under which it is kept."""
    return EmbeddingSpec(
        dataset_digest=dataset.digest,
        representation=representation,
        model_fingerprint=fingerprint(representation.model),
    )


def embedding_key(spec: EmbeddingSpec) -> str:
    """The key that the one embedding run of this content has."""
    return f"content:{hashlib.sha256(runs.canonical_json(spec.model_dump(mode='json')).encode()).hexdigest()}"


def _embedding_run(session: Session, dataset: Dataset, representation: Representation, store: Store) -> RunRow:
    """The run that embeds these rows: one for all who need it, queued again when it failed or its vectors are lost."""
    spec = embedding_spec(dataset, representation)
    row, _ = runs.create(session, RunKind.EMBEDDING, spec.model_dump(mode="json"), idempotency_key=embedding_key(spec))
    is_lost = row.artifact is not None and row.state == RunState.SUCCEEDED and not store.has_artifact(row.artifact)
    if is_lost or row.state in (RunState.FAILED, RunState.CANCELLED):
        row = runs.requeue(session, row.id, RunKind.EMBEDDING, is_lost=is_lost)
    return row


def show(session: Session, row: RunRow) -> Arrangement:
    """A run row as GET /arrangements/{id} answers."""
    result = row.result or {}
    return Arrangement(
        id=row.id,
        state=RunState(row.state),
        progress=progress_of(row),
        spec=ArrangementSpec.model_validate(row.spec),
        digest=result.get("digest"),
        num_rows=result.get("num_rows"),
        num_rounds=result.get("num_rounds"),
        report=result.get("report"),
        error=row.error,
        attempt=row.attempt,
        waits_for=runs.unfinished_dependencies(session, row.id) if row.state == RunState.QUEUED else [],
    )


def progress_of(row: RunRow) -> Progress | None:
    """How far a run is; None before it has said so."""
    if row.progress_done is None or row.progress_unit is None:
        return None
    return Progress(done=row.progress_done, total=row.progress_total, unit=row.progress_unit, eta_s=row.progress_eta_s)


def artifact_of(row: RunRow) -> str:
    """The artifact of a run that has succeeded.

    Raises:
        NotReady: it hasn't.
    """
    if row.state != RunState.SUCCEEDED or row.artifact is None:
        raise NotReady(f"{row.id} has no result: it is {row.state}")
    return row.artifact
