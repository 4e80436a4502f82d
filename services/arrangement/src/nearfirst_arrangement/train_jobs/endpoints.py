"""POST /train-jobs, GET /train-jobs and below."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse, JSONResponse
from pydantic import Field

from nearfirst.contracts.estimates import TrainEstimate
from nearfirst.contracts.problems import InvalidInput
from nearfirst.contracts.receipts import Receipt
from nearfirst.contracts.runs import RunAccepted, RunKind
from nearfirst.contracts.training import Checkpoint, KnownModel, LogLine, MetricRow, TrainJob, TrainSpec
from nearfirst.registry import cancellation, records, runs
from nearfirst.registry.requeueing import requeue
from nearfirst.web.dependencies import (
    Page,
    PageDep,
    ReadSession,
    RunsPageDep,
    SettingsDep,
    StoreDep,
    WriteSession,
    decode_cursor,
    encode_cursor,
    is_row_number,
)
from nearfirst.web.runs import AcceptingDep, IdempotencyKey, runs_page
from nearfirst_arrangement.train_jobs import models, repository, service

router = APIRouter(prefix="/train-jobs", tags=["train-jobs"])
models_router = APIRouter(prefix="/models", tags=["train-jobs"])

MetricName = Annotated[str, Field(max_length=300)]


@router.post(
    "",
    status_code=202,
    response_model=RunAccepted,
    responses={200: {"model": TrainEstimate, "description": "With `dry_run`: what the job would take"}},
)
def create_train_job(
    spec: TrainSpec,
    session: WriteSession,
    reading: ReadSession,
    settings: SettingsDep,
    store: StoreDep,
    accepting: AcceptingDep,
    idempotency_key: IdempotencyKey = None,
    dry_run: bool = False,
) -> RunAccepted | JSONResponse:
    """Train on an arrangement, in exactly its order. The arrangement may still be under way.

    With `dry_run` nothing is queued: the answer is what the job would take.
    """
    if dry_run:  # on a session that only reads: counting tokens takes seconds, and must not hold up writers
        return JSONResponse(service.estimate(reading, spec, settings, store).model_dump(mode="json"))
    row = service.create(session, spec, idempotency_key, settings)
    return accepting.accept(session, row, "train-jobs")


@router.get("")
def list_train_jobs(session: ReadSession, settings: SettingsDep, page: RunsPageDep) -> Page[TrainJob]:
    """Jobs in the order of their creation."""
    rows, following = runs_page(session, RunKind.TRAIN_JOB, page)
    shower = service.Shower(session, settings)
    return Page[TrainJob](items=[shower.show(row) for row in rows], next_cursor=encode_cursor(following))


@models_router.get("")
def list_models(settings: SettingsDep) -> Page[KnownModel]:
    """Models in the server's own folders that a job may name; hub ids may be named beside them."""
    return Page[KnownModel](items=models.list_models(settings))


@router.get("/{job_id}")
def get_train_job(job_id: str, session: ReadSession, settings: SettingsDep) -> TrainJob:
    """One job: its state, progress, and why it waits."""
    return service.Shower(session, settings).show(runs.get(session, job_id, RunKind.TRAIN_JOB))


@router.get("/{job_id}/metrics")
def list_metrics(
    job_id: str,
    session: ReadSession,
    name: Annotated[list[MetricName] | None, Query(max_length=100)] = None,
    cursor: Annotated[str | None, Query(max_length=500)] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    points: Annotated[int | None, Query(ge=4, le=10_000)] = None,
) -> Page[MetricRow]:
    """Measurements by step, then name; `?name=`, which may be given several times, keeps those.

    With `?points=` the answer is one page with at most that many measurements of each name, enough to draw its curve:
    the first, the last, and of each stretch of steps the lowest and the highest.
    """
    runs.get(session, job_id, RunKind.TRAIN_JOB)
    if points is not None:
        if cursor is not None:
            raise InvalidInput("cursor: goes with pages, and `points` answers with one")
        return Page[MetricRow](items=repository.thinned_metrics(session, job_id, name, points))
    items, following = records.list_metrics(session, job_id, name, _metrics_key(cursor), limit)
    return Page[MetricRow](items=items, next_cursor=encode_cursor(following))


def _metrics_key(cursor: str | None) -> tuple[int, str] | None:
    match decode_cursor(cursor):
        case None:
            return None
        case [step, str(name)] if is_row_number(step):
            return step, name
    raise InvalidInput(f"cursor: got {cursor!r}, wanted the next_cursor of an earlier page of this list")


@router.get("/{job_id}/checkpoints")
def list_checkpoints(job_id: str, session: ReadSession) -> Page[Checkpoint]:
    """The job's complete checkpoints, by step."""
    runs.get(session, job_id, RunKind.TRAIN_JOB)
    return Page[Checkpoint](items=records.list_checkpoints(session, job_id))


@router.get("/{job_id}/receipt")
def get_receipt(job_id: str, session: ReadSession, store: StoreDep) -> Receipt:
    """The order receipt, verified now against the arrangement's order."""
    row = runs.get(session, job_id, RunKind.TRAIN_JOB)
    return service.verified_receipt(row, service.order_artifact_of(session, row), store)


@router.get("/{job_id}/consumed", response_class=FileResponse)
def get_consumed(job_id: str, session: ReadSession, store: StoreDep) -> FileResponse:
    """Training's own log: one line a step with the ids that it consumed, in order."""
    artifact = service.consumed_artifact(runs.get(session, job_id, RunKind.TRAIN_JOB))
    path = store.artifact_file(artifact, "consumed.jsonl")
    return FileResponse(path, media_type="application/x-ndjson", filename=f"{job_id}.consumed.jsonl")


@router.get("/{job_id}/logs")
def list_logs(job_id: str, session: ReadSession, page: PageDep) -> Page[LogLine]:
    """What training printed."""
    runs.get(session, job_id, RunKind.TRAIN_JOB)
    rows, following = records.list_logs(session, job_id, page.after, page.limit)
    return Page[LogLine](
        items=[LogLine(line=row.line, created_at=row.created_at) for row in rows],
        next_cursor=encode_cursor(following),
    )


@router.post("/{job_id}/cancel", status_code=202)
def cancel_train_job(job_id: str, session: WriteSession, accepting: AcceptingDep) -> RunAccepted:
    """End it: a queued one now, a running one as soon as its worker hears of it."""
    row = cancellation.cancel(session, job_id, RunKind.TRAIN_JOB)
    return accepting.accept(session, row, "train-jobs")


@router.post("/{job_id}/resume", status_code=202)
def resume_train_job(job_id: str, session: WriteSession, accepting: AcceptingDep) -> RunAccepted:
    """Queue a failed or cancelled job again; it goes on from its last state checkpoint."""
    row = requeue(session, job_id, RunKind.TRAIN_JOB)
    return accepting.accept(session, row, "train-jobs")
