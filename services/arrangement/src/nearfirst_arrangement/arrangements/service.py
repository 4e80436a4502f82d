"""Rules of arrangements: what a request must fit, which embeddings it needs, how a run and its result are shown."""

import logging
from pathlib import Path

from sqlalchemy.orm import Session

from nearfirst.contracts.arrangements import Arrangement, ArrangementSpec, Representation
from nearfirst.contracts.datasets import Dataset
from nearfirst.contracts.exports import ExportFileType, ExportFormat
from nearfirst.contracts.problems import CorruptArtifact, NotFound
from nearfirst.contracts.reports import ArrangementReport, ReportedArrangement, SimilarityCurve
from nearfirst.contracts.runs import RunKind, RunState
from nearfirst.registry import records, runs
from nearfirst.registry.dependencies import all_unfinished_dependencies
from nearfirst.registry.embedding_runs import embedding_run, resolve_representation
from nearfirst.registry.models import RunRow
from nearfirst.registry.results import artifact_of, progress_of
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store
from nearfirst_arrangement.exports import ExportedFile, export_arrangement
from nearfirst_arrangement.feasibility import KnownRows, check_feasible, goes_by_task
from nearfirst_arrangement.shards import candidate_runs

log = logging.getLogger(__name__)

CURVE_FILE = "similarity_curve.json"
REPORT_FILE = "report.json"


def create(
    session: Session, spec: ArrangementSpec, idempotency_key: str | None, settings: Settings, store: Store
) -> RunRow:
    """Queue an arrangement behind the embeddings and comparisons that it needs, or get the one that has this key.

    Raises:
        NotFound: no such dataset.
        InvalidInput: more rows or other tasks are asked for than the datasets have, as far as the registry knows; no
            encoder of the kind is installed.
        PathNotAllowed, InvalidModel: the encoder's folder.
        IdempotencyConflict: the key was used with another body.
    """
    request = spec.model_dump(mode="json")
    if (found := runs.find_by_key(session, RunKind.ARRANGEMENT, idempotency_key, request)) is not None:
        return found
    train = records.get_dataset(session, spec.train.dataset)
    test = records.get_dataset(session, spec.test.dataset)
    representation = spec.representation or (Representation() if spec.needs_embeddings else None)
    if representation is not None:
        spec = spec.model_copy(update={"representation": resolve_representation(representation, settings)})
    check_feasible(spec, _known_rows(session, spec, train), _known_rows(session, spec, test))
    row, _ = runs.create(
        session,
        RunKind.ARRANGEMENT,
        spec.model_dump(mode="json"),
        request=request,
        idempotency_key=idempotency_key,
        depends_on=_prerequisites(session, spec, train, test, store, settings),
    )
    return row


def _known_rows(session: Session, spec: ArrangementSpec, dataset: Dataset) -> KnownRows:
    task_sizes = records.task_sizes(session, dataset.id) if goes_by_task(spec) else None
    return KnownRows(dataset.num_examples, task_sizes)


def _prerequisites(
    session: Session, spec: ArrangementSpec, train: Dataset, test: Dataset, store: Store, settings: Settings
) -> list[str]:
    """Ids of the runs that an arrangement waits for."""
    if spec.representation is None:
        return []
    of_train, of_test = (
        embedding_run(session, dataset, spec.representation, store, settings).id for dataset in (train, test)
    )
    return [of_train, of_test, *candidate_runs(session, spec, train, of_train, of_test, store, settings)]


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
        computed=result.get("computed"),
        error=row.error,
        attempt=row.attempt,
        waits_for=all_unfinished_dependencies(session, row.id) if row.state == RunState.QUEUED else [],
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def show_with_report(session: Session, row: RunRow, store: Store) -> ReportedArrangement:
    """A run row with the report on its order; a report that is lost or damaged is left out and logged."""
    report = None
    if row.state == RunState.SUCCEEDED:
        try:
            report = report_of(row, store)
        except (NotFound, CorruptArtifact) as error:
            log.warning("the report of %s can't be read: %s", row.id, error)
    return ReportedArrangement(**show(session, row).model_dump(), report=report)


def report_of(row: RunRow, store: Store) -> ArrangementReport:
    """The report on an arrangement that has succeeded.

    Raises:
        NotReady: it hasn't.
        NotFound, CorruptArtifact: the report is lost or damaged.
    """
    return ArrangementReport.model_validate_json(_result_file(row, store, REPORT_FILE).read_bytes())


def curve_of(row: RunRow, store: Store) -> SimilarityCurve:
    """The similarity curve of an arrangement that has succeeded; raises as `report_of`."""
    return SimilarityCurve.model_validate_json(_result_file(row, store, CURVE_FILE).read_bytes())


def export_of(
    session: Session, row: RunRow, store: Store, settings: Settings, format: ExportFormat, file_type: ExportFileType
) -> ExportedFile:
    """The arranged dataset itself, as a file; raises as `export_arrangement`, and NotReady."""
    artifact = artifact_of(row)
    spec = ArrangementSpec.model_validate(row.spec)
    return export_arrangement(
        store,
        artifact,
        arrangement_digest=(row.result or {})["digest"],
        dataset_digest=records.get_dataset(session, spec.train.dataset).digest,
        format=format,
        file_type=file_type,
        folder=settings.home / "cache" / "exports",
    )


def _result_file(row: RunRow, store: Store, name: str) -> Path:
    return store.artifact_file(artifact_of(row), name)
