"""POST /studies, GET /studies and below."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from nearfirst.contracts.presets import PresetList, SpecRequest
from nearfirst.contracts.runs import RunAccepted, RunKind, RunState
from nearfirst.contracts.studies import AddedSeeds, Study, StudyEstimate, StudyNode, StudySpec
from nearfirst.registry import runs, studies
from nearfirst.registry.models import RunRow
from nearfirst.web.dependencies import (
    DatabaseDep,
    ListOrder,
    Page,
    PageDep,
    ReadSession,
    SettingsDep,
    StoreDep,
    WriteSession,
    encode_cursor,
)
from nearfirst.web.runs import AcceptingDep, IdempotencyKey
from nearfirst_arrangement.studies import drawing, estimates, presets, repository, service
from nearfirst_arrangement.studies.gathering import gather

router = APIRouter(prefix="/studies", tags=["studies"])

ReportFormat = Literal["json", "md", "html", "zip"]
FigureFormat = Literal["svg", "png", "csv", "json"]
_MEDIA_TYPES = {
    "json": "application/json",
    "md": "text/markdown; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "zip": "application/zip",
    "svg": "image/svg+xml",
    "png": "image/png",
    "csv": "text/csv; charset=utf-8",
}


@router.post(
    "",
    status_code=202,
    response_model=RunAccepted,
    responses={200: {"model": StudyEstimate, "description": "With `dry_run`: what the study would take"}},
)
def create_study(
    spec: StudySpec,
    session: WriteSession,
    reading: ReadSession,
    settings: SettingsDep,
    store: StoreDep,
    accepting: AcceptingDep,
    idempotency_key: IdempotencyKey = None,
    dry_run: bool = False,
) -> RunAccepted | JSONResponse:
    """Arrange, train and measure: each arrangement with each seed, all submitted at once.

    With `dry_run` nothing is queued: the answer is what the study would take.
    """
    if dry_run:
        return JSONResponse(estimates.estimate(reading, spec, settings, store).model_dump(mode="json"))
    row = service.create(session, spec, idempotency_key, settings, store)
    return accepting.accept(session, row, "studies")


@router.get("")
def list_studies(
    session: ReadSession,
    page: PageDep,
    state: RunState | None = None,
    name: Annotated[str | None, Query(max_length=200)] = None,
    order: ListOrder = "oldest",
) -> Page[Study]:
    """Studies in the order of their creation; `?state=` and `?name=` (a part of it) keep some."""
    rows, following = repository.list_studies(
        session, page.after, page.limit, state=state, name=name, newest_first=order == "newest"
    )
    return Page[Study](items=[service.show(row) for row in rows], next_cursor=encode_cursor(following))


@router.get("/presets")
def list_presets() -> PresetList:
    """Studies that come with Nearfirst, to begin with one."""
    return PresetList(items=presets.offered_presets())


@router.post("/specs", response_model_exclude_unset=True)
def make_spec(request: SpecRequest, settings: SettingsDep, database: DatabaseDep, store: StoreDep) -> StudySpec:
    """Turn a preset, or the text of a study, into the body of POST /studies. Nothing is queued.

    The data that it brings along is registered, and its small model made, so that the body can be sent as it is.
    """
    return presets.make_spec(request, settings, database, store)


@router.get("/{study_id}")
def get_study(study_id: str, session: ReadSession) -> Study:
    """One study: its state, and how many of its runs have ended."""
    return service.show(_row(session, study_id))


@router.get("/{study_id}/nodes")
def list_nodes(study_id: str, session: ReadSession, page: PageDep) -> Page[StudyNode]:
    """What each arrangement and seed needs, seed by seed: which runs, and how far they are."""
    _row(session, study_id)
    items, following = service.nodes_page(session, study_id, page.after, page.limit)
    return Page[StudyNode](items=items, next_cursor=encode_cursor(following))


@router.get("/{study_id}/report", response_class=Response)
def get_report(study_id: str, session: ReadSession, store: StoreDep, format: ReportFormat = "json") -> Response:
    """What the study says so far, with the figure; `zip`: the report in all formats and the figures' files."""
    row = _row(session, study_id)
    results, spec = gather(session, row, store), StudySpec.model_validate(row.spec)
    if format == "json":
        return Response(drawing.report_json(results).model_dump_json(indent=2), media_type=_MEDIA_TYPES[format])
    files = drawing.draw_report(results, spec)
    content = drawing.zipped(files) if format == "zip" else files[f"report.{format}"]
    return Response(content, media_type=_MEDIA_TYPES[format])


@router.get("/{study_id}/figure.{format}", response_class=Response)
def get_figure(study_id: str, format: FigureFormat, session: ReadSession, store: StoreDep) -> Response:
    """The study's figure, of what was measured so far; `csv`: its numbers, `json`: what it shows."""
    row = _row(session, study_id)
    figure = drawing.draw_figure(gather(session, row, store), StudySpec.model_validate(row.spec))
    contents = {"svg": figure.svg, "png": figure.png, "csv": figure.csv, "json": figure.json}
    return Response(contents[format], media_type=_MEDIA_TYPES[format])


@router.post("/{study_id}/seeds", status_code=202)
def add_seeds(
    study_id: str,
    added: AddedSeeds,
    session: WriteSession,
    settings: SettingsDep,
    store: StoreDep,
    accepting: AcceptingDep,
) -> RunAccepted:
    """Go on with further seeds; what the study has done is kept."""
    row = service.add_seeds(session, study_id, added.seeds, settings, store)
    return accepting.accept(session, row, "studies")


@router.post("/{study_id}/pause", status_code=202)
def pause_study(study_id: str, session: WriteSession, accepting: AcceptingDep) -> RunAccepted:
    """Begin nothing more of it; trainings that are under way save their state and go back to the queue."""
    return accepting.accept(session, studies.pause(session, study_id), "studies")


@router.post("/{study_id}/resume", status_code=202)
def resume_study(study_id: str, session: WriteSession, store: StoreDep, accepting: AcceptingDep) -> RunAccepted:
    """Go on with a paused, failed or cancelled study; trainings continue from their last states."""
    return accepting.accept(session, studies.resume(session, study_id, store), "studies")


@router.post("/{study_id}/cancel", status_code=202)
def cancel_study(study_id: str, session: WriteSession, accepting: AcceptingDep) -> RunAccepted:
    """End it now, and with it those of its runs that nobody else needs."""
    return accepting.accept(session, studies.cancel(session, study_id), "studies")


def _row(session: Session, study_id: str) -> RunRow:
    return runs.get(session, study_id, RunKind.STUDY)
