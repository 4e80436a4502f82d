"""What endpoints ask for: sessions, the store, who asks, a page."""

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Generic, Literal, TypeVar

from fastapi import Depends, Query, Request
from fastapi.concurrency import contextmanager_in_threadpool
from fastapi.dependencies.utils import get_flat_dependant
from sqlalchemy.orm import Session

from nearfirst.contracts.base import Contract
from nearfirst.contracts.problems import Forbidden, InvalidInput
from nearfirst.contracts.runs import RunState
from nearfirst.registry.database import Database
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store
from nearfirst.web.keys import Caller

T = TypeVar("T")

MAX_ROW_NUMBER = 2**63


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def _store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


async def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


SettingsDep = Annotated[Settings, Depends(_settings)]
StoreDep = Annotated[Store, Depends(_store)]
DatabaseDep = Annotated[Database, Depends(_database)]


class SessionGate:
    """How many requests of a process may have a session at a time; the others wait in the event loop, first come first.

    Without it a burst of writers stands still for good: each waits for the lock on events in a thread of the pool, all
    threads are taken, and the one that has the lock needs a thread for its answer. And a request that waits for a
    connection in a thread is one that a request which has a connection can't have. Fewer than threads (40) and than
    connections (15, of which some are the sweeper's and the probes') is safe.
    """

    def __init__(self) -> None:
        self.readers = asyncio.Semaphore(8)
        self.writers = asyncio.Semaphore(4)  # they take turns at the lock anyway


async def _gate(request: Request) -> SessionGate:
    gate: SessionGate = request.app.state.session_gate
    return gate


GateDep = Annotated[SessionGate, Depends(_gate)]


async def _read_session(database: DatabaseDep, gate: GateDep) -> AsyncIterator[Session]:
    async with gate.readers, contextmanager_in_threadpool(database.read()) as session:
        yield session


async def _write_session(database: DatabaseDep, gate: GateDep) -> AsyncIterator[Session]:
    async with gate.writers, contextmanager_in_threadpool(database.write()) as session:
        yield session


# scope="function": the transaction commits before the response goes out. The default scope commits after it, and a
# client that reads right after its 202 would find nothing.
ReadSession = Annotated[Session, Depends(_read_session, scope="function")]
WriteSession = Annotated[Session, Depends(_write_session, scope="function")]


async def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


CallerDep = Annotated[Caller, Depends(_caller)]
"""Who asks, as the guard found."""


def refuse_anyone(caller: CallerDep) -> None:
    """Refuse a request to a suite without keys: its first key is made where the registry is.

    Raises:
        Forbidden: there is no key yet. Otherwise whoever comes first would lock all others out.
    """
    if caller.is_anonymous:
        raise Forbidden("this suite has no keys; the first is made on the server: `nearfirst key create --role admin`")


class Page(Contract, Generic[T]):
    """One page of a list."""

    items: list[T]
    next_cursor: str | None = None
    """Ask for `?cursor=` this; null on the last page."""


def encode_cursor(key: Any) -> str | None:
    """A keyset as an opaque string; None stays None."""
    return None if key is None else base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> Any:
    """What `encode_cursor` was given; None stays None.

    Raises:
        InvalidInput: this isn't a cursor of ours.
    """
    if cursor is None:
        return None
    try:
        return json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(f"cursor: got {cursor!r}, wanted the next_cursor of an earlier page") from error


def is_row_number(key: object) -> bool:
    """Whether a cursor's key is a number that a database row can have."""
    return type(key) is int and 0 <= key < MAX_ROW_NUMBER


class PageQuery:
    """`?cursor=&limit=` of a list whose keyset is one number."""

    def __init__(
        self,
        cursor: Annotated[str | None, Query(max_length=500)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> None:
        key = decode_cursor(cursor)
        if key is not None and not is_row_number(key):
            raise InvalidInput(f"cursor: got {cursor!r}, wanted the next_cursor of an earlier page of this list")
        self.after: int = key or 0
        self.limit = limit

    def first_row(self, start: int | None) -> int:
        """Where a page of numbered rows starts: where its cursor says, or at `start`, or at the first row.

        Raises:
            InvalidInput: both are given.
        """
        if start is not None and self.after:
            raise InvalidInput(f"start: got {start} beside a cursor, which says by itself where the page starts")
        return self.after or start or 0


PageDep = Annotated[PageQuery, Depends()]

Start = Annotated[int | None, Query(ge=0, lt=MAX_ROW_NUMBER, description="The first row that is wanted, from 0.")]
"""Of a list of numbered rows; goes without a cursor."""

ListOrder = Annotated[Literal["oldest", "newest"], Query(description="Which of the list comes first.")]
Contained = Annotated[
    str | None, Query(min_length=1, max_length=200, description="Only what has this text in its id, name or spec.")
]


class RunsPageQuery(PageQuery):
    """`?state=&text=&order=` beside `?cursor=&limit=`, of a list of runs."""

    def __init__(
        self,
        state: RunState | None = None,
        text: Contained = None,
        order: ListOrder = "oldest",
        cursor: Annotated[str | None, Query(max_length=500)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> None:
        super().__init__(cursor, limit)
        self.in_state = state
        self.text = text
        self.newest_first = order == "newest"


RunsPageDep = Annotated[RunsPageQuery, Depends()]


async def refuse_unknown_query(request: Request) -> None:
    """Refuse a query parameter that the endpoint doesn't know, as unknown fields of a body are refused.

    Raises:
        InvalidInput: it names the parameter and the known ones; ignoring a misspelt `?format=` would answer wrongly.
    """
    known = {field.alias for field in get_flat_dependant(request.scope["route"].dependant).query_params}
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        listed = ", ".join(sorted(known)) or "none"
        raise InvalidInput(f"query: no parameter {unknown[0]!r} is known here; known: {listed}")
