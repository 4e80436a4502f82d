"""What every POST that queues a run does: keep the key, commit, answer 202, send the message. And lists of runs."""

from typing import Annotated

from celery import Celery
from fastapi import BackgroundTasks, Depends, Header, Request, Response
from sqlalchemy.orm import Session

from nearfirst.contracts.runs import RunAccepted, RunKind, RunState
from nearfirst.queue.app import send
from nearfirst.registry.dependencies import all_unfinished_dependencies
from nearfirst.registry.models import RunRow
from nearfirst.registry.records import list_runs
from nearfirst.registry.sweep import take_deliveries
from nearfirst.settings import Settings
from nearfirst.web.dependencies import CallerDep, RunsPageQuery


async def _owned_key(
    caller: CallerDep,
    idempotency_key: Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=200)] = None,
) -> str | None:
    return None if idempotency_key is None else f"{caller.owner}:{idempotency_key}"


IdempotencyKey = Annotated[str | None, Depends(_owned_key)]
"""The header's value after its owner's id, so that nobody finds another's run by it; None without the header."""

_SENT_AT_ONCE = 1000
"""Most runs whose messages go out with the answer; the sweeper sends those of the rest."""


class Accepting:
    """Answers 202 for a queued run and sends its message after the commit."""

    def __init__(self, request: Request, response: Response, background: BackgroundTasks) -> None:
        self._settings: Settings = request.app.state.settings
        self._celery: Celery = request.app.state.celery
        self._response = response
        self._background = background

    def accept(self, session: Session, row: RunRow, collection: str) -> RunAccepted:
        """Take what may start now as due for sending, and answer.

        The message goes out after the response, and so after the commit; when it is lost, the sweeper sends another.
        """
        due = [row.id, *all_unfinished_dependencies(session, row.id)][:_SENT_AT_ONCE]
        deliveries = take_deliveries(session, self._settings.redeliver_s, only=due)
        if deliveries:
            self._background.add_task(send, self._celery, deliveries)
        self._response.headers["Location"] = f"/{collection}/{row.id}"
        return RunAccepted(id=row.id, state=RunState(row.state))


async def _accepting(request: Request, response: Response, background: BackgroundTasks) -> Accepting:
    return Accepting(request, response, background)


AcceptingDep = Annotated[Accepting, Depends(_accepting)]


def runs_page(session: Session, kind: RunKind, page: RunsPageQuery) -> tuple[list[RunRow], int | None]:
    """The runs of a kind that a list was asked for, and the keyset of the next page."""
    return list_runs(
        session,
        kind,
        page.after,
        page.limit,
        state=page.in_state,
        text=page.text,
        newest_first=page.newest_first,
    )
