"""The server's event stream (text/event-stream) as run events, across broken connections."""

import time
from collections.abc import Iterable, Iterator

import httpx

from nearfirst.client.errors import ServerUnreachable
from nearfirst.client.transport import Transport, byte_lines, parse
from nearfirst.contracts.runs import RunEvent

SILENCE_S = 15.0
"""A stream that says nothing for this long is opened again."""
RETRY_S = 0.5
"""Pause before a broken stream is opened again."""
GIVE_UP_S = 60.0
"""A server that was there and can't be reached for this long is gone."""


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
    transport: Transport, run: str | None, after: int = 0, silence_s: float = SILENCE_S
) -> Iterator[RunEvent | None]:
    """Run events as they happen, each once and in the order of seq, and None after each `silence_s` without one.

    Args:
        transport: to the server.
        run: only this run's; None: all runs'.
        after: the seq of the last event already seen; 0: the whole history first.
        silence_s: longest wait for the server before control returns to the caller, in seconds.

    Raises:
        ServerUnreachable: nothing answers at first, or for `GIVE_UP_S` after a connection broke.
    """
    run_only = {} if run is None else {"run": run}
    last_contact_at: float | None = None
    while True:
        try:
            query = run_only | {"after": str(after)}
            with transport.stream("/events", query, read_timeout_s=silence_s) as chunks:
                last_contact_at = time.monotonic()
                for event in parse_events(byte_lines(chunks)):
                    last_contact_at = time.monotonic()
                    if event is not None:
                        if event.seq <= after:
                            continue
                        after = event.seq
                    yield event
        except ServerUnreachable:
            if last_contact_at is None or time.monotonic() - last_contact_at > GIVE_UP_S:
                raise
            time.sleep(RETRY_S)
        except httpx.ReadTimeout:
            pass
        except httpx.TransportError:
            time.sleep(RETRY_S)
        yield None
