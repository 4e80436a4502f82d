"""POST /arrangements, GET /arrangements and below."""

from typing import Literal

from fastapi import APIRouter, Depends
from fastapi.responses import FileResponse

from nearfirst.contracts.arrangements import Arrangement, ArrangementSpec
from nearfirst.contracts.runs import RunAccepted, RunKind
from nearfirst.registry import records, runs
from nearfirst.web.dependencies import (
    Page,
    PageDep,
    ReadSession,
    SettingsDep,
    StoreDep,
    WriteSession,
    encode_cursor,
    require_api_key,
)
from nearfirst_arrangement.arrangements import service
from nearfirst_arrangement.runs_api import AcceptingDep, IdempotencyKey

router = APIRouter(prefix="/arrangements", tags=["arrangements"])

_ORDER_MEDIA_TYPES = {"jsonl": "application/x-ndjson", "parquet": "application/vnd.apache.parquet"}


@router.post("", status_code=202, dependencies=[Depends(require_api_key)])
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
def list_arrangements(session: ReadSession, page: PageDep) -> Page[Arrangement]:
    """Arrangements in the order of their creation."""
    rows, following = records.list_runs(session, RunKind.ARRANGEMENT, page.after, page.limit)
    return Page[Arrangement](items=[service.show(session, row) for row in rows], next_cursor=encode_cursor(following))


@router.get("/{arrangement_id}")
def get_arrangement(arrangement_id: str, session: ReadSession) -> Arrangement:
    """One arrangement: its state, and its digest when it has succeeded."""
    return service.show(session, runs.get(session, arrangement_id, RunKind.ARRANGEMENT))


@router.get("/{arrangement_id}/order", response_class=FileResponse)
def get_order(
    arrangement_id: str, session: ReadSession, store: StoreDep, format: Literal["jsonl", "parquet"] = "jsonl"
) -> FileResponse:
    """The order, first row first: an OrderRow a line, or the same columns as Parquet."""
    artifact = service.artifact_of(runs.get(session, arrangement_id, RunKind.ARRANGEMENT))
    path = store.artifact_file(artifact, f"order.{format}")
    return FileResponse(path, media_type=_ORDER_MEDIA_TYPES[format], filename=f"{arrangement_id}.{format}")


@router.post("/{arrangement_id}/cancel", status_code=202, dependencies=[Depends(require_api_key)])
def cancel_arrangement(arrangement_id: str, session: WriteSession, accepting: AcceptingDep) -> RunAccepted:
    """End it: a queued one now, a running one as soon as its worker hears of it."""
    row = runs.request_cancel(session, arrangement_id, RunKind.ARRANGEMENT)
    return accepting.accept(session, row, "arrangements")
