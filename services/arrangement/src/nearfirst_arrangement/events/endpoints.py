"""GET /events: run changes as they happen."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from nearfirst.contracts.runs import RunEvent
from nearfirst.registry.database import Database
from nearfirst.registry.events import list_events
from nearfirst.web.dependencies import MAX_ROW_NUMBER, DatabaseDep

router = APIRouter(tags=["events"])

_POLL_S = 0.3


@router.get("/events", response_class=EventSourceResponse)
async def stream_events(
    database: DatabaseDep,
    run: Annotated[str | None, Query(max_length=40)] = None,
    after: Annotated[int, Query(ge=0, lt=MAX_ROW_NUMBER)] = 0,
    last_event_id: Annotated[int | None, Header(ge=0, lt=MAX_ROW_NUMBER)] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Every event after `Last-Event-ID` (or `?after=`), of one run with `?run=`; then those to come."""
    seen = last_event_id if last_event_id is not None else after
    while True:
        for event in await run_in_threadpool(_read, database, seen, run):
            seen = event.seq
            yield ServerSentEvent(id=str(event.seq), event=event.type, data=event)
        await asyncio.sleep(_POLL_S)


def _read(database: Database, after: int, run: str | None) -> list[RunEvent]:
    with database.read() as session:
        return list_events(session, after, run)
