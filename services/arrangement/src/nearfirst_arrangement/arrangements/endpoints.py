"""POST /arrangements, GET /arrangements and below."""

from typing import Literal

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse
from sqlalchemy.orm import Session

from nearfirst.contracts.arrangements import Arrangement, ArrangementSpec
from nearfirst.contracts.exports import ExportFileType, ExportFormat, ExportManifest
from nearfirst.contracts.orders import ArrangedExample, OrderOverlap
from nearfirst.contracts.reports import ReportedArrangement, SimilarityCurve
from nearfirst.contracts.runs import RunAccepted, RunKind
from nearfirst.registry import cancellation, runs
from nearfirst.registry.models import RunRow
from nearfirst.registry.results import artifact_of
from nearfirst.web.dependencies import (
    Page,
    PageDep,
    ReadSession,
    RunsPageDep,
    SettingsDep,
    Start,
    StoreDep,
    WriteSession,
    encode_cursor,
)
from nearfirst.web.runs import AcceptingDep, IdempotencyKey, runs_page
from nearfirst_arrangement.arrangements import orders, service
from nearfirst_arrangement.measures.curve_figure import draw_curve
from nearfirst_arrangement.measures.report_figure import draw_report

router = APIRouter(prefix="/arrangements", tags=["arrangements"])

FigureFormat = Literal["svg", "png"]
_FIGURE_MEDIA_TYPES = {"svg": "image/svg+xml", "png": "image/png"}
_ORDER_MEDIA_TYPES = {"jsonl": "application/x-ndjson", "parquet": "application/vnd.apache.parquet"}


@router.post("", status_code=202)
def create_arrangement(
    spec: ArrangementSpec,
    session: WriteSession,
    settings: SettingsDep,
    store: StoreDep,
    accepting: AcceptingDep,
    idempotency_key: IdempotencyKey = None,
) -> RunAccepted:
    """Arrange a dataset for a test set. The same Idempotency-Key with the same body answers with the same id."""
    row = service.create(session, spec, idempotency_key, settings, store)
    return accepting.accept(session, row, "arrangements")


@router.get("")
def list_arrangements(session: ReadSession, page: RunsPageDep) -> Page[Arrangement]:
    """Arrangements in the order of their creation, or the other way round."""
    rows, following = runs_page(session, RunKind.ARRANGEMENT, page)
    return Page[Arrangement](items=[service.show(session, row) for row in rows], next_cursor=encode_cursor(following))


@router.get("/{arrangement_id}")
def get_arrangement(arrangement_id: str, session: ReadSession, store: StoreDep) -> ReportedArrangement:
    """One arrangement: its state, and when it has succeeded its digest and the report on its order."""
    return service.show_with_report(session, _row(session, arrangement_id), store)


@router.get("/{arrangement_id}/order", response_class=FileResponse)
def get_order(
    arrangement_id: str, session: ReadSession, store: StoreDep, format: Literal["jsonl", "parquet"] = "jsonl"
) -> FileResponse:
    """The order, first row first: an OrderRow a line, or the same columns as Parquet."""
    artifact = artifact_of(_row(session, arrangement_id))
    path = store.artifact_file(artifact, f"order.{format}")
    return FileResponse(path, media_type=_ORDER_MEDIA_TYPES[format], filename=f"{arrangement_id}.{format}")


@router.get("/{arrangement_id}/examples")
def list_arranged_examples(
    arrangement_id: str,
    session: ReadSession,
    store: StoreDep,
    page: PageDep,
    start: Start = None,
) -> Page[ArrangedExample]:
    """The order's rows with their texts, each beside its nearest test row; from any position on."""
    row = _row(session, arrangement_id)
    items, following = orders.examples_page(session, row, store, page.first_row(start), page.limit)
    return Page[ArrangedExample](items=items, next_cursor=encode_cursor(following))


@router.get("/{arrangement_id}/overlap/{other_id}")
def get_overlap(arrangement_id: str, other_id: str, session: ReadSession, store: StoreDep) -> OrderOverlap:
    """How two orders of the same rows differ: what their first rows share, and their rank correlation."""
    return orders.overlap(session, _row(session, arrangement_id), _row(session, other_id), store)


@router.get("/{arrangement_id}/similarity-curve")
def get_similarity_curve(arrangement_id: str, session: ReadSession, store: StoreDep) -> SimilarityCurve:
    """How far the training prefixes are from the test set: nine measures at each point."""
    return service.curve_of(_row(session, arrangement_id), store)


@router.get("/{arrangement_id}/similarity-curve/figure.{format}", response_class=Response)
def get_curve_figure(arrangement_id: str, format: FigureFormat, session: ReadSession, store: StoreDep) -> Response:
    """The similarity curve as a picture."""
    curve = service.curve_of(_row(session, arrangement_id), store)
    return Response(draw_curve(curve, format=format), media_type=_FIGURE_MEDIA_TYPES[format])


@router.get("/{arrangement_id}/figure.{format}", response_class=Response)
def get_figure(arrangement_id: str, format: FigureFormat, session: ReadSession, store: StoreDep) -> Response:
    """The report as a picture: distance and task mix against position, coverage of the test rows, key numbers."""
    row = _row(session, arrangement_id)
    report, curve = service.report_of(row, store), service.curve_of(row, store)
    return Response(draw_report(report, curve, format=format), media_type=_FIGURE_MEDIA_TYPES[format])


@router.get("/{arrangement_id}/export", response_class=FileResponse)
def export_arrangement(
    arrangement_id: str,
    session: ReadSession,
    store: StoreDep,
    settings: SettingsDep,
    format: ExportFormat = ExportFormat.MESSAGES,
    file_type: ExportFileType = ExportFileType.JSONL,
) -> FileResponse:
    """The arranged dataset itself, for other trainers; the headers say how to keep its order there."""
    file = service.export_of(session, _row(session, arrangement_id), store, settings, format, file_type)
    return FileResponse(
        file.path,
        media_type=file.media_type,
        filename=file.filename(arrangement_id),
        headers=file.headers(arrangement_id),
    )


@router.get("/{arrangement_id}/export/manifest")
def get_export_manifest(
    arrangement_id: str,
    session: ReadSession,
    store: StoreDep,
    settings: SettingsDep,
    format: ExportFormat = ExportFormat.MESSAGES,
    file_type: ExportFileType = ExportFileType.JSONL,
) -> ExportManifest:
    """What the exported file holds: digests, columns, and the settings that keep its order in other trainers."""
    return service.export_of(session, _row(session, arrangement_id), store, settings, format, file_type).manifest


@router.post("/{arrangement_id}/cancel", status_code=202)
def cancel_arrangement(arrangement_id: str, session: WriteSession, accepting: AcceptingDep) -> RunAccepted:
    """End it: a queued one now, a running one as soon as its worker hears of it; and what only it waited for."""
    row = cancellation.cancel(session, arrangement_id, RunKind.ARRANGEMENT)
    return accepting.accept(session, row, "arrangements")


def _row(session: Session, arrangement_id: str) -> RunRow:
    return runs.get(session, arrangement_id, RunKind.ARRANGEMENT)
