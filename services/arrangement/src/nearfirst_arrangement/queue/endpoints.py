"""GET /workers and GET /queue."""

from typing import Annotated

from fastapi import APIRouter, Query

from nearfirst.contracts.workers import QueueState, Worker
from nearfirst.registry.workers import list_workers
from nearfirst.web.dependencies import Page, PageDep, ReadSession, SettingsDep, encode_cursor
from nearfirst_arrangement.queue import service

router = APIRouter(tags=["queue"])


@router.get("/workers")
def get_workers(session: ReadSession, settings: SettingsDep, page: PageDep) -> Page[Worker]:
    """Worker processes in the order of their start: what they have, and which run has which of it now."""
    workers, following = list_workers(session, page.after, page.limit, settings.lease_s)
    return Page[Worker](items=workers, next_cursor=encode_cursor(following))


@router.get("/queue")
def get_queue(
    session: ReadSession, settings: SettingsDep, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> QueueState:
    """Of each kind of run: what waits, in the order in which it is taken, and why; and what runs where."""
    return service.queue_state(session, settings.lease_s, limit)
