"""The server's event stream (text/event-stream) as run events, across broken connections."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import httpx

from nearfirst.client.errors import ApiError, ServerUnreachable
from nearfirst.client.transport import Transport, byte_lines, parse
from nearfirst.contracts.problems import NearfirstError
from nearfirst.contracts.runs import RunEvent

SILENCE_S = 15.0
"""A stream that says nothing for this long is opened again."""
RETRY_S = 0.5
"""Pause before a broken stream is opened again."""
GIVE_UP_S = 60.0
"""A server that was there and can't be reached for this long is gone."""
_AWAY = frozenset({502, 503, 504})
"""What a proxy answers without its server, and a server that isn't ready yet."""


def parse_events(lines: Iterable[bytes]) -> Iterator[RunEvent | None]:
    """Run events from the lines of an event stream; None for each comment (the server's sign of life).

    Fields other than `data` are not needed: a run event carries its own seq and type.

    References: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
    """
    data: list[bytes] = []
    for line in lines:
        line = line.removesuffix(b"\r")
        if line.startswith(b":"):
            yield None
        elif line.startswith(b"data:"):
            data.append(line.removeprefix(b"data:").removeprefix(b" "))
        elif not line and data:
            yield parse(RunEvent, b"\n".join(data), "GET /events")
            data = []


def follow_events(
    transport: Transport,
    run: str | None,
    after: int = 0,
    silence_s: float = SILENCE_S,
    on_connection: Callable[[bool], None] | None = None,
) -> Iterator[RunEvent | None]:
    """Run events as they happen, each once and in the order of seq, and None after each `silence_s` without one.

    Args:
        transport: to the server.
        run: only this run's; None: all runs'.
        after: the seq of the last event already seen; 0: the whole history first.
        silence_s: longest wait for the server before control returns to the caller, in seconds.
        on_connection: told False when the server stops answering, and True when it does again.

    Raises:
        ServerUnreachable: nothing answers at first, or for `GIVE_UP_S` after a connection broke.
        ApiError: the server refuses.
    """
    run_only = {} if run is None else {"run": run}
    contact = _Contact(on_connection)
    while True:
        try:
            query = run_only | {"after": str(after)}
            with transport.stream("/events", query, read_timeout_s=silence_s) as chunks:
                contact.made()
                for event in parse_events(byte_lines(chunks)):
                    contact.made()
                    if event is not None:
                        if event.seq <= after:
                            continue
                        after = event.seq
                    yield event
        except (ServerUnreachable, ApiError) as error:
            if not is_passing(error):
                raise
            contact.lost(transport.base_url, error)
            time.sleep(RETRY_S)
        except httpx.ReadTimeout:
            pass
        except httpx.TransportError:
            time.sleep(RETRY_S)
        yield None


def is_passing(error: NearfirstError) -> bool:
    """Whether a server that answered before may do so again: it is being started anew, or its proxy has lost it."""
    if isinstance(error, ApiError):
        return error.answer.status in _AWAY
    return isinstance(error, ServerUnreachable)


@contextmanager
def suppressed_while_away() -> Iterator[None]:
    """Requests beside a followed stream, which by itself notices a server that is away, waits for it and gives up."""
    try:
        yield
    except (ServerUnreachable, ApiError) as error:
        if not is_passing(error):
            raise


class _Contact:
    """When the server was last heard of."""

    def __init__(self, tell: Callable[[bool], None] | None) -> None:
        self._tell = tell
        self._last_at: float | None = None
        self._is_lost = False

    def made(self) -> None:
        """The server answers."""
        self._last_at = time.monotonic()
        self._change(is_lost=False)

    def lost(self, url: str, error: NearfirstError) -> None:
        """It doesn't.

        Raises:
            NearfirstError: the error, when it never did.
            ServerUnreachable: it hasn't for `GIVE_UP_S`.
        """
        if self._last_at is None:
            raise error
        if time.monotonic() - self._last_at > GIVE_UP_S:
            raise ServerUnreachable(
                f"{url} has not answered for {GIVE_UP_S:g} s; what it was doing goes on when it is back, and the same "
                f"command follows it again ({error.detail})"
            ) from error
        self._change(is_lost=True)

    def _change(self, *, is_lost: bool) -> None:
        if is_lost != self._is_lost:
            self._is_lost = is_lost
            if self._tell is not None:
                self._tell(not is_lost)
