"""GET /events: run changes as they happen."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from nearfirst.contracts.runs import RunEvent
from nearfirst.registry.database import Database
from nearfirst.registry.events import list_events, seq_before_newest
from nearfirst.web.dependencies import MAX_ROW_NUMBER, DatabaseDep

router = APIRouter(tags=["events"])

_POLL_S = 0.3


@router.get("/events", response_class=EventSourceResponse)
async def stream_events(
    database: DatabaseDep,
    run: Annotated[str | None, Query(max_length=40)] = None,
    after: Annotated[int, Query(ge=0, lt=MAX_ROW_NUMBER)] = 0,
    recent: Annotated[int | None, Query(ge=0, le=500)] = None,
    last_event_id: Annotated[int | None, Header(ge=0, lt=MAX_ROW_NUMBER)] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Every event after `Last-Event-ID` (or `?after=`), of one run with `?run=`; then those to come.

    `?recent=` begins with that many of the newest instead, unless `Last-Event-ID` says where to go on.
    """
    seen = last_event_id if last_event_id is not None else after
    if last_event_id is None and recent is not None:
        seen = max(seen, await run_in_threadpool(_before_newest, database, recent, run))
    while True:
        for event in await run_in_threadpool(_read, database, seen, run):
            seen = event.seq
            yield ServerSentEvent(id=str(event.seq), event=event.type, data=event)
        await asyncio.sleep(_POLL_S)


def _before_newest(database: Database, count: int, run: str | None) -> int:
    with database.read() as session:
        return seq_before_newest(session, count, run)


def _read(database: Database, after: int, run: str | None) -> list[RunEvent]:
    with database.read() as session:
        return list_events(session, after, run)
