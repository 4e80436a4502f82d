"""POST /evaluations, GET /evaluations and below."""

from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy.orm import Session

from nearfirst.contracts.evaluations import (
    CurvePoint,
    EvaluatedExample,
    Evaluation,
    EvaluationSpec,
    EvaluationUnit,
    MetricName,
)
from nearfirst.contracts.problems import InvalidInput
from nearfirst.contracts.runs import RunAccepted, RunKind
from nearfirst.registry import evaluations, runs
from nearfirst.registry.models import RunRow
from nearfirst.web.dependencies import (
    MAX_ROW_NUMBER,
    Page,
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
from nearfirst_arrangement.evaluations import service
from nearfirst_arrangement.evaluations.examples import ExampleFilter, ExampleKey, examples_page
from nearfirst_arrangement.evaluations.repository import UnitKey

router = APIRouter(prefix="/evaluations", tags=["evaluations"])

Cursor = Annotated[str | None, Query(max_length=500)]
UnitLimit = Annotated[int, Query(ge=1, le=10_000)]
Step = Annotated[int | None, Query(ge=0, lt=MAX_ROW_NUMBER)]
Task = Annotated[str | None, Query(max_length=1000)]
Index = Annotated[int, Query(ge=0, lt=MAX_ROW_NUMBER)]


@router.post("", status_code=202)
def create_evaluation(
    spec: EvaluationSpec,
    session: WriteSession,
    settings: SettingsDep,
    store: StoreDep,
    accepting: AcceptingDep,
    idempotency_key: IdempotencyKey = None,
) -> RunAccepted:
    """Measure checkpoints on a test set: those of a train job, which may be under way, or given folders."""
    row = service.create(session, spec, idempotency_key, settings, store)
    return accepting.accept(session, row, "evaluations")


@router.get("")
def list_evaluations(session: ReadSession, page: RunsPageDep) -> Page[Evaluation]:
    """Evaluations in the order of their creation."""
    rows, following = runs_page(session, RunKind.EVALUATION, page)
    return Page[Evaluation](items=service.show_all(session, rows), next_cursor=encode_cursor(following))


@router.get("/{evaluation_id}")
def get_evaluation(evaluation_id: str, session: ReadSession, settings: SettingsDep) -> Evaluation:
    """One evaluation: its state, how many of its units are done, and why others wait."""
    return service.show(session, _row(session, evaluation_id), settings)


@router.get("/{evaluation_id}/units")
def list_units(
    evaluation_id: str, session: ReadSession, cursor: Cursor = None, limit: UnitLimit = 1000
) -> Page[EvaluationUnit]:
    """Its units by step, then kind: what is measured of each checkpoint, by which run, and how far that is."""
    _row(session, evaluation_id)
    items, following = service.units_page(session, evaluation_id, _unit_key(cursor), limit)
    return Page[EvaluationUnit](items=items, next_cursor=encode_cursor(following))


@router.get("/{evaluation_id}/curve")
def get_curve(
    evaluation_id: str,
    session: ReadSession,
    metric: MetricName | None = None,
    task: Task = None,
    cursor: Cursor = None,
    limit: UnitLimit = 1000,
) -> Page[CurvePoint]:
    """What was measured so far, by step; `?metric=` keeps one, `?task=` keeps one task in `by_task`."""
    row = _row(session, evaluation_id)
    points, following = service.curve_page(session, row, metric, task, _unit_key(cursor), limit)
    return Page[CurvePoint](items=points, next_cursor=encode_cursor(following))


@router.get("/{evaluation_id}/examples")
def list_examples(
    evaluation_id: str,
    session: ReadSession,
    store: StoreDep,
    step: Step = None,
    task: Task = None,
    index: Annotated[list[Index] | None, Query(max_length=100)] = None,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Page[EvaluatedExample]:
    """What a checkpoint made of the test examples, by index; without `?step=` the last of which anything was measured.

    `?index=`, which may be repeated, keeps these rows of the test dataset. Without `?step=` it shows each of them at
    all checkpoints, one after the other.
    """
    wanted = ExampleFilter(step=step, task=task, indices=frozenset(index or ()))
    row = _row(session, evaluation_id)
    items, following = examples_page(session, row, store, wanted, _example_key(cursor), limit)
    return Page[EvaluatedExample](items=items, next_cursor=encode_cursor(following))


@router.post("/{evaluation_id}/cancel", status_code=202)
def cancel_evaluation(evaluation_id: str, session: WriteSession, accepting: AcceptingDep) -> RunAccepted:
    """End it now, and with it the units that no other evaluation needs."""
    row = evaluations.cancel(session, evaluation_id)
    return accepting.accept(session, row, "evaluations")


@router.post("/{evaluation_id}/resume", status_code=202)
def resume_evaluation(
    evaluation_id: str, session: WriteSession, store: StoreDep, accepting: AcceptingDep
) -> RunAccepted:
    """Go on with a failed or cancelled evaluation: units that failed are tried again, finished ones are kept."""
    row = evaluations.resume(session, evaluation_id, store)
    return accepting.accept(session, row, "evaluations")


def _row(session: Session, evaluation_id: str) -> RunRow:
    return runs.get(session, evaluation_id, RunKind.EVALUATION)


def _unit_key(cursor: str | None) -> UnitKey | None:
    match decode_cursor(cursor):
        case None:
            return None
        case [step, str(kind)] if is_row_number(step):
            return step, kind
    raise _foreign(cursor)


def _example_key(cursor: str | None) -> ExampleKey | None:
    match decode_cursor(cursor):
        case None:
            return None
        case [index, step] if is_row_number(index) and is_row_number(step):
            return index, step
    raise _foreign(cursor)


def _foreign(cursor: str | None) -> InvalidInput:
    return InvalidInput(f"cursor: got {cursor!r}, wanted the next_cursor of an earlier page of this list")
